"""Shards: one immutable HDF5 file per chunk and strip, written under a temporary name, synced, renamed."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from xcorr.core import XcorrError
from xcorr.pes.items import Chunk, SlotAccount
from xcorr.pes.storing.smaller import HOW, find_filters, is_missing

FORMAT, VERSION = "xcorr-shard", 2
COMPACT_FORMAT = "xcorr-shards"  # of a file that holds the shards of a strip in a month as groups
READABLE = (1, 2)
# windows by position, as version 1 of shards and version 2 of ledgers have them
FIRST_REASONS = (
    *("used", "coverage", "non-finite", "max_over_std", "kurtosis"),
    *("sta_lta", "dead", "clipped", "catalogue"),
)
HDF5_CHUNK_BYTES = 128 << 10
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
    id: str = ""

    @property
    def path(self) -> str:
        """The path that a shard with these contents has in its campaign."""
        return shard_name(Chunk(0, *self.times), self.strip, self.generation)


def read_shard(path: Path, thorough: bool = False, part: str = "") -> ShardContent:
    """Return the contents of a shard besides series, or of a ``part`` of a file of several shards.

    With ``thorough``, read the whole file to check all checksums. Raises ShardError, with the reason, if the file is no
    shard or is damaged, ShardBusy if it cannot be read now.
    """
    import h5py

    with telling_damage(path), h5py.File(path) as file:
        return _content(file[part] if part else file, path.name, thorough)


def part_names(path: Path) -> list[str]:
    """Return the names of the shards in a file of several; none for a file that is one shard."""
    import h5py

    with telling_damage(path), h5py.File(path) as file:
        return sorted(file) if file.attrs["format"] == COMPACT_FORMAT else []


def _content(group: Any, name: str, thorough: bool) -> ShardContent:
    if group.attrs["format"] != FORMAT or group.attrs["version"] not in READABLE:
        raise ShardError(f"{name}: not a shard of this version")
    if thorough:
        group.visititems(read_all)
    accounts = json.loads(group["accounts"][...].tobytes())
    a, b, c, d = (int(group.attrs[name]) for name in CHUNK_TIMES)
    return ShardContent(
        str(group.attrs["settings_hash"]),
        (a, b, c, d),
        int(group.attrs["generation"]),
        int(group.attrs["strip"]),
        tuple(_account(each) for each in accounts),
        group["members"][...].tobytes().decode(),
        str(group.attrs.get("id", "")),  # shards of version 0.1.0 have none
    )


@contextlib.contextmanager
def telling_damage(path: Path) -> Iterator[None]:
    """Turn the errors of HDF5 into ShardError, or into ShardBusy where the file is not at fault."""
    find_filters()
    try:
        yield
    except ShardError:
        raise
    except Exception as error:  # HDF5 raises anything on damage
        if is_missing(error):
            raise ShardBusy(f"{path.name} {HOW}; nothing was changed") from error
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
    return SlotAccount(**{**plain, "files": files, "windows": named_windows(plain["windows"])})


def named_windows(stored: dict[str, int] | list[int]) -> dict[str, int]:
    """Return the numbers of windows by name, from any version of shards or ledger."""
    if isinstance(stored, dict):
        return stored
    return {reason: count for reason, count in zip(FIRST_REASONS, stored, strict=True) if count}


def shard_name(chunk: Chunk, strip: int, generation: int) -> str:
    """Return the path of a shard within its campaign: the chunk's start, generation and strip."""
    return f"shards/{chunk.name}_{generation:02d}-{strip:02d}.h5"


def compact_name(name: str) -> str:
    """Return the file of a strip and month in which a shard is stored once it is compacted.

    >>> compact_name("shards/20240301T000000_00-02.h5")
    'shards/202403_00-02.h5'
    """
    own = name.removeprefix("shards/")
    return f"shards/{own[:6]}{own[15:]}"


def place_of(folder: Path, name: str) -> tuple[Path, str]:
    """Return the file that holds a shard, and the part of it; the file does not exist if nobody made the shard."""
    if not (folder / name).exists() and (larger := in_larger(folder, name)) is not None:
        return larger
    return folder / name, ""


def in_larger(folder: Path, name: str) -> tuple[Path, str] | None:
    """Return the file of several shards that holds a shard, and the part of it; None if there is none."""
    file, part = folder / compact_name(name), name.removeprefix("shards/")
    return (file, part) if file.exists() and part in part_names(file) else None


def name_of(path: str) -> str:
    """Return the path that a shard had before it became a part of a larger file."""
    file, _, part = path.partition("#")
    return f"shards/{part}" if part else file


def digest_of(shards: Iterable[tuple[str, str]]) -> str:
    """Return a text that tells a set of shards (path, id) from another: results and report name what they are of."""
    return hashlib.sha256(json.dumps(sorted(shards)).encode()).hexdigest()


def chunk_shape(lags: int, rows: int, value_bytes: int = 4) -> tuple[int, int]:
    """Return an HDF5 chunk [row, lag] of at most 128 KiB, of float32 or other values."""
    width = min(lags, HDF5_CHUNK_BYTES // value_bytes)
    return max(1, min(rows, HDF5_CHUNK_BYTES // value_bytes // width)), width


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
