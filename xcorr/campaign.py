"""The campaign folder: settings as run, tables of stations and pairs, report."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.core import XcorrError
from xcorr.pes.items import WINDOW_REASONS, ShardRecord, SlotAccount
from xcorr.pes.result_file import Tables
from xcorr.pes.segments import NS
from xcorr.selection import geometry
from xcorr.settings import Settings
from xcorr.settings_file import to_toml
from xcorr.stations import Station
from xcorr.survey import Survey

HASH_LINE = "# settings_hash: "
SOFTWARE = ("xcorr", "numpy", "scipy", "obspy", "h5py")


class CampaignError(XcorrError, OSError):
    """The campaign folder cannot be used."""


def prepare_folder(folder: Path, settings: Settings) -> None:
    """Make the folder of a campaign, its ``shards``, and ``campaign.toml``.

    Raises CampaignError if the folder cannot be written, or holds a campaign with other settings.
    """
    try:
        (folder / "shards").mkdir(parents=True, exist_ok=True)
        known = folder / "campaign.toml"
        text = _campaign_text(settings)
        if known.exists() and _hash_in(known.read_text()) != settings.hash():
            raise CampaignError(
                f"{folder} holds a campaign with other settings; choose another folder with -o, or remove it"
            )
        temporary = folder / f".campaign.toml.{os.getpid()}.part"
        temporary.write_text(text)
        temporary.replace(known)
    except CampaignError:
        raise
    except OSError as error:
        raise CampaignError(
            f"cannot write the campaign folder {str(folder)!r}: {error.strerror}; choose another with -o"
        ) from error


def _campaign_text(settings: Settings) -> str:
    head = [
        "# The settings of this campaign as run; written by xcorr.",
        f"{HASH_LINE}{settings.hash()}",
        f"# software: {software()}",
        f"# kernel: {kernel()}",
        "",
    ]
    plain = settings.as_dict()
    kind, colon, place = (plain["data"]["source"] or "").partition(":")
    plain["data"]["source"] = kind + colon + (place if kind == "fdsn" else os.path.abspath(place))
    for section, key in (("data", "metadata"), ("quality", "catalogue")):
        if plain[section][key] is not None:
            plain[section][key] = os.path.abspath(plain[section][key])
    return "\n".join(head) + to_toml(plain)


def _hash_in(text: str) -> str:
    return next((line.removeprefix(HASH_LINE) for line in text.splitlines() if line.startswith(HASH_LINE)), "")


def kernel() -> str:
    """Return processor and BLAS kernel, which decide the last bits."""
    import threadpoolctl

    libraries = [i for i in threadpoolctl.threadpool_info() if i["user_api"] == "blas"]
    names = [f"{i['internal_api']} {i['version']} {i.get('architecture', '')}".strip() for i in libraries]
    return ", ".join([platform.machine(), *dict.fromkeys(names)])


def software() -> str:
    """Return the names and versions that decide results, as one line."""
    return ", ".join(f"{name} {version(name)}" for name in SOFTWARE)


def station_table(stations: Sequence[Station]) -> np.ndarray:
    """Return the table of stations."""
    kind = [
        ("id", "S16"),
        ("network", "S8"),
        ("station", "S8"),
        ("latitude", "f8"),
        ("longitude", "f8"),
        ("elevation_m", "f8"),
    ]
    rows = [
        (
            s.name,
            s.network,
            s.code,
            s.coordinates.latitude,
            s.coordinates.longitude,
            s.coordinates.elevation_m,
        )
        for s in stations
    ]
    return np.array(rows, kind)


def slot_table(stations: Sequence[Station], components: Sequence[str]) -> np.ndarray:
    """Return the table of slots: ``NET.STA.C``, the station's number and the component."""
    rows = [(f"{s.name}.{c}", i, c) for i, s in enumerate(stations) for c in components]
    return np.array(rows, [("id", "S20"), ("station", "i4"), ("component", "S1")])


