"""What an MPI rank runs that the coordinator has started: ``python -m xcorr.mappings.mpi_rank ADDRESS``."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import re
import signal
import sys
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

from xcorr.core.loop import Worker
from xcorr.core.message import Report
from xcorr.mappings.leftovers import end_children, warn_of_threads
from xcorr.mappings.mpi import KEY
from xcorr.mappings.work import Packed, Reporter, end_with, unpack


def rank_main(address: str) -> None:
    """Be one rank: get the work, run it, report to the coordinator, leave MPI and end."""
    from mpi4py import MPI

    from xcorr.mappings.mpi_transport import MpiTransport

    key = bytes.fromhex(os.environ.pop(KEY))  # removed, so that programs of elements do not inherit it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator ends its ranks
    faulthandler.enable(file=2)
    world = MPI.COMM_WORLD
    _unlink_shared_memory(world)
    connection = Client(address, "AF_UNIX", authkey=key)
    connection.send(world.rank)
    packed = Packed.receive(connection)
    end_with(connection)
    reporter = Reporter(connection, world.rank)
    with reporter.ending(), reporter.failures_told("rank"):
        plan, observers = unpack(packed, reporter)
        transport = MpiTransport(world, len(plan.nodes))
        worker = Worker(plan, world.rank, transport, observers, reporter.tell)
        worker.run()
        transport.finish()
        warn_of_threads()  # before the report: this process may be ended at any time after it
        end_children()
        reporter.send(Report(world.rank, worker.statistics(), worker.results))
        MPI.Finalize()
        # C's exit. Python's exit would wait for threads that elements have left. os._exit would call no atexit handler,
        # and in one of them MPICH reports success to mpiexec. Without the report mpiexec kills the other ranks
        ctypes.PyDLL(None).exit(0)
    signal.pause()  # until the coordinator ends all ranks


def _unlink_shared_memory(world: Any) -> None:
    """Take the names off the shared memory that MPICH has mapped, so that a killed rank leaves none behind."""
    maps = Path("/proc/self/maps")
    world.Barrier()  # a rank that has not mapped the memory yet still needs its name
    if maps.exists():
        for name in set(re.findall(r"/dev/shm/mpich_shm_\S+$", maps.read_text(), re.MULTILINE)):
            Path(name).unlink(missing_ok=True)


if __name__ == "__main__":
    rank_main(sys.argv[1])
