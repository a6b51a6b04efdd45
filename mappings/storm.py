"""Workers as tasks of an Apache Storm topology: Storm places, connects and watches them; the loop is the core's.

The caller coordinates: it submits the topology to Nimbus, hands every task the plan, gathers reports, and kills the
topology at the end. A task that dies ends the run with an error: its state is gone, and a campaign resumes from what
is stored.
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener, wait
from pathlib import Path
from typing import Any

from xcorr.core import Observer, Plan
from xcorr.core.message import Report, Stopped, WorkerDied
from xcorr.core.observe import WorkerStatistics
from xcorr.mappings.mpi import main_file
from xcorr.mappings.processes import describe_unpicklable
from xcorr.mappings.run import Outcome, available_cores, merge_results, tell_progress
from xcorr.mappings.storm_cluster import Cluster, send_signal, status
from xcorr.mappings.storm_nimbus import Nimbus, StormError, idl
from xcorr.mappings.storm_topology import placed, topology
from xcorr.mappings.storm_worker import STOP, host_id

PROGRAM = "xcorr-storm-worker"
BEGIN_S = 120.0  # for all tasks to report
GREETING_S = 10.0  # for a task that has called to say who it is
END_S = 30.0  # for Storm to end them
HEAP_MB = 192  # of a worker JVM: items of any size go through it in parts
_log = logging.getLogger("xcorr.mappings")


class StormMapping:
    """Runs each element instance in a task of a Storm topology.

    ``nimbus`` is ``host:port`` of a cluster's Nimbus; None: the cluster of ``xcorr storm up`` if it is there, else one
    of this process's own, which ends with it.
    """

    def __init__(self, nimbus: str | None = None) -> None:
        self.nimbus = nimbus

    def choose_workers(self, asked: int | None) -> int:
        """Return the number of instances of interchangeable elements, and of worker JVMs."""
        return asked or available_cores()

    def execute(self, plan: Plan, observers: Sequence[Observer] = ()) -> Outcome:
        """Run the plan to its end.

        Raises ElementError when an element fails, WorkerDied when a task dies, StormError where Storm is not there.
        """
        idl()
        describe_unpicklable(plan)
        return _Run(Nimbus(self.nimbus or _address()), plan, observers).run()


def _address() -> str:
    shared = status()
    return str(shared["nimbus"]) if shared else _own_cluster().nimbus


@functools.cache
def _own_cluster() -> Cluster:
    _log.warning("no Storm cluster is named (run.storm.nimbus) or up (xcorr storm up): starting one for this run")
    cluster = Cluster()
    atexit.register(cluster.stop)
    return cluster


class _Run:
    """One topology from its submission to its end."""

    def __init__(self, nimbus: Nimbus, plan: Plan, observers: Sequence[Observer]) -> None:
        self.nimbus, self.observers, self.jvms = nimbus, observers, plan.workers
        self.plan, self.stages = placed(plan)
        self.name = f"xcorr-{uuid.uuid4().hex[:12]}"
        shared = Path("/dev/shm")
        self.memory = Path(shared if shared.is_dir() else tempfile.gettempdir(), self.name)
        self.reports: dict[int, Connection] = {}
        self.here: list[int] = []  # processes of tasks on this host

    def run(self) -> Outcome:
        supervisors, free = self.nimbus.slots()
        if free < self.jvms:
            raise StormError(
                f"the Storm cluster at {self.nimbus.address} has {supervisors} supervisor(s) with {free} free "
                f"slot(s), and {self.jvms} are wanted: choose fewer with -n, or wait"
            )
        key, host = os.urandom(16), self.nimbus.own_address()
        self.memory.mkdir()
        try:
            with Listener((host, 0), backlog=self.plan.workers + 1, authkey=key) as listener:
                self.nimbus.submit(self.name, topology(self.stages, _program()), self._conf(listener, key))
                try:
                    self._accept(listener)
                    return self._gather(listener)
                finally:
                    self._end()
        finally:
            shutil.rmtree(self.memory, ignore_errors=True)

    def _conf(self, listener: Listener, key: bytes) -> dict[str, Any]:
        host, port = listener.address
        return {
            "topology.workers": self.jvms,
            "topology.acker.executors": 0,
            "topology.eventlogger.executors": 0,
            "topology.max.spout.pending": 1,
            "topology.subprocess.timeout.secs": 60,
            "topology.worker.max.heap.size.mb": HEAP_MB,
            "worker.heap.memory.mb": HEAP_MB,
            "topology.message.timeout.secs": 3600,
            "xcorr.coordinator": f"{host}:{port}",
            "xcorr.key": key.hex(),
            "xcorr.nimbus": self.nimbus.address,
            "xcorr.name": self.name,
            "xcorr.memory": str(self.memory),
        }

    def _accept(self, listener: Listener) -> None:
        """Wait for every task, then hand each its worker's number and the plan."""
        first = {stage.name: stage.first for stage in self.stages}
        hosts: dict[int, str] = {}
        socket = listener._listener._socket  # type: ignore[attr-defined]
        deadline = time.monotonic() + BEGIN_S
        while len(self.reports) < self.plan.workers:
            greeting = _greeting(listener) if wait([socket], 0.5) else None
            if greeting is not None:
                connection, name, place, host, process = greeting
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
        work = pickle.dumps((self.plan, self.stages, tuple(self.observers)), 5)
        for worker, connection in self.reports.items():
            connection.send((worker, hosts, list(sys.path), main_file(), work))

    def _said(self) -> str:
        try:
            errors = self.nimbus.errors(self.name)
        except StormError as error:
            return f"; {error}"
        return f"; Storm says: {'; '.join(errors[:3])}" if errors else "; Storm reports no error"

    def _gather(self, listener: Listener) -> Outcome:
        latest = {k: WorkerStatistics(k, []) for k in self.reports}
        results: dict[int, dict[str, dict[str, list[Any]]]] = {}
        of = {connection: worker for worker, connection in self.reports.items()}
        again = listener._listener._socket  # type: ignore[attr-defined]
        while len(results) < len(self.reports):
            for ready in wait([*of, again], 0.5):
                if ready is again:
                    if _greeting(listener) is None:
                        continue
                    raise WorkerDied("Storm has started a task again, so one has died; what was in it is lost")
                assert isinstance(ready, Connection)
                try:
                    report: Report = ready.recv()
                except (EOFError, ConnectionResetError):
                    where = next(s.name for s in self.stages if 0 <= of[ready] - s.first < s.tasks)
                    raise WorkerDied(f"task {of[ready]} ({where}) died before it had finished") from None
                if report.failure is not None and not isinstance(report.failure, Stopped):
                    raise report.failure
                latest[report.worker] = report.statistics
                if report.results is not None:
                    results[report.worker] = report.results
            tell_progress(self.observers, [latest[k] for k in sorted(latest)])
        workers = [latest[k] for k in sorted(latest)]
        tell_progress(self.observers, workers, finished=True)
        return Outcome(merge_results([results[k] for k in sorted(results)]), workers)

    def _end(self) -> None:
        """Kill the topology and wait until its tasks have gone; a failing run shows its own error."""
        failing = sys.exc_info()[0] is not None
        for connection in self.reports.values():
            try:
                connection.send(STOP)
            except OSError:
                continue  # it has died, which _gather says
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
        for process in filter(_is_alive, self.here):  # where no supervisor is left to end them
            send_signal(process, signal.SIGKILL)
        for connection in self.reports.values():
            connection.close()


def _greeting(listener: Listener) -> tuple[Any, ...] | None:
    """Return a new connection and what a task says of itself; None for a stranger."""
    accepted: list[tuple[Any, ...]] = []

    def accept() -> None:
        try:
            connection = listener.accept()
            accepted.append((connection, *connection.recv()))
        except (EOFError, OSError, AuthenticationError) as error:
            _log.warning("somebody who is no task of this run called: %s", type(error).__name__)

    waiting = threading.Thread(target=accept, daemon=True)
    waiting.start()
    waiting.join(GREETING_S)
    return accepted[0] if accepted else None


def _is_alive(process: int) -> bool:
    """Return whether a task of ours still runs on this host."""
    try:
        return PROGRAM.encode() in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def _program() -> str:
    """Return the component program of this environment. Raises StormError if it is not installed."""
    program = Path(sys.executable).with_name(PROGRAM)
    if not program.exists():
        raise StormError(f"there is no {program}: install xcorr in this environment (pip install 'xcorr[storm]')")
    return str(program)
