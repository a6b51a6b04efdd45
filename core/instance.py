"""One copy of an element at work, with its inbox, its routes and its error texts."""

from __future__ import annotations

import copy
import reprlib
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from xcorr.core.element import GenericPE
from xcorr.core.errors import ElementError, GraphError, nearest
from xcorr.core.interrupt import is_interrupt
from xcorr.core.message import Receipt, Token
from xcorr.core.observe import InstanceStatistics
from xcorr.core.plan import Node

Emit = Callable[[str, Any], None]


class Instance:
    """One copy of an element, with the items that wait for it and the routes of its outputs."""

    def __init__(self, node: Node, index: int, worker: int) -> None:
        self.node, self.index = node, index
        try:
            element = copy.deepcopy(node.element)
        except BaseException as error:
            if is_interrupt(error):
                raise
            raise GraphError(
                f"element {node.name!r} cannot be copied: {type(error).__name__}: {error}; "
                "create such state in preprocess, not in the constructor"
            ) from error
        element.id, element.instance, element.instances = node.name, index, len(node.workers)
        element.in_common = node.in_common  # after the copy, which has given the instance a dictionary of its own
        self.element: GenericPE = element
        self.process = element.process
        self.emit: Emit
        self.distributed = node.interchangeable  # sources may send items to the instance with the fewest in hand
        self.fails = node.policy.kind == "fail"
        self.inbox: deque[tuple[str, Any, Token | Receipt | None, int, str]] = deque()
        self.upstream = node.upstream
        self.routes: dict[str, list[Callable[[Any], None]]] = {}
        self.statistics = InstanceStatistics(node.name, index, worker, unit=element.unit)

    def unknown_output(self, port: str) -> GraphError:
        """Return the error for writing to an output that does not exist."""
        return GraphError(
            f"element {self.node.name!r} wrote to output {port!r}{nearest(str(port), self.routes)}; "
            f"its outputs are {', '.join(map(repr, self.routes)) or 'none'}"
        )

    def describe_failure(self, phase: str, error: BaseException, inputs: dict[str, Any]) -> ElementError:
        """Return the error that names this instance, the item and the cause."""
        failure = ElementError(
            self.node.name,
            phase,
            self.index,
            len(self.node.workers),
            _shortened(inputs) if inputs else "",
            _described(error),
            _traceback_of(error),
        )
        failure.__cause__ = error
        return failure


def _described(error: BaseException) -> str:
    """Return an error's name and text."""
    try:
        return "".join(traceback.format_exception_only(error)).strip()
    except BaseException as another:
        if is_interrupt(another):
            raise
        return f"{type(error).__name__} (its text cannot be made: {type(another).__name__})"


def _traceback_of(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException as another:  # the text of the error cannot be made; the name of its class is known
        if is_interrupt(another):
            raise
        return "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__


def _shortened(inputs: dict[str, Any]) -> str:
    try:
        return reprlib.repr(inputs)
    except BaseException as error:  # an item whose repr fails must not hide the failure that is being described
        if is_interrupt(error):
            raise
        return f"<{type(inputs).__name__} whose repr raises {type(error).__name__}>"


class Collect:
    """Keeps the items of an unconnected output for the caller."""

    def __init__(self, results: dict[str, dict[str, list[Any]]], element: str, port: str) -> None:
        self.results, self.element, self.port = results, element, port

    def __call__(self, data: Any) -> None:
        """Keep one item."""
        self.results.setdefault(self.element, {}).setdefault(self.port, []).append(data)
