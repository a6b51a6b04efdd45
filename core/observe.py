"""Observers receive the events of a run through one small interface, and never change the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(slots=True)
class InstanceStatistics:
    """The numbers of one instance: items received, written, skipped and retried, and seconds in its own code.

    ``units`` is the element's own count, in its ``unit``.
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
    """The numbers of one worker: its instances, seconds since its start, CPU seconds spent inside elements.

    ``moved`` counts, for each connection ``source -> target``, the items and bytes sent to other workers.
    """

    worker: int
    instances: list[InstanceStatistics]
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    moved: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)


class Observer:
    """Receives the events of a run; override what you need.

    :meth:`at_work` is called in every worker, and returns the observer of this worker. The other methods are called on
    that observer. Only :meth:`progress` is called where ``run`` was called. Workers that are processes have copies of
    the observer. The items passed are the same objects that flow, so do not change them. An observer that raises ends
    the run.
    """

    def hears(self, event: str) -> bool:
        """Return whether the method for an event is overridden; else it is not called."""
        return getattr(type(self), event) is not getattr(Observer, event)

    def at_work(self, plan: Any, worker: int) -> Observer:
        """Return the observer of one worker. An observer without state of its own for each worker returns itself."""
        return self

    def started(self, plan: Any, worker: int) -> None:
        """Note that a worker is about to begin."""

    def invoked(self, statistics: InstanceStatistics, inputs: dict[str, Any], origin: str) -> None:
        """Note that an instance begins to process ``{port: item}``, which may be empty for a source.

        ``origin`` is the name that :meth:`wrote` gave to the item, in this worker or another.
        """

    def wrote(self, statistics: InstanceStatistics, port: str, item: Any) -> str | None:
        """Note that an instance wrote an item. A name that this returns travels with the item."""

    def processed(self, statistics: InstanceStatistics) -> None:
        """Note the end of the last invocation that had begun and not ended. Invocations called by it have ended too."""

    def skipped(self, statistics: InstanceStatistics, inputs: dict[str, Any], error: Exception) -> None:
        """Note that an item was dropped under ``on_error = "skip"``."""

    def ended(self, statistics: list[InstanceStatistics]) -> None:
        """Note that the worker has finished all its instances."""

    def failed(self, error: BaseException) -> None:
        """Note that the worker gives up, because its own element failed or because it was told to."""

    def progress(self, workers: Sequence[WorkerStatistics], finished: bool) -> None:
        """Receive the latest numbers of all workers, about twice a second and at the end, where ``run`` was called."""
