"""Runs a graph on a mapping chosen by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xcorr.core import Observer, WorkflowGraph, make_plan
from xcorr.core.installed import load
from xcorr.core.plan import Inputs
from xcorr.mappings.engine import Engine, Outcome


def engine(mapping: str, options: Mapping[str, Any] | None = None) -> Engine:
    """Return the engine of a mapping; ``options`` go to the engine. Raises RegistryError for an unknown mapping."""
    made: Engine = load("mappings", mapping)(**(options or {}))
    return made


def run(
    graph: WorkflowGraph,
    inputs: Inputs | None = None,
    mapping: str = "sequential",
    workers: int | None = None,
    observers: Sequence[Observer] = (),
    options: Mapping[str, Any] | None = None,
) -> Outcome:
    """Run a workflow graph and return its results and statistics.

    ``inputs`` maps roots (element, id or name) to a number of iterations or a list of input dictionaries. ``options``
    are options of the mapping, such as ``{"nimbus": "host:6627"}`` of storm. Raises GraphError for a graph that cannot
    be run, RegistryError for an unknown mapping, and ElementError, with the original traceback, when an element fails.
    """
    on = engine(mapping, options)
    return on.execute(make_plan(graph, on.choose_workers(workers), inputs), observers)
