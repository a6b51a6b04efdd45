"""Test doubles for workflows: a list as source and sink, scripted failures, slow elements, the contract of elements."""

from __future__ import annotations

import copy
import pickle
import time
from collections.abc import Iterable, Sequence
from typing import Any

from xcorr.core.element import GenericPE
from xcorr.core.errors import GraphError
from xcorr.core.grouping import parse_grouping
from xcorr.core.patterns import IterativePE, ProducerPE


class ListSource(ProducerPE):
    """Writes the items of a list, in order."""

    def __init__(self, items: Iterable[Any]) -> None:
        super().__init__()
        self.items = list(items)

    def _process(self) -> None:  # type: ignore[override]
        for item in self.items:
            self.write(self.OUTPUT_NAME, item)


class ListSink(GenericPE):
    """Keeps all items and writes them as one list at the end, so that ``run`` returns the list."""

    def __init__(self, numprocesses: int = 1, grouping: Any = None) -> None:
        super().__init__(numprocesses)
        self._add_input("input", grouping=grouping)
        self._add_output("output")

    def preprocess(self) -> None:
        """Begin with an empty list."""
        self._received: list[Any] = []

    def process(self, inputs: dict[str, Any]) -> None:
        """Keep an item."""
        self._received.append(inputs["input"])

    def postprocess(self) -> None:
        """Write the list."""
        self.write("output", self._received)


class ScriptedError(RuntimeError):
    """The error that :class:`ScriptedFailure` raises."""


class ScriptedFailure(IterativePE):
    """Passes items on, and raises in a given phase; in ``process`` at the items listed, ``times`` times in all."""

    def __init__(
        self, phase: str = "process", at: Sequence[Any] = (), times: int | None = None, on_error: str = "fail"
    ) -> None:
        super().__init__()
        self.phase = phase
        self.at = list(at)
        self.times = times
        self.on_error = on_error

    def preprocess(self) -> None:
        """Raise if told to."""
        self._left = self.times
        if self.phase == "preprocess":
            raise ScriptedError("scripted failure in preprocess")

    def _process(self, data: Any) -> Any:
        if self.phase == "process" and data in self.at and self._left != 0:
            if self._left is not None:
                self._left -= 1
            raise ScriptedError(f"scripted failure at {data!r}")
        return data

    def postprocess(self) -> None:
        """Raise if told to."""
        if self.phase == "postprocess":
            raise ScriptedError("scripted failure in postprocess")


class Slow(IterativePE):
    """Passes items on, each after ``seconds``."""

    stateless = True

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def _process(self, data: Any) -> Any:
        time.sleep(self.seconds)
        return data


def check_element(element: GenericPE) -> None:
    """Check the rules for elements. Raises AssertionError, with the rule, if the element breaks one.

    Ports have the names of their keys; groupings are known; the element can be copied and pickled; a copy has the same
    parameters; a write outside of a run raises GraphError.
    """
    for ports in (element.inputconnections, element.outputconnections):
        for name, port in ports.items():
            assert port["name"] == name, f"port {name!r} calls itself {port['name']!r}"
    for name, port in element.inputconnections.items():
        parse_grouping(port.get("grouping"), f"input {name!r}")
    assert element.inputconnections or element.outputconnections, "the element has no port"
    assert element.numprocesses >= 1, "numprocesses is below 1"
    twins = copy.deepcopy(element), pickle.loads(pickle.dumps(element, 5))
    for twin in twins:
        assert type(twin) is type(element), "a copy is of another class"
        assert vars(twin).keys() == vars(element).keys(), "a copy has other attributes"
        assert repr(twin.inputconnections) == repr(element.inputconnections), "a copy has other inputs"
    try:
        element.write(next(iter(element.outputconnections), "output"), None)
    except GraphError:
        return
    raise AssertionError("the element writes while it is not running")
