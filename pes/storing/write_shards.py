"""The element that writes shards: one for every chunk and strip, under a temporary name, synced, renamed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.core import GenericPE
from xcorr.core.files import rename_synced
from xcorr.pes.correlating.layout import Layout
from xcorr.pes.correlating.rows import CorrelationRows, ShardRecord, StripEnd
from xcorr.pes.correlating.snr import quality
from xcorr.pes.items import Chunk, Float32, SlotAccount
from xcorr.pes.parameters import require_one_of
from xcorr.pes.storing import merge
from xcorr.pes.storing.aside import set_aside
from xcorr.pes.storing.shards import (
    CHUNK_TIMES,
    FORMAT,
    VERSION,
    ShardError,
    chunk_shape,
    place_of,
    read_shard,
    require_space,
    series_path,
    shard_name,
)
from xcorr.pes.storing.smaller import ALL_BITS, COMPRESSIONS, dataset_options, require, rounded, telling_filters

JUDGED_ROWS = 64  # at once: a few rows cost as much
WRITE_BYTES = 16 << 20  # after so many bytes the system is asked to begin writing to disk


@dataclasses.dataclass(slots=True)
class _Shard:
    """A shard that is being written. Series go to the file at once; the numbers for each row are written at the end."""

    file: Any
    series: dict[tuple[str, str], Any]
    rows: dict[str, dict[tuple[str, str], np.ndarray]]
    descriptor: int
    cached: bool
    pending: int = 0  # bytes of series that have come since the last push
    begun: int = 0  # bytes of the file at the last push
    unjudged: list[tuple[tuple[str, str], tuple[int, slice], Float32]] = dataclasses.field(default_factory=list)

    def add(self, size: int) -> None:
        """Count written bytes, and push from time to time, so that the disk works while correlations are computed."""
        self.pending += size
        if self.pending >= WRITE_BYTES:
            self.pending = 0
            self.push()

    def judge(self, name: tuple[str, str], where: tuple[int, slice], data: Float32) -> None:
        """Take rows whose quality is wanted, of which many are judged at once."""
        self.unjudged.append((name, where, data))
        if sum(len(rows) for *_, rows in self.unjudged) >= JUDGED_ROWS:
            self.judge_all()

    def judge_all(self) -> None:
        """Enter the quality of the rows that have come."""
        if not self.unjudged:
            return
        ratio, coefficient = quality(np.concatenate([rows for *_, rows in self.unjudged]))
        low = 0
        for name, where, rows in self.unjudged:
            part = slice(low, low + len(rows))
            self.rows["series_snr"][name][where] = ratio[part]
            self.rows["series_symmetry"][name][where] = coefficient[part]
            low = part.stop
        self.unjudged.clear()

    def push(self) -> None:
        """Start writing to disk, without waiting. Bytes that are on disk leave memory, unless ``cached``."""
        if hasattr(os, "posix_fadvise"):  # on Linux, POSIX_FADV_DONTNEED does both
            end = os.fstat(self.descriptor).st_size
            first = self.begun if self.cached else 0
            os.posix_fadvise(self.descriptor, first, end - first, os.POSIX_FADV_DONTNEED)
            self.begun = end


def _fingerprint(accounts: str, rows: dict[str, dict[tuple[str, str], np.ndarray]]) -> str:
    """Return a text that tells a shard from another: of its accounts, and of one or more numbers for every row."""
    digest = hashlib.blake2b(accounts.encode(), digest_size=16)
    for kind in sorted(rows):
        for name in sorted(rows[kind]):
            digest.update(np.ascontiguousarray(rows[kind][name]).tobytes())
    return digest.hexdigest()


def _write_rows(series: Any, substack: int, first_row: int, data: Float32) -> None:
    """Write rows of a substack to series [substack, row, lag], without h5py's wrapper, which takes longer than that."""
    import h5py

    if data.shape[1] != series.shape[2]:
        raise ShardError(f"rows of {data.shape[1]} lags are not those of a shard of {series.shape[2]}")
    inside = series.id.get_space()
    inside.select_hyperslab((substack, first_row, 0), (1, *data.shape))
    series.id.write(h5py.h5s.create_simple(data.shape), inside, np.ascontiguousarray(data, np.float32))


