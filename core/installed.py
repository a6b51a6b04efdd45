"""The names that installed packages give to elements, workflows, mappings and other extensions, by entry points.

Kind ``elements`` is the entry-point group ``xcorr.elements``, and so on. An entry point is loaded on first use.
Listing names executes nothing.
"""

from __future__ import annotations

import functools
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, entry_points
from typing import Any

from xcorr.core.errors import RegistryError, nearest


@functools.cache
def _entries(kind: str) -> dict[str, EntryPoint]:
    return {e.name: e for e in sorted(entry_points(group=f"xcorr.{kind}"), key=lambda e: e.name)}


@functools.cache
def _ours(kind: str) -> dict[str, EntryPoint]:
    """Return only the entry points of xcorr, which are found without a search through all installed packages."""
    try:
        return {e.name: e for e in distribution("xcorr").entry_points.select(group=f"xcorr.{kind}")}
    except PackageNotFoundError:
        return {}


def names(kind: str) -> list[str]:
    """Return the registered names of a kind, sorted."""
    return list(_entries(kind))


def has(kind: str, name: str) -> bool:
    """Return whether a name is registered. Names of xcorr itself are found without a search."""
    return name in _ours(kind) or name in _entries(kind)


def target(kind: str, name: str) -> str:
    """Return ``module:attribute`` of a name, without loading it."""
    return _find(kind, name).value


def load(kind: str, name: str) -> Any:
    """Import and return the object with a name. Raises RegistryError, with the nearest name, for an unknown name."""
    return _find(kind, name).load()


def _find(kind: str, name: str) -> EntryPoint:
    if name in (entries := _ours(kind)) or name in (entries := _entries(kind)):
        return entries[name]
    raise RegistryError(
        f"no {kind.removesuffix('s')} is called {name!r}{nearest(name, entries)}; "
        f"there are {', '.join(entries) or 'none (is xcorr installed? try: pip install -e .)'}"
    )
