"""Workers as processes of this machine, with arrays in shared memory.

Workers are forked from a server process that has only imported the modules of the elements (forkserver). On systems
without forkserver they are started as new processes (spawn). A worker begins with one connection, to this process.
Through this connection it gets its ends of the sockets between workers, one at a time. So this process needs only a few
descriptors for each worker, and a worker needs one for each other worker.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import gc
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import multiprocessing.process
import multiprocessing.resource_tracker
import multiprocessing.spawn
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any

from xcorr.core import Observer, Plan
from xcorr.core.files import loaded_files
from xcorr.core.interrupt import held
from xcorr.core.loop import Worker
from xcorr.core.message import Report, WorkerDied
from xcorr.mappings import preload
from xcorr.mappings.arena import ARENA_BYTES, create_memory_file
from xcorr.mappings.engine import Costs, Engine, Outcome
from xcorr.mappings.leftovers import end_children, warn_of_threads
from xcorr.mappings.limits import allow_descriptors, shorten_sockets_of_multiprocessing
from xcorr.mappings.sockets import Peer, SocketTransport
from xcorr.mappings.work import (
    UNGUARDED,
    Gathering,
    Packed,
    Reporter,
    UnguardedScript,
    needs_script,
    opened,
    pack,
    refuse_within_import,
    unpack,
)

ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}  # batch systems send them to the whole group of processes
DESCRIPTORS = 8  # about so many descriptors of this process for each worker
GRACE_S = 1.0
WAIT_S = 0.5
SAFE_PATH = "PYTHONSAFEPATH"


class ProcessesMapping(Engine):
    """Runs each worker in its own process. This process coordinates."""

    costs = Costs(share=0.95, imports=1.3, process_mb=45)

    def warm_up(self, modules: Sequence[str]) -> None:
        """Let the server begin to import the modules of the elements, while the caller prepares the run."""
        if "forkserver" in multiprocessing.get_all_start_methods():
            _context(set(modules))

    def execute(self, plan: Plan, observers: Sequence[Observer] = ()) -> Outcome:
        """Run the plan to its end.

        Raises ElementError when an element fails, WorkerDied when a process ends without a report, UnguardedScript if
        the script lacks its ``__main__`` guard, XcorrError if the system allows too few open files.
        """
        refuse_within_import()
        work = [pack(plan, observers, k) for k in range(plan.workers)]
        modules = {type(node.element).__module__ for node in plan.nodes}
        allow_descriptors(DESCRIPTORS * plan.workers + 64)
        with held():
            context = _context(modules)
            team = _Team(context, plan)
            try:
                with contextlib.nullcontext() if needs_script(plan, work) else _without_script():
                    team.start(work)
                outcome = team.gather(observers)
                team.end()
                return outcome
            finally:
                team.kill()


def _context(modules: set[str]) -> Any:
    """Return the multiprocessing context, with a running server that imports the modules, if there is forkserver."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload.__name__])
    shorten_sockets_of_multiprocessing()
    # the server cannot find these; workers import them when they unpack their work
    with _nothing_from_here({preload.VARIABLE: preload.said(modules - {"__main__"} - loaded_files().keys())}):
        multiprocessing.resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # some of which that has unblocked
        multiprocessing.forkserver.ensure_running()
    return context


@contextlib.contextmanager
def _without_script() -> Iterator[None]:
    """Processes started in this block do not import the script that runs here, which may lack its guard."""
    whole = multiprocessing.spawn.get_preparation_data

    def part(name: str) -> dict[str, Any]:
        return {key: value for key, value in whole(name).items() if not key.startswith("init_main")}

    multiprocessing.spawn.get_preparation_data = part
    try:
        yield
    finally:
        multiprocessing.spawn.get_preparation_data = whole


