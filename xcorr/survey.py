"""What a run works on: the station list joined with the archive and the metadata, cut into chunks."""

from __future__ import annotations

import dataclasses
import datetime
import fnmatch
import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from xcorr.core import XcorrError
from xcorr.members import Generation, Members, generations_of, joined
from xcorr.pes.archive import NS, Archive, Coordinates, Coverage
from xcorr.pes.items import HELPER, Candidate, Chunk, SlotRequest, StationRequest
from xcorr.pes.layout import Layout
from xcorr.settings import Settings, SettingsError
from xcorr.stations import ListRow, Station

NOWHERE = Coordinates(math.nan, math.nan)
Patterns = tuple[tuple[str, str], ...]
COMPONENT_OF = dict(zip("ZNE123UVW", "ZNENEZZNE", strict=True))  # the slot that a channel's last letter fills


def _own_name_first(channel: str) -> tuple[bool, str]:
    """Return what sorts channels named Z, N, E before others."""
    return channel[-1] not in "ZNE", channel


class NothingToDo(XcorrError, ValueError):
    """There is no pair of stations with data."""


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
    """The stations of a campaign, the fate of every line asked for, and the chunks in which this run wants data."""

    members: Members
    requested: tuple[Requested, ...]
    chunks: tuple[Chunk, ...]
    generations: tuple[Generation, ...]
    archive: Archive

    @property
    def stations(self) -> tuple[Station, ...]:
        """All stations of the campaign, in its order."""
        return self.members.stations

    @property
    def rows(self) -> int:
        """Number of station pairs."""
        return sum(g.layout.rows for g in self.generations)

    def slots(self, settings: Settings) -> Callable[[int, Chunk], tuple[SlotRequest, ...]]:
        """Return the function that gives the slots of a station (its number) in a chunk, with their candidates."""
        chosen: dict[int, dict[int, dict[str, list[Candidate]]]] = {}

        def of(number: int, chunk: Chunk) -> tuple[SlotRequest, ...]:
            if number not in chosen:
                chosen[number] = _candidates_by_chunk(self.stations[number], self, settings)
            return _slots(number, chosen[number].get(chunk.start_ns, {}), settings)

        return of

    def requests(self, settings: Settings, generation: Generation, todo: Sequence[Chunk]) -> Requests:
        """Return the work items of a generation: chunk by chunk, stations in order, for the strips wanted of each."""
        return Requests(self, settings, generation.layout, tuple(todo))


@dataclasses.dataclass(frozen=True)
class Requests:
    """Work items, made one by one as they are asked for: a year of 1,000 stations has 365,000."""

    found: Survey
    settings: Settings
    layout: Layout
    todo: tuple[Chunk, ...]

    def _needed(self) -> Callable[[Chunk], list[tuple[int, tuple[int, ...]]]]:
        """Return the function that gives, of a chunk, the stations that are needed, and for which strips."""
        strips = [set(self.layout.strips_of(number)) for number in range(self.layout.stations)]

        @functools.cache
        def needed(wanted: tuple[int, ...]) -> list[tuple[int, tuple[int, ...]]]:
            found = [(number, tuple(sorted(own & set(wanted)))) for number, own in enumerate(strips)]
            return [(number, own) for number, own in found if own]

        return lambda chunk: needed(tuple(self.layout.strips) if chunk.wanted is None else chunk.wanted)

    def __len__(self) -> int:
        """Return how many there are."""
        needed = self._needed()
        return sum(len(needed(chunk)) for chunk in self.todo)

    def __iter__(self) -> Iterator[StationRequest]:
        """Yield them."""
        needed, slots = self._needed(), self.found.slots(self.settings)
        for chunk in self.todo:
            for number, strips in needed(chunk):
                yield StationRequest(chunk, self.found.stations[number].name, slots(number, chunk), strips)

    def __deepcopy__(self, memo: dict[int, Any]) -> Requests:
        """Return this: nothing in it changes."""
        return self


