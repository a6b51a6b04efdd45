"""Groupings: which instances of an element receive an item.

Five of them, declared on the consumer's input: shuffle (default), group-by, one-to-all, all-to-one, and
multi-key group-by. Hashes are the same in every process, on every machine and for any PYTHONHASHSEED.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from xcorr.core.errors import GraphError

SHUFFLE, ONE_TO_ALL, ALL_TO_ONE = "shuffle", "one-to-all", "all-to-one"
_ALIASES = {
    None: SHUFFLE,
    "shuffle": SHUFFLE,
    "all": ONE_TO_ALL,
    "one-to-all": ONE_TO_ALL,
    "one_to_all": ONE_TO_ALL,
    "global": ALL_TO_ONE,
    "all-to-one": ALL_TO_ONE,
    "all_to_one": ALL_TO_ONE,
}


@dataclasses.dataclass(frozen=True)
class GroupBy:
    """Items with equal keys go to the same instance.

    A field is a position (``item[0]``) or a name. A name is a key if the item is a mapping, else an attribute.
    """

    fields: tuple[int | str, ...]

    def key(self, item: Any) -> Any:
        """Return the key of ``item``: the field itself if there is one, else a tuple of the fields."""
        if len(self.fields) == 1:
            return _field(item, self.fields[0])
        return tuple(_field(item, f) for f in self.fields)


@dataclasses.dataclass(frozen=True)
class MultiKey:
    """An item has several keys in ``field``. Each instance that owns at least one key gets the item once."""

    field: int | str

    def keys(self, item: Any) -> Iterable[Any]:
        """Return the keys of ``item``."""
        keys: Iterable[Any] = _field(item, self.field)
        return keys


Grouping = str | GroupBy | MultiKey


def parse_grouping(declared: Any, where: str) -> Grouping:
    """Return the grouping that an input declares in dispel4py's or our spelling.

    Raises GraphError, naming ``where``, for anything else.
    """
    if isinstance(declared, GroupBy | MultiKey):
        return declared
    if isinstance(declared, list | tuple) and declared and all(isinstance(f, int | str) for f in declared):
        return GroupBy(tuple(declared))
    try:
        return _ALIASES[declared]
    except (KeyError, TypeError):
        raise GraphError(
            f"{where}: grouping {declared!r} is not known; use None or 'shuffle', 'all', 'global', a list of "
            "positions or field names to group by, GroupBy(...) or MultiKey(...)"
        ) from None


def _field(item: Any, field: int | str) -> Any:
    if isinstance(field, int) or isinstance(item, Mapping):
        return item[field]
    return getattr(item, field)


def stable_hash(key: Any) -> int:
    """Return a non-negative integer that depends on nothing but the value of ``key``.

    The hash of an integer, or of a float without a fraction, is the number itself. So consecutive numbers spread evenly
    over instances, and equal numbers of different types have the same hash, as in a dict. The hash of other values is
    BLAKE2b of a canonical encoding. Such values are text, bytes, None, containers, dataclasses, enums, arrays, and any
    object whose ``__reduce_ex__`` gives such values.
    """
    number = _as_integer(key)
    if number is not None:
        return number if number >= 0 else number & 0x7FFF_FFFF_FFFF_FFFF
    digest = hashlib.blake2b(digest_size=8)
    _encode(key, digest.update)
    return int.from_bytes(digest.digest(), "big")


def _as_integer(key: Any) -> int | None:
    if isinstance(key, int):
        return int(key)
    if hasattr(key, "dtype") and getattr(key, "ndim", 1) == 0:  # numpy scalars
        key = key.item()
    if isinstance(key, float) and key.is_integer():
        return int(key)
    return key if isinstance(key, int) else None


def _encode(value: Any, update: Callable[[Any], None]) -> None:
    number = _as_integer(value)  # also inside containers: (1, 2.0) and (1.0, 2) are equal, so they need one hash
    if number is not None:
        update(b"i%d;" % number)
    elif isinstance(value, float):
        update(b"nan;" if math.isnan(value) else b"f" + value.hex().encode() + b";")
    elif isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        update(b"s%d:" % len(text) + text)
    elif isinstance(value, bytes | bytearray):
        update(b"b%d:" % len(value) + value)
    elif value is None:
        update(b"n;")
    elif isinstance(value, list | tuple):
        _encode_sequence(b"l", value, update)
    elif isinstance(value, Mapping):
        # digests are sorted, because keys of different types cannot be compared
        _encode_sequence(b"m", sorted(((_digest(k), _digest(v)) for k, v in value.items())), update)
    elif isinstance(value, set | frozenset):
        _encode_sequence(b"S", sorted(_digest(v) for v in value), update)
    elif hasattr(value, "dtype") and hasattr(value, "tobytes"):
        update(f"a{value.dtype}{getattr(value, 'shape', ())};".encode())
        update(value.tobytes())
    elif isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        update(f"q{value.__module__}.{value.__qualname__};".encode())
    else:
        _encode_sequence(b"o", tuple(value.__reduce_ex__(4)[:3]), update)


def _encode_sequence(mark: bytes, values: Any, update: Callable[[Any], None]) -> None:
    update(mark + b"%d:" % len(values))
    for value in values:
        _encode(value, update)


def _digest(value: Any) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    _encode(value, digest.update)
    return digest.digest()
