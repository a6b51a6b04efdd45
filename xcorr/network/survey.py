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
from xcorr.network.doubtful import may_define_time, without_rollovers
from xcorr.network.foresight import Concern, concerns
from xcorr.network.places import metres, placed
from xcorr.network.reasons import missing, too_few
from xcorr.network.roster import Generation, Roster, generations_of, joined
from xcorr.network.sensors import by_location
from xcorr.network.station_list import SENSOR, ListRow, Station, read_station_list
from xcorr.pes.items import Chunk
from xcorr.pes.reading.metadata import read_metadata
from xcorr.pes.reading.source import Coverage, Index, Wanted, open_source
from xcorr.pes.reading.waveform import Coordinates, Place
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
    concerns: tuple[Concern, ...] = ()

    @property
    def stations(self) -> tuple[Station, ...]:
        """All stations of the campaign, in its order."""
        return self.roster.stations

    @property
    def rows(self) -> int:
        """Number of station pairs."""
        return sum(g.layout.rows for g in self.generations)


def survey_list(list_path: Path, settings: Settings, roster: Roster | None = None, new_places: bool = False) -> Survey:
    """Read the station list, index the source, and join them with the metadata.

    ``roster`` holds the stations that the campaign has already; with ``new_places`` they get new coordinates. Raises
    the errors of :func:`survey`, and SettingsError if no source is set.
    """
    if settings.data.source is None:
        raise SettingsError(
            "data.source is not set; say where waveforms are with --source sds:DIR or files:DIR, or in xcorr.toml"
        )
    rows = read_station_list(list_path)
    start, end = time_limits(settings)
    wanted = _wanted_of(rows, settings)
    source = open_source(settings.data.source, settings.data.options)
    index = source.index(wanted)
    if wanted.exact is not None:  # others would widen the time of the campaign
        kept = {k: v for k, v in index.coverages.items() if k in wanted.exact}
        index = dataclasses.replace(index, coverages=kept, others=tuple(sorted(set(index.coverages) - set(kept))))
    if settings.data.sensors == "location":
        index = by_location(index)
    if start is None and end is None:
        index = without_rollovers(index)
    metadata = read_metadata(settings.data.metadata)
    found = survey(rows, index, metadata.places(), settings, roster, new_places)
    known = found.concerns + concerns([s for s in found.stations if s.channels], index, source, metadata, settings)
    return dataclasses.replace(found, concerns=known)


def _wanted_of(rows: Sequence[ListRow], settings: Settings) -> Wanted:
    stations = tuple(dict.fromkeys((r.network, r.station) for r in rows))
    patterns = patterns_of([(r.channel, r.location) for r in rows], settings)
    return Wanted(stations, patterns, *time_limits(settings), settings.components)


def metadata_of_source(list_path: Path, settings: Settings) -> bytes | None:
    """Return StationXML from the source itself, as web services have it; None if it has none."""
    if settings.data.source is None:
        return None
    source = open_source(settings.data.source, settings.data.options)
    return source.metadata(_wanted_of(read_station_list(list_path), settings), settings.condition.response != "none")


