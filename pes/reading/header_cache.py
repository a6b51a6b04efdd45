"""What headers of many files said, kept for the next index: in the user's cache, a file for each source.

A file whose size or time of change differs is read again. Nothing is believed of files that changed a moment ago, or
could not be read.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xcorr.pes.reading.source import Coverage
from xcorr.pes.reading.waveform import NS, Coordinates, Place

VERSION = 1  # of the tables, and of what readers make of headers
MANY = 500  # files from which on they are kept
RECENT_NS = 2 * NS  # a file may change again within the resolution of its time
SCHEMA = """
CREATE TABLE file (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER);
CREATE TABLE trace (path TEXT, network TEXT, station TEXT, location TEXT, channel TEXT, start_ns INTEGER,
    end_ns INTEGER, rate_hz REAL, turned INTEGER, latitude REAL, longitude REAL, elevation_m REAL);
CREATE INDEX trace_path ON trace (path);
"""
Trace = tuple[Coverage, Place | None]
_log = logging.getLogger("xcorr")


def cache_folder() -> Path:
    """Return where indexes are kept: ``$XDG_CACHE_HOME/xcorr/indexes``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xcorr" / "indexes"


class HeaderCache:
    """The kept headers of one source; ``about`` says what else decides them, such as options and versions."""

    def __init__(self, address: str, *about: str) -> None:
        text = repr((VERSION, os.path.abspath(address.partition(":")[2]), address, about))
        self.path = cache_folder() / f"{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}.sqlite"
        self.now_ns = time.time_ns()

    def known(self, marks: Mapping[str, tuple[int, int]]) -> dict[str, list[Trace]]:
        """Return the traces of the files that are as they were; ``marks``: size and time of change (ns) by path."""
        try:
            with contextlib.closing(self._open()) as database, _no_collection():
                same = {p for p, *mark in database.execute("SELECT * FROM file") if marks.get(p) == tuple(mark)}
                found: dict[str, list[Trace]] = {path: [] for path in same}
                for path, *values in database.execute("SELECT * FROM trace ORDER BY rowid"):
                    if path in same:
                        found[path].append(_trace(path, values))
                return found
        except (sqlite3.Error, OSError, TypeError, ValueError) as error:
            self._give_up(error)
            return {}

    def keep(self, marks: Mapping[str, tuple[int, int]], new: Mapping[str, Sequence[Trace]]) -> None:
        """Keep the traces of files that were read now, and forget files that are not there any more."""
        old = self.now_ns - RECENT_NS
        whole = {path: traces for path, traces in new.items() if path in marks and marks[path][1] < old}
        try:
            with contextlib.closing(self._open()) as database, database:
                there = {path for (path,) in database.execute("SELECT path FROM file")}
                gone = [(path,) for path in (there - marks.keys()) | (there & new.keys())]
                for table in ("file", "trace"):
                    database.executemany(f"DELETE FROM {table} WHERE path = ?", gone)
                database.executemany("INSERT INTO file VALUES (?,?,?)", ((p, *marks[p]) for p in whole))
                rows = (_row(*trace) for traces in whole.values() for trace in traces)
                database.executemany("INSERT INTO trace VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", rows)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self.path, timeout=10)
        try:
            if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                database.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _give_up(self, error: Exception) -> None:
        """Go on without what is kept, which only saves time."""
        _log.info("index %s cannot be used: %s", self.path, error)
        with contextlib.suppress(OSError):
            if not isinstance(error, sqlite3.OperationalError):  # which may be a lock of another run
                self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Make many objects, all of which stay, without looking for cycles among them again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def marks_of(paths: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return size and time of change (ns) of files that are there."""
    found = {}
    for path in paths:
        with contextlib.suppress(OSError):
            status = os.stat(path)
            found[path] = status.st_size, status.st_mtime_ns
    return found


def _trace(path: str, values: Sequence[Any]) -> Trace:
    network, station, location, channel, start, end, rate, turned, latitude, longitude, elevation = values
    coverage = Coverage(network, station, location, channel, start, end, path, rate, bool(turned))
    if latitude is None:
        return coverage, None
    height = float("nan") if elevation is None else elevation
    return coverage, Place(Coordinates(latitude, longitude, height), start, end)


def _row(coverage: Coverage, place: Place | None) -> tuple[Any, ...]:
    c = coverage
    at = (None, None, None) if place is None else (place.at.latitude, place.at.longitude, place.at.elevation_m)
    return (c.path, c.network, c.station, c.location, c.channel, c.start_ns, c.end_ns, c.rate_hz, c.turned, *at)
