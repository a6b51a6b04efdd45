"""Shards: one immutable HDF5 file per chunk and strip, written under a temporary name, synced, renamed."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.core import GenericPE, XcorrError
from xcorr.pes.correlating.layout import Layout
from xcorr.pes.correlating.rows import CorrelationRows, ShardRecord, StripEnd
from xcorr.pes.correlating.snr import quality
from xcorr.pes.items import Chunk, SlotAccount
from xcorr.pes.storing import merge

FORMAT, VERSION = "xcorr-shard", 1
HDF5_CHUNK_BYTES = 128 << 10
WRITE_BYTES = 16 << 20  # after so many bytes the system is asked to begin writing to disk
SPARE_BYTES = 1 << 20  # free space left for tables, and for files of other processes
NOT_NOW = {  # errors of the system that say nothing about a file's content
    *(errno.EAGAIN, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR),
    *(errno.ESTALE, errno.EBUSY, errno.ETIMEDOUT, errno.ENOLCK),
}
CHUNK_TIMES = ("start_ns", "end_ns", "data_start_ns", "data_end_ns")


class ShardError(XcorrError, OSError):
    """A file that is no shard of this campaign, or is damaged."""


class ShardBusy(XcorrError, OSError):
    """A shard cannot be read now: another program has it open, permission is lacking, or the disk fails."""


@dataclasses.dataclass(frozen=True, slots=True)
class ShardContent:
    """The contents of a shard besides series; ``times`` are :data:`CHUNK_TIMES`."""

    settings_hash: str
    times: tuple[int, int, int, int]
    generation: int
    strip: int
    accounts: tuple[SlotAccount, ...]
    members: str


def read_shard(path: Path, thorough: bool = False) -> ShardContent:
    """Return the contents of a shard besides series. With ``thorough``, read the whole file to check all checksums.

    Raises ShardError, with the reason, if the file is no shard or is damaged.
    """
    import h5py

    try:
        with h5py.File(path) as file:
            if file.attrs["format"] != FORMAT or file.attrs["version"] != VERSION:
                raise ShardError(f"{path.name}: not a shard of this version")
            if thorough:
                file.visititems(read_all)
            accounts = json.loads(file["accounts"][...].tobytes())
            a, b, c, d = (int(file.attrs[name]) for name in CHUNK_TIMES)
            return ShardContent(
                str(file.attrs["settings_hash"]),
                (a, b, c, d),
                int(file.attrs["generation"]),
                int(file.attrs["strip"]),
                tuple(_account(each) for each in accounts),
                file["members"][...].tobytes().decode(),
            )
    except ShardError:
        raise
    except Exception as error:  # HDF5 raises anything on damage
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        if not is_damage(error):
            raise ShardBusy(f"{path.name} cannot be read now: {text}; nothing was changed, try again later") from error
        raise ShardError(f"{path.name}: damaged: {text}") from error


def is_damage(error: Exception) -> bool:
    """Return whether the file itself is at fault, not the disk, permissions, or another program that has it open."""
    if isinstance(error, MemoryError):
        return False
    said = re.search(r"errno = (\d+)", str(error))  # HDF5 tells it in its text alone
    number = int(said[1]) if said else getattr(error, "errno", None)
    return number not in NOT_NOW


def read_all(_: str, item: Any) -> None:
    """Read a dataset, one HDF5 chunk at a time, so that HDF5 compares its checksums."""
    if hasattr(item, "chunks") and item.chunks and item.size:
        for part in item.iter_chunks():
            item[part]


def _account(plain: dict[str, Any]) -> SlotAccount:
    files = tuple((str(name), int(size), int(time)) for name, size, time in plain.pop("files"))
    return SlotAccount(**{**plain, "files": files, "windows": tuple(plain["windows"])})


def shard_name(chunk: Chunk, strip: int, generation: int) -> str:
    """Return the path of a shard within its campaign: the chunk's start, generation and strip."""
    return f"shards/{chunk.name}_{generation:02d}-{strip:02d}.h5"


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


