"""Waveforms in files, read and written with ObsPy: one at a time in a process.

ObsPy tells libmseed where its messages go in a variable of the whole process (obspy/obspy issue 3114), and Python keeps
the warnings that are caught in another. Threads that read at once would get each other's errors, or crash.
"""

from __future__ import annotations

import os
import threading
import warnings
from pathlib import Path
from typing import Any

ONE_AT_A_TIME = threading.Lock()
LARGE = 64 << 20  # bytes: larger files are mapped, not read into memory whole


def read_traces(source: str | bytes, start_ns: int, end_ns: int) -> tuple[list[Any], list[str]]:
    """Return the ObsPy traces with samples within a time, perhaps with more, and what ObsPy warned of.

    ``source`` is a file's path, or miniSEED. Raises whatever ObsPy raises.
    """
    from obspy import UTCDateTime, read
    from obspy.io.mseed.core import _read_mseed

    content = source if isinstance(source, bytes) else _miniseed(source)
    limits = {"starttime": UTCDateTime(ns=start_ns), "endtime": UTCDateTime(ns=end_ns)}
    with ONE_AT_A_TIME, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # what read() does around a format's own reader takes as long as reading
        stream = read(source, **limits) if content is None else _read_mseed(content or source, **limits)
    return list(stream), [str(w.message) for w in caught if _is_about_data(w)]


def _miniseed(path: str) -> bytes | None:
    """Return the content of a miniSEED file, or nothing where it is large: ObsPy maps it; None for other formats."""
    with open(path, "rb", buffering=0) as file:
        head = file.read(7)
        if not (len(head) == 7 and head[:6].isdigit() and head[6:] in b"DRQM"):
            return None
        return head + file.read() if os.fstat(file.fileno()).st_size <= LARGE else b""


def _is_about_data(warning: warnings.WarningMessage) -> bool:
    return not issubclass(warning.category, DeprecationWarning | PendingDeprecationWarning)


def read_headers(path: str) -> list[Any]:
    """Return the ObsPy headers of a file's traces. Raises whatever ObsPy raises."""
    from obspy import read

    with ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [trace.stats for trace in read(path, headonly=True)]


def write_miniseed(traces: list[Any], path: Path) -> None:
    """Write ObsPy traces."""
    from obspy import Stream

    with ONE_AT_A_TIME:
        Stream(traces).write(str(path), format="MSEED")