def survey(
    rows: Sequence[ListRow],
    index: Index,
    metadata: dict[tuple[str, str], list[Place]],
    settings: Settings,
    roster: Roster | None = None,
    new_places: bool = False,
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
        matches = _matching(row, index, settings)
        usable = [k for k in matches if _wanted_within(index.coverages[k], (asked,), limits, settings, index.slack_ns)]
        fresh = [k for k in usable if k not in found or asked not in found[k].channels]
        for key in fresh:
            if key in found:
                found[key] = dataclasses.replace(found[key], channels=(*found[key].channels, asked))
            else:
                found[key] = Station(*key, NOWHERE, (asked,))
                line_of[key] = row.line
        there = missing(row, matches, index, settings) if not usable else ""
        requested.append(_account(row, matches, usable, fresh, line_of, there))
    if len(found) < (1 if settings.correlate.autocorrelations else 2):
        raise NothingToDo(too_few(len(found), requested, index))
    if settings.correlate.block < len(settings.components):
        raise SettingsError(
            f"correlate.block = {settings.correlate.block}: must be at least the number of components of one station"
        )
    stations, moved = _placed(rows, found, index, metadata, settings, roster)
    everyone = joined(stations, roster, new_places)
    moved += _other_places(stations, everyone)
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
    timely = may_define_time(wanted, settings.condition.band_hz[1])
    if not timely:
        raise NothingToDo(too_few(0, requested, index))
    chunks = make_chunks(timely, limits, index.slack_ns, settings)
    return Survey(everyone, tuple(requested), chunks, generations, index, tuple(map(Concern, moved)))


def _placed(
    rows: Sequence[ListRow],
    found: dict[tuple[str, str], Station],
    index: Index,
    metadata: dict[tuple[str, str], list[Place]],
    settings: Settings,
    roster: Roster | None,
) -> tuple[dict[tuple[str, str], Station], list[str]]:
    """Return the stations at their places, which the list gives, or else the metadata, or else headers; and remarks."""
    listed: dict[tuple[str, str], list[Place]] = {}
    for row in rows:
        if row.place is not None:
            listed.setdefault((row.network, row.station), []).append(row.place)
    before: dict[tuple[str, str], dict[str, Coordinates]] = {}
    for s in roster.stations if roster else ():
        before.setdefault((s.network, s.index_code), {})[s.code] = s.coordinates
    stations: dict[tuple[str, str], Station] = {}
    remarks: list[str] = []
    for key, station in found.items():
        own = station.network, station.source_code
        places = listed.get(own) or metadata.get(own) or index.places.get(key) or []
        data = may_define_time(index.coverages[key], settings.condition.band_hz[1])
        made, said = placed(station, places, data, time_limits(settings), settings.data.moved_m, before.get(key, {}))
        stations |= {(s.network, s.code): s for s in made}
        remarks += said
    return stations, remarks


def require_possible(found: Survey) -> None:
    """Raise SettingsError if a new campaign cannot give what is asked for."""
    fatal = [c.text for c in found.concerns if c.fatal]
    if fatal:
        raise SettingsError("; ".join(fatal))


def _other_places(stations: dict[tuple[str, str], Station], roster: Roster) -> list[str]:
    """Return remarks on stations whose coordinates are not those of the campaign any more."""
    texts = []
    for station in roster.stations:
        now = stations.get((station.network, station.code))
        if now is None or not now.coordinates.are_known:
            continue
        known = station.coordinates.are_known
        far_m = metres(now.coordinates, station.coordinates) if known else math.inf
        if far_m < 0.5:
            continue
        far = f"{far_m:.0f} m from those" if known else "new, and there are none"
        texts.append(
            f"{station.name}: its coordinates are {far} of the campaign; --refresh-metadata takes the new ones"
        )
    return texts


def survey_of(roster: Roster, settings: Settings) -> Survey:
    """Return the survey of a campaign from its roster alone: without lines, chunks and source."""
    return Survey(roster, (), (), generations_of(roster, settings), Index("", {}))


def _matching(row: ListRow, index: Index, settings: Settings) -> list[tuple[str, str]]:
    """Return the stations of the source that a line asks for; with sensors of their own, all of a station."""
    exact = row.network, row.station
    if settings.data.sensors == "location":
        own = ((k, (k[0], k[1].partition(SENSOR)[0])) for k in index.coverages)
        return sorted(k for k, name in own if all(map(fnmatch.fnmatchcase, name, exact)))
    if not any(c in "*?[" for c in row.network + row.station):
        return [exact] if exact in index.coverages else []
    return sorted(k for k in index.coverages if all(map(fnmatch.fnmatchcase, k, exact)))


def _account(
    row: ListRow,
    matches: list[tuple[str, str]],
    usable: list[tuple[str, str]],
    fresh: list[tuple[str, str]],
    line_of: dict[tuple[str, str], int],
    there: str,
) -> Requested:
    names = tuple(".".join(k) for k in usable)
    if fresh:
        return Requested(row.line, row.text, "used", "", names)
    if usable:
        lines = ", ".join(str(line_of[k]) for k in usable)
        return Requested(row.line, row.text, "repeated", f"already asked for on line {lines}", names)
    return Requested(row.line, row.text, "absent", there, tuple(".".join(k) for k in matches))


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
        if (c.refused or ((end is None or c.start_ns < end) and (start is None or c.end_ns + slack_ns > start)))
        and preference(c, patterns, settings.components) is not None
    ]
