"""Measures one pair by stretching, with each kind of reference."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from xcorr.pes.items import Float32, Float64
from xcorr.pes.monitoring.interpolation import SLOTS, Stretcher, nodes
from xcorr.pes.monitoring.inversion import inverted
from xcorr.pes.monitoring.lag_windows import lags_of, sides_of
from xcorr.pes.monitoring.measurement import Measurement
from xcorr.pes.monitoring.precision import centre_and_duration, cubes_of_energy, weaver_error
from xcorr.pes.monitoring.stretching import Products, Slots, best, products, products_of_each

Precision = tuple[Float64, Float64, Float64]
Found = dict[str, np.ndarray]  # dvv, error, coefficient, odd and difference, [piece]


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """What is compared of one pair: pieces [piece, lag] in their slots, at lags of a window (samples).

    ``precision``: what :func:`weaver_error` takes of its references, besides the coefficient.
    """

    pieces: Float32
    slots: Slots
    window: tuple[int, int]
    precision: Precision


class ByStretching:
    """Stretching with the parameters of a measurement, for series of one rate and largest lag (samples)."""

    def __init__(self, how: Measurement, rate_hz: float, max_lag: int, window: tuple[int, int]) -> None:
        self.how, self.rate_hz, self.max_lag = how, rate_hz, max_lag
        self.stretches = how.stretches
        many = how.reference.kind == "rolling"  # references, whose squares cost more from nodes than from all stretches
        few = (self.stretches, None) if many else nodes(self.stretches, window[1])
        self._factors: Float32 | None = few[1]
        self._stretch = Stretcher(window, how.window.sides, few[0], max_lag)

    def stretched(self, references: Float32, first_slot: int = 0) -> Float32:
        """Return references [row, lag] stretched to the nodes, [row, lag, node]; rows without data are zeros.

        At most SLOTS rows are multiplied at once, the first one in the slot ``first_slot`` of them.
        """
        padded = np.zeros((SLOTS, references.shape[1]), np.float32)
        rows = slice(first_slot, first_slot + len(references))
        padded[rows] = np.nan_to_num(references)
        return self._stretch(padded)[rows]

    def precision(self, references: Float32, window: tuple[int, int]) -> Precision:
        """Return what references [row, lag] mean for the errors at the lags of a window (samples), each [row].

        These are the central frequency (Hz), the duration (s) and the lags (s³) that :func:`weaver_error` takes.
        """
        known, sides = np.nan_to_num(references), self.how.window.sides
        parts = [known[:, a + self.max_lag : b + self.max_lag + 1] for a, b in sides_of(window, sides)]
        lags = lags_of(window, sides) / self.rate_hz
        return *centre_and_duration(parts, self.rate_hz), cubes_of_energy(np.concatenate(parts, axis=1), lags)

    def fixed(self, pair: Pair, stretched: Float32) -> Found:
        """Return what one reference, stretched [lag, node], says of the pieces."""
        sides = self._sides(pair.pieces, pair.slots, pair.window, stretched)
        found = self._of(self._together(sides), pair)
        if self.how.compare_sides:
            left, right = (best(self._together([side]), self.stretches) for side in sides)
            difference = np.where((left[2] == 0) & (right[2] == 0), right[0] - left[0], np.nan)  # else one is doubtful
            found["difference"] = difference[pair.slots.at]
        return found

    def coefficients(self, pieces: Float32, slots: Slots, window: tuple[int, int], stretched: Float32) -> Float32:
        """Return the coefficients [piece, step] of pieces [piece, lag] with one reference, stretched [lag, node]."""
        found: Float32 = self._together(self._sides(pieces, slots, window, stretched))[slots.at]
        return found

    def several(self, pair: Pair, references: Float32, stretched: list[Float32]) -> Found:
        """Return what several references [reference, lag] say together (Sens-Schönfelder et al. 2014, JVGR 276).

        Each is compared with the mean of all, and its coefficients are moved by the velocity change between the two.
        The mean of the coefficients of all references then has one maximum for each piece.
        """
        total = np.zeros((pair.slots.count, len(self.stretches)))
        there = np.flatnonzero(np.isfinite(references[:, 0]))
        if not len(there):
            return self._of(total.astype(np.float32), pair)
        base = references[there].mean(axis=0, dtype=np.float64).astype(np.float32)
        slots = Slots(np.arange(len(there)), -(-len(there) // SLOTS) * SLOTS)
        as_pieces = dataclasses.replace(pair, pieces=references[there], slots=slots)
        moves = self.fixed(as_pieces, self.stretched(base[None])[0])["dvv"]
        for move, k in zip(moves, there, strict=True):
            values = self._together(self._sides(pair.pieces, pair.slots, pair.window, stretched[k]))
            total += _at(values, self.stretches, (1 + self.stretches) / (1 + move) - 1)
        return self._of((total / len(there)).astype(np.float32), pair)

    def rolling(self, pair: Pair, references: Float32) -> Found:
        """Return what references [piece, lag], one for each piece, say of the pieces."""
        values = np.empty((pair.slots.count, len(self.stretches)), np.float32)
        everything = slice(0, references.shape[1])
        known = pair.slots.put(references, [everything])[0]
        own = pair.slots.put(pair.pieces, self._lags(pair.window))
        for low in range(0, pair.slots.count, SLOTS):
            group = slice(low, low + SLOTS)
            stretched = self.stretched(known[group])
            sides = [
                products_of_each(part[group], stretched[:, self._stretch.rows_of(a, b)])
                for part, (a, b) in zip(own, self._ranges(pair.window), strict=True)
            ]
            values[group] = self._together(sides)
        return self._of(values, dataclasses.replace(pair, precision=self.precision(references, pair.window)))

    def without(self, pair: Pair, times_s: Float64) -> Found:
        """Return the velocity changes that fit those between all pieces best."""
        count = len(pair.pieces)
        changes, errors, coefficients = (np.full((count, count), np.nan) for _ in range(3))
        reach = self.how.reference.length_s or np.inf
        for k in np.flatnonzero(np.isfinite(pair.pieces[:, 0])):
            reference = pair.pieces[k]
            found = self.fixed(pair, self.stretched(reference[None], int(pair.slots.at[k]) % SLOTS)[0])
            good = (found["odd"] == 0) & (np.abs(times_s - times_s[k]) <= reach) & (np.arange(count) != k)
            changes[k, good], errors[k, good] = found["dvv"][good], found["error"][good]
            coefficients[k, good] = found["coefficient"][good]
        how = self.how.reference
        dvv, error = inverted(changes, errors, times_s, how.smooth_s, how.strength)
        known = np.isfinite(coefficients)
        with np.errstate(invalid="ignore"):
            mean = np.where(known, coefficients, 0).sum(axis=0) / known.sum(axis=0)
        return {"dvv": dvv, "error": error, "coefficient": mean, "odd": np.zeros(count, np.uint8)}

    def _ranges(self, window: tuple[int, int]) -> list[tuple[int, int]]:
        """Return the ranges of lags that are multiplied: those of each side, or both together if they touch."""
        found = sides_of(window, self.how.window.sides)
        is_one = len(found) > 1 and found[0][1] + 1 == found[1][0] and not self.how.compare_sides
        return [(found[0][0], found[1][1])] if is_one else found

    def _lags(self, window: tuple[int, int]) -> list[slice]:
        """Return where the lags of each range are in the series."""
        return [slice(a + self.max_lag, b + self.max_lag + 1) for a, b in self._ranges(window)]

    def _sides(self, pieces: Float32, slots: Slots, window: tuple[int, int], stretched: Float32) -> list[Products]:
        own = slots.put(pieces, self._lags(window))
        return [
            products(part, stretched[self._stretch.rows_of(a, b)], self._factors)
            for part, (a, b) in zip(own, self._ranges(window), strict=True)
        ]

    def _together(self, sides: list[Products]) -> Float32:
        """Return the coefficients [slot, step] of some sides together."""
        return functools.reduce(Products.__add__, sides).coefficients(self._factors)

    def _of(self, values: Float32, pair: Pair) -> Found:
        """Return maxima of coefficients [slot, step], with Weaver's error."""
        dvv, coefficient, odd = (found[pair.slots.at] for found in best(values, self.stretches))
        error = weaver_error(coefficient, *pair.precision)
        return {"dvv": dvv, "error": error, "coefficient": coefficient, "odd": odd}


def _at(values: Float32, stretches: Float64, wanted: Float64) -> Float64:
    """Return coefficients [piece, step] at other stretches, by cubic interpolation; beyond the ends, the last value."""
    place = np.clip((wanted - stretches[0]) / (stretches[1] - stretches[0]), 0, len(stretches) - 1)
    first = np.clip(np.floor(place).astype(int) - 1, 0, len(stretches) - 4)
    t = place - first
    taps = (
        -(t - 1) * (t - 2) * (t - 3) / 6,
        t * (t - 2) * (t - 3) / 2,
        -t * (t - 1) * (t - 3) / 2,
        t * (t - 1) * (t - 2) / 6,
    )
    total: Float64 = sum(values[:, first + k] * tap for k, tap in enumerate(taps))
    return total
