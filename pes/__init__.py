"""Processing elements for ambient-noise correlation. Thin elements call pure functions on arrays."""

from __future__ import annotations

import importlib
from typing import Any

_PLACES = {
    "StationSource": "reading.read",
    "ReadStation": "reading.read",
    "ConditionStation": "preparing.prepare",
    "NormalizeStation": "preparing.prepare",
    "TransformStation": "preparing.transform",
    "CorrelateStrips": "correlating.correlate",
    "WriteShards": "storing.write_shards",
    "StackSource": "stacking.stack",
    "StackRows": "stacking.stack",
    "WriteResults": "stacking.result_file",
}
__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    """Import an element when it is first asked for, so that a program imports only the elements that it uses."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
