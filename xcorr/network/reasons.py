"""Why lines of a station list have no data, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from xcorr.core.files import printable
from xcorr.network.channels import patterns_of, preference
from xcorr.network.station_list import ListRow
from xcorr.pes.reading.source import Index
from xcorr.pes.reading.waveform import day_of
from xcorr.settings import Settings

if TYPE_CHECKING:
    from xcorr.network.survey import Requested

FEW = 3  # stations that are named where others are asked for
LISTED = 8  # most names or reasons in a message


def missing(row: ListRow, matches: list[tuple[str, str]], index: Index, settings: Settings) -> str:
    """Return why a line of the list has no data, and what the source has instead."""
    if not matches:
        alike = [".".join(k) for k in (*index.coverages, *index.others) if k[1] == row.station or not row.network]
        there = alike or [".".join(k) for k in (*index.coverages, *index.others)]
        return "no such station in the source" + (f", which has {some(there, FEW)}" if there else "")
    coverages = [c for key in matches for c in index.coverages[key]]
    patterns = patterns_of(((row.channel, row.location),), settings)
    if any(preference(c, patterns, settings.components) is not None for c in coverages):
        first, last = min(c.start_ns for c in coverages), max(c.end_ns for c in coverages)
        return f"no data in the time wanted; the source has {day_of(first)} to {day_of(last)}"
    anywhere = tuple((channel, "*") for channel, _ in patterns)
    if of_channels := [c for c in coverages if preference(c, anywhere, settings.components) is not None]:
        held, wanted = sorted({c.location or "--" for c in of_channels}), sorted({at or "--" for _, at in patterns})
        asked = "the list" if row.location is not None else "data.locations"
        return f"no location wanted; the source has {some(held)}, {asked} has {', '.join(wanted)}"
    held = sorted({".".join(filter(None, (c.location, c.channel))) for c in coverages})
    asked = f"the list has {row.channel}" if row.channel else f"data.channels = {', '.join(settings.data.channels)}"
    return f"no channel wanted; the source has {some(held)}, {asked}"


def some(names: Sequence[str], most: int = LISTED) -> str:
    """Return the first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def too_few(stations: int, requested: Sequence[Requested], index: Index) -> str:
    """Return why there is nothing to correlate, in a few lines: reasons that are equal are said once."""
    reasons: dict[str, list[str]] = {}
    for row in requested:
        if row.reason:
            reasons.setdefault(row.reason, []).append(row.text)
    lines = [f"{some(texts)}: {reason}" for reason, texts in reasons.items()]
    lines += [f"{printable(path)}: {reason}" for path, reason in index.unreadable.items()]
    more = [f"and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return "\n  ".join(
        [
            f"{stations} of {len(requested)} lines of the list have data in {index.source!r}; a pair needs two",
            *lines[:LISTED],
            *more,
        ]
    )
