"""Window spectra and spectral whitening.

A window of L samples is transformed with nfft >= L + M points (M lags), so that correlations do not wrap around:
X = rfft(x, nfft) / sqrt(L). Only the bins of the band are kept. Every method multiplies the spectra by the same taper
T(f), which has cosine flanks inside both band edges.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from xcorr.pes.items import Complex64, Float32, Float64
from xcorr.pes.parameters import require_numbers, require_one_of
from xcorr.pes.preparing.normalize import PER
from xcorr.pes.transforms.analytic import SMALLEST
from xcorr.pes.transforms.fft import library, next_fast_len
from xcorr.pes.transforms.running_mean import half_width, running_mean

METHODS = ("none", "phase", "running-mean")
FLOOR = 1e-3


@dataclasses.dataclass(frozen=True, slots=True)
class Whitening:
    """How spectra are evened out: the method, its parameters, and whether the slots of a station share their weights.

    ``smooth_hz``: full width of the running mean of |X|. Raises ParameterError for values that cannot be.
    """

    method: str = "phase"
    smooth_hz: float = 0.02
    per: str = "channel"

    def __post_init__(self) -> None:
        require_one_of(self, "method", METHODS)
        require_one_of(self, "per", PER)
        require_numbers(self, "smooth_hz")


@dataclasses.dataclass(frozen=True, slots=True)
class SpectralGrid:
    """Lengths and bins of the window spectra.

    ``length`` samples per window, ``lags`` on each side, ``nfft`` points, in-band bins ``first ... stop - 1``; ``fft``
    is the library that transforms.
    """

    length: int
    lags: int
    nfft: int
    first: int
    stop: int
    rate_hz: float
    fft: str = "pocketfft"

    @property
    def bins(self) -> int:
        """Number of in-band bins."""
        return self.stop - self.first

    @property
    def frequency_hz(self) -> Float64:
        """Frequencies of the in-band bins."""
        return np.arange(self.first, self.stop, dtype=np.float64) * (self.rate_hz / self.nfft)

    @property
    def step_hz(self) -> float:
        """Distance of two bins."""
        return self.rate_hz / self.nfft


def union(grids: Iterable[SpectralGrid]) -> SpectralGrid:
    """Return the grid with all bins from the first to the last of several that differ in nothing else."""
    every = list(grids)
    return dataclasses.replace(every[0], first=min(g.first for g in every), stop=max(g.stop for g in every))


@dataclasses.dataclass(frozen=True, slots=True)
class Band:
    """A band of the spectra: its name ("" for the main one), grid, edges and the width of its cosine flanks (Hz)."""

    name: str
    grid: SpectralGrid
    band_hz: tuple[float, float]
    taper_hz: float = 0.01

    @classmethod
    def of(
        cls,
        length: int,
        lags: int,
        rate_hz: float,
        band_hz: tuple[float, float],
        taper_hz: float = 0.01,
        name: str = "",
        fft: str = "pocketfft",
    ) -> Band:
        """Return the band for windows of ``length`` samples and ``lags`` lags on each side.

        >>> Band.of(3600, 120, 1.0, (0.1, 0.4)).grid.nfft
        3750
        """
        return cls(name, spectral_grid(length, lags, rate_hz, band_hz, fft), band_hz, taper_hz)

    def whole(self) -> Band:
        """Return the same with all bins from 0 to the Nyquist frequency, and no flanks."""
        grid = dataclasses.replace(self.grid, first=0, stop=self.grid.nfft // 2 + 1)
        return Band(self.name, grid, (0.0, self.grid.rate_hz / 2), 0.0)

    def taper(self) -> Float32:
        """Return T(f) [bin]."""
        return band_taper(self.grid, self.band_hz, self.taper_hz)


def spectral_grid(
    length: int, lags: int, rate_hz: float, band_hz: tuple[float, float], fft: str = "pocketfft"
) -> SpectralGrid:
    """Return the grid for windows of ``length`` samples and ``lags`` lags, keeping f1 <= f <= f2.

    Raises ValueError if no bin lies in the band.
    """
    nfft = next_fast_len(length + lags)
    step = rate_hz / nfft
    first = int(np.ceil(band_hz[0] / step - 1e-9))  # 1e-9, so that rounding does not lose an edge that lies on a bin
    stop = min(int(np.floor(band_hz[1] / step + 1e-9)), nfft // 2) + 1
    if stop <= first:
        raise ValueError(f"no frequency of a {length}-sample window lies in the band {band_hz} Hz")
    return SpectralGrid(length, lags, nfft, first, stop, rate_hz, fft)


def band_taper(grid: SpectralGrid, band_hz: tuple[float, float], taper_hz: float) -> Float32:
    """Return T(f) [bin]: 1, with cosine flanks of ``taper_hz`` inside both edges of the band."""
    if taper_hz <= 0:
        return np.ones(grid.bins, np.float32)
    f = grid.frequency_hz
    distance = np.minimum(f - band_hz[0], band_hz[1] - f).clip(0, taper_hz)
    return (0.5 - 0.5 * np.cos(np.pi * distance / taper_hz)).astype(np.float32)


def window_spectra(windows: np.ndarray, grid: SpectralGrid) -> Complex64:
    """Return X [..., window, in-band bin] of ``windows`` [..., window, sample]; rfft(x, nfft) / sqrt(L)."""
    spectra = library(grid.fft).rfft(windows, grid.nfft)[..., grid.first : grid.stop]
    scaled: Complex64 = np.multiply(spectra, np.float32(grid.length**-0.5), dtype=np.complex64)
    return scaled


def whiten(spectra: Complex64, how: Whitening, grid: SpectralGrid, taper: Float32) -> Complex64:
    """Whiten ``spectra`` [slot, window, bin] and apply the band taper.

    ``none``: X T. ``phase``: X/|X| T, 0 where X is 0 (Bensen et al. 2007 with full equalisation).
    ``running-mean``: X T / A, where A is the mean of |X| over ``smooth_hz`` (in-band bins only), at least 1e-3 of its
    mean over the band. With ``per = "station"``, |X| is the mean over all slots whose window is not all zero.
    Raises ValueError for another method.
    """
    if how.method == "none":
        return spectra * taper
    amplitude = np.abs(spectra).astype(np.float64)
    if how.per == "station":
        present = amplitude.any(axis=-1, keepdims=True)  # a slot without this window must not lower the shared weight
        shared = amplitude.sum(axis=0, keepdims=True) / np.maximum(present.sum(axis=0, keepdims=True), 1)
        amplitude = np.broadcast_to(shared, spectra.shape)
    if how.method == "running-mean":
        n = half_width(how.smooth_hz, 1.0 / grid.step_hz)
        amplitude = running_mean(amplitude, np.ones(grid.bins), n)
        amplitude = np.maximum(amplitude, FLOOR * amplitude.mean(axis=-1, keepdims=True))
    elif how.method != "phase":
        raise ValueError(f"whitening {how.method!r} is not one of {', '.join(METHODS)}")
    weight = np.divide(taper, amplitude, out=np.zeros(amplitude.shape), where=amplitude > SMALLEST)
    return np.multiply(spectra, weight, dtype=np.complex64, casting="same_kind")
