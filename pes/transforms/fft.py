"""Fourier transforms along the last axis, by the library that a campaign has chosen (``run.fft``).

The last bits differ between libraries, so a campaign always uses the same one. A library is imported only when it is
used. NumPy's pocketfft is always installed.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from xcorr.core import XcorrError

LIBRARIES = ("pocketfft", "fftw", "mkl", "ducc")
CURES = {
    "fftw": "pip install pyfftw, or 'xcorr[fft]'",
    "mkl": "pip install mkl-service mkl_fft (Intel and AMD processors)",
    "ducc": "pip install ducc0, or 'xcorr[fft]'",
}


class FftError(XcorrError, ImportError):
    """A library that is not installed."""


class Library(NamedTuple):
    """Transforms of real traces: ``rfft(data, n)``, zero-padded, without a factor; ``irfft(spectra, n)``, with 1/n.

    float32 gives complex64, and complex64 gives float32. With ``whole_batches`` the bits of a row may depend on the
    number of rows, so callers must always transform batches of the same size.
    """

    rfft: Callable[[np.ndarray, int], np.ndarray]
    irfft: Callable[[np.ndarray, int], np.ndarray]
    whole_batches: bool = False


@functools.cache
def library(name: str) -> Library:
    """Return a library by its name in :data:`LIBRARIES`. Raises FftError where it is not installed."""
    if name == "pocketfft":
        return Library(rfft, np.fft.irfft)
    try:
        return {"fftw": _fftw, "mkl": _mkl, "ducc": _ducc}[name]()
    except ImportError as error:
        raise FftError(f"run.fft = {name!r}: the library cannot be loaded ({error}); {CURES[name]}") from error


def rfft(data: np.ndarray, n: int) -> np.ndarray:
    """Return the spectra of real traces [..., sample], zero-padded to ``n`` points; float32 gives complex64.

    NumPy transforms float32 in single precision only if the factor is float32 too, as with "ortho". NumPy is faster
    if it need not pad, so the padding is done here.
    """
    if data.dtype != np.float32:
        return np.fft.rfft(data, n)
    spectra: np.ndarray = np.fft.rfft(_padded(data, n), norm="ortho")
    spectra *= np.float32(n**0.5)
    return spectra


def _padded(data: np.ndarray, n: int) -> np.ndarray:
    if data.shape[-1] == n:
        return data
    padded = np.zeros((*data.shape[:-1], n), data.dtype)
    padded[..., : data.shape[-1]] = data[..., :n]
    return padded


def next_fast_len(n: int) -> int:
    """Return the smallest length >= ``n`` without prime factors above 5. Real FFTs of such lengths are fast.

    >>> next_fast_len(14_880), next_fast_len(17)
    (15000, 18)
    """
    best = 1 << max(n - 1, 0).bit_length()
    fives = 1
    while fives < best:
        odd = fives
        while odd < best:
            best = min(best, odd << max(-(-n // odd) - 1, 0).bit_length())
            odd *= 3
        fives *= 5
    return best


def _fftw() -> Library:
    import pyfftw
    from pyfftw.interfaces import scipy_fft

    pyfftw.interfaces.cache.enable()  # else every call would make its plan again
    how: dict[str, Any] = {"planner_effort": "FFTW_ESTIMATE", "workers": 1}  # measured plans differ from run to run
    return Library(lambda x, n: scipy_fft.rfft(x, n, **how), lambda x, n: scipy_fft.irfft(x, n, **how), True)


def _mkl() -> Library:
    os.environ.setdefault("MKL_THREADING_LAYER", "SEQUENTIAL")  # OpenMP leaves files in /dev/shm
    from mkl_fft.interfaces import scipy_fft

    return Library(scipy_fft.rfft, scipy_fft.irfft, True)


def _ducc() -> Library:
    from ducc0 import fft

    def forward(data: np.ndarray, n: int) -> np.ndarray:
        spectra: np.ndarray = fft.r2c(_padded(data, n), axes=[data.ndim - 1])
        return spectra

    def back(spectra: np.ndarray, n: int) -> np.ndarray:
        traces: np.ndarray = fft.c2r(spectra, axes=[spectra.ndim - 1], lastsize=n, forward=False, inorm=2)
        return traces

    return Library(forward, back, True)
