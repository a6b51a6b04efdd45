"""Workers as processes of this machine, arrays through shared memory.

Workers are forked from a server process that has imported the elements' modules and nothing else has happened in
(forkserver); where there is none, they are started afresh (spawn).
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from typing import Any

from xcorr.core import Observer, Plan, XcorrError
from xcorr.core.loop import Worker
from xcorr.core.message import Abort, Report, Stopped, WorkerDied
from xcorr.core.observe import WorkerStatistics
from xcorr.mappings.arena import create_memory_file
from xcorr.mappings.run import Outcome, available_cores, merge_results, tell_progress
from xcorr.mappings.sockets import SocketTransport

ARENA_BYTES = 1 << 32  # address space per worker; memory is taken only for what is in it
GRACE_S = 1.0


class ProcessesMapping:
    """Runs each worker in a process of its own; this one coordinates."""

    def choose_workers(self, asked: int | None) -> int:
        """Return the number asked for, or the cores this process may use."""
        return asked or available_cores()

    def warm_up(self, modules: Iterable[str]) -> None:
        """Let the server begin to import the modules of the elements, while the caller prepares the run."""
        if "forkserver" in multiprocessing.get_all_start_methods():
            self._context(set(modules))
            multiprocessing.forkserver.ensure_running()

    def _context(self, modules: set[str]) -> Any:
        if "forkserver" not in multiprocessing.get_all_start_methods():
            return multiprocessing.get_context("spawn")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(sorted(modules - {"__main__"}))
        return context

    def execute(self, plan: Plan, observers: Sequence[Observer] = ()) -> Outcome:
        """Run the plan to its end.

        Raises ElementError when an element fails, WorkerDied when a process ends without a word.
        """
        describe_unpicklable(plan)
        work = pickle.dumps((plan, tuple(observers)), 5)
        context = self._context({type(node.element).__module__ for node in plan.nodes})
        arenas = [create_memory_file(ARENA_BYTES) for _ in range(plan.workers)]
        pairs = {(a, b): socket.socketpair() for a in range(plan.workers) for b in range(a + 1, plan.workers)}
        processes: list[BaseProcess] = []
        reports: list[Connection] = []
        try:
            for k in range(plan.workers):
                peers = [
                    (j, pairs[min(k, j), max(k, j)][k > j], DupFd(arenas[j])) for j in range(plan.workers) if j != k
                ]
                mine, theirs = context.Pipe()
                process = context.Process(
                    target=_work, args=(k, work, peers, DupFd(arenas[k]), theirs), name=f"worker {k}", daemon=True
                )
                process.start()
                theirs.close()
                processes.append(process)
                reports.append(mine)
            return _gather(observers, processes, reports)
        finally:
            for descriptor in arenas:
                os.close(descriptor)
            for pair in pairs.values():
                for end in pair:
                    end.close()
            _end(processes, reports)


def describe_unpicklable(plan: Plan) -> None:
    """Raise XcorrError, naming the element, if one cannot be sent to another process."""
    for node in plan.nodes:
        try:
            pickle.dumps(node.element)
        except Exception as error:
            raise XcorrError(
                f"element {node.name!r} cannot be sent to another process: {type(error).__name__}: {error}; "
                "define its class and functions at the top of a module, or use the threads or sequential mapping"
            ) from error


def _work(index: int, work: bytes, peers: list[Any], arena: Any, reports: Connection) -> None:
    """Be a worker: run, report, and stay until the coordinator has everything."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # what the server imported stays shared: collections do not look at it
    connected = [(k, end, descriptor.detach()) for k, end, descriptor in peers]
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with failures_told(reports, index, "worker"):
        plan, observers = pickle.loads(work)
        transport = SocketTransport(index, connected, arena.detach())
        worker = Worker(plan, index, transport, observers, lambda s: reports.send(Report(index, s)))
        worker.run()
        send_report(reports, Report(index, worker.statistics(), worker.results))
        transport.wake_for(reports.fileno())
        while not reports.poll():
            transport.receive(block=True)


@contextlib.contextmanager
def failures_told(reports: Connection, index: int, what: str) -> Iterator[None]:
    """Report what goes wrong in a worker's work, and go on behind it."""
    try:
        yield
        return
    except XcorrError as error:
        failure = error
    except (Exception, Abort) as error:
        failure = XcorrError(f"{what} {index} could not run: {type(error).__name__}: {error}")
    send_report(reports, Report(index, WorkerStatistics(index, []), failure=failure))


def send_report(reports: Connection, report: Report) -> None:
    """Send a report; results that cannot be pickled become a failure."""
    try:
        reports.send(report)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        failure = XcorrError(f"the results of worker {report.worker} cannot be sent back: {error}")
        reports.send(Report(report.worker, WorkerStatistics(report.worker, []), failure=failure))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _gather(observers: Sequence[Observer], processes: list[BaseProcess], reports: list[Connection]) -> Outcome:
    """Wait for all workers, showing progress; raise the first failure, or WorkerDied for a silent end."""
    latest = [WorkerStatistics(k, []) for k in range(len(processes))]
    results: dict[int, dict[str, dict[str, list[Any]]]] = {}
    while len(results) < len(processes):
        sentinels = {p.sentinel: k for k, p in enumerate(processes) if k not in results}
        for ready in multiprocessing.connection.wait([*reports, *sentinels]):
            if isinstance(ready, Connection):
                k = reports.index(ready)
                try:
                    report: Report = ready.recv()
                except EOFError:
                    raise _death(processes[k], k) from None
            else:
                assert isinstance(ready, int)
                k = sentinels[ready]
                if reports[k].poll():
                    continue  # its last words are there to be read first
                raise _death(processes[k], k)
            if report.failure is not None and not isinstance(report.failure, Stopped):
                raise report.failure
            latest[k] = report.statistics
            if report.results is not None:
                results[k] = report.results
        tell_progress(observers, latest)
    tell_progress(observers, latest, finished=True)
    return Outcome(merge_results([results[k] for k in sorted(results)]), latest)


def _death(process: BaseProcess, index: int) -> WorkerDied:
    process.join(GRACE_S)
    code = process.exitcode
    if code is not None and code < 0:
        how = f"was killed by {signal.Signals(-code).name}"
    else:
        how = f"ended with exit code {code}"
    return WorkerDied(f"worker {index} (process {process.pid}) {how} before it had finished")


def _end(processes: list[BaseProcess], reports: list[Connection]) -> None:
    """Let finished workers go, and make the others."""
    for end in reports:
        try:
            end.send("stop")
        except OSError as error:
            if not isinstance(error, BrokenPipeError | ConnectionResetError):
                raise
    failing = sys.exc_info()[0] is not None
    for process in processes:
        if failing:
            process.terminate()
    for process in processes:
        process.join(GRACE_S)
        if process.is_alive():
            process.kill()
            process.join()
    for end in reports:
        end.close()
