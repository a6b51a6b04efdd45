"""The program of every component of a Storm topology: ``xcorr-storm-worker NAME``, started by Storm.

A task of a bolt is a worker that runs the core's loop. It reports to the coordinator, the process that called ``run``.
It stays until Storm ends it, because Storm would start a task again that ends by itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any, NoReturn

from xcorr.core.loop import Worker
from xcorr.core.message import Report
from xcorr.mappings.hosts import host_id
from xcorr.mappings.leftovers import end_children, warn_of_threads
from xcorr.mappings.multilang import Channel, take_standard_streams
from xcorr.mappings.storm_nimbus import Nimbus, StormError
from xcorr.mappings.storm_topology import BEGIN, DRIVER
from xcorr.mappings.storm_transport import StormTransport
from xcorr.mappings.work import Packed, Reporter, unpack

STOP = "stop"
LINGER_S = 20.0  # longest wait for Storm to end this process
BEGIN_EVERY_S = 0.5
over = threading.Event()  # the run is over, or its coordinator has ended: files in memory are not needed any more


def drive(channel: Channel) -> NoReturn:
    """Be the spout: tell the tasks to begin. Storm calls the spout only when all connections are up."""
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
        except (OSError, EOFError, AuthenticationError):  # another program may use the port now
            self.abandon()

    def join(self, place: tuple[str, int]) -> Any:
        """Send name and place of this task; return the worker's number, all hosts, the stages, and the packed work."""
        try:
            self.reports.send((*place, host_id(), os.getpid()))
            return *self.reports.recv(), Packed.receive(self.reports)
        except (OSError, EOFError):
            self.abandon()

    def watch(self) -> None:
        """Wait in a thread for the end of the run, or of its coordinator."""
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        try:
            if self.reports.recv() == STOP:
                over.set()
        except (EOFError, OSError):
            self.abandon()

    def abandon(self) -> NoReturn:
        """End the topology, because its coordinator cannot, and then this process."""
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
            pass  # pings of tasks that have begun earlier; they will ping again
        plan, observers = unpack(packed, reporter)
        transport = StormTransport(channel, worker, stages, hosts, memory)
        transport.meet()
        loop = Worker(plan, worker, transport, observers, reporter.tell)
        loop.run()
        warn_of_threads()
        end_children()
        reporter.send(Report(worker, loop.statistics(), loop.results))
        while not over.is_set():
            transport.receive(block=True)
    over.wait()
    shutil.rmtree(memory, ignore_errors=True)
    time.sleep(LINGER_S)


def main() -> None:
    """Run the component that Storm asks for in its first message."""
    os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator ends its tasks
    channel = Channel(*take_standard_streams())

    def leave(*_: Any) -> None:
        if over.is_set():  # else the coordinator cleans up, because other tasks may still read files of this task
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
