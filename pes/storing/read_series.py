"""Series of rows from open shards: those that are stored, and those of R and T that are made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xcorr.pes.items import Float32, Float64
from xcorr.pes.preparing.orient import rotated, stored_pairs
from xcorr.pes.storing.open_shards import OpenShards
from xcorr.pes.storing.shards import series_path
from xcorr.pes.storing.smaller import telling_filters


@dataclasses.dataclass(frozen=True, slots=True)
class RowsRequest:
    """Rows ``first_row ... stop_row - 1`` of the campaign, all of one strip that begins at row ``offset``.

    ``shards`` holds (chunk, path) in order; ``azimuth_deg`` and ``distance_m`` [row] those of the pairs.
    """

    first_row: int
    stop_row: int
    offset: int
    shards: tuple[tuple[int, str], ...]
    azimuth_deg: Float64
    distance_m: Float64

    @property
    def identity(self) -> str:
        """First and last row."""
        return f"{self.first_row}-{self.stop_row - 1}"

    @property
    def rows(self) -> slice:
        """The rows within the strip."""
        return slice(self.first_row - self.offset, self.stop_row - self.offset)


Series = tuple[Float32, np.ndarray]  # [piece, row, lag], and their numbers of windows [piece, row]


def stored_parts(pairs: Sequence[str]) -> list[str]:
    """Return the component pairs in the shards from which pairs are made."""
    return list(dict.fromkeys(part for pair in pairs for part in stored_pairs(pair)))


def read_series(shards: OpenShards, path: str, band: str, parts: Sequence[str], rows: slice) -> dict[str, Series]:
    """Return the series of some rows of a shard, by component pair. Raises CompressionError for a missing filter."""
    shard = shards[path]
    with telling_filters(path):
        return {
            part: (shard[series_path(band, part)][:, rows], shard[series_path(band, part, "series_n_windows")][:, rows])
            for part in parts
        }


def require_filters(folder: str, path: str) -> None:
    """Raise CompressionError if the series of a shard need a filter of HDF5 that is not installed."""
    shards = OpenShards(folder)

    def read_value(_: str, item: Any) -> None:
        if getattr(item, "ndim", 0) == 3:
            item[:1, :1, :1]

    try:
        with telling_filters(path):
            shards[path].visititems(read_value)
    finally:
        shards.close()


def series_of(known: Mapping[str, Series], pair: str, azimuth_deg: Float64) -> Series:
    """Return the series of a pair; of R, T and Z from those of Z, N and E (n is 0 if a component has none)."""
    parts = stored_pairs(pair)
    if parts == (pair,):
        return known[pair]
    n = np.min([known[p][1] for p in parts], axis=0)
    n = np.where(np.isfinite(azimuth_deg), n, 0)
    return rotated({p: known[p][0] for p in parts}, azimuth_deg, pair), n
