"""Workers as threads of this process: items pass by reference; NumPy and FFTs run in parallel."""

from __future__ import annotations

import importlib
import queue
import threading
from collections.abc import Iterable, Sequence
from typing import Any

from xcorr.core import Observer, Plan, XcorrError
from xcorr.core.loop import Worker
from xcorr.core.message import STOP, Abort, Message, Report, Stopped
from xcorr.core.observe import WorkerStatistics
from xcorr.mappings.run import Outcome, available_cores, merge_results, tell_progress
from xcorr.mappings.sizes import payload_bytes

GRACE_S = 3.0  # for threads to come to the end of an item once the run has failed


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
            messages.append(box.get(block, 0.5 if block else None))
            while True:
                messages.append(box.get_nowait())
        except queue.Empty:
            return messages


class ThreadsMapping:
    """Runs each worker in a thread."""

    def choose_workers(self, asked: int | None) -> int:
        """Return the number asked for, or the cores this process may use."""
        return asked or available_cores()

    def warm_up(self, modules: Iterable[str]) -> None:
        """Import the modules of the elements beside what the caller does: some wait for files and programs."""
        threading.Thread(target=lambda: [importlib.import_module(m) for m in modules], daemon=True).start()

    def execute(self, plan: Plan, observers: Sequence[Observer] = ()) -> Outcome:
        """Run the plan to its end. Raises ElementError when an element fails."""
        boxes: list[queue.SimpleQueue[Message]] = [queue.SimpleQueue() for _ in range(plan.workers)]
        reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        threads = [
            threading.Thread(target=_work, args=(plan, k, boxes, observers, reports), name=f"worker {k}", daemon=True)
            for k in range(plan.workers)
        ]
        for thread in threads:
            thread.start()
        try:
            return _gather(plan, observers, reports)
        except BaseException:
            for box in boxes:
                box.put(Message(STOP, -1))
            for thread in threads:
                thread.join(GRACE_S / plan.workers)
            raise


def _work(
    plan: Plan,
    index: int,
    boxes: list[queue.SimpleQueue[Message]],
    observers: Sequence[Observer],
    reports: queue.SimpleQueue[Report],
) -> None:
    def tell(statistics: WorkerStatistics) -> None:
        reports.put(Report(index, statistics))

    nothing = WorkerStatistics(index, [])
    try:
        worker = Worker(plan, index, _Post(index, boxes), observers, tell)
        worker.run()
        reports.put(Report(index, worker.statistics(), worker.results))
    except XcorrError as error:
        reports.put(Report(index, nothing, failure=error))
    except (Exception, Abort) as error:
        failure = XcorrError(f"worker {index} failed: {type(error).__name__}: {error}")
        failure.__cause__ = error
        reports.put(Report(index, nothing, failure=failure))


def _gather(plan: Plan, observers: Sequence[Observer], reports: queue.SimpleQueue[Report]) -> Outcome:
    """Wait for all workers, showing progress; raise the first failure."""
    latest = {k: WorkerStatistics(k, []) for k in range(plan.workers)}
    results: dict[int, dict[str, dict[str, list[Any]]]] = {}
    while len(results) < plan.workers:
        try:
            report = reports.get(timeout=1.0)
        except queue.Empty:
            continue
        if report.failure is not None and not isinstance(report.failure, Stopped):
            raise report.failure
        latest[report.worker] = report.statistics
        if report.results is not None:
            results[report.worker] = report.results
        else:
            tell_progress(observers, list(latest.values()))
    tell_progress(observers, list(latest.values()), finished=True)
    return Outcome(merge_results([results[k] for k in sorted(results)]), list(latest.values()))
