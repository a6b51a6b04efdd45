"""Derivation patterns: which inputs of an instance an output comes from.

An instance numbers its inputs as they come. The pattern says from which inputs so far an output comes:

``single``: the last one; ``accumulated``: all; ``grouped``: all with the same key as the last one; ``sliding(n)``: the
last n; ``n-by-1``: the last one of every input port.

The patterns are those of dispel4py's provenance types (Spinuso et al. 2019, Future Gener. Comput. Syst. 101).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from xcorr.core.errors import GraphError, nearest

KINDS = ("single", "accumulated", "grouped", "sliding", "n-by-1")


class Derivation(NamedTuple):
    """A pattern, and the number of inputs of a sliding one."""

    kind: str
    width: int = 0


def parse_derivation(text: str, where: str) -> Derivation:
    """Return the pattern that an element declares. Raises GraphError, naming ``where``, for anything else.

    >>> parse_derivation("sliding(3)", "x")
    Derivation(kind='sliding', width=3)
    """
    match = re.fullmatch(r"sliding\(([1-9]\d*)\)", str(text))
    if match:
        return Derivation("sliding", int(match[1]))
    if text in KINDS and text != "sliding":
        return Derivation(text)
    raise GraphError(
        f"{where}: derivation {text!r} is not known{nearest(str(text), KINDS)}; use 'single', 'accumulated', "
        "'grouped', 'sliding(n)' or 'n-by-1'"
    )
