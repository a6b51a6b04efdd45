"""The pairs of results as columns: what can be selected, sorted and listed of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xcorr.core.errors import nearest
from xcorr.results.errors import ResultsError
from xcorr.results.where import ConditionError

if TYPE_CHECKING:
    from xcorr.results.reader import Results

OF_STACK = ("snr", "symmetry", "n_windows")
LISTED = ("station_1", "station_2", "distance_km", "azimuth_deg", "back_azimuth_deg", *OF_STACK)
FIELDS = (*LISTED, "network_1", "network_2")


class PairTable:
    """Columns of :data:`FIELDS`, a value for each pair in the order of the results; ``ends`` are station numbers.

    Signal-to-noise ratio, symmetry and number of windows are those of one stack; they are read when first asked for.
    """

    def __init__(
        self, results: Results, components: str = "ZZ", stack: str | None = None, band: str = "", insist: bool = False
    ) -> None:
        self.results, self.of = results, (components, stack, band)
        self.insist = insist
        self.stations: list[str] = results.dataset("stations")["id"].astype(str).tolist()
        pairs = results.dataset("pairs")
        self.ends = pairs["station_1"], pairs["station_2"]
        self._orders: dict[str, np.ndarray] = {}
        self._columns: dict[str, np.ndarray] = {
            "distance_km": pairs["distance_m"] / 1000,
            "azimuth_deg": np.ascontiguousarray(pairs["azimuth_deg"]),
            "back_azimuth_deg": np.ascontiguousarray(pairs["back_azimuth_deg"]),
        }

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a column. Raises KeyError for an unknown name, ResultsError if there is no such stack."""
        if name not in FIELDS:
            raise KeyError(name)
        if name.startswith(("station", "network")):  # not kept: texts take much memory
            names = np.array(self.stations if name.startswith("station") else self._networks())
            return np.asarray(names[self.ends[int(name[-1]) - 1]])
        if name not in self._columns:
            components, stack, band = self.of
            self._columns[name] = self.results.numbers(name, components, stack, band, insist=self.insist)
        return self._columns[name]

    def _networks(self) -> list[str]:
        return [name.partition(".")[0] for name in self.stations]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.ends[0])

    def ordered(self, rows: np.ndarray, by: str) -> np.ndarray:
        """Return rows sorted by a field, with ``-`` before it from the largest; those without a value come last.

        Raises ConditionError for an unknown field.
        """
        name = by.removeprefix("-")
        if name not in FIELDS:
            raise ConditionError(f"{name!r} is no field{nearest(name, FIELDS)}; there are {', '.join(FIELDS)}")
        if by not in self._orders:  # of all pairs, kept: sorting takes longer than choosing
            keys = self._keys(name)
            self._orders[by] = np.argsort(-keys if by.startswith("-") else keys, kind="stable").astype(np.int32)
        chosen = np.zeros(len(self), bool)
        chosen[rows] = True
        order = self._orders[by]
        return np.asarray(order[chosen[order]])

    def _keys(self, name: str) -> np.ndarray:
        """Return values by which pairs can be sorted; those of names are numbers in alphabetic order."""
        if not name.startswith(("station", "network")):
            return np.asarray(self[name], np.float64)
        names = self.stations if name.startswith("station") else self._networks()
        _, rank = np.unique(names, return_inverse=True)
        return np.asarray(rank[self.ends[int(name[-1]) - 1]], np.float64)

    def pair(self, row: int) -> dict[str, Any]:
        """Return :data:`LISTED` of one pair as plain values; None where a number is not known."""
        found: dict[str, Any] = {f"station_{k + 1}": self.stations[end[row]] for k, end in enumerate(self.ends)}
        found |= {name: self[name][row].item() for name in LISTED[2:]}
        return {name: None if value != value else value for name, value in found.items()}


def require_stack(results: Results, components: str, stack: str, band: str) -> None:
    """Raise ResultsError if no such stack is stored."""
    if stack not in results.stacks or components not in results.components or band not in results.bands:
        raise ResultsError(
            f"no stack {stack!r} of {components!r} in band {band!r}; "
            f"there are {results.stacks} of {results.components} in {results.bands}"
        )
