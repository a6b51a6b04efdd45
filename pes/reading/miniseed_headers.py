"""The headers of all records of a miniSEED file at once, without libmseed: codes, times and numbers of samples.

The layout is that of the fixed section of the data header, and of version 3 (SEED manual 2.4, chapter 8; FDSN miniSEED
3).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from xcorr.pes.reading.waveform import DAY_NS, NS, Waveform

FIXED = np.dtype(
    {
        "names": ["quality", "codes", "year", "day", "hour", "minute", "second", "fraction", "count", "flags", "shift"],
        "formats": ["u1", "S12", ">u2", ">u2", "u1", "u1", "u1", ">u2", ">u2", "u1", ">i4"],
        "offsets": [6, 8, 20, 22, 24, 25, 26, 28, 30, 36, 40],
        "itemsize": 48,
    }
)
QUALITIES = frozenset(b"DRQM")
YEARS = 1900, 2200  # others are those of the other order of bytes
TICK_NS = 100_000  # of fractions and corrections of time
CORRECTED = 2  # flag: the correction is in the time already
FIXED_3 = 40  # bytes of the fixed header of version 3
MOST_OFF = 0.6  # samples from the times that the rate gives, in a row of records


def is_plain(content: Any, length: int, waveforms: Sequence[Waveform], is_whole: bool) -> bool:
    """Return whether a file is a row of whole records, whose times follow each other as their rate says.

    ``length`` is that of the first record, ``waveforms`` what libmseed has made of the records; ``is_whole``: of all.
    libmseed says nothing of a last record that was cut, of a record with a damaged length, which hides those behind it,
    and of clocks that drift and come back within records that it joins.
    """
    if content[:2] == b"MS":
        return _ends_with_a_record(content)
    if len(content) % length:
        return False
    rows = np.ascontiguousarray(np.frombuffer(content, np.uint8).reshape(-1, length)[:, : FIXED.itemsize])
    headers = rows.view(FIXED)[:, 0]
    if not YEARS[0] <= headers["year"][0] <= YEARS[1]:
        headers = headers.view(FIXED.newbyteorder())
    if not QUALITIES.issuperset(headers["quality"].tolist()):
        return False
    if is_whole and int(headers["count"].sum(dtype=np.int64)) != sum(w.samples for w in waveforms):
        return False
    if not waveforms:
        return True
    starts = _starts(headers)
    rates = {_code(w): w.rate_hz for w in waveforms}
    return all(
        _follow(starts[mine], headers["count"][mine], rates[code])
        for code in map(bytes, set(headers["codes"].tolist()))
        if code in rates
        for mine in [np.flatnonzero((headers["codes"] == code) & (headers["count"] > 0))]
    )


def _ends_with_a_record(content: Any) -> bool:
    offset = 0
    while offset + FIXED_3 <= len(content):  # lengths of identifier, extra headers and data
        code, extra, data = struct.unpack_from("<BHI", content, offset + 33)
        offset += FIXED_3 + code + extra + data
    return offset == len(content)


def _starts(headers: np.ndarray) -> np.ndarray:
    """Return the starts of records, ns UTC."""
    years = (headers["year"].astype(np.int64) - 1970).astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64)
    hours, minutes = (headers[name].astype(np.int64) for name in ("hour", "minute"))
    seconds = hours * 3600 + minutes * 60 + headers["second"]
    shifts = np.where(headers["flags"] & CORRECTED, 0, headers["shift"].astype(np.int64))
    ticks = headers["fraction"].astype(np.int64) + shifts
    starts: np.ndarray = (years + headers["day"] - 1) * DAY_NS + seconds * NS + ticks * TICK_NS
    return starts


def _code(waveform: Waveform) -> bytes:
    """Return codes as they stand in a header: station, location, channel and network, without spaces at the end."""
    codes = f"{waveform.station:5}{waveform.location:2}{waveform.channel:3}{waveform.network:2}"
    return codes.encode().rstrip(b"\0")


def _follow(starts: np.ndarray, counts: np.ndarray, rate_hz: float) -> bool:
    """Return whether records that follow each other have the times that their rate gives."""
    order = np.argsort(starts, kind="stable")
    starts, interval = starts[order], NS / rate_hz
    off = np.diff(starts) / interval - counts[order][:-1]
    joined = np.abs(off) <= 0.5
    total = np.concatenate([[0.0], np.cumsum(np.where(joined, off, 0.0))])
    begins = np.concatenate([[0], np.where(joined, 0, np.arange(1, len(starts)))])
    return bool(np.abs(total - total[np.maximum.accumulate(begins)]).max(initial=0.0) <= MOST_OFF)
