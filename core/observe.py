"""Observers watch a run through one small interface; watching never changes anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(slots=True)
class InstanceStatistics:
    """What one instance of an element did: items received and written, skipped and retried, seconds of its own.

    ``units`` counts what the element itself says it counts, its ``unit``.
    """

    element: str
    instance: int
    worker: int
    received: int = 0
    written: int = 0
    skipped: int = 0
    retried: int = 0
    seconds: float = 0.0
    unit: str = ""
    units: float = 0.0


@dataclasses.dataclass
class WorkerStatistics:
    """What one worker did: its instances, seconds since its start, CPU seconds spent inside elements.

    ``moved`` counts, for each connection ``source -> target``, the items and bytes sent to other workers.
    """

    worker: int
    instances: list[InstanceStatistics]
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    moved: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)


class Observer:
    """Receives the events of a run; override what you need.

    All methods but :meth:`progress` are called in the workers, on what :meth:`at_work` returned there; where workers
    are processes they have copies of the observer. The items passed are the very objects that flow: look, never
    change. An observer that raises ends the run.
    """

    def hears(self, event: str) -> bool:
        """Return whether the method for an event is overridden; else it is not called."""
        return getattr(type(self), event) is not getattr(Observer, event)

    def at_work(self, plan: Any, worker: int) -> Observer:
        """Return the observer of one worker, which may keep what is that worker's own: itself if it keeps nothing."""
        return self

    def started(self, plan: Any, worker: int) -> None:
        """Note that a worker is about to begin."""

    def invoked(self, statistics: InstanceStatistics, inputs: dict[str, Any], origin: str) -> None:
        """Note that an instance is about to work on ``{port: item}``, in a source possibly without an item.

        ``origin`` is the name that :meth:`wrote` gave the item, wherever that was.
        """

    def wrote(self, statistics: InstanceStatistics, port: str, item: Any) -> str | None:
        """Note that an instance wrote an item; a name given to it travels with it."""

    def processed(self, statistics: InstanceStatistics) -> None:
        """Note the end of the last invocation that has begun and not ended, and of everything called by it."""

    def skipped(self, statistics: InstanceStatistics, inputs: dict[str, Any], error: Exception) -> None:
        """Note that an item was dropped under ``on_error = "skip"``."""

    def ended(self, statistics: list[InstanceStatistics]) -> None:
        """Note that the worker has finished all its instances."""

    def failed(self, error: BaseException) -> None:
        """Note that the worker gives up: an element of its own failed, or it was told to."""

    def progress(self, workers: Sequence[WorkerStatistics], finished: bool) -> None:
        """Look at the latest numbers of all workers; called where ``run`` was, about twice a second and at the end."""
