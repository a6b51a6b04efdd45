"""Stacks of correlations.

Arrays are [piece, row, lag]. The weights ``n`` [piece, row] are the numbers of windows. A series with n = 0 is ignored.
Sums are float64, in the order of pieces. A stack without data is NaN.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from xcorr.pes.items import Float64
from xcorr.pes.parameters import require_band, require_numbers
from xcorr.pes.stacking.sums import Sums
from xcorr.pes.transforms.analytic import SMALLEST, analytic
from xcorr.pes.transforms.fft import next_fast_len
from xcorr.pes.transforms.running_mean import half_width, running_mean

METHODS = ("linear", "pws", "tf-pws", "robust", "nroot", "selective", "acf")
ROBUST_STEPS, ROBUST_CHANGE = 20, 1e-5
AT_ONCE = 16 << 20  # bytes of time-frequency planes


@dataclasses.dataclass(frozen=True, slots=True)
class Stacking:
    """The parameters of the stack methods; ``rate_hz`` is that of the lag axis.

    ``pws_timegate_s``: running mean of the phase coherence; ``tf_pws_band_hz``: frequencies that tf-pws weights (the
    others are stacked linearly). Raises ParameterError for values that cannot be.
    """

    rate_hz: float
    pws_power: float = 2.0
    pws_timegate_s: float = 0.0
    tf_pws_power: float = 2.0
    tf_pws_band_hz: tuple[float, float] | None = None
    nroot_order: float = 2.0
    selective_threshold: float = 0.0
    acf_power: float = 1.0

    def __post_init__(self) -> None:
        require_numbers(self, "rate_hz", above=True)
        require_numbers(self, "pws_power", "pws_timegate_s", "tf_pws_power", "acf_power")
        require_numbers(self, "nroot_order", least=1)
        require_numbers(self, "selective_threshold", least=-math.inf)
        if self.tf_pws_band_hz is not None:
            require_band(self, "tf_pws_band_hz")


def stacked(method: str, series: np.ndarray, n: np.ndarray, how: Stacking) -> Float64:
    """Return a stack by name, [row, lag] (see :data:`METHODS`). Raises ValueError for an unknown one."""
    if method == "linear":
        return linear_stack(series, n)
    # series without windows are NaN, which 0 as a weight does not remove
    data = np.where(n[:, :, None] > 0, series, 0.0).astype(np.float64)
    if method == "pws":
        stack = _phase_weighted(data, n, how)
    elif method == "tf-pws":
        stack = _time_frequency_phase_weighted(data, n, how)
    elif method == "robust":
        stack = _robust(data, n)
    elif method == "nroot":
        stack = _nth_root(data, n, how.nroot_order)
    elif method == "selective":
        stack = _selective(data, n, how.selective_threshold)
    elif method == "acf":
        stack = _adaptive_covariance_filtered(data, n, how.acf_power)
    else:
        raise ValueError(f"stack method {method!r} is not one of {', '.join(METHODS)}")
    stack[~(n > 0).any(axis=0)] = np.nan
    return stack


def linear_stack(series: np.ndarray, n: np.ndarray) -> Float64:
    """Return sum n C / sum n, [row, lag]; NaN where no piece has a window."""
    sums = Sums.zeros(*series.shape[1:])
    sums.add(series, n)
    return sums.mean()


def _mean(data: Float64, weights: np.ndarray) -> Float64:
    """Return the weighted mean over pieces, [row, lag]; 0 where all weights are."""
    total = np.einsum("krl,kr->rl", data, weights.astype(np.float64))
    sums = weights.sum(axis=0, dtype=np.float64)[:, None]
    mean: Float64 = np.divide(total, sums, out=np.zeros(total.shape), where=sums > 0)
    return mean


def _phase_weighted(data: Float64, n: np.ndarray, how: Stacking) -> Float64:
    """Schimmel & Paulssen (1997, Geophys. J. Int. 130, eq. 4): linear stack times phase coherence to a power."""
    total = np.zeros(data.shape[1:], complex)
    for piece, weight in zip(data, n, strict=True):
        signal = analytic(piece)
        size = np.abs(signal)
        total += np.divide(signal, size, out=np.zeros_like(signal), where=size > SMALLEST) * weight[:, None]
    coherence = np.abs(total) / np.maximum(n.sum(axis=0)[:, None], 1)
    if how.pws_timegate_s > 0:
        width = half_width(how.pws_timegate_s, how.rate_hz)
        coherence = running_mean(coherence, np.ones(coherence.shape[-1]), width)
    stack: Float64 = _mean(data, n) * coherence**how.pws_power
    return stack


def s_transform(data: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Return the S-transform [..., frequency, time] of traces at some positive bins of their FFT.

    S(t, f) = sum_a X(a + f) exp(-2 pi² a² / f²) exp(2 pi i a t) (Stockwell et al. 1996, IEEE Trans. Signal Process. 44,
    eq. 9). Its sum over time is X(f) times the number of samples.
    """
    size = data.shape[-1]
    spectrum = np.fft.fft(data, axis=-1)
    a = np.fft.fftfreq(size, 1.0 / size)
    window = np.exp(-2 * np.pi**2 * (a[None, :] / bins[:, None]) ** 2)
    shifted = spectrum[..., (a[None, :].astype(int) + bins[:, None]) % size]
    plane: np.ndarray = np.fft.ifft(shifted * window)
    return plane


