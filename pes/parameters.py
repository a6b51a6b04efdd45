"""Checks of the parameters that people give to elements and methods."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from xcorr.core.errors import XcorrError, nearest


class ParameterError(XcorrError, ValueError):
    """A parameter that cannot be; the text names it, its value, and what is allowed."""


def require_one_of(owner: Any, name: str, choices: Iterable[str]) -> None:
    """Raise ParameterError unless a parameter of an object is one of some words."""
    value, choices = getattr(owner, name), tuple(choices)
    if value not in choices:
        near = nearest(value, choices) if isinstance(value, str) else ""
        raise ParameterError(f"{_named(owner, name)} = {value!r}: must be one of {', '.join(choices)}{near}")


def require_numbers(owner: Any, *names: str, least: float = 0.0, above: bool = False) -> None:
    """Raise ParameterError unless parameters of an object are finite numbers of at least, or ``above``, a value."""
    for name in names:
        value = getattr(owner, name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or value < least or (above and value == least):
            rule = "above" if above else "of at least"
            raise ParameterError(f"{_named(owner, name)} = {value!r}: must be a number {rule} {least:g}")


def require_band(owner: Any, name: str, highest_hz: float = math.inf) -> None:
    """Raise ParameterError unless a parameter of an object is a band (f1, f2) in Hz."""
    value = getattr(owner, name)
    try:
        low, high = value
        good = 0 < low < high < highest_hz
    except (TypeError, ValueError):
        good = False
    if not good:
        limit = "" if math.isinf(highest_hz) else f" < {highest_hz:g}"
        raise ParameterError(f"{_named(owner, name)} = {value!r}: must be two frequencies, 0 < f1 < f2{limit} (Hz)")


def _named(owner: Any, name: str) -> str:
    return f"{type(owner).__name__}: {name}"
