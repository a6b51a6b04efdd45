"""The survey of a campaign: its station list joined with source and metadata, and the chunks with data."""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from collections.abc import Sequence
from pathlib import Path

from xcorr.core import XcorrError
from xcorr.network.channels import patterns_of, preference
from xcorr.network.chunks import make_chunks, time_limits
from xcorr.network.roster import Generation, Roster, generations_of, joined
from xcorr.network.station_list import ListRow, Station, read_station_list
from xcorr.pes.items import Chunk
from xcorr.pes.reading.metadata import read_inventory, station_coordinates
from xcorr.pes.reading.source import Coordinates, Coverage, Index, Wanted, open_source
from xcorr.settings import Settings, SettingsError

NOWHERE = Coordinates(math.nan, math.nan)


class NothingToDo(XcorrError, ValueError):
    """There is no pair of stations with data."""


@dataclasses.dataclass(frozen=True, slots=True)
class Requested:
    """The status of one line of the station list: ``used``, ``absent`` or ``repeated``."""

    line: int
    text: str
    status: str
    reason: str
    stations: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Survey:
    """The stations of a campaign, the status of every line of the list, and the chunks that this run wants."""

    roster: Roster
    requested: tuple[Requested, ...]
    chunks: tuple[Chunk, ...]
    generations: tuple[Generation, ...]
    index: Index

    @property
    def stations(self) -> tuple[Station, ...]:
        """All stations of the campaign, in its order."""
        return self.roster.stations

    @property
    def rows(self) -> int:
        """Number of station pairs."""
        return sum(g.layout.rows for g in self.generations)


def survey_list(list_path: Path, settings: Settings, roster: Roster | None = None) -> Survey:
    """Read the station list, index the source, and join them with the metadata.

    ``roster`` holds the stations that the campaign has already. Raises the errors of :func:`survey`, and
    SettingsError if no source is set.
    """
    if settings.data.source is None:
        raise SettingsError(
            "data.source is not set; say where waveforms are with --source sds:DIR or files:DIR, or in xcorr.toml"
        )
    rows = read_station_list(list_path)
    start, end = time_limits(settings)
    stations = tuple(dict.fromkeys((r.network, r.station) for r in rows))
    wanted = Wanted(stations, patterns_of([(r.channel, r.location) for r in rows], settings), start, end)
    index = open_source(settings.data.source, settings.data.options).index(wanted)
    if wanted.exact is not None:  # others would widen the time of the campaign
        kept = {k: v for k, v in index.coverages.items() if k in wanted.exact}
        index = dataclasses.replace(index, coverages=kept)
    coordinates = {}
    if settings.data.metadata is not None:
        coordinates = station_coordinates(read_inventory(settings.data.metadata))
    return survey(rows, index, coordinates, settings, roster)


def survey(
    rows: Sequence[ListRow],
    index: Index,
    metadata: dict[tuple[str, str], Coordinates],
    settings: Settings,
    roster: Roster | None = None,
) -> Survey:
    """Join list, archive and metadata.

    ``roster`` are the stations that the campaign has already. Raises NothingToDo if fewer than two stations have data
    in the time wanted, SettingsError for impossible times.
    """
    limits = time_limits(settings)
    found: dict[tuple[str, str], Station] = {}
    line_of: dict[tuple[str, str], int] = {}
    requested = []
    for row in rows:
        asked = (row.channel, row.location)
        matches = _matching(row, index)
        usable = [k for k in matches if _wanted_within(index.coverages[k], (asked,), limits, settings, index.slack_ns)]
        fresh = [k for k in usable if k not in found or asked not in found[k].channels]
        for key in fresh:
            if key in found:
                found[key] = dataclasses.replace(found[key], channels=(*found[key].channels, asked))
            else:
                at = row.coordinates or metadata.get(key) or index.coordinates.get(key) or NOWHERE
                found[key] = Station(*key, at, (asked,))
                line_of[key] = row.line
        requested.append(_account(row, matches, usable, fresh, line_of))
    if len(found) < 2:
        reasons = "; ".join(sorted({f"line {r.line} ({r.text}): {r.reason}" for r in requested if r.reason})[:5])
        raise NothingToDo(
            f"{len(found)} of {len(rows)} lines of the list have data in {index.source!r}; a pair needs two. {reasons}"
        )
    if settings.correlate.block < len(settings.components):
        raise SettingsError(
            f"correlate.block = {settings.correlate.block}: must be at least the number of components of one station"
        )
    everyone = joined(found, roster)
    generations = generations_of(everyone, settings)
    if not sum(g.layout.rows for g in generations):
        raise NothingToDo(
            f"no pair of the {len(found)} stations with data passes correlate.pairs, distance_km, azimuth_deg and "
            "networks; widen the selection"
        )
    wanted = [
        c
        for key, station in found.items()
        for c in _wanted_within(index.coverages[key], station.channels, limits, settings, index.slack_ns)
    ]
    chunks = make_chunks(wanted, limits, index.slack_ns, settings)
    return Survey(everyone, tuple(requested), chunks, generations, index)


def survey_of(roster: Roster, settings: Settings) -> Survey:
    """Return the survey of a campaign from its roster alone: without lines, chunks and source."""
    return Survey(roster, (), (), generations_of(roster, settings), Index("", {}))


def _matching(row: ListRow, index: Index) -> list[tuple[str, str]]:
    """Return the stations of the source that a line asks for."""
    exact = row.network, row.station
    if not any(c in "*?[" for c in row.network + row.station):
        return [exact] if exact in index.coverages else []
    return sorted(k for k in index.coverages if all(map(fnmatch.fnmatchcase, k, exact)))


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
        and preference(c, patterns, settings.components) is not None
    ]