class WriteShards(GenericPE):
    """Writes the rows of a strip into its shard; after the strip's end, a :class:`ShardRecord` goes out.

    Rows that never come have no data: NaN, with 0 windows. Series are [substack, row, lag] for every band (by name).
    The shard also has their numbers of windows, signal-to-noise ratios and symmetries. Unless ``cached``, the system
    need not keep written series in memory, because they will not be read soon. Series are rounded to ``series_bits``
    of the mantissa, and compressed by ``compression``. Raises CompressionError if that is not installed.
    """

    keyed = True
    derivation = "grouped"
    unit = "pairs"

    def derivation_key(self, item: CorrelationRows | StripEnd) -> tuple[int, int]:
        """Return chunk and strip: a shard comes from the rows of its strip."""
        return item.chunk.start_ns, item.strip

    def __init__(
        self,
        folder: str,
        layout: Layout,
        lags: int,
        attributes: dict[str, Any],
        bands: Sequence[str] = ("",),
        substacks: int = 1,
        generation: int = 0,
        members: str = "",
        cached: bool = True,
        compression: str = "none",
        series_bits: int = ALL_BITS,
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
        self.generation = generation
        self.members = members
        self.cached = cached
        self.compression = compression
        self.series_bits = series_bits
        require_one_of(self, "compression", COMPRESSIONS)

    def _preprocess(self) -> None:
        require(self.compression)
        self._open: dict[tuple[int, int], _Shard] = {}

    def process(self, inputs: dict[str, Any]) -> None:
        """Write rows, or finish the strip. Raises ShardError where the disk is full."""
        item: CorrelationRows | StripEnd = inputs["input"]
        key = item.chunk.index, item.strip
        if key not in self._open:
            self._open[key] = self._create(item.chunk, item.strip)
        shard = self._open[key]
        if isinstance(item, CorrelationRows):
            rows = slice(item.first_row, item.first_row + len(item.data))
            name, where = (item.band, item.components), (item.substack, rows)
            if item.band == self.bands[0] and item.substack == 0:  # each pair counts once, if it has data
                self.units += np.count_nonzero(item.n_windows)
            data = rounded(item.data, self.series_bits)
            _write_rows(shard.series[name], item.substack, item.first_row, data)
            shard.add(data.nbytes)
            shard.rows["series_n_windows"][name][where] = item.n_windows
            shard.judge(name, where, data)
        else:
            record = self._finish(self._open.pop(key), item)
            self.log(f"wrote {record.path}, {record.bytes} bytes")
            self.write("output", record)

    def _joined(self, shard: _Shard, end: StripEnd) -> tuple[SlotAccount, ...]:
        """Take over what the old shard of the same strip has and the new one lacks; return the accounts of both.

        Raises ShardBusy if the old shard cannot be read now.
        """
        import h5py

        path, part = Path(self.folder, shard_name(end.chunk, end.strip, self.generation)), ""
        try:
            path, part = place_of(Path(self.folder), shard_name(end.chunk, end.strip, self.generation))
            if not path.is_file():
                return end.accounts
            old = read_shard(path, part=part)
        except ShardError as error:  # bits may rot between two runs, in a file that looks unchanged
            # the next run looks after the other shards in a larger file; nothing is written in its place here
            self.log(f"{error}" if part or not path.is_file() else f"{error}; set aside as {set_aside(path)}")
            return end.accounts
        accounts, kept = merge.joined(end.accounts, old.accounts)
        if kept:
            with telling_filters(path.name), h5py.File(path) as whole:
                file = whole[part] if part else whole
                for name, series in shard.series.items():
                    rows = {kind: values[name] for kind, values in shard.rows.items()}
                    paths = {kind: series_path(*name, kind) for kind in ("series", *rows)}
                    concerned = merge.rows_of(self.layout, end.strip, name[1], kept)
                    merge.keep_better(file, paths, series, rows, concerned)
            self.log(f"{path.name}: kept the old results of {len(kept)} slot(s), whose inputs are gone or have changed")
        return accounts

    def _temporary(self, chunk: Chunk, strip: int) -> Path:
        final = Path(self.folder, shard_name(chunk, strip, self.generation))
        return final.with_name(f".{final.name}.{os.getpid()}.part")

    def _create(self, chunk: Chunk, strip: int) -> _Shard:
        import h5py

        rows = self.layout.strip_rows(strip)
        shape, names = chunk_shape(self.lags, len(rows)), [(band, p) for band in self.bands for p in self.layout.pairs]
        whole = 4 * self.substacks * len(rows) * self.lags * len(names)
        require_space(Path(self.folder), whole * (1 + len(self._open)))  # the open ones may still grow as much
        cache = 16 << 20
        path = self._temporary(chunk, strip)
        file = h5py.File(path, "w", libver="latest", rdcc_nbytes=cache, rdcc_w0=1.0)
        file.attrs.update({"format": FORMAT, "version": VERSION, **self.attributes})
        file.attrs.update({name: getattr(chunk, name) for name in CHUNK_TIMES})
        file.attrs.update({"generation": self.generation, "strip": strip})
        size = self.substacks, len(rows), self.lags
        how = dataset_options(self.compression)
        series = {
            name: file.create_dataset(series_path(*name), size, "f4", chunks=(1, *shape), fillvalue=np.nan, **how)
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
            os.open(path, os.O_RDONLY),
            self.cached,
        )

    def _finish(self, shard: _Shard, end: StripEnd) -> ShardRecord:
        shard.judge_all()
        accounts = self._joined(shard, end)
        for kind, values in shard.rows.items():
            for name, of_rows in values.items():
                shard.file.create_dataset(series_path(*name, kind), data=of_rows, chunks=True, fletcher32=True)
        texts = {"accounts": json.dumps([a.as_dict() for a in accounts]), "members": self.members}
        for place, text in texts.items():  # as bytes: HDF5 keeps no checksum of strings
            data = np.frombuffer(text.encode() or b" ", np.uint8)
            shard.file.create_dataset(place, data=data, chunks=True, fletcher32=True)
        own = _fingerprint(texts["accounts"], shard.rows)
        shard.file.attrs["id"] = own
        shard.file.close()
        temporary = self._temporary(end.chunk, end.strip)
        path = shard_name(end.chunk, end.strip, self.generation)
        rename_synced(temporary, Path(self.folder, path))
        if not self.cached:  # after the sync, because only pages that are on disk can leave memory
            shard.push()
        os.close(shard.descriptor)
        size = os.path.getsize(Path(self.folder, path))
        return ShardRecord(end.chunk, self.generation, end.strip, path, size, accounts, own)
