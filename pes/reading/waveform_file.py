"""Reads and writes waveform files: miniSEED with libmseed (pymseed), all else with ObsPy, one file at a time.

ObsPy tells libmseed where to send messages in a variable of the whole process (obspy/obspy issue 3114). Python catches
warnings in such a variable too. Threads that read at the same time would get each other's errors, or crash. Ctrl-C
waits until a file is read: a KeyboardInterrupt while libmseed calls Python, or frees its memory, ends the process.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import stat
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from xcorr.core.interrupt import shielded
from xcorr.pes.reading import asdf, miniseed
from xcorr.pes.reading.formats import ONE_AT_A_TIME, RefusedFile, UnknownFormat, read_plain, unpacked
from xcorr.pes.reading.waveform import Answer, Waveform, of_trace

Part = TypeVar("Part")
SAC_INTERVAL = "Sample spacing read from SAC"
# a tar says that it is one, or at least has its checksum in octal digits (POSIX.1, "pax", ustar format)
TAR = re.compile(rb"(?s).{257}ustar|.{148}[0-7 ]{6}\0 ")
LARGE = 64 << 20  # bytes: larger files are mapped, not read into memory whole


def read_waveforms(
    source: str | bytes,
    start_ns: int | None = None,
    end_ns: int | None = None,
    stations: asdf.Stations | None = None,
) -> Answer:
    """Return the waveforms with samples within a time; they may hold more samples.

    ``source`` is the path of a file, which may be packed (gzip, bzip2, zip, tar), or the content of a miniSEED file. Of
    a file in which each station has a place of its own (ASDF), only those of ``stations`` (network, station) are read.
    Raises any error that ObsPy raises.
    """
    if isinstance(source, bytes):
        with shielded():
            return miniseed.read_miniseed(source, start_ns, end_ns)

    def by_obspy(stream: Any, warned: list[str]) -> Answer:
        notes = [f"{os.path.basename(source)}: {text}" for text in warned]
        # ObsPy would cut at rounded times
        found = [of_trace(t).within(start_ns, end_ns) for t in stream if t.stats.npts]
        return Answer([w for w in found if w.samples], [], notes)

    def by_asdf(path: str) -> Answer:
        return Answer(asdf.read_asdf(path, start_ns, end_ns, stations), [], [])

    parts = _read(source, lambda content: miniseed.read_miniseed(content, start_ns, end_ns), by_asdf, by_obspy)
    return Answer(
        [w for part in parts for w in part.waveforms],
        [text for part in parts for text in part.wrong],
        [text for part in parts for text in part.notes],
    )


def read_headers(path: str) -> list[Waveform]:
    """Return the waveforms of a file without their samples. Raises whatever ObsPy raises."""

    def by_obspy(stream: Any, warned: list[str]) -> list[Waveform]:
        return [of_trace(t) for t in stream]

    parts = _read(path, miniseed.read_headers, asdf.read_asdf_headers, by_obspy, headonly=True)
    return [waveform for part in parts for waveform in part]


def _read(
    path: str,
    by_miniseed: Callable[[Any], Part],
    by_asdf: Callable[[str], Part],
    by_obspy: Callable[[Any, list[str]], Part],
    **options: Any,
) -> list[Part]:
    """Return what functions make of a file, or of each file packed in it: of miniSEED's bytes, a path, or a stream.

    What no reader knows is miniSEED if there are records behind something else, such as padding or damage.
    """

    def read_one(plain: str) -> list[Part]:
        with _content(plain, 8, miniseed.is_miniseed) as content:
            if content is not None:
                return [by_miniseed(content)]
        with open(plain, "rb") as file:
            is_hdf5 = asdf.is_hdf5(file.read(8))
        if is_hdf5:
            try:
                return [by_asdf(plain)]
            except asdf.NotAsdf as error:
                raise UnknownFormat(str(error)) from None
        try:
            with _alone() as caught:
                stream = read_plain("waveform", plain, path, **options)
            return [by_obspy(stream, list(dict.fromkeys(filter(None, map(_text, caught)))))]
        except RefusedFile:
            raise
        except UnknownFormat:
            with _content(plain, miniseed.SEARCHED, miniseed.holds_miniseed) as content:
                if content is None:
                    raise
                return [by_miniseed(content)]

    if not stat.S_ISREG(os.stat(path).st_mode):
        raise UnknownFormat("it is no file, but a pipe, a socket or a device")  # which would wait for somebody to write
    with shielded():
        with _content(path, 8, miniseed.is_miniseed) as content:  # of most files; ObsPy tries all ways of packing first
            if content is not None and not TAR.match(content):
                return [by_miniseed(content)]
        return unpacked(read_one, path)


@contextlib.contextmanager
def _content(path: str, size: int, is_fit: Callable[[bytes], bool]) -> Iterator[Any]:
    """Give the content of a file whose first bytes are fit, mapped if the file is large; None for others."""
    with open(path, "rb", buffering=0) as file:
        head = file.read(size)
        if not is_fit(head):
            yield None
        elif os.fstat(file.fileno()).st_size <= LARGE:
            yield head + file.read()
        else:
            yield mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # closed when nothing refers to it


@contextlib.contextmanager
def _alone() -> Iterator[list[warnings.WarningMessage]]:
    """Let one thread at a time use ObsPy, and give its warnings."""
    with ONE_AT_A_TIME, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # else Python would show a repeated warning only once
        yield caught


def _text(warning: warnings.WarningMessage) -> str:
    """Return the text of a warning that is about the data; the interval of SAC is read without ObsPy's rounding."""
    text = str(warning.message)
    about_code = issubclass(warning.category, DeprecationWarning | PendingDeprecationWarning)
    return "" if about_code or text.startswith(SAC_INTERVAL) else text


def write_miniseed(traces: list[Any], path: Path) -> None:
    """Write ObsPy traces to a miniSEED file."""
    from obspy import Stream

    with ONE_AT_A_TIME, shielded():
        Stream(traces).write(str(path), format="MSEED")
