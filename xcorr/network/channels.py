"""Which channels are wanted, which slots they fill, and which are preferred."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Sequence

from xcorr.pes.reading.source import Coverage
from xcorr.settings import Settings

Patterns = tuple[tuple[str, str], ...]
COMPONENTS = ("Z", "N", "E", "H")  # up, north, east, and the pressure of a hydrophone
COMPONENT_OF = dict(zip("ZNEH123UVW", "ZNEHNEZZNE", strict=True))  # the slot that a channel's last letter fills


def patterns_of(asked: Sequence[tuple[str | None, str | None]], settings: Settings) -> Patterns:
    """Return (channel, location) patterns in order of preference."""
    return tuple(
        (c, "" if at == "--" else at)
        for channel, location in asked
        for c in (settings.data.channels if channel is None else (channel,))
        for at in (settings.data.locations if location is None else (location,))
    )


def preference(coverage: Coverage, patterns: Patterns, components: tuple[str, ...]) -> int | None:
    """Return the rank of a coverage's channel (0: most preferred), or None if the channel is not wanted.

    A channel fills the slot of its own component. A channel named 1, 2, 3, U, V or W fills the slot of the
    component in :data:`COMPONENT_OF`, which will be made from it and other channels.
    """
    return _preferred(coverage.channel, coverage.location, patterns, components)


@functools.lru_cache(maxsize=10_000)
def _preferred(channel: str, location: str, patterns: Patterns, components: tuple[str, ...]) -> int | None:
    if COMPONENT_OF.get(channel[-1:]) not in components:
        return None
    for rank, pattern in enumerate(patterns):
        if all(map(fnmatch.fnmatchcase, (channel, location), pattern)):
            return rank
    return None


def own_name_first(channel: str) -> tuple[bool, str]:
    """Return a sort key that puts channels named as components before others."""
    return channel[-1] not in COMPONENTS, channel
