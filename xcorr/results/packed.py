"""The correlations selected as files of one format, one after another: for zip files, crates and archives."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xcorr.core import installed
from xcorr.results.export import ExportError, require_different, safe, selected
from xcorr.results.pair_table import PairTable
from xcorr.results.reader import Results
from xcorr.results.selection import Selection

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


def names_of(table: PairTable, components: str, selection: Selection | None) -> dict[tuple[str, str], str]:
    """Return the name of the file of every pair selected. Raises ExportError if two would have the same."""
    rows = (selection or Selection()).rows(table)
    ends = [(table.stations[table.ends[0][r]], table.stations[table.ends[1][r]]) for r in rows]
    found = {pair: safe("_".join((*pair, components))) for pair in ends}
    require_different(list(found.values()))
    return found


def files_of(
    results: Results,
    kind: str,
    components: str,
    stack: str,
    band: str = "",
    selection: Selection | None = None,
    reverse: bool = False,
    insist: bool = False,
) -> Iterator[Named]:
    """Yield name, path and description of the files that ``xcorr export`` writes for the pairs selected.

    A file is there only until the next one is asked for. Raises ExportError if no pair has data.
    """
    if kind not in TOGETHER:  # before the first file, because each is written alone
        names_of(PairTable(results, components, stack, band, insist), components, selection)
    found = selected(results, stack, reverse, band, [components], selection, insist)
    if kind in TOGETHER:
        everything = list(found)
        if not everything:
            raise ExportError("none of the pairs selected has data")
        with exported(everything, kind) as files:
            yield from ((name, path, f"stacks of {len(everything)} pairs") for name, path in files)
        return
    empty = True
    for pair in found:
        empty = False
        with exported([pair], kind) as files:
            yield from ((name, path, f"stack of {pair.name}") for name, path in files)
    if empty:
        raise ExportError("none of the pairs selected has data")
