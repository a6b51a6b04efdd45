"""Estimates the size of an item without serialising it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any


def payload_bytes(item: Any, depth: int = 4) -> int:
    """Return about how many bytes an item holds: arrays, texts and bytes in containers and objects."""
    nbytes = getattr(item, "nbytes", None)
    if isinstance(nbytes, int):
        return nbytes
    if isinstance(item, str | bytes | bytearray):
        return len(item)
    if depth == 0:
        return sys.getsizeof(item)
    if isinstance(item, Mapping):
        return sum(payload_bytes(v, depth - 1) for v in item.values())
    if isinstance(item, list | tuple | set | frozenset):
        return sum(payload_bytes(v, depth - 1) for v in item)
    if dataclasses.is_dataclass(item):
        return sum(payload_bytes(getattr(item, f.name), depth - 1) for f in dataclasses.fields(item))
    if hasattr(item, "__dict__"):
        return sum(payload_bytes(v, depth - 1) for v in vars(item).values())
    return sys.getsizeof(item)
