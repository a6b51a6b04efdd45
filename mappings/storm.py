"""Workers as tasks of an Apache Storm topology. Storm places, connects and watches tasks; they run the core's loop.

The calling process coordinates. It submits the topology to Nimbus, sends every task the plan, gathers reports, and
kills the topology at the end. If a task dies, its state is lost and the run ends with an error. A campaign then resumes
from its stored results.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from xcorr.core import Observer, Plan
from xcorr.core.interrupt import check, held
from xcorr.core.message import WorkerDied
from xcorr.core.options import option
from xcorr.mappings.door import Door
from xcorr.mappings.engine import Costs, Engine, Outcome
from xcorr.mappings.hosts import host_id
from xcorr.mappings.storm_cluster import OPEN_TO_ALL, Cluster, send_signal, status
from xcorr.mappings.storm_home import cache
from xcorr.mappings.storm_nimbus import Nimbus, StormError, idl
from xcorr.mappings.storm_topology import placed, topology
from xcorr.mappings.storm_worker import STOP
from xcorr.mappings.work import Gathering, opened, pack_all, refuse_within_import

PROGRAM = "xcorr-storm-worker"
BEGIN_S = 120.0  # longest wait until all tasks have reported
END_S = 30.0  # longest wait until Storm has ended them
HEAP_MB = 192  # of a worker JVM: items of any size go through it in parts
_log = logging.getLogger("xcorr.mappings")


@dataclasses.dataclass(frozen=True)
class StormOptions:
    """The address of the cluster, and the folder for the key of a run."""

    nimbus: str | None = option(
        None, "host:port of Nimbus. Default: the cluster of `xcorr storm up`, or a new one for this run."
    )
    keys: str | None = option(
        None, "Folder for the key of a run. Storm's user must be able to read it on all hosts. Default: your cache."
    )


class StormMapping(Engine):
    """Runs each element instance in a task of a Storm topology.

    ``nimbus`` is ``host:port`` of a cluster's Nimbus. With None, the run uses the cluster of ``xcorr storm up`` if it
    is up, else a new cluster, which ends with this process. ``keys`` is a folder from which tasks read the key of the
    run. All hosts must share this folder, and only you and Storm's user may read it. Default: a folder in the cache of
    xcorr.
    """

    costs = Costs(share=0.7, start_s=15.0, process_mb=600)
    one_machine = False
    attempts = 3
    Options = StormOptions

    def __init__(self, nimbus: str | None = None, keys: str | None = None) -> None:
        self.nimbus, self.keys = nimbus, keys

    def execute(self, plan: Plan, observers: Sequence[Observer] = ()) -> Outcome:
        """Run the plan to its end.

        Raises ElementError when an element fails, WorkerDied when a task dies, StormError if Storm cannot be used.
        """
        refuse_within_import()
        idl()
        run = _Run(plan, observers)
        with held(), _key_file(self.keys) as (key, path):
            return run.on(Nimbus(self.nimbus or _address()), key, path)


@contextlib.contextmanager
def _key_file(folder: str | None) -> Iterator[tuple[bytes, Path]]:
    """Write the key of a run to a file for its tasks, because Nimbus shows topology settings to everybody."""
    place = Path(folder) if folder else cache() / "storm-keys"
    if not folder:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, key = place / uuid.uuid4().hex, os.urandom(16)
    try:
        # in a shared folder, Storm's user reads the key as member of the group
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640 if folder else 0o600), "wb") as file:
            file.write(key)
    except OSError as error:
        raise StormError(f"run.storm.keys: {path} cannot be written: {error.strerror}") from error
    try:
        yield key, path.absolute()
    finally:
        path.unlink(missing_ok=True)


def _address() -> str:
    shared = status()
    return str(shared["nimbus"]) if shared else _own_cluster().nimbus


@functools.cache
def _own_cluster() -> Cluster:
    _log.warning("no Storm cluster is named (run.storm.nimbus) or up (xcorr storm up): starting one for this run")
    _log.warning(OPEN_TO_ALL)
    cluster = Cluster()
    atexit.register(cluster.stop)
    return cluster


class _Run:
    """One topology from its submission to its end."""

    nimbus: Nimbus

    def __init__(self, plan: Plan, observers: Sequence[Observer]) -> None:
        self.observers, self.jvms = observers, plan.workers
        self.plan, self.stages = placed(plan)
        self.work = pack_all(self.plan, observers)
        self.name = f"xcorr-{uuid.uuid4().hex[:12]}"
        shared = Path("/dev/shm")
        self.memory = Path(shared if shared.is_dir() else tempfile.gettempdir(), self.name)
        self.reports: dict[int, Connection] = {}
        self.here: list[int] = []  # processes of tasks on this host

    def on(self, nimbus: Nimbus, key: bytes, key_file: Path) -> Outcome:
        """Run on a cluster."""
        self.nimbus = nimbus
        supervisors, free = self.nimbus.slots()
        if free < self.jvms:
            raise StormError(
                f"the Storm cluster at {self.nimbus.address} has {supervisors} supervisor(s) with {free} free "
                f"slot(s), and {self.jvms} are wanted; choose fewer workers with -n, or wait for free slots"
            )
        self.memory.mkdir(mode=0o700)
        try:
            with Door((self.nimbus.own_address(), 0), key, self.plan.workers + 1) as door:
                self.nimbus.submit(self.name, topology(self.stages, _program()), self._conf(door, key_file))
                try:
                    self._accept(door)
                    outcome = self._gather(door)
                except BaseException:
                    self._end(failing=True)
                    raise
                self._end(failing=False)
                return outcome
        finally:
            shutil.rmtree(self.memory, ignore_errors=True)

    def _conf(self, door: Door, key_file: Path) -> dict[str, Any]:
        host, port = door.address
        return {
            "topology.workers": self.jvms,
            "topology.acker.executors": 0,  # lost frames are found by their numbers
            "topology.eventlogger.executors": 0,
            "topology.max.spout.pending": 1,
            "topology.subprocess.timeout.secs": 60,
            "topology.worker.max.heap.size.mb": HEAP_MB,
            "worker.heap.memory.mb": HEAP_MB,
            "topology.message.timeout.secs": 3600,
            "xcorr.coordinator": f"{host}:{port}",
            "xcorr.key_file": str(key_file),
            "xcorr.nimbus": self.nimbus.address,
            "xcorr.name": self.name,
            "xcorr.memory": str(self.memory),
        }

    def _accept(self, door: Door) -> None:
        """Wait for every task, then send each task the number and the work of its worker."""
        first = {stage.name: stage.first for stage in self.stages}
        hosts: dict[int, str] = {}
        deadline = time.monotonic() + BEGIN_S
        while len(self.reports) < self.plan.workers:
            check()
            greeting = door.greeting(0.5)
            if greeting is not None:
                connection, (name, place, host, process) = greeting
                worker = first[name] + place
                if worker in self.reports:
                    raise WorkerDied(f"task {worker} ({name}) died at its start{self._said()}")
                self.reports[worker], hosts[worker] = connection, host
                if host == host_id():
                    self.here.append(process)
            elif time.monotonic() > deadline:
                raise StormError(
                    f"{self.plan.workers - len(self.reports)} of {self.plan.workers} tasks did not begin within "
                    f"{BEGIN_S:.0f} s{self._said()}"
                )
        for worker, connection in self.reports.items():
            connection.send((worker, hosts, self.stages))
            self.work[worker].send(connection)

    def _said(self) -> str:
        try:
            errors = self.nimbus.errors(self.name)
        except StormError as error:
            return f"; {error}"
        return f"; Storm says: {'; '.join(errors[:3])}" if errors else "; Storm reports no error"

    def _gather(self, door: Door) -> Outcome:
        heard = Gathering(sorted(self.reports), self.observers)
        of = {connection: worker for worker, connection in self.reports.items()}
        while not heard.finished:
            for ready in wait(list(of), 0.5):
                assert isinstance(ready, Connection)
                try:
                    content = ready.recv_bytes()
                except (EOFError, ConnectionResetError):
                    where = next(s.name for s in self.stages if 0 <= of[ready] - s.first < s.tasks)
                    raise WorkerDied(f"task {of[ready]} ({where}) died before it had finished") from None
                heard.take(opened(content, of[ready]))
            if not door.greetings.empty():
                raise WorkerDied("Storm has started a task again, because a task had died; the items in it are lost")
            heard.show()
        return heard.outcome()

    def _end(self, failing: bool) -> None:
        """Kill the topology and wait until its tasks have ended. In a failing run, an error here is only logged."""
        for connection in self.reports.values():
            try:
                connection.send(STOP)
            except OSError:
                continue  # a dead task; _gather raises the error
        deadline = time.monotonic() + END_S
        while True:
            try:
                self.nimbus.kill(self.name)
                break
            except StormError as error:
                if time.monotonic() > deadline:
                    if failing:
                        _log.warning("the topology %s may still run: %s", self.name, error)
                        break
                    raise
                time.sleep(1.0)
        while any(map(_is_alive, self.here)) and time.monotonic() < deadline:
            time.sleep(0.1)
        for process in filter(_is_alive, self.here):  # the supervisor may have died, and cannot end them
            send_signal(process, signal.SIGKILL)
        for connection in self.reports.values():
            connection.close()


def _is_alive(process: int) -> bool:
    """Return whether a task of ours still runs on this host."""
    try:
        # the number may belong to another program by now
        return PROGRAM.encode() in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def _program() -> str:
    """Return the component program of this environment. Raises StormError if it is not installed."""
    program = Path(sys.executable).with_name(PROGRAM)
    if not program.exists():
        raise StormError(f"there is no {program}: install xcorr in this environment (pip install 'xcorr[storm]')")
    return str(program)
