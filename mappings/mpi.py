"""Workers as MPI ranks, by mpi4py.

Outside of ``mpiexec`` the mapping starts it, on this machine, and coordinates; inside, every rank that calls
``run`` joins as a worker, and rank 0 has the results.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Client, Connection, Listener, wait
from pathlib import Path
from typing import Any

from xcorr.core import Observer, Plan, XcorrError
from xcorr.core.loop import Worker
from xcorr.core.message import Report, Stopped, WorkerDied
from xcorr.core.observe import WorkerStatistics
from xcorr.mappings.processes import describe_unpicklable, failures_told, send_report
from xcorr.mappings.run import Outcome, available_cores, merge_results, tell_progress

INSTALL = "pip install 'xcorr[mpi-local]' (mpi4py with an MPI of its own), or 'xcorr[mpi]' where an MPI is installed"
RANK_VARIABLES = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")
GRACE_S = 2.0
FINISH_S = 30.0  # for ranks that have reported all to leave MPI; ended sooner, mpiexec complains on the output


class MpiError(XcorrError, RuntimeError):
    """MPI is not there, or was started with another number of ranks."""


def inside_mpiexec() -> bool:
    """Return whether this process is a rank that ``mpiexec`` started."""
    return any(name in os.environ for name in RANK_VARIABLES)


class MpiMapping:
    """Runs each worker in an MPI rank."""

    def choose_workers(self, asked: int | None) -> int:
        """Return the number of ranks: those there are, or outside of mpiexec those asked for.

        Raises MpiError if mpi4py or mpiexec is missing, or the ranks that are there are not the number asked for.
        """
        if importlib.util.find_spec("mpi4py") is None:
            raise MpiError(f"the mpi mapping needs mpi4py: {INSTALL}")
        if not inside_mpiexec():
            return asked or available_cores()
        size: int = _world().Get_size()
        if asked not in (None, size):
            raise MpiError(f"-n {asked}, but mpiexec started {size} ranks; leave -n out, or start that many")
        return size

    def execute(self, plan: Plan, observers: Sequence[Observer] = ()) -> Outcome:
        """Run the plan to its end.

        Raises ElementError when an element fails, WorkerDied when ranks end without a word.
        """
        if not inside_mpiexec():
            return _start(plan, observers)
        outcome = _join(plan, observers)
        assert outcome is not None
        return outcome


def _world() -> Any:
    from mpi4py import MPI

    return MPI.COMM_WORLD


# -- inside of mpiexec ---------------------------------------------------------------------------------------


def _join(plan: Plan | None, observers: Sequence[Observer]) -> Outcome | None:
    """Take part as one rank: rank 0's plan is run by all; a failure ends all ranks. None: rank 0 has no more."""
    from xcorr.mappings.mpi_transport import MpiTransport

    world = _world()
    plan, observers = world.bcast((plan, tuple(observers)) if world.rank == 0 else None)
    if plan is None:
        return None
    try:
        transport = MpiTransport(world, len(plan.nodes))
        latest = [WorkerStatistics(k, []) for k in range(world.size)]

        def tell(statistics: WorkerStatistics) -> None:
            if world.rank == 0:
                latest[0] = statistics
                tell_progress(observers, latest)

        worker = Worker(plan, world.rank, transport, observers, tell)
        worker.run()
        transport.finish()
    except BaseException as error:
        text = getattr(error, "traceback_text", None) or traceback.format_exc()
        print(f"{text}\nerror: rank {world.rank}: {error}", file=sys.stderr, flush=True)
        world.Abort(1)
        raise
    parts = world.gather((worker.results, worker.statistics()))
    if world.rank != 0:
        return Outcome({}, [worker.statistics()])
    tell_progress(observers, [s for _, s in parts], finished=True)
    return Outcome(merge_results([r for r, _ in parts]), [s for _, s in parts])


def on_rank_0(call: Callable[[], int]) -> int:
    """Return ``call()``; as a rank other than 0, work for the runs that rank 0 makes in it, and return 0."""
    if not inside_mpiexec():
        return call()
    if _world().rank != 0:
        while _join(None, ()) is not None:
            pass
        return 0
    try:
        return call()
    finally:
        _world().bcast((None, ()))


# -- outside of mpiexec --------------------------------------------------------------------------------------