def require_space(folder: Path, needed: int) -> None:
    """Raise ShardError if the disk has no room for a file of so many bytes.

    Call this before creating a file, because HDF5 crashes when it closes a file on a full disk.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        raise ShardError(
            f"the disk of {folder} is full: {free / 1e6:.1f} MB free, {needed / 1e6:.1f} MB needed now; "
            "make room and run again: what is finished is kept, so the run resumes"
        )


def sync_and_rename(temporary: Path, final: Path) -> None:
    """Make a finished file visible under its final name, durably."""
    _sync(temporary, os.O_RDONLY)  # before the rename: after a power cut the name must not show a cut file
    os.replace(temporary, final)
    _sync(final.parent, os.O_RDONLY | os.O_DIRECTORY)  # a rename lasts only when its folder is synced


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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

    def add(self, size: int) -> None:
        """Count written bytes, and push from time to time, so that the disk works while correlations are computed."""
        self.pending += size
        if self.pending >= WRITE_BYTES:
            self.pending = 0
            self.push()

    def push(self) -> None:
        """Start writing to disk, without waiting. Bytes that are on disk leave memory, unless ``cached``."""
        if hasattr(os, "posix_fadvise"):  # on Linux, POSIX_FADV_DONTNEED does both
            end = os.fstat(self.descriptor).st_size
            first = self.begun if self.cached else 0
            os.posix_fadvise(self.descriptor, first, end - first, os.POSIX_FADV_DONTNEED)
            self.begun = end


class WriteShards(GenericPE):
    """Writes the rows of a strip into its shard; after the strip's end, a :class:`ShardRecord` goes out.

    Rows that never come have no data: NaN, with 0 windows. Series are [substack, row, lag] for every band (by name).
    The shard also has their numbers of windows, signal-to-noise ratios and symmetries. Unless ``cached``, the system
    need not keep written series in memory, because they will not be read soon.
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

    def _preprocess(self) -> None:
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
            self.units += len(item.data) * (item.band == self.bands[0] and item.substack == 0)
            shard.series[name][where] = item.data
            shard.add(item.data.nbytes)
            shard.rows["series_n_windows"][name][where] = item.n_windows
            ratio, coefficient = quality(item.data)
            shard.rows["series_snr"][name][where] = ratio
            shard.rows["series_symmetry"][name][where] = coefficient
        else:
            record = self._finish(self._open.pop(key), item)
            self.log(f"wrote {record.path}, {record.bytes} bytes")
            self.write("output", record)

    def _joined(self, shard: _Shard, end: StripEnd) -> tuple[SlotAccount, ...]:
        """Take over what the old shard of the same strip has and the new one lacks; return the accounts of both."""
        import h5py

        path = Path(self.folder, shard_name(end.chunk, end.strip, self.generation))
        if not path.is_file():
            return end.accounts
        old = read_shard(path)
        accounts, kept = merge.joined(end.accounts, old.accounts)
        if kept:
            with h5py.File(path) as file:
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
            os.open(path, os.O_RDONLY),
            self.cached,
        )

    def _finish(self, shard: _Shard, end: StripEnd) -> ShardRecord:
        accounts = self._joined(shard, end)
        for kind, values in shard.rows.items():
            for name, of_rows in values.items():
                shard.file.create_dataset(series_path(*name, kind), data=of_rows, chunks=True, fletcher32=True)
        texts = {"accounts": json.dumps([a.as_dict() for a in accounts]), "members": self.members}
        for place, text in texts.items():  # as bytes: HDF5 keeps no checksum of strings
            data = np.frombuffer(text.encode() or b" ", np.uint8)
            shard.file.create_dataset(place, data=data, chunks=True, fletcher32=True)
        shard.file.close()
        temporary = self._temporary(end.chunk, end.strip)
        path = shard_name(end.chunk, end.strip, self.generation)
        sync_and_rename(temporary, Path(self.folder, path))
        if not self.cached:  # after the sync, because only pages that are on disk can leave memory
            shard.push()
        os.close(shard.descriptor)
        size = os.path.getsize(Path(self.folder, path))
        return ShardRecord(end.chunk, self.generation, end.strip, path, size, accounts)