def _time_frequency_phase_weighted(data: Float64, n: np.ndarray, how: Stacking) -> Float64:
    """Schimmel & Gallart (2007, J. Geophys. Res. 112, eq. 5 and 6): weights for every time and frequency.

    The coherence of the phases of the pieces' S-transforms weights the S-transform of the linear stack. The sum of the
    weighted S-transform over time is the spectrum of the result. Frequencies outside the band keep the linear stack.
    """
    pieces, rows, size = data.shape
    linear = _mean(data, n)
    low, high = how.tf_pws_band_hz or (0.0, how.rate_hz / 2)
    frequency = np.arange(size // 2 + 1) * (how.rate_hz / size)
    bins = np.flatnonzero((frequency >= low) & (frequency <= high) & (frequency > 0))
    spectra = np.fft.rfft(linear, axis=-1)
    step = max(1, AT_ONCE // (16 * size * max(len(bins), 1)))
    for first in range(0, rows, step):
        part = slice(first, min(first + step, rows))
        coherence = np.zeros((part.stop - first, len(bins), size), complex)
        for k in range(pieces):
            plane = s_transform(data[k, part], bins)
            length = np.abs(plane)
            plane = np.divide(plane, length, out=np.zeros_like(plane), where=length > SMALLEST)
            coherence += plane * n[k, part, None, None]
        weight = np.abs(coherence) / np.maximum(n[:, part].sum(axis=0)[:, None, None], 1)
        spectra[part, bins] = (s_transform(linear[part], bins) * weight**how.tf_pws_power).sum(axis=-1)
    stack: Float64 = np.fft.irfft(spectra, n=size, axis=-1)
    return stack


def _robust(data: Float64, n: np.ndarray) -> Float64:
    """Pavlis & Vernon (2010, Comput. Geosci. 36, eq. 6): weights from the projection on, and distance from, the stack.

    w = |<s, d>| / (|d| |d - <s, d> s|), where s is the stack with norm 1. The iteration starts at the median and ends
    when the stack changes no more.
    """
    used = np.where(n[:, :, None] > 0, data, np.nan)
    with np.errstate(all="ignore"):
        stack = np.zeros(data.shape[1:])
        some = (n > 0).any(axis=0)
        stack[some] = np.nanmedian(used[:, some], axis=0)
    norms = np.linalg.norm(data, axis=-1)
    for _ in range(ROBUST_STEPS):
        size = np.linalg.norm(stack, axis=-1, keepdims=True)
        reference = np.divide(stack, size, out=np.zeros(stack.shape), where=size > 0)
        along = np.einsum("krl,rl->kr", data, reference)
        rest = np.sqrt(np.maximum(norms**2 - along**2, 0.0))
        floor = 1e-6 * norms  # a piece that equals the stack must not have infinite weight
        weights = np.divide(np.abs(along), norms * np.maximum(rest, floor), out=np.zeros(along.shape), where=norms > 0)
        new = _mean(data, weights * n)
        change = np.linalg.norm(new - stack, axis=-1)
        stack = new
        if (change <= ROBUST_CHANGE * np.maximum(size[:, 0], SMALLEST)).all():
            break
    return stack


def _nth_root(data: Float64, n: np.ndarray, order: float) -> Float64:
    """Kanasewich et al. (1973, Geophysics 38, eq. 2): the signed mean of N-th roots, to the N-th power."""
    mean = _mean(np.sign(data) * np.abs(data) ** (1.0 / order), n)
    return np.sign(mean) * np.abs(mean) ** order


def _selective(data: Float64, n: np.ndarray, threshold: float) -> Float64:
    """Return the linear stack of the pieces whose correlation coefficient with the linear stack passes a threshold.

    NaN where none does.
    """
    reference = _mean(data, n)
    size = np.linalg.norm(data, axis=-1) * np.linalg.norm(reference, axis=-1)
    product = np.einsum("krl,rl->kr", data, reference)
    coefficient = np.divide(product, size, out=np.full(size.shape, -np.inf), where=size > 0)
    chosen = np.where(coefficient >= threshold, n, 0)
    stack = _mean(data, chosen)
    stack[chosen.sum(axis=0) == 0] = np.nan
    return stack


def _adaptive_covariance_filtered(data: Float64, n: np.ndarray, power: float) -> Float64:
    """Nakata et al. (2015, J. Geophys. Res. 120, eq. 4): the linear stack through a filter of coherence.

    P(f) = |(|sum X|² - sum |X|²) / ((K - 1) sum |X|²)| to a power, over the K pieces with windows (P = 1 for K = 1).
    """
    size = data.shape[-1]
    length = next_fast_len(2 * size)  # padded, so that the filter does not wrap around
    used = n > 0
    total: np.ndarray = np.zeros((data.shape[1], length // 2 + 1), complex)
    squares = np.zeros(total.shape)
    for piece, use in zip(data, used, strict=True):
        spectrum = np.fft.rfft(piece * use[:, None], n=length, axis=-1)
        total += spectrum
        squares += np.square(spectrum.real) + np.square(spectrum.imag)
    count = used.sum(axis=0)[:, None]
    cross = np.square(total.real) + np.square(total.imag) - squares
    weight = np.divide(
        np.abs(cross), (count - 1) * squares, out=np.zeros(cross.shape), where=(count > 1) & (squares > 0)
    )
    weight = np.where(count == 1, 1.0, weight**power)
    filtered: Float64 = np.fft.irfft(np.fft.rfft(_mean(data, n), n=length, axis=-1) * weight, n=length)
    return filtered[:, :size]
