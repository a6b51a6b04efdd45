"""Which pairs are asked for: the same words on the command line, in Python, in exports, over the web and in figures."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Sequence

import numpy as np

from xcorr.results.errors import ResultsError
from xcorr.results.pair_table import FIELDS, PairTable
from xcorr.results.where import Where


@dataclasses.dataclass(frozen=True)
class Selection:
    """Pairs with these distances and azimuths (1 to 2), limits included, and these names. None and (): any.

    Azimuths go clockwise from the first to the last, through north if the last is smaller. ``pairs`` are patterns such
    as ``XX.A-XX.B`` or ``XX.*-YY.*``, in either order. ``networks`` are patterns for the networks of both stations.
    ``where`` is a condition on :data:`xcorr.results.pair_table.FIELDS`, such as ``snr > 10 and distance_km < 50``.
    """

    distance_km: tuple[float, float] | None = None
    azimuth_deg: tuple[float, float] | None = None
    pairs: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    where: str = ""

    def rows(self, table: PairTable) -> np.ndarray:
        """Return the rows of the pairs chosen, in order.

        Raises ResultsError for a pattern that names no pair, ConditionError for a condition that is none.
        """
        keep = np.ones(len(table), bool)
        if self.distance_km is not None:
            low, high = self.distance_km
            keep &= (table["distance_km"] >= low) & (table["distance_km"] <= high)
        if self.azimuth_deg is not None and self.azimuth_deg[1] - self.azimuth_deg[0] < 360:
            first, last = self.azimuth_deg
            keep &= (table["azimuth_deg"] - first) % 360 <= (last - first) % 360 + 1e-9
        if self.pairs:
            keep &= _named(self.pairs, table)
        if self.networks:
            inside = _fits([name.partition(".")[0] for name in table.stations], self.networks)
            keep &= inside[table.ends[0]] & inside[table.ends[1]]
        if self.where:
            keep &= Where(self.where, FIELDS).of_columns(table)
        found: np.ndarray = np.flatnonzero(keep)
        return found


def _named(patterns: Sequence[str], table: PairTable) -> np.ndarray:
    keep = np.zeros(len(table), bool)
    first, second = table.ends
    for pattern in patterns:
        parts = pattern.split("-")  # codes may have one, too
        halves = [("-".join(parts[:k]).strip(), "-".join(parts[k:]).strip()) for k in range(1, len(parts))]
        halves = [ends for ends in halves if all("." in end for end in ends)]
        if not halves:
            raise ResultsError(f"{pattern!r} names no pair; write two stations, such as XX.A-XX.B")
        for ends in halves:
            a, b = (_fits(table.stations, [end]) for end in ends)
            if b.all() or a.all():  # one station and any other
                one = a if b.all() else b
                keep |= one[first] | one[second]
            else:
                keep |= (a[first] & b[second]) | (b[first] & a[second])
    return keep


def _fits(names: Sequence[str], patterns: Sequence[str]) -> np.ndarray:
    return np.array([any(name == p or fnmatch.fnmatchcase(name, p) for p in patterns) for name in names], bool)
