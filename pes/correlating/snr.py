"""How good correlations are: signal-to-noise ratio and symmetry."""

from __future__ import annotations

import numpy as np

from xcorr.pes.items import Float32


def quality(stack: np.ndarray) -> tuple[Float32, Float32]:
    """Return two numbers for each row [row, lag]: signal-to-noise ratio and symmetry; NaN where there is no signal.

    The ratio is max|C| / rms of the outer 20 % of lags; symmetry is the correlation coefficient of C(tau) with C(-tau),
    tau > 0.
    """
    m = stack.shape[1] // 2
    outer = m - int(0.8 * m)
    largest = np.maximum(stack.max(axis=1), -stack.min(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = stack / np.where(largest > 0, largest, 1)[:, None]  # no square overflows or vanishes
        squares = sum(_products(x, x) for x in (scaled[:, :outer], scaled[:, 2 * m + 1 - outer :]))
        ratio = (largest > 0) / np.sqrt(squares / (2 * outer))
        halves = scaled[:, m + 1 :], scaled[:, :m][:, ::-1]
        a, b = (x - x.mean(axis=1, keepdims=True) for x in halves)
        coefficient = _products(a, b) / np.sqrt(_products(a, a) * _products(b, b))
    return ratio.astype(np.float32), coefficient.astype(np.float32)


def _products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the sum over lags of the products, [row]."""
    return np.asarray(np.einsum("ij,ij->i", a, b))
