"""Runs a graph on a mapping chosen by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

from xcorr.core import Observer, Plan, WorkflowGraph, make_plan
from xcorr.core.observe import InstanceStatistics
from xcorr.core.plan import Inputs
from xcorr.core.registry import load


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run gives back.

    ``results`` holds ``{element id: {output: [items]}}`` of the outputs that nothing is connected to,
    ``statistics`` one entry per instance.
    """

    results: dict[str, dict[str, list[Any]]]
    statistics: list[InstanceStatistics]


class Mapping(Protocol):
    """Executes a plan."""

    def execute(self, plan: Plan, observers: Sequence[Observer] = ()) -> Outcome:
        """Run the plan to its end. Raises ElementError when an element fails."""

    def choose_workers(self, asked: int | None) -> int:
        """Return how many workers a run will have when ``asked`` are wanted (None: as many as useful)."""


def run(
    graph: WorkflowGraph,
    inputs: Inputs | None = None,
    mapping: str = "sequential",
    workers: int | None = None,
    observers: Sequence[Observer] = (),
) -> Outcome:
    """Run a workflow graph and return its results and statistics.

    ``inputs`` maps roots (element, id or name) to a number of iterations or a list of input dictionaries.
    Raises GraphError for a graph that cannot be run, RegistryError for an unknown mapping, and ElementError,
    with the original traceback, when an element fails.
    """
    engine: Mapping = load("mappings", mapping)()
    return engine.execute(make_plan(graph, engine.choose_workers(workers), inputs), observers)