def _start(plan: Plan, observers: Sequence[Observer]) -> Outcome:
    """Start mpiexec, hand every rank the plan, and gather reports until all have finished."""
    program = _mpiexec()
    describe_unpicklable(plan)
    with tempfile.TemporaryDirectory(prefix="xcorr-mpi-") as folder:
        work = Path(folder, "work.pickle")
        work.write_bytes(pickle.dumps((list(sys.path), main_file(), pickle.dumps((plan, tuple(observers)), 5))))
        key = os.urandom(16)
        with Listener(str(Path(folder, "reports")), "AF_UNIX", backlog=plan.workers, authkey=key) as listener:
            command = [program, "-n", str(plan.workers), sys.executable, "-m", "xcorr.mappings.mpi_rank"]
            environment = {**os.environ, "XCORR_MPI_KEY": key.hex()}
            process = subprocess.Popen(
                [*command, str(work), str(listener.address)],
                env=environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            reports: list[Connection] = []
            try:
                _accept(listener, process, plan.workers, reports)
                return _gather(observers, process, reports)
            finally:
                _end(process)
                for connection in reports:
                    connection.close()


def _mpiexec() -> str:
    beside = Path(sys.executable).with_name("mpiexec")
    program = str(beside) if beside.exists() else shutil.which("mpiexec")
    if program is None:
        raise MpiError(f"the mpi mapping needs mpiexec: {INSTALL}")
    return program


def main_file() -> str | None:
    """Return the script that runs as ``__main__``, whose classes the ranks need to find."""
    main = sys.modules["__main__"]
    return None if getattr(main, "__spec__", None) is not None else getattr(main, "__file__", None)


def _accept(listener: Listener, process: subprocess.Popen[bytes], count: int, reports: list[Connection]) -> None:
    socket = listener._listener._socket  # type: ignore[attr-defined]
    while len(reports) < count:
        if wait([socket], 0.2):
            reports.append(listener.accept())
        elif process.poll() is not None:
            raise WorkerDied(f"mpiexec ended with exit code {process.returncode} before all {count} ranks had begun")


def _gather(observers: Sequence[Observer], process: subprocess.Popen[bytes], reports: list[Connection]) -> Outcome:
    latest = {k: WorkerStatistics(k, []) for k in range(len(reports))}
    results: dict[int, dict[str, dict[str, list[Any]]]] = {}
    while len(results) < len(reports):
        for ready in wait(reports, 0.5):
            assert isinstance(ready, Connection)
            try:
                report: Report = ready.recv()
            except (EOFError, ConnectionResetError):
                raise WorkerDied("an MPI rank ended, or was killed, before it had finished") from None
            if report.failure is not None and not isinstance(report.failure, Stopped):
                raise report.failure
            latest[report.worker] = report.statistics
            if report.results is not None:
                results[report.worker] = report.results
        tell_progress(observers, [latest[k] for k in sorted(latest)])
        if process.poll() is not None and len(results) < len(reports) and not wait(reports, 0):
            raise WorkerDied(f"mpiexec ended with exit code {process.returncode} before all ranks had finished")
    workers = [latest[k] for k in sorted(latest)]
    tell_progress(observers, workers, finished=True)
    return Outcome(merge_results([results[k] for k in sorted(results)]), workers)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for mpiexec when all went well, else end it and its ranks."""
    failing = sys.exc_info()[0] is not None
    for how in (None, signal.SIGTERM, signal.SIGKILL) if not failing else (signal.SIGTERM, signal.SIGKILL):
        if how is not None and process.poll() is None:
            os.killpg(process.pid, how)
        try:
            process.wait(GRACE_S if failing else FINISH_S)
            return
        except subprocess.TimeoutExpired:
            continue


def rank_main(work: Path, address: str) -> None:
    """Be one rank: run the plan, report to the coordinator, and end with it."""
    from xcorr.mappings.mpi_transport import MpiTransport

    world = _world()
    _unlink_shared_memory(world)
    reports = Client(address, "AF_UNIX", authkey=bytes.fromhex(os.environ["XCORR_MPI_KEY"]))
    threading.Thread(target=_end_with_coordinator, args=(reports,), daemon=True).start()
    finished = False
    with failures_told(reports, world.rank, "rank"):
        path, main_file, pickled = pickle.loads(work.read_bytes())
        sys.path[:] = path
        load_main(main_file)
        plan, observers = pickle.loads(pickled)
        transport = MpiTransport(world, len(plan.nodes))
        worker = Worker(plan, world.rank, transport, observers, lambda s: reports.send(Report(world.rank, s)))
        worker.run()
        transport.finish()
        send_report(reports, Report(world.rank, worker.statistics(), worker.results))
        finished = True
    if not finished:
        signal.pause()  # until the coordinator ends all ranks


def _unlink_shared_memory(world: Any) -> None:
    """Take the names off the shared memory that MPICH has mapped, so that a killed rank leaves none behind."""
    maps = Path("/proc/self/maps")
    world.Barrier()
    if maps.exists():
        for name in set(re.findall(r"/dev/shm/mpich_shm_\S+$", maps.read_text(), re.MULTILINE)):
            Path(name).unlink(missing_ok=True)


def load_main(file: str | None) -> None:
    """Load the coordinator's script under the name that keeps its ``if __name__ == "__main__"`` part from running."""
    if file is not None:
        from multiprocessing.spawn import _fixup_main_from_path  # type: ignore[attr-defined]

        _fixup_main_from_path(file)


def _end_with_coordinator(reports: Connection) -> None:
    wait([reports])  # the coordinator never sends: this wakes when it has gone
    os._exit(1)
