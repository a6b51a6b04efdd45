"""The messages between the workers of a run, and the interface of the transport that a mapping provides."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from xcorr.core.errors import ElementError, XcorrError
from xcorr.core.observe import WorkerStatistics

ITEM, END, TAKEN, DONE, STOP = range(5)


class Message(NamedTuple):
    """A message from one worker to another.

    ``ITEM``: an item for ``node``, ``instance``, ``port``, numbered by its sender. ``END``: one upstream instance of
    ``node`` has ended. ``TAKEN``: the items with the numbers in ``data`` have been processed. ``DONE``: these
    items, and all items made from them, have been processed. ``STOP``: give up.
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
        """Push out sent messages and return those that have arrived. With ``block``, wait a while for one."""


class Token:
    """Counts the unfinished items of one group; calls ``done`` at zero."""

    __slots__ = ("done", "pending")

    def __init__(self, done: Callable[[], None]) -> None:
        # 1 is for the sender, so that the group cannot end before the item is written
        self.pending, self.done = 1, done

    def release(self) -> None:
        """Note that one thing is finished."""
        self.pending -= 1
        if not self.pending:
            self.done()


class Receipt:
    """Counts the unfinished items that come from one received item. At zero its number goes to ``finished``."""

    __slots__ = ("finished", "number", "pending")

    def __init__(self, number: int, finished: list[int]) -> None:
        self.pending, self.number, self.finished = 1, number, finished  # 1 is for the received item itself

    def release(self) -> None:
        """Note that one thing is finished."""
        self.pending -= 1
        if not self.pending:
            self.finished.append(self.number)


class Stopped(XcorrError, RuntimeError):
    """A worker was told to give up, because another failed."""


class WorkerDied(XcorrError, RuntimeError):
    """A worker ended without a report: it was killed, or out of memory."""


class Abort(BaseException):
    """Unwinds a worker; not an Exception, so that no element can catch it by accident."""


class Report(NamedTuple):
    """A report of a worker to its coordinator: statistics or a log record, at the end its results or its failure."""

    worker: int
    statistics: WorkerStatistics
    results: dict[str, dict[str, list[Any]]] | None = None
    failure: ElementError | XcorrError | None = None
    said: logging.LogRecord | None = None
