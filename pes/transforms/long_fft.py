"""Real FFTs of long traces as FFTs of short ones, which fit the cache.

A trace of R C samples is a matrix [R, C]. FFTs down its columns, a multiplication by exp(-2 pi i r c / R C), and FFTs
along its rows give the spectrum: element [r, q] has the frequency r + R q (Bailey 1990, J. Supercomput. 4, 23). A real
trace needs only the rows 0 ... R/2. Spectra keep this order, and :func:`frequencies` returns the frequency of each
element. A change of C changes the sampling rate.
"""

from __future__ import annotations

import functools

import numpy as np

from xcorr.pes.items import Complex64, Float32

SPAN = 32  # columns of a table of factors


def shape_of(length: int, unit: int) -> tuple[int, int]:
    """Return R and C with ``length`` = R C, as near to each other as possible. R is even, C a multiple of ``unit``.

    ``length`` must be an even multiple of ``unit``.
    """
    total = length // unit
    rows = [r for r in range(2, 2 * int(length**0.5) + 3, 2) if total % r == 0]
    best = min(rows, key=lambda r: max(r, length // r))
    return best, length // best


def frequencies(rows: int, columns: int) -> np.ndarray:
    """Return the frequencies [rows/2 + 1, columns] of spectra, in steps of 1 / length; negative in the second half."""
    return np.arange(rows // 2 + 1)[:, None] + rows * np.fft.ifftshift(np.arange(columns) - columns // 2)


def in_order(values: np.ndarray, rows: int) -> np.ndarray:
    """Return values, given at frequencies 0 to half the length, in spectrum order; conjugate at negative ones."""
    columns = 2 * (len(values) - 1) // rows
    ordered: np.ndarray = values[np.abs(frequencies(rows, columns))]
    negative = ordered[:, (columns + 1) // 2 :]
    np.conjugate(negative, out=negative)
    return ordered


@functools.lru_cache(maxsize=4)
def _factors(rows: int, columns: int) -> Complex64:
    """Return exp(-2 pi i r c / R C), [rows/2 + 1, columns]: the products of two small tables."""
    r = np.arange(rows // 2 + 1)[:, None]
    step = -2j * np.pi / (rows * columns)
    coarse = np.exp(step * (r * np.arange(0, columns, SPAN))).astype(np.complex64)
    fine = np.exp(step * (r * np.arange(SPAN))).astype(np.complex64)
    table = (coarse[:, :, None] * fine[:, None, :]).reshape(len(r), -1)
    return np.ascontiguousarray(table[:, :columns])


@functools.lru_cache(maxsize=4)
def _conjugate_factors(rows: int, columns: int) -> Complex64:
    return _factors(rows, columns).conj()


def forward(data: Float32, rows: int) -> Complex64:
    """Return the spectrum [rows/2 + 1, columns] of a trace, over the root of its length."""
    matrix = data.reshape(rows, -1)
    spectrum = np.fft.rfft(matrix, axis=0, norm="ortho")
    spectrum *= _factors(*matrix.shape)
    return np.fft.fft(spectrum, axis=1, norm="ortho").astype(np.complex64, copy=False)


def resized(spectrum: Complex64, columns: int) -> Complex64:
    """Return the spectrum with another number of columns: without the highest frequencies, or with zeros above."""
    have = spectrum.shape[1]
    if columns == have:
        return spectrum
    shared = min(columns, have)
    other = np.zeros((len(spectrum), columns), np.complex64)
    positive, negative = (shared + 1) // 2, shared // 2
    other[:, :positive] = spectrum[:, :positive]
    other[:, columns - negative :] = spectrum[:, have - negative :]
    return other


def back(spectrum: Complex64, rows: int) -> Float32:
    """Return the trace of a spectrum that :func:`forward` gave."""
    columns = np.fft.ifft(spectrum, axis=1, norm="ortho")
    columns *= _conjugate_factors(rows, spectrum.shape[1])
    return np.fft.irfft(columns, rows, axis=0, norm="ortho").astype(np.float32, copy=False).reshape(-1)
