"""Elements for the usual patterns: iterative, producer, consumer, function, and chains of functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from xcorr.core.element import GenericPE
from xcorr.core.graph import WorkflowGraph


class BasePE(GenericPE):
    """An element whose ports are given as names or as numbers of ports ``input0``, ``output0``, ..."""

    INPUT_NAME = "input"
    OUTPUT_NAME = "output"

    def __init__(
        self,
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        num_inputs: int = 0,
        num_outputs: int = 0,
    ) -> None:
        super().__init__()
        for name in [f"{self.INPUT_NAME}{i}" for i in range(num_inputs)] + list(inputs):
            self._add_input(name)
        for name in [f"{self.OUTPUT_NAME}{i}" for i in range(num_outputs)] + list(outputs):
            self._add_output(name)


class IterativePE(GenericPE):
    """One input, one output: what ``_process(item)`` returns is written unless it is None.

    It has one instance, so it may keep state. With ``stateless = True`` it keeps no state, and has one per worker.
    """

    INPUT_NAME = "input"
    OUTPUT_NAME = "output"

    def __init__(self) -> None:
        super().__init__()
        self._add_input(IterativePE.INPUT_NAME)
        self._add_output(IterativePE.OUTPUT_NAME)

    def process(self, inputs: dict[str, Any]) -> dict[str, Any] | None:
        """Pass the item to ``_process`` and return what it returns."""
        result = self._process(inputs["input"])
        return None if result is None else {self.OUTPUT_NAME: result}


class ProducerPE(GenericPE):
    """A source: no input, one output. ``_process(self)`` or ``_process(self, inputs)`` runs once per iteration."""

    OUTPUT_NAME = "output"

    def __init__(self) -> None:
        super().__init__()
        self._add_output(ProducerPE.OUTPUT_NAME)

    def process(self, inputs: dict[str, Any]) -> dict[str, Any] | None:
        """Call ``_process`` with or without the inputs, as it is declared."""
        result = self._process(inputs) if _takes_inputs(type(self)._process) else self._process()  # type: ignore[call-arg]
        return None if result is None else {self.OUTPUT_NAME: result}


class ConsumerPE(GenericPE):
    """One input, no output."""

    INPUT_NAME = "input"

    def __init__(self) -> None:
        super().__init__()
        self._add_input(ConsumerPE.INPUT_NAME)

    def process(self, inputs: dict[str, Any]) -> None:
        """Pass the item to ``_process``."""
        self._process(inputs["input"])


class SimpleFunctionPE(IterativePE):
    """Applies ``compute_fn(item, **params)``, which depends on the item alone."""

    stateless = True

    def __init__(self, compute_fn: Callable[..., Any] | None = None, params: dict[str, Any] | None = None) -> None:
        super().__init__()
        if compute_fn is not None:
            self._suggest_name(f"PE_{compute_fn.__name__}")
        self.compute_fn = compute_fn
        self.params = {} if params is None else params

    def _process(self, data: Any) -> Any:
        assert self.compute_fn is not None, "SimpleFunctionPE has no function"
        return self.compute_fn(data, **self.params)


@functools.cache
def _takes_inputs(method: Callable[..., Any]) -> bool:
    parameters = list(inspect.signature(method).parameters.values())
    return len(parameters) > 1 or any(p.kind is p.VAR_POSITIONAL for p in parameters)


def create_iterative_chain(
    functions: Iterable[Any],
    FunctionPE_class: Callable[..., Any] = SimpleFunctionPE,
    name_prefix: str = "PE_",
    name_suffix: str = "",
) -> WorkflowGraph:
    """Return a composite with ports ``input`` and ``output`` that applies functions one after another.

    Each entry is a function or a pair ``(function, params)``. ``FunctionPE_class`` is called without
    arguments, or with the function if it requires one. Raises ValueError if there is no function.
    """
    graph = WorkflowGraph()
    previous: GenericPE | None = None
    first: GenericPE | None = None
    for entry in functions:
        function, params = entry if isinstance(entry, tuple | list) else (entry, {})
        needs_function = any(
            p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
            for p in inspect.signature(FunctionPE_class).parameters.values()
        )
        element = FunctionPE_class(function) if needs_function else FunctionPE_class()
        element.compute_fn, element.params = function, params
        element._suggest_name(name_prefix + function.__name__ + name_suffix)
        if previous is None:
            first = element
            graph.add(element)
        else:
            graph.connect(previous, IterativePE.OUTPUT_NAME, element, IterativePE.INPUT_NAME)
        previous = element
    if first is None or previous is None:
        raise ValueError("create_iterative_chain needs at least one function")
    graph.inputmappings = {"input": (first, IterativePE.INPUT_NAME)}
    graph.outputmappings = {"output": (previous, IterativePE.OUTPUT_NAME)}
    return graph
