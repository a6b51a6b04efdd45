"""What a campaign's store says of runs, invocations, items, kept files and inputs, a part of the list at a time."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xcorr.pes.reading.files import CAMPAIGN_MARK
from xcorr.provenance.destination import is_address, sha256
from xcorr.provenance.store import ProvenanceError, reading
from xcorr.results.where import ConditionError, Where

RUN = ("id", "begun", "ended", "status", "level", "mapping", "workers", "user", "host", "software", "settings_hash")
ELEMENT = ("name", "class", "version", "content_hash", "derivation", "parameters")
TOTALS = ("element", "instance", "worker", "received", "written", "skipped", "retried", "seconds")
INVOCATION = ("id", "element", "instance", "worker", "seq", "port", "input", "begun", "ended", "status")
ITEM = ("id", "run", "element", "port", "at", "kind", "bytes", "metadata")
KEPT = ("key", "item", "run", "path", "bytes", "sha256", "rule")
INPUT = ("path", "bytes", "mtime_ns", "sha256")
RUNNING, STOPPED = "running", "stopped"
SCANNED = 20_000  # items whose metadata one answer compares with a condition
TIMELINE_BINS = 200

Row = dict[str, Any]
Kept = tuple[Path, Row]  # a file, and what is recorded of it
Place = Sequence[Any] | None  # the key of the last row of the part before


def runs(store: sqlite3.Connection, is_running: bool) -> list[Row]:
    """Return all runs, the last one first. ``is_running``: the campaign is being run now."""
    found = _rows(store, RUN, f"SELECT {', '.join(RUN)} FROM run ORDER BY id DESC", ())
    for k, row in enumerate(found):
        _name_stopped(row, is_running and k == 0)
    return found


def _name_stopped(row: Row, is_running: bool) -> None:
    """Say of a run that was killed that it was stopped, which it could not say itself."""
    if row["status"] == RUNNING and not is_running:
        row["status"] = STOPPED


def require_run(store: sqlite3.Connection, number: int) -> None:
    """Raise ProvenanceError if there is no such run."""
    there = [n for (n,) in store.execute("SELECT id FROM run ORDER BY id")]
    if number not in there:
        raise ProvenanceError(f"no run {number}; there are {there[0]} to {there[-1]}" if there else "there is no run")


def run(store: sqlite3.Connection, number: int, is_running: bool) -> Row:
    """Return one run: its elements, totals and settings. Raises ProvenanceError if there is no such run."""
    require_run(store, number)
    found = _rows(store, RUN, f"SELECT {', '.join(RUN)} FROM run WHERE id = ?", (number,))
    _name_stopped(found[0], is_running and number == last_run(store))
    elements = f"SELECT {', '.join(ELEMENT)} FROM element WHERE run = ? ORDER BY rowid"
    if store.execute("SELECT count(*) FROM temp.sqlite_master WHERE name = 'element'").fetchone()[0]:
        elements = elements.replace(" ORDER BY rowid", "")  # a view, while a run goes on
    totals = f"SELECT {', '.join(TOTALS)} FROM instance WHERE run = ? ORDER BY element, instance"
    settings = store.execute("SELECT settings FROM run WHERE id = ?", (number,)).fetchone()[0]
    return {
        **found[0],
        "elements": _rows(store, ELEMENT, elements, (number,)),
        "instances": _rows(store, TOTALS, totals, (number,)),
        "settings": settings,
    }


def last_run(store: sqlite3.Connection) -> int:
    """Return the number of the last run; 0 if there is none."""
    return int(store.execute("SELECT coalesce(max(id), 0) FROM run").fetchone()[0])


def activity(
    store: sqlite3.Connection, number: int, element: str, status: str, after: Place, limit: int
) -> tuple[list[Row], Place]:
    """Return invocations of a run, by element, instance and number, and where the next part begins.

    ``status``: ``done``, ``skipped``, ``under way``, or empty for all.
    """
    where, values = "run = ?", [number]
    if element:
        where, values = f"{where} AND element = ?", [*values, element]  # type: ignore[list-item]
    if status:
        where, values = f"{where} AND status GLOB ?", [*values, f"{status}*"]  # type: ignore[list-item]
    return _part(store, "invocation", INVOCATION, where, values, after, limit)


def timeline(store: sqlite3.Connection, number: int) -> Row:
    """Return how busy every worker was, by element, in equal parts of a run's time: shares [worker, element, part]."""
    first, last = store.execute(
        "SELECT min(begun), max(coalesce(ended, begun)) FROM invocation WHERE run = ?", (number,)
    ).fetchone()
    if first is None:
        return {"begun": None, "ended": None, "bins": 0, "workers": []}
    width = max(last - first, 1e-3) / TIMELINE_BINS
    rows = store.execute(
        "SELECT worker, element, min(CAST((begun - ?) / ? AS INTEGER), ?), sum(ended - begun), count(*), "
        "sum(status GLOB 'skipped*') FROM invocation WHERE run = ? AND ended IS NOT NULL GROUP BY 1, 2, 3",
        (first, width, TIMELINE_BINS - 1, number),
    )
    workers: dict[int, dict[str, Any]] = {}
    for worker, element, part, seconds, count, skipped in rows:
        one = workers.setdefault(worker, {}).setdefault(element, {"seconds": {}, "count": 0, "skipped": 0})
        one["seconds"][part] = round(seconds, 4)
        one["count"] += count
        one["skipped"] += skipped
    listed = [{"worker": w, "elements": of} for w, of in sorted(workers.items())]
    return {"begun": first, "ended": last, "bins": TIMELINE_BINS, "workers": listed}


