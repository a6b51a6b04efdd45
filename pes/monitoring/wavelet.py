"""Wavelet cross-spectra: dv/v by frequency, from the phase between a correlation and its reference.

Mao, Mordret, Campillo, Fang & van der Hilst (2020, GJI 221). Only sums over lags and frequencies are kept, never the
plane of time and frequency.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from xcorr.pes.items import Float32, Float64
from xcorr.pes.monitoring.lag_windows import lags_of
from xcorr.pes.parameters import require_band, require_numbers
from xcorr.pes.transforms.fft import next_fast_len

CYCLES = 6.0  # the centre of the Morlet wavelet, 2 pi f s (Torrence & Compo 1998)
PER_OCTAVE = 12  # frequencies
AT_ONCE = 1 << 21  # values of wavelet transforms held at once
WIDTH_OCTAVES = 1.5  # frequencies so far apart tell different things, as the scatter in the changing medium shows
INDEPENDENT = np.sqrt(2)  # lags that are one standard deviation of the wavelet times this apart tell different things


@dataclasses.dataclass(frozen=True, slots=True)
class Wavelet:
    """Parameters of wavelet cross-spectra: the band whose frequencies are put together, and the least coherence.

    ``through_origin``: no delay at lag zero; else it is fitted, and tells of clocks. Raises ParameterError for values
    that cannot be.
    """

    band_hz: tuple[float, float]
    least_coherence: float = 0.5
    through_origin: bool = False

    def __post_init__(self) -> None:
        require_band(self, "band_hz")
        require_numbers(self, "least_coherence")

    @property
    def frequencies_hz(self) -> Float64:
        """The frequencies, equally far apart on a logarithmic axis."""
        low, high = self.band_hz
        return np.geomspace(low, high, max(2, 1 + round(PER_OCTAVE * np.log2(high / low))))


def slopes(
    pieces: Float32, reference: Float32, window: tuple[int, int], sides: str, rate_hz: float, how: Wavelet
) -> tuple[Float64, Float64, Float64, Float64]:
    """Return dv/v, its standard error, the coherence of the phases, and the static delay (s), [piece].

    The phase at lag t and frequency f is ``2 pi f (delay - dv/v * t)``. The frequency is that of the reference at the
    lag, which differs from that of the wavelet where the spectrum slopes. Points are weighted by the amplitude of the
    cross-spectrum. The coherence is the mean cosine of what the line leaves of the phases.
    """
    together = max(1, AT_ONCE // (2 * len(reference)))
    found = [
        _slopes(pieces[low : low + together], reference, window, sides, rate_hz, how)
        for low in range(0, len(pieces), together)
    ]
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))  # type: ignore[return-value]


def _slopes(
    pieces: Float32, reference: Float32, window: tuple[int, int], sides: str, rate_hz: float, how: Wavelet
) -> tuple[Float64, ...]:
    lags = lags_of(window, sides)
    columns, time = lags + len(reference) // 2, lags / rate_hz
    size = next_fast_len(2 * len(reference))
    omega = 2 * np.pi * np.fft.fftfreq(size, 1 / rate_hz)
    known = np.fft.fft(reference.astype(np.float64), size)
    own = np.fft.fft(pieces.astype(np.float64), size, axis=-1)
    sums, independent = np.zeros((7, len(pieces))), 0.0
    for frequency in how.frequencies_hz:
        scale = CYCLES / (2 * np.pi * frequency)
        wavelet = np.where(omega > 0, np.exp(-0.5 * (scale * omega - CYCLES) ** 2), 0.0)
        before = np.fft.ifft(known * wavelet)[columns]
        change = np.fft.ifft(known * wavelet * 1j * omega)[columns]
        power = np.abs(before) ** 2
        rate = np.divide((change * before.conj()).imag, power, out=np.zeros_like(power), where=power > 0)
        cross = before * np.fft.ifft(own * wavelet, axis=-1)[:, columns].conj()
        weight, phase = np.abs(cross), np.angle(cross)
        x = -rate * time
        for total, value in zip(
            sums, (1, rate * rate, rate * x, x * x, rate * phase, x * phase, phase**2), strict=True
        ):
            total += (weight * value).sum(axis=-1)
        independent += len(lags) / rate_hz / (INDEPENDENT * scale)
    octaves = max(np.log2(how.band_hz[1] / how.band_hz[0]), 1 / PER_OCTAVE)
    apart = len(how.frequencies_hz) / (1 + octaves / WIDTH_OCTAVES)  # frequencies that tell the same, together
    return _solved(sums, independent / apart, how)


def _solved(sums: Float64, independent: float, how: Wavelet) -> tuple[Float64, ...]:
    """Return the solution of the normal equations of delay and dv/v, as :func:`slopes` does."""
    weight, rr, rx, xx, rp, xp, pp = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        if how.through_origin:
            delay, slope, spread = np.zeros_like(xx), xp / xx, xx
        else:
            spread = xx - rx**2 / rr
            slope = (xp - rx / rr * rp) / spread
            delay = (rp - rx * slope) / rr
        rest = np.maximum(pp - delay * rp - slope * xp, 0.0) / weight  # mean square of the residual phase
        error = np.sqrt(rest * weight / spread / max(1.0, independent - 2))
        coherence = np.exp(-rest / 2)  # the mean cosine of residuals that are normal
        slope = np.where(coherence >= how.least_coherence, slope, np.nan)
        error, delay = (np.where(np.isnan(slope), np.nan, value) for value in (error, delay))
    return slope, error, np.where(weight > 0, coherence, np.nan), delay
