"""What a ledger says: questions about what was asked for, read, used and rejected. Nothing here writes."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xcorr.core import XcorrError
from xcorr.network.survey import Requested
from xcorr.pes.items import SlotAccount
from xcorr.pes.storing.shards import named_windows
from xcorr.store.ledger_schema import COLUMNS, ERRORS, READABLE, USED, VERSION, Shard
from xcorr.store.sqlite_files import is_damage, open_to_read

NAME = "ledger.sqlite"
LATER = ("stale", "note", "metadata")  # columns that ledgers of earlier versions may lack
SEAL = "seal"  # name of the fact that holds the digest of all rows
IMPORTED = "imported"  # name of the fact of an imported campaign: the program, and its files
OF_ALL = "2:"  # begins a seal that is also of the schema; seals of earlier versions are of rows
KEYS = {"shard": "path", "channel_chunk": "start_ns, slot", "requested": "line", "fact": "name"}
OF_ROWS = tuple(f"SELECT * FROM {table} ORDER BY {key}" for table, key in KEYS.items())  # takes keys from the indexes
EVERYTHING = (
    "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name",
    *(f"SELECT * FROM {table} NOT INDEXED ORDER BY rowid" for table in KEYS),
)


def mark_of(seal: str) -> int:
    """Return the number that the head of a sealed database has: a seal whose name or text is damaged is missed."""
    return zlib.crc32(seal.encode()) & 0x7FFFFFFF | 1 if seal.startswith(OF_ALL) else 0


class LedgerError(XcorrError, OSError):
    """A ledger that is missing, damaged, or cannot be used now."""


def check(database: sqlite3.Connection, thorough: bool = True) -> None:
    """Close the database and raise DatabaseError if it is damaged or has another version."""
    try:
        verdict = database.execute("PRAGMA quick_check").fetchone()[0] if thorough else "ok"
        version = database.execute("PRAGMA user_version").fetchone()[0]
        for table, columns in COLUMNS.items() if verdict == "ok" and version in READABLE else ():
            database.execute(f"SELECT {columns} FROM {table} LIMIT 0")  # a flipped bit may rename one
            database.execute(f"PRAGMA table_info({table})").fetchall()  # or make a name that is no text any more
    except sqlite3.DatabaseError:
        database.close()
        raise
    if verdict != "ok" or version not in READABLE:
        database.close()
        raise sqlite3.DatabaseError(verdict if verdict != "ok" else f"version {version} of the schema, not {VERSION}")


@functools.lru_cache(maxsize=10_000)
def _windows(text: str) -> Mapping[str, int]:
    return named_windows(json.loads(text))  # shared by many accounts


class LedgerReader:
    """The ledger of a campaign, for reading only. Raises LedgerError if the ledger cannot be read.

    ``thorough``: read all of the file to see whether it is whole, which takes a second for each 300 MB.
    """

    def __init__(self, folder: Path, thorough: bool = True) -> None:
        self.folder = folder
        if not (folder / NAME).exists():
            raise LedgerError(f"{NAME}: missing")
        try:
            self._database = open_to_read(folder / NAME)
            check(self._database, thorough)
        except sqlite3.DatabaseError as error:
            raise LedgerError(f"{NAME}: {'damaged' if is_damage(error) else 'cannot be read now'}: {error}") from error

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def is_whole(self) -> bool:
        """Return whether all rows can be read, and are what they were when the ledger was sealed, if it was."""
        try:
            sealed = self.fact(SEAL)
            mark = self._database.execute("PRAGMA application_id").fetchone()[0]
            if mark != mark_of(sealed) or sealed not in ("", self._digest(sealed.startswith(OF_ALL))):
                return False
            # which compares indexes and tables, as quick_check does not
            return bool(self._database.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok")
        except sqlite3.DatabaseError:  # such as a text that is no text any more
            return False

    def _digest(self, of_all: bool = True) -> str:
        """Return a digest of all rows; ``of_all``: also of the schema."""
        digest = hashlib.blake2b(digest_size=16)
        for query in EVERYTHING if of_all else OF_ROWS:
            for row in self._database.execute(query):
                if row[0] != SEAL:
                    digest.update(repr(row).encode())
        return OF_ALL * of_all + digest.hexdigest()

    def known(self) -> dict[str, tuple[int, int, str]]:
        """Return size, time of change (ns) and id of every shard that is kept, by path."""
        key = "id" if self._has("shard", "id") else "''"
        rows = self._database.execute(f"SELECT path, bytes, mtime_ns, {key} FROM shard WHERE kept")
        return {path: (size, mtime, name) for path, size, mtime, name in rows}

    def fact(self, name: str) -> str:
        """Return a fact about the campaign; an empty text if the ledger does not have it."""
        row = self._database.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def shards(self) -> list[Shard]:
        """Return the shards, by time, generation and strip."""
        names = ", ".join(f.name for f in dataclasses.fields(Shard))
        if not self._has("shard", "id"):
            names = names.replace(", id", ", '' AS id")
        rows = self._database.execute(f"SELECT {names} FROM shard ORDER BY start_ns, generation, strip")
        return [Shard(*row) for row in rows]

    def requested(self) -> list[Requested]:
        """Return the status of every line of the station list."""
        rows = self._database.execute("SELECT line, text, status, reason, stations FROM requested ORDER BY line")
        return [Requested(line, text, status, why, tuple(json.loads(names))) for line, text, status, why, names in rows]

    def has_windows(self) -> bool:
        """Return whether any window of any channel is used."""
        return self._database.execute(f"SELECT 1 FROM channel_chunk WHERE {USED} > 0 LIMIT 1").fetchone() is not None

    def starts(self) -> tuple[int, ...]:
        """Return the starts (ns) of the chunks that have shards."""
        return tuple(start for (start,) in self._database.execute("SELECT DISTINCT start_ns FROM shard ORDER BY 1"))

    def accounts(
        self, where: str = "", values: Sequence[Any] = (), files: bool = True
    ) -> Iterator[tuple[int, SlotAccount]]:
        """Yield the start of the chunk (ns) and the account of every slot in every chunk, by time and slot.

        ``where`` is a condition in SQL on the columns, with ``values`` for its question marks. Without ``files``, the
        accounts lack their files, which take most of the time.
        """
        listed = "files" if files else "'[]'"
        columns = (
            f"start_ns, slot, status, reason, seed_id, {listed}, samples, gaps, gap_s, zeros_s, windows, {self._later}"
        )
        condition = f"WHERE {where}" if where else ""
        rows = self._database.execute(
            f"SELECT {columns} FROM channel_chunk {condition} ORDER BY start_ns, slot", values
        )
        for start, slot, status, reason, seed_id, named, samples, gaps, gap_s, zeros_s, windows, *texts in rows:
            inputs = () if named == "[]" else tuple((name, size, time) for name, size, time in json.loads(named))
            by_name = _windows(windows)
            numbers = samples, gaps, gap_s, zeros_s
            yield start, SlotAccount(slot, 0, status, reason, seed_id, inputs, *numbers, by_name, *texts)

    def counts(self) -> dict[str, int]:
        """Return the numbers of shards, of those that the campaign will have, and of inputs with errors."""
        shards = self._database.execute("SELECT count(*) FROM shard").fetchone()[0]
        errors = self._database.execute(f"SELECT count(*) FROM channel_chunk WHERE {ERRORS}").fetchone()[0]
        return {"shards": shards, "shards_expected": max(int(self.fact("expected") or 0), shards), "failed": errors}

    def windows(self) -> Counter[str]:
        """Return the numbers of windows of used slots in all chunks, by reason."""
        total: Counter[str] = Counter()
        grouped = "SELECT windows, count(*) FROM channel_chunk WHERE status = 'used' GROUP BY windows"
        for text, count in self._database.execute(grouped):
            for reason, n in _windows(text).items():
                total[reason] += n * count
        return total

    def verdicts(self) -> Iterator[tuple[int, int, str, Mapping[str, int]]]:
        """Yield start of the chunk (ns), slot, status and windows of all accounts, faster than :meth:`accounts`."""
        rows = self._database.execute("SELECT start_ns, slot, status, windows FROM channel_chunk")
        return ((start, slot, status, _windows(text)) for start, slot, status, text in rows)

    def used_channels(self, first: int, last: int) -> list[tuple[int, str]]:
        """Return slots and the channels that were used in chunks that begin in ``[first, last)`` (ns)."""
        query = (
            "SELECT DISTINCT slot, seed_id FROM channel_chunk WHERE status = 'used' AND start_ns >= ? AND start_ns < ?"
        )
        return list(self._database.execute(query, (first, last)))

    def account(self, start: int, slot: int) -> SlotAccount:
        """Return the account of a slot in the chunk that begins at ``start`` (ns). Raises LedgerError without one."""
        for _, account in self.accounts("start_ns = ? AND slot = ?", (start, slot)):
            return account
        raise LedgerError(f"{NAME}: has no account of slot {slot} in the chunk that begins at {start}")

    @functools.cached_property
    def _later(self) -> str:
        """The columns that a ledger of an earlier version may lack; empty texts in place of those that it lacks."""
        return ", ".join(c if self._has("channel_chunk", c) else "''" for c in LATER)

    def _has(self, table: str, column: str) -> bool:
        """Return whether a table has a column: a ledger of an earlier version that is only read may lack it."""
        return any(about[1] == column for about in self._database.execute(f"PRAGMA table_info({table})"))
