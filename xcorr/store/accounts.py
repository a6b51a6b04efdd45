"""What became of every slot in every chunk: totals, tables and the picture of availability, from the ledger."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from xcorr.network.roster import Roster
from xcorr.pes.items import WINDOWS_USED, Bool, Float32, SlotAccount
from xcorr.settings import Settings
from xcorr.store.folder import CampaignError, frozen_settings
from xcorr.store.ledger_reader import LedgerReader

COLUMNS = ("slot", "start_ns", *(f.name for f in dataclasses.fields(SlotAccount) if f.name not in ("slot", "chunk")))


@dataclasses.dataclass(slots=True)
class Totals:
    """Numbers of windows of used slots by reason, numbers of slots by status, and how many had errors."""

    windows: Counter[str] = dataclasses.field(default_factory=lambda: Counter({WINDOWS_USED: 0}))
    statuses: Counter[str] = dataclasses.field(default_factory=Counter)
    errors: int = 0

    def add(self, account: SlotAccount) -> None:
        """Count one account."""
        if account.status == "used":
            self.windows.update(account.windows)
        self.statuses[account.status] += 1
        self.errors += account.is_error


@dataclasses.dataclass(frozen=True, slots=True)
class Availability:
    """What was used, for every slot (its name) with an account and every chunk (its start, ns).

    ``share`` [slot, chunk] of the windows that are used, NaN without an account; ``failed`` [slot, chunk];
    ``rejected`` [slot], the number of windows.
    """

    slots: tuple[str, ...]
    starts_ns: tuple[int, ...]
    share: Float32
    failed: Bool
    rejected: np.ndarray


def slot_names(roster: Roster, settings: Settings) -> list[str]:
    """Return ``NET.STA.C`` of every slot, by number."""
    return [f"{s.name}.{c}" for s in roster.stations for c in settings.components]


def availability(folder: Path, thorough: bool = True) -> Availability:
    """Return what was used of a campaign. Raises CampaignError or LedgerError if this cannot be read.

    ``thorough``: as that of :func:`xcorr.store.ledger_reader.LedgerReader`.
    """
    with _opened(folder, thorough) as (ledger, names):
        starts = ledger.starts()
        column = {start: k for k, start in enumerate(starts)}
        share = np.full((len(names), len(starts)), np.nan, np.float32)
        failed, rejected = np.zeros(share.shape, bool), np.zeros(len(names), np.int64)
        for start, slot, status, windows in ledger.verdicts():
            if start in column:
                at, total, used = (slot, column[start]), sum(windows.values()), windows.get(WINDOWS_USED, 0)
                share[at] = used / total if total else 0.0
                failed[at] = status == "failed"
                rejected[slot] += total - used
    seen = np.flatnonzero(~np.isnan(share).all(axis=1))
    order = seen[np.argsort([names[k] for k in seen], kind="stable")] if len(seen) else seen
    return Availability(tuple(names[k] for k in order), starts, share[order], failed[order], rejected[order])


def account_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield every account of a campaign by name of its columns; ``slot`` is ``NET.STA.C``."""
    with _opened(folder) as (ledger, names):
        for start, account in ledger.accounts():
            plain = account.as_dict()
            del plain["chunk"]
            yield {**plain, "slot": names[account.slot], "start_ns": start}


def write_csv(rows: Iterable[dict[str, Any]], target: TextIO) -> None:
    """Write accounts as CSV, a line for each. Files are separated by a space, windows are ``3 used, 1 coverage``."""
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        files = " ".join(name for name, _, _ in row["files"])
        windows = ", ".join(f"{n} {reason}" for reason, n in row["windows"].items())
        writer.writerow([{**row, "files": files, "windows": windows}[name] for name in COLUMNS])


@contextlib.contextmanager
def _opened(folder: Path, thorough: bool = True) -> Iterator[tuple[LedgerReader, list[str]]]:
    settings = frozen_settings(folder)
    with contextlib.closing(LedgerReader(folder, thorough)) as ledger:
        roster = Roster.from_json(ledger.fact("members"))
        if roster is None:
            raise CampaignError(f"{folder}: the ledger lists no stations yet; run the campaign first")
        yield ledger, slot_names(roster, settings)