def _slots(number: int, by_component: dict[str, list[Candidate]], settings: Settings) -> tuple[SlotRequest, ...]:
    """Return a station's slots; where channels must be turned, also the channels that this takes besides."""
    wanted = settings.components
    slots = [
        SlotRequest(number * len(wanted) + k, letter, tuple(by_component.get(letter, ())))
        for k, letter in enumerate(wanted)
    ]
    letters = {c.channel[-1] for slot in slots for c in slot.candidates}
    if letters & set("UVW"):
        helpers = set("ZNE")
    elif letters & set("12") or (settings.data.metadata is not None and letters & set("NE")):
        helpers = set("NE")
    else:
        helpers = set()
    more = sorted((helpers - set(wanted)) & by_component.keys())
    return (*slots, *(SlotRequest(HELPER, letter, tuple(by_component[letter])) for letter in more))


def survey(
    rows: Sequence[ListRow],
    archive: Archive,
    metadata: dict[tuple[str, str], Coordinates],
    settings: Settings,
    members: Members | None = None,
) -> Survey:
    """Join list, archive and metadata.

    ``members`` are the stations that the campaign has already. Raises NothingToDo if fewer than two stations have data
    in the time wanted, SettingsError for impossible times.
    """
    limits = time_limits(settings)
    found: dict[tuple[str, str], Station] = {}
    line_of: dict[tuple[str, str], int] = {}
    requested = []
    for row in rows:
        asked = (row.channel, row.location)
        matches = _matching(row, archive)
        usable = [
            k for k in matches if _wanted_within(archive.coverages[k], (asked,), limits, settings, archive.slack_ns)
        ]
        fresh = [k for k in usable if k not in found or asked not in found[k].channels]
        for key in fresh:
            if key in found:
                found[key] = dataclasses.replace(found[key], channels=(*found[key].channels, asked))
            else:
                at = row.coordinates or metadata.get(key) or archive.coordinates.get(key) or NOWHERE
                found[key] = Station(*key, at, (asked,))
                line_of[key] = row.line
        requested.append(_account(row, matches, usable, fresh, line_of))
    if len(found) < 2:
        reasons = "; ".join(sorted({f"line {r.line} ({r.text}): {r.reason}" for r in requested if r.reason})[:5])
        raise NothingToDo(
            f"{len(found)} of {len(rows)} lines of the list have data in {archive.source!r}; "
            f"a pair needs two. {reasons}"
        )
    if settings.correlate.block < len(settings.components):
        raise SettingsError(f"correlate.block = {settings.correlate.block}: smaller than one station's components")
    everyone = joined(found, members)
    generations = generations_of(everyone, settings)
    if not sum(g.layout.rows for g in generations):
        raise NothingToDo(
            "no pair passes the selection by correlate.pairs, distance_km, azimuth_deg and networks "
            f"among {len(found)} stations with data"
        )
    wanted = [
        c
        for key, station in found.items()
        for c in _wanted_within(archive.coverages[key], station.channels, limits, settings, archive.slack_ns)
    ]
    chunks = make_chunks(wanted, limits, archive.slack_ns, settings)
    return Survey(everyone, tuple(requested), chunks, generations, archive)


def survey_of(members: Members, settings: Settings) -> Survey:
    """Return a campaign as its members alone tell it: no lines, no chunks, no source."""
    return Survey(members, (), (), generations_of(members, settings), Archive("", {}, {}, {}))


def _matching(row: ListRow, archive: Archive) -> list[tuple[str, str]]:
    """Return the stations of the source that a line asks for."""
    exact = row.network, row.station
    if not any(c in "*?[" for c in row.network + row.station):
        return [exact] if exact in archive.coverages else []
    return sorted(k for k in archive.coverages if all(map(fnmatch.fnmatchcase, k, exact)))


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


def time_limits(settings: Settings) -> tuple[int | None, int | None]:
    """Return the time asked for, in ns; None where the archive decides. Raises SettingsError if it is impossible."""
    start, end = (
        parse_time(text, key) if text else None
        for text, key in ((settings.data.start, "data.start"), (settings.data.end, "data.end"))
    )
    if start is not None and end is not None and end <= start:
        raise SettingsError(
            f"data.end = {settings.data.end!r}: the end is not after the start ({settings.data.start!r})"
        )
    return start, end


