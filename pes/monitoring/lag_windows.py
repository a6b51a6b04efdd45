"""The lags that a measurement compares: from one lag to another, on one side of zero or on both."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from xcorr.pes.items import Float64
from xcorr.pes.parameters import ParameterError, require_numbers, require_one_of

SIDES = ("both", "left", "right")


@dataclasses.dataclass(frozen=True, slots=True)
class LagWindow:
    """Lags from ``first_s`` to ``last_s``, counted from lag zero, or from the arrival of waves of ``velocity_km_s``.

    ``sides``: of both signs of the lag, or only ``left`` (negative) or ``right`` (positive) lags. Raises ParameterError
    for values that cannot be.
    """

    first_s: float
    last_s: float
    velocity_km_s: float | None = None
    sides: str = "both"

    def __post_init__(self) -> None:
        require_numbers(self, "first_s")
        require_numbers(self, "last_s", least=self.first_s, above=True)
        require_one_of(self, "sides", SIDES)
        if self.velocity_km_s is not None:
            require_numbers(self, "velocity_km_s", above=True)

    def limits_s(self, distance_m: float) -> tuple[float, float]:
        """Return first and last lag of a pair (s). They are NaN if the distance is needed and unknown.

        >>> LagWindow(5, 30, velocity_km_s=2.0).limits_s(20_000)
        (15.0, 40.0)
        """
        arrival = 0.0 if self.velocity_km_s is None else distance_m / 1000 / self.velocity_km_s
        return arrival + self.first_s, arrival + self.last_s

    def samples(self, distance_m: float, rate_hz: float) -> tuple[int, int]:
        """Return first and last lag of a pair in samples, the last one included."""
        first, last = self.limits_s(distance_m)
        return math.ceil(first * rate_hz - 1e-6), math.floor(last * rate_hz + 1e-6)

    def problem(self, distance_m: float, epsilon_max: float, rate_hz: float, max_lag: int) -> str:
        """Return why a pair cannot be measured, with the numbers; an empty text if it can.

        A stretched reference at the last lag is that at ``last * (1 + epsilon_max)``, which must be there.
        """
        first, last = self.limits_s(distance_m)
        if not math.isfinite(last):
            return "its distance is unknown"
        needed, there = last * (1 + epsilon_max), max_lag / rate_hz
        if needed > there + 1e-9:
            return (
                f"lags to {last:g} s, stretched by 1 + {epsilon_max:g}, need the series to {needed:g} s; "
                f"they end at {there:g} s"
            )
        low, high = self.samples(distance_m, rate_hz)
        return (
            "" if high - low >= 2 else f"lags from {first:g} to {last:g} s are fewer than 3 samples at {rate_hz:g} Hz"
        )


def sides_of(window: tuple[int, int], sides: str) -> list[tuple[int, int]]:
    """Return the ranges of lags in samples, the last one included, negative lags first. Lag zero counts once.

    >>> sides_of((0, 5), "both"), sides_of((2, 5), "left")
    ([(-5, -1), (0, 5)], [(-5, -2)])
    """
    first, last = window
    left, right = (-last, -max(first, 1) if sides == "both" else -first), (first, last)
    return {"both": [left, right], "left": [left], "right": [right]}[sides]


def lags_of(window: tuple[int, int], sides: str) -> np.ndarray:
    """Return the lags of a window in samples, in order."""
    return np.concatenate([np.arange(low, high + 1) for low, high in sides_of(window, sides)])


def require_window(window: LagWindow, distances_m: Float64, epsilon_max: float, rate_hz: float, max_lag: int) -> None:
    """Raise ParameterError if the lags of a pair are not all there; the text names the numbers of the farthest."""
    known = distances_m[np.isfinite(distances_m)]
    farthest = float(known.max()) if window.velocity_km_s and len(known) else 0.0
    if text := window.problem(farthest, epsilon_max, rate_hz, max_lag):
        far = f"pairs at {farthest / 1000:.3f} km: " if window.velocity_km_s else ""
        raise ParameterError(
            f"{far}{text}; use earlier lags, a smaller epsilon_max, nearer pairs (distance_km), or series of a larger "
            "correlate.max_lag_s"
        )
