"""Scales of maps."""

from __future__ import annotations

import math

KM_PER_DEGREE = 111.2  # of latitude


def scale_length(width_km: float) -> float:
    """Return the length of a scale bar: 1, 2 or 5 times a power of ten, at most a quarter of the width.

    >>> scale_length(100.0), scale_length(0.9)
    (20.0, 0.2)
    """
    power = 10.0 ** math.floor(math.log10(width_km / 4))
    return float(power * max(m for m in (1, 2, 5) if m * power <= width_km / 4 * (1 + 1e-9)))
