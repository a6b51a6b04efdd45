"""A measurement of velocity changes: what is compared with what, and how."""

from __future__ import annotations

import dataclasses

import numpy as np

from xcorr.pes.monitoring.interpolation import epsilons
from xcorr.pes.monitoring.lag_windows import LagWindow
from xcorr.pes.monitoring.mwcs import Mwcs
from xcorr.pes.monitoring.wavelet import Wavelet
from xcorr.pes.parameters import ParameterError, require_numbers, require_one_of

METHODS = ("stretching", "mwcs", "wavelet")
REFERENCES = ("whole", "period", "rolling", "several", "none")
S = 1_000_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Reference:
    """What pieces are compared with.

    ``whole``: the mean of all pieces. ``period``: the mean of those between ``start_ns`` and ``end_ns``. ``rolling``:
    for each piece, the mean of the ``length_s`` that end ``gap_s`` before the end of the piece. ``several``: the means
    of consecutive spans of ``length_s``, together (Sens-Schönfelder et al. 2014). ``none``: every piece with every
    other one no more than ``length_s`` away, and an inversion (Brenguier et al. 2014) with ``smooth_s`` and
    ``strength``. Raises ParameterError for values that cannot be.
    """

    kind: str = "whole"
    start_ns: int = 0
    end_ns: int = 0
    length_s: float = 0.0
    gap_s: float = 0.0
    smooth_s: float = 0.0
    strength: float = 0.0

    def __post_init__(self) -> None:
        require_one_of(self, "kind", REFERENCES)
        require_numbers(self, "length_s", above=self.kind in ("rolling", "several"))
        require_numbers(self, "gap_s", "strength")
        require_numbers(self, "smooth_s", above=self.strength > 0)
        if self.kind == "period" and self.start_ns >= self.end_ns:
            raise ParameterError("Reference: a period needs a start before its end")


@dataclasses.dataclass(frozen=True, slots=True)
class Measurement:
    """How velocity changes are measured.

    ``epsilon_max`` and ``steps`` are the largest stretch that is tried, and how many; ``moving_s`` is the length of
    moving stacks that are measured instead of pieces (0: pieces). A value whose coefficient is below
    ``least_coefficient``, or which is of fewer windows than ``least_windows``, is flagged. ``compare_sides``: also the
    difference between both sides. Raises ParameterError for values that cannot be.
    """

    window: LagWindow
    method: str = "stretching"
    reference: Reference = Reference()
    epsilon_max: float = 0.02
    steps: int = 201
    moving_s: float = 0.0
    least_coefficient: float = 0.0
    least_windows: int = 1
    compare_sides: bool = False
    mwcs: Mwcs | None = None
    wavelet: Wavelet | None = None

    def __post_init__(self) -> None:
        require_one_of(self, "method", METHODS)
        require_numbers(self, "epsilon_max", above=True)
        require_numbers(self, "steps", least=5)
        require_numbers(self, "moving_s", "least_coefficient", "least_windows")
        if self.epsilon_max >= 0.5 or self.steps % 2 == 0:
            raise ParameterError(
                f"Measurement: epsilon_max = {self.epsilon_max:g} must be below 0.5, and steps = {self.steps} odd, so "
                "that one stretch is none"
            )
        for name in ("mwcs", "wavelet"):
            if self.method == name and getattr(self, name) is None:
                raise ParameterError(f"Measurement: method = {name!r} needs its parameters")
        if self.method != "stretching" and self.reference.kind not in ("whole", "period"):
            raise ParameterError(
                f"Measurement: reference = {self.reference.kind!r} is for method = 'stretching'; with {self.method!r} "
                "take 'whole' or 'period'"
            )
        fixed = self.reference.kind in ("whole", "period")
        if self.compare_sides and (self.window.sides != "both" or self.method != "stretching" or not fixed):
            raise ParameterError(
                "Measurement: compare_sides needs method = 'stretching', sides = 'both' and the reference 'whole' or "
                "'period'"
            )

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the values that are measured."""
        by = self.mwcs if self.method == "mwcs" else self.wavelet if self.method == "wavelet" else None
        also = ["difference"] * self.compare_sides + ["delay_s"] * (by is not None and not by.through_origin)
        return ("dvv", "error", "coefficient", "n_windows", "flag", *also)

    @property
    def stretches(self) -> np.ndarray:
        """The stretches that are tried."""
        return epsilons(self.epsilon_max, self.steps)

    @property
    def largest_stretch(self) -> float:
        """The largest stretch of a reference: 0 for methods that stretch none."""
        return self.epsilon_max if self.method == "stretching" else 0.0

    def needs_all(self) -> bool:
        """Return whether every value depends on every piece, so that a new piece changes all."""
        return self.reference.kind in ("whole", "several", "none")

    def reach_ns(self) -> int:
        """Return how long before its end a piece's value depends on other pieces, besides those of a period."""
        rolling = self.reference.length_s + self.reference.gap_s if self.reference.kind == "rolling" else 0.0
        return round((max(self.moving_s, rolling)) * S)
