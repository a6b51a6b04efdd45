"""The store of provenance: one SQLite file for each campaign and, during a run, one more for each worker.

A worker writes only to its own file, in batches. The run copies the files of its workers into the store when it ends.
After a crash the next run does so. A crash at any moment leaves files that can be read.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from xcorr.core import XcorrError
from xcorr.pes.storing.aside import set_aside
from xcorr.store.sqlite_files import BESIDE, is_damage, open_to_read, open_to_write

FOLDER, NAME = "provenance", "store.sqlite"
VERSION = 1
ATTACHED = 9  # databases opened besides the store, because SQLite allows ten
_log = logging.getLogger("xcorr.provenance")
TABLES = {  # columns, and those that are unique
    "run": ("id begun ended status level mapping workers user host pid software settings_hash settings", "id"),
    "element": ("run name class version content_hash derivation parameters", "run, name"),
    "instance": ("run element instance worker received written skipped retried seconds", ""),
    "invocation": ("run id element instance worker seq port input key begun ended status", ""),
    "product": ("run id element instance port seq key at", ""),
    "item": ("run id kind bytes metadata", ""),
    "file": ("path bytes mtime_ns sha256", "path, bytes, mtime_ns"),
    "kept": ("run id path bytes sha256 rule", "path"),
}
ARCHIVES = "CREATE TABLE IF NOT EXISTS archive (at, destination, layout, files, bytes, selection)"  # since 0.2
INSERTS = {
    table: f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(columns.split()))})"
    for table, (columns, _) in TABLES.items()
}
INDEXES = {
    "invocation_id": "invocation (id)",
    "invocation_input": "invocation (input)",
    "invocation_seq": "invocation (run, element, instance, seq)",
    "product_id": "product (id)",
    "product_seq": "product (run, element, instance, seq)",
    "item_id": "item (id)",
}


class ProvenanceError(XcorrError, LookupError):
    """Provenance does not exist or cannot be used, or a question is not valid."""


class DamagedStore(ProvenanceError):
    """The store of provenance cannot be read."""


def folder_of(campaign: Path) -> Path:
    """Return the folder of a campaign's provenance."""
    return campaign / FOLDER


def worker_file(campaign: Path, run: int, worker: int) -> Path:
    """Return the file that a worker of a run writes."""
    return folder_of(campaign) / f"run-{run:05d}-worker-{worker}.sqlite"


def create(path: Path, indexed: bool) -> sqlite3.Connection:
    """Open a file, and make its tables if they are missing."""
    database = open_to_write(path)
    # fewer syncs; take_in puts a file aside that a power cut has damaged
    database.execute("PRAGMA synchronous = NORMAL")
    if database.execute("PRAGMA user_version").fetchone()[0] != VERSION:
        tables = ""
        for name, (columns, unique) in TABLES.items():
            key = f", UNIQUE ({unique})" if unique else ""
            tables += f"CREATE TABLE IF NOT EXISTS {name} ({', '.join(columns.split())}{key});"
        indexes = "".join(f"CREATE INDEX IF NOT EXISTS {n} ON {on};" for n, on in INDEXES.items() if indexed)
        database.executescript(f"BEGIN; {tables} {indexes} PRAGMA user_version = {VERSION}; COMMIT;")
    return database


def require_whole(campaign: Path) -> None:
    """Set a damaged store aside, so that the run is recorded in a new one. The caller must hold the campaign's lock.

    Raises ProvenanceError, and changes nothing, if the store cannot be read now.
    """
    path = folder_of(campaign) / NAME
    if not path.exists():
        return
    try:
        with contextlib.closing(open_to_read(path)) as store:
            verdict = store.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            why = f"{error}; nothing was changed, try again later"
            raise ProvenanceError(f"{path} cannot be read now: {why}") from error
        verdict = str(error)
    if verdict != "ok":
        place = set_aside(path)
        for end in BESIDE:
            path.with_name(f"{NAME}{end}").unlink(missing_ok=True)
        _log.warning("%s is damaged (%s); it is set aside as %s, and a new one begins", path, verdict, place)


