"""``report.json``: the status of every line of the station list and of every slot in every chunk."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.core.files import replace_text
from xcorr.network.survey import Survey
from xcorr.pes.items import WINDOW_REASONS, SlotAccount
from xcorr.pes.storing import aside
from xcorr.pes.storing.shards import digest_of
from xcorr.settings import Settings
from xcorr.store.folder import CampaignError
from xcorr.store.ledger_schema import Shard
from xcorr.store.software import software

NAME = "report.json"


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


def window_totals(accounts: Sequence[SlotAccount]) -> dict[str, int]:
    """Return the numbers of windows of used slots by :data:`WINDOW_REASONS`."""
    totals = np.array([a.windows for a in accounts if a.status == "used"]).reshape(-1, len(WINDOW_REASONS)).sum(axis=0)
    return dict(zip(WINDOW_REASONS, totals.tolist(), strict=True))


def make_report(
    settings: Settings,
    found: Survey,
    accounts: Sequence[tuple[int, SlotAccount]],
    shards: Sequence[Shard],
    pairs_with_data: int,
    folder: Path,
) -> dict[str, Any]:
    """Return the account of a campaign: every line asked for, every slot in every chunk, and totals."""
    names = [f"{s.name}.{c}" for s in found.stations for c in settings.components]
    used = {names[a.slot].rpartition(".")[0] for _, a in accounts if a.windows[0]}
    errors = [f"{names[a.slot]}: {a.reason}" for _, a in accounts if a.is_error]
    errors += [f"{path}: {reason}" for path, reason in found.index.unreadable.items()]
    starts = sorted({s.start_ns for s in shards})
    number = {start: k for k, start in enumerate(starts)}
    return {
        "created": now(),
        "software": software(),
        "settings_hash": settings.hash(),
        "shards_digest": digest_of((s.path, s.id) for s in shards),
        "stations_asked": len(found.requested),
        "stations_used": len(used),
        "pairs": found.rows,
        "pairs_with_data": pairs_with_data,
        "chunks": len(starts),
        "shards": len(shards),
        "bytes_written": sum(s.bytes for s in shards),
        "windows": window_totals([a for _, a in accounts]),
        "slots_by_status": dict(Counter(a.status for _, a in accounts)),
        "errors": errors,
        "stale": [f"{names[a.slot]}: {a.stale}" for _, a in accounts if a.stale],
        "aside": aside.names(folder),
        "ignored_files": list(found.index.ignored),
        "requested": [dataclasses.asdict(r) for r in found.requested],
        "channel_chunk": [
            {**a.as_dict(), "slot": names[a.slot], "chunk": number[start]} for start, a in accounts if start in number
        ],
    }
