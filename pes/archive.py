"""Where waveforms are: SDS archives and folders of files with any names, as an index of channels and times.

SDS (SeisComP Data Structure): ``DIR/YEAR/NET/STA/CHAN.TYPE/NET.STA.LOC.CHAN.TYPE.YEAR.DOY``.
"""

from __future__ import annotations

import dataclasses
import datetime
import glob
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xcorr.core import XcorrError
from xcorr.pes.waveform_file import read_headers

NS = 1_000_000_000
DAY_NS = 86_400 * NS
CAMPAIGN_MARK = "campaign.toml"  # a folder with such a file holds results, not waveforms
SDS_SLACK_NS = 3_600 * NS  # the last record of a day's file may run on into the next day
EPOCH = datetime.date(1970, 1, 1).toordinal()


class SourceError(XcorrError, ValueError):
    """A waveform source that cannot be used as given."""


@dataclasses.dataclass(frozen=True, slots=True)
class Coverage:
    """A channel in a file, and the time within which its samples lie."""

    network: str
    station: str
    location: str
    channel: str
    start_ns: int
    end_ns: int
    path: str


@dataclasses.dataclass(frozen=True, slots=True)
class Coordinates:
    """Degrees on WGS84 and metres."""

    latitude: float
    longitude: float
    elevation_m: float = float("nan")


@dataclasses.dataclass(frozen=True)
class Archive:
    """An index: coverages by (network, station), coordinates found in headers, files nobody could read.

    ``ignored`` are text files in no waveform format: notes, licences, tables.

    Records may run on for up to ``slack_ns`` beyond the end of a coverage (known only from a file's name).
    """

    source: str
    coverages: dict[tuple[str, str], list[Coverage]]
    coordinates: dict[tuple[str, str], Coordinates]
    unreadable: dict[str, str]
    ignored: tuple[str, ...] = ()
    slack_ns: int = 0


def open_archive(source: str, wanted: set[tuple[str, str]] | None = None) -> Archive:
    """Index a source: ``sds:DIR`` or ``files:DIR_OR_GLOB``.

    ``wanted`` limits an SDS index to some (network, station); others are not looked at. Raises SourceError
    if the source is of another kind, or its folder does not exist or holds no file.
    """
    kind, _, place = source.partition(":")
    if kind == "sds" and place:
        return _index_sds(source, Path(place), wanted)
    if kind == "files" and place:
        return _index_files(source, place)
    raise SourceError(
        f"data source {source!r} is not known; use sds:DIR (SeisComP archive), files:DIR_OR_GLOB or fdsn:URL"
    )


def _index_sds(source: str, root: Path, wanted: set[tuple[str, str]] | None) -> Archive:
    if not root.is_dir():
        raise SourceError(f"data source {source!r}: there is no folder {str(root)!r}")
    coverages: dict[tuple[str, str], list[Coverage]] = defaultdict(list)
    for year in _folders(root):
        if not (year.name.isdigit() and len(year.name) == 4):
            continue
        for network in _folders(year.path):
            for station in _folders(network.path):
                if wanted is None or (network.name, station.name) in wanted:
                    found = (c for folder in _folders(station.path) for c in _sds_days(folder.path))
                    coverages[network.name, station.name] += found
    return Archive(source, {k: _in_order(v) for k, v in coverages.items() if v}, {}, {}, slack_ns=SDS_SLACK_NS)


def _folders(path: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        return sorted((e for e in entries if e.is_dir()), key=lambda e: e.name)


def _sds_days(folder: str) -> Iterator[Coverage]:
    """Yield the files of one SDS channel folder; the name says the day in which their records begin."""
    with os.scandir(folder) as entries:
        for entry in entries:
            parts = entry.name.split(".")
            if len(parts) == 7 and parts[5].isdigit() and parts[6].isdigit():
                network, station, location, channel, _, year, day = parts
                ordinal = datetime.date(int(year), 1, 1).toordinal() + int(day) - 1
                start = (ordinal - EPOCH) * DAY_NS
                yield Coverage(network, station, location, channel, start, start + DAY_NS, entry.path)


def _index_files(source: str, place: str) -> Archive:
    paths = _expand(place)
    if not paths:
        raise SourceError(f"data source {source!r}: there is no file at {place!r}")
    coverages: dict[tuple[str, str], list[Coverage]] = defaultdict(list)
    coordinates: dict[tuple[str, str], Coordinates] = {}
    unreadable: dict[str, str] = {}
    ignored: list[str] = []
    for path in paths:
        try:
            found = _headers(path)
        except Exception as error:  # ObsPy raises anything on garbage; the reason is kept and reported
            if _is_text(path):
                ignored.append(path)
            else:
                unreadable[path] = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        for coverage, place_of in found:
            coverages[coverage.network, coverage.station].append(coverage)
            if place_of is not None:
                coordinates.setdefault((coverage.network, coverage.station), place_of)
    return Archive(source, {k: _in_order(v) for k, v in coverages.items()}, coordinates, unreadable, tuple(ignored))


def _is_text(path: str) -> bool:
    with open(path, "rb") as file:
        start = file.read(4096)
    return bool(start) and b"\0" not in start and start.decode("utf-8", "ignore").encode() == start


def _expand(place: str) -> list[str]:
    if os.path.isdir(place):
        place = os.path.join(glob.escape(place), "**")
    found = glob.glob(place, recursive=True)
    inside = [os.path.join(f, "**") for f in found if os.path.isdir(f)] if "**" not in place else []
    found += [p for pattern in inside for p in glob.glob(pattern, recursive=True)]
    ours = {os.path.dirname(p) for p in found if os.path.basename(p) == CAMPAIGN_MARK}
    return sorted({p for p in found if os.path.isfile(p) and not _is_below(p, ours)})


def _is_below(path: str, folders: set[str]) -> bool:
    return any(path.startswith(folder + os.sep) for folder in folders)


def _headers(path: str) -> list[tuple[Coverage, Coordinates | None]]:
    return [(_coverage(stats, path), _sac_coordinates(stats)) for stats in read_headers(path)]


def _coverage(stats: Any, path: str) -> Coverage:
    start = stats.starttime.ns
    end = start + round((stats.npts - 1) * NS * stats.delta) + 1
    return Coverage(
        stats.network.strip(),
        stats.station.strip(),
        stats.location.strip(),
        stats.channel.strip(),
        start,
        end,
        path,
    )


def _sac_coordinates(stats: Any) -> Coordinates | None:
    sac = getattr(stats, "sac", None)
    if sac is None or "stla" not in sac or "stlo" not in sac:
        return None
    return Coordinates(float(sac.stla), float(sac.stlo), float(sac.get("stel", float("nan"))))


def _in_order(found: list[Coverage]) -> list[Coverage]:
    return sorted(found, key=lambda c: (c.start_ns, c.path, c.location, c.channel))
