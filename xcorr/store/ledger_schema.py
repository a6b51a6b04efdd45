"""The tables of the ledger, and how those of earlier versions become the present ones."""

from __future__ import annotations

import dataclasses

from xcorr.pes.items import Chunk, SlotAccount
from xcorr.pes.storing.merge import corrects
from xcorr.pes.storing.shards import shard_name

VERSION = 4  # of the schema
ADDED = {  # columns that are new since a version
    2: ("channel_chunk ADD COLUMN stale", "shard ADD COLUMN id"),
    3: ("channel_chunk ADD COLUMN note", "channel_chunk ADD COLUMN metadata"),
}
READABLE = (*ADDED, VERSION)
SCHEMA = """
CREATE TABLE IF NOT EXISTS shard (path TEXT PRIMARY KEY, bytes INTEGER, mtime_ns INTEGER, start_ns INTEGER,
    end_ns INTEGER, data_start_ns INTEGER, data_end_ns INTEGER, generation INTEGER, strip INTEGER, kept INTEGER,
    id TEXT DEFAULT '');
CREATE TABLE IF NOT EXISTS channel_chunk (start_ns INTEGER, slot INTEGER, status TEXT, reason TEXT, seed_id TEXT,
    files TEXT, samples INTEGER, gaps INTEGER, gap_s REAL, zeros_s REAL, windows TEXT, stale TEXT DEFAULT '',
    note TEXT DEFAULT '', metadata TEXT DEFAULT '',
    PRIMARY KEY (start_ns, slot));
CREATE TABLE IF NOT EXISTS requested (line INTEGER PRIMARY KEY, text TEXT, status TEXT, reason TEXT, stations TEXT);
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT);
"""
COLUMNS = {  # those of all versions that can be read
    "shard": "path, bytes, mtime_ns, start_ns, end_ns, data_start_ns, data_end_ns, generation, strip, kept",
    "channel_chunk": "start_ns, slot, status, reason, seed_id, files, samples, gaps, gap_s, zeros_s, windows",
    "requested": "line, text, status, reason, stations",
    "fact": "name, value",
}
USED = "coalesce(json_extract(windows, '$.used'), json_extract(windows, '$[0]'), 0)"  # by name, or by position before
# other strips of a chunk, made when files were gone, may say less of a slot than is in the results; not so if what the
# results were made with was corrected
ENTER = """INSERT INTO channel_chunk VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (start_ns, slot) DO UPDATE SET
    status = excluded.status, reason = excluded.reason, seed_id = excluded.seed_id, files = excluded.files,
    samples = excluded.samples, gaps = excluded.gaps, gap_s = excluded.gap_s, zeros_s = excluded.zeros_s,
    windows = excluded.windows, stale = excluded.stale, note = excluded.note,
    metadata = excluded.metadata
    WHERE {} >= {} OR corrects(channel_chunk.metadata, excluded.metadata, excluded.status, excluded.reason)""".format(
    *(USED.replace("windows", f"{row}.windows") for row in ("excluded", "channel_chunk"))
)


def account_corrects(old: str, new: str, status: str, reason: str) -> bool:
    """Return whether an account replaces another one although it has fewer windows; in SQL, ``corrects``."""
    return not SlotAccount(0, 0, status, reason).is_error and corrects(old, new)


ERRORS = "status = 'failed' OR (status = 'used' AND reason <> '')"  # as SlotAccount.is_error
# so that errors are counted without reading all accounts; ledgers of earlier versions get it when a run opens them
INDEX = f"CREATE INDEX IF NOT EXISTS channel_chunk_errors ON channel_chunk (start_ns, slot) WHERE {ERRORS}"


@dataclasses.dataclass(frozen=True, slots=True)
class Shard:
    """A shard in the ledger; times in ns. ``kept`` is 0 if its series were stacked and its file was removed."""

    path: str
    bytes: int
    start_ns: int
    end_ns: int
    data_start_ns: int
    data_end_ns: int
    generation: int
    strip: int
    kept: int
    id: str

    @property
    def name(self) -> str:
        """The path that the shard has, or had before it became a part of a larger file."""
        return shard_name(Chunk(0, self.start_ns, self.end_ns, 0, 0), self.strip, self.generation)

    @property
    def part(self) -> str:
        """The name that the shard has within a larger file."""
        return self.name.removeprefix("shards/")
