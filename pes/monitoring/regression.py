"""Weighted straight lines through delays: their slope, intercept and standard error."""

from __future__ import annotations

import numpy as np

from xcorr.pes.items import Float64


def line(x: Float64, y: Float64, w: Float64, through_origin: bool) -> tuple[Float64, Float64, Float64]:
    """Return slope, intercept and the standard error of the slope, [row], of y = a + b x with weights w, [row, point].

    Points of weight 0 do not count, whatever their y is. The error is that of the residuals. Rows with fewer points
    than the line needs are NaN.
    """
    y = np.where(w > 0, y, 0.0)
    points = (w > 0).sum(axis=-1)
    total = w.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = np.zeros_like(total) if through_origin else (w * x).sum(axis=-1) / total
        level = np.zeros_like(total) if through_origin else (w * y).sum(axis=-1) / total
        away = x - shift[..., None]
        spread = (w * away**2).sum(axis=-1)
        slope = (w * away * (y - level[..., None])).sum(axis=-1) / spread
        rest = y - level[..., None] - slope[..., None] * away
        free = points - (1 if through_origin else 2)
        error = np.sqrt((w * rest**2).sum(axis=-1) / np.maximum(free, 1) / spread)
        enough = (free >= 1) & (spread > 0)
        intercept = level - slope * shift
    return tuple(np.where(enough, v, np.nan) for v in (slope, intercept, error))  # type: ignore[return-value]
