"""Reads and writes waveform files with ObsPy, only one file at a time in a process.

ObsPy tells libmseed where to send messages in a variable of the whole process (obspy/obspy issue 3114). Python catches
warnings in such a variable too. Threads that read at the same time would get each other's errors, or crash. Ctrl-C
waits until a file is read, because libmseed calls Python, and a KeyboardInterrupt in such a call ends the process.
"""

from __future__ import annotations

import os
import threading
import warnings
from pathlib import Path
from typing import Any

from xcorr.core.interrupt import shielded
from xcorr.pes.reading.formats import read

ONE_AT_A_TIME = threading.Lock()
LARGE = 64 << 20  # bytes: larger files are mapped, not read into memory whole


def read_traces(source: str | bytes, start_ns: int, end_ns: int) -> tuple[list[Any], list[str]]:
    """Return the ObsPy traces with samples within a time, and ObsPy's warnings. Traces may hold more samples.

    ``source`` is the path of a file, or the content of a miniSEED file. Raises any error that ObsPy raises.
    """
    from obspy import UTCDateTime
    from obspy.io.mseed.core import _read_mseed

    content = source if isinstance(source, bytes) else _miniseed(source)
    start, end = UTCDateTime(ns=start_ns), UTCDateTime(ns=end_ns)
    with ONE_AT_A_TIME, shielded(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # else Python would show a repeated warning only once
        if content is None:
            assert isinstance(source, str)
            stream = read("waveform", source, starttime=start, endtime=end)
            for trace in stream:
                trace.trim(starttime=start).trim(endtime=end)
        else:  # calls the miniSEED reader itself, because ObsPy's code around it takes as long as reading
            stream = _read_mseed(content or source, starttime=start, endtime=end)
    return [t for t in stream if t.stats.npts], [str(w.message) for w in caught if _is_about_data(w)]


def _miniseed(path: str) -> bytes | None:
    """Return the content of a miniSEED file; nothing for a large one, which ObsPy maps; None for other formats."""
    with open(path, "rb", buffering=0) as file:
        head = file.read(7)
        if not (len(head) == 7 and head[:6].isdigit() and head[6:] in b"DRQM"):
            return None
        return head + file.read() if os.fstat(file.fileno()).st_size <= LARGE else b""


def _is_about_data(warning: warnings.WarningMessage) -> bool:
    return not issubclass(warning.category, DeprecationWarning | PendingDeprecationWarning)


def read_headers(path: str) -> list[Any]:
    """Return the ObsPy headers of a file's traces. Raises whatever ObsPy raises."""
    with ONE_AT_A_TIME, shielded(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [trace.stats for trace in read("waveform", path, headonly=True)]


def write_miniseed(traces: list[Any], path: Path) -> None:
    """Write ObsPy traces to a miniSEED file."""
    from obspy import Stream

    with ONE_AT_A_TIME, shielded():
        Stream(traces).write(str(path), format="MSEED")
