"""Tells SQLite's errors apart: the database is damaged, or it cannot be used now."""

from __future__ import annotations

import sqlite3

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


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Return whether the database is damaged. Other causes: another process, the disk, limits of this process."""
    # the lowest byte is the primary code; errors of our own checks have no code
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF not in NOT_NOW
