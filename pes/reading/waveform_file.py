"""Reads and writes waveform files: miniSEED with libmseed (pymseed), all else with ObsPy, one file at a time.

ObsPy tells libmseed where to send messages in a variable of the whole process (obspy/obspy issue 3114). Python catches
warnings in such a variable too. Threads that read at the same time would get each other's errors, or crash. Ctrl-C
waits until a file is read, because libmseed calls Python, and a KeyboardInterrupt in such a call ends the process.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xcorr.core.interrupt import shielded
from xcorr.pes.reading import miniseed
from xcorr.pes.reading.formats import is_known, read, unpacked
from xcorr.pes.reading.waveform import Answer, Waveform, of_trace

ONE_AT_A_TIME = threading.Lock()
SAC_INTERVAL = "Sample spacing read from SAC"
LARGE = 64 << 20  # bytes: larger files are mapped, not read into memory whole


def read_waveforms(source: str | bytes, start_ns: int | None = None, end_ns: int | None = None) -> Answer:
    """Return the waveforms with samples within a time; they may hold more samples.

    ``source`` is the path of a file, which may be packed (gzip, bzip2, zip, tar), or the content of a miniSEED file.
    Raises any error that ObsPy raises.
    """
    if isinstance(source, bytes):
        return miniseed.read_miniseed(source, start_ns, end_ns)

    def read_plain(plain: str) -> list[Answer]:
        with _miniseed(plain) as content:
            if content is not None:
                return [miniseed.read_miniseed(content, start_ns, end_ns)]
        return [_by_obspy(plain, source, start_ns, end_ns)]

    parts = unpacked(read_plain, source)
    return Answer(*([entry for part in parts for entry in part[k]] for k in range(3)))


def read_headers(path: str) -> list[Waveform]:
    """Return the waveforms of a file without their samples. Raises whatever ObsPy raises."""

    def read_plain(plain: str) -> list[Waveform]:
        with _miniseed(plain) as content:
            if content is not None:
                return miniseed.read_headers(content)
        with _alone():
            return [of_trace(trace) for trace in read("waveform", plain, path, headonly=True)]

    return unpacked(read_plain, path)


def _by_obspy(plain: str, path: str, start_ns: int | None, end_ns: int | None) -> Answer:
    """Return what ObsPy reads from a plain file; ``path`` is its name before unpacking."""
    with _alone() as caught:
        stream = read("waveform", plain, path)
    notes = [f"{os.path.basename(path)}: {text}" for text in dict.fromkeys(map(_text, caught)) if text]
    found = [of_trace(t).within(start_ns, end_ns) for t in stream if t.stats.npts]  # ObsPy would cut at rounded times
    return Answer([w for w in found if w.samples], [], notes)


@contextlib.contextmanager
def _miniseed(path: str) -> Iterator[Any]:
    """Give the content of a miniSEED file, mapped if the file is large; None for other formats."""
    with open(path, "rb", buffering=0) as file:
        head = file.read(8)
        if not miniseed.is_miniseed(head) and not _is_damaged_miniseed(path, head):
            yield None
        elif os.fstat(file.fileno()).st_size <= LARGE:
            yield head + file.read()
        else:
            yield mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # closed when nothing refers to it


def _is_damaged_miniseed(path: str, head: bytes) -> bool:
    """Return whether a file that no reader knows holds records behind something else."""
    if head[6:8] in (b"V ", b"A ", b"S ", b"T "):  # a control header of a SEED volume, which ObsPy knows
        return False
    with open(path, "rb") as file:
        start = file.read(miniseed.SEARCHED)
    return miniseed.holds_miniseed(start) and not is_known("waveform", path)


@contextlib.contextmanager
def _alone() -> Iterator[list[warnings.WarningMessage]]:
    """Let one thread at a time use ObsPy, and give its warnings."""
    with ONE_AT_A_TIME, shielded(), warnings.catch_warnings(record=True) as caught:
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
