"""Shards: one immutable HDF5 file per chunk and strip, written under a temporary name, synced, renamed."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.core import GenericPE
from xcorr.pes.items import Chunk, CorrelationRows, ShardRecord, StripEnd
from xcorr.pes.layout import Layout
from xcorr.pes.stacking import signal_to_noise, symmetry

FORMAT, VERSION = "xcorr-shard", 1
HDF5_CHUNK_BYTES = 128 << 10


def shard_name(chunk: Chunk, strip: int) -> str:
    """Return the path of a shard within its campaign: the chunk's start and the strip."""
    start = datetime.datetime.fromtimestamp(chunk.start_ns // 1_000_000_000, datetime.UTC)
    return f"shards/{start:%Y%m%dT%H%M%S}_{strip:04d}.h5"


def chunk_shape(lags: int, rows: int) -> tuple[int, int]:
    """Return an HDF5 chunk [row, lag] of at most 128 KiB of float32."""
    width = min(lags, HDF5_CHUNK_BYTES // 4)
    return max(1, min(rows, HDF5_CHUNK_BYTES // 4 // width)), width


def series_path(band: str, components: str, kind: str = "series") -> str:
    """Return where series (or their numbers of windows) of a band are, in shards and in results.

    >>> series_path("", "ZZ"), series_path("low", "ZZ", "series_n_windows")
    ('series/ZZ', 'bands/low/series_n_windows/ZZ')
    """
    return f"bands/{band}/{kind}/{components}" if band else f"{kind}/{components}"


def sync_and_rename(temporary: Path, final: Path) -> None:
    """Make a finished file visible under its final name, durably."""
    _sync(temporary, os.O_RDONLY)
    os.replace(temporary, final)
    _sync(final.parent, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclasses.dataclass(frozen=True, slots=True)
class _Shard:
    """A shard that is being written: its series are in the file, what is one number per row is kept until the end."""

    file: Any
    series: dict[tuple[str, str], Any]
    rows: dict[str, dict[tuple[str, str], np.ndarray]]


class WriteShards(GenericPE):
    """Writes the rows of a strip into its shard; after the strip's end, a :class:`ShardRecord` goes out.

    Rows that never come have no data: NaN, with 0 windows. Series are [substack, row, lag] for every band (by name);
    beside them are their numbers of windows, signal-to-noise ratios and symmetries.
    """

    keyed = True

    def __init__(
        self,
        folder: str,
        layout: Layout,
        lags: int,
        attributes: dict[str, Any],
        bands: Sequence[str] = ("",),
        substacks: int = 1,
    ) -> None:
        super().__init__()
        self._add_input("input", grouping=["key"])
        self._add_output("output")
        self.folder = folder
        self.layout = layout
        self.lags = lags
        self.attributes = attributes
        self.bands = bands
        self.substacks = substacks

    def _preprocess(self) -> None:
        self._open: dict[tuple[int, int], _Shard] = {}

    def process(self, inputs: dict[str, Any]) -> None:
        """Write rows, or finish the strip."""
        item: CorrelationRows | StripEnd = inputs["input"]
        key = item.chunk.index, item.strip
        if key not in self._open:
            self._open[key] = self._create(item.chunk, item.strip)
        shard = self._open[key]
        if isinstance(item, CorrelationRows):
            rows = slice(item.first_row, item.first_row + len(item.data))
            name, where = (item.band, item.components), (item.substack, rows)
            shard.series[name][where] = item.data
            shard.rows["series_n_windows"][name][where] = item.n_windows
            shard.rows["series_snr"][name][where] = signal_to_noise(item.data)
            shard.rows["series_symmetry"][name][where] = symmetry(item.data)
        else:
            self.write("output", self._finish(self._open.pop(key), item))

    def _temporary(self, chunk: Chunk, strip: int) -> Path:
        final = Path(self.folder, shard_name(chunk, strip))
        return final.with_name(f".{final.name}.{os.getpid()}.part")

    def _create(self, chunk: Chunk, strip: int) -> _Shard:
        import h5py

        rows = self.layout.strip_rows(strip)
        shape = chunk_shape(self.lags, len(rows))
        cache = 16 << 20
        file = h5py.File(self._temporary(chunk, strip), "w", libver="latest", rdcc_nbytes=cache, rdcc_w0=1.0)
        file.attrs.update({"format": FORMAT, "version": VERSION, **self.attributes})
        file.attrs.update({"chunk": chunk.index, "start_ns": chunk.start_ns, "end_ns": chunk.end_ns})
        file.attrs.update({"strip": strip, "first_row": rows.start})
        size = self.substacks, len(rows), self.lags
        names = [(band, pair) for band in self.bands for pair in self.layout.pairs]
        series = {
            name: file.create_dataset(
                series_path(*name), size, "f4", chunks=(1, *shape), fletcher32=True, fillvalue=np.nan
            )
            for name in names
        }
        return _Shard(
            file,
            series,
            {
                "series_n_windows": {name: np.zeros(size[:2], np.int32) for name in names},
                "series_snr": {name: np.full(size[:2], np.nan, np.float32) for name in names},
                "series_symmetry": {name: np.full(size[:2], np.nan, np.float32) for name in names},
            },
        )

    def _finish(self, shard: _Shard, end: StripEnd) -> ShardRecord:
        import h5py

        for kind, values in shard.rows.items():
            for name, of_rows in values.items():
                shard.file.create_dataset(series_path(*name, kind), data=of_rows)
        text = json.dumps([dataclasses.asdict(a) for a in end.accounts])
        shard.file.create_dataset("accounts", data=text, dtype=h5py.string_dtype())
        shard.file.close()
        temporary = self._temporary(end.chunk, end.strip)
        path = shard_name(end.chunk, end.strip)
        sync_and_rename(temporary, Path(self.folder, path))
        size = os.path.getsize(Path(self.folder, path))
        return ShardRecord(end.chunk, end.strip, path, size, end.accounts)