def take_in(campaign: Path) -> None:
    """Move the files of ended workers into the store, each once. The caller must hold the lock of the campaign."""
    store = create(folder_of(campaign) / NAME, indexed=True)
    try:
        for path in sorted(folder_of(campaign).glob("run-*.sqlite")):
            try:
                _take_in_one(store, path)
            except sqlite3.DatabaseError as error:  # a power cut may damage a file; it is renamed, not removed
                if not is_damage(error):
                    raise ProvenanceError(f"{path} cannot be taken into the provenance store now: {error}") from error
                _log.warning("%s cannot be read: %s", path, error)
                path.replace(path.with_suffix(".damaged"))  # under this ending the next run does not take it in again
    finally:
        store.close()


def _take_in_one(store: sqlite3.Connection, path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as worker:
        whole = worker.execute("PRAGMA user_version").fetchone()[0] == VERSION  # rolls a cut transaction back
        worker.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if whole:
        store.execute("ATTACH ? AS worker", (str(path),))
        try:
            store.execute("BEGIN")
            for table in TABLES:
                how = "REPLACE" if table == "kept" else "IGNORE"  # an item that is kept again replaces the old one
                store.execute(f"INSERT OR {how} INTO main.{table} SELECT * FROM worker.{table}")
            store.execute("COMMIT")
        finally:
            if store.in_transaction:
                store.execute("ROLLBACK")
            store.execute("DETACH worker")
    path.unlink()
    for end in BESIDE:
        path.with_name(f"{path.name}{end}").unlink(missing_ok=True)


def record_archive(campaign: Path, row: tuple[float, str, str, int, int, str]) -> None:
    """Record an archive: time, destination, layout, files, bytes, what was selected. Level ``off`` records nothing."""
    if (folder_of(campaign) / NAME).exists():
        with contextlib.closing(create(folder_of(campaign) / NAME, indexed=True)) as store:
            store.execute(ARCHIVES)
            store.execute("INSERT INTO archive VALUES (?, ?, ?, ?, ?, ?)", row)


@contextlib.contextmanager
def reading(campaign: Path) -> Iterator[sqlite3.Connection]:
    """Open the store of a campaign for reading, together with the files of workers that are not in the store yet.

    Raises ProvenanceError if there is no store, and DamagedStore when it turns out that it cannot be read.
    """
    folder = folder_of(campaign)
    if not (folder / NAME).exists():
        raise ProvenanceError(
            f"there is no provenance in {str(campaign)!r}; xcorr run records it, unless provenance.level = 'off'"
        )
    database = open_to_read((folder / NAME).resolve())
    try:
        waiting = sorted(folder.glob("run-*.sqlite"))
        if len(waiting) > ATTACHED:
            _log.warning("%d workers are writing; the answer includes only %d of them", len(waiting), ATTACHED)
        parts = ["main"]
        for k, path in enumerate(waiting[:ATTACHED]):
            try:
                database.execute("ATTACH ? AS ?", (f"{path.resolve().as_uri()}?mode=ro", f"part{k}"))
                if database.execute(f"PRAGMA part{k}.user_version").fetchone()[0] == VERSION:
                    parts.append(f"part{k}")
            except sqlite3.DatabaseError as error:  # cut in the middle of a batch: the next run takes in the rest
                _log.warning("%s is left out for now: %s", path, error)
        if len(parts) > 1:
            database.execute("PRAGMA query_only = OFF")  # for the views, which are in memory
            for table in TABLES:
                union = " UNION ALL ".join(f"SELECT * FROM {part}.{table}" for part in parts)
                # SQLite looks for temporary names first, so queries see all parts
                database.execute(f"CREATE TEMP VIEW {table} AS {union}")
        yield database
    except sqlite3.DatabaseError as error:
        raise DamagedStore(f"{folder / NAME} cannot be read: {error}; xcorr verify says what is damaged") from error
    finally:
        database.close()
