"""Velocity changes without a reference: every piece is compared with every other one.

Brenguier et al. (2014, Science 345); the inversion is that of Tarantola & Valette (1982).
"""

from __future__ import annotations

import numpy as np

from xcorr.pes.items import Float64


def inverted(
    changes: Float64, errors: Float64, times_s: Float64, smooth_s: float, strength: float
) -> tuple[Float64, Float64]:
    """Return dv/v and its standard error, [piece], from changes [first, second] of the second piece against the first.

    The unknowns are logarithms of velocities: ``log(1 + change) = m[second] - m[first]``, weighted by the errors. Their
    covariance falls as ``exp(-|t1 - t2| / smooth_s)``, and ``strength`` weighs it against the data; 0 is no smoothing.
    Their mean is 0, because nothing tells it. Pairs of pieces without a change (NaN) do not count, and pieces without
    any are NaN.
    """
    count = len(times_s)
    known = np.isfinite(changes) & np.isfinite(errors)
    first, second = np.nonzero(known)
    there = np.zeros(count, bool)
    there[first] = there[second] = True
    numbers = np.cumsum(there) - 1
    unknowns = int(there.sum())
    result = np.full((2, count), np.nan)
    if unknowns < 2:
        return result[0], result[1]
    weight = 1 / np.maximum(errors[first, second], 1e-9) ** 2
    observed = np.log1p(changes[first, second])
    i, j = numbers[first], numbers[second]
    normal = np.zeros((unknowns, unknowns))
    np.add.at(normal, (i, i), weight)
    np.add.at(normal, (j, j), weight)
    np.add.at(normal, (i, j), -weight)
    np.add.at(normal, (j, i), -weight)
    right = np.bincount(j, weight * observed, unknowns) - np.bincount(i, weight * observed, unknowns)
    scale = np.trace(normal) / unknowns
    if strength > 0:
        distance = np.abs(np.subtract.outer(times_s[there], times_s[there]))
        normal += strength * scale * np.linalg.inv(np.exp(-distance / smooth_s))
    normal += scale / unknowns  # all weights alike: the mean is 0, and nothing else changes
    covariance = np.linalg.inv(normal)
    found = covariance @ right
    result[0, there] = np.expm1(found - found.mean())
    spread = covariance - covariance.mean(axis=0)  # of m - mean(m)
    spread -= spread.mean(axis=1, keepdims=True)
    result[1, there] = np.sqrt(np.maximum(np.diag(spread), 0))
    return result[0], result[1]
