"""``monitor.h5``: velocity changes [piece, pair] of every measurement and component pair.

A run writes what it has measured of each range of rows to a file of its own. These files are put together at the end,
so that a run that was interrupted goes on where it was.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.pes.monitoring.flags import NO_DATA, WORDS
from xcorr.pes.monitoring.measure import KINDS
from xcorr.pes.storing.parts import read_parts

FORMAT, VERSION = "xcorr-monitor", 1
NAME, PARTS = "monitor.h5", "monitor.parts"
CHUNK = (512, 64)  # pieces and pairs of an HDF5 chunk
REFERENCE, SHARDS = "reference", "shards"  # in a group beside the fields: [pair, lag], and [piece] digests of shards
MEANING = {
    "dvv": "relative velocity change; positive: the medium is faster, waves arrive earlier",
    "error": "standard error of dvv",
    "coefficient": "correlation coefficient (stretching) or coherence at the best fit",
    "n_windows": "number of windows of the piece or moving stack",
    "flag": "sum of " + ", ".join(f"{number}: {text}" for number, text in WORDS.items()),
    "difference": "dvv of positive lags less that of negative lags",
    "delay_s": "shift of the whole correlation to later lags since the reference (s), as clocks make it",
}
FILLS: dict[str, Any] = {"n_windows": 0, "flag": NO_DATA}
PIECES = [("start_ns", "i8"), ("end_ns", "i8"), ("shards", "S32")]  # of the campaign; files have the times only


@dataclasses.dataclass(frozen=True)
class Table:
    """A measurement of one component pair in the file: its name, fields, and what it was made with (attributes)."""

    measurement: str
    components: str
    fields: tuple[str, ...]
    about: Mapping[str, Any]
    has_reference: bool = False

    @property
    def path(self) -> str:
        """The group in the file."""
        return f"{self.measurement}/{self.components}"


@dataclasses.dataclass(frozen=True)
class MonitorTables:
    """What the file holds besides values.

    ``pieces`` and ``pairs`` are tables of the campaign; ``tables`` are measured now, those of ``wanted`` [table] pieces
    (numbers), the others are copied from the file that is replaced; ``kept`` are groups of that file that are copied
    whole. ``key`` names the work, so that parts of other work are not taken for parts of this one.
    """

    stations: np.ndarray
    pairs: np.ndarray
    pieces: np.ndarray
    tables: tuple[Table, ...]
    wanted: tuple[np.ndarray, ...]
    kept: tuple[str, ...]
    attributes: Mapping[str, Any]
    lags: int
    key: str


def assemble(folder: Path, of: MonitorTables, temporary: Path) -> None:
    """Put all parts, and what is copied from the file that is replaced, together in a new file."""
    import h5py

    old_path = folder / NAME
    with h5py.File(temporary, "w", libver="latest") as file:
        file.attrs.update({"format": FORMAT, "version": VERSION, **of.attributes})
        times = of.pieces[["start_ns", "end_ns"]].astype(PIECES[:2])
        for name, rows in (("stations", of.stations), ("pairs", of.pairs), ("pieces", times)):
            file.create_dataset(name, data=rows, **({"chunks": True, "fletcher32": True} if rows.size else {}))
        for table in of.tables:
            _add(file, table, of)
        copied = {table.path: _old_pieces(of, wanted) for table, wanted in zip(of.tables, of.wanted, strict=True)}
        if of.kept or any(len(new) for new, _ in copied.values()):
            with h5py.File(old_path) as old:
                for name in of.kept:
                    _keep(old, file, name, of)
                at = {start: k for k, start in enumerate(old["pieces"]["start_ns"].tolist())}
                for table, (new, starts) in zip(of.tables, copied.values(), strict=True):
                    if len(new):
                        _copy(old[table.path], file[table.path], new, np.array([at[s] for s in starts.tolist()]))
        for first_row, values in read_parts(folder / PARTS, of.key):
            for table, wanted in zip(of.tables, of.wanted, strict=True):
                for name in (*table.fields, REFERENCE):
                    if (value := values.get(f"{table.path}/{name}")) is not None:
                        _write(file[table.path][name], value, first_row, wanted)


def _add(file: Any, table: Table, of: MonitorTables) -> None:
    shape = len(of.pieces), len(of.pairs)
    group = file.create_group(table.path)
    group.attrs.update(table.about)
    chunks = tuple(max(1, min(a, b)) for a, b in zip(CHUNK, shape, strict=True))
    for name in table.fields:
        kind, fill = KINDS.get(name, np.float32), FILLS.get(name, np.nan)
        made = group.create_dataset(name, shape, kind, chunks=chunks, fletcher32=True, fillvalue=fill)
        made.attrs["meaning"] = MEANING[name]
    group.create_dataset(SHARDS, data=of.pieces["shards"], chunks=True, fletcher32=True)
    if not table.has_reference:
        return
    rows = max(1, min(shape[1], (128 << 10) // (4 * of.lags)))
    how = {"chunks": (rows, of.lags), "fletcher32": True, "fillvalue": np.nan}
    group.create_dataset(REFERENCE, (shape[1], of.lags), "f4", **how)


def _keep(old: Any, file: Any, name: str, of: MonitorTables) -> None:
    """Copy a group of the file that is replaced. Pieces and pairs that it does not know have no data."""
    group = file.create_group(name)
    group.attrs.update(old[name].attrs)
    before = old["pieces"]["start_ns"]
    _, new, at = np.intersect1d(of.pieces["start_ns"], before, return_indices=True)
    shards = np.zeros(len(of.pieces), PIECES[2][1])
    shards[new] = old[name][SHARDS][...][at]  # pieces that came later, or were made again, are not measured
    group.create_dataset(SHARDS, data=shards, chunks=True, fletcher32=True)
    for field, data in old[name].items():
        if field == SHARDS:
            continue
        is_reference = field == REFERENCE
        shape = (len(of.pairs), of.lags) if is_reference else (len(of.pieces), len(of.pairs))
        chunks = tuple(max(1, min(a, b)) for a, b in zip(data.chunks, shape, strict=True))
        made = group.create_dataset(field, shape, data.dtype, chunks=chunks, fletcher32=True, fillvalue=data.fillvalue)
        made.attrs.update(data.attrs)
    _copy(old[name], group, new, at)


def _old_pieces(of: MonitorTables, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the pieces that are copied, and their starts."""
    new = np.setdiff1d(np.arange(len(of.pieces)), wanted)
    return new, of.pieces["start_ns"][new]


def _copy(old: Any, group: Any, new: np.ndarray, before: np.ndarray) -> None:
    """Copy the values of some pieces, and all references, some pairs at a time."""
    for name, data in group.items():
        if name == SHARDS:
            continue
        rows = old[name].shape[0 if name == REFERENCE else 1]  # pairs that came later are behind these
        for low in range(0, rows, CHUNK[1] * 16):
            part = slice(low, min(low + CHUNK[1] * 16, rows))
            if name == REFERENCE:
                data[part] = old[name][part]
            else:
                _write(data, old[name][:, part][before], low, new)


def _write(data: Any, values: np.ndarray, first_row: int, pieces: np.ndarray) -> None:
    """Write values [piece, row] of some pieces, or references [row, lag]; pieces that follow one another at once."""
    if data.name.endswith(REFERENCE):
        data[first_row : first_row + len(values)] = values
        return
    rows = slice(first_row, first_row + values.shape[1])
    if not len(pieces):
        return
    breaks = np.flatnonzero(np.diff(pieces) != 1) + 1
    for low, high in itertools.pairwise([0, *breaks.tolist(), len(pieces)]):
        data[pieces[low] : pieces[high - 1] + 1, rows] = values[low:high]
