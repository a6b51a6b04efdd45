"""Workers as MPI ranks, by mpi4py.

Outside of ``mpiexec`` the mapping starts ``mpiexec`` on this machine, and this process coordinates the ranks. Inside of
``mpiexec`` every rank that calls ``run`` is a worker, and rank 0 gets the results.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from xcorr.core import Observer, Plan, XcorrError
from xcorr.core.interrupt import check, held
from xcorr.core.loop import Worker
from xcorr.core.message import WorkerDied
from xcorr.core.observe import WorkerStatistics
from xcorr.mappings.door import Door
from xcorr.mappings.engine import Costs, Engine, Outcome, available_cores, merge_results, tell_progress
from xcorr.mappings.limits import allow_descriptors, short_place
from xcorr.mappings.work import Gathering, opened, pack_all, refuse_within_import

INSTALL = "pip install 'xcorr[mpi-local]' (mpi4py with an MPI of its own), or 'xcorr[mpi]' where an MPI is installed"
RANK_VARIABLES = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")
IN_JOBS = "start mpiexec xcorr run ... or srun --mpi=pmi2 xcorr run ... (docs/clusters.md)"
KEY = "XCORR_MPI_KEY"
WAIT_S = 0.5
GRACE_S = 2.0
PAUSE_S = 0.01
FINISH_S = 30.0  # longest wait for ranks to leave MPI after their last report


class MpiError(XcorrError, RuntimeError):
    """MPI is not installed, or ``mpiexec`` has started another number of ranks."""


def inside_mpiexec() -> bool:
    """Return whether this process is a rank that ``mpiexec`` started."""
    return any(name in os.environ for name in RANK_VARIABLES)


class MpiMapping(Engine):
    """Runs each worker in an MPI rank."""

    costs = Costs(share=0.85, process_mb=75)

    def choose_workers(self, asked: int | None) -> int:
        """Return the number of ranks: inside of mpiexec those that it has started, else the number asked for.

        Raises MpiError if mpi4py is missing, if mpiexec has started another number than asked for, or if SLURM has
        started several programs that are not ranks of one MPI.
        """
        if importlib.util.find_spec("mpi4py") is None:
            raise MpiError(f"the mpi mapping needs mpi4py: {INSTALL}")
        if not inside_mpiexec():
            _refuse_job(1)
            return asked or available_cores()
        size: int = _world().Get_size()
        _refuse_job(size)
        if asked not in (None, size):
            raise MpiError(f"-n {asked}, but mpiexec started {size} ranks; leave -n out, or start that many")
        return size

    def execute(self, plan: Plan, observers: Sequence[Observer] = ()) -> Outcome:
        """Run the plan to its end.

        Raises ElementError when an element fails, WorkerDied when a rank ends without a report, UnguardedScript if the
        script lacks its ``__main__`` guard, MpiError if mpiexec is missing.
        """
        refuse_within_import()
        if not inside_mpiexec():
            return _start(plan, observers)
        outcome = _join(plan, observers)
        assert outcome is not None
        return outcome

    def lead(self, program: Callable[[], int]) -> int:
        """Call the program and return its result. Ranks other than 0 only work for the runs that rank 0 makes."""
        if not inside_mpiexec():
            return program()
        if _world().rank != 0:
            while _join(None, ()) is not None:
                pass
            return 0
        try:
            return program()
        finally:
            _world().scatter([None] * _world().size)


def _world() -> Any:
    from mpi4py import MPI  # imported here, because the import initialises MPI

    return MPI.COMM_WORLD


def _refuse_job(size: int) -> None:
    """Raise MpiError if this rank, of so many, is alone among the tasks or hosts that SLURM has given it.

    https://slurm.schedmd.com/srun.html, OUTPUT ENVIRONMENT VARIABLES
    """
    hosts, tasks = (int(os.environ.get(f"SLURM_{name}") or 1) for name in ("JOB_NUM_NODES", "STEP_NUM_TASKS"))
    if size == 1 and tasks > 1:
        raise MpiError(f"srun started {tasks} tasks that are not ranks of one MPI; {IN_JOBS}")
    if size == 1 and hosts > 1 and not inside_mpiexec():
        raise MpiError(f"xcorr starts ranks on its own host only, and the job has {hosts} hosts; {IN_JOBS}")


# -- inside of mpiexec ---------------------------------------------------------------------------------------


def _join(plan: Plan | None, observers: Sequence[Observer]) -> Outcome | None:
    """Run the plan of rank 0 as one rank. A failure ends all ranks. Return None if rank 0 has no more plans."""
    from xcorr.mappings.mpi_transport import MpiTransport

    world = _world()
    parts = None
    if world.rank == 0:
        parts = [None if plan is None else (plan.for_worker(k), tuple(observers)) for k in range(world.size)]
    part = world.scatter(parts)
    if part is None:
        return None
    plan, observers = part
    try:
        transport = MpiTransport(world, len(plan.nodes))
        latest = [WorkerStatistics(k, []) for k in range(world.size)]

        def tell(statistics: WorkerStatistics) -> None:
            if world.rank == 0:
                latest[0] = statistics
                tell_progress(observers, latest)

        worker = Worker(plan, world.rank, transport, observers, tell)
        with held(tell=lambda: worker.give_up(KeyboardInterrupt())):
            worker.run()
            transport.finish()
    except BaseException as error:
        text = getattr(error, "traceback_text", None) or traceback.format_exc()
        print(f"{text}\nerror: rank {world.rank}: {error}", file=sys.stderr, flush=True)
        world.Abort(1)  # the other ranks would wait for this one for ever
        raise
    parts = world.gather((worker.results, worker.statistics()))
    if world.rank != 0:
        return Outcome({}, [worker.statistics()])
    tell_progress(observers, [s for _, s in parts], finished=True)
    return Outcome(merge_results([r for r, _ in parts]), [s for _, s in parts])


# -- outside of mpiexec --------------------------------------------------------------------------------------


def _start(plan: Plan, observers: Sequence[Observer]) -> Outcome:
    """Start mpiexec, hand every rank its work, and gather reports until all have finished."""
    program = _mpiexec()
    work = pack_all(plan, observers)
    allow_descriptors(plan.workers + 64)
    key = os.urandom(16)
    with (
        held(),
        tempfile.TemporaryDirectory(prefix="xcorr-mpi-", dir=short_place(), ignore_cleanup_errors=True) as folder,
        Door(f"{folder}/reports", key, plan.workers) as door,
    ):
        # -P: nothing is imported from the current folder
        command = [program, "-n", str(plan.workers), sys.executable, "-P", "-m", "xcorr.mappings.mpi_rank"]
        process = subprocess.Popen(
            [*command, str(door.address)],
            env={**os.environ, KEY: key.hex()},  # not an argument, because arguments are shown to all users
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C of the terminal must not reach ranks, and _end kills the group
        )
        printed = _Printed(process)
        ranks: dict[int, Connection] = {}
        try:
            while len(ranks) < plan.workers:
                _accept(door, process, plan.workers, ranks)
            for k, connection in ranks.items():
                work[k].send(connection)
            outcome = _gather(plan, observers, process, ranks)
            _let_end(process, ranks)
            printed.join(GRACE_S)
            return outcome
        finally:
            printed.heeded = False
            _end(process)
            for connection in ranks.values():
                connection.close()


def _mpiexec() -> str:
    beside = Path(sys.executable).with_name("mpiexec")
    program = str(beside) if beside.exists() else shutil.which("mpiexec")
    if program is None:
        raise MpiError(f"the mpi mapping needs mpiexec: {INSTALL}")
    return program


def _accept(door: Door, process: subprocess.Popen[bytes], count: int, ranks: dict[int, Connection]) -> None:
    """Accept one more rank, if one has connected."""
    check()
    greeting = door.greeting(0.2)
    if greeting is not None:
        connection, rank = greeting
        ranks[rank] = connection
    elif process.poll() is not None:
        raise WorkerDied(f"mpiexec ended with exit code {process.returncode} before all {count} ranks had begun")


def _gather(
    plan: Plan, observers: Sequence[Observer], process: subprocess.Popen[bytes], ranks: dict[int, Connection]
) -> Outcome:
    heard = Gathering(sorted(ranks), observers)
    while not heard.finished:
        left = {c: k for k, c in ranks.items() if k not in heard.results}  # finished ranks may have ended
        ended: set[int] = set()
        for ready in wait(list(left), WAIT_S):
            assert isinstance(ready, Connection)
            ended |= _heard_end(heard, ready, left[ready])
        if ended:
            # mpiexec ends all ranks when one dies. What the others have said may be the reason; if not, nobody knows
            # which of those that have ended was the first
            for connection, rank in left.items():
                while rank not in ended and rank not in heard.results and connection.poll():
                    ended |= _heard_end(heard, connection, rank)
            who = " or ".join(f"MPI rank {k} (with {plan.names_on(k)})" for k in sorted(ended))
            raise WorkerDied(f"{who} ended, or was killed, before it had finished")
        heard.show()
        if process.poll() is not None and not heard.finished and not wait(list(left), 0):
            raise WorkerDied(f"mpiexec ended with exit code {process.returncode} before all ranks had finished")
    return heard.outcome()


def _heard_end(heard: Gathering, connection: Connection, rank: int) -> set[int]:
    """Take what a rank has said; return the rank if its connection is closed, else nothing."""
    try:
        content = connection.recv_bytes()
    except (EOFError, ConnectionResetError):
        return {rank}
    heard.take(opened(content, rank))
    return set()


def _let_end(process: subprocess.Popen[bytes], ranks: dict[int, Connection]) -> None:
    """Wait until mpiexec has ended; not for long once all ranks have, for a process that one of them left detached."""
    until, left = time.monotonic() + FINISH_S, list(ranks.values())
    while process.poll() is None and time.monotonic() < until:
        if left:
            left = [c for c in left if c not in wait(left, PAUSE_S)]  # the end of a connection is all that can come
            until = until if left else time.monotonic() + GRACE_S
        else:
            time.sleep(PAUSE_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End mpiexec and its ranks, if they have not ended."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S)


class _Printed(threading.Thread):
    """Prints what ranks print, but not the long failure message of mpiexec when it is told to end."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(daemon=True)
        self.process, self.heeded = process, True
        self.start()

    def run(self) -> None:
        """Read to the end."""
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                if self.heeded and sys.stdout is not None:
                    sys.stdout.write(line.decode(errors="replace"))
                    sys.stdout.flush()
