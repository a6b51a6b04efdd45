"""Series of rows from open shards: those that are stored, and those of R and T that are made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from xcorr.pes.items import Float32, Float64
from xcorr.pes.preparing.orient import rotated, stored_pairs
from xcorr.pes.storing.open_shards import OpenShards
from xcorr.pes.storing.shards import series_path

Series = tuple[Float32, np.ndarray]  # [piece, row, lag], and their numbers of windows [piece, row]


def stored_parts(pairs: Sequence[str]) -> list[str]:
    """Return the component pairs in the shards from which pairs are made."""
    return list(dict.fromkeys(part for pair in pairs for part in stored_pairs(pair)))


def read_series(shards: OpenShards, path: str, band: str, parts: Sequence[str], rows: slice) -> dict[str, Series]:
    """Return the series of some rows of a shard, by component pair."""
    shard = shards[path]
    return {
        part: (shard[series_path(band, part)][:, rows], shard[series_path(band, part, "series_n_windows")][:, rows])
        for part in parts
    }


def series_of(known: Mapping[str, Series], pair: str, azimuth_deg: Float64) -> Series:
    """Return the series of a pair; of R, T and Z from those of Z, N and E (n is 0 if a component has none)."""
    parts = stored_pairs(pair)
    if parts == (pair,):
        return known[pair]
    n = np.min([known[p][1] for p in parts], axis=0)
    n = np.where(np.isfinite(azimuth_deg), n, 0)
    return rotated({p: known[p][0] for p in parts}, azimuth_deg, pair), n