def items(
    store: sqlite3.Connection, number: int, element: str, condition: str, after: Place, limit: int
) -> tuple[list[Row], Place]:
    """Return items that a run wrote, with their metadata where these were recorded (level ``item``).

    ``condition`` is on the metadata of one kind of item. At most 20,000 items are compared for one answer; the place
    that is returned goes on after them. Raises ConditionError for a condition on unknown fields.
    """
    where, values = "run = ?", [number]
    if element:
        where, values = f"{where} AND element = ?", [*values, element]  # type: ignore[list-item]
    if condition and not store.execute("SELECT 1 FROM item WHERE run = ? LIMIT 1", (number,)).fetchone():
        raise ConditionError(
            f"condition {condition!r}: run {number} recorded no metadata; provenance.level 'item' does"
        )
    found: list[Row] = []
    scanned = 0
    while len(found) < limit and scanned < SCANNED:
        size = min(1000, SCANNED - scanned) if condition else limit
        rows, after = _part(store, "product", ("id", "run", "element", "port", "at"), where, values, after, size)
        scanned += len(rows)
        for k, row in enumerate(rows):
            row |= _about(store, row["id"])
            if not condition or _passes(condition, row["metadata"]):
                found.append(row)
                if len(found) == limit and k + 1 < len(rows):  # the rest of the rows is for the next part
                    return found, _place(store, "product", number, row["id"])
        if after is None:
            break
    return found, after


def _passes(condition: str, metadata: Row) -> bool:
    return bool(metadata) and Where(condition, metadata)(metadata)


def _about(store: sqlite3.Connection, name: str) -> Row:
    row = store.execute("SELECT kind, bytes, metadata FROM item WHERE id = ? LIMIT 1", (name,)).fetchone()
    kind, size, metadata = row or (None, None, "{}")
    return {"kind": kind, "bytes": size, "metadata": json.loads(metadata)}


def item(store: sqlite3.Connection, name: str) -> Row:
    """Return an item: who made and who used it, metadata, and where it is kept. Raises ProvenanceError if unknown."""
    columns = ("id", "run", "element", "port", "at")
    made = _rows(store, columns, f"SELECT {', '.join(columns)} FROM product WHERE id = ? ORDER BY run DESC", (name,))
    if not made:
        raise ProvenanceError(f"no item {name!r} is recorded; provenance.level 'invocation' and 'item' record items")
    used = f"SELECT {', '.join(INVOCATION)} FROM invocation WHERE input = ? LIMIT 100"
    return {
        **made[0],
        **_about(store, name),
        "runs": [row["run"] for row in made],
        "used_by": _rows(store, INVOCATION, used, (name,)),
        "kept": [row for row in kept(store) if row["item"] == name],
    }


def kept(store: sqlite3.Connection) -> list[Row]:
    """Return all kept items; ``key`` names one in addresses."""
    columns = ("item", "run", "path", "bytes", "sha256", "rule")
    rows = _rows(store, columns, "SELECT id, run, path, bytes, sha256, rule FROM kept ORDER BY path", ())
    return [{"key": hashlib.blake2b(r["path"].encode(), digest_size=8).hexdigest(), **r} for r in rows]


