"""``xcorr.h5``, the file a user opens: tables, lags, stacks, and the series as a virtual dataset over the shards."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.core import GenericPE
from xcorr.pes.shards import chunk_shape, sync_and_rename
from xcorr.pes.stack import StackedRows

FORMAT, VERSION = "xcorr-results", 1
LAG_CONVENTION = "C(tau) = sum x1(t) x2(t + tau): positive lag = the wave travels from station 1 to station 2"
NAME = "xcorr.h5"


@dataclasses.dataclass(frozen=True)
class Tables:
    """What a result file holds besides correlations: structured arrays, lags (s), shards, root attributes.

    ``shards`` lists (piece, first row, number of rows, path relative to the campaign).
    """

    stations: np.ndarray
    slots: np.ndarray
    pairs: np.ndarray
    pieces: np.ndarray
    lags_s: np.ndarray
    components: tuple[str, ...]
    shards: tuple[tuple[int, int, int, str], ...]
    attributes: dict[str, Any]


class WriteResults(GenericPE):
    """Writes the result file from :class:`StackedRows`; it becomes visible when it is complete."""

    def __init__(self, folder: str, tables: Tables) -> None:
        super().__init__()
        self._add_input("input", grouping="global")
        self.folder = folder
        self.tables = tables

    def _preprocess(self) -> None:
        import h5py

        self._temporary = Path(self.folder, f".{NAME}.{os.getpid()}.part")
        self._file = h5py.File(self._temporary, "w", libver="latest", rdcc_nbytes=16 << 20, rdcc_w0=1.0)
        t, file = self.tables, self._file
        file.attrs.update({"format": FORMAT, "version": VERSION, "lag_convention": LAG_CONVENTION, **t.attributes})
        for name in ("stations", "slots", "pairs", "pieces", "lags_s"):
            file.create_dataset(name, data=getattr(t, name))
        rows, lags = len(t.pairs), len(t.lags_s)
        for pair in t.components:
            group = file.create_group(f"stacks/linear/{pair}")
            for name in ("mean", "std_error"):
                group.create_dataset(
                    name,
                    (rows, lags),
                    "f4",
                    chunks=chunk_shape(lags, rows),
                    fletcher32=True,
                    fillvalue=np.nan,
                )
            group.create_dataset("n_windows", (rows,), "i4")
            for name in ("snr", "symmetry"):
                group.create_dataset(name, (rows,), "f4", fillvalue=np.nan)
            file.create_dataset(f"series_n_windows/{pair}", (len(t.pieces), rows), "i4")
            self._add_series(pair)

    def _add_series(self, pair: str) -> None:
        import h5py

        t = self.tables
        shape = len(t.pieces), len(t.pairs), len(t.lags_s)
        layout = h5py.VirtualLayout(shape, "f4")
        for piece, first, rows, path in t.shards:
            source = h5py.VirtualSource(path, f"series/{pair}", (rows, shape[2]), "f4")
            layout[piece, first : first + rows] = source
        self._file.create_virtual_dataset(f"series/{pair}", layout, fillvalue=np.nan)

    def process(self, inputs: dict[str, Any]) -> None:
        """Write the stacks of a range of rows."""
        item: StackedRows = inputs["input"]
        rows = slice(item.first_row, item.first_row + len(item.mean))
        group = self._file[f"stacks/linear/{item.components}"]
        names = ("mean", "snr", "symmetry") if len(item.n_by_piece) == 1 else ("mean", "std_error", "snr", "symmetry")
        for name in names:  # what has no value is not written: the file says NaN
            group[name][rows] = getattr(item, name)
        group["n_windows"][rows] = item.n_by_piece.sum(axis=0)
        self._file[f"series_n_windows/{item.components}"][:, rows] = item.n_by_piece

    def _postprocess(self) -> None:
        self._file.close()
        sync_and_rename(self._temporary, Path(self.folder, NAME))
