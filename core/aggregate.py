"""Aggregations over a stream, and their parallel (map, then reduce) composites, under dispel4py's names.

Values come from positions ``indexes`` of each item and are written once, in ``postprocess``. Without any
item the extrema, averages and deviations are written as None. The standard deviation is the sample's
(n - 1), merged over instances by Chan, Golub & LeVeque (1983), Am. Stat. 37(3), eq. 2.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from xcorr.core.element import GenericPE
from xcorr.core.graph import WorkflowGraph


class AggregatePE(GenericPE):
    """Base: one input, one output, a list of values over ``indexes``, written at the end."""

    INPUT_NAME = "input"
    OUTPUT_NAME = "output"

    def __init__(self, indexes: Sequence[int] = (0,)) -> None:
        super().__init__()
        self._add_input(self.INPUT_NAME)
        self._add_output(self.OUTPUT_NAME)
        self.indexes = list(indexes)
        self.value: list[Any] = [0 for _ in self.indexes]

    def _postprocess(self) -> None:
        self.write(self.OUTPUT_NAME, self.value)


class CountPE(AggregatePE):
    """Counts items: writes ``[count]``."""

    def __init__(self) -> None:
        super().__init__([0])

    def _process(self, inputs: dict[str, Any]) -> None:
        self.value = [self.value[0] + 1]


class SumPE(AggregatePE):
    """Sums each indexed position."""

    def _process(self, inputs: dict[str, Any]) -> None:
        item = inputs[self.INPUT_NAME]
        self.value = [v + item[i] for v, i in zip(self.value, self.indexes, strict=True)]


class _ExtremumPE(AggregatePE):
    choose: Callable[..., Any]

    def __init__(self, indexes: Sequence[int] = (0,)) -> None:
        super().__init__(indexes)
        self.value = [None for _ in self.indexes]

    def _process(self, inputs: dict[str, Any]) -> None:
        item = inputs[self.INPUT_NAME]
        found = [item[i] for i in self.indexes]
        pairs = [[x for x in pair if x is not None] for pair in zip(self.value, found, strict=True)]
        self.value = [type(self).choose(pair) if pair else None for pair in pairs]


class MaxPE(_ExtremumPE):
    """Largest value of each indexed position."""

    choose = max


class MinPE(_ExtremumPE):
    """Smallest value of each indexed position."""

    choose = min


class ContinuousReducePE(AggregatePE):
    """Writes its current ``value`` after every item; override ``_process(item)`` to update it."""

    def process(self, inputs: dict[str, Any]) -> None:
        """Update with one item and write the value."""
        self._process(inputs[self.INPUT_NAME])
        # a copy: receivers here get the object itself, and its list may change
        self.write(self.OUTPUT_NAME, list(self.value))

    def _postprocess(self) -> None:
        """Write nothing, because every item has been written already."""


class AverageParallelPE(AggregatePE):
    """Average of position ``index``: writes ``[average, count, sum]``."""

    def __init__(self, index: int = 0) -> None:
        super().__init__([index])
        self.index = index
        self.sum: Any = 0
        self.count = 0

    def _process(self, inputs: dict[str, Any]) -> None:
        self.sum += inputs[self.INPUT_NAME][self.index]
        self.count += 1

    def _postprocess(self) -> None:
        average = self.sum / self.count if self.count else None
        self.write(self.OUTPUT_NAME, [average, self.count, self.sum])


class AverageReducePE(AverageParallelPE):
    """Merges the ``[average, count, sum]`` of several instances."""

    def __init__(self) -> None:
        super().__init__()
        self._add_input(self.INPUT_NAME, grouping="global")

    def _process(self, inputs: dict[str, Any]) -> None:
        _, count, total = inputs[self.INPUT_NAME]
        self.count += count
        self.sum += total


class StdDevPE(AggregatePE):
    """Sample standard deviation of position ``index``: ``(deviation, count, sum, sum_squared, squares)``.

    ``squares`` is the sum of squared differences from the mean. With it instances are merged without loss of digits.
    With fewer than two items the deviation is None.
    """

    def __init__(self, index: int = 0) -> None:
        super().__init__([index])
        self.index = index
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def _process(self, inputs: dict[str, Any]) -> None:
        self._merge(1, float(inputs[self.INPUT_NAME][self.index]), 0.0)

    def _merge(self, count: int, mean: float, squares: float) -> None:
        total = self.count + count
        if count:
            difference = mean - self.mean
            self.squares += squares + difference**2 * self.count * count / total
            self.mean += difference * count / total
            self.count = total

    def _postprocess(self) -> None:
        deviation = math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else None
        total, sum_squared = self.mean * self.count, self.squares + self.mean**2 * self.count
        self.write(self.OUTPUT_NAME, (deviation, self.count, total, sum_squared, self.squares))


class StdDevReducePE(StdDevPE):
    """Merges what several instances of :class:`StdDevPE` write."""

    def __init__(self) -> None:
        super().__init__()
        self._add_input(self.INPUT_NAME, grouping="global")

    def _process(self, inputs: dict[str, Any]) -> None:
        _, count, total, _, squares = inputs[self.INPUT_NAME]
        self._merge(count, total / count if count else 0.0, squares)


def parallel_aggregate(instance: GenericPE, reducer: GenericPE) -> WorkflowGraph:
    """Return a composite: any number of ``instance`` copies, all-to-one into a single ``reducer``."""
    reducer.inputconnections[AggregatePE.INPUT_NAME]["grouping"] = "global"
    reducer.numprocesses = 1  # a further instance would get no items, and write an empty result
    composite = WorkflowGraph()
    composite.connect(instance, AggregatePE.OUTPUT_NAME, reducer, AggregatePE.INPUT_NAME)
    composite.inputmappings = {"input": (instance, AggregatePE.INPUT_NAME)}
    composite.outputmappings = {"output": (reducer, AggregatePE.OUTPUT_NAME)}
    return composite


def parallelCount() -> WorkflowGraph:
    """Count items over any number of instances."""
    reducer = SumPE([0])
    reducer._suggest_name("CountReduce")
    return parallel_aggregate(CountPE(), reducer)


def parallelSum(indexes: Sequence[int] = (0,)) -> WorkflowGraph:
    """Sum the indexed positions over any number of instances."""
    return parallel_aggregate(SumPE(indexes), SumPE(range(len(indexes))))


def parallelMin(indexes: Sequence[int] = (0,)) -> WorkflowGraph:
    """Minimum of the indexed positions over any number of instances."""
    return parallel_aggregate(MinPE(indexes), MinPE(range(len(indexes))))


def parallelMax(indexes: Sequence[int] = (0,)) -> WorkflowGraph:
    """Maximum of the indexed positions over any number of instances."""
    return parallel_aggregate(MaxPE(indexes), MaxPE(range(len(indexes))))


def parallelAvg(index: int = 0) -> WorkflowGraph:
    """Average of one position over any number of instances."""
    return parallel_aggregate(AverageParallelPE(index), AverageReducePE())


def parallelStdDev(index: int = 0) -> WorkflowGraph:
    """Sample standard deviation of one position over any number of instances."""
    return parallel_aggregate(StdDevPE(index), StdDevReducePE())
