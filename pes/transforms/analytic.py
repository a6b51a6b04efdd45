"""Analytic signals: envelopes, and the unit phasors of the phase correlation."""

from __future__ import annotations

import numpy as np

from xcorr.pes.items import Bool, Complex64, Float32
from xcorr.pes.transforms.fft import next_fast_len, rfft

SMALLEST = 1e-30  # amplitudes below count as exactly zero: their inverse must fit float32


def analytic(data: np.ndarray) -> np.ndarray:
    """Return the analytic signal of real traces [..., sample], in their precision, by positive frequencies."""
    size = data.shape[-1]
    length = next_fast_len(size)
    spectra = rfft(data, length)
    whole = np.zeros((*data.shape[:-1], length), spectra.dtype)
    whole[..., : spectra.shape[-1]] = 2 * spectra
    whole[..., 0] = spectra[..., 0]  # 0 and the Nyquist frequency have no negative counterpart, so they are not doubled
    if length % 2 == 0:
        whole[..., length // 2] = spectra[..., length // 2]
    signal: np.ndarray = np.fft.ifft(whole)[..., :size]
    return signal


def phasors(data: Float32, mask: Bool) -> Complex64:
    """Return the unit phasors of the analytic signal of traces [slot, sample], 0 where masked or where it is 0.

    Schimmel (1999, Bull. Seismol. Soc. Am. 89, eq. 2).
    """
    signal = analytic(data)
    size = np.abs(signal)
    unit: Complex64 = np.divide(signal, size, out=np.zeros_like(signal), where=mask & (size > SMALLEST))
    return unit


def phasor_spectra(windows: np.ndarray, length: int, nfft: int) -> Complex64:
    """Return two spectra for every window of phasors: [..., 2 windows, bin from 0 to Nyquist].

    For complex signals a and b, the real part of sum conj(a) b has the spectrum (P(f) + conj P(-f)) / 2 with
    P = conj(A) B: the sum over the two spectra A(f) / sqrt(2) and conj(A(-f)) / sqrt(2).
    """
    spectra = np.fft.fft(windows, nfft, norm="ortho")  # in single precision, see rfft
    bins = nfft // 2 + 1
    pairs = np.empty((*windows.shape[:-1], 2, bins), np.complex64)
    pairs[..., 0, :] = spectra[..., :bins]
    pairs[..., 1, 0] = spectra[..., 0].conj()
    pairs[..., 1, 1:] = spectra[..., :-bins:-1].conj()
    pairs *= np.float32((nfft / (2 * length)) ** 0.5)
    return pairs.reshape(*windows.shape[:-2], -1, bins)
