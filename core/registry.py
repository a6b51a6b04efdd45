"""Names for elements, workflows and mappings, filled by entry points that are loaded on first use.

Groups: ``xcorr.elements``, ``xcorr.workflows``, ``xcorr.mappings``. Listing names executes nothing.
"""

from __future__ import annotations

import functools
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from xcorr.core.errors import RegistryError, nearest


@functools.cache
def _entries(kind: str) -> dict[str, EntryPoint]:
    return {e.name: e for e in sorted(entry_points(group=f"xcorr.{kind}"), key=lambda e: e.name)}


def names(kind: str) -> list[str]:
    """Return the registered names of a kind, sorted."""
    return list(_entries(kind))


def target(kind: str, name: str) -> str:
    """Return ``module:attribute`` of a name, without loading it."""
    return _find(kind, name).value


def load(kind: str, name: str) -> Any:
    """Import and return what a name stands for. Raises RegistryError, with the near names, if unknown."""
    return _find(kind, name).load()


def _find(kind: str, name: str) -> EntryPoint:
    entries = _entries(kind)
    if name not in entries:
        raise RegistryError(
            f"no {kind.removesuffix('s')} is called {name!r}{nearest(name, entries)}; "
            f"there are {', '.join(entries) or 'none (is xcorr installed? try: pip install -e .)'}"
        )
    return entries[name]
