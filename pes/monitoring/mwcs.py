"""Moving-window cross-spectra: the delay in short windows along the lag axis, and its slope over lag.

Poupinet, Ellsworth & Frechet (1984, JGR 89); Clarke, Zaccarelli, Shapiro & Brenguier (2011, GJI 186).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from xcorr.pes.items import Float32, Float64
from xcorr.pes.monitoring.lag_windows import sides_of
from xcorr.pes.monitoring.regression import line
from xcorr.pes.parameters import require_band, require_numbers
from xcorr.pes.transforms.fft import next_fast_len

TAPER = 0.85  # share of a window that is tapered, both ends together (Clarke et al. 2011)
NEARLY_ONE = 1 - 1e-6  # coherence of this and more has one weight
LEAST_ERROR_S = 1e-6  # so that a window without any error does not outweigh all others
INDEPENDENT = 0.6  # share of a tapered window after which the next one tells something else
AT_ONCE = 1 << 21  # values of spectra held at once


@dataclasses.dataclass(frozen=True, slots=True)
class Mwcs:
    """Parameters of moving-window cross-spectra.

    ``band_hz``: frequencies whose phase gives the delay; ``window_s`` and ``step_s``: length and distance of windows;
    ``smooth_bins``: half width of the smoothing of spectra. Windows count for the slope with a coherence of at least
    ``least_coherence``, an error of the delay of at most ``most_error_s``, and a delay of at most ``most_delay_s``.
    ``through_origin``: no delay at lag zero; else it is fitted, and tells of clocks. Raises ParameterError for values
    that cannot be.
    """

    band_hz: tuple[float, float]
    window_s: float
    step_s: float
    smooth_bins: int = 2
    least_coherence: float = 0.5
    most_error_s: float = 0.1
    most_delay_s: float = 1.0
    through_origin: bool = False

    def __post_init__(self) -> None:
        require_band(self, "band_hz")
        require_numbers(self, "window_s", "step_s", "most_error_s", "most_delay_s", above=True)
        require_numbers(self, "smooth_bins", "least_coherence")


@dataclasses.dataclass(frozen=True, slots=True)
class Delays:
    """Delays of correlations against a reference, [piece, window]: ``delay_s``, ``error_s``, ``coherence``.

    ``lag_s`` [window] is the centre of each window's energy in the reference. A positive delay: the waves arrive later
    than in the reference.
    """

    lag_s: np.ndarray
    delay_s: np.ndarray
    error_s: np.ndarray
    coherence: np.ndarray


def delays(
    pieces: Float32, reference: Float32, window: tuple[int, int], sides: str, rate_hz: float, how: Mwcs
) -> Delays:
    """Return the delays of pieces [piece, lag] against a reference [lag]; ``window`` in samples, the last one included.

    Weights, slope of the phase and error are those of Clarke et al. (2011). The delay of a window in which waves decay
    is that at the centre of its energy, which lies before its middle.
    """
    middle = len(reference) // 2
    length, step = round(how.window_s * rate_hz), max(1, round(how.step_s * rate_hz))
    starts = np.concatenate([np.arange(a, b - length + 2, step) for a, b in sides_of(window, sides)]).astype(np.int64)
    size = next_fast_len(2 * length)
    frequency = np.fft.rfftfreq(size, 1 / rate_hz)
    inside = np.flatnonzero((frequency >= how.band_hz[0]) & (frequency <= how.band_hz[1]))
    taper = _taper(length)
    columns = starts[:, None] + middle + np.arange(length)

    def spectra(rows: np.ndarray) -> np.ndarray:
        parts = rows[..., columns].astype(np.float64)
        parts -= parts.mean(axis=-1, keepdims=True)
        return np.fft.rfft(parts * taper, size, axis=-1)

    known = spectra(reference)
    found = np.full((3, len(pieces), len(starts)), np.nan)
    together = max(1, AT_ONCE // max(1, len(starts) * len(frequency)))
    for low in range(0, len(pieces), together):
        part = slice(low, low + together)
        found[:, part] = _of_spectra(known, spectra(pieces[part]), inside, 2 * np.pi * frequency[inside], how)
    energy = (reference[columns].astype(np.float64) * taper) ** 2
    with np.errstate(invalid="ignore"):
        lag = (energy * (columns - middle)).sum(axis=-1) / energy.sum(axis=-1)
    return Delays(lag / rate_hz, *found)


def _of_spectra(known: np.ndarray, own: np.ndarray, inside: np.ndarray, omega: np.ndarray, how: Mwcs) -> np.ndarray:
    """Return delay, error and coherence of spectra, [3, piece, window]."""
    cross = _smooth(known * own.conj(), how.smooth_bins)[..., inside]
    power = _smooth(_power(own), how.smooth_bins)[..., inside] * _smooth(_power(known), how.smooth_bins)[..., inside]
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.abs(cross)
        coherence = np.minimum(size / np.sqrt(power), NEARLY_ONE)
        weight = np.sqrt(coherence**2 / (1 - coherence**2) * np.sqrt(size))
        phase = np.unwrap(np.angle(cross), axis=-1)
        phase -= 2 * np.pi * np.round(phase.mean(axis=-1, keepdims=True) / (2 * np.pi))
        moment = (weight * omega**2).sum(axis=-1)
        slope = (weight * omega * phase).sum(axis=-1) / moment
        rest = ((phase - slope[..., None] * omega) ** 2).sum(axis=-1) / max(1, len(omega) - 1)
        error = np.sqrt(((weight * omega) ** 2).sum(axis=-1) * rest) / moment
    return np.stack([slope, error, coherence.mean(axis=-1)])


def slopes(found: Delays, how: Mwcs) -> tuple[Float64, Float64, Float64, Float64]:
    """Return dv/v, its standard error, the mean coherence of the windows that count, and the static delay, [piece].

    A medium that is faster by dv/v has the delay ``-dv/v * t`` at lag t.
    """
    with np.errstate(invalid="ignore"):
        counts = (found.coherence >= how.least_coherence) & (found.error_s <= how.most_error_s)
        counts &= np.abs(found.delay_s) <= how.most_delay_s
        weight = np.where(counts, 1 / np.maximum(found.error_s, LEAST_ERROR_S) ** 2, 0.0)
        slope, delay, error = line(found.lag_s, found.delay_s, weight, how.through_origin)
        error *= np.sqrt(max(1.0, INDEPENDENT * how.window_s / how.step_s))  # windows that overlap tell the same
        coherence = np.where(counts, found.coherence, 0.0).sum(-1) / counts.sum(-1)
    return -slope, error, np.where(np.isnan(slope), np.nan, coherence), delay


def _power(spectra: np.ndarray) -> Float64:
    power: Float64 = spectra.real**2 + spectra.imag**2
    return power


def _taper(length: int) -> Float64:
    """Return a cosine taper of both ends."""
    side = int(TAPER * length / 2)
    taper = np.ones(length)
    taper[:side] = np.sin(np.pi / 2 * (np.arange(side) + 0.5) / max(1, side)) ** 2
    taper[length - side :] = taper[:side][::-1]
    return taper


def _smooth(spectra: np.ndarray, half: int) -> np.ndarray:
    """Return the running mean over frequency with a Hann window of ``2 half + 1`` bins."""
    if half == 0:
        return spectra
    window = np.hanning(2 * half + 3)[1:-1]
    window /= window.sum()
    padded = np.concatenate([spectra[..., half:0:-1], spectra, spectra[..., -2 : -half - 2 : -1]], axis=-1)
    count = spectra.shape[-1]
    found: np.ndarray = window[0] * padded[..., :count]
    for k in range(1, len(window)):
        found += window[k] * padded[..., k : k + count]
    return found
