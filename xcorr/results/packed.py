"""The correlations selected as files of one format, one after another: for zip files, crates and archives."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.core import installed
from xcorr.results.export import ExportError, of_rows, require_different, safe
from xcorr.results.pair_table import PairTable

TOGETHER = ("asdf", "csv", "netcdf", "zarr")  # formats that have all pairs in one file
ENDS = {"netcdf": "nc", "asdf": "h5"}  # of names, where they differ from the format's

Named = tuple[str, Path, str]  # name, file, what it is


@contextlib.contextmanager
def exported(found: list[Any], kind: str) -> Iterator[list[tuple[str, Path]]]:
    """Give the files that an export of correlations makes, with their names. They are removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="xcorr-"))
    try:
        target = folder / f"correlations.{ENDS.get(kind, kind)}"
        installed.load("exports", kind)(found, target)
        paths = sorted(p for p in target.rglob("*") if p.is_file()) if target.is_dir() else [target]
        yield [(str(p.relative_to(target)) if target.is_dir() else p.name, p) for p in paths]
    finally:
        shutil.rmtree(folder)


def names_of(table: PairTable, rows: np.ndarray) -> dict[tuple[str, str], str]:
    """Return the name of the file of each of some pairs. Raises ExportError if two would have the same."""
    ends = [(table.stations[table.ends[0][r]], table.stations[table.ends[1][r]]) for r in rows]
    found = {pair: safe("_".join((*pair, table.of[0]))) for pair in ends}
    require_different(list(found.values()))
    return found


def with_data(table: PairTable, rows: np.ndarray) -> np.ndarray:
    """Return those of some rows whose pairs have a stack with data."""
    return np.asarray(rows[table["n_windows"][rows] > 0])


def files_of(table: PairTable, rows: np.ndarray, kind: str, reverse: bool = False) -> Iterator[Named]:
    """Return name, path and description of the files that ``xcorr export`` writes for stacks of some pairs.

    A file is there only until the next one is asked for. Raises ExportError at once if no pair has data, or if two
    files would have the same name.
    """
    rows = with_data(table, rows)
    if not len(rows):
        raise ExportError("there is no pair with data among those selected")
    if kind not in TOGETHER:
        names_of(table, rows)
    return _files(table, rows, kind, reverse)


def _files(table: PairTable, rows: np.ndarray, kind: str, reverse: bool) -> Iterator[Named]:
    components, stack, band = table.of
    stack = stack or table.results.main_stack
    found = of_rows(table.results, {components: rows}, stack, band, reverse, table.insist)
    for pairs in [list(found)] if kind in TOGETHER else ([pair] for pair in found):
        about = f"stack of {pairs[0].name}" if len(pairs) == 1 else f"stacks of {len(pairs)} pairs"
        with exported(pairs, kind) as files:
            yield from ((name, path, about) for name, path in files)
