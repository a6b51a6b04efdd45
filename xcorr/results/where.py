"""Conditions on metadata: ``snr > 10 and distance_km < 50``, ``station in ["XX.A", "XX.B"] or not failed``."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection
from typing import Any, Protocol

import numpy as np

from xcorr.core import XcorrError
from xcorr.core.errors import nearest

OPERATORS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: np.isin(a, list(b)),
    ast.NotIn: lambda a, b: ~np.isin(a, list(b)),
}


class Columns(Protocol):
    """Values, or columns of values, by the name of their field."""

    def __getitem__(self, name: str, /) -> Any:
        """Return a value or a column."""


ALLOWED = "comparisons (==, !=, <, <=, >, >=, in), and, or, not, brackets, numbers, texts and lists"


class ConditionError(XcorrError, ValueError):
    """A condition that cannot be understood, or that cannot be applied to the values."""


class Where:
    """A condition on metadata, checked against the names of the fields.

    Raises ConditionError for a text that is no condition, an unknown operator, or an unknown field.

    >>> Where("snr > 10 and not failed", ("snr", "failed"))({"snr": 12.0, "failed": False})
    True
    """

    def __init__(self, text: str, fields: Collection[str]) -> None:
        self.text, self.fields = text, fields
        try:
            # checked and computed here, because eval would run any code
            self._tree = ast.parse(text.strip() or "True", mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ConditionError(f"condition {text!r}: not understood ({error}); allowed are {ALLOWED}") from None
        try:
            self._check(self._tree)
        except RecursionError:
            raise ConditionError(f"condition of {len(text)} letters: too deeply nested") from None
        if isinstance(self._tree, ast.List | ast.Tuple) or (
            isinstance(self._tree, ast.Constant) and not isinstance(self._tree.value, bool)
        ):
            raise ConditionError(f"condition {text!r}: is neither true nor false; allowed are {ALLOWED}")

    @property
    def plain(self) -> str:
        """The condition as a text that can be put in brackets beside others."""
        return ast.unparse(self._tree)

    def _check(self, node: ast.AST) -> None:
        if isinstance(node, ast.Name):
            if node.id not in self.fields:
                raise ConditionError(
                    f"condition {self.text!r}: no field {node.id!r}{nearest(node.id, self.fields)}; "
                    f"there are {', '.join(self.fields)}"
                )
            return
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str | int | float | bool):
                return
        elif isinstance(node, ast.Compare) and all(type(op) in OPERATORS for op in node.ops):
            for part in (node.left, *node.comparators):
                self._check(part)
            for op, right in zip(node.ops, node.comparators, strict=True):
                if isinstance(op, ast.In | ast.NotIn) and not isinstance(right, ast.List | ast.Tuple):
                    raise ConditionError(f"condition {self.text!r}: after 'in' write a list, such as ['XX.A', 'XX.B']")
            return
        elif isinstance(node, ast.BoolOp | ast.List | ast.Tuple):
            for part in node.values if isinstance(node, ast.BoolOp) else node.elts:
                self._check(part)
            return
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
            self._check(node.operand)
            return
        raise ConditionError(f"condition {self.text!r}: {ast.unparse(node)!r} is not allowed; allowed are {ALLOWED}")

    def __call__(self, metadata: Columns) -> bool:
        """Return whether one item's metadata pass. Raises ConditionError where values cannot be compared."""
        return bool(self.of_columns(metadata))

    def of_columns(self, columns: Columns) -> Any:
        """Return which rows pass, for columns of values."""
        try:
            found = self._value(self._tree, columns)
        except (TypeError, ValueError) as error:
            raise ConditionError(f"condition {self.text!r}: {error}") from error
        if np.asarray(found).dtype != bool:
            raise ConditionError(f"condition {self.text!r}: is neither true nor false; compare, as in: snr > 10")
        return found

    def _value(self, node: ast.AST, columns: Columns) -> Any:
        if isinstance(node, ast.Name):
            return columns[node.id]
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.List | ast.Tuple):
            return [self._value(part, columns) for part in node.elts]
        if isinstance(node, ast.UnaryOp):
            inner = self._value(node.operand, columns)
            return np.logical_not(inner) if isinstance(node.op, ast.Not) else -inner
        if isinstance(node, ast.BoolOp):
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            found = self._value(node.values[0], columns)
            for part in node.values[1:]:
                found = join(found, self._value(part, columns))
            return found
        assert isinstance(node, ast.Compare)
        values = [self._value(part, columns) for part in (node.left, *node.comparators)]
        found = True
        for op, a, b in zip(node.ops, values, values[1:], strict=False):
            found = np.logical_and(found, OPERATORS[type(op)](a, b))
        return found
