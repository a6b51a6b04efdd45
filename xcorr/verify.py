"""Looks a campaign over: is everything there, whole, and of the same settings?"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xcorr import campaign, lock
from xcorr.core import XcorrError
from xcorr.ledger import NAME as LEDGER
from xcorr.ledger import Ledger
from xcorr.pes.result_file import NAME as RESULTS
from xcorr.pes.shards import ShardError, read_all, read_shard


def problems(folder: Path) -> Iterator[str]:
    """Yield a line for everything that a rerun would repair. Raises CampaignError where there is no campaign.

    Every byte of every shard is read and compared with its checksum. Nothing is changed.
    """
    settings = campaign.frozen_settings(folder)
    if campaign.recorded_hash(folder) != settings.hash():
        yield "campaign.toml: its settings are not those of its hash"
    known = _known(folder)
    if isinstance(known, str):
        yield known
        known = {}
    for file in sorted((folder / "shards").glob("*.h5")):
        try:
            if read_shard(file, thorough=True).settings_hash != settings.hash():
                yield f"{file.name}: made with other settings"
        except ShardError as error:
            yield str(error)
        known.pop(f"shards/{file.name}", None)
    yield from (f"{Path(path).name}: missing" for path in known)
    yield from _in_results(folder, settings.hash())
    if not lock.is_running(folder):
        yield from (f"{p.name}: left over from a run that was ended" for p in campaign.leftovers(folder))


def _known(folder: Path) -> dict[str, Any] | str:
    """Return the shards that the ledger knows, or what is wrong with it."""
    if not (folder / LEDGER).exists():
        return f"{LEDGER}: missing"
    try:
        with sqlite3.connect(f"file:{folder / LEDGER}?mode=ro", uri=True) as database:
            verdict = database.execute("PRAGMA quick_check").fetchone()[0]
            shards = {path: None for (path,) in database.execute("SELECT path FROM shard")}
            expected = database.execute("SELECT value FROM fact WHERE name = 'expected'").fetchone()
    except sqlite3.DatabaseError as error:
        return f"{LEDGER}: damaged: {error}"
    if verdict != "ok":
        return f"{LEDGER}: damaged: {verdict}"
    if expected and int(expected[0]) > len(shards):
        return {**shards, **{f"shard {k} of {expected[0]}": None for k in range(len(shards) + 1, int(expected[0]) + 1)}}
    return shards


def _in_results(folder: Path, settings_hash: str) -> Iterator[str]:
    import h5py

    if not (folder / RESULTS).exists():
        yield f"{RESULTS}: missing"
        return
    try:
        with h5py.File(folder / RESULTS) as file:
            if file.attrs["settings_hash"] != settings_hash:
                yield f"{RESULTS}: made with other settings"
            file.visititems(read_all)
    except Exception as error:  # HDF5 raises anything on damage
        yield f"{RESULTS}: damaged: {type(error).__name__}: {error}".splitlines()[0]


def state(folder: Path) -> dict[str, Any]:
    """Return where a campaign stands; it may be running. Raises CampaignError where there is none."""
    settings = campaign.frozen_settings(folder)
    ledger = Ledger(folder, settings.hash())
    try:
        shards, accounts = ledger.shards(), [a for _, a in ledger.accounts()]
        expected = int(ledger.fact("expected") or 0)
    except sqlite3.Error as error:
        raise XcorrError(f"{folder / LEDGER} cannot be read: {error}") from error
    finally:
        ledger.close()
    running, owner = lock.is_running(folder), lock.holder(folder)
    return {
        "folder": str(folder),
        "running": f"process {owner['pid']} on {owner['host']}" if running and owner else "no",
        "shards": len(shards),
        "shards_expected": max(expected, len(shards)),
        "chunks": len({s.start_ns for s in shards}),
        "bytes": sum(s.bytes for s in shards),
        "windows": campaign.window_totals(accounts),
        "failed": sum(a.is_error for a in accounts),
        "results": str(folder / RESULTS) if (folder / RESULTS).exists() else "not yet",
    }
