"""Correlations of an isotropic field of surface waves: their spectra over distance, and the phases of these.

With x = k r (wavenumber times distance), the spectrum of vertical components is J0(x) (Aki 1957, Bull. Earthq. Res.
Inst. 35). That of radial components of Rayleigh waves and of transverse components of Love waves is J0(x) - J2(x)
(Haney et al. 2012, GJI 191). Each is half the sum of a wave that leaves and one that arrives: Hankel functions, whose
phase is x - pi/4 far away.
"""

from __future__ import annotations

import numpy as np
import scipy  # its parts are imported when they are first used

from xcorr.pes.items import Float64

VERTICAL, HORIZONTAL = "J0", "J0-J2"
LEAST = 2.0  # x from which on the phases here are those of the Hankel functions to 0.005
# what a phase has besides x - pi/4: factors of 1/x, 1/x^3, 1/x^5 (Abramowitz & Stegun 1964, 9.2.29 and 9.2.31)
_PHASES = {VERTICAL: (-1 / 8, 25 / 384, -1073 / 5120), HORIZONTAL: (7 / 8, 137 / 384, -3289 / 5120)}


def kind_of(components: str) -> str:
    """Return which spectrum a component pair (ZZ, RR or TT) has."""
    return VERTICAL if components == "ZZ" else HORIZONTAL


def spectrum(kind: str, x: Float64) -> Float64:
    """Return the spectrum at x = k r; it is 1 at distance 0."""
    j0: Float64 = scipy.special.j0(x)
    if kind == VERTICAL:
        return j0
    away = np.maximum(x, 1e-6)
    found: Float64 = 2 * j0 - 2 * scipy.special.j1(away) / away
    return found


def slope(kind: str, x: Float64) -> Float64:
    """Return the derivative of the spectrum with respect to x."""
    away = np.maximum(x, 1e-6)
    j1: Float64 = scipy.special.j1(away)
    if kind == VERTICAL:
        return -j1
    found: Float64 = -2 * j1 - 2 * scipy.special.j0(away) / away + 4 * j1 / away**2
    return found


def phase(kind: str, x: Float64) -> Float64:
    """Return the phase of the wave that leaves, at x of at least LEAST. It is close to x - pi/4."""
    a, b, c = _PHASES[kind]
    by = 1 / np.maximum(x, LEAST)
    square = by * by
    found: Float64 = x - np.pi / 4 + by * (a + square * (b + square * c))
    return found


def phase_slope(kind: str, x: Float64) -> Float64:
    """Return the derivative of the phase with respect to x; it is close to 1."""
    a, b, c = _PHASES[kind]
    square = 1 / np.maximum(x, LEAST) ** 2
    found: Float64 = 1 - square * (a + square * (3 * b + square * 5 * c))
    return found


def argument(kind: str, phases: Float64) -> Float64:
    """Return the x at which the wave that leaves has these phases."""
    x = phases + np.pi / 4
    for _ in range(3):
        x = x - (phase(kind, x) - phases) / phase_slope(kind, x)
    return x
