"""Temporal normalisation of conditioned traces; masked samples are zero before and after."""

from __future__ import annotations

import numpy as np

from xcorr.pes.items import Bool, Float32

METHODS = ("none", "one-bit", "running-absolute-mean")
PER = ("channel", "station")
FLOOR = 1e-6


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
    np.cumsum(values, axis=-1, dtype=np.float64, out=total[..., 1:])
    at = np.arange(size)
    moved: np.ndarray = total[..., np.minimum(at + n + 1, size)] - total[..., np.maximum(at - n, 0)]
    return moved


def one_bit(data: Float32) -> Float32:
    """Return the sign of each sample, sign(0) = 0 (Bensen et al. 2007, Geophys. J. Int. 169, sect. 2.1)."""
    sign: Float32 = np.sign(data)
    return sign


def running_absolute_mean(data: Float32, mask: Bool, rate_hz: float, window_s: float, per: str = "channel") -> Float32:
    """Divide by the mean of |x| over ``window_s`` around each sample (Bensen et al. 2007, eq. 1 and 2).

    ``data`` and ``mask`` [slot, sample]. Weights are floored at 1e-6 of their median over valid samples. With
    ``per = "station"`` the weight is the mean over the slots that are valid at a sample, the same for all.
    """
    n = half_width(window_s, rate_hz)
    weights = running_mean(np.abs(data), mask, n)
    if per == "station":
        valid = mask.sum(axis=0)
        weights = np.broadcast_to((weights * mask).sum(axis=0) / np.maximum(valid, 1), data.shape)
    floors = [FLOOR * np.median(w[m]) if m.any() else 0.0 for w, m in zip(weights, mask, strict=True)]
    floored = np.maximum(weights, np.array(floors)[:, None])
    usable = mask & (floored > 0)
    out: Float32 = np.zeros(data.shape, np.float32)
    np.divide(data, floored, out=out, where=usable, casting="same_kind")
    return out


def normalize(data: Float32, mask: Bool, method: str, rate_hz: float, window_s: float, per: str = "channel") -> Float32:
    """Apply a normalisation by name to ``data`` [slot, sample] (see :data:`METHODS`)."""
    if method == "none":
        return data
    if method == "one-bit":
        return one_bit(data)
    if method == "running-absolute-mean":
        return running_absolute_mean(data, mask, rate_hz, window_s, per)
    raise ValueError(f"normalisation {method!r} is not one of {', '.join(METHODS)}")
