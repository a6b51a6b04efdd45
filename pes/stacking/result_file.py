"""``xcorr.h5``, the file a user opens: tables, lags, stacks, and the series as a virtual dataset over the shards."""

from __future__ import annotations

import dataclasses
import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.core import GenericPE
from xcorr.core.files import rename_synced
from xcorr.pes.stacking.dimensions import name_dimensions
from xcorr.pes.stacking.stack import StackedRows
from xcorr.pes.stacking.sums_file import SUMS, SumsWriter
from xcorr.pes.storing.shards import chunk_shape, require_space, series_path

FORMAT, VERSION = "xcorr-results", 1
LAG_CONVENTION = "C(tau) = sum x1(t) x2(t + tau): positive lag = the wave travels from station 1 to station 2"
NAME = "xcorr.h5"
SHARD_TABLE = [("piece", "i4"), ("first_row", "i8"), ("rows", "i8"), ("path", "S64")]


@dataclasses.dataclass(frozen=True)
class Tables:
    """The contents of a result file besides correlations: structured arrays, lags (s), shards, root attributes.

    ``shards`` lists (first piece, first row, number of rows, path relative to the campaign). A shard holds
    ``substacks`` pieces of every band (by name) and of every component pair in ``series``. ``series`` is empty if the
    series are not kept. ``components`` are the component pairs that every method of ``methods`` stacks. ``kept`` are
    methods whose stacks are copied from the result file that is replaced, and whether they lack new data there.
    ``made`` says, for every other method, what its stacks were made from and how. ``summed`` (name and id of shards) is
    None if no running sums are kept.
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
    made: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    kept: dict[str, bool] = dataclasses.field(default_factory=dict)
    summed: tuple[tuple[str, str], ...] | None = None


def stack_path(band: str, method: str, components: str) -> str:
    """Return the group of a stack.

    >>> stack_path("", "linear", "ZZ"), stack_path("low", "pws", "RT")
    ('stacks/linear/ZZ', 'bands/low/stacks/pws/RT')
    """
    return f"bands/{band}/stacks/{method}/{components}" if band else f"stacks/{method}/{components}"


class WriteResults(GenericPE):
    """Writes the result file from :class:`StackedRows`, and the running sums; both become visible when complete."""

    def __init__(self, folder: str, tables: Tables) -> None:
        super().__init__()
        self._add_input("input", grouping="global")
        self.folder = folder
        self.tables = tables

    def _preprocess(self) -> None:
        import h5py

        t, folder = self.tables, Path(self.folder)
        rows, lags = len(t.pairs), len(t.lags_s)
        stacks = (len(t.methods) + 1 + len(t.kept)) * (len(t.pieces) > 1 or not t.series) + 4 * (t.summed is not None)
        require_space(folder, 4 * rows * (lags * len(t.components) * len(t.bands) * stacks + 100))
        self._sums = None
        if t.summed is not None:
            self._sums = SumsWriter(folder, t.bands, t.components, (rows, lags), t.summed)
        self._temporary = folder / f".{NAME}.{os.getpid()}.part"
        # w0 = 1: HDF5 chunks that are fully written leave its cache first
        self._file = h5py.File(self._temporary, "w", libver="latest", rdcc_nbytes=16 << 20, rdcc_w0=1.0)
        file = self._file
        file.attrs.update({"format": FORMAT, "version": VERSION, "lag_convention": LAG_CONVENTION, **t.attributes})
        for name in ("stations", "slots", "pairs", "pieces", "lags_s"):
            _add_table(file, name, getattr(t, name))
        _add_table(file, "shards", np.array(list(t.shards), SHARD_TABLE))
        for band, pair in itertools.product(t.bands, t.components):
            self._add_stacks(band, pair)
        for method, about in t.made.items():
            for band in t.bands:
                file[stack_path(band, method, t.components[0])].parent.attrs.update(about)
        for band, pair in itertools.product(t.bands, t.series):
            shape = len(t.pieces), rows
            self._add_virtual(series_path(band, pair), series_path(band, pair), (*shape, lags))
            counts = series_path(band, pair, "series_n_windows")
            self._add_virtual(counts, counts, shape)
        self._copies: dict[int, str] = {}
        if t.kept:
            with h5py.File(folder / NAME) as old:
                for band, method in itertools.product(t.bands, t.kept):
                    self._copy_stack(old, band, method)

    def _add_stacks(self, band: str, pair: str) -> None:
        rows, lags = len(self.tables.pairs), len(self.tables.lags_s)
        how = {"chunks": chunk_shape(lags, rows), "fletcher32": True, "fillvalue": np.nan}
        first = None
        for method in self.tables.methods:
            group = self._file.create_group(stack_path(band, method, pair))
            if len(self.tables.pieces) == 1 and pair in self.tables.series:
                self._add_virtual(f"{group.name}/mean", series_path(band, pair), (1, rows, lags), first_only=True)
            else:
                group.create_dataset("mean", (rows, lags), "f4", **how)
            for name in ("snr", "symmetry"):
                group.create_dataset(name, (rows,), "f4", chunks=True, fletcher32=True, fillvalue=np.nan)
            if first is None:
                first = group
                group.create_dataset("std_error", (rows, lags), "f4", **how)
                group.create_dataset("n_windows", (rows,), "i4", chunks=True, fletcher32=True)
            else:  # the same for all methods: one dataset, with several names
                group["std_error"], group["n_windows"] = first["std_error"], first["n_windows"]

    def _add_virtual(self, name: str, path: str, shape: tuple[int, ...], first_only: bool = False) -> None:
        """Add a dataset that shows those of the shards: series [piece, row, lag] or their counts [piece, row].

        ``first_only``: without the axis of pieces, of which there is one.
        """
        import h5py

        t = self.tables
        kind, fill = ("i4", 0) if len(shape) == 2 else ("f4", np.nan)
        layout = h5py.VirtualLayout(shape[1:] if first_only else shape, kind)
        for piece, first, rows, shard in t.shards:
            file, _, group = shard.partition("#")
            # by relative path, so that the folder of a campaign can be moved
            size = (t.substacks, rows, *shape[2:])
            source = h5py.VirtualSource(file, f"{group}/{path}" if group else path, size, kind)
            if first_only:
                layout[first : first + rows] = source[0]
            else:
                layout[piece : piece + t.substacks, first : first + rows] = source
        self._file.create_virtual_dataset(name, layout, fillvalue=fill)

    def _copy_stack(self, old: Any, band: str, method: str) -> None:
        """Copy a stack from the result file that is replaced. Rows of new pairs are NaN."""
        import h5py

        rows, stack = len(self.tables.pairs), old[stack_path(band, method, self.tables.components[0])].parent
        shared = None if self.tables.kept[method] or not self.tables.methods else self.tables.methods[0]
        for pair in self.tables.components:
            target = self._file.create_group(stack_path(band, method, pair))
            for name, data in stack[pair].items():
                if shared is not None and name in ("std_error", "n_windows"):
                    target[name] = self._file[stack_path(band, shared, pair)][name]
                    continue
                first = self._copies.setdefault(h5py.h5o.get_info(data.id).addr, f"{target.name}/{name}")
                if first != f"{target.name}/{name}":  # methods share it in the old file, too
                    target[name] = self._file[first]
                    continue
                shape = (rows, *data.shape[1:])
                chunks = chunk_shape(shape[1], rows) if len(shape) == 2 else True
                made = target.create_dataset(
                    name, shape, data.dtype, chunks=chunks, fletcher32=True, fillvalue=data.fillvalue
                )
                for part in made.iter_chunks():
                    inside = slice(part[0].start, min(part[0].stop, len(data)))
                    if inside.start < inside.stop:
                        made[(inside, *part[1:])] = data[(inside, *part[1:])]
        target.parent.attrs.update(stack.attrs)

    def process(self, inputs: dict[str, Any]) -> None:
        """Write the stacks of a range of rows."""
        item: StackedRows = inputs["input"]
        rows = slice(item.first_row, item.first_row + len(item.n_windows))
        for method in item.snr:
            group = self._file[stack_path(item.band, method, item.components)]
            group["snr"][rows], group["symmetry"][rows] = item.snr[method], item.symmetry[method]
            if item.means:
                group["mean"][rows] = item.means[method]
        if item.snr:
            group["n_windows"][rows] = item.n_windows
            if item.std_error is not None:  # a dataset that is not written has the fill value NaN
                group["std_error"][rows] = item.std_error
        if self._sums is not None and item.sums is not None:
            self._sums.write(item.band, item.components, item.first_row, item.sums)

    def _postprocess(self) -> None:
        name_dimensions(self._file, str(self.tables.attributes.get("units", "")))
        self._file.close()
        if self._sums is not None:  # first: stacks may be older than the sums, but not newer
            self._publish(self._sums.close(), SUMS)
        self._publish(self._temporary, NAME)

    def _publish(self, temporary: Path, name: str) -> None:
        """Make a finished file visible."""
        rename_synced(temporary, Path(self.folder, name))


def _add_table(file: Any, name: str, table: np.ndarray) -> None:
    """Add a table with a checksum; a table without rows has none."""
    how = {"chunks": True, "fletcher32": True} if table.size else {}
    file.create_dataset(name, data=table, **how)
