"""Waveforms in files with any names: a folder or a glob, indexed by the headers of all files."""

from __future__ import annotations

import glob
import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from xcorr.pes.items import Candidate
from xcorr.pes.reading.places import files_at
from xcorr.pes.reading.segments import NS
from xcorr.pes.reading.source import Coordinates, Coverage, Fingerprint, Index, Source, SourceError, Wanted
from xcorr.pes.reading.waveform_file import read_headers, read_traces

CAMPAIGN_MARK = "campaign.toml"  # a folder with such a file holds results, not waveforms


class FileSource(Source):
    """A source whose references are paths of files."""

    def read(
        self, reference: str, channels: Sequence[Candidate], start_ns: int, end_ns: int
    ) -> tuple[list[Any], list[str]]:
        """Return the traces of all channels of a file, and what was wrong."""
        traces, wrong = read_traces(reference, start_ns, end_ns)
        return traces, [f"{os.path.basename(reference)}: {text}" for text in wrong]

    def fingerprint(self, reference: str) -> Fingerprint | None:
        """Return path, size and time of change of a file; None if the file does not exist any more."""
        try:
            status = os.stat(reference)
        except FileNotFoundError:
            return None
        return reference, status.st_size, status.st_mtime_ns

    def rate_hz(self, reference: str) -> float | None:
        """Return the sampling rate of the first trace of a file."""
        try:
            return float(read_headers(reference)[0].sampling_rate)
        except Exception:  # ObsPy raises anything on garbage; the run reports it, a forecast takes another file
            return None


class Files(FileSource):
    """All files of a folder, or that match a glob."""

    usage = "files:DIR_OR_GLOB (any names, anything ObsPy reads)"

    def index(self, wanted: Wanted) -> Index:
        """Read the headers of every file."""
        address = f"files:{self.place}"
        paths = _expand(self.place)
        if not paths:
            raise SourceError(f"data source {address!r}: there is no file at {self.place!r}")
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
            for coverage, place in found:
                coverages[coverage.network, coverage.station].append(coverage)
                if place is not None:
                    coordinates.setdefault((coverage.network, coverage.station), place)
        return Index(address, in_order(coverages), coordinates, unreadable, tuple(ignored))


def in_order(coverages: dict[tuple[str, str], list[Coverage]]) -> dict[tuple[str, str], list[Coverage]]:
    """Return the coverages of each station, sorted by time and path."""
    return {k: sorted(v, key=lambda c: (c.start_ns, c.path, c.location, c.channel)) for k, v in coverages.items() if v}


def _is_text(path: str) -> bool:
    with open(path, "rb") as file:
        start = file.read(4096)
    return bool(start) and b"\0" not in start and start.decode("utf-8", "ignore").encode() == start


def _expand(place: str) -> list[str]:
    found = files_at(glob.escape(place) if os.path.isdir(place) else place)
    ours = {os.path.dirname(p) for p in found if os.path.basename(p) == CAMPAIGN_MARK}
    return [p for p in found if not _is_below(p, ours)]


def _is_below(path: str, folders: set[str]) -> bool:
    return any(path.startswith(folder + os.sep) for folder in folders)


def _headers(path: str) -> list[tuple[Coverage, Coordinates | None]]:
    found = [(_coverage(stats, path), _sac_coordinates(stats)) for stats in read_headers(path)]
    for coverage, _ in found:
        coverage.check_codes()
    return found


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
