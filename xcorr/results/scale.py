"""Scales of maps, and marks and rows that are chosen evenly."""

from __future__ import annotations

import math

import numpy as np

KM_PER_DEGREE = 111.2  # of latitude


def evenly(count: int, most: int) -> list[int]:
    """Return at most ``most`` of the numbers 0 to ``count`` - 1, evenly apart, with the first and the last.

    >>> evenly(9, 3), evenly(2, 3), evenly(0, 3)
    ([0, 4, 8], [0, 1], [])
    """
    # not np.unique, which imports numpy.ma: these numbers are at least 1 apart
    found: list[int] = np.linspace(0, max(count - 1, 0), min(count, most)).round().astype(int).tolist()
    return found


def scale_length(width_km: float) -> float:
    """Return the length of a scale bar: 1, 2 or 5 times a power of ten, at most a quarter of the width.

    >>> scale_length(100.0), scale_length(0.9)
    (20.0, 0.2)
    """
    power = 10.0 ** math.floor(math.log10(width_km / 4))
    return float(power * max(m for m in (1, 2, 5) if m * power <= width_km / 4 * (1 + 1e-9)))
