"""Running means over valid samples: boxes and triangles."""

from __future__ import annotations

import numpy as np


def half_width(window_s: float, rate_hz: float) -> int:
    """Return N such that the window of 2N + 1 samples is nearest to ``window_s``."""
    return max(0, round((window_s * rate_hz - 1) / 2))


def running_mean(values: np.ndarray, weight: np.ndarray, n: int) -> np.ndarray:
    """Return the mean of ``values`` over the 2n + 1 samples around each, counting only where ``weight`` is 1.

    Along the last axis, in float64; 0 where no sample counts. At the ends fewer samples count.
    """
    mean: np.ndarray = _moving_sum(values * weight, n) / np.maximum(_moving_sum(weight, n), 1)
    return mean


def _moving_sum(values: np.ndarray, n: int) -> np.ndarray:
    size = values.shape[-1]
    total = np.zeros((*values.shape[:-1], size + 1))
    # float64, because differences of long sums lose digits
    np.cumsum(values, axis=-1, dtype=np.float64, out=total[..., 1:])
    at = np.arange(size)
    moved: np.ndarray = total[..., np.minimum(at + n + 1, size)] - total[..., np.maximum(at - n, 0)]
    return moved


def triangle_mean(values: np.ndarray, weight: np.ndarray, n: int) -> np.ndarray:
    """Return the mean weighted by a triangle of 2n + 1 samples, counting only where ``weight`` is 1."""
    half = n // 2
    sums = [_moving_sum(_moving_sum(v, half), n - half) for v in (values * weight, weight.astype(np.float64))]
    # sums of weights are whole numbers, so this is 1 or more
    mean: np.ndarray = np.divide(sums[0], sums[1], out=np.zeros(sums[0].shape), where=sums[1] > 0.5)
    return mean
