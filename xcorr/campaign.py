"""The campaign folder: settings as run, tables of stations and pairs, report."""

from __future__ import annotations

import dataclasses
import datetime
import functools
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
from xcorr.core.files import replace_text
from xcorr.ledger import Shard
from xcorr.pes.archive import CAMPAIGN_MARK
from xcorr.pes.items import WINDOW_REASONS, SlotAccount
from xcorr.pes.result_file import Tables
from xcorr.pes.segments import NS
from xcorr.selection import geometry
from xcorr.settings import Keep, Settings, SettingsError
from xcorr.settings_file import build, load, to_toml
from xcorr.stations import Station
from xcorr.survey import Survey

HASH_LINE = "# settings_hash: "
SOFTWARE = ("xcorr", "numpy", "obspy", "h5py")


class CampaignError(XcorrError, OSError):
    """The campaign folder cannot be used."""


def make_folder(folder: Path) -> None:
    """Make the folder of a campaign and its ``shards``. Raises CampaignError if it cannot be written."""
    try:
        (folder / "shards").mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}.part"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CampaignError(
            f"cannot write the campaign folder {str(folder)!r}: {error.strerror}; choose another with -o"
        ) from error


def freeze_settings(folder: Path, settings: Settings) -> None:
    """Write ``campaign.toml``, once the settings are seen to be those of the campaign.

    Raises CampaignError, with what differs, if the folder holds a campaign with other settings.
    """
    known = folder / CAMPAIGN_MARK
    if known.exists() and recorded_hash(folder) != settings.hash():
        raise CampaignError(
            f"{folder} holds a campaign with other settings:\n{_difference(known, settings)}\n"
            "choose another folder with -o, or remove it"
        )
    replace_text(known, _campaign_text(settings))


def frozen_settings(folder: Path) -> Settings:
    """Return the settings of a campaign as run. Raises CampaignError if there are none."""
    try:
        return build(load(folder / CAMPAIGN_MARK))
    except OSError:
        raise CampaignError(f"there is no campaign in {str(folder)!r}: no {CAMPAIGN_MARK}") from None


def _difference(known: Path, settings: Settings) -> str:
    """Return the settings that differ, a line each."""
    try:
        old, new = build(load(known)).identity(), settings.identity()
    except SettingsError as error:
        return f"  (its campaign.toml cannot be read: {error})"
    flat = [
        {
            f"{section}.{key}": value
            for section, keys in plain.items()
            if section != "bands"
            for key, value in keys.items()
        }
        | {"bands": plain["bands"]}
        for plain in (old, new)
    ]
    return "\n".join(f"  {k}: {flat[0][k]!r} there, {flat[1][k]!r} now" for k in flat[0] if flat[0][k] != flat[1][k])


def recorded_hash(folder: Path) -> str:
    """Return the settings' hash that ``campaign.toml`` names."""
    lines = (folder / CAMPAIGN_MARK).read_text(errors="replace").splitlines()
    return next((line.removeprefix(HASH_LINE) for line in lines if line.startswith(HASH_LINE)), "")


def leftovers(folder: Path, kept: Sequence[Keep] = ()) -> list[Path]:
    """Return the files that a run has not finished; ``kept`` are the rules of the items that it keeps."""
    places = {folder, folder / "shards", *(folder / rule.folder / rule.element for rule in kept)}
    return sorted(path for place in places for path in place.glob(".*.part"))


def remove_leftovers(folder: Path, kept: Sequence[Keep] = ()) -> None:
    """Remove the unfinished files of runs that have ended. Only for who holds the lock."""
    for path in leftovers(folder, kept):
        path.unlink(missing_ok=True)


def _campaign_text(settings: Settings) -> str:
    head = [
        "# The settings of this campaign as run; written by xcorr.",
        f"{HASH_LINE}{settings.hash()}",
        f"# software: {software()}",
        f"# kernel: {kernel()}",
        "",
    ]
    plain = absolute(settings).as_dict()
    if plain["quality"]["catalogue"] is not None:
        plain["quality"]["catalogue"] = os.path.abspath(plain["quality"]["catalogue"])
    return "\n".join(head) + to_toml(plain)