def pair_table(found: Survey) -> np.ndarray:
    """Return the table of pairs: station numbers, distance and azimuths on WGS84 from 1 to 2 (NaN if unknown)."""
    i, j = found.layout.pair_indices()
    table = np.zeros(
        len(i),
        [
            ("station_1", "i4"),
            ("station_2", "i4"),
            ("distance_m", "f8"),
            ("azimuth_deg", "f8"),
            ("back_azimuth_deg", "f8"),
        ],
    )
    table["station_1"], table["station_2"] = i, j
    names = ("distance_m", "azimuth_deg", "back_azimuth_deg")
    for name, values in zip(names, geometry(found.stations, i, j), strict=True):
        table[name] = values
    return table


def piece_table(settings: Settings, found: Survey) -> np.ndarray:
    """Return start and end of every piece of the series: chunks, or the substacks of each."""
    size, count = settings.substack_s * NS, settings.data.chunk_s // settings.substack_s
    starts = [c.start_ns + k * size for c in found.chunks for k in range(count)]
    return np.array([(s, s + size) for s in starts], [("start_ns", "i8"), ("end_ns", "i8")])


def tables(settings: Settings, found: Survey, pairs: np.ndarray, records: Sequence[ShardRecord]) -> Tables:
    """Return everything ``xcorr.h5`` holds besides stacks."""
    m, layout = settings.samples(settings.correlate.max_lag_s), found.layout
    substacks = settings.data.chunk_s // settings.substack_s
    return Tables(
        station_table(found.stations),
        slot_table(found.stations, settings.components),
        pairs,
        piece_table(settings, found),
        np.arange(-m, m + 1) / settings.condition.rate_hz,
        ("", *(b.name for b in settings.bands)),
        layout.pairs,
        settings.outputs,
        settings.stack.methods,
        substacks,
        tuple(
            (
                r.chunk.index * substacks,
                layout.strip_rows(r.strip).start,
                len(layout.strip_rows(r.strip)),
                r.path,
            )
            for r in records
        ),
        {
            "software": software(),
            "settings_hash": settings.hash(),
            "created": _now(),
            "settings": to_toml(settings.as_dict()),
        },
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def unique_accounts(records: Sequence[ShardRecord]) -> list[SlotAccount]:
    """Return one account per slot and chunk: strips of a chunk carry overlapping sets."""
    found = {(a.chunk, a.slot): a for r in records for a in r.accounts}
    return [found[key] for key in sorted(found)]


def window_totals(accounts: Sequence[SlotAccount]) -> dict[str, int]:
    """Return the numbers of windows of used slots by :data:`WINDOW_REASONS`."""
    totals = np.array([a.windows for a in accounts if a.status == "used"]).reshape(-1, len(WINDOW_REASONS)).sum(axis=0)
    return dict(zip(WINDOW_REASONS, totals.tolist(), strict=True))


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Write ``report.json``."""
    temporary = folder / f".report.json.{os.getpid()}.part"
    temporary.write_text(json.dumps(report, indent=1) + "\n")
    temporary.replace(folder / "report.json")


def make_report(
    settings: Settings, found: Survey, records: Sequence[ShardRecord], pairs_with_data: int, seconds: float
) -> dict[str, Any]:
    """Return the account of a run: every line asked for, every slot in every chunk, and totals."""
    accounts = unique_accounts(records)
    names = [f"{s.name}.{c}" for s in found.stations for c in settings.components]
    used = {names[a.slot].rpartition(".")[0] for a in accounts if sum(a.windows[:1])}
    errors = [f"{names[a.slot]}: {a.reason}" for a in accounts if a.is_error]
    errors += [f"{path}: {reason}" for path, reason in found.archive.unreadable.items()]
    return {
        "created": _now(),
        "software": software(),
        "settings_hash": settings.hash(),
        "stations_asked": len(found.requested),
        "stations_used": len(used),
        "pairs": found.layout.rows,
        "pairs_with_data": pairs_with_data,
        "chunks": len(found.chunks),
        "shards": len(records),
        "bytes_written": sum(r.bytes for r in records),
        "windows": window_totals(accounts),
        "slots_by_status": dict(Counter(a.status for a in accounts)),
        "seconds": round(seconds, 3),
        "errors": errors,
        "ignored_files": list(found.archive.ignored),
        "requested": [dataclasses.asdict(r) for r in found.requested],
        "channel_chunk": [{**dataclasses.asdict(a), "slot": names[a.slot]} for a in accounts],
    }
