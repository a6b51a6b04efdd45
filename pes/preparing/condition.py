"""Conditioning: from raw counts to a band-limited trace on the common grid, in one pair of FFTs.

For each contiguous segment: remove mean and linear trend, taper ``edge_s`` at both ends with a cosine, pad ``edge_s``
with zeros, one forward real FFT. In the spectrum: remove the instrument response, apply the zero-phase Butterworth
band-pass |H|² (equal to a forward and a backward filter), shift onto the common sample grid, truncate to the target
rate. Then one inverse FFT. The tapered ``edge_s`` at both ends are masked.

The digital Butterworth magnitude is the bilinear transform's: with w = tan(pi f / rate),
|H|² = 1 / (1 + ((w² - w1 w2) / (w (w2 - w1)))^(2 corners)) (Oppenheim & Schafer, Discrete-Time Signal
Processing, ch. 7).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from xcorr.core import XcorrError
from xcorr.pes.items import Bool, Float32, Float64, Segment
from xcorr.pes.parameters import require_band, require_numbers
from xcorr.pes.reading.metadata import InverseResponse
from xcorr.pes.reading.segments import varies
from xcorr.pes.reading.waveform import NS
from xcorr.pes.transforms import long_fft
from xcorr.pes.transforms.fft import next_fast_len

# fits the cache, and is so large that threads seldom wait for the interpreter's lock
PIECE = 1 << 16  # samples


class ConditionError(XcorrError, ValueError):
    """A segment that cannot be conditioned."""


@dataclasses.dataclass(frozen=True, slots=True)
class Conditioning:
    """Target rate (Hz), band (Hz), Butterworth order of the band-pass, tapered and masked edge (s).

    Raises ParameterError for values that cannot be.
    """

    rate_hz: float
    band_hz: tuple[float, float]
    corners: int
    edge_s: float

    def __post_init__(self) -> None:
        require_numbers(self, "rate_hz", above=True)
        require_numbers(self, "corners", least=1)
        require_numbers(self, "edge_s")
        require_band(self, "band_hz", self.rate_hz / 2)

    @property
    def exact_rate_hz(self) -> Fraction:
        """The target rate as the fraction nearest to it."""
        return Fraction(self.rate_hz).limit_denominator(1000)


def butterworth_power(
    frequency_hz: np.ndarray, rate_hz: float, band_hz: tuple[float, float], corners: int
) -> np.ndarray:
    """Return |H|² of the digital Butterworth band-pass of order ``corners`` at frequencies below rate/2."""
    w = np.tan(np.pi * frequency_hz / rate_hz)
    low, high = (math.tan(math.pi * f / rate_hz) for f in band_hz)
    with np.errstate(divide="ignore"):  # at frequency 0 the distance is infinite, and the gain 0
        distance = (w * w - low * high) / (w * (high - low))
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + distance ** (2 * corners)))


def fft_lengths(samples: int, rate_hz: Fraction, target_hz: Fraction) -> tuple[int, int]:
    """Return input and output FFT lengths whose ratio is exactly that of the rates, both fast and even."""
    ratio = target_hz / rate_hz
    k = 2 * next_fast_len(math.ceil(samples / ratio.denominator / 2))
    return ratio.denominator * k, ratio.numerator * k


@functools.lru_cache(maxsize=4)
def _gain(bins: int, step_hz: float, rate_hz: Fraction, band_hz: tuple[float, float], corners: int) -> Float64:
    """Return |H|² at multiples 0, 1, ... of ``step_hz``, set to 0 at the first and the last frequency."""
    gain = butterworth_power(np.arange(bins) * step_hz, float(rate_hz), band_hz, corners)
    gain[[0, -1]] = 0.0  # in the spectrum of a real trace both are real, which a shift does not keep
    return gain


@functools.lru_cache(maxsize=4)
def _ordered_gain(rows: int, *how: Any) -> Float32:
    return long_fft.in_order(_gain(*how).astype(np.float32), rows)


def condition_segment(
    segment: Segment, grid_start_ns: int, how: Conditioning, inverse_response: InverseResponse | None = None
) -> tuple[int, Float32]:
    """Condition one segment.

    Returns the index of the first returned sample, and the float32 samples without the masked edges (possibly none).
    The index is on the grid that starts at ``grid_start_ns`` with the target rate. ``inverse_response`` gives the
    inverse of the complex instrument response at frequencies in Hz.
    """
    rate, target = segment.rate_hz, how.exact_rate_hz
    n = len(segment.data)
    edge = math.ceil(how.edge_s * rate)
    offset = (segment.start_ns - grid_start_ns) * target / NS  # of the first sample, in target samples
    first = math.ceil(offset + how.edge_s * target)
    last = math.floor(offset + Fraction(n - 1) * target / rate - how.edge_s * target)
    if last < first:
        return first, np.zeros(0, np.float32)
    # padded, so that the filter does not ring from one end into the other
    length, out_length = fft_lengths(n + edge, rate, target)
    rows, columns = long_fft.shape_of(length, (target / rate).denominator)
    data = np.zeros(length, np.float32)
    _detrend(segment.data, data[:n])
    ramp = (0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / max(edge, 1))).astype(np.float32)
    data[:edge] *= ramp
    data[n - edge : n] *= ramp[::-1]
    out_columns = out_length // rows
    spectrum = long_fft.resized(long_fft.forward(data, rows), min(columns, out_columns))
    step_hz = float(rate) / length
    gain = spectrum.shape[1] * rows // 2 + 1, step_hz, rate, how.band_hz, how.corners
    if inverse_response is None and offset.denominator == 1:
        spectrum *= _ordered_gain(rows, *gain)
    else:
        frequency = np.arange(gain[0]) * step_hz
        shift_s = float((math.ceil(offset) - offset) / target)
        weight = _gain(*gain) * np.exp(2j * np.pi * shift_s * frequency)
        if inverse_response is not None:
            weight *= inverse_response(frequency)
        spectrum *= long_fft.in_order(weight.astype(np.complex64), rows)
    whole = long_fft.back(long_fft.resized(spectrum, out_columns), rows)
    if out_columns != columns:
        whole *= np.float32((out_columns / columns) ** 0.5)
    start = first - math.ceil(offset)
    return first, whole[start : start + last - first + 1]


def _detrend(data: np.ndarray, out: Float32) -> None:
    """Write ``data`` minus its least-squares line to ``out``, in float64, in parts that fit the cache."""
    n = len(data)
    position = np.arange(min(n, PIECE), dtype=np.float64) - (n - 1) / 2
    room = np.empty(len(position))
    pieces = [(a, data[a : a + PIECE], room[: min(PIECE, n - a)]) for a in range(0, n, PIECE)]
    total = moment = 0.0
    for start, piece, values in pieces:
        values[:] = piece
        total += (sum_here := values.sum())
        moment += np.dot(position[: len(piece)], values) + start * sum_here
    slope = moment / max(n * (n * n - 1) / 12, 1.0)  # by the sum of squares of centred positions
    line = position * slope + total / n
    for start, piece, values in pieces:
        np.subtract(piece, line[: len(piece)], out=values)
        values -= start * slope
        out[start : start + len(piece)] = values


def condition(
    segments: Sequence[Segment],
    start_ns: int,
    samples: int,
    how: Conditioning,
    inverse_response: InverseResponse | None = None,
    into: tuple[Float32, Bool] | None = None,
) -> tuple[Float32, Bool]:
    """Condition all segments of a channel in a chunk.

    Returns ``data`` [sample] float32 and ``mask`` [sample] on the chunk's grid: ``samples`` from ``start_ns`` at the
    target rate. They are new arrays, or the two of ``into``. Masked samples are zero. Constant segments are skipped,
    because they hold no signal. Raises ConditionError if a sampling rate is too low for the band.
    """
    data, mask = into or (np.zeros(samples, np.float32), np.zeros(samples, bool))
    for segment in segments:
        if float(segment.rate_hz) / 2 <= how.band_hz[1]:
            raise ConditionError(
                f"sampling rate {float(segment.rate_hz):g} Hz is too low for the band up to {how.band_hz[1]:g} Hz"
            )
        if len(segment.data) < 2 or not varies(segment.data):
            continue
        first, values = condition_segment(segment, start_ns, how, inverse_response)
        low, high = max(first, 0), min(first + len(values), samples)
        if low < high:
            data[low:high] = values[low - first : high - first]
            mask[low:high] = True
    return data, mask
