"""The ledger of a campaign (SQLite): what was asked for, read, used and rejected, and why; and all shards.

Every shard holds a copy of its own rows of the ledger. So the ledger can be restored from the shards, except for the
lines of the station list.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from xcorr.pes.correlating.rows import ShardRecord
from xcorr.pes.items import SlotAccount
from xcorr.pes.stacking.result_file import NAME as RESULTS
from xcorr.pes.storing.aside import set_aside
from xcorr.pes.storing.shards import CHUNK_TIMES, ShardContent
from xcorr.store.ledger_reader import NAME, SEAL, LedgerError, LedgerReader, check, mark_of
from xcorr.store.ledger_schema import ADDED, ENTER, INDEX, SCHEMA, VERSION, account_corrects
from xcorr.store.sqlite_files import BESIDE, is_damage, open_to_write


class Ledger(LedgerReader):
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
                f"{self.folder / NAME} is {what}, and there are no shards to restore it from (they were removed, as "
                "stack.keep_series = false does); put a copy of the ledger or of the shards back, or choose another "
                "folder with -o"
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
        check(database)
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

    def begin(self) -> Path | None:
        """Begin to change the ledger: remove its seal until the end of the run, so that a killed run leaves none.

        If rows are not what they were when the ledger was sealed, begin a new ledger instead; return where the old one
        then is.
        """
        if self.is_whole():
            self._keep_seal("")
            return None
        self._database.close()
        return self._begin_anew()

    def seal(self) -> None:
        """Enter a digest of all rows: a flipped bit in one of them is noticed, which SQLite itself does not do."""
        self._keep_seal(self._digest())

    def _keep_seal(self, seal: str) -> None:
        with self._database as database:
            database.execute("BEGIN")
            self.keep_fact(SEAL, seal)
            database.execute(f"PRAGMA application_id = {mark_of(seal)}")

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

    def remove_shards(self) -> None:
        """Remove the files of all shards, after stacking. The rows of shards and accounts stay in the ledger."""
        # first, so that the next run finishes a removal that was cut short
        self._database.execute("UPDATE shard SET kept = 0")
        for file in (self.folder / "shards").glob("*.h5"):
            file.unlink()

    def keep_requested(self, rows: Iterable[Any]) -> None:
        """Enter the status of every line of the station list."""
        lines = [(r.line, r.text, r.status, r.reason, json.dumps(r.stations)) for r in rows]
        with self._database as database:
            database.execute("BEGIN")
            database.execute("DELETE FROM requested")
            database.executemany("INSERT INTO requested VALUES (?,?,?,?,?)", lines)

    def keep_fact(self, name: str, value: str) -> None:
        """Enter a fact about the campaign."""
        self._database.execute("INSERT OR REPLACE INTO fact VALUES (?,?)", (name, value))
