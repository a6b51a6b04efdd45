"""Velocity changes without a reference: every piece is compared with every other one.

Brenguier et al. (2014, Science 345); the inversion is that of Tarantola & Valette (1982).
"""

from __future__ import annotations

import numpy as np

from xcorr.pes.items import Float64

LEAST_ERROR = 1e-9  # so that one exact change does not outweigh all others


def inverted(
    changes: Float64, errors: Float64, times_s: Float64, smooth_s: float, strength: float
) -> tuple[Float64, Float64]:
    """Return dv/v and its standard error, [piece], from changes [first, second] of the second piece against the first.

    The unknowns are logarithms of velocities: ``log(1 + change) = m[second] - m[first]``, weighted by the errors. The
    inverse of their covariance ``exp(-|t1 - t2| / smooth_s)`` is added to the mean weight of a piece, times
    ``strength``; 0 is no smoothing. Their mean is 0, because nothing tells it. Changes that are NaN do not count.
    Pieces that no changes connect with most of the others are NaN: nothing tells how the two groups compare.

    The error of a piece is that of its noise, the median over its changes of error / sqrt(2). The noise of a piece is
    in all of its changes, so that many of them make the error no smaller.
    """
    known = np.isfinite(changes) & np.isfinite(errors)
    there = largest_group(known)
    result = np.full((2, len(times_s)), np.nan)
    unknowns = int(there.sum())
    if unknowns < 2:
        return result[0], result[1]
    first, second = np.nonzero(known & there[:, None] & there)
    numbers = np.cumsum(there) - 1
    weight = 1 / np.maximum(errors[first, second], LEAST_ERROR) ** 2
    observed = np.log1p(changes[first, second])
    i, j = numbers[first], numbers[second]
    normal = np.zeros((unknowns, unknowns))
    for rows, columns, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
        np.add.at(normal, (rows, columns), sign * weight)
    right = np.bincount(j, weight * observed, unknowns) - np.bincount(i, weight * observed, unknowns)
    scale = np.trace(normal) / unknowns
    if strength > 0:
        distance = np.abs(np.subtract.outer(times_s[there], times_s[there]))
        normal += strength * scale * np.linalg.inv(np.exp(-distance / smooth_s))
    normal += scale / unknowns  # all weights alike: the mean is 0, and nothing else changes
    found = np.linalg.solve(normal, right)
    result[0, there] = np.expm1(found - found.mean())
    own = np.where(known, errors, np.nan)[there]
    result[1, there] = np.nanmedian(own, axis=1) / np.sqrt(2)
    return result[0], result[1]


def largest_group(connected: np.ndarray) -> np.ndarray:
    """Return which nodes are in the largest group that is connected, [node], of a graph [node, node]."""
    from scipy.sparse.csgraph import connected_components

    _, group = connected_components(connected, directed=False)
    found: np.ndarray = (group == np.bincount(group).argmax()) & (connected.any(axis=0) | connected.any(axis=1))
    return found
