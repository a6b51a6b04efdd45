"""Correlations of isotropic fields of dispersive surface waves, written from Aki (1957) and Haney et al. (2012)."""

import numpy as np
from scipy.special import j0, jn

RATE, MAX_LAG, BAND = 4.0, 480, (0.1, 0.8)
NFFT = 8192


def phase_velocity(frequency_hz):
    """The medium of the demo, km/s."""
    return 3.2 - 0.8 * np.asarray(frequency_hz)


def group_velocity(frequency_hz):
    """d omega / d k of that medium: c^2 / (c - f dc/df)."""
    c = phase_velocity(frequency_hz)
    return c**2 / (c + 0.8 * np.asarray(frequency_hz))


def correlations(distance_km, components="ZZ", slower=0.0, noise=0.0, seed=0):
    """Correlations [row, lag] of pairs; ``slower`` [row] is a share by which the slowness of each path is larger.

    Noise is a share of the largest value, white, different at both signs of the lag.
    """
    f = np.arange(NFFT // 2 + 1) * RATE / NFFT
    level = np.clip((f - 0.06) / 0.04, 0, 1) * np.clip((0.96 - f) / 0.1, 0, 1)
    level = np.sin(np.pi / 2 * level) ** 2
    k = 2 * np.pi * f / phase_velocity(np.minimum(f, 1.2))
    x = np.asarray(distance_km)[:, None] * k * (1 + np.broadcast_to(slower, np.shape(distance_km)))[:, None]
    spectrum = j0(x) if components == "ZZ" else j0(x) - jn(2, x)
    found = np.fft.irfft(level * spectrum, NFFT)[:, np.arange(-MAX_LAG, MAX_LAG + 1)]
    found += noise * np.abs(found).max(axis=1, keepdims=True) * np.random.default_rng(seed).standard_normal(found.shape)
    return found.astype("f4")


def pairs_of(stations, size_km, seed=0):
    """Places [station, 2] in a square, and the ends [pair, 2] of all pairs."""
    places = np.random.default_rng(seed).uniform(0, size_km, (stations, 2))
    return places, np.stack(np.triu_indices(stations, 1), axis=1)
