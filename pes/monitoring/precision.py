"""The precision of a velocity change: the error that noise gives it (Weaver et al. 2011)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xcorr.pes.items import Float64
from xcorr.pes.transforms.fft import next_fast_len


def weaver_error(coefficient: np.ndarray, centre_hz: Float64, duration_s: Float64, cubes_s3: Float64) -> Float64:
    """Return the standard error of dv/v by Weaver, Hadziioannou, Larose & Campillo (2011, GJI 185, 1384-1392)::

        sigma = sqrt(1 - X^2) / (2 X) * sqrt(6 sqrt(pi / 2) T / (omega^2 (t2^3 - t1^3)))

    Parameters
    ----------
    coefficient : X, the correlation coefficient at the best stretch. NaN and values of 0 or less give NaN.
    centre_hz : the central frequency, omega / (2 pi).
    duration_s : T, the inverse of the bandwidth: the autocorrelation of the waveform has the envelope exp(-t²/T²).
    cubes_s3 : t2³ - t1³, from the first to the last lag; of both sides, where both are compared.
    """
    x = np.where(coefficient > 0, np.minimum(coefficient, 1.0), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        lags = 6 * np.sqrt(np.pi / 2) * duration_s / ((2 * np.pi * centre_hz) ** 2 * cubes_s3)
        error: Float64 = np.sqrt(1 - x**2) / (2 * x) * np.sqrt(lags)
    return error


def cubes_of_energy(waveforms: np.ndarray, lags_s: Float64) -> Float64:
    """Return t2³ - t1³ (s³), [row], for waveforms [row, lag] whose energy is not the same at all lags.

    The paper has waves of one amplitude. Its derivation, with amplitudes of any kind and noise of one amplitude, has
    three times the mean square lag, weighted by energy, times the length of all lags; for one amplitude this is
    t2³ - t1³. Early lags then count more in a decaying coda, and the error is larger.
    """
    energy = np.square(waveforms, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        mean = (energy * lags_s**2).sum(axis=-1) / energy.sum(axis=-1)
    found: Float64 = 3 * mean * len(lags_s) * np.abs(lags_s[1] - lags_s[0])
    return found


def centre_and_duration(sides: Sequence[np.ndarray], rate_hz: float) -> tuple[Float64, Float64]:
    """Return the central frequency (Hz) and T (s), both [row], of waveforms for :func:`weaver_error`.

    ``sides`` are the waveforms [row, lag] of each side of lag zero. With P the power spectrum and w = 2 pi f,
    ``omega²`` is the mean of w² over P. T sqrt(pi / 2), in the paper the integral of the squared envelope, is that of
    w² P² divided by those of w² P and of P, which it is for every spectrum; for one that is flat over a width B, T is
    sqrt(2 / pi) / B. The squared power of a short piece of a coda scatters as an exponential distribution does, so that
    its mean is twice that of the spectrum: it is halved.
    """
    width = moment_of_all = whole_of_all = np.zeros(len(sides[0]))
    for waveforms in sides:
        size = next_fast_len(waveforms.shape[-1])
        tapered = waveforms * np.hanning(waveforms.shape[-1] + 2)[1:-1]
        power = np.abs(np.fft.rfft(tapered, size, axis=-1)) ** 2
        frequency = np.fft.rfftfreq(size, 1 / rate_hz)
        squared = (2 * np.pi * frequency) ** 2
        whole, moment = power.sum(-1), (power * squared).sum(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            width = width + (power**2 * squared).sum(-1) / 2 / (moment * whole * frequency[1]) / len(sides)
        whole_of_all, moment_of_all = whole_of_all + whole, moment_of_all + moment
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(moment_of_all / whole_of_all) / (2 * np.pi), width * np.sqrt(2 / np.pi)
