"""References on a stretched lag axis, for many stretches at once, as products of matrices.

The value between samples is that of a band-limited function: a sinc under a Kaiser window. The weights depend on lags
and stretches and not on the pair, so that a few products of matrices stretch many references.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np

from xcorr.pes.items import Float32, Float64
from xcorr.pes.monitoring.lag_windows import lags_of

HALF = 16  # samples on either side of a value; with BETA the error is below 3e-4 up to 78 % of the Nyquist frequency
BETA = 8.0
TOGETHER = 8  # lags whose weights are one matrix
SLOTS = 48  # references multiplied at once, zero-padded: a reference then has the same bits in every company


def epsilons(epsilon_max: float, steps: int) -> Float64:
    """Return the stretches that are tried, ``steps`` of them from ``-epsilon_max`` to ``epsilon_max``."""
    return np.linspace(-epsilon_max, epsilon_max, steps)


def node_count(epsilon_max: float, last_lag: int, steps: int) -> int:
    """Return how many stretches are needed as nodes, so that all others follow from them; see :func:`nodes`."""
    z: float = math.pi * last_lag * epsilon_max
    return min(math.ceil(z + 7 * math.cbrt(z)) + 8, steps)


def nodes(stretches: Float64, last_lag: int) -> tuple[Float64, Float32 | None]:
    """Return the stretches (nodes) from which values at all others follow, and the factors [node, stretch] for that.

    At lags to ``last_lag`` (samples) a stretched reference is, as a function of the stretch, band-limited: it has at
    most half a cycle for each sample by which the lag moves. Its polynomial through Chebyshev's points (Trefethen 2013,
    Approximation Theory and Approximation Practice, chapter 5) is then exact but for rounding, with some more of them
    than the Bessel functions J_k(z) of z = pi * last_lag * epsilon_max have before they vanish. Sums over lags of such
    functions, which correlations with a reference are, follow in the same way. Without factors the nodes are the
    stretches themselves: where these are not more.
    """
    half = stretches[-1]
    count = node_count(half, last_lag, len(stretches))
    if count == len(stretches):
        return stretches, None
    at = -np.cos(np.pi * np.arange(count) / (count - 1)) * half
    signs = np.where(np.arange(count) % 2, -1.0, 1.0)
    signs[[0, -1]] /= 2
    away = stretches - at[:, None]
    on = away == 0
    factors = signs[:, None] / np.where(on, 1, away)  # the barycentric formula
    factors = np.where(on.any(axis=0), on, factors / factors.sum(axis=0))
    return at, factors.astype(np.float32)


def weights(positions: Float64) -> tuple[np.ndarray, Float64]:
    """Return the lags (samples) and weights, both [..., tap], whose sum is a correlation at ``positions`` (samples)."""
    first = np.floor(positions).astype(np.int64) - HALF + 1
    lags = first[..., None] + np.arange(2 * HALF)
    away = positions[..., None] - lags
    found = np.sinc(away) * np.i0(BETA * np.sqrt(np.maximum(1 - (away / HALF) ** 2, 0))) / np.i0(BETA)
    return lags, found / found.sum(axis=-1, keepdims=True)


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """Weights [input, lag * step] of lags that lie together; ``inputs`` are the first lag (index) and the one after."""

    inputs: slice
    lags: slice
    matrix: Float32


class Stretcher:
    """Stretches references: the value at lag t becomes that at ``t (1 + epsilon)``.

    ``window`` has the first and the last lag wanted, in samples, of the given sides; ``max_lag`` is the last lag of the
    references. ``lags`` [lag] are the lags of the results: those wanted, and neighbours whose weights are in the same
    matrices. These are the same for every window. Beyond its last lag a reference goes on as its reflection there, with
    the same value and slope.
    """

    def __init__(self, window: tuple[int, int], sides: str, stretches: Float64, max_lag: int) -> None:
        self.stretches, self.max_lag = stretches, max_lag
        most = int(max_lag / (1 + stretches[-1]) + 1e-9)
        groups = sorted({lag // TOGETHER for lag in lags_of(window, sides).tolist()})
        self._groups = [
            np.arange(max(-most, k * TOGETHER), min(most, (k + 1) * TOGETHER - 1) + 1) for k in groups
        ]  # fmt: skip
        self.lags = np.concatenate(self._groups)
        ends = np.cumsum([0, *map(len, self._groups)])
        self._parts = [self._part(slice(a, b)) for a, b in itertools.pairwise(ends.tolist())]

    def rows_of(self, first: int, last: int) -> slice:
        """Return where the lags from ``first`` to ``last`` are in the results."""
        return slice(*np.searchsorted(self.lags, (first, last + 1)).tolist())

    def _part(self, part: slice) -> _Part:
        at = self.lags[part, None] * (1 + self.stretches)
        lags, values = weights(at)
        columns = np.broadcast_to(np.arange(at.size).reshape(at.shape)[..., None], lags.shape)
        inner = np.clip(lags, -self.max_lag, self.max_lag)
        beyond = lags != inner  # a function f goes on as f(end + k) = 2 f(end) - f(end - k)
        inputs = np.concatenate([inner.ravel(), (2 * inner - lags)[beyond]])
        outputs = np.concatenate([columns.ravel(), columns[beyond]])
        factors = np.concatenate([np.where(beyond, 2 * values, values).ravel(), -values[beyond]])
        low, high = int(inputs.min()), int(inputs.max())
        shape = high - low + 1, at.size
        flat = np.bincount((inputs - low) * at.size + outputs, factors, shape[0] * shape[1])
        matrix = flat.reshape(shape).astype(np.float32)
        return _Part(slice(low + self.max_lag, high + self.max_lag + 1), part, matrix)

    def __call__(self, references: Float32, out: Float32 | None = None) -> Float32:
        """Return references [row, lag] stretched, [row, lag wanted, step]. At most SLOTS rows give the same bits."""
        rows, steps = len(references), len(self.stretches)
        found = np.empty((rows, len(self.lags), steps), np.float32) if out is None else out
        flat = found.reshape(rows, -1)
        for part in self._parts:
            np.matmul(
                np.ascontiguousarray(references[:, part.inputs]),
                part.matrix,
                out=flat[:, part.lags.start * steps : part.lags.stop * steps],
            )
        return found
