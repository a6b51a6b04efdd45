"""Waveforms in SDS archives (SeisComP Data Structure), indexed by the names of files, or by their headers.

``DIR/YEAR/NET/STA/CHAN.TYPE/NET.STA.LOC.CHAN.TYPE.YEAR.DOY``, which may be packed (``.gz``, ``.bz2``)
"""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from xcorr.core.files import printable
from xcorr.core.options import option
from xcorr.pes.items import Candidate
from xcorr.pes.reading.day_files import SLACK_NS, Name, read_day
from xcorr.pes.reading.files import TRUST, FileSource, in_order, index_of_headers, waveform_files
from xcorr.pes.reading.places import listed
from xcorr.pes.reading.source import CODE_LENGTH, Coverage, Index, SourceError, Wanted
from xcorr.pes.reading.waveform import DAY_NS, Answer

NO_CLOCK = "its name's day is 1970-01-01, so that its clock was not set; set data.start to use such data"
EPOCH = datetime.date(1970, 1, 1).toordinal()


@dataclasses.dataclass(frozen=True)
class SdsOptions:
    """What is right where the name of a file and the headers in it disagree."""

    trust: str = option(
        "refuse",
        "What counts if the name of a file and its headers have other codes or days. refuse: such data are named, and "
        "those of other codes are not used. header: all headers are read first, and names mean nothing. name: its "
        "codes are used.",
        choices=TRUST,
    )


class Sds(FileSource):
    """An SDS archive."""

    usage = "sds:DIR (SeisComP archive)"
    Options = SdsOptions

    def index(self, wanted: Wanted) -> Index:
        """List the folders of the stations wanted; open files only if headers are trusted more than names."""
        address, root, stations = f"sds:{self.place}", Path(self.place), wanted.exact
        if not root.is_dir():
            raise SourceError(f"data source {address!r}: there is no folder {str(root)!r}")
        unreadable: dict[str, str] = {}
        if self.options.trust == "header":  # whatever the names of folders and files are
            return index_of_headers(address, waveform_files(str(root), unreadable), unreadable)
        files: list[tuple[Name, str]] = []
        for year in _folders(root, unreadable):
            if not (year.name.isdigit() and len(year.name) == 4):
                continue
            for network in _folders(year.path, unreadable):
                for station in _folders(network.path, unreadable):
                    if stations is None or (network.name, station.name) in stations:
                        whose = f"{network.name}.{station.name}: "
                        for folder in _folders(station.path, unreadable, whose):
                            files += _days(folder.path, unreadable, whose)
        coverages: dict[tuple[str, str], list[Coverage]] = defaultdict(list)
        for name, path in files:
            made = Coverage(*name, name.start_ns + DAY_NS, path)
            if name.start_ns == 0 and (wanted.start_ns is None or wanted.start_ns >= DAY_NS):
                made = dataclasses.replace(made, refused=f"{printable(path)}: {NO_CLOCK}")
                unreadable[path] = NO_CLOCK
            coverages[name.network, name.station].append(made)
        return Index(address, in_order(coverages), unreadable=unreadable, slack_ns=SLACK_NS)

    def read(self, reference: str, channels: Sequence[Candidate], start_ns: int | None, end_ns: int | None) -> Answer:
        """Return the waveforms of a file, and what was wrong, such as headers that contradict the file's name."""
        name = _named(os.path.basename(reference))
        if self.options.trust == "header" or not isinstance(name, Name) or start_ns is None or end_ns is None:
            return super().read(reference, channels, start_ns, end_ns)
        base = os.path.basename(reference)

        def read(first: int | None, stop: int | None) -> Answer:
            return FileSource.read(self, reference, channels, first, stop)

        return read_day(read, name, base, start_ns, end_ns, self.options.trust, _advice)


def _advice(choices: str, what: str) -> str:
    return f"; set data.sds.trust = {choices} to use {what}"


def _folders(path: str | Path, unreadable: dict[str, str], whose: str = "") -> list[os.DirEntry[str]]:
    return listed(path, os.DirEntry.is_dir, unreadable, whose)


def _days(folder: str, unreadable: dict[str, str], whose: str) -> Iterator[tuple[Name, str]]:
    """Yield the files of one SDS channel folder. A file's name gives the day in which its records begin."""
    found = [(entry.name, entry.path) for entry in listed(folder, _is_no_folder, unreadable, whose)]
    bases = {base for base, _ in found}
    for base, path in found:
        name = _named(base)
        if base.rpartition(".")[0] in bases:  # packed, beside itself
            continue
        if isinstance(name, Name):
            yield name, path
        elif name:
            unreadable[path] = name


def _is_no_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry may be a day's file; reading tells of a link that leads nowhere, and of a pipe."""
    return not entry.is_dir()


def _named(base: str) -> Name | str:
    """Return what the name of a file says; why this cannot be; or an empty text for other files."""
    parts = base.removesuffix(".gz").removesuffix(".bz2").split(".")
    if len(parts) != 7 or not (parts[5] + parts[6]).isdigit() or not (parts[5] and parts[6]):
        return ""
    network, station, location, channel, _, year, day = parts
    if max(map(len, parts)) > CODE_LENGTH or not base.isascii():
        return f"its name has codes of more than {CODE_LENGTH} characters, or not of ASCII"
    try:
        first = datetime.date(int(year), 1, 1).toordinal()
    except ValueError:
        return f"its name has the year {year}"
    if not 1 <= int(day) <= 366:
        return f"its name has the day {day} of the year"
    return Name(network, station, location, channel, (first + int(day) - 1 - EPOCH) * DAY_NS)
