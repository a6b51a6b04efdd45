"""Frequency-time analysis: group arrivals and phases of a pair's waves, period by period.

Levshin et al. (1972); Bensen et al. (2007, GJI 169). Narrow Gaussian filters around each period, the envelope's maximum
as the group arrival, and the phase there. Before that the phase of the network's curve is taken off (phase-matched
filter: Herrin & Goforth 1977, BSSA 67; Levshin & Ritzwoller 2001, Pure Appl. Geophys. 158). What is left is a short
pulse near time zero, which filters do not distort, and whose phase says how the pair differs from the network: also by
how many whole cycles. Filters change the frequency where the spectrum is not flat; arrivals belong to the instantaneous
frequency, and are moved to the period's own.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from xcorr.pes.dispersion import waves
from xcorr.pes.dispersion.correlation_spectra import Grid, Spectra
from xcorr.pes.dispersion.curve import Curve
from xcorr.pes.items import Float32, Float64

WIDTH = 0.3  # standard deviation of a filter over its frequency, at a distance of one wavelength; less with its root
WIDTHS = (0.03, 0.15)  # the least and the largest
CLASS = 2**0.25  # distances that share filters differ by this factor at most
FARTHEST = 0.35  # an arrival may differ from the network's by this share of its time, and 1.5 lengths of a pulse
TIMES = 49  # at which envelopes are computed
REACH = 3  # times by which an arrival may change from one period to the next
CLIMB = 6  # times by which the path may pass a maximum
PRICE = 0.02  # of such a change by one, in shares of the largest envelope


@dataclasses.dataclass(frozen=True)
class Filters:
    """Filters at frequencies for one class of distances: for each period the bins, and factors that lead to times.

    ``factors`` [period][bin, time] complex64; ``times_s`` [period, time]; ``gains`` [period][bin] float32; ``length_s``
    [period] the standard deviation of the envelope of a pulse.
    """

    frequency_hz: Float64
    bins: list[slice]
    factors: list[np.ndarray]
    gains: list[Float32]
    times_s: Float64
    length_s: Float64


@dataclasses.dataclass(frozen=True)
class Arrivals:
    """What was read at the maxima of the envelopes, [row, period].

    ``delay_s``: the group arrival less that of the network. ``phase``: by how much the wave's phase (radians) is behind
    that of the network. ``height``: of the envelope. ``frequency_hz``: the instantaneous frequency. ``has_peak``: there
    is a maximum, not only an end.
    """

    delay_s: Float64
    phase: Float64
    height: Float64
    frequency_hz: Float64
    has_peak: np.ndarray


def filters(grid: Grid, curve: Curve, frequency_hz: Float64, distance_km: float) -> Filters:
    """Return the filters at frequencies for distances near the given one."""
    step, first = grid.rate_hz / grid.nfft, grid.bins.start
    length = curve.phase(frequency_hz) / frequency_hz
    width = np.clip(WIDTH / np.sqrt(distance_km / length), *WIDTHS) * frequency_hz
    envelope = 1 / (2 * np.pi * width)
    travel = distance_km / curve.group(frequency_hz)
    times = np.linspace(-1, 1, TIMES) * (FARTHEST * travel + 1.5 * envelope)[:, None]
    bins, factors, gains = [], [], []
    count = grid.bins.stop - first
    for f, w, t in zip(frequency_hz, width, times, strict=True):
        low = max(0, int((f - 3.5 * w) / step) - first)
        high = min(count, int((f + 3.5 * w) / step) + 2 - first)
        part = slice(low, max(high, low + 1))
        away = (first + np.arange(part.start, part.stop)) * step - f
        gain = np.exp(-0.5 * (away / w) ** 2)
        bins.append(part)
        gains.append(gain.astype(np.float32))
        factors.append((gain[:, None] * np.exp(2j * np.pi * away[:, None] * t)).astype(np.complex64))
    return Filters(frequency_hz, bins, factors, gains, times, envelope)


def classes(distance_km: Float64) -> np.ndarray:
    """Return the class [row] of distances: their logarithm in steps of CLASS."""
    found: np.ndarray = np.floor(np.log(np.fmax(distance_km, 1e-3)) / np.log(CLASS)).astype(np.int64)
    return found


def distance_of(number: int) -> float:
    """Return the middle distance (km) of a class."""
    return float(CLASS ** (number + 0.5))


def matched(of: Spectra, kind: str, wavenumber: Float64, distance_km: Float64) -> tuple[np.ndarray, np.ndarray]:
    """Return causal and acausal spectra [row, bin] without the phase of the network's curve (``wavenumber`` [bin])."""
    x = distance_km[:, None] * wavenumber
    back = np.exp(1j * waves.phase(kind, x).astype(np.float32))
    return of.causal * back, of.acausal * back


