"""What a reader of files of another program finds: pieces of correlations of pairs of stations, on one lag axis."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import fractions
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.core import XcorrError
from xcorr.pes.items import Float32, Int64
from xcorr.pes.reading.times import time_ns
from xcorr.pes.reading.waveform import NS, Coordinates

STATION = re.compile(r"[A-Za-z0-9]{1,8}\.[A-Za-z0-9-]{1,8}(?:[@+:][A-Za-z0-9]{0,4})*")
LETTERS = "ZNEH"
DAY_NS = 86_400 * NS
LATE = 0.01  # of a piece: difference from a grid that is rounding


class ForeignError(XcorrError, ValueError):
    """Files that cannot be imported."""


@dataclasses.dataclass(frozen=True)
class Pieces:
    """Pieces of a pair of stations, ``first`` and ``second`` (``NET.STA``), for a pair of ``components``.

    ``starts`` [piece] (ns); None if their time is not known: then there is one piece. All have ``length_ns``.
    ``key`` is where the reader finds the data.
    """

    first: str
    second: str
    components: str
    starts: Int64 | None
    length_ns: int
    key: Any


@dataclasses.dataclass(frozen=True)
class Lags:
    """The lag axis: sampling rate, and the largest lag in samples. The lags are -M ... M, in samples."""

    rate_hz: float
    most: int


class Foreign(abc.ABC):
    """Correlations of another program.

    ``origin``: the program and kind of file, in words. ``notes``: what was corrected or left out. ``places``:
    coordinates by station. ``band_hz``: the band of the data, if it is known.
    """

    origin: str
    lags: Lags
    band_hz: tuple[float, float] | None = None

    def __init__(self, path: Path, choice: str | None = None) -> None:
        self.path, self.choice = path, choice
        self.notes: list[str] = []
        self.places: dict[str, Coordinates] = {}

    @abc.abstractmethod
    def pieces(self) -> Sequence[Pieces]:
        """Return all pieces that there are."""

    @abc.abstractmethod
    def read(self, key: Any, which: Int64) -> tuple[Float32, Int64]:
        """Return correlations [piece, lag] of the pieces ``which``, by number, and their numbers of windows [piece].

        At positive lags waves go from the first to the second station.
        """

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def assumed_length(self, starts: Int64) -> int:
        """Return the length (ns) of pieces that begin at these times, which no file says; note it."""
        length = length_of(starts)
        self.note(f"no file says how long the pieces are: {length / NS:g} s are assumed, from when they begin")
        return length

    def is_wanted(self, components: str) -> bool:
        """Return whether a pair of components can be imported; if not, note why."""
        if len(components) == 2 and set(components) <= set(LETTERS):
            return True
        why = "xcorr makes R and T of N and E" if set(components) & set("RT") else "its letters must be of Z, N, E, H"
        self.note(f"components {components} are left out: {why}")
        return False


def same_lags(known: Lags | None, found: Lags, where: object) -> Lags:
    """Return a lag axis. Raises ForeignError if it is another than that which is known."""
    if known is not None and (abs(known.rate_hz / found.rate_hz - 1) > 1e-6 or known.most != found.most):
        raise ForeignError(
            f"{where}: has lags to {found.most / found.rate_hz:g} s at {found.rate_hz:g} Hz, and the files before to "
            f"{known.most / known.rate_hz:g} s at {known.rate_hz:g} Hz; import them apart"
        )
    return known or found


def symmetric(data: np.ndarray, zero: int, where: object) -> tuple[Float32, int]:
    """Return the part of correlations [..., lag] that is symmetric about the sample of lag zero, and its largest lag.

    Raises ForeignError if there is no such part.
    """
    most = min(zero, data.shape[-1] - 1 - zero)
    if most < 1:
        raise ForeignError(f"{where}: lag zero is not inside of its {data.shape[-1]} samples")
    found: Float32 = np.ascontiguousarray(data[..., zero - most : zero + most + 1], np.float32)
    return found, most


def counted(windows: np.ndarray) -> Int64:
    """Return numbers of windows as integers, at least 1. Raises ValueError for what are none."""
    if not (np.isfinite(windows) & (windows < 2**31)).all():
        raise ValueError(f"numbers of windows are {windows.tolist()[:3]}")
    found: Int64 = np.maximum(np.rint(windows), 1).astype(np.int64)
    return found


def rate_of(dt_s: float) -> float:
    """Return a sampling rate, of an interval that may be stored as float32. Raises ValueError for an impossible one.

    >>> rate_of(np.float32(0.05)), rate_of(0.25), rate_of(2.0), rate_of(np.float32(1 / 0.3))
    (20.0, 4.0, 0.5, 0.3)
    """
    if not 0 < float(dt_s) < math.inf:
        raise ValueError(f"the sampling interval is {dt_s} s; it must be positive")
    rate = 1 / float(dt_s)
    nearest = float(fractions.Fraction(rate).limit_denominator(1000))
    return nearest if nearest and abs(rate / nearest - 1) < 1e-6 else rate


def time_in(text: str) -> int | None:
    """Return the time (ns) that the name of a file has, None if it has none.

    >>> time_in("XX.A_XX.B_ZZ_20240301T060000"), time_in("2019-01-02"), time_in("XX.A_XX.B_ZZ")
    (1709272800000000000, 1546387200000000000, None)
    """
    day = r"(\d{4})-?(\d{2})-?(\d{2})"
    for form in (rf"{day}[T_-](\d{{2}})[-:_]?(\d{{2}})[-:_]?(\d{{2}})", rf"{day}(?!\d)"):
        if found := re.search(rf"(?<!\d){form}", text):
            date, clock = "-".join(found.groups()[:3]), ":".join(found.groups()[3:] or ("00", "00", "00"))
            with contextlib.suppress(ValueError):  # digits that are no date
                return time_ns(f"{date}T{clock}")
    return None


def step_of(starts: Int64) -> int:
    """Return the smallest step (ns) between times, in whole seconds, if all are at multiples of it, about; else 0.

    >>> step_of(NS * np.array([0, 7200, 10800])) // NS, step_of(NS * np.array([0, 5, 12])), step_of(np.array([0]))
    (3600, 0, 0)
    """
    times = np.unique(starts)
    apart = np.diff(times)
    if not len(apart):
        return 0
    for guess in (np.median(apart[apart < 1.5 * apart.min()]), apart.min()):
        step = max(round(float(guess) / NS), 1) * NS
        late = times - times[0] - step * np.rint((times - times[0]) / step)
        if np.ptp(late) <= 2 * LATE * step and np.abs(late - np.median(late)).max() <= LATE * step:
            return step
    return 0


def length_of(starts: Int64) -> int:
    """Return the length (ns) of pieces that begin at these times, where no file says it: at most a day, if it divides.

    >>> day = 86400 * 10**9
    >>> length_of(np.array([0, 2 * day, 5 * day])) == day, length_of(np.array([0, day // 24, day // 8])) == day // 24
    (True, True)
    """
    apart = step_of(starts) or int(np.gcd.reduce(np.diff(np.unique(starts)))) or DAY_NS
    return DAY_NS if apart % DAY_NS == 0 else apart


@contextlib.contextmanager
def naming(file: Path | str) -> Iterator[None]:
    """Turn any error within the block into ForeignError that names the file."""
    try:
        yield
    except ForeignError:
        raise
    except Exception as error:  # damaged files raise anything
        raise ForeignError(f"{file}: cannot be read ({type(error).__name__}: {error})") from error


@contextlib.contextmanager
def opened_hdf5(path: Path | str) -> Iterator[Any]:
    """Open an HDF5 file for reading. Raises ForeignError if it is none."""
    import h5py

    try:
        file = h5py.File(path)
    except OSError as error:
        raise ForeignError(f"{path}: is no HDF5 file ({error})") from error
    with file:
        yield file


def files_below(path: Path, *endings: str) -> Iterator[Path]:
    """Yield the files of a folder with these endings, in order; or the file itself. Raises ForeignError for nothing."""
    below = (p for p in path.rglob("*") if p.suffix.lower() in endings and p.is_file())
    found = [path] if path.is_file() else sorted(below)
    if not found:
        raise ForeignError(f"{path}: there are no files that end in {' or '.join(endings)}")
    yield from found
