"""What the workers of a run have between them: messages, and the transport that a mapping provides."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from xcorr.core.errors import ElementError, XcorrError
from xcorr.core.observe import WorkerStatistics

ITEM, END, TAKEN, DONE, STOP = range(5)


class Message(NamedTuple):
    """What one worker sends another.

    ``ITEM``: an item for ``node``, ``instance``, ``port``, numbered by its sender. ``END``: one upstream instance of
    ``node`` has ended. ``TAKEN``: the items numbered in ``data`` have been processed. ``DONE``: so has everything that
    came of them. ``STOP``: give up.
    """

    kind: int
    sender: int
    number: int = 0
    node: int = 0
    instance: int = 0
    port: str = ""
    data: Any = None
    origin: str = ""


class Transport(Protocol):
    """Moves messages between workers, in order for each pair of workers."""

    def send(self, worker: int, message: Message) -> int:
        """Take a message without waiting for its delivery; return its size in bytes."""

    def receive(self, block: bool) -> Sequence[Message]:
        """Push out what was sent and return what has arrived; with ``block``, wait a while for something."""


class Token:
    """Counts what is under way for one group of items; calls ``done`` at zero."""

    __slots__ = ("done", "pending")

    def __init__(self, done: Callable[[], None]) -> None:
        self.pending, self.done = 1, done

    def release(self) -> None:
        """Note that one thing is finished."""
        self.pending -= 1
        if not self.pending:
            self.done()


class Receipt:
    """Counts what is under way for one received item; at zero its number goes to ``finished``."""

    __slots__ = ("finished", "number", "pending")

    def __init__(self, number: int, finished: list[int]) -> None:
        self.pending, self.number, self.finished = 1, number, finished

    def release(self) -> None:
        """Note that one thing is finished."""
        self.pending -= 1
        if not self.pending:
            self.finished.append(self.number)


class Stopped(XcorrError, RuntimeError):
    """A worker was told to give up, because another failed."""


class WorkerDied(XcorrError, RuntimeError):
    """A worker ended without a word: killed, or out of memory."""


class Abort(BaseException):
    """Unwinds a worker; not an Exception, so that no element can catch it by accident."""


class Report(NamedTuple):
    """What a worker tells its coordinator: numbers and what it logs while it runs; then its results, or its failure."""

    worker: int
    statistics: WorkerStatistics
    results: dict[str, dict[str, list[Any]]] | None = None
    failure: ElementError | XcorrError | None = None
    said: logging.LogRecord | None = None
