"""``report.json``: totals of a campaign, the status of every line of the station list, and what went wrong."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
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
FEW = 5_000  # accounts: of larger campaigns, the report lists only those of channels with problems, without files
MOST_REASONS = 1_000  # that are told apart
NAMED = 10  # channels of each reason
OTHER_REASONS = "other reasons; xcorr info --accounts lists all"


def now() -> str:
    """Return the time, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class ReportDamaged(CampaignError):
    """A report that cannot be read."""


def read_report(folder: Path) -> dict[str, Any]:
    """Return the report of a campaign. Raises CampaignError if there is none, ReportDamaged if it cannot be read."""
    if not (folder / NAME).is_file():
        raise CampaignError(f"there is no {NAME} in {str(folder)!r}; a finished run writes it")
    try:
        report = json.loads((folder / NAME).read_text("utf-8"))
    except ValueError as error:
        raise ReportDamaged(f"{NAME}: damaged: {error}; the next run writes it again") from error
    if not isinstance(report, dict):
        raise ReportDamaged(f"{NAME}: damaged: it holds {json.dumps(report)[:40]}; the next run writes it again")
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
    reasons, is_small = _Reasons(), len(ledger.starts()) * len(names) <= FEW
    listed = _Accounts(is_small)
    for start, account in ledger.accounts(files=is_small):
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
        "channel_chunk_left_out": listed.left_out,
    }


class _Reasons:
    """Why channels have no data, or fewer, in how many chunks: reasons that differ only in numbers are one group."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], dict[str, Any]] = {}
        self._names: dict[tuple[str, str], dict[str, None]] = {}  # channels of each group, in order

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
        if key not in self._groups and len(self._groups) >= MOST_REASONS:
            key, reason = (kind, OTHER_REASONS), OTHER_REASONS
        self._groups.setdefault(key, {"kind": kind, "reason": reason, "chunks": 0})["chunks"] += 1
        self._names.setdefault(key, {})[name] = None

    def rows(self) -> list[dict[str, Any]]:
        """Return the groups, the most frequent of each kind first, each with the number of channels and some names."""
        order = {"failed": 0, "unusable": 1, "rejected": 2, "note": 3, "absent": 4}
        named = [
            group | {"n_channels": len(names), "channels": list(itertools.islice(names, NAMED))}
            for group, names in zip(self._groups.values(), self._names.values(), strict=True)
        ]
        return sorted(named, key=lambda g: (order[g["kind"]], -g["chunks"]))


def reason_line(group: dict[str, Any]) -> str:
    """Return a group of channels with the same reason in words."""
    first, more = group["channels"][0], group["n_channels"] - 1
    where = first if not more else f"{first} and {more} more channel{'s' * (more > 1)}"
    times = f", {group['chunks']} chunks" if group["chunks"] > more + 1 else ""
    return f"{where}{times}: {group['reason']}"


class _Accounts:
    """The accounts of the report: all of a small campaign; else those that say more than that a channel was used."""

    def __init__(self, lists_all: bool) -> None:
        self.rows: list[dict[str, Any]] = []
        self.left_out = 0
        self._all, self._room, self._starts = lists_all, LISTED_BYTES, dict[int, int]()

    def add(self, start_ns: int, name: str, account: SlotAccount) -> None:
        chunk = self._starts.setdefault(start_ns, len(self._starts))
        if self._all or account.status != "used" or account.reason or account.note or account.stale:
            self._room -= 200 + len(account.reason) + len(account.note) + sum(len(n) + 40 for n, _, _ in account.files)
            if self._room > 0:
                row = {**account.as_dict(), "slot": name, "chunk": chunk}
                self.rows.append(row if self._all else {k: v for k, v in row.items() if k != "files"})
                return
        self.left_out += 1


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
