"""Workers as threads of this process: items pass by reference; NumPy and FFTs run in parallel."""

from __future__ import annotations

import importlib
import queue
import threading
import time
from collections.abc import Sequence

from xcorr.core import Observer, Plan, XcorrError
from xcorr.core.interrupt import check, held
from xcorr.core.loop import Worker
from xcorr.core.message import STOP, Message, Report, Stopped
from xcorr.core.observe import WorkerStatistics
from xcorr.mappings.engine import Costs, Engine, Outcome
from xcorr.mappings.sizes import payload_bytes
from xcorr.mappings.work import Gathering, text_of

GRACE_S = 3.0  # longest wait for threads to finish their items after the run has failed
WAIT_S = 0.5


class _Post:
    """Transport between threads: a queue per worker."""

    def __init__(self, index: int, boxes: list[queue.SimpleQueue[Message]]) -> None:
        self.index, self.boxes = index, boxes

    def send(self, worker: int, message: Message) -> int:
        self.boxes[worker].put(message)
        return payload_bytes(message[6])

    def receive(self, block: bool) -> list[Message]:
        box = self.boxes[self.index]
        messages = []
        try:
            messages.append(box.get(block, WAIT_S if block else None))
            while True:
                messages.append(box.get_nowait())
        except queue.Empty:
            return messages


class ThreadsMapping(Engine):
    """Runs each worker in a thread."""

    costs = Costs(imports=1, process_mb=85, between_mb=8)
    one_process = True

    def warm_up(self, modules: Sequence[str]) -> None:
        """Import the modules of elements in a thread, because some imports wait for files and programs."""
        threading.Thread(target=lambda: [importlib.import_module(m) for m in modules], daemon=True).start()

    def execute(self, plan: Plan, observers: Sequence[Observer] = ()) -> Outcome:
        """Run the plan to its end. Raises ElementError when an element fails, KeyboardInterrupt on Ctrl-C."""
        team = _Team(plan, observers)
        with held():
            team.start()
            try:
                return team.gather()
            except BaseException:
                team.stop()
                raise


class _Team:
    """The threads of a run.

    A thread cannot be ended from outside. When the run fails, items that its element still writes are dropped.
    """

    def __init__(self, plan: Plan, observers: Sequence[Observer]) -> None:
        self.plan, self.observers = plan, observers
        self.boxes: list[queue.SimpleQueue[Message]] = [queue.SimpleQueue() for _ in range(plan.workers)]
        self.reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self.workers: list[Worker] = []
        self.stopped = False
        self.threads = [
            threading.Thread(target=self._work, args=(k,), name=f"worker {k}", daemon=True) for k in range(plan.workers)
        ]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def _work(self, index: int) -> None:
        def tell(statistics: WorkerStatistics) -> None:
            self.reports.put(Report(index, statistics))

        nothing = WorkerStatistics(index, [])
        try:
            worker = Worker(self.plan, index, _Post(index, self.boxes), self.observers, tell)
            self.workers.append(worker)
            if not self.stopped:  # the run may have failed before stop() could know this worker
                worker.run()
                self.reports.put(Report(index, worker.statistics(), worker.results))
        except XcorrError as error:
            self.reports.put(Report(index, nothing, failure=error))
        except BaseException as error:
            failure = XcorrError(f"worker {index} failed: {type(error).__name__}: {text_of(error)}")
            failure.__cause__ = error
            self.reports.put(Report(index, nothing, failure=failure))

    def gather(self) -> Outcome:
        """Wait for all workers, showing progress; raise the first failure."""
        heard = Gathering(range(self.plan.workers), self.observers)
        while not heard.finished:
            try:
                heard.take(self.reports.get(timeout=WAIT_S))
            except queue.Empty:
                check()
                continue
            heard.show()
        return heard.outcome()

    def stop(self) -> None:
        """Tell all workers to give up, and wait a while for them."""
        self.stopped = True
        for worker in list(self.workers):  # a copy, because threads may still add themselves
            worker.give_up(Stopped("the run has ended"))
        for box in self.boxes:
            box.put(Message(STOP, -1))
        until = time.monotonic() + GRACE_S
        for thread in self.threads:
            thread.join(max(0.0, until - time.monotonic()))
