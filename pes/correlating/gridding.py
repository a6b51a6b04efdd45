"""Correlations at short lags without a long inverse FFT: gridding onto a coarser frequency grid.

At lags |t| <= M samples the sum over bins of X[k] exp(2 pi i k t / N) does not need N points. Each bin is spread, with
the weights of a narrow kernel, over the frequencies of a grid of n >= 2 (2M + 1) points. Then follow one inverse FFT of
n points, and a division by the Fourier transform of the kernel. With the Kaiser-Bessel kernel and WIDTH = 8 the error
is that of single precision (Jackson et al. 1991, IEEE Trans. Med. Imaging 10, 473; Fessler & Sutton 2003, IEEE Trans.
Signal Process. 51, 560). Gridding is linear in X, so matrix products spread the cross spectra of many pairs at once.
The real weights are stored as complex numbers. OpenBLAS sums all columns of a complex product in the same order, but
the columns of a real product in several orders, which would change bits.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from xcorr.pes.items import Complex64, Float32, Float64
from xcorr.pes.preparing.whiten import SpectralGrid
from xcorr.pes.transforms.fft import next_fast_len

WIDTH = 8  # of the kernel, in steps of the coarse grid
SLAB = 64  # bins spread at once


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Gridding:
    """The coarse grid of ``nfft`` points: its frequencies ``first ... first + bins - 1`` (negative ones too).

    ``slabs`` give a range of in-band bins, that of the coarse frequencies they reach, and the weights between them.
    ``scale`` [2M+1] undoes the kernel and has the factor 1/N of the long inverse transform.
    """

    nfft: int
    first: int
    bins: int
    slabs: tuple[tuple[slice, slice, Complex64], ...]
    scale: Float32

    def spread(self, spectra: Complex64) -> Complex64:
        """Return [row, coarse frequency] of spectra [row, in-band bin]."""
        out = np.zeros((self.bins, len(spectra)), np.complex64)
        columns = np.ascontiguousarray(spectra.T)
        for part, reached, weights in self.slabs:
            out[reached] += weights @ columns[part]
        return out.T

    def half_spectra(self, spread: Complex64, out: Complex64) -> None:
        """Write spectra [row, coarse frequency] to ``out`` [row, nfft/2 + 1] for a real inverse transform.

        Only the real part of the transform is needed, so values beyond 0 or the Nyquist frequency are added at the
        mirrored frequency, conjugate. ``out`` must be zero at the first call. Only this method may write to ``out``.
        """
        half = self.nfft // 2
        inside = slice(max(1 - self.first, 0), min(half - self.first, self.bins))
        if inside.stop - inside.start < self.bins:  # mirrored values are added, so those of the last batch must go
            out[:] = 0
        out[:, self.first + inside.start : self.first + inside.stop] = spread[:, inside]
        for at in (*range(inside.start), *range(inside.stop, self.bins)):
            j = (self.first + at) % self.nfft
            if j <= half:
                out[:, j] += spread[:, at]
            # 0 and the Nyquist frequency are their own mirrors, and irfft counts them once
            if j % half == 0 or j > half:
                out[:, (self.nfft - j) % self.nfft] += spread[:, at].conj()


@functools.cache
def gridding(grid: SpectralGrid) -> Gridding | None:
    """Return the gridding for the lags of ``grid``, or None if there are so many lags that gridding is slower."""
    lags = 2 * grid.lags + 1
    nfft = 2 * next_fast_len(lags)
    if 2 * nfft > grid.nfft:  # sizes alone decide, so that every run of a campaign decides alike
        return None
    beta = math.pi * WIDTH * (1 - lags / (2 * nfft))
    bins = np.arange(grid.first, grid.stop)
    position = np.multiply(bins, nfft / grid.nfft, dtype=np.float64)
    once = np.where((bins == 0) | (2 * bins == grid.nfft), 0.5, 1.0)  # other bins also count for their conjugates
    first, stop = _reached(position)
    slabs = []
    for low in range(0, grid.bins, SLAB):
        part = slice(low, min(low + SLAB, grid.bins))
        reached = _reached(position[part])
        distance = position[part] - np.arange(*reached, dtype=np.float64)[:, None]
        weights = (kernel(distance, beta) * once[part]).astype(np.complex64)
        slabs.append((part, slice(reached[0] - first, reached[1] - first), weights))
    scale = nfft / grid.nfft / kernel_transform(np.arange(-grid.lags, grid.lags + 1) / nfft, beta)
    return Gridding(nfft, first, stop - first, tuple(slabs), scale.astype(np.float32))


def _reached(position: Float64) -> tuple[int, int]:
    """Return the first coarse frequency that bins at these positions reach, and the one after the last."""
    return math.ceil(position[0] - WIDTH / 2), math.floor(position[-1] + WIDTH / 2) + 1


def kernel(distance: Float64, beta: float) -> Float64:
    """Return the Kaiser-Bessel kernel, 1 at distance 0 and 0 from WIDTH/2 on."""
    inside = 1 - np.square(2 * distance / WIDTH)
    values: Float64 = np.zeros(inside.shape)
    # only where the kernel is not 0, because np.i0 is slow
    values[inside >= 0] = np.i0(beta * np.sqrt(inside[inside >= 0])) / np.i0(beta)
    return values


def kernel_transform(lag: Float64, beta: float) -> Float64:
    """Return the Fourier transform of :func:`kernel` at lags below beta / (pi WIDTH), in 1 over coarse steps."""
    root = np.sqrt(beta**2 - np.square(math.pi * WIDTH * lag))
    transform: Float64 = WIDTH / np.i0(beta) * np.sinh(root) / root
    return transform
