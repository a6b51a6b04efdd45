"""Waveforms in SDS archives (SeisComP Data Structure), indexed by the names of files.

``DIR/YEAR/NET/STA/CHAN.TYPE/NET.STA.LOC.CHAN.TYPE.YEAR.DOY``
"""

from __future__ import annotations

import datetime
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from xcorr.pes.reading.files import FileSource, in_order
from xcorr.pes.reading.segments import NS
from xcorr.pes.reading.source import CODE_LENGTH, Coverage, Index, SourceError, Wanted

DAY_NS = 86_400 * NS
SLACK_NS = 3_600 * NS  # the last record of a day's file may run on into the next day
EPOCH = datetime.date(1970, 1, 1).toordinal()


class Sds(FileSource):
    """An SDS archive."""

    usage = "sds:DIR (SeisComP archive)"

    def index(self, wanted: Wanted) -> Index:
        """List the folders of the stations wanted, without opening a file."""
        address, root, stations = f"sds:{self.place}", Path(self.place), wanted.exact
        if not root.is_dir():
            raise SourceError(f"data source {address!r}: there is no folder {str(root)!r}")
        coverages: dict[tuple[str, str], list[Coverage]] = defaultdict(list)
        for year in _folders(root):
            if not (year.name.isdigit() and len(year.name) == 4):
                continue
            for network in _folders(year.path):
                for station in _folders(network.path):
                    if stations is None or (network.name, station.name) in stations:
                        found = (c for folder in _folders(station.path) for c in _sds_days(folder.path))
                        coverages[network.name, station.name] += found
        return Index(address, in_order(coverages), slack_ns=SLACK_NS)


def _folders(path: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        return sorted((e for e in entries if e.is_dir()), key=lambda e: e.name)


def _sds_days(folder: str) -> Iterator[Coverage]:
    """Yield the files of one SDS channel folder. A file's name gives the day in which its records begin."""
    with os.scandir(folder) as entries:
        for entry in entries:
            parts = entry.name.split(".")
            if len(parts) == 7 and parts[5].isdigit() and parts[6].isdigit() and max(map(len, parts)) <= CODE_LENGTH:
                network, station, location, channel, _, year, day = parts
                ordinal = datetime.date(int(year), 1, 1).toordinal() + int(day) - 1
                start = (ordinal - EPOCH) * DAY_NS
                yield Coverage(network, station, location, channel, start, start + DAY_NS, entry.path)
