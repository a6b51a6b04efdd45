"""One station in one chunk, read and prepared again as a run does, to look at what each step changes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.network.chunks import parse_time
from xcorr.pes.items import Candidate, Chunk, ConditionedStation, RawStation, SlotRequest, StationRequest
from xcorr.pes.preparing.prepare import ConditionStation, NormalizeStation
from xcorr.pes.reading.read import ReadStation
from xcorr.pes.reading.waveform import NS
from xcorr.results.errors import ResultsError
from xcorr.settings import Settings
from xcorr.settings.recipe import Recipe
from xcorr.store.accounts import account_rows
from xcorr.store.derived import STATIONS
from xcorr.store.folder import frozen_settings

MOTION = {"none": "counts²/Hz", "velocity": "(m/s)²/Hz", "displacement": "m²/Hz", "acceleration": "(m/s²)²/Hz"}


@dataclasses.dataclass(frozen=True)
class Sample:
    """Traces of a station.

    ``traces`` has for each channel the steps: name, unit of power, rate (Hz), contiguous pieces of samples.
    """

    station: str
    start: str
    band_hz: tuple[float, float]
    traces: dict[str, list[tuple[str, str, float, list[np.ndarray]]]]


def sample(folder: Path, station: str | None = None, day: str | None = None) -> Sample:
    """Return the traces of a station in a chunk: by default those with the most windows used.

    Reads the waveforms from the source of the campaign again. Raises ResultsError if nothing was used, or if the files
    are not there any more.
    """
    settings = frozen_settings(folder)
    size = settings.data.chunk_s * NS
    wanted = None if day is None else parse_time(day, "--day") // size * size
    used: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in account_rows(folder):
        name = row["slot"].rpartition(".")[0]
        if row["status"] == "used" and station in (None, name) and wanted in (None, row["start_ns"]):
            used.setdefault((name, row["start_ns"]), []).append(row)
    if not used:
        raise ResultsError(f"no data of {station or 'any station'} were used{f' at {day}' if day else ''}")
    name, start = max(used, key=lambda k: (sum(r["windows"].get("used", 0) for r in used[k]), -k[1]))
    request = _request(name, Chunk(0, start, start + size, start, start + size), used[name, start])
    own = folder / STATIONS
    metadata = settings.data.metadata or (str(own) if own.exists() else None)
    raw, conditioned, normalized = _steps(settings, request, metadata)
    return Sample(name, str(np.datetime64(start, "ns"))[:19], settings.condition.band_hz, _traces(
        settings, raw, conditioned, normalized
    ))  # fmt: skip


def _request(station: str, chunk: Chunk, rows: list[dict[str, Any]]) -> StationRequest:
    slots = []
    for number, row in enumerate(rows):
        network, code, location, channel = row["seed_id"].split(".")
        files = tuple(path for path, _, _ in row["files"])
        candidate = Candidate(network, code, location, channel, files)
        slots.append(SlotRequest(number, row["slot"].rpartition(".")[2], (candidate,)))
    return StationRequest(chunk, station, tuple(slots), ())


def _steps(
    settings: Settings, request: StationRequest, metadata: str | None
) -> tuple[RawStation, ConditionedStation, ConditionedStation]:
    s, recipe = settings, Recipe(settings)
    c = s.condition
    read = ReadStation(
        str(s.data.source), c.band_hz[1], s.edge_s, c.max_gap_s, c.zeros_are_gaps_s, s.data.options, s.data.drift
    )
    read._preprocess()
    raw = read._process(request)
    if not isinstance(raw, RawStation):
        reasons = "; ".join(dict.fromkeys(a.reason for a in raw.accounts))
        raise ResultsError(f"{request.station}: its waveforms cannot be read any more: {reasons}")
    condition = ConditionStation(
        recipe.conditioning, recipe.windowing, c.response, metadata, c.water_level_db, recipe.shares_weights
    )
    condition._preprocess()
    conditioned = condition.step(raw)
    if not isinstance(conditioned, ConditionedStation):
        reasons = "; ".join(dict.fromkeys(a.reason for a in conditioned.accounts))
        raise ResultsError(f"{request.station}: its waveforms cannot be conditioned any more: {reasons}")
    return raw, conditioned, NormalizeStation(recipe.normalization).step(conditioned)


def _traces(
    settings: Settings, raw: RawStation, conditioned: ConditionedStation, normalized: ConditionedStation
) -> dict[str, list[tuple[str, str, float, list[np.ndarray]]]]:
    found = {}
    unit = MOTION[settings.condition.response]
    used = [a for a in conditioned.accounts if a.status == "used"]
    by_slot = {channel.account.slot: channel for channel in raw.channels}
    for k, account in enumerate(used):
        channel = by_slot[account.slot]
        rate = float(channel.segments[0].rate_hz)
        steps = [
            ("raw", MOTION["none"], rate, [s.data.astype(np.float64) for s in channel.segments if s.rate_hz == rate])
        ]
        for name, item, of in (("conditioned", conditioned, unit), ("normalised", normalized, "1/Hz")):
            step_unit = unit if name == "normalised" and settings.normalize.method == "none" else of
            steps.append((name, step_unit, item.rate_hz, _runs(item.data[k], item.mask[k])))
        found[account.seed_id] = steps
    return found


def _runs(data: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
    """Return the contiguous valid parts of a trace."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    return [data[a:b].astype(np.float64) for a, b in zip(edges[::2], edges[1::2], strict=True)]
