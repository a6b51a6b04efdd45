"""Processing elements for ambient-noise correlation. Thin elements call pure functions on arrays."""

from __future__ import annotations

from typing import Any

from xcorr.core import installed


def __getattr__(name: str) -> Any:
    """Import an element when it is first asked for, so that a program imports only the elements that it uses.

    The entry points ``xcorr.elements`` say where each is.
    """
    if name[:1].isupper() and installed.has("elements", name):
        return installed.load("elements", name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
