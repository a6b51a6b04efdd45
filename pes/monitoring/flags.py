"""What may be wrong with a measured velocity change: a sum of these numbers, 0 where nothing is."""

from __future__ import annotations

import numpy as np

NO_DATA, EDGE, RIVAL, LOW, FEW = 1, 2, 4, 8, 16
WORDS = {
    NO_DATA: "no data",
    EDGE: "the best stretch is the largest that was tried, or waves move by more than half a cycle",
    RIVAL: "another maximum is at least 98 % of the largest; the waves may be off by a cycle",
    LOW: "the coefficient is below least_coefficient",
    FEW: "fewer windows than least_windows",
}


def with_limits(
    odd: np.ndarray, dvv: np.ndarray, coefficient: np.ndarray, n: np.ndarray, least: tuple[float, int]
) -> np.ndarray:
    """Return the flags [piece]: ``odd`` (EDGE and RIVAL) and what values, coefficients and numbers of windows say."""
    with np.errstate(invalid="ignore"):
        low = np.where(coefficient < least[0], LOW, 0)
    few, absent = np.where(n < least[1], FEW, 0), ~np.isfinite(dvv)
    found: np.ndarray = np.where(absent, NO_DATA, odd | low | few).astype(np.uint8)
    return found
