"""Workflows of processing elements: described once, run unchanged on every mapping.

The programming model is dispel4py's (Filgueira et al. 2017, Int. J. High Perform. Comput. Appl. 31(4)): a
dispel4py workflow runs after changing its import lines. Only the standard library is needed.
"""

from xcorr.core.element import GenericPE
from xcorr.core.errors import ElementError, GraphError, WorkflowLoadError, XcorrError
from xcorr.core.graph import CompositePE, WorkflowGraph
from xcorr.core.grouping import GroupBy, MultiKey, stable_hash
from xcorr.core.observe import Observer
from xcorr.core.patterns import (
    BasePE,
    ConsumerPE,
    IterativePE,
    ProducerPE,
    SimpleFunctionPE,
    create_iterative_chain,
)
from xcorr.core.plan import Plan, make_plan

__all__ = [
    "BasePE",
    "CompositePE",
    "ConsumerPE",
    "ElementError",
    "GenericPE",
    "GraphError",
    "GroupBy",
    "IterativePE",
    "MultiKey",
    "Observer",
    "Plan",
    "ProducerPE",
    "SimpleFunctionPE",
    "WorkflowGraph",
    "WorkflowLoadError",
    "XcorrError",
    "create_iterative_chain",
    "make_plan",
    "stable_hash",
]
