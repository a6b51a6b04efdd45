"""Analytic signals: envelopes, and the unit phasors of the phase correlation."""

from __future__ import annotations

import numpy as np
import scipy.fft

from xcorr.pes.items import Bool, Complex64, Float32

SMALLEST = 1e-30  # amplitudes below count as exactly zero: their inverse must fit float32


def analytic(data: np.ndarray) -> Complex64:
    """Return the analytic signal of real traces [..., sample], by their spectra at positive frequencies."""
    size = data.shape[-1]
    length = int(scipy.fft.next_fast_len(size, real=True))
    spectra = scipy.fft.rfft(data, n=length, axis=-1)
    whole = np.zeros((*data.shape[:-1], length), spectra.dtype)
    whole[..., : spectra.shape[-1]] = 2 * spectra
    whole[..., 0] = spectra[..., 0]
    if length % 2 == 0:
        whole[..., length // 2] = spectra[..., length // 2]
    signal: Complex64 = scipy.fft.ifft(whole, axis=-1, overwrite_x=True)[..., :size]
    return signal


def phasors(data: Float32, mask: Bool) -> Complex64:
    """Return the unit phasors of the analytic signal of traces [slot, sample], 0 where masked or where it is 0.

    Schimmel (1999, Bull. Seismol. Soc. Am. 89, eq. 2).
    """
    signal = analytic(data)
    size = np.abs(signal)
    return np.divide(signal, size, out=np.zeros_like(signal), where=mask & (size > SMALLEST))


def phasor_spectra(windows: np.ndarray, length: int, nfft: int) -> Complex64:
    """Return two spectra for every window of phasors: [..., 2 windows, bin from 0 to Nyquist].

    For complex signals a and b, the real part of sum conj(a) b has the spectrum (P(f) + conj P(-f)) / 2 with
    P = conj(A) B: the sum over the two spectra A(f) / sqrt(2) and conj(A(-f)) / sqrt(2).
    """
    spectra = scipy.fft.fft(windows, n=nfft, axis=-1)
    bins = nfft // 2 + 1
    pairs = np.empty((*windows.shape[:-1], 2, bins), np.complex64)
    pairs[..., 0, :] = spectra[..., :bins]
    pairs[..., 1, 0] = spectra[..., 0].conj()
    pairs[..., 1, 1:] = spectra[..., :-bins:-1].conj()
    pairs *= np.float32((2 * length) ** -0.5)
    return pairs.reshape(*windows.shape[:-2], -1, bins)
