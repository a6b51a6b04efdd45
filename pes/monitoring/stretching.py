"""Stretching: the stretch of the lag axis at which a correlation fits its reference best.

Sens-Schönfelder & Wegler (2006, GRL 33); Hadziioannou et al. (2009, JASA 125). A correlation that is the reference at
``t (1 + epsilon)`` has dv/v = epsilon: with a positive value the medium is faster, and waves arrive earlier.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from xcorr.pes.items import Float32, Float64
from xcorr.pes.monitoring.flags import EDGE, RIVAL
from xcorr.pes.monitoring.interpolation import SLOTS

NEARLY = 0.98  # share of the maximum that a second maximum must have to be a rival


@dataclasses.dataclass(frozen=True, slots=True)
class Slots:
    """Where pieces are multiplied: ``at`` [piece] in an array of ``count`` slots, in which absent pieces are zeros.

    Products are those of SLOTS slots at once, always. The place of a piece among them follows from its time alone, so
    that no other piece changes its bits: BLAS adds in an order that depends on place and shape, on every processor.
    """

    at: np.ndarray
    count: int

    @classmethod
    def of(cls, starts_ns: np.ndarray, step_ns: int) -> Slots:
        """Return the slots of pieces that begin at these times and are ``step_ns`` apart where none is absent."""
        number = starts_ns // max(1, step_ns)
        if len(np.unique(number)) < len(number):
            raise ValueError("two pieces begin within one step")
        groups, own = np.unique(number // SLOTS, return_inverse=True)
        return cls(own * SLOTS + number % SLOTS, len(groups) * SLOTS)

    def put(self, pieces: Float32, lags: list[slice]) -> list[Float32]:
        """Return the wanted lags of pieces [piece, lag] in slots, for each range of lags [slot, lag]."""
        absent = np.ones(self.count, bool)
        absent[self.at] = np.isnan(pieces[:, 0])
        found = []
        for part in lags:
            own = np.empty((self.count, part.stop - part.start), np.float32)
            own[self.at] = pieces[:, part]
            own[absent] = 0
            found.append(own)
        return found


@dataclasses.dataclass(frozen=True, slots=True)
class Products:
    """Sums over lags for correlation coefficients: of slots and reference [slot, node], and their squares.

    Those of the reference are [step].
    """

    both: Float32
    own: Float32
    reference: Float64

    def __add__(self, other: Products) -> Products:
        """Return the sums over the lags of both."""
        return Products(self.both + other.both, self.own + other.own, self.reference + other.reference)

    def coefficients(self, factors: Float32 | None) -> Float32:
        """Return the correlation coefficients [slot, step]. They are 0 without data."""
        scaled = self.both * _inverse_root(self.own)[:, None]
        if factors is not None:
            scaled = _product(scaled, factors)
        scaled *= _inverse_root(self.reference)
        return scaled


def _inverse_root(squares_of: np.ndarray) -> Float32:
    found = np.zeros(squares_of.shape)
    np.divide(1, np.sqrt(squares_of), out=found, where=squares_of > 0)
    return found.astype(np.float32)


def products(own: Float32, stretched: Float32, factors: Float32 | None) -> Products:
    """Return the products of slots [slot, lag] with a reference that is stretched to the nodes, [lag, node].

    ``factors`` [node, step] lead from the nodes to all steps. Products are sums in float32. The squares of the
    reference, which decide where the maximum is, are sums in float64.
    """
    exact = stretched.astype(np.float64)
    squares = np.square(exact) if factors is None else factors * ((exact.T @ exact) @ factors)
    return Products(_product(own, stretched), np.vecdot(own, own), squares.sum(axis=0))


def _product(rows: Float32, matrix: Float32) -> Float32:
    """Return the product of slots [slot, k] and a matrix [k, m], SLOTS slots at a time."""
    found: Float32 = (rows.reshape(-1, SLOTS, len(matrix)) @ matrix).reshape(len(rows), -1)
    return found


def products_of_each(own: Float32, stretched: Float32) -> Products:
    """Return the products of every slot [slot, lag] with a stretched reference of its own [slot, lag, step]."""
    both = np.matmul(own[:, None], stretched)[:, 0]
    return Products(both, np.vecdot(own, own), np.square(stretched).sum(axis=1, dtype=np.float64))


def best(values: Float32, stretches: Float64) -> tuple[Float64, Float64, np.ndarray]:
    """Return, for coefficients [piece, step], the stretch of the largest one, its value, and what is odd [piece].

    A parabola through the largest value and its neighbours gives both. The last is a sum of EDGE (the maximum is at the
    end of the stretches, so that there is no parabola) and RIVAL (another maximum is nearly as large, so that the
    stretch may be wrong by a cycle). Pieces whose values are 0 have NaN and 0.
    """
    top = values.argmax(axis=1)
    rows, last = np.arange(len(values)), values.shape[1] - 1
    largest = values[rows, top]
    middle = np.clip(top, 1, last - 1)
    before, at, after = (values[rows, middle + k].astype(np.float64) for k in (-1, 0, 1))
    bend = before - 2 * at + after
    inside = (top == middle) & (bend < 0)
    move = np.divide(before - after, 2 * bend, out=np.zeros(len(top)), where=inside)
    peak = np.where(inside, at - (before - after) * move / 4, largest)
    found = stretches[top] + move * (stretches[1] - stretches[0])
    odd = np.where(top != middle, EDGE, 0) + np.where(_rivals(values, largest), RIVAL, 0)
    there = largest != 0
    return np.where(there, found, np.nan), np.where(there, peak, np.nan), np.where(there, odd, 0).astype(np.uint8)


def _rivals(values: Float32, largest: Float32) -> np.ndarray:
    """Return whether more than one maximum is nearly the largest value, [piece]."""
    steps = values.shape[1]
    near = np.flatnonzero(values >= NEARLY * largest[:, None])
    flat, step = values.ravel(), near % steps
    at = flat[near]
    falls = (step == steps - 1) | (at > flat[np.minimum(near + 1, flat.size - 1)])
    rose = (step == 0) | (at >= flat[np.maximum(near - 1, 0)])
    rivals: np.ndarray = np.bincount(near[rose & falls] // steps, minlength=len(values)) > 1
    return rivals