def envelopes(spectra: np.ndarray, by: Filters) -> np.ndarray:
    """Return the filtered waves [row, period, time], without their own oscillation."""
    found = np.empty((len(spectra), len(by.bins), TIMES), np.complex64)
    for k, (bins, factors) in enumerate(zip(by.bins, by.factors, strict=True)):
        np.matmul(np.ascontiguousarray(spectra[:, bins]), factors, out=found[:, k])
    return found


def noise_rms(noise: Float32, by: Filters, nfft: int) -> Float64:
    """Return what the real part of filtered noise is, rms [row, period], from its power by bin."""
    each = [noise[:, bins] @ gain**2 for bins, gain in zip(by.bins, by.gains, strict=True)]
    return np.sqrt(np.stack(each, axis=1).astype(np.float64) * nfft / 2)


def arrivals(filtered: np.ndarray, top: np.ndarray, by: Filters) -> Arrivals:
    """Return the arrivals of waves [row, period, time] near times (numbers) ``top`` [row, period]."""
    rows, periods = np.indices(top.shape)
    middle = np.clip(top, 1, TIMES - 2)
    z = [filtered[rows, periods, middle + k].astype(np.complex128) for k in (-1, 0, 1)]
    log = [np.log(np.maximum(np.abs(value), 1e-300)) for value in z]
    bend = log[0] - 2 * log[1] + log[2]
    has_peak = (bend < 0) & (log[1] >= log[0]) & (log[1] >= log[2])
    move = np.divide(log[0] - log[2], 2 * bend, out=np.zeros_like(bend), where=has_peak)
    step = by.times_s[:, 1] - by.times_s[:, 0]
    later, earlier = np.angle(z[2] * z[1].conj()), np.angle(z[1] * z[0].conj())
    turn = move * (later + earlier) / 2 + move**2 * (later - earlier) / 2
    offset = ((later + earlier) / 2 + move * (later - earlier)) / (2 * np.pi * step)
    return Arrivals(
        by.times_s[periods, middle] + move * step,
        -(np.angle(z[1]) + turn),
        np.exp(log[1] - (log[0] - log[2]) * move / 4),
        by.frequency_hz + offset,
        has_peak,
    )


def at_periods(of: Arrivals, frequency_hz: Float64) -> Float64:
    """Return the delays [row, period] at the frequencies of the filters, from those at instantaneous frequencies."""
    there, delay = of.frequency_hz, of.delay_s
    apart = np.gradient(there, axis=1)
    steep = np.divide(np.gradient(delay, axis=1), apart, out=np.zeros_like(delay), where=apart > 0)
    moved: Float64 = delay + np.clip(frequency_hz - there, -np.abs(apart), np.abs(apart)) * steep
    return moved


def ridge(height: Float32) -> np.ndarray:
    """Return the times (numbers) [row, period] of the smooth path along the largest envelopes [row, period, time]."""
    rows, periods, times = height.shape
    scale = height.max(axis=2, keepdims=True)
    share = np.divide(height, scale, out=np.zeros_like(height), where=scale > 0)
    moves = np.arange(-REACH, REACH + 1)
    price = (PRICE * moves**2).astype(np.float32)
    back = np.empty((periods, rows, times), np.int8)
    total = share[:, 0]
    for k in range(1, periods):
        padded = np.pad(total, ((0, 0), (REACH, REACH)), constant_values=-np.inf)
        best, of = padded[:, :times] - price[0], np.zeros((rows, times), np.int8)
        for number in range(1, len(moves)):
            other = padded[:, number : number + times] - price[number]
            better = other > best
            best = np.where(better, other, best)
            of[better] = number
        back[k] = of - REACH
        total = best + share[:, k]
    path = np.empty((rows, periods), np.int64)
    path[:, -1] = total.argmax(axis=1)
    every = np.arange(rows)
    for k in range(periods - 1, 0, -1):
        path[:, k - 1] = path[:, k] + back[k, every, path[:, k]]
    return climbed(height, path)


def climbed(height: Float32, path: np.ndarray) -> np.ndarray:
    """Return the times (numbers) [row, period] of the maxima of envelopes beside a path."""
    path, times = path.copy(), height.shape[2]
    row, period = np.indices(path.shape)
    for _ in range(CLIMB):
        here, last = height[row, period, path], times - 1
        left, right = height[row, period, np.maximum(path - 1, 0)], height[row, period, np.minimum(path + 1, last)]
        path += np.where((right > here) & (right >= left), 1, np.where(left > here, -1, 0))
    return path
