"""``report.json``: totals of a campaign, the status of every line of the station list, and what went wrong."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from pathlib import Path
from typing import Any

from xcorr.core.files import printable, replace_text
from xcorr.network.survey import Survey
from xcorr.pes.items import SlotAccount
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
    errors, inputs = _Listed("xcorr info --accounts lists all"), _Listed("xcorr doctor lists all")
    for path, reason in found.index.unreadable.items():
        errors.add(f"{path}: {reason}")
        inputs.add(f"{path}: {reason}")
    stale = _Listed("xcorr info --accounts lists all")
    reasons, listed = _Reasons(), _Accounts()
    for start, account in ledger.accounts():
        totals.add(account)
        reasons.add(names[account.slot], account)
        listed.add(start, names[account.slot], account)
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
        "reasons": reasons.rows(),
        "errors": errors.lines(),
        "unreadable": inputs.lines(),
        "stale": stale.lines(),
        "aside": aside.names(folder),
        "ignored_files": ignored.lines(),
        "requested": [dataclasses.asdict(r) for r in found.requested],
        "channel_chunk": listed.rows,
    }


class _Reasons:
    """Why channels have no data, or fewer, in how many chunks: reasons that differ only in numbers are one group."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], dict[str, Any]] = {}

    def add(self, name: str, account: SlotAccount) -> None:
        if account.is_error:
            self._count("failed", account.reason, name)
        elif account.status in ("absent", "unusable"):
            self._count(account.status, account.reason, name)
        elif account.status == "used" and not account.windows_used:
            rejected = ", ".join(f"{n} {why}" for why, n in account.windows.items())
            self._count("rejected", f"no window is used ({rejected or 'none is complete'})", name)
        if account.note:
            self._count("note", account.note, name)

    def _count(self, kind: str, reason: str, name: str) -> None:
        key = kind, re.sub(r"\d[\d.e+-]*", "#", reason)
        group = self._groups.setdefault(key, {"kind": kind, "reason": reason, "channels": [], "chunks": 0})
        group["chunks"] += 1
        if name not in group["channels"]:
            group["channels"].append(name)

    def rows(self) -> list[dict[str, Any]]:
        """Return the groups, the most frequent of each kind first."""
        order = {"failed": 0, "unusable": 1, "rejected": 2, "note": 3, "absent": 4}
        return sorted(self._groups.values(), key=lambda g: (order[g["kind"]], -g["chunks"]))


def reason_line(group: dict[str, Any]) -> str:
    """Return a group of channels with the same reason in words."""
    first, more = group["channels"][0], len(group["channels"]) - 1
    where = first if not more else f"{first} and {more} more channel{'s' * (more > 1)}"
    times = f", {group['chunks']} chunks" if group["chunks"] > more + 1 else ""
    return f"{where}{times}: {group['reason']}"


class _Accounts:
    """The accounts of the report: all while there is room, else those that say more than that a channel was used."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._room, self._all, self._starts = LISTED_BYTES, True, dict[int, int]()

    def add(self, start_ns: int, name: str, account: SlotAccount) -> None:
        chunk = self._starts.setdefault(start_ns, len(self._starts))
        row = {**account.as_dict(), "slot": name, "chunk": chunk}
        if self._all or _is_remarkable(row):
            self._room -= _size(row)
            if self._room < 0 and self._all:
                self._all = False
                self.rows = [r for r in self.rows if _is_remarkable(r)]
                self._room = LISTED_BYTES - sum(map(_size, self.rows))
            if self._room > 0:
                self.rows.append(row)


def _is_remarkable(row: dict[str, Any]) -> bool:
    return row["status"] != "used" or bool(row["reason"] or row["note"] or row["stale"])


def _size(row: dict[str, Any]) -> int:
    return 200 + len(row["reason"]) + len(row["note"]) + sum(len(name) + 40 for name, _, _ in row["files"])


class _Listed:
    """Lines for the report, up to :data:`LISTED_BYTES` of them, and then how many more there are."""

    def __init__(self, hint: str) -> None:
        self.hint, self._lines, self._room, self._more = hint, list[str](), LISTED_BYTES, 0

    def add(self, line: str) -> None:
        line = printable(line)
        self._room -= len(line) + 8
        if self._room > 0:
            self._lines.append(line)
        else:
            self._more += 1

    def lines(self) -> list[str]:
        return [*self._lines, *([f"and {self._more} more; {self.hint}"] if self._more else [])]
