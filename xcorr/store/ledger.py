"""The ledger of a campaign (SQLite): what was asked for, read, used and rejected, and why; and all shards.

Every shard holds a copy of its own rows of the ledger. So the ledger can be restored from the shards, except for the
lines of the station list.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xcorr.core import XcorrError
from xcorr.pes.correlating.rows import ShardRecord
from xcorr.pes.items import SlotAccount
from xcorr.pes.stacking.result_file import NAME as RESULTS
from xcorr.pes.storing.aside import set_aside
from xcorr.pes.storing.shards import CHUNK_TIMES, ShardContent, named_windows
from xcorr.store.ledger_schema import (
    ADDED,
    COLUMNS,
    ENTER,
    ERRORS,
    INDEX,
    READABLE,
    SCHEMA,
    USED,
    VERSION,
    Shard,
    account_corrects,
)
from xcorr.store.sqlite_files import BESIDE, is_damage, open_to_read, open_to_write

NAME = "ledger.sqlite"
LATER = ("stale", "note", "metadata")  # columns that ledgers of earlier versions may lack
SEAL = "seal"  # name of the fact that holds the digest of all rows


class LedgerError(XcorrError, OSError):
    """A ledger that is missing, damaged, or cannot be used now."""


def read_ledger(folder: Path, thorough: bool = True) -> Ledger:
    """Open the ledger of a campaign for reading only. Raises LedgerError if the ledger cannot be read.

    ``thorough``: read all of the file to see whether it is whole, which takes a second for each 300 MB.
    """
    ledger = Ledger.__new__(Ledger)  # the constructor would make or replace the file
    ledger.folder, ledger.settings_hash, ledger.removes_series = folder, "", False
    if not (folder / NAME).exists():
        raise LedgerError(f"{NAME}: missing")
    try:
        ledger._database = open_to_read(folder / NAME)
        _check(ledger._database, thorough)
    except sqlite3.DatabaseError as error:
        raise LedgerError(f"{NAME}: {'damaged' if is_damage(error) else 'cannot be read now'}: {error}") from error
    return ledger


def _check(database: sqlite3.Connection, thorough: bool = True) -> None:
    """Close the database and raise DatabaseError if it is damaged or has another version."""
    try:
        verdict = database.execute("PRAGMA quick_check").fetchone()[0] if thorough else "ok"
        version = database.execute("PRAGMA user_version").fetchone()[0]
        for table, columns in COLUMNS.items() if verdict == "ok" and version in READABLE else ():
            database.execute(f"SELECT {columns} FROM {table} LIMIT 0")  # a flipped bit may rename one
    except sqlite3.DatabaseError:
        database.close()
        raise
    if verdict != "ok" or version not in READABLE:
        database.close()
        raise sqlite3.DatabaseError(verdict if verdict != "ok" else f"version {version} of the schema, not {VERSION}")


@functools.lru_cache(maxsize=10_000)
def _windows(text: str) -> Mapping[str, int]:
    return named_windows(json.loads(text))  # shared by many accounts


class Ledger:
    """The ledger in a campaign folder. A missing or damaged ledger is replaced by a new one.

    Raises LedgerError if the ledger cannot be used now, for example while another process has locked it.
    """

    def __init__(self, folder: Path, settings_hash: str = "", removes_series: bool = False) -> None:
        self.folder, self.settings_hash, self.removes_series = folder, settings_hash, removes_series
        try:
            self._database = self._open()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise LedgerError(f"{folder / NAME} cannot be used now: {error}") from error
            self._begin_anew()

    def _begin_anew(self) -> Path:
        """Set the damaged ledger aside and open a new one, for the shards to restore; return where the old one is.

        Raises LedgerError if there are results, but no shards any more from which the ledger could be restored.
        """
        self._require_shards("damaged")
        for beside in (self.folder / f"{NAME}{end}" for end in BESIDE):
            if beside.exists():
                set_aside(beside)
        place = set_aside(self.folder / NAME)
        self._database = self._open()
        return place

    def _require_shards(self, what: str) -> None:
        """Raise LedgerError if there are results, but no shards to restore a ledger from: a run would begin anew."""
        if (self.folder / RESULTS).exists() and not any((self.folder / "shards").glob("*.h5")):
            raise LedgerError(
                f"{self.folder / NAME} is {what}, and there are no shards to restore it from (stack.keep_series = "
                "false removes them); put a copy of the ledger back, or choose another folder with -o"
            )

    def _open(self) -> sqlite3.Connection:
        if not (self.folder / NAME).exists():
            self._require_shards("missing")
        database = open_to_write(self.folder / NAME)
        database.create_function("corrects", 4, account_corrects, deterministic=True)
        try:
            if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                # in one transaction, so that a crash leaves all tables or none
                database.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        except sqlite3.DatabaseError:
            database.close()
            raise
        _check(database)
        self._migrate(database)
        database.execute(INDEX)
        return database

    def _migrate(self, database: sqlite3.Connection) -> None:
        """Add the columns that a ledger of an earlier version lacks, and seal it again if its seal was right."""
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version == VERSION:
            return
        self._database = database
        sealed, whole = self.fact(SEAL), self.is_whole()
        columns = [column for since, added in ADDED.items() if since >= version for column in added]
        added = "".join(f"ALTER TABLE {column} TEXT DEFAULT '';" for column in columns)
        database.executescript(f"BEGIN; {added} PRAGMA user_version = {VERSION}; COMMIT;")
        if sealed and whole:
            self.seal()

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def begin(self) -> Path | None:
        """Begin to change the ledger: remove its seal until the end of the run, so that a killed run leaves none.

        If rows are not what they were when the ledger was sealed, begin a new ledger instead; return where the old one
        then is.
        """
        if self.is_whole():
            self.keep_fact(SEAL, "")
            return None
        self._database.close()
        return self._begin_anew()

    def seal(self) -> None:
        """Enter a digest of all rows: a flipped bit in one of them is noticed, which SQLite itself does not do."""
        self.keep_fact(SEAL, self._digest())

    def is_whole(self) -> bool:
        """Return whether all rows can be read, and are what they were when the ledger was sealed, if it was."""
        try:
            return self.fact(SEAL) in ("", self._digest())
        except sqlite3.DatabaseError:  # such as a text that is no text any more
            return False

    def _digest(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        tables = {"shard": "path", "channel_chunk": "start_ns, slot", "requested": "line", "fact": "name"}
        for table, key in tables.items():
            for row in self._database.execute(f"SELECT * FROM {table} ORDER BY {key}"):
                if row[0] != SEAL:
                    digest.update(repr(row).encode())
        return digest.hexdigest()

    def enter(self, path: str, status: tuple[int, int], content: ShardContent) -> None:
        """Enter what a shard at a path says of itself; ``status`` is its size and time of change (ns)."""
        where = content.times, content.generation, content.strip
        self._keep(path, status, *where, content.accounts, content.id)
        if len(content.members) > len(self.fact("members")):  # stations are only ever appended
            self.keep_fact("members", content.members)

    def forget(self, paths: Iterable[str]) -> set[int]:
        """Delete the rows of shards and all accounts of their chunks. Return the starts (ns) of these chunks."""
        gone = list(paths)
        of_path = "SELECT start_ns FROM shard WHERE path = ?"
        starts = {start for path in gone for (start,) in self._database.execute(of_path, (path,))}
        with self._database as database:
            database.execute("BEGIN")
            database.executemany("DELETE FROM shard WHERE path = ?", [(p,) for p in gone])
            database.executemany("DELETE FROM channel_chunk WHERE start_ns = ?", [(s,) for s in starts])
        return starts

    def move(self, rows: Iterable[tuple[str, int, int, str]]) -> None:
        """Enter new places of shards: (new path, size, time of change, old path), all or none."""
        with self._database as database:
            database.execute("BEGIN")
            database.executemany("UPDATE shard SET path = ?, bytes = ?, mtime_ns = ? WHERE path = ?", list(rows))

    def keep(self, record: ShardRecord) -> None:
        """Enter a finished shard."""
        times = tuple(getattr(record.chunk, name) for name in CHUNK_TIMES)
        status = (self.folder / record.path).stat()
        where = times, record.generation, record.strip
        self._keep(record.path, (status.st_size, status.st_mtime_ns), *where, record.accounts, record.id)

    def _keep(
        self,
        path: str,
        status: tuple[int, int],
        times: Sequence[int],
        generation: int,
        strip: int,
        accounts: Iterable[SlotAccount],
        name: str,
    ) -> None:
        rows = [
            (
                *(times[0], a.slot, a.status, a.reason, a.seed_id, json.dumps(a.files)),
                *(a.samples, a.gaps, a.gap_s, a.zeros_s, json.dumps(a.windows), a.stale, a.note, a.metadata),
            )
            for a in accounts
        ]
        shard = (path, *status, *times, generation, strip, 1, name)
        with self._database as database:
            database.execute("BEGIN")
            key = times[0], generation, strip
            database.execute("DELETE FROM shard WHERE start_ns = ? AND generation = ? AND strip = ?", key)
            database.execute("INSERT OR REPLACE INTO shard VALUES (?,?,?,?,?,?,?,?,?,?,?)", shard)
            database.executemany(ENTER, rows)

    def known(self) -> dict[str, tuple[int, int, str]]:
        """Return size, time of change (ns) and id of every shard that is kept, by path."""
        key = "id" if self._has("shard", "id") else "''"
        rows = self._database.execute(f"SELECT path, bytes, mtime_ns, {key} FROM shard WHERE kept")
        return {path: (size, mtime, name) for path, size, mtime, name in rows}

    def remove_shards(self) -> None:
        """Remove the files of all shards, after stacking. The rows of shards and accounts stay in the ledger."""
        # first, so that the next run finishes a removal that was cut short
        self._database.execute("UPDATE shard SET kept = 0")
        for file in (self.folder / "shards").glob("*.h5"):
            file.unlink()

    def shards(self) -> list[Shard]:
        """Return the shards, by time, generation and strip."""
        names = ", ".join(f.name for f in dataclasses.fields(Shard))
        if not self._has("shard", "id"):
            names = names.replace(", id", ", '' AS id")
        rows = self._database.execute(f"SELECT {names} FROM shard ORDER BY start_ns, generation, strip")
        return [Shard(*row) for row in rows]

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

    def keep_requested(self, rows: Iterable[Any]) -> None:
        """Enter the status of every line of the station list."""
        lines = [(r.line, r.text, r.status, r.reason, json.dumps(r.stations)) for r in rows]
        with self._database as database:
            database.execute("BEGIN")
            database.execute("DELETE FROM requested")
            database.executemany("INSERT INTO requested VALUES (?,?,?,?,?)", lines)

    def fact(self, name: str) -> str:
        """Return a fact about the campaign; an empty text if the ledger does not have it."""
        row = self._database.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def keep_fact(self, name: str, value: str) -> None:
        """Enter a fact about the campaign."""
        self._database.execute("INSERT OR REPLACE INTO fact VALUES (?,?)", (name, value))
