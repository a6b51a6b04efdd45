"""Phase velocities of single pairs from the zero crossings of their real spectra (Ekström, Abers & Webb 2009, GRL 36).

Where the spectrum is zero, k r is a zero of the model, whatever the amplitude. Which one it is, the curve tells that
one begins with: the nearest zero where the model crosses in the same direction.
"""

from __future__ import annotations

import functools

import numpy as np
import scipy  # its parts are imported when they are first used

from xcorr.pes.dispersion import waves
from xcorr.pes.items import Float32, Float64

FAR = np.pi / 2  # between a crossing and its zero, at most


def zeros(kind: str, largest: float) -> Float64:
    """Return the zeros of the model's spectrum up to ``largest``, and some more; at the first it crosses downwards."""
    return _first(kind, 1 << (int(largest / np.pi) + 2).bit_length())


@functools.lru_cache(maxsize=32)
def _first(kind: str, count: int) -> Float64:
    found: Float64 = scipy.special.jn_zeros(0, count) if kind == waves.VERTICAL else scipy.special.jnp_zeros(1, count)
    return found


def crossings(kind: str, real: Float32, frequency_hz: Float64, x: Float64, at_hz: Float64) -> Float64:
    """Return k / k0 at frequencies [row, period], with x = k0 r [row, bin] of the curve that one begins with.

    Between crossings of a spectrum [row, bin] the ratio is interpolated. It is NaN outside the first and the last one.
    """
    of_model = zeros(kind, float(x.max()) + 2 * np.pi)
    found = np.full((len(real), len(at_hz)), np.nan)
    row, at = np.nonzero(real[:, 1:] * real[:, :-1] < 0)
    before, after = real[row, at].astype(np.float64), real[row, at + 1]
    share = before / (before - after)
    frequency = frequency_hz[at] + share * (frequency_hz[at + 1] - frequency_hz[at])
    expected = x[row, at] + share * (x[row, at + 1] - x[row, at])
    parity = (before < 0).astype(int)  # upward crossings are at the second zero, the fourth ...
    number = parity + 2 * np.clip(np.round((expected / np.pi - 0.75 - parity) / 2), 0, len(of_model) // 2 - 1).astype(
        int
    )
    near = of_model[number]
    good = np.abs(near - expected) < FAR
    ends = np.searchsorted(row[good], np.arange(len(real) + 1))
    frequency, ratio = frequency[good], near[good] / expected[good]
    for k in range(len(real)):
        part = slice(ends[k], ends[k + 1])
        if ends[k + 1] - ends[k] > 1:
            found[k] = np.interp(at_hz, frequency[part], ratio[part], np.nan, np.nan)
    return found
