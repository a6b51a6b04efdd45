"""What readers return: the samples of a channel with the times and the metadata that the file itself gives."""

from __future__ import annotations

import dataclasses
import datetime
import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

NS = 1_000_000_000
DAY_NS = 86_400 * NS
SLOWEST_HZ, FASTEST_HZ = 1e-6, 1e6
LONGEST_NS = 100 * 366 * DAY_NS
LARGEST_DENOMINATOR = 32
FLOAT32_STEP = 1.2e-7  # relative


@dataclasses.dataclass(frozen=True, slots=True)
class Coordinates:
    """Degrees on WGS84 and metres."""

    latitude: float
    longitude: float
    elevation_m: float = float("nan")

    @property
    def are_known(self) -> bool:
        """Whether there are a latitude and a longitude."""
        return math.isfinite(self.latitude + self.longitude)


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Coordinates from a time on, up to another (ns)."""

    at: Coordinates
    start_ns: int = -(2**62)
    end_ns: int = 2**62


@dataclasses.dataclass(frozen=True, slots=True)
class Waveform:
    """Samples of one channel in a row; times in ns UTC.

    ``last_ns`` is the time of the last sample, ``rate_hz`` the rate of the header: in a file of records they may
    disagree. ``data`` [sample] is empty if only headers were read. ``direction`` is azimuth and dip (degrees,
    StationXML's conventions), if the file has them.
    """

    network: str
    station: str
    location: str
    channel: str
    start_ns: int
    last_ns: int
    rate_hz: float
    data: np.ndarray
    samples: int
    direction: tuple[float, float] | None = None
    coordinates: Coordinates | None = None

    @property
    def seed_id(self) -> str:
        """``NET.STA.LOC.CHA``."""
        return f"{self.network}.{self.station}.{self.location}.{self.channel}"

    def within(self, start_ns: int | None, end_ns: int | None) -> Waveform:
        """Return the samples in a time and one more on both sides, by the rate of the header."""
        first, stop = 0, self.samples
        if start_ns is not None:
            first = max(0, math.floor((start_ns - self.start_ns) / NS * self.rate_hz) - 1)
        if end_ns is not None:
            stop = min(stop, math.ceil((end_ns - self.start_ns) / NS * self.rate_hz) + 2)
        if first == 0 and stop >= self.samples:
            return self
        stop = max(first, stop)
        rate = Fraction(self.rate_hz)
        times = [self.start_ns + round(k * NS / rate) for k in (first, stop - 1)]
        return dataclasses.replace(
            self, start_ns=times[0], last_ns=times[1], data=self.data[first:stop], samples=max(0, stop - first)
        )

    @property
    def drift(self) -> float:
        """The time from the first to the last sample minus what the rate gives, in samples."""
        return (self.last_ns - self.start_ns) / NS * self.rate_hz - (self.samples - 1)

    @property
    def impossible(self) -> str:
        """Why its times cannot be true, such as those of a clock that was not set; empty if they can."""
        if not (math.isfinite(self.rate_hz) and SLOWEST_HZ < self.rate_hz < FASTEST_HZ):
            return f"its sampling rate is {self.rate_hz:g} Hz; possible are {SLOWEST_HZ:g} to {FASTEST_HZ:g} Hz"
        if self.last_ns - self.start_ns > LONGEST_NS:
            return f"its {self.samples} samples at {self.rate_hz:g} Hz would last more than 100 years"
        if abs(self.start_ns) < DAY_NS:
            return "it begins on 1970-01-01, so its clock was not set, or its header has no date"
        if self.start_ns > (datetime.datetime.now(datetime.UTC).timestamp() + 366 * 86_400) * NS:
            return f"it begins on {day_of(self.start_ns)}, in the future"
        return ""


class Answer(NamedTuple):
    """What a source gives: waveforms, what was wrong (something is lost), and remarks (nothing is lost)."""

    waveforms: list[Waveform]
    wrong: list[str]
    notes: list[str]


def simplest(rate_hz: float) -> Fraction:
    """Return the nearest rate with a denominator of rate or period of at most 32.

    >>> simplest(39.9999), simplest(0.1), simplest(31.25)
    (Fraction(40, 1), Fraction(1, 10), Fraction(125, 4))
    """
    if rate_hz >= 1:
        return Fraction(rate_hz).limit_denominator(LARGEST_DENOMINATOR)
    return 1 / Fraction(1 / rate_hz).limit_denominator(LARGEST_DENOMINATOR)


def meant(rate_hz: float) -> Fraction:
    """Return the simple rate that a float32 of the rate or the interval stands for, else the rate itself.

    >>> meant(1 / 0.008333334), meant(100.0001)
    (Fraction(120, 1), Fraction(1000001, 10000))
    """
    simple = simplest(rate_hz)
    return simple if abs(float(simple) / rate_hz - 1) < FLOAT32_STEP else Fraction(rate_hz).limit_denominator(10**9)


def day_of(time_ns: int) -> str:
    """Return the UTC day of a time."""
    return str(np.datetime64(time_ns, "ns").astype("datetime64[D]"))


def of_trace(trace: Any) -> Waveform:
    """Return the waveform of an ObsPy trace. Masked samples become NaN, because such samples become gaps.

    ObsPy rounds the interval of SAC files to microseconds, so it is taken from the header itself.
    """
    stats, sac = trace.stats, getattr(trace.stats, "sac", None) or {}
    rate, data = float(stats.sampling_rate), trace.data
    if isinstance(data, np.ma.MaskedArray):
        data = np.ma.filled(data.astype(np.promote_types(data.dtype, np.float32)), np.nan)
    if "delta" in sac:
        rate = 1 / float(sac["delta"]) if sac["delta"] else math.inf
    rate = float(meant(rate)) if math.isfinite(rate) and rate > 0 else rate
    samples = int(stats.npts)
    start = stats.starttime.ns if "delta" not in sac or "nzyear" in sac else 0
    last = start + min(round((samples - 1) / rate * NS), 2 * LONGEST_NS) if rate > 0 else start
    network, station, location, channel = (str(stats[n]).strip() for n in ("network", "station", "location", "channel"))
    data = data if len(data) == samples else data[:0]
    of_sac = _direction(sac), _place(sac)
    return Waveform(network, station, location, channel, start, last, rate, data, samples, *of_sac)


def _direction(sac: Any) -> tuple[float, float] | None:
    """Return azimuth and dip from a SAC header, whose ``cmpinc`` is measured from the vertical, upwards."""
    if "cmpaz" not in sac or "cmpinc" not in sac:
        return None
    return float(sac["cmpaz"]), float(sac["cmpinc"]) - 90.0


def _place(sac: Any) -> Coordinates | None:
    if "stla" not in sac or "stlo" not in sac:
        return None
    return Coordinates(float(sac["stla"]), float(sac["stlo"]), float(sac.get("stel", float("nan"))))
