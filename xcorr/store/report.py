"""``report.json``: totals of a campaign, the status of every line of the station list, and what went wrong."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

from xcorr.core.files import replace_text
from xcorr.network.survey import Survey
from xcorr.pes.storing import aside
from xcorr.pes.storing.shards import digest_of
from xcorr.settings import Settings
from xcorr.store.accounts import Totals, slot_names
from xcorr.store.folder import CampaignError
from xcorr.store.ledger import Ledger
from xcorr.store.software import software

NAME = "report.json"
LISTED_BYTES = 2_000_000  # of each list in the report


def now() -> str:
    """Return the time, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def read_report(folder: Path) -> dict[str, Any]:
    """Return the report of a campaign. Raises CampaignError if there is none."""
    if not (folder / NAME).is_file():
        raise CampaignError(f"there is no {NAME} in {str(folder)!r}; a finished run writes it")
    report: dict[str, Any] = json.loads((folder / NAME).read_text())
    return report


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Write ``report.json``."""
    replace_text(folder / NAME, json.dumps(report, indent=1) + "\n")


def make_report(
    settings: Settings, found: Survey, ledger: Ledger, pairs_with_data: int, folder: Path
) -> dict[str, Any]:
    """Return the totals of a campaign, every line asked for, and what went wrong. The ledger has all accounts."""
    names, totals, used = slot_names(found.roster, settings), Totals(), set()
    errors = _Listed("xcorr info --accounts lists all")
    for path, reason in found.index.unreadable.items():
        errors.add(f"{path}: {reason}")
    stale = _Listed("xcorr info --accounts lists all")
    for _, account in ledger.accounts(files=False):
        totals.add(account)
        if account.windows_used:
            used.add(names[account.slot].rpartition(".")[0])
        if account.is_error:
            errors.add(f"{names[account.slot]}: {account.reason}")
        if account.stale:
            stale.add(f"{names[account.slot]}: {account.stale}")
    ignored = _Listed("a file that is no waveform is ignored")
    for path in found.index.ignored:
        ignored.add(path)
    shards = ledger.shards()
    return {
        "created": now(),
        "software": software(),
        "settings_hash": settings.hash(),
        "shards_digest": digest_of((s.name, s.id) for s in shards),
        "stations_asked": len(found.requested),
        "stations_used": len(used),
        "pairs": found.rows,
        "pairs_with_data": pairs_with_data,
        "chunks": len({s.start_ns for s in shards}),
        "shards": len(shards),
        "bytes_written": sum(s.bytes for s in shards),
        "windows": dict(totals.windows),
        "slots_by_status": dict(totals.statuses),
        "errors": errors.lines(),
        "stale": stale.lines(),
        "aside": aside.names(folder),
        "ignored_files": ignored.lines(),
        "requested": [dataclasses.asdict(r) for r in found.requested],
    }


class _Listed:
    """Lines for the report, up to :data:`LISTED_BYTES` of them, and then how many more there are."""

    def __init__(self, hint: str) -> None:
        self.hint, self._lines, self._room, self._more = hint, list[str](), LISTED_BYTES, 0

    def add(self, line: str) -> None:
        self._room -= len(line) + 8
        if self._room > 0:
            self._lines.append(line)
        else:
            self._more += 1

    def lines(self) -> list[str]:
        return [*self._lines, *([f"and {self._more} more; {self.hint}"] if self._more else [])]
