"""Observers watch a run through one small interface; watching never changes anything."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass
class InstanceStatistics:
    """What one instance of an element did: items received and written, skipped and retried, seconds of its own."""

    element: str
    instance: int
    worker: int
    received: int = 0
    written: int = 0
    skipped: int = 0
    retried: int = 0
    seconds: float = 0.0


class Observer:
    """Receives the events of a run in each worker; override what you need.

    The items passed are the very objects that flow: look, never change. An observer that raises ends the run.
    """

    def started(self, plan: Any, worker: int) -> None:
        """Note that a worker is about to begin."""

    def received(self, statistics: InstanceStatistics, port: str, item: Any) -> None:
        """Note that an instance is about to work on an item."""

    def wrote(self, statistics: InstanceStatistics, port: str, item: Any) -> None:
        """Note that an instance wrote an item."""

    def skipped(self, statistics: InstanceStatistics, inputs: dict[str, Any], error: Exception) -> None:
        """Note that an item was dropped under ``on_error = "skip"``."""

    def ended(self, statistics: list[InstanceStatistics]) -> None:
        """Note that the worker has finished all its instances."""
