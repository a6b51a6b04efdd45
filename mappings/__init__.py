"""Ways to run a workflow graph. A mapping only moves messages between workers, which all run the loop of the core."""

from __future__ import annotations

from typing import Any

from xcorr.core import Observer, WorkflowGraph
from xcorr.core.plan import Inputs
from xcorr.mappings.engine import Costs, Engine, Outcome
from xcorr.mappings.run import engine, run

__all__ = ["Costs", "Engine", "Inputs", "Observer", "Outcome", "engine", "process_and_return", "run"]


def process_and_return(graph: WorkflowGraph, inputs: Inputs | None = None) -> dict[str, dict[str, list[Any]]]:
    """Run a graph on the sequential mapping and return its unconnected outputs (dispel4py's name)."""
    return run(graph, inputs).results
