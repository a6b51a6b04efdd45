"""Forks the processes of a run on a host: ``python -m xcorr.mappings.dask_server DESCRIPTOR``.

A Dask worker starts one for each program that makes runs on it. It imports the modules of the elements once, and the
processes of all runs of that program begin with them. It ends with the Dask worker, or when it is not needed for long.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import select
import signal
import sys
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import NoReturn

from xcorr.mappings.dask_child import work
from xcorr.mappings.dask_host import Kind
from xcorr.mappings.preload import preload, reseed

IDLE_S = 120.0


def main(descriptor: int) -> None:
    """Import modules, then start a process for every connection that comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator ends its workers
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that children that have ended do not stay
    faulthandler.enable(file=2)
    control = Connection(descriptor)
    preload(*control.recv())
    gc.freeze()  # objects from here stay in shared pages, because collections skip them
    while control.poll(IDLE_S):
        try:
            host, key = control.recv()
            given = recv_handle(control)
        except EOFError:
            return
        if os.fork() == 0:
            control.close()
            _watch(Connection(given), host, key)
        os.close(given)


def _end_with_host(connection: Connection, worker: int) -> None:
    """Wait for the end of the worker. If the Dask worker ends first, kill the worker and all that it has started.

    The worker may be in C code for long, and then cannot notice this itself.
    """
    if not hasattr(os, "pidfd_open"):
        return
    ends = select.poll()
    process = os.pidfd_open(worker)
    ends.register(process, select.POLLIN)
    ends.register(connection.fileno(), select.POLLRDHUP)  # what comes is for the worker to read
    if connection.fileno() in dict(ends.poll()):  # the worker, which notices it too, may have ended by now
        os.killpg(0, signal.SIGKILL)
    os.close(process)


def _watch(connection: Connection, host: str, key: bytes) -> NoReturn:
    """Fork the worker, and tell its Dask worker how it has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()  # a group that can be ended with all its children
    worker = os.fork()
    if worker == 0:
        try:
            reseed()
            work(connection, host, key)
        finally:
            os._exit(1)
    _end_with_host(connection, worker)
    _, status = os.waitpid(worker, 0)
    try:
        connection.send((Kind.ENDED, os.waitstatus_to_exitcode(status)))
    finally:
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