def make_chunks(
    wanted: Sequence[Coverage], limits: tuple[int | None, int | None], slack_ns: int, settings: Settings
) -> tuple[Chunk, ...]:
    """Return the chunks, aligned to multiples of their length since 1970, in which there are wanted data."""
    start = min(c.start_ns for c in wanted) if limits[0] is None else limits[0]
    end = max(c.end_ns for c in wanted) if limits[1] is None else limits[1]
    size = settings.data.chunk_s * NS
    numbers: set[int] = set()
    for c in wanted:
        numbers.update(range(max(c.start_ns, start) // size, -(-min(c.end_ns + slack_ns, end) // size)))
    first, last = limits  # the source's own limits are none: it may grow
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


def patterns_of(asked: Sequence[tuple[str | None, str | None]], settings: Settings) -> Patterns:
    """Return (channel, location) patterns in order of preference."""
    return tuple(
        (c, at)
        for channel, location in asked
        for c in (settings.data.channels if channel is None else (channel,))
        for at in (settings.data.locations if location is None else (location,))
    )


def _wanted(coverage: Coverage, patterns: Patterns, components: tuple[str, ...]) -> int | None:
    """Return the preference of a coverage's channel, 0 first, or None if it is not wanted.

    A channel is wanted for the component whose slot it fills: its own, or one it takes part in (1 2 3, U V W).
    """
    return _preference(coverage.channel, coverage.location, patterns, components)


@functools.lru_cache(maxsize=10_000)
def _preference(channel: str, location: str, patterns: Patterns, components: tuple[str, ...]) -> int | None:
    if COMPONENT_OF.get(channel[-1:]) not in components:
        return None
    for rank, pattern in enumerate(patterns):
        if all(map(fnmatch.fnmatchcase, (channel, location), pattern)):
            return rank
    return None


def _wanted_within(
    coverages: Sequence[Coverage],
    asked: Sequence[tuple[str | None, str | None]],
    limits: tuple[int | None, int | None],
    settings: Settings,
    slack_ns: int,
) -> list[Coverage]:
    """Return the coverages of channels asked for that overlap the time asked for."""
    patterns, (start, end) = patterns_of(asked, settings), limits
    return [
        c
        for c in coverages
        if (end is None or c.start_ns < end)
        and (start is None or c.end_ns + slack_ns > start)
        and _wanted(c, patterns, settings.components) is not None
    ]


def _candidates_by_chunk(station: Station, found: Survey, settings: Settings) -> dict[int, dict[str, list[Candidate]]]:
    """Return, by start of chunk (ns) and component, the channels that could fill a slot, best first."""
    size = settings.data.chunk_s * NS
    starts = {chunk.start_ns for chunk in found.chunks}
    patterns = patterns_of(station.channels, settings)
    components = ("Z", "N", "E")  # some may be needed to turn others
    files: dict[tuple[int, str, int, str, tuple[bool, str]], list[str]] = defaultdict(list)
    for coverage in found.archive.coverages.get((station.network, station.code), []):
        rank = _wanted(coverage, patterns, components)
        if rank is None:
            continue
        first, stop = coverage.start_ns // size, -(-(coverage.end_ns + found.archive.slack_ns) // size)
        for number in range(first, stop):
            if number * size not in starts:
                continue
            letter = COMPONENT_OF[coverage.channel[-1]]
            key = number * size, letter, rank, coverage.location, _own_name_first(coverage.channel)
            if coverage.path not in files[key]:
                files[key].append(coverage.path)
    by_chunk: dict[int, dict[str, list[Candidate]]] = defaultdict(lambda: defaultdict(list))
    for (start, letter, _, location, (_, channel)), paths in sorted(files.items()):
        candidate = Candidate(station.network, station.code, location, channel, tuple(paths))
        by_chunk[start][letter].append(candidate)
    return by_chunk
