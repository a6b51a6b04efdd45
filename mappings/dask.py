"""Workers on a Dask cluster: Dask brings hosts and watches them, processes on its workers run the core's loop.

The calling process coordinates. Every Dask worker starts a process for each of its threads, and these connect with each
other. Their work, and what they report, goes through Dask, so this process need not be reachable. Dask cannot repeat
the work of a worker that dies, because its state is lost: the run ends with an error. A campaign then tries again with
the workers that are there, and goes on from its stored results.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import queue
import threading
import time
import uuid
import warnings
from collections.abc import Sequence
from typing import Any

from xcorr.core import Observer, Plan
from xcorr.core.files import loaded_files
from xcorr.core.interrupt import check, held
from xcorr.core.message import WorkerDied
from xcorr.core.options import option
from xcorr.mappings.dask_client import DaskError, Event, client, listeners, threads
from xcorr.mappings.dask_host import BEGIN_S, Heard, Place, close_places, open_places, serve
from xcorr.mappings.engine import Costs, Engine, Outcome, available_cores
from xcorr.mappings.hosts import software
from xcorr.mappings.work import Gathering, opened, pack_all, refuse_within_import, search_path

SESSION = uuid.uuid4().hex
WAIT_S = 0.2
PATIENCE_S = 10.0  # after which it is said what a run waits for
CLOSE_S = 5.0  # longest wait for the end of processes of a run that has failed
_log = logging.getLogger("xcorr.mappings")


@dataclasses.dataclass(frozen=True)
class DaskOptions:
    """The cluster."""

    scheduler: str | None = option(
        None, "Address of the scheduler (tcp://host:8786), or path of its scheduler file. Default: a new local cluster."
    )
    wait_s: float = option(
        60.0, "Longest wait for workers (s): for one of them, or as many as -n says. Clusters may still be starting.",
        least=0.0,
    )  # fmt: skip


class DaskMapping(Engine):
    """Runs each worker in a process that a Dask worker starts, as many as it has threads.

    ``scheduler`` is the address of a Dask scheduler or the path of its scheduler file; None starts a cluster on this
    machine, which ends with the program. ``wait_s`` (s) is the longest wait for workers.
    """

    costs = Costs(share=0.9, start_s=1.0, imports=2.0, process_mb=75)
    one_machine = False
    attempts = 5
    Options = DaskOptions

    def __init__(self, scheduler: str | None = None, wait_s: float = 60.0) -> None:
        self.scheduler, self.wait_s = None if scheduler is None else str(scheduler), wait_s

    def choose_workers(self, asked: int | None) -> int:
        """Return the number of workers: that asked for, or the threads of the Dask workers that are there, if fewer.

        Waits for workers. Raises DaskError if there are none, or no cluster.
        """
        refuse_within_import()
        cluster = client(self.scheduler, asked or available_cores())
        begin, told = time.monotonic(), False
        while (there := sum(threads(cluster).values())) < (asked or 1) and time.monotonic() < begin + self.wait_s:
            if time.monotonic() > begin + PATIENCE_S and not told:
                told = True
                _log.warning("waiting up to %g s for Dask workers: %d of %d threads", self.wait_s, there, asked or 1)
            check()
            time.sleep(WAIT_S)
        if not there:
            raise DaskError(
                f"the Dask scheduler at {cluster.scheduler.address} has no workers, after {self.wait_s:g} s "
                "(run.dask.wait_s); start some (dask worker ADDRESS), or let the cluster scale up"
            )
        if asked and there < asked:
            _log.warning("the Dask cluster has %d thread(s), and %d were asked for; going on with those", there, asked)
        return min(asked or there, there)

    def execute(self, plan: Plan, observers: Sequence[Observer] = ()) -> Outcome:
        """Run the plan to its end.

        Raises ElementError when an element fails, WorkerDied when a worker or the scheduler ends, DaskError if Dask
        cannot be used.
        """
        refuse_within_import()
        with held():
            return _Run(client(self.scheduler, plan.workers), plan, observers).outcome()


class _Run:
    """One run on a cluster."""

    def __init__(self, cluster: Any, plan: Plan, observers: Sequence[Observer]) -> None:
        self.client, self.plan, self.observers = cluster, plan, observers
        self.name, self.key = uuid.uuid4().hex, os.urandom(16)
        self.at = _spread(threads(cluster), plan.workers)
        self.began: set[str] = set()  # addresses of Dask workers that have begun the work of this run
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.heard = Gathering(range(plan.workers), observers)

    def outcome(self) -> Outcome:
        """Run to the end."""
        futures: dict[str, Any] = {}
        listeners[self.name] = self.events.put
        try:
            futures = self._submit(self._open())
            return self._gather(futures)
        finally:
            self._close(list(futures.values()))

    def _open(self) -> dict[int, Place]:
        """Start the processes, and return their places by the number of their worker."""
        counts = {address: self.at.count(address) for address in self.at}
        modules = {type(node.element).__module__ for node in self.plan.nodes} - {"__main__"} - loaded_files().keys()
        what = (SESSION, self.name, self.key, (search_path(), sorted(modules)), counts)
        try:
            opened_at = self.client.run(open_places, *what, workers=list(counts))
        except WorkerDied:
            raise
        except ImportError as error:
            raise DaskError(
                f"a Dask worker cannot import what it needs ({error}); install xcorr on its host"
            ) from error
        except Exception as error:  # of any kind that Dask passes on from a worker
            raise WorkerDied(
                f"processes cannot be started on the Dask workers: {type(error).__name__}: {error}"
            ) from error
        left = {address: iter(places) for address, places in opened_at.items()}
        places = {number: next(left[address]) for number, address in enumerate(self.at)}
        self._compare(places)
        return places

    def _compare(self, places: dict[int, Place]) -> None:
        """Raise DaskError if hosts have other software than this one; warn of processors that differ."""
        for number, place in places.items():
            other = [f"{k} {v} (here {software()[k]})" for k, v in place.software.items() if v != software()[k]]
            if other:
                raise DaskError(f"the Dask worker at {self.at[number]} has {', '.join(other)}; install the same there")
        processors = sorted({place.processor for place in places.values()})
        if len(processors) > 1:
            _log.warning("processors differ (%s): the last bits of results may differ", ", ".join(processors))

    def _submit(self, places: dict[int, Place]) -> dict[str, Any]:
        """Hand out the work; return the future of each Dask worker, by its address."""
        work = pack_all(self.plan, self.observers)
        futures: dict[str, Any] = {}
        for address in dict.fromkeys(self.at):
            mine = {number: work[number] for number, place in enumerate(self.at) if place == address}
            key = f"xcorr-{self.name}-{len(futures)}"
            how = {"workers": [address], "allow_other_workers": False, "retries": 0, "pure": False, "priority": 1}
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Sending large graph", UserWarning)  # its advice is not for us
                futures[address] = self.client.submit(serve, self.name, places, mine, key, key=key, **how)
            futures[address].add_done_callback(lambda _: self.events.put([]))  # wakes _take_events
        return futures

    def _gather(self, futures: dict[str, Any]) -> Outcome:
        left, since, told = dict(futures), time.monotonic(), False
        while left:
            gone = self._take_events(WAIT_S)
            for address, future in list(left.items()):
                if future.done():
                    self._take_last(address, future)
                    del left[address]
            if gone & left.keys():
                who = " and ".join(sorted(gone & left.keys()))
                raise WorkerDied(f"the Dask worker {who} ended, or was killed, before it had finished")
            busy = ", ".join(sorted(set(self.at) - self.began))
            if busy and time.monotonic() > since + BEGIN_S:
                raise DaskError(
                    f"the Dask workers {busy} did not begin within {BEGIN_S:.0f} s, because they are busy with other "
                    "tasks or paused; wait until they are free, or choose fewer workers with -n"
                )
            if busy and time.monotonic() > since + PATIENCE_S and not told:
                told = True
                _log.warning("waiting for the Dask workers %s, which are busy with other tasks or paused", busy)
            self.heard.show()
        self._take_events(0.0)  # the last log records have come before the last results
        return self.heard.outcome()

    def _take_events(self, seconds: float) -> set[str]:
        """Take what workers have said, waiting so long for it. Return the addresses of Dask workers that have gone."""
        gone = set()
        with contextlib.suppress(queue.Empty):
            event = self.events.get(timeout=seconds) if seconds else self.events.get_nowait()
            while True:
                if isinstance(event, str):
                    gone.add(event)
                else:
                    for content in event:
                        if isinstance(content, str):
                            self.began.add(content)
                        else:
                            self.heard.take(opened(content, -1))
                event = self.events.get_nowait()
        return gone

    def _take_last(self, address: str, future: Any) -> None:
        """Take the end of the work on a Dask worker. Raises what ended it."""
        if self.client.status != "running":
            raise WorkerDied("the Dask scheduler has ended, or cannot be reached any more")
        if future.status != "finished":
            if future.status == "error" and isinstance(future.exception(), WorkerDied):
                raise future.exception()
            why = f": {future.exception()}" if future.status == "error" else ""
            raise WorkerDied(f"the work on the Dask worker {address} was {future.status} by Dask{why}")
        heard: Heard = future.result()
        for number, content in heard.last:
            self.heard.take(opened(content, number))
        for number, how in heard.deaths.items():
            who = f"worker {number} (on the Dask worker {address}, with {self.plan.names_on(number)})"
            raise WorkerDied(f"{who} {how} before it had finished")
        if any(place == address and number not in self.heard.results for number, place in enumerate(self.at)):
            raise WorkerDied(f"the Dask worker {address} gave up its work before it had finished")

    def _close(self, futures: list[Any]) -> None:
        """End the processes of this run that have not ended. Those that cannot be told end with their Dask worker."""
        del listeners[self.name]
        left = [future for future in futures if future.status != "finished"]
        if len(futures) == len(set(self.at)) and not left:
            return
        # in a thread, because a Dask worker that hangs does not answer
        telling = threading.Thread(target=self._give_up, args=(left,), daemon=True)
        telling.start()
        telling.join(CLOSE_S)

    def _give_up(self, futures: list[Any]) -> None:
        if self.client.status != "running":
            return  # the scheduler has gone, and Dask workers end without it
        try:
            self.client.cancel(futures)
            there = threads(self.client)
            at = [address for address in dict.fromkeys(self.at) if address in there]
            self.client.run(close_places, self.name, workers=at, on_error="ignore")
        except Exception as error:  # of any kind, if the cluster is ending
            _log.warning("workers on Dask may not have been told to end: %s: %s", type(error).__name__, error)


def _spread(free: dict[str, int], count: int) -> list[str]:
    """Return the address of the Dask worker for each worker, so that all have about equal shares of their threads."""
    turns = sorted((k / n, address) for address, n in free.items() for k in range(n))
    return sorted(address for _, address in turns[:count])
