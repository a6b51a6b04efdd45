"""Which pairs are asked for: the same words on the command line, in Python and in exports."""

from __future__ import annotations

import dataclasses
import fnmatch

import numpy as np

from xcorr.results.errors import ResultsError


@dataclasses.dataclass(frozen=True)
class Selection:
    """Pairs with these distances and azimuths (1 to 2), limits included, and these names. None and (): any.

    Azimuths go clockwise from the first to the last, through north if the last is smaller. ``pairs`` are patterns such
    as ``XX.A-XX.B`` or ``XX.*-YY.*``, in either order.
    """

    distance_km: tuple[float, float] | None = None
    azimuth_deg: tuple[float, float] | None = None
    pairs: tuple[str, ...] = ()

    def chosen(self, stations: np.ndarray, table: np.ndarray) -> np.ndarray:
        """Return which rows of the table of pairs are chosen. Raises ResultsError for a pattern that names no pair."""
        keep = np.ones(len(table), bool)
        if self.distance_km is not None:
            low, high = (1000 * d for d in self.distance_km)
            keep &= (table["distance_m"] >= low) & (table["distance_m"] <= high)
        if self.azimuth_deg is not None and self.azimuth_deg[1] - self.azimuth_deg[0] < 360:
            first, last = self.azimuth_deg
            keep &= (table["azimuth_deg"] - first) % 360 <= (last - first) % 360 + 1e-9
        if self.pairs:
            keep &= self._named(stations["id"].astype(str), table)
        return keep

    def _named(self, names: np.ndarray, table: np.ndarray) -> np.ndarray:
        keep = np.zeros(len(table), bool)
        for pattern in self.pairs:
            parts = pattern.split("-")  # codes may have one, too
            halves = [("-".join(parts[:k]), "-".join(parts[k:])) for k in range(1, len(parts))]
            halves = [ends for ends in halves if all("." in end for end in ends)]
            if not halves:
                raise ResultsError(f"{pattern!r} names no pair; write two stations, such as XX.A-XX.B")
            first, second = table["station_1"], table["station_2"]
            for ends in halves:
                a, b = (np.array([fnmatch.fnmatchcase(n, end) for n in names]) for end in ends)
                keep |= (a[first] & b[second]) | (b[first] & a[second])
        return keep
