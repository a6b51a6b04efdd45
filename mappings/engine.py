"""The interface of a mapping, with all that other code needs to know about a mapping.

A mapping is a class with an entry point in the group ``xcorr.mappings``. No other code uses its name.
"""

from __future__ import annotations

import abc
import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from xcorr.core import Observer, Plan
from xcorr.core.observe import InstanceStatistics, WorkerStatistics
from xcorr.core.options import NoOptions


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome of a run.

    ``results`` holds ``{element id: {output: [items]}}`` of the outputs that are not connected. ``workers`` holds the
    statistics of every worker.
    """

    results: dict[str, dict[str, list[Any]]]
    workers: list[WorkerStatistics]

    @property
    def statistics(self) -> list[InstanceStatistics]:
        """The numbers of every instance, in the order of the plan."""
        return [i for w in self.workers for i in w.instances]


@dataclasses.dataclass(frozen=True)
class Costs:
    """The costs of a mapping, for forecasts. They are measured; ``benchmarks/speed.py --only plan`` checks forecasts.

    share : share of each worker's time that is spent inside elements.
    imports : time until all workers have imported their modules, in multiples of the time of a single process.
    start_s : more seconds to start and end.
    process_mb : memory of each process before it has any data (MB).
    between_mb : memory of the items under way between elements, for each worker (MB).
    """

    share: float = 0.8
    imports: float = 2.0
    start_s: float = 0.35
    process_mb: float = 150.0
    between_mb: float = 16.0


class Engine(abc.ABC):
    """Executes a plan.

    Class attributes
    ----------------
    costs : costs of the mapping, for forecasts.
    one_process : True if all workers are in this process and share its memory.
    one_machine : True if all workers are on this machine, so that its memory limits the run.
    most_workers : largest number of workers; None: any number.
    attempts : how many times, in all, a campaign tries a run in which workers die. Stored results are kept.
    Options : a dataclass of :func:`xcorr.core.options.option` with the parameters of the constructor. In settings an
        option is called ``run.MAPPING.NAME``.
    """

    costs: ClassVar[Costs] = Costs()
    one_process: ClassVar[bool] = False
    one_machine: ClassVar[bool] = True
    most_workers: ClassVar[int | None] = None
    attempts: ClassVar[int] = 1
    Options: ClassVar[type[Any]] = NoOptions

    @abc.abstractmethod
    def execute(self, plan: Plan, observers: Sequence[Observer] = ()) -> Outcome:
        """Run the plan to its end. Raises ElementError when an element fails."""

    def choose_workers(self, asked: int | None) -> int:
        """Return how many workers a run will have: the number asked for, or the cores this process may use."""
        return asked or available_cores()

    def warm_up(self, modules: Sequence[str]) -> None:  # noqa: B027
        """Prepare workers for elements of these modules, in the background. By default this does nothing."""

    def lead(self, program: Callable[[], int]) -> int:
        """Call a program that makes runs, and return its result. If many processes run it, only one calls it."""
        return program()


def available_cores() -> int:
    """Return the number of cores this process may use."""
    # cpu_count also counts cores that this process may not use
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def tell_progress(observers: Sequence[Observer], workers: Sequence[WorkerStatistics], finished: bool = False) -> None:
    """Show the latest numbers of all workers to the observers."""
    for observer in observers:
        observer.progress(workers, finished)


def merge_results(parts: Sequence[dict[str, dict[str, list[Any]]]]) -> dict[str, dict[str, list[Any]]]:
    """Return the results of all workers as one."""
    merged: dict[str, dict[str, list[Any]]] = {}
    for part in parts:
        for element, ports in part.items():
            for port, items in ports.items():
                merged.setdefault(element, {}).setdefault(port, []).extend(items)
    return merged