def kept_path(campaign: Path, recorded: str) -> Path:
    """Return where a kept item is now.

    That is in this campaign, if it is there or was recorded in the campaign that this one is a copy of; otherwise where
    it was recorded.
    """
    path = Path(recorded)
    here = [campaign.absolute().joinpath(*path.parts[k:]) for k in range(1, len(path.parts) - 1)]
    for k, own in enumerate(here):
        if own.is_file() or Path(*path.parts[: k + 1], CAMPAIGN_MARK).is_file():
            return own
    return path


def kept_files(campaign: Path, store: sqlite3.Connection) -> tuple[list[Kept], int]:
    """Return every kept file of a campaign with what was recorded of it last, and how many are kept at addresses."""
    rows = kept(store)
    own = [row for row in rows if not is_address(row["path"])]
    found = {kept_path(campaign, row["path"]): row for row in sorted(own, key=lambda row: row["run"])}
    return list(found.items()), len(rows) - len(own)


def what_is_lost(path: Path, row: Row) -> str:
    """Return what is wrong with a kept file, or an empty text."""
    if not path.is_file():
        return f"{path}: was kept, and is gone"
    return "" if sha256(path) == row["sha256"] else f"{path}: is not what was kept: its SHA-256 differs"


def kept_that_are_lost(campaign: Path) -> list[str]:
    """Return a line for each kept file of a campaign that is gone or changed. No run makes those again by itself."""
    try:
        with reading(campaign) as store:
            files, _ = kept_files(campaign, store)
    except ProvenanceError:  # nothing was recorded, or the store is damaged, which is a problem of its own
        return []
    return [text for path, row in files if (text := what_is_lost(path, row))]


def archives(store: sqlite3.Connection) -> list[Row]:
    """Return the archives that were written from a campaign, the last one first."""
    names = ("at", "destination", "layout", "files", "bytes", "selection")
    if not store.execute("SELECT count(*) FROM sqlite_master WHERE name = 'archive'").fetchone()[0]:
        return []
    return _rows(store, names, f"SELECT {', '.join(names)} FROM archive ORDER BY at DESC", ())


def inputs(store: sqlite3.Connection, after: str, limit: int) -> list[Row]:
    """Return files that were read, with their checksums, by path."""
    query = f"SELECT {', '.join(INPUT)} FROM file WHERE path > ? ORDER BY path LIMIT ?"
    return _rows(store, INPUT, query, (after, limit))


def count(store: sqlite3.Connection, table: str, number: int | None = None) -> int:
    """Return the number of rows of a table, of one run or of all."""
    assert table in ("invocation", "product", "file")
    where, values = ("", ()) if number is None else (" WHERE run = ?", (number,))
    return int(store.execute(f"SELECT count(*) FROM {table}{where}", values).fetchone()[0])


def _part(
    store: sqlite3.Connection, table: str, columns: Sequence[str], where: str, values: Sequence[Any], after: Place,
    limit: int,
) -> tuple[list[Row], Place]:  # fmt: skip
    """Return rows in the order of the index (run, element, instance, seq), and the key of the last one."""
    keys = ("element", "instance", "seq", "id")
    if after is not None:
        where, values = f"{where} AND (element, instance, seq, id) > (?, ?, ?, ?)", [*values, *after]
    names = list(dict.fromkeys((*columns, *keys)))
    query = f"SELECT {', '.join(names)} FROM {table} WHERE {where} ORDER BY {', '.join(keys)} LIMIT ?"
    rows = [dict(zip(names, row, strict=True)) for row in store.execute(query, (*values, limit + 1))]
    place = [rows[limit - 1][key] for key in keys] if len(rows) > limit else None
    return [{name: row[name] for name in columns} for row in rows[:limit]], place


def _place(store: sqlite3.Connection, table: str, number: int, name: str) -> Place:
    query = f"SELECT element, instance, seq, id FROM {table} WHERE run = ? AND id = ? LIMIT 1"
    found: Sequence[Any] = store.execute(query, (number, name)).fetchone()
    return list(found)


def _rows(store: sqlite3.Connection, names: Sequence[str], query: str, values: Sequence[Any]) -> list[Row]:
    return [dict(zip(names, row, strict=True)) for row in store.execute(query, values)]
