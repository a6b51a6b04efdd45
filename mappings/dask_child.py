"""A worker of a run on Dask."""

from __future__ import annotations

import os
import signal
import socket
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection

from xcorr.core import XcorrError
from xcorr.core.loop import Worker
from xcorr.core.message import Report
from xcorr.mappings.arena import ARENA_BYTES, create_memory_file
from xcorr.mappings.dask_host import BEGIN_S, Kind, Place
from xcorr.mappings.door import Door
from xcorr.mappings.hosts import host_id, processor, software
from xcorr.mappings.leftovers import end_children, warn_of_threads
from xcorr.mappings.limits import allow_descriptors
from xcorr.mappings.sockets import Peer, SocketTransport
from xcorr.mappings.work import Packed, Reporter, end_with, unpack

BACKLOG = 1024
MEET_S = 120.0  # longest wait for the other workers to connect


def work(connection: Connection, host: str, key: bytes) -> None:
    """Be one worker: say where it listens, get the work, connect with the others, run, report, and end.

    ``connection`` leads to the Dask worker; at ``host`` others find this process, and they know the ``key``.
    """
    with Door((host, 0), key, BACKLOG) as door:
        arena = create_memory_file(ARENA_BYTES)
        connection.send(_place(door.address, arena))
        if not connection.poll(BEGIN_S):
            return  # the run was given up; it also ends when the connection does
        number, places = connection.recv()
        packed = Packed.receive(connection)
        end_with(connection)
        reporter = _Reporter(connection, number)
        with reporter.ending(), reporter.failures_told("worker"):
            plan, observers = unpack(packed, reporter)
            transport = SocketTransport(number, _meet(door, key, number, places), arena)
            _run(Worker(plan, number, transport, observers, reporter.tell), reporter, transport)
        signal.pause()  # until the Dask worker ends this process


def _run(worker: Worker, reporter: Reporter, transport: SocketTransport) -> None:
    """Run a worker to its end, and end this process."""
    worker.run()
    warn_of_threads()
    end_children()
    reporter.send(Report(worker.index, worker.statistics(), worker.results))
    transport.leave()
    os._exit(0)  # without waiting for threads that elements have left


class _Reporter(Reporter):
    """Says with each report what it holds: the Dask worker passes reports on, and does not open them."""

    def _deliver(self, report: Report, content: bytes) -> None:
        if report.failure is not None:
            kind = Kind.FAILED
        elif report.results is not None:
            kind = Kind.LAST
        else:
            kind = Kind.NUMBERS if report.said is None else Kind.SAID
        self.connection.send((kind, content))


def _place(address: tuple[str, int], arena: int) -> Place:
    return Place(address, host_id(), os.getpid(), os.getpgrp(), arena, _identity(arena), software(), processor())


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _meet(door: Door, key: bytes, number: int, places: dict[int, Place]) -> list[Peer]:
    """Connect with all other workers. Each pair tells each other whether it can map the other's arena.

    Raises XcorrError if a worker cannot be reached.
    """
    allow_descriptors(3 * len(places) + 64)
    arenas = {other: _arena_of(place) for other, place in places.items() if other != number}
    connections = {other: _connect(key, number, other, places[other]) for other in places if other < number}
    sees = {}
    for other, connection in connections.items():
        connection.send((number, arenas[other] is not None))
    while len(connections) < len(arenas):
        greeting = door.greeting(MEET_S)
        if greeting is None:
            lacking = sorted(arenas.keys() - connections.keys())
            raise XcorrError(f"worker {number} at {_shown(places[number])} was not reached by workers {lacking}")
        connection, (other, sees[other]) = greeting
        connection.send(arenas[other] is not None)
        connections[other] = connection
    for other, connection in connections.items():
        if other < number:
            sees[other] = connection.recv()
    return [Peer(other, _socket(connections[other]), arenas[other], sees[other]) for other in sorted(arenas)]


def _connect(key: bytes, number: int, other: int, place: Place) -> Connection:
    try:
        return Client(place.address, authkey=key)
    except (OSError, EOFError, AuthenticationError) as error:
        raise XcorrError(
            f"worker {number} cannot connect to worker {other} at {_shown(place)} ({type(error).__name__}: {error}); "
            "Dask workers must be able to connect to each other, at any port"
        ) from error


def _shown(place: Place) -> str:
    return f"{place.address[0]}:{place.address[1]}"


def _arena_of(place: Place) -> int | None:
    """Return a descriptor of another worker's arena, or None if it cannot be opened: it is on another host."""
    if place.host != host_id():
        return None
    try:
        descriptor = os.open(f"/proc/{place.process}/fd/{place.arena}", os.O_RDWR)
    except OSError:
        return None  # another container of this host, or a system without /proc
    if _identity(descriptor) != place.identity:
        os.close(descriptor)
        return None
    return descriptor


def _socket(connection: Connection) -> socket.socket:
    found = socket.socket(fileno=os.dup(connection.fileno()))
    connection.close()
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # small messages are sent together here already
    return found
