"""What a run works on: the station list joined with the archive and the metadata, cut into chunks."""

from __future__ import annotations

import dataclasses
import datetime
import fnmatch
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

from xcorr.core import XcorrError
from xcorr.pes.archive import NS, Archive, Coordinates, Coverage
from xcorr.pes.items import Candidate, Chunk, SlotRequest, StationRequest
from xcorr.pes.layout import Layout
from xcorr.settings import Settings, SettingsError
from xcorr.stations import ListRow

NOWHERE = Coordinates(math.nan, math.nan)


class NothingToDo(XcorrError, ValueError):
    """There is no pair of stations with data."""


@dataclasses.dataclass(frozen=True, slots=True)
class Station:
    """A station of the campaign."""

    network: str
    code: str
    coordinates: Coordinates
    location: str | None = None
    channel: str | None = None

    @property
    def name(self) -> str:
        """``NET.STA``."""
        return f"{self.network}.{self.code}"


@dataclasses.dataclass(frozen=True, slots=True)
class Requested:
    """What became of one line of the station list: ``used``, ``absent`` or ``repeated``."""

    line: int
    text: str
    status: str
    reason: str
    stations: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Survey:
    """The stations of a run in order, the fate of every line asked for, and the chunks."""

    stations: tuple[Station, ...]
    requested: tuple[Requested, ...]
    chunks: tuple[Chunk, ...]
    layout: Layout
    archive: Archive

    def requests(self, settings: Settings) -> Iterator[StationRequest]:
        """Yield the work items, chunk by chunk, stations in order."""
        chosen = [_candidates_by_chunk(s, self, settings) for s in self.stations]
        for chunk in self.chunks:
            for number, station in enumerate(self.stations):
                by_component = chosen[number].get(chunk.index, {})
                first = number * len(settings.components)
                slots = tuple(
                    SlotRequest(first + k, letter, tuple(by_component.get(letter, ())))
                    for k, letter in enumerate(settings.components)
                )
                yield StationRequest(chunk, station.name, slots, self.layout.strips_of(number))


def survey(
    rows: Sequence[ListRow],
    archive: Archive,
    metadata: dict[tuple[str, str], Coordinates],
    settings: Settings,
) -> Survey:
    """Join list, archive and metadata.

    Raises NothingToDo if fewer than two stations have data in the time wanted, SettingsError for impossible times.
    """
    chunks = make_chunks(archive, settings)
    found: dict[tuple[str, str], Station] = {}
    line_of: dict[tuple[str, str], int] = {}
    requested = []
    for row in rows:
        matches = [
            key
            for key in sorted(archive.coverages)
            if fnmatch.fnmatchcase(key[0], row.network) and fnmatch.fnmatchcase(key[1], row.station)
        ]
        usable = [k for k in matches if _has_data(archive.coverages[k], row, chunks, settings)]
        fresh = [k for k in usable if k not in found]
        for key in fresh:
            at = row.coordinates or metadata.get(key) or archive.coordinates.get(key) or NOWHERE
            found[key] = Station(*key, at, row.location, row.channel)
            line_of[key] = row.line
        requested.append(_account(row, matches, usable, fresh, line_of))
    if len(found) < 2:
        reasons = "; ".join(sorted({f"line {r.line} ({r.text}): {r.reason}" for r in requested if r.reason})[:5])
        raise NothingToDo(
            f"{len(found)} of {len(rows)} lines of the list have data in {archive.source!r}; "
            f"a pair needs two. {reasons}"
        )
    layout = Layout(len(found), settings.components, settings.component_pairs, settings.correlate.block)
    if layout.stations_per_block == 0:
        raise SettingsError(f"correlate.block = {settings.correlate.block}: smaller than one station's components")
    return Survey(tuple(found.values()), tuple(requested), chunks, layout, archive)


def _account(
    row: ListRow,
    matches: list[tuple[str, str]],
    usable: list[tuple[str, str]],
    fresh: list[tuple[str, str]],
    line_of: dict[tuple[str, str], int],
) -> Requested:
    names = tuple(".".join(k) for k in usable)
    if fresh:
        return Requested(row.line, row.text, "used", "", names)
    if usable:
        lines = ", ".join(str(line_of[k]) for k in usable)
        return Requested(row.line, row.text, "repeated", f"already asked for on line {lines}", names)
    reason = "no channel wanted has data in the time wanted" if matches else "no such station in the source"
    return Requested(row.line, row.text, "absent", reason, tuple(".".join(k) for k in matches))


