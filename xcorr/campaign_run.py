"""Runs a campaign: list, archive and metadata in; shards, ``xcorr.h5`` and ``report.json`` out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xcorr import campaign, pipeline
from xcorr.core import Observer
from xcorr.mappings import run, warm_up
from xcorr.pes.archive import Archive, open_archive
from xcorr.pes.fdsn import KIND, Service, candidates
from xcorr.pes.items import ShardRecord
from xcorr.pes.metadata import read_inventory, station_coordinates
from xcorr.pes.process import prepare_process
from xcorr.pes.stack import stack_requests
from xcorr.progress import Progress, summarize
from xcorr.settings import Settings, SettingsError
from xcorr.stations import ListRow, read_station_list
from xcorr.survey import Survey, patterns_of, survey, time_limits

FINISHED, NOTHING, SOME_FAILED = 0, 1, 3
LITTLE = 16_000_000  # values of series that are stacked sooner than workers have started
ELEMENT_MODULES = ("obspy.io.mseed.core", *(f"xcorr.pes.{m}" for m in ("read", "prepare", "correlate", "shards")))


@dataclasses.dataclass(frozen=True)
class Finished:
    """A finished run: where its results are, its report, and the exit code it deserves."""

    folder: Path
    report: dict[str, Any]
    exit_code: int


def look_around(list_path: Path, settings: Settings) -> Survey:
    """Read the station list, index the source, and join them with the metadata."""
    if settings.data.source is None:
        raise SettingsError(
            "data.source is not set; say where waveforms are with --source sds:DIR or files:DIR, or in xcorr.toml"
        )
    rows = read_station_list(list_path)
    if settings.data.source.startswith(KIND):
        archive = _web_archive(settings.data.source, rows, settings)
    else:
        archive = open_archive(settings.data.source, _wanted(rows))
    coordinates = {}
    if settings.data.metadata is not None:
        coordinates = station_coordinates(read_inventory(settings.data.metadata))
    return survey(rows, _limited(archive, rows), coordinates, settings)


def _web_archive(source: str, rows: Sequence[ListRow], settings: Settings) -> Archive:
    """Return what a web service will be asked for; see that it is there."""
    start, end = time_limits(settings)
    if start is None or end is None:
        raise SettingsError(f"data.source = {source!r}: a web service needs data.start and data.end (--start, --end)")
    vague = [r for r in rows if any(c in r.network + r.station for c in "*?")]
    if vague:
        raise SettingsError(
            f"line {vague[0].line} of the list ({vague[0].text}): a web service needs names without * or ?"
        )
    Service(source.removeprefix(KIND))
    asked = [(r.channel, r.location) for r in rows]
    return candidates(
        source, list({(r.network, r.station): None for r in rows}), patterns_of(asked, settings), start, end
    )


def _wanted(rows: Sequence[ListRow]) -> set[tuple[str, str]] | None:
    """Return the stations asked for by exact name, or None if the list holds patterns."""
    exact = {(r.network, r.station) for r in rows}
    return None if any(c in n + s for n, s in exact for c in "*?") else exact


def _limited(archive: Archive, rows: Sequence[ListRow]) -> Archive:
    """Keep the stations asked for, so that others do not widen the time of the campaign."""
    wanted = _wanted(rows)
    if wanted is None:
        return archive
    return dataclasses.replace(archive, coverages={k: v for k, v in archive.coverages.items() if k in wanted})


def run_campaign(list_path: Path, folder: Path, settings: Settings, progress: str | None = None) -> Finished:
    """Run everything and return what came of it.

    ``progress`` is how to show it: ``bar``, ``line`` or ``json``; None: not at all. Raises XcorrError for what
    cannot be run.
    """
    start = time.perf_counter()
    prepare_process()
    if settings.run.workers != 1:
        warm_up(settings.run.mapping, ELEMENT_MODULES)
    found = look_around(list_path, settings)
    campaign.prepare_folder(folder, settings)
    attributes = {"settings_hash": settings.hash(), "software": campaign.software()}
    watch = _watch(settings, found, progress)
    graph = pipeline.correlation_workflow(settings, found, found.requests(settings), folder, attributes)
    outcome = run(graph, None, settings.run.mapping, settings.run.workers, watch)
    records: list[ShardRecord] = sorted(
        outcome.results["WriteShards"]["output"], key=lambda r: (r.chunk.index, r.strip)
    )
    pairs = campaign.pair_table(found)
    tables = campaign.tables(settings, found, pairs, records)
    shards = [(r.chunk.index, r.strip, r.path) for r in records]
    ranges = stack_requests(found.layout, len(tables.lags_s), shards, len(tables.pieces), pairs["azimuth_deg"])
    requests = tuple(ranges)
    stacking = pipeline.stack_workflow(settings, found, requests, folder, tables)
    parallel = len(tables.pieces) * len(tables.pairs) * len(tables.lags_s) > LITTLE and len(tables.pieces) > 1
    run(stacking, None, settings.run.mapping if parallel else "sequential", settings.run.workers if parallel else 1)
    with_data = _pairs_with_data(folder)
    report = campaign.make_report(settings, found, records, with_data, time.perf_counter() - start)
    report["workers"] = summarize(outcome.workers)
    campaign.write_report(folder, report)
    code = NOTHING if not with_data else SOME_FAILED if report["errors"] else FINISHED
    return Finished(folder, report, code)


def _watch(settings: Settings, found: Survey, style: str | None) -> list[Observer]:
    if style is None:
        return []
    items = len(found.chunks) * len(found.stations)
    layout, shape = found.layout, pipeline.series_shape(settings, found)
    runs = sum(len(layout.partners(i, b)) > 0 for i in range(layout.stations) for b in range(layout.blocks))
    written = runs * len(layout.pairs) * len(shape.bands) * shape.substacks + len(layout.strips)
    units = {  # WriteShards gets so many items for a chunk
        "TransformStation": ("windows", float(pipeline.window_total(settings) * len(settings.components))),
        "WriteShards": ("pairs", layout.rows * len(layout.pairs) / written),
    }
    expected = {"ReadStation": items, "ConditionStation": items, "TransformStation": items}
    return [Progress(expected, units, style)]


def _pairs_with_data(folder: Path) -> int:
    import h5py
    import numpy as np

    with h5py.File(folder / "xcorr.h5") as file:
        method = next(iter(file["stacks"].values()))
        counts = [group["n_windows"][...] for group in method.values()]
    return int(np.count_nonzero(np.any(counts, axis=0)))
