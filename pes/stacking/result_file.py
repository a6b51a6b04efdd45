"""``xcorr.h5``, the file a user opens: tables, lags, stacks, and the series as a virtual dataset over the shards."""

from __future__ import annotations

import dataclasses
import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.core import GenericPE
from xcorr.pes.stacking.stack import StackedRows
from xcorr.pes.storing.shards import chunk_shape, require_space, series_path, sync_and_rename

FORMAT, VERSION = "xcorr-results", 1
LAG_CONVENTION = "C(tau) = sum x1(t) x2(t + tau): positive lag = the wave travels from station 1 to station 2"
NAME = "xcorr.h5"
SHARD_TABLE = [("piece", "i4"), ("first_row", "i8"), ("rows", "i8"), ("path", "S64")]


@dataclasses.dataclass(frozen=True)
class Tables:
    """The contents of a result file besides correlations: structured arrays, lags (s), shards, root attributes.

    ``shards`` lists (first piece, first row, number of rows, path relative to the campaign). A shard holds
    ``substacks`` pieces of every band (by name) and of every component pair in ``series``. ``series`` is empty if the
    series are not kept. ``components`` are the component pairs that every method of ``methods`` stacks.
    """

    stations: np.ndarray
    slots: np.ndarray
    pairs: np.ndarray
    pieces: np.ndarray
    lags_s: np.ndarray
    bands: tuple[str, ...]
    series: tuple[str, ...]
    components: tuple[str, ...]
    methods: tuple[str, ...]
    substacks: int
    shards: tuple[tuple[int, int, int, str], ...]
    attributes: dict[str, Any]


def stack_path(band: str, method: str, components: str) -> str:
    """Return the group of a stack.

    >>> stack_path("", "linear", "ZZ"), stack_path("low", "pws", "RT")
    ('stacks/linear/ZZ', 'bands/low/stacks/pws/RT')
    """
    return f"bands/{band}/stacks/{method}/{components}" if band else f"stacks/{method}/{components}"


class WriteResults(GenericPE):
    """Writes the result file from :class:`StackedRows`; it becomes visible when it is complete."""

    def __init__(self, folder: str, tables: Tables) -> None:
        super().__init__()
        self._add_input("input", grouping="global")
        self.folder = folder
        self.tables = tables

    def _preprocess(self) -> None:
        import h5py

        t = self.tables
        stacks = len(t.components) * len(t.bands) * (len(t.methods) + 1) * (len(t.pieces) > 1 or not t.series)
        require_space(Path(self.folder), 4 * len(t.pairs) * (len(t.lags_s) * stacks + 100))
        self._temporary = Path(self.folder, f".{NAME}.{os.getpid()}.part")
        # w0 = 1: HDF5 chunks that are fully written leave its cache first
        self._file = h5py.File(self._temporary, "w", libver="latest", rdcc_nbytes=16 << 20, rdcc_w0=1.0)
        file = self._file
        file.attrs.update({"format": FORMAT, "version": VERSION, "lag_convention": LAG_CONVENTION, **t.attributes})
        for name in ("stations", "slots", "pairs", "pieces", "lags_s"):
            file.create_dataset(name, data=getattr(t, name))
        file.create_dataset("shards", data=np.array(list(t.shards), SHARD_TABLE))
        for band, pair in itertools.product(t.bands, t.components):
            self._add_stacks(band, pair)
        for band, pair in itertools.product(t.bands, t.series):
            self._add_series(band, pair)

    def _add_stacks(self, band: str, pair: str) -> None:
        rows, lags = len(self.tables.pairs), len(self.tables.lags_s)
        how = {"chunks": chunk_shape(lags, rows), "fletcher32": True, "fillvalue": np.nan}
        first = None
        for method in self.tables.methods:
            group = self._file.create_group(stack_path(band, method, pair))
            if len(self.tables.pieces) == 1 and pair in self.tables.series:
                self._add_virtual(f"{group.name}/mean", series_path(band, pair), (rows, lags))
            else:
                group.create_dataset("mean", (rows, lags), "f4", **how)
            for name in ("snr", "symmetry"):
                group.create_dataset(name, (rows,), "f4", fillvalue=np.nan)
            if first is None:
                first = group
                group.create_dataset("std_error", (rows, lags), "f4", **how)
                group.create_dataset("n_windows", (rows,), "i4")
            else:  # the same for all methods: one dataset, with several names
                group["std_error"], group["n_windows"] = first["std_error"], first["n_windows"]

    def _add_series(self, band: str, pair: str) -> None:
        shape = len(self.tables.pieces), len(self.tables.pairs), len(self.tables.lags_s)
        self._add_virtual(series_path(band, pair), series_path(band, pair), shape)
        self._file.create_dataset(series_path(band, pair, "series_n_windows"), shape[:2], "i4")

    def _add_virtual(self, name: str, path: str, shape: tuple[int, ...]) -> None:
        """Add a dataset that shows the series of the shards: [piece, row, lag], or [row, lag] for a single piece."""
        import h5py

        t = self.tables
        layout = h5py.VirtualLayout(shape, "f4")
        for piece, first, rows, shard in t.shards:
            # by relative path, so that the folder of a campaign can be moved
            source = h5py.VirtualSource(shard, path, (t.substacks, rows, shape[-1]), "f4")
            if len(shape) == 3:
                layout[piece : piece + t.substacks, first : first + rows] = source
            else:
                layout[first : first + rows] = source[0]
        self._file.create_virtual_dataset(name, layout, fillvalue=np.nan)

    def process(self, inputs: dict[str, Any]) -> None:
        """Write the stacks of a range of rows."""
        item: StackedRows = inputs["input"]
        rows = slice(item.first_row, item.first_row + item.n_by_piece.shape[1])
        for method in item.snr:
            group = self._file[stack_path(item.band, method, item.components)]
            group["snr"][rows], group["symmetry"][rows] = item.snr[method], item.symmetry[method]
            if item.means:
                group["mean"][rows] = item.means[method]
        if item.std_error is not None:  # a dataset that is not written has the fill value NaN
            group["std_error"][rows] = item.std_error
        if item.snr:
            group["n_windows"][rows] = item.n_by_piece.sum(axis=0)
        if item.components in self.tables.series:
            self._file[series_path(item.band, item.components, "series_n_windows")][:, rows] = item.n_by_piece

    def _postprocess(self) -> None:
        self._file.close()
        sync_and_rename(self._temporary, Path(self.folder, NAME))
