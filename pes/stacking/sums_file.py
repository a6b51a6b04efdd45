"""``sums.h5``: the running sums of the linear stacks, and the shards that are in them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.pes.stacking.sums import Sums
from xcorr.pes.storing.shards import chunk_shape

FORMAT, VERSION = "xcorr-sums", 1
SUMS = "sums.h5"
SUMMED = [("name", "S64"), ("id", "S32")]  # of shards, in the order in which they were added
ARRAYS, COUNTS = ("weighted", "squares"), ("windows", "pieces")


def sums_path(band: str, components: str) -> str:
    """Return the group of the sums of a component pair."""
    return f"bands/{band}/{components}" if band else components


def read_sums(path: Path, band: str, components: str, rows: slice) -> Sums:
    """Return the sums of some rows. Rows that the file does not have are those of nothing."""
    import h5py

    with h5py.File(path) as file:
        group = file[sums_path(band, components)]
        stored = {name: group[name][rows] for name in (*ARRAYS, *COUNTS)}
    return Sums(**stored)


class SumsWriter:
    """Writes the file of sums under a temporary name."""

    def __init__(
        self,
        folder: Path,
        bands: Sequence[str],
        components: Sequence[str],
        shape: tuple[int, int],
        summed: Sequence[tuple[str, str]],
    ) -> None:
        import h5py

        self._temporary = folder / f".{SUMS}.{os.getpid()}.part"
        self._file = h5py.File(self._temporary, "w", libver="latest", rdcc_nbytes=16 << 20, rdcc_w0=1.0)
        self._file.attrs.update({"format": FORMAT, "version": VERSION})
        how: dict[str, Any] = {"chunks": True, "maxshape": (None,), "fletcher32": True}
        self._file.create_dataset("shards", data=np.array(list(summed), SUMMED), **how)
        rows, lags = shape
        for band, pair in itertools.product(bands, components):
            group = self._file.create_group(sums_path(band, pair))
            for name in ARRAYS:
                group.create_dataset(name, shape, "f8", chunks=chunk_shape(lags, rows, 8), fletcher32=True)
            for name in COUNTS:
                group.create_dataset(name, (rows,), "i8", chunks=True, fletcher32=True)

    def write(self, band: str, components: str, first_row: int, sums: Sums) -> None:
        """Write the sums of a range of rows."""
        group, rows = self._file[sums_path(band, components)], slice(first_row, first_row + len(sums.windows))
        for name in (*ARRAYS, *COUNTS):
            group[name][rows] = getattr(sums, name)

    def close(self) -> Path:
        """Close the file, which is then complete; return its temporary path."""
        self._file.close()
        return self._temporary


def summed_components(path: Path) -> set[str]:
    """Return the component pairs that are in the sums. Raises OSError if this cannot be read."""
    import h5py

    with h5py.File(path) as file:
        return set(file) - {"shards", "bands"}


def summed_shards(path: Path) -> list[tuple[str, str]]:
    """Return the name and id of each shard that is in the sums, in order. Raises OSError if this cannot be read."""
    import h5py

    with h5py.File(path) as file:
        table = file["shards"][...]
    return [(name.decode(), key.decode()) for name, key in zip(table["name"], table["id"], strict=True)]
