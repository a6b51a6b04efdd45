"""The estimator written plainly, in float64, one window and one pair at a time: the truth that tests compare with."""

from __future__ import annotations

import numpy as np
import scipy.fft
import scipy.signal

from xcorr.pes.reading.waveform import NS


def taper(frequency, band, width):
    t = np.zeros(len(frequency))
    for k, f in enumerate(frequency):
        inside = min(f - band[0], band[1] - f)
        if inside >= 0:
            t[k] = 1.0 if inside >= width else 0.5 - 0.5 * np.cos(np.pi * inside / width)
    return t


def window_spectrum(x, lags, rate, band, width, whitening, smooth_hz=0.02):
    """Full-length rfft spectrum of one window, whitened and tapered; zero out of band."""
    nfft = scipy.fft.next_fast_len(len(x) + lags, real=True)
    spectrum = np.fft.rfft(np.asarray(x, np.float64), nfft) / np.sqrt(len(x))
    frequency = np.arange(len(spectrum)) * rate / nfft
    inside = (frequency >= band[0] - 1e-12) & (frequency <= band[1] + 1e-12)
    amplitude = np.abs(spectrum)
    weight = np.zeros(len(spectrum))
    if whitening == "none":
        weight[inside] = 1
    elif whitening == "phase":
        use = inside & (amplitude > 0)
        weight[use] = 1 / amplitude[use]
    else:
        bins = np.flatnonzero(inside)
        n = max(0, round((smooth_hz * nfft / rate - 1) / 2))
        smooth = np.array([amplitude[max(b - n, bins[0]) : min(b + n, bins[-1]) + 1].mean() for b in bins])
        weight[bins] = 1 / np.maximum(smooth, 1e-3 * smooth.mean())
    return spectrum * weight * taper(frequency, band, width), nfft


def correlate_pair(windows_1, windows_2, valid, lags, rate, band, width, whitening, smooth_hz=0.02):
    """Mean over valid windows of the correlations, [2M+1]."""
    total, n = 0.0, 0
    for a, b, ok in zip(windows_1, windows_2, valid, strict=True):
        if ok:
            x1, nfft = window_spectrum(a, lags, rate, band, width, whitening, smooth_hz)
            x2, _ = window_spectrum(b, lags, rate, band, width, whitening, smooth_hz)
            time = np.fft.irfft(np.conj(x1) * x2, nfft)
            total = total + np.concatenate([time[nfft - lags :], time[: lags + 1]])
            n += 1
    return total / n if n else np.full(2 * lags + 1, np.nan)


def running_absolute_mean(x, mask, n):
    out, weights = np.zeros(len(x)), np.zeros(len(x))
    for t in range(len(x)):
        near = slice(max(0, t - n), t + n + 1)
        if mask[near].any():
            weights[t] = np.abs(x[near])[mask[near]].mean()
    floor = 1e-6 * np.median(weights[mask])
    out[mask] = x[mask] / np.maximum(weights, floor)[mask]
    return out


def conditioned(data, rate, band, corners, edge_s):
    """ObsPy-style chain without resampling: detrend, taper, forward-backward Butterworth; edges masked."""
    x = scipy.signal.detrend(np.asarray(data, np.float64))
    edge = int(np.ceil(edge_s * rate))
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / edge)
    x[:edge] *= ramp
    x[-edge:] *= ramp[::-1]
    sos = scipy.signal.butter(corners, band, "bandpass", fs=rate, output="sos")
    padded = np.concatenate([np.zeros(20 * edge), x, np.zeros(20 * edge)])
    filtered = scipy.signal.sosfilt(sos, scipy.signal.sosfilt(sos, padded)[::-1])[::-1][20 * edge : -20 * edge]
    mask = np.zeros(len(x), bool)
    mask[edge : len(x) - edge] = True
    return np.where(mask, filtered, 0.0), mask


def chunk_index(time_ns, start_ns, rate):
    return round((time_ns - start_ns) * rate / NS)
