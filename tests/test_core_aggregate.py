"""Aggregates against NumPy."""

import numpy as np
import pytest

from xcorr.core import IterativePE, WorkflowGraph, aggregate
from xcorr.mappings import process_and_return

VALUES = [-7.5, -3.0, -11.25, -0.5, -2.0]


class Items(IterativePE):
    def _process(self, data):
        return data


def result_of(element, rows, instances=1):
    source = Items()
    graph = WorkflowGraph()
    graph.connect(source, "output", element, "input")
    for e in graph.elements():
        if type(e).__name__ in ("CountPE", "SumPE", "MinPE", "MaxPE", "AverageParallelPE", "StdDevPE"):
            e.numprocesses = instances if not e.inputconnections["input"].get("grouping") else 1
    results = process_and_return(graph, {source: [{"input": r} for r in rows]})
    (ports,) = results.values()
    (value,) = ports["output"]
    return value


ROWS = [("x", v) for v in VALUES]


@pytest.mark.parametrize("instances", [1, 2, 7])
def test_against_numpy(instances):
    assert result_of(aggregate.parallelCount(), ROWS, instances) == [5]
    assert result_of(aggregate.parallelSum([1]), ROWS, instances) == [sum(VALUES)]
    assert result_of(aggregate.parallelMin([1]), ROWS, instances) == [min(VALUES)]
    assert result_of(aggregate.parallelMax([1]), ROWS, instances) == [max(VALUES)]
    assert result_of(aggregate.parallelAvg(1), ROWS, instances) == [np.mean(VALUES), 5, sum(VALUES)]
    deviation, count, total, squares, _ = result_of(aggregate.parallelStdDev(1), ROWS, instances)
    np.testing.assert_allclose(
        [deviation, total, squares], [np.std(VALUES, ddof=1), sum(VALUES), np.dot(VALUES, VALUES)]
    )
    assert count == 5


def test_deviation_of_large_numbers_keeps_its_digits():
    rows = [(1e9 + v,) for v in VALUES]
    assert result_of(aggregate.StdDevPE(), rows)[0] == pytest.approx(np.std(VALUES, ddof=1), rel=1e-6)


def test_nothing_in():
    assert result_of(aggregate.MaxPE([0]), []) == [None]
    assert result_of(aggregate.AverageParallelPE(), []) == [None, 0, 0]
    assert result_of(aggregate.StdDevPE(), [])[0] is None


def test_continuous():
    class Running(aggregate.ContinuousReducePE):
        def _process(self, data):
            self.value = [self.value[0] + data]

    source = Items()
    graph = WorkflowGraph()
    graph.connect(source, "output", Running(), "input")
    results = process_and_return(graph, {source: [{"input": i} for i in (1, 2, 3)]})
    assert results == {"Running": {"output": [[1], [3], [6]]}}
