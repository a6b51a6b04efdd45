"""Runs a graph on a mapping chosen by name."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from xcorr.core import Observer, Plan, WorkflowGraph, make_plan
from xcorr.core.observe import InstanceStatistics, WorkerStatistics
from xcorr.core.plan import Inputs
from xcorr.core.registry import load


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run gives back.

    ``results`` holds ``{element id: {output: [items]}}`` of the outputs that nothing is connected to,
    ``workers`` the numbers of every worker.
    """

    results: dict[str, dict[str, list[Any]]]
    workers: list[WorkerStatistics]

    @property
    def statistics(self) -> list[InstanceStatistics]:
        """The numbers of every instance, in the order of the plan."""
        return [i for w in self.workers for i in w.instances]


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


class Engine(Protocol):
    """Executes a plan."""

    def execute(self, plan: Plan, observers: Sequence[Observer] = ()) -> Outcome:
        """Run the plan to its end. Raises ElementError when an element fails."""

    def choose_workers(self, asked: int | None) -> int:
        """Return how many workers a run will have when ``asked`` are wanted (None: as many as useful)."""


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def warm_up(mapping: str, modules: Sequence[str]) -> None:
    """Let a mapping prepare for elements of these modules, if it can, while the caller does something else."""
    prepare = getattr(load("mappings", mapping)(), "warm_up", None)
    if prepare is not None:
        prepare(modules)


def run(
    graph: WorkflowGraph,
    inputs: Inputs | None = None,
    mapping: str = "sequential",
    workers: int | None = None,
    observers: Sequence[Observer] = (),
    options: Mapping[str, Any] | None = None,
) -> Outcome:
    """Run a workflow graph and return its results and statistics.

    ``inputs`` maps roots (element, id or name) to a number of iterations or a list of input dictionaries;
    ``options`` are the mapping's own, such as ``{"nimbus": "host:6627"}`` of storm.
    Raises GraphError for a graph that cannot be run, RegistryError for an unknown mapping, and ElementError,
    with the original traceback, when an element fails.
    """
    engine: Engine = load("mappings", mapping)(**(options or {}))
    return engine.execute(make_plan(graph, engine.choose_workers(workers), inputs), observers)