def absolute(settings: Settings) -> Settings:
    """Return settings whose source and metadata mean the same in every folder; workers may have another."""
    data = settings.data
    kind, colon, place = (data.source or "").partition(":")
    if kind in ("sds", "files") and place:
        data = dataclasses.replace(data, source=kind + colon + os.path.abspath(place))
    if data.metadata is not None:
        data = dataclasses.replace(data, metadata=os.path.abspath(data.metadata))
    return dataclasses.replace(settings, data=data)


def kernel() -> str:
    """Return processor and BLAS kernel, which decide the last bits."""
    import threadpoolctl

    libraries = [i for i in threadpoolctl.threadpool_info() if i["user_api"] == "blas"]
    names = [f"{i['internal_api']} {i['version']} {i.get('architecture', '')}".strip() for i in libraries]
    return ", ".join([platform.machine(), *sorted(set(names))])


@functools.cache
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
    ends = [g.layout.pair_indices() for g in found.generations]
    i, j = (np.concatenate([e[k] for e in ends]) for k in (0, 1))
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


def piece_table(settings: Settings, starts: Sequence[int]) -> np.ndarray:
    """Return start and end of every piece of the series: chunks, or the substacks of each."""
    size, count = settings.substack_s * NS, settings.data.chunk_s // settings.substack_s
    begins = [start + k * size for start in starts for k in range(count)]
    return np.array([(s, s + size) for s in begins], [("start_ns", "i8"), ("end_ns", "i8")])


def tables(
    settings: Settings, found: Survey, pairs: np.ndarray, starts: Sequence[int], shards: Sequence[Shard]
) -> Tables:
    """Return everything ``xcorr.h5`` holds besides stacks; ``starts`` are those of all chunks of the campaign."""
    m, generations = settings.samples(settings.correlate.max_lag_s), found.generations
    substacks = settings.data.chunk_s // settings.substack_s
    number = {start: k for k, start in enumerate(starts)}
    rows = [(s, generations[s.generation].layout.strip_rows(s.strip)) for s in shards]
    return Tables(
        station_table(found.stations),
        slot_table(found.stations, settings.components),
        pairs,
        piece_table(settings, starts),
        np.arange(-m, m + 1) / settings.condition.rate_hz,
        ("", *(b.name for b in settings.bands)),
        settings.component_pairs if settings.stack.keep_series else (),
        settings.outputs,
        settings.stack.methods,
        substacks,
        tuple(
            (number[s.start_ns] * substacks, generations[s.generation].first_row + r.start, len(r), s.path)
            for s, r in rows
            if settings.stack.keep_series
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


def window_totals(accounts: Sequence[SlotAccount]) -> dict[str, int]:
    """Return the numbers of windows of used slots by :data:`WINDOW_REASONS`."""
    totals = np.array([a.windows for a in accounts if a.status == "used"]).reshape(-1, len(WINDOW_REASONS)).sum(axis=0)
    return dict(zip(WINDOW_REASONS, totals.tolist(), strict=True))


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Write ``report.json``."""
    replace_text(folder / "report.json", json.dumps(report, indent=1) + "\n")


def make_report(
    settings: Settings,
    found: Survey,
    accounts: Sequence[tuple[int, SlotAccount]],
    shards: Sequence[Shard],
    pairs_with_data: int,
) -> dict[str, Any]:
    """Return the account of a campaign: every line asked for, every slot in every chunk, and totals."""
    names = [f"{s.name}.{c}" for s in found.stations for c in settings.components]
    used = {names[a.slot].rpartition(".")[0] for _, a in accounts if a.windows[0]}
    errors = [f"{names[a.slot]}: {a.reason}" for _, a in accounts if a.is_error]
    errors += [f"{path}: {reason}" for path, reason in found.archive.unreadable.items()]
    starts = sorted({s.start_ns for s in shards})
    number = {start: k for k, start in enumerate(starts)}
    return {
        "created": _now(),
        "software": software(),
        "settings_hash": settings.hash(),
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
        "ignored_files": list(found.archive.ignored),
        "requested": [dataclasses.asdict(r) for r in found.requested],
        "channel_chunk": [
            {**a.as_dict(), "slot": names[a.slot], "chunk": number[start]} for start, a in accounts if start in number
        ],
    }
