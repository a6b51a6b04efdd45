"""What runs in a Dask worker: it has processes started, which do the work of a run, and speaks for them.

Each process runs the core's loop for one worker of the plan. A process of its own, because the loop needs the current
folder, the module path and the log of its process for itself, and because a process can be ended at any time. It ends
with the Dask worker, whose end of their connection closes.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import enum
import os
import signal
import subprocess
import sys
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import send_handle
from typing import Any, NamedTuple

from xcorr.core.message import WorkerDied
from xcorr.mappings.work import Packed

TOPIC = "xcorr"  # of progress; the same for all runs, because a scheduler keeps events of every topic
IMPORT_S = 60.0  # longest time in which a process imports xcorr
BEGIN_S = 600.0  # longest time in which a Dask worker begins the work of a run, which may be behind other tasks
TELL_S = 0.5
SERVER = "xcorr.mappings.dask_server"


class Place(NamedTuple):
    """Where a process of a run listens, and what it runs on. Its arena is ``/proc/PROCESS/fd/ARENA`` on its host."""

    address: tuple[str, int]
    host: str
    process: int
    group: int
    arena: int
    identity: tuple[int, int]
    software: dict[str, str]
    processor: str


class Kind(enum.Enum):
    """What a report of a process holds."""

    NUMBERS, SAID, LAST, FAILED, ENDED = range(5)


class Heard(NamedTuple):
    """The last reports of workers, by number, and how workers have died that sent none."""

    last: list[tuple[int, bytes]]
    deaths: dict[int, str]


class _Child(NamedTuple):
    connection: Connection
    place: Place


class _Server(NamedTuple):
    process: subprocess.Popen[bytes]
    control: Connection


_servers: dict[tuple[str, str], _Server] = {}  # by session and address of the Dask worker
_opened: dict[tuple[str, str], list[_Child]] = {}  # by run and address of the Dask worker


async def open_places(
    session: str, run: str, key: bytes, preloaded: tuple[list[str], list[str]], counts: dict[str, int], dask_worker: Any
) -> list[Place]:
    """Start as many processes as ``counts`` says for this Dask worker, and return where they listen.

    ``session`` names the program that makes runs, ``preloaded`` are its search path and modules of the elements.
    """
    address = dask_worker.address
    host = "127.0.0.1" if address.startswith("inproc:") else str(dask_worker.ip)
    connections = [_start((session, address), host, key, preloaded) for _ in range(counts[address])]
    children = await asyncio.gather(*(asyncio.to_thread(_greeted, connection) for connection in connections))
    _opened[run, address] = children
    return [child.place for child in children]


def _start(whose: tuple[str, str], host: str, key: bytes, preloaded: tuple[list[str], list[str]]) -> Connection:
    """Let the server of a session start a process; return the connection to it."""
    _forget_ended()
    if whose not in _servers:
        _servers[whose] = _serving(preloaded)
    process, control = _servers[whose]
    mine, theirs = Pipe()
    with theirs:
        control.send((host, key))
        send_handle(control, theirs.fileno(), process.pid)
    return mine


def _serving(preloaded: tuple[list[str], list[str]]) -> _Server:
    control, theirs = Pipe()
    with theirs:
        # -P: nothing is imported from the current folder
        command = [sys.executable, "-P", "-m", SERVER, str(theirs.fileno())]
        how: dict[str, Any] = {"stdin": subprocess.DEVNULL, "pass_fds": (theirs.fileno(),), "start_new_session": True}
        process = subprocess.Popen(command, **how)
    control.send(preloaded)
    return _Server(process, control)


def _forget_ended() -> None:
    """Forget the servers that have ended, because they were not needed for long."""
    for whose in [w for w, server in _servers.items() if server.process.poll() is not None]:
        _servers.pop(whose).control.close()


@atexit.register
def _end_all() -> None:
    for server in _servers.values():
        server.control.close()
        server.process.wait()


def _greeted(connection: Connection) -> _Child:
    with contextlib.suppress(EOFError, OSError):
        if connection.poll(IMPORT_S):
            return _Child(connection, connection.recv())
    raise WorkerDied("a process of the run did not begin on this Dask worker; its log may say why")


def serve(run: str, places: dict[int, Place], mine: dict[int, Packed], key: str) -> Heard:
    """Hand their work to the processes of this Dask worker, and return what they have said at their ends.

    Returns also when the run is given up. ``key`` is the key of this task. Raises WorkerDied if the processes are not
    there: Dask runs this again for a worker that has died.
    """
    import distributed

    dask: Any = distributed  # which has no types
    dask_worker = dask.get_worker()
    children = _opened.get((run, dask_worker.address))
    if children is None:
        raise WorkerDied(f"the Dask worker {dask_worker.address} ended before it had finished")
    dask.secede()  # so that Dask neither moves this task nor retires its worker
    dask_worker.log_event(TOPIC, [run, dask_worker.address])
    try:
        numbers = dict(zip(mine, children, strict=True))
        for number, child in numbers.items():
            with contextlib.suppress(OSError):  # it has died, which is told below
                child.connection.send((number, places))
                mine[number].send(child.connection)
        return _relay(run, dask_worker, numbers, key)
    finally:
        close_places(run, dask_worker)


def _relay(run: str, dask_worker: Any, children: dict[int, _Child], key: str) -> Heard:
    """Pass on what workers report, until all have ended, or one has failed or died, or nobody wants to know."""
    heard = Heard([], {})
    latest: dict[int, bytes] = {}
    said: list[bytes] = []
    of = {child.connection: number for number, child in children.items()}
    ended: set[int] = set()
    next_time = time.monotonic() + TELL_S
    while of and not heard.deaths:
        for ready in wait(list(of), TELL_S):
            assert isinstance(ready, Connection)
            number = of[ready]
            try:
                kind, content = ready.recv()
            except (EOFError, OSError):
                kind, content = Kind.ENDED, None
            if kind is Kind.ENDED:
                del of[ready]
                if number not in ended:
                    heard.deaths[number] = _how(content)
            elif kind is Kind.NUMBERS:
                latest[number] = content
            elif kind is Kind.SAID:
                said.append(content)
            else:
                ended.add(number)
                heard.last.append((number, content))
            if kind is Kind.FAILED:
                of.clear()
                break
        if time.monotonic() >= next_time or not of or heard.deaths:
            next_time = time.monotonic() + TELL_S
            if dask_worker.status.name not in ("running", "paused"):
                raise WorkerDied(f"the Dask worker {dask_worker.address} was retired, or is ending")
            task = dask_worker.state.tasks.get(key)
            if task is None or task.state == "cancelled":  # the run was given up, or its coordinator has ended
                break
            if said or latest:
                dask_worker.log_event(TOPIC, [run, *said, *latest.values()])
                said, latest = [], {}
    return heard


def _how(code: int | None) -> str:
    """Return how a process has ended, of its exit code; None: it was ended together with what watches it."""
    if code is None:
        return "ended"
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def close_places(run: str, dask_worker: Any) -> None:
    """End the processes of a run on this Dask worker, and what they have left running. Does nothing a second time."""
    for child in _opened.pop((run, dask_worker.address), []):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.place.group, signal.SIGKILL)
        child.connection.close()
