"""Files of measurements on the correlations of a campaign: opened, and their measurements and pairs found."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from xcorr.core.errors import nearest
from xcorr.results.errors import ResultsError
from xcorr.results.pair_table import PairTable
from xcorr.results.reader import Results
from xcorr.results.selection import Selection

TABLES = ("stations", "pairs", "pieces")  # beside the measurements


class MeasuredFile:
    """An HDF5 file with a group for each measurement, and in it one for each component pair.

    ``file_name``, ``file_format`` and ``file_version`` are those of the file, ``command`` makes it, and ``what`` is
    measured. Raises ResultsError if there is none, or if it cannot be read.
    """

    file_name: ClassVar[str]
    file_format: ClassVar[str]
    file_version: ClassVar[int]
    command: ClassVar[str]
    what: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        import h5py

        self.path = folder / self.file_name
        if not self.path.is_file():
            raise ResultsError(f"{folder}: there is no {self.file_name}; {self.command} measures {self.what}")
        try:
            self.file = h5py.File(self.path)
        except OSError as error:
            raise ResultsError(f"{self.path} cannot be read as HDF5: {error}; {self.command} makes it again") from error
        is_ours = self.file.attrs.get("format") == self.file_format
        if not is_ours or int(self.file.attrs["version"]) > self.file_version:
            self.file.close()
            by = "by a newer version of xcorr" if is_ours else f"by something else than {self.command}"
            raise ResultsError(f"{self.path} was written {by}")
        self.names: list[str] = [name for name in self.file if name not in TABLES]

    def components(self, name: str = "") -> list[str]:
        """Return the component pairs of a measurement."""
        return sorted(self.file[self._known(name)])

    def group(self, name: str = "", components: str = "") -> Any:
        """Return the group of a measurement in the file. Raises ResultsError if there is none."""
        known, there = self._known(name), self.components(name)
        chosen = components or ("ZZ" if "ZZ" in there else there[0])
        if chosen not in there:
            raise ResultsError(f"{known}: no components {chosen!r}; there are {', '.join(there)}")
        return self.file[known][chosen]

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def __enter__(self) -> Self:
        """Return itself for a ``with`` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file at the end of a ``with`` block."""
        self.close()

    def selected(self, results: Results, components: str, selection: Selection | None) -> np.ndarray | None:
        """Return the rows of a selection that were there when they were measured; None for no selection."""
        if selection is None or selection == Selection():
            return None
        there = results.components
        rows = selection.rows(PairTable(results, components if components in there else there[0]))
        return rows[rows < len(self.file["pairs"])]

    def _known(self, name: str) -> str:
        if name and name not in self.names:
            raise ResultsError(f"no measurement {name!r}{nearest(name, self.names)}; there are {', '.join(self.names)}")
        return name or self.names[0]

    def _settings(self, name: str, components: str) -> dict[str, Any]:
        """Return the settings that a measurement was made with."""
        plain = json.loads(self.group(name, components).attrs["settings"])
        return {key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()}

    def _attributes(self, group: Any) -> dict[str, str]:
        """Return what a measurement is, for a dataset."""
        return {
            "measurement": group.parent.name[1:],
            "components": group.name.rpartition("/")[2],
            "settings": str(group.attrs["settings"]),
            "software": str(self.file.attrs["software"]),
        }

    def _ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the names of both stations of all pairs."""
        stations, table = self.file["stations"]["id"].astype(str), self.file["pairs"][...]
        return stations[table["station_1"]], stations[table["station_2"]]

    def _rows(
        self,
        first: np.ndarray,
        second: np.ndarray,
        has_data: Callable[[], np.ndarray],
        pairs: Sequence[str],
        rows: np.ndarray | None,
    ) -> np.ndarray:
        """Return the rows of pairs by name, or these ``rows``; without either those that have data."""
        if rows is not None:
            chosen = np.asarray(rows)
            if chosen.dtype.kind not in "iu" or (chosen < 0).any() or (chosen >= len(first)).any():
                raise ResultsError(f"rows: must be numbers of pairs, 0 to {len(first) - 1}")
            return chosen
        pairs = [pairs] if isinstance(pairs, str) else pairs
        if not len(pairs):
            return np.flatnonzero(has_data())
        ends = list(zip(first.tolist(), second.tolist(), strict=True))
        number = {f"{a}-{b}": k for k, (a, b) in enumerate(ends)}
        for k, (a, b) in enumerate(ends):
            number.setdefault(f"{b}-{a}", k)
        lost = [pair for pair in pairs if pair not in number]
        if lost:
            raise ResultsError(
                f"no pair {lost[0]!r}{nearest(lost[0], number)} in {self.path}; {self.command} measures new pairs"
            )
        return np.array([number[pair] for pair in pairs])
