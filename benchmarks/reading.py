"""Reads a day of miniSEED with libmseed through pymseed, and with ObsPy, on one and two threads.

`python benchmarks/reading.py [--rate 100] [--reclen 512]` prints million samples per second, best of five.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import obspy
from obspy.io.mseed.core import _read_mseed

from xcorr.pes.reading import miniseed

REPEATS = 5


def day(rate_hz: float, reclen: int) -> bytes:
    rng = np.random.default_rng(0)
    data = np.cumsum(rng.integers(-50, 50, int(86_400 * rate_hz))).astype(np.int32)
    header = {"network": "XX", "station": "A", "channel": "HHZ", "sampling_rate": rate_hz}
    out = io.BytesIO()
    obspy.Trace(data, header | {"starttime": obspy.UTCDateTime(2024, 3, 1)}).write(
        out, format="MSEED", encoding="STEIM2", reclen=reclen
    )
    return out.getvalue()


def speed(read: Callable[[bytes], Any], content: bytes, samples: int, threads: int) -> float:
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(REPEATS):
            begin = time.perf_counter()
            list(pool.map(read, [content] * 2))
            best = max(best, 2 * samples / (time.perf_counter() - begin) / 1e6)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--reclen", type=int, default=512)
    given = parser.parse_args()
    content, samples = day(given.rate, given.reclen), int(86_400 * given.rate)
    damaged = content[: 100 * given.reclen] + b"\7" * 300 + content[100 * given.reclen :]
    print(f"a day at {given.rate:g} Hz, records of {given.reclen} bytes, {len(content) / 1e6:.1f} MB")
    for name, read, of in (
        ("pymseed", miniseed.read_miniseed, content),
        ("ObsPy", lambda c: _read_mseed(c), content),
        ("pymseed, record by record (300 stray bytes in the file)", miniseed.read_miniseed, damaged),
    ):
        one, two = (speed(read, of, samples, threads) for threads in (1, 2))
        print(f"  {name:56} {one:6.1f} Msamples/s on one thread, {two:6.1f} on two")


if __name__ == "__main__":
    main()