@contextlib.contextmanager
def _nothing_from_here(variables: Mapping[str, str] | None = None) -> Iterator[None]:
    """Python processes started in this block import nothing from the current folder, and get no signal to end.

    ``variables`` are added to their environment.
    """
    added = {SAFE_PATH: "1", **(variables or {})}
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Team:
    """The worker processes of a run, and the connections to them."""

    def __init__(self, context: Any, plan: Plan) -> None:
        self.context, self.plan, self.count = context, plan, plan.workers
        self.processes: list[BaseProcess] = []
        self.reports: list[Connection] = []

    def start(self, work: Sequence[Packed]) -> None:
        """Start all workers, connect them with each other, and hand them their work."""
        environment = dict(os.environ)
        for k in range(self.count):
            mine, theirs = self.context.Pipe()
            with theirs, _nothing_from_here():  # closed here, so that the connection ends with the worker
                arguments = (k, self.count, theirs, environment)
                process = self.context.Process(target=_work, args=arguments, name=f"worker {k}", daemon=True)
                process.start()
            self.processes.append(process)
            self.reports.append(mine)
        with self._deaths_named():
            self._connect()
            for connection, content in zip(self.reports, work, strict=True):
                content.send(connection)

    @contextlib.contextmanager
    def _deaths_named(self) -> Iterator[None]:
        """Turn a broken connection into an error that names the worker that has died."""
        try:
            yield
        except (BrokenPipeError, ConnectionResetError):
            dead = next((k for k, p in enumerate(self.processes) if not _lives(p, GRACE_S)), 0)
            raise self._death(dead) from None

    def _connect(self) -> None:
        """Give every worker the arenas of all, and an end of a socket to each of the others."""
        for _ in range(self.count):
            arena = create_memory_file(ARENA_BYTES)
            try:
                for k in range(self.count):
                    self._hand(k, arena)
            finally:
                os.close(arena)
        for a in range(self.count):
            for b in range(a + 1, self.count):
                for k, end in zip((a, b), socket.socketpair(), strict=True):
                    with end:
                        self._hand(k, end.fileno())

    def _hand(self, k: int, descriptor: int) -> None:
        """Send a worker a descriptor. Wait while the system has too many descriptors in transit."""
        while True:
            try:
                send_handle(self.reports[k], descriptor, self.processes[k].pid)
                return
            except OSError as error:
                if error.errno != errno.ETOOMANYREFS:
                    raise
                time.sleep(0.001)  # time for workers to receive descriptors

    def gather(self, observers: Sequence[Observer]) -> Outcome:
        """Wait for all workers, showing progress; raise the first failure, or WorkerDied for a silent end."""
        heard = Gathering(range(self.count), observers)
        while not heard.finished:
            sentinels = {p.sentinel: k for k, p in enumerate(self.processes) if k not in heard.results}
            for ready in multiprocessing.connection.wait([*self.reports, *sentinels], WAIT_S):
                if isinstance(ready, Connection):
                    k = self.reports.index(ready)
                    try:
                        content = ready.recv_bytes()
                    except (EOFError, ConnectionResetError):
                        raise self._death(k) from None
                else:
                    assert isinstance(ready, int)
                    k = sentinels[ready]
                    if self.reports[k].poll():
                        continue  # read its last report first
                    raise self._death(k)
                heard.take(opened(content, k))
            heard.show()
        return heard.outcome()

    def _death(self, k: int) -> WorkerDied | UnguardedScript:
        process = self.processes[k]
        _lives(process, GRACE_S)
        code = process.exitcode
        if code == UNGUARDED:
            return UnguardedScript()
        how = f"ended with exit code {code}"
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        who = f"worker {k} (process {process.pid}, with {self.plan.names_on(k)})"
        return WorkerDied(f"{who} {how} before it had finished")

    def end(self) -> None:
        """Tell finished workers to end, and wait a while for them."""
        for connection in self.reports:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has gone already
                connection.send_bytes(b"stop")
        for process in self.processes:
            _lives(process, GRACE_S)

    def kill(self) -> None:
        """Kill workers that still run, and processes that elements have started in workers and left running."""
        for process in self.processes:
            if process.is_alive():
                process.kill()  # a worker that has just begun does not lead a process group yet
            if process.pid is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
        for process in self.processes:
            _lives(process, GRACE_S)
        for connection in self.reports:
            connection.close()


def _lives(process: BaseProcess, seconds: float) -> bool:
    """Wait up to ``seconds`` for the end of a process; return whether it still runs."""
    process.join(seconds)
    return process.exitcode is None


def _work(index: int, count: int, connection: Connection, environment: dict[str, str]) -> None:
    """Be a worker: run, report, and stay until the coordinator has everything."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpgid(0, 0)  # a group of its own, so that kill also reaches the programs of elements
    for number in ENDING - {signal.SIGINT}:  # one that was sent to the caller's group may be pending: it goes
        signal.signal(number, signal.SIG_IGN)
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    faulthandler.enable(file=2)
    os.environ.clear()  # it is the server's, and the caller's may have changed since the server started
    os.environ.update(environment)
    gc.freeze()  # objects of the server stay in shared pages, because collections skip them
    preload.reseed()
    multiprocessing.process.current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # it may have pools
    allow_descriptors(3 * count + 64)
    arenas = [recv_handle(connection) for _ in range(count)]
    peers = [Peer(k, socket.socket(fileno=recv_handle(connection)), arenas[k]) for k in range(count) if k != index]
    packed = Packed.receive(connection)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    reporter = Reporter(connection, index)
    with reporter.ending(), reporter.failures_told("worker"):
        plan, observers = unpack(packed, reporter)
        transport = SocketTransport(index, peers, arenas[index])
        worker = Worker(plan, index, transport, observers, reporter.tell)
        worker.run()
        warn_of_threads()
        end_children()
        reporter.send(Report(index, worker.statistics(), worker.results))
        transport.wake_for(connection.fileno())  # else the coordinator's word would be seen only after WAIT_S
        while not connection.poll():  # bytes that did not fit into the sockets still have to leave
            transport.receive(block=True)
        os._exit(0)  # without waiting for threads that elements have left


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
