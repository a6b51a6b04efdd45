"""The program of every component of a Storm topology: ``xcorr-storm-worker NAME``, started by Storm.

A bolt's task is a worker of the core's loop. It reports to the coordinator, the process that called ``run``, and
stays until Storm ends it: Storm would take its leaving for a failure, and start it again.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import threading
import time
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any, NoReturn

from xcorr.core.loop import Worker
from xcorr.core.message import Report
from xcorr.mappings.leftovers import end_children, name_threads
from xcorr.mappings.multilang import Channel, take_standard_streams
from xcorr.mappings.storm_nimbus import Nimbus, StormError
from xcorr.mappings.storm_topology import BEGIN, DRIVER
from xcorr.mappings.storm_transport import StormTransport
from xcorr.mappings.work import Packed, Reporter, unpack

STOP = "stop"
LINGER_S = 20.0  # for Storm to end this process
BEGIN_EVERY_S = 0.5
over = threading.Event()  # the run is, or its coordinator has gone: nobody reads any more what was put aside


def host_id() -> str:
    """Return what tells this host from others, two boots of one host included."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()} {boot.read_text().strip() if boot.exists() else ''}"


def drive(channel: Channel) -> NoReturn:
    """Be the spout: tell the tasks to begin, which Storm lets it when all its connections are up."""
    while True:
        if channel.tuples.get()[0] == "next":
            channel.emit(BEGIN, [BEGIN])
            time.sleep(BEGIN_EVERY_S)
        channel.sync()


class Coordinator:
    """The connection to the process that called ``run``."""

    def __init__(self, conf: dict[str, Any]) -> None:
        self.conf = conf
        host, _, port = conf["xcorr.coordinator"].rpartition(":")
        try:
            key = Path(conf["xcorr.key_file"]).read_bytes()
        except FileNotFoundError:
            if Path(conf["xcorr.key_file"]).parent.exists():  # the run is over
                self.abandon()
            raise
        try:
            self.reports: Connection = Client((host, int(port)), authkey=key)
        except (OSError, EOFError, AuthenticationError):  # the port may have another owner by now
            self.abandon()

    def join(self, place: tuple[str, int]) -> Any:
        """Say who this is, and return the worker's number, the hosts of all, the stages, and the packed work."""
        try:
            self.reports.send((*place, host_id(), os.getpid()))
            return *self.reports.recv(), Packed.receive(self.reports)
        except (OSError, EOFError):
            self.abandon()

    def watch(self) -> None:
        """Notice, in a thread, that the run is over, or that its coordinator has gone."""
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        try:
            if self.reports.recv() == STOP:
                over.set()
        except (EOFError, OSError):
            self.abandon()

    def abandon(self) -> NoReturn:
        """End the topology, which nobody else will, and this process."""
        over.set()
        try:
            Nimbus(self.conf["xcorr.nimbus"]).kill(self.conf["xcorr.name"])
        except StormError as error:
            print(f"cannot end the topology: {error}", file=sys.stderr, flush=True)
        shutil.rmtree(self.conf["xcorr.memory"], ignore_errors=True)
        os._exit(1)


def work(channel: Channel) -> None:
    """Be one task of a bolt: get the plan, run, report, and stay until Storm ends this process."""
    try:
        coordinator = Coordinator(channel.setup.conf)
    except OSError as error:
        channel.error(f"the key of the run cannot be read here (see run.storm.keys): {error}")
        os._exit(1)
    memory = Path(channel.setup.conf["xcorr.memory"])
    worker, hosts, stages, packed = coordinator.join(channel.setup.place())
    memory.mkdir(mode=0o700, exist_ok=True)
    coordinator.watch()
    reporter = Reporter(coordinator.reports, worker)
    with reporter.failures_told("task"):
        while channel.tuples.get() != [BEGIN]:
            pass  # pings of tasks that began sooner: they ask again
        plan, observers = unpack(packed, reporter)
        transport = StormTransport(channel, worker, stages, hosts, memory)
        transport.meet()
        loop = Worker(plan, worker, transport, observers, reporter.tell)
        loop.run()
        name_threads()
        end_children()
        reporter.send(Report(worker, loop.statistics(), loop.results))
        while not over.is_set():
            transport.receive(block=True)
    over.wait()
    shutil.rmtree(memory, ignore_errors=True)
    time.sleep(LINGER_S)


def main() -> None:
    """Run as Storm starts it."""
    os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator ends its tasks
    channel = Channel(*take_standard_streams())

    def leave(*_: Any) -> None:
        if over.is_set():  # else the coordinator cleans up, and others may still read what this task wrote
            shutil.rmtree(channel.setup.conf["xcorr.memory"], ignore_errors=True)
        end_children()
        os._exit(0)

    signal.signal(signal.SIGTERM, leave)
    channel.listen(ended=leave)
    name, _ = channel.setup.place()
    if name == DRIVER:
        drive(channel)
    else:
        work(channel)
    os._exit(0)
