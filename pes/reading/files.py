"""Waveforms in files with any names: a folder or a glob, indexed by the headers of all files."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from xcorr.core.files import printable
from xcorr.core.options import option
from xcorr.pes.items import Candidate
from xcorr.pes.reading.header_cache import MANY, HeaderCache, Trace, marks_of
from xcorr.pes.reading.places import files_at
from xcorr.pes.reading.source import Coverage, Fingerprint, Index, Source, SourceError, Wanted
from xcorr.pes.reading.template import Template, is_template
from xcorr.pes.reading.waveform import Answer, Place, Waveform
from xcorr.pes.reading.waveform_file import read_headers, read_waveforms

NO_TEXT = frozenset(range(32)) - frozenset(b"\t\n\r\f\x1b")
WAVEFORMS_AS_TEXT = (b"TIMESERIES", b"WID1", b"WID2")  # damaged, these are no notes
TRUST = ("refuse", "header", "name")
LONGEST = 200  # characters of an error's text
VERSIONS = (importlib.metadata.version("obspy"), importlib.metadata.version("pymseed"))  # of the readers of headers
CAMPAIGN_MARK = "campaign.toml"  # a folder with such a file holds results, not waveforms


class FileSource(Source):
    """A source whose references are paths of files."""

    def read(self, reference: str, channels: Sequence[Candidate], start_ns: int | None, end_ns: int | None) -> Answer:
        """Return the waveforms of all channels of a file, and what was wrong."""
        stations = {(c.network, c.station) for c in channels} or None
        found, wrong, notes = read_waveforms(reference, start_ns, end_ns, stations)
        return Answer(found, [f"{printable(os.path.basename(reference))}: {text}" for text in wrong], notes)

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
            return read_headers(reference)[0].rate_hz
        except Exception:  # ObsPy raises anything on garbage; the run reports it, a forecast takes another file
            return None


@dataclasses.dataclass(frozen=True)
class FilesOptions:
    """What is right where a template and the headers of a file disagree."""

    trust: str = option(
        "refuse",
        "What counts if names of files, read by a template such as {net}.{sta}.{cha}.sac, and headers have other "
        "codes. refuse: such files are named and not used. header, name: its codes are used. Codes that a header "
        "lacks always come from the name.",
        choices=TRUST,
    )


class Files(FileSource):
    """All files of a folder, or that match a glob or a template."""

    usage = "files:DIR_OR_GLOB_OR_TEMPLATE (any names, anything ObsPy reads)"
    Options = FilesOptions

    def __init__(self, place: str, options: Any = None) -> None:
        super().__init__(place, options)
        self._template = Template(place) if is_template(place) else None

    def index(self, wanted: Wanted) -> Index:
        """Read the headers of every file."""
        address = f"files:{self.place}"
        unreadable: dict[str, str] = {}
        paths = waveform_files(self.place if self._template is None else self._template.glob, unreadable)
        if self._template is not None:
            paths = [p for p in paths if self._template.codes(p) is not None]
        if not paths and not unreadable:
            raise SourceError(f"data source {address!r}: there is no file at {self.place!r}")
        return index_of_headers(
            address, paths, unreadable, lambda p: self._with_codes(read_headers(p), p), self.options.trust
        )

    def read(self, reference: str, channels: Sequence[Candidate], start_ns: int | None, end_ns: int | None) -> Answer:
        """Return the waveforms of all channels of a file, with the codes of its name, and what was wrong."""
        found, wrong, notes = super().read(reference, channels, start_ns, end_ns)
        return Answer(self._with_codes(found, reference), wrong, notes)

    def _with_codes(self, found: list[Waveform], path: str) -> list[Waveform]:
        """Return waveforms with the codes of a file's name, where they lack them or the name is trusted.

        Raises SourceError if the two disagree, unless an option says what counts.
        """
        named = self._template.codes(path) if self._template is not None else None
        if not named:
            return found
        made = []
        for waveform in found:
            held = {name: getattr(waveform, name) for name in named}
            other = [name for name, code in held.items() if code and code != named[name]]
            if other and self.options.trust == "refuse":
                raise SourceError(
                    f"its header has the {other[0]} {held[other[0]]!r}, its name {named[other[0]]!r}; "
                    'set data.files.trust = "header" or "name"'
                )
            use = named if self.options.trust == "name" else {n: c for n, c in named.items() if not held[n]}
            made.append(dataclasses.replace(waveform, **use))  # type: ignore[arg-type]  # codes are texts
        return made


def index_of_headers(
    address: str,
    paths: Sequence[str],
    unreadable: dict[str, str],
    read: Callable[[str], list[Waveform]] = read_headers,
    about: str = "",
) -> Index:
    """Return the index of files by their headers. What cannot be read is entered in ``unreadable`` with the reason.

    Headers of many files are kept for the next time; ``about`` says what else decides them.
    """
    coverages: dict[tuple[str, str], list[Coverage]] = defaultdict(list)
    places: dict[tuple[str, str], list[Place]] = {}
    ignored: list[str] = []
    cache = HeaderCache(address, about, *VERSIONS) if len(paths) >= MANY else None
    marks = {} if cache is None else marks_of(paths)
    known = {} if cache is None else cache.known(marks)
    new: dict[str, list[Trace]] = {}
    fresh = [path for path in paths if path not in known]
    answers = _read_each(fresh, read)
    for path in paths:
        traces = known.get(path)
        if traces is None:
            traces = new[path] = []
            if not _indexed(path, next(answers), traces, unreadable, ignored):
                del new[path]
        for coverage, place in traces:
            coverages[coverage.network, coverage.station].append(coverage)
            if place is not None:
                places.setdefault((coverage.network, coverage.station), []).append(place)
    if cache is not None and (new or len(known) < len(paths)):
        cache.keep(marks, new)
    return Index(address, in_order(coverages), places, unreadable, tuple(ignored))


def _read_each(paths: Sequence[str], read: Callable[[str], list[Waveform]]) -> Iterator[list[Waveform] | Exception]:
    """Yield what a function returns or raises, in order; of many files several at once."""

    def attempt(path: str) -> list[Waveform] | Exception:
        try:
            return read(path)
        except Exception as error:  # ObsPy raises anything on garbage; the reason is kept and reported
            return error

    if len(paths) < MANY:
        yield from map(attempt, paths)
        return
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for first in range(0, len(paths), MANY):  # so that Ctrl-C waits for few of them
            yield from pool.map(attempt, paths[first : first + MANY])


def _indexed(
    path: str, found: list[Waveform] | Exception, traces: list[Trace], unreadable: dict[str, str], ignored: list[str]
) -> bool:
    """Enter the waveforms of a file; return whether nothing was odd."""
    if isinstance(found, SourceError):
        unreadable[path] = str(found)
        return False
    if isinstance(found, Exception):
        if _is_text(path):
            ignored.append(path)
        else:
            unreadable[path] = in_words(found)
        return False
    if not found:
        ignored.append(path)  # such as a log, which has no samples
        return False
    is_plain = True
    for waveform in found:
        coverage = _coverage(waveform, path)
        try:
            coverage.check_codes()
        except SourceError as error:
            unreadable[path], is_plain = str(error), False
            continue
        if waveform.impossible:
            coverage = dataclasses.replace(coverage, refused=f"{printable(path)}: {waveform.impossible}")
            unreadable[path], is_plain = f"{waveform.seed_id}: {waveform.impossible}", False
        has_place = waveform.coordinates is not None and not waveform.impossible
        place = Place(waveform.coordinates, coverage.start_ns, coverage.end_ns) if has_place else None  # type: ignore[arg-type]
        traces.append((coverage, place))
    return is_plain


def in_words(error: Exception) -> str:
    """Return the kind of an error and the first line of its text, of a length that people read."""
    text = (str(error).strip().splitlines() or [""])[0]
    return printable(f"{type(error).__name__}: {text if len(text) <= LONGEST else text[:LONGEST] + ' ...'}")


def in_order(coverages: dict[tuple[str, str], list[Coverage]]) -> dict[tuple[str, str], list[Coverage]]:
    """Return the coverages of each station, sorted by time and path."""
    return {k: sorted(v, key=lambda c: (c.start_ns, c.path, c.location, c.channel)) for k, v in coverages.items() if v}


def _is_text(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            start = file.read(4096)
    except OSError:  # such as a file that must not be read; the reason is known already
        return False
    return bool(start) and not set(start) & NO_TEXT and not any(mark in start for mark in WAVEFORMS_AS_TEXT)


def waveform_files(place: str, unreadable: dict[str, str]) -> list[str]:
    """Return the files of a folder, or that match a glob, without those of campaigns."""
    found = files_at(place, unreadable=unreadable)
    ours = {os.path.dirname(p) for p in found if os.path.basename(p) == CAMPAIGN_MARK}
    return [p for p in found if not _is_below(p, ours)]


def _is_below(path: str, folders: set[str]) -> bool:
    return any(path.startswith(folder + os.sep) for folder in folders)


def _coverage(waveform: Waveform, path: str) -> Coverage:
    codes = waveform.network, waveform.station, waveform.location, waveform.channel
    return Coverage(
        *codes, waveform.start_ns, waveform.last_ns + 1, path, waveform.rate_hz, waveform.direction is not None
    )
