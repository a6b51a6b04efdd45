"""The time that is wanted, cut into chunks."""

from __future__ import annotations

from collections.abc import Sequence

from xcorr.pes.items import Chunk
from xcorr.pes.reading.source import Coverage
from xcorr.pes.reading.times import time_ns
from xcorr.pes.reading.waveform import NS
from xcorr.settings import Settings, SettingsError


def parse_time(text: str, key: str) -> int:
    """Return nanoseconds UTC of an time of ISO 8601, or with a day of the year. Raises SettingsError naming the key."""
    try:
        return time_ns(text)
    except ValueError:
        raise SettingsError(
            f"{key} = {text!r}: must be a time such as 2022-05-17, 2022-05-17T06:00:00 or 2022-137 (day of the year)"
        ) from None


def time_limits(settings: Settings) -> tuple[int | None, int | None]:
    """Return start and end wanted, in ns (None: the archive decides). Raises SettingsError for impossible times."""
    start, end = (
        parse_time(text, key) if text else None
        for text, key in ((settings.data.start, "data.start"), (settings.data.end, "data.end"))
    )
    if start is not None and end is not None and end <= start:
        raise SettingsError(
            f"data.end = {settings.data.end!r}: the end is not after the start ({settings.data.start!r}); "
            "give a later end"
        )
    return start, end


def make_chunks(
    wanted: Sequence[Coverage], limits: tuple[int | None, int | None], slack_ns: int, settings: Settings
) -> tuple[Chunk, ...]:
    """Return the chunks with wanted data. Chunks begin at multiples of their length since 1970."""
    start = min(c.start_ns for c in wanted) if limits[0] is None else limits[0]
    end = max(c.end_ns for c in wanted) if limits[1] is None else limits[1]
    size = settings.data.chunk_s * NS
    numbers: set[int] = set()
    for c in wanted:
        numbers.update(range(max(c.start_ns, start) // size, -(-min(c.end_ns + slack_ns, end) // size)))
    first, last = limits  # not the limits of the source, because it may get more data later
    return tuple(
        Chunk(
            index,
            k * size,
            (k + 1) * size,
            k * size if first is None else max(first, k * size),
            (k + 1) * size if last is None else min(last, (k + 1) * size),
        )
        for index, k in enumerate(sorted(numbers))
    )