def parse_time(text: str, key: str) -> int:
    """Return nanoseconds UTC of an ISO 8601 time. Raises SettingsError naming the key."""
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"{key} = {text!r}: must be a time such as 2022-05-17 or 2022-05-17T06:00:00") from None
    time = time.replace(tzinfo=datetime.UTC) if time.tzinfo is None else time.astimezone(datetime.UTC)
    whole = time.replace(microsecond=0)
    return int(whole.timestamp()) * NS + time.microsecond * 1000


def make_chunks(archive: Archive, settings: Settings) -> tuple[Chunk, ...]:
    """Return the chunks, aligned to multiples of their length since 1970, that hold the time wanted."""
    span = archive.span()
    if span is None:
        raise NothingToDo(f"the source {archive.source!r} holds no waveforms of the stations wanted")
    start = parse_time(settings.data.start, "data.start") if settings.data.start else span[0]
    end = parse_time(settings.data.end, "data.end") if settings.data.end else span[1]
    if end <= start:
        raise SettingsError(
            f"data.end = {settings.data.end!r}: the end is not after the start "
            f"({settings.data.start or 'of the archive'})"
        )
    size = settings.data.chunk_s * NS
    first, last = start // size, -(-end // size)
    return tuple(
        Chunk(k - first, k * size, (k + 1) * size, max(start, k * size), min(end, (k + 1) * size))
        for k in range(first, last)
    )


def _patterns(station: Station | ListRow, settings: Settings) -> list[tuple[str, str]]:
    """Return (channel, location) patterns in order of preference."""
    channels = (station.channel,) if station.channel is not None else settings.data.channels
    locations = (station.location,) if station.location is not None else settings.data.locations
    return [(c, loc) for c in channels for loc in locations]


def _wanted(coverage: Coverage, patterns: list[tuple[str, str]], components: tuple[str, ...]) -> int | None:
    """Return the preference of a coverage's channel, 0 first, or None if it is not wanted."""
    if coverage.channel[-1:] not in components:
        return None
    for rank, (channel, location) in enumerate(patterns):
        if fnmatch.fnmatchcase(coverage.channel, channel) and fnmatch.fnmatchcase(coverage.location, location):
            return rank
    return None


def _has_data(coverages: list[Coverage], row: ListRow, chunks: tuple[Chunk, ...], settings: Settings) -> bool:
    patterns = _patterns(row, settings)
    start, end = chunks[0].data_start_ns, chunks[-1].data_end_ns
    return any(
        c.start_ns < end and c.end_ns > start and _wanted(c, patterns, settings.components) is not None
        for c in coverages
    )


def _candidates_by_chunk(station: Station, found: Survey, settings: Settings) -> dict[int, dict[str, list[Candidate]]]:
    """Return, by chunk and component, the channels that could fill a slot, best first."""
    size, origin = settings.data.chunk_s * NS, found.chunks[0].start_ns
    patterns = _patterns(station, settings)
    files: dict[tuple[int, str, int, str, str], list[str]] = defaultdict(list)
    for coverage in found.archive.coverages[station.network, station.code]:
        rank = _wanted(coverage, patterns, settings.components)
        if rank is None:
            continue
        first = max(0, (coverage.start_ns - origin) // size)
        last = min(len(found.chunks) - 1, (coverage.end_ns + found.archive.slack_ns - 1 - origin) // size)
        for index in range(first, last + 1):
            key = index, coverage.channel[-1], rank, coverage.location, coverage.channel
            if coverage.path not in files[key]:
                files[key].append(coverage.path)
    by_chunk: dict[int, dict[str, list[Candidate]]] = defaultdict(lambda: defaultdict(list))
    for (index, letter, _, location, channel), paths in sorted(files.items()):
        candidate = Candidate(station.network, station.code, location, channel, tuple(paths))
        by_chunk[index][letter].append(candidate)
    return by_chunk
