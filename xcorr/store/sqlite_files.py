"""The SQLite files of a campaign: how they are opened, so that readers stop no run, and what their errors mean.

On a local file system a file is in SQLite's mode WAL: others may read it as long as they like, while a run writes. For
this mode SQLite needs memory that processes share, which network file systems do not offer. There a reader that keeps a
transaction open makes a run wait, and ends it after :data:`WAIT_S`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from xcorr.core import XcorrError

NOT_NOW = (  # primary result codes, https://www.sqlite.org/rescode.html
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
)
BESIDE = ("-journal", "-wal", "-shm")  # SQLite would apply them to a new file of the same name
LOCAL = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "bcachefs", "tmpfs", "overlay"}
WAIT_S = 60.0  # for another program that has the file


class DatabaseBusy(XcorrError, OSError):
    """A database of a campaign that another program has locked."""


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Return whether the database is damaged. Other causes: another process, the disk, limits of this process."""
    # the lowest byte is the primary code; errors of our own checks have no code
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF not in NOT_NOW


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open a database, or make it, for a run. Transactions begin only where the code says BEGIN."""
    database = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
    try:
        mode = "WAL" if _is_local(path.parent) else "DELETE"
        database.execute("PRAGMA busy_timeout = 0")
        with contextlib.suppress(sqlite3.OperationalError):  # another program reads it now; the next run tries again
            database.execute(f"PRAGMA journal_mode = {mode}")
        database.execute(f"PRAGMA busy_timeout = {round(1000 * WAIT_S)}")
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open a database for reading only."""
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        how = "mode=rw"  # else the files in which SQLite keeps the readers of the mode WAL would be left behind
    elif path.with_name(f"{path.name}-wal").exists():
        how = "mode=ro"
    else:
        how = "mode=ro&immutable=1"  # where nobody can write, these files cannot be made
    database = sqlite3.connect(f"file:{quote(str(path))}?{how}", timeout=WAIT_S, isolation_level=None, uri=True)
    database.execute("PRAGMA query_only = ON")
    return database


@contextlib.contextmanager
def telling_who_waits(folder: Path) -> Iterator[None]:
    """Turn the error of a database that another program has locked into one that says what to do."""
    try:
        yield
    except Exception as error:
        if "database is locked" not in str(error):
            raise
        raise DatabaseBusy(
            f"{folder}: a database of this campaign is locked: another program reads it (such as sqlite3, or a stopped "
            "xcorr status), and lets nobody write; end that program, and run again"
        ) from error


def _is_local(folder: Path) -> bool:
    """Return whether a folder is on a local file system of a known kind."""
    if not sys.platform.startswith("linux"):
        return False
    real, best, kind = os.path.realpath(folder), "", ""
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            _, place, found, *_ = line.split(" ")
            place = place.replace("\\040", " ")
            if (real + "/").startswith(place.rstrip("/") + "/") and len(place) >= len(best):
                best, kind = place, found
    return kind in LOCAL
