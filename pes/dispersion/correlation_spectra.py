"""Spectra of correlations: of the waves on either side of lag zero, of both together, and of the noise behind them."""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy  # its parts are imported when they are first used

from xcorr.pes.items import Float32, Float64

NETWORK_BINS = 512  # at most
NOISE = 1.0  # longest periods that lags with noise only must have
TAPER = 1.0  # longest periods over which the window of waves begins and ends


@dataclasses.dataclass(frozen=True, slots=True)
class Grid:
    """Lags to ``max_lag`` samples at ``rate_hz``, and the frequencies (bins ``bins`` of ``nfft``) of their spectra."""

    rate_hz: float
    max_lag: int
    band_hz: tuple[float, float]
    velocity_km_s: tuple[float, float]

    @property
    def nfft(self) -> int:
        """The length of Fourier transforms, twice the largest lag or more."""
        return 1 << (2 * self.max_lag).bit_length()

    def bins_apart(self, distance_km: Float64) -> Float64:
        """Return how many bins independent values of the spectra of the waves are apart, [row]."""
        lags = (distance_km / self.velocity_km_s[0] + 1.5 * TAPER / self.band_hz[0]) * self.rate_hz
        return self.nfft / (2 * np.minimum(lags, self.max_lag) + 1)

    @property
    def bins(self) -> slice:
        """The bins of the band; half an octave beside it belongs to the filters at its ends."""
        step = self.rate_hz / self.nfft
        low, high = self.band_hz[0] / 2**0.5, min(self.band_hz[1] * 2**0.5, 0.98 * self.rate_hz / 2)
        return slice(max(1, int(low / step)), int(high / step) + 1)

    @property
    def of_network(self) -> slice:
        """Every so many of the bins, of which the curve of the network is made: each tells a velocity by itself."""
        return slice(0, None, -(-len(self.frequency_hz) // NETWORK_BINS))

    @property
    def of_network_hz(self) -> Float64:
        """The frequencies of these bins (Hz)."""
        return self.frequency_hz[self.of_network]

    @property
    def frequency_hz(self) -> Float64:
        """The frequencies of the bins (Hz)."""
        return np.arange(self.bins.start, self.bins.stop) * self.rate_hz / self.nfft


@dataclasses.dataclass(frozen=True, slots=True)
class Spectra:
    """Spectra [row, bin] complex64 of the waves at positive (``causal``) and negative lags, lags counted from zero.

    ``both`` [row, bin] float32 is the spectrum of all lags of the waves, made even. ``noise`` [row, bin] is the mean
    power of lags behind the waves for each sample of lag, as of the mean of both sides. Where such lags are too few, it
    is that of lags before the waves; NaN without either.
    """

    causal: np.ndarray
    acausal: np.ndarray
    both: Float32
    noise: Float32


def spectra(correlations: Float32, distance_km: Float64, grid: Grid) -> Spectra:
    """Return spectra of correlations [row, lag]; rows with NaN, or without a distance, are zeros.

    The waves are those between the largest and the smallest velocity, and a period of the band's lower end beside.
    """
    m, rate = grid.max_lag, grid.rate_hz
    there = np.isfinite(correlations).all(axis=1, keepdims=True) & (distance_km[:, None] > 0)
    known = np.where(there, correlations, np.float32(0))
    distance_km = np.where(there[:, 0], distance_km, 1.0)
    sides = np.stack([known[:, m:], known[:, m::-1]])  # [side, row, lag]
    lag = np.arange(m + 1) / rate
    taper = TAPER / grid.band_hz[0]
    early = distance_km[:, None] / grid.velocity_km_s[1] - taper
    late = distance_km[:, None] / grid.velocity_km_s[0] + taper
    ends = _rise((late + taper - lag) / taper) * _rise((m / rate - lag) / taper)
    waves = (_rise((lag - early) / taper) * ends).astype(np.float32)
    each = scipy.fft.rfft(sides * waves, grid.nfft)[..., grid.bins]
    even = sides.sum(axis=0) * ends.astype(np.float32)
    even[:, 0] /= 2
    both = scipy.fft.rfft(even, grid.nfft)[:, grid.bins].real
    enough = NOISE * taper * rate
    behind, before = lag > late + taper, lag < early
    quiet = np.where((behind.sum(axis=1) >= enough)[:, None], behind, before)
    noise = scipy.fft.rfft(sides.mean(axis=0) * quiet, grid.nfft)[:, grid.bins]
    samples = quiet.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        power = np.where(samples >= enough, (noise.real**2 + noise.imag**2).T / samples, np.nan).T
    return Spectra(each[0], each[1], both, power.astype(np.float32))


def _rise(x: np.ndarray) -> Float64:
    """Return a taper that rises from 0 to 1 where x does."""
    found: Float64 = np.sin(np.pi / 2 * np.clip(x, 0, 1)) ** 2
    return found
