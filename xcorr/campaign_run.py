"""Runs a campaign: list, archive and metadata in; shards, ``xcorr.h5`` and ``report.json`` out."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from xcorr import ahead, campaign, pipeline
from xcorr.core import Observer
from xcorr.core.message import WorkerDied
from xcorr.ledger import Ledger
from xcorr.lock import CampaignLock
from xcorr.mappings import run
from xcorr.members import Generation, Members
from xcorr.pes.archive import Archive, open_archive
from xcorr.pes.fdsn import KIND, Service, candidates
from xcorr.pes.fft import library
from xcorr.pes.items import Chunk
from xcorr.pes.metadata import read_inventory, station_coordinates
from xcorr.pes.process import prepare_process
from xcorr.pes.result_file import NAME as RESULTS
from xcorr.pes.stack import StackRequest, stack_requests
from xcorr.plan import chunks_at_once, worker_count
from xcorr.progress import Progress, summarize
from xcorr.provenance.keep import Keeper, check_rules
from xcorr.provenance.runs import Circumstances, Run, recorded
from xcorr.report_page import prepare_pictures, write_page
from xcorr.settings import Settings, SettingsError
from xcorr.settings_file import build, override, to_toml
from xcorr.stations import ListRow, read_station_list
from xcorr.survey import Survey, patterns_of, survey, survey_of, time_limits
from xcorr.work import check_space, plan_work
from xcorr.worker_log import WorkerLog

FINISHED, NOTHING, SOME_FAILED = 0, 1, 3
STORM_ATTEMPTS = 3
_log = logging.getLogger("xcorr")
LITTLE = 16_000_000  # values of series that are stacked sooner than workers have started


@dataclasses.dataclass(frozen=True)
class Finished:
    """A finished run: where its results are, its report, and the exit code it deserves."""

    folder: Path
    report: dict[str, Any]
    exit_code: int


def look_around(list_path: Path, settings: Settings, members: Members | None = None) -> Survey:
    """Read the station list, index the source, and join them with the metadata and the stations there already are."""
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
    return survey(rows, _limited(archive, rows), coordinates, settings, members)


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


def run_campaign(
    list_path: Path, folder: Path, settings: Settings, progress: str | None = None, refresh: bool = False
) -> Finished:
    """Run what a campaign still lacks and return what came of it.

    Finished shards are kept; with ``refresh`` those are made again whose inputs have changed. ``progress`` is how to
    show it: ``bar``, ``line`` or ``json``; None: not at all. Raises XcorrError for what cannot be run.
    """
    start = time.perf_counter()
    settings, folder = campaign.absolute(settings), folder.absolute()
    check_rules(settings.keep)
    library(settings.run.fft)
    prepare_process()
    ahead.begin(settings.run.mapping, settings.run.workers)
    found = None if folder.exists() else look_around(list_path, settings)  # before anything is written
    campaign.make_folder(folder)
    with CampaignLock(folder):
        campaign.freeze_settings(folder, settings)
        campaign.remove_leftovers(folder, settings.keep)
        ledger = Ledger(folder, settings.hash())
        try:
            report = _persist(
                folder, settings, lambda: _run_locked(list_path, folder, settings, ledger, found, progress, refresh)
            )
        except BaseException:
            campaign.remove_leftovers(folder, settings.keep)
            raise
        finally:
            ledger.close()
        report["seconds"] = round(time.perf_counter() - start, 3)
        campaign.write_report(folder, report)
        write_page(folder, report)
    code = NOTHING if not report["pairs_with_data"] else SOME_FAILED if report["errors"] else FINISHED
    return Finished(folder, report, code)


def _persist(folder: Path, settings: Settings, attempt: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what an attempt returns; on a cluster, where machines die, go on with what is stored a few times."""
    left = STORM_ATTEMPTS if settings.run.mapping == "storm" else 1
    while True:
        left -= 1
        try:
            return attempt()
        except WorkerDied as error:
            if not left:
                raise
            _log.warning("%s; going on with what is stored", error)
            campaign.remove_leftovers(folder, settings.keep)


def _run_locked(
    list_path: Path,
    folder: Path,
    settings: Settings,
    ledger: Ledger,
    found: Survey | None,
    progress: str | None,
    refresh: bool,
) -> dict[str, Any]:
    repaired = ledger.look()
    members = Members.from_json(ledger.fact("members"))
    if found is None or members is not None:
        found = look_around(list_path, settings, members)
    ledger.keep_fact("members", found.members.to_json(len(found.generations) - 1))  # their order is settled now
    ledger.keep_requested(found.requested)
    todo = plan_work(found, ledger, settings, refresh)
    done = {(s.start_ns, s.generation, s.strip) for s in ledger.shards()}
    wanted = {
        (c.start_ns, number, strip) for number, chunks in todo.items() for c in chunks for strip in c.wanted or ()
    }
    if wanted:
        _require_series(folder, ledger)
    every = {c.start_ns for c in found.chunks} | {start for start, _, _ in done}
    check_space(folder, pipeline.bytes_to_write(settings, found, todo, len(every)))
    most = max((len(chunks) for chunks in todo.values()), default=1)
    at_once = chunks_at_once(settings, found, worker_count(settings), most) if todo else 1
    ledger.keep_fact("expected", str(len(done | wanted)))
    warnings = _other_kernel(ledger)
    workers = []
    attributes = {"settings_hash": settings.hash(), "software": campaign.software()}
    with recorded(folder, _circumstances(settings)) as record, ThreadPoolExecutor(1) as beside:
        beside.submit(prepare_pictures)  # while workers work, what the end needs
        pairs = beside.submit(campaign.pair_table, found)
        for number, chunks in todo.items():
            generation = found.generations[number]
            graph = pipeline.correlation_workflow(settings, found, generation, chunks, at_once, folder, attributes)
            watch = [WorkerLog(folder), *_watch(settings, generation, chunks, progress)]
            if record is not None:
                watch += record.observers(graph)
                watch += [Keeper(folder, record.number, settings.keep)] if settings.keep else []
            workers += run(graph, None, settings.run.mapping, settings.run.workers, watch, _options(settings)).workers
        if all(s.kept for s in ledger.shards()):
            stack_campaign(folder, settings, found, pairs.result(), ledger, record)
    if not (folder / RESULTS).exists():
        raise campaign.CampaignError(
            f"{folder}: {RESULTS} is gone and its series were not kept; remove the folder and run again"
        )
    report = campaign.make_report(settings, found, ledger.accounts(), ledger.shards(), _pairs_with_data(folder))
    report |= {
        "shards_kept": len(done - wanted),
        "repaired": repaired,
        "warnings": warnings,
        "workers": summarize(workers),
    }
    return report


def _require_series(folder: Path, ledger: Ledger) -> None:
    """Raise CampaignError if the series that new ones would be stacked with were not kept."""
    if not all(s.kept for s in ledger.shards()):
        raise campaign.CampaignError(
            f"{folder}: its series were not kept (stack.keep_series = false), so nothing can be added, done again or "
            "stacked anew; choose another folder with -o"
        )


def _other_kernel(ledger: Ledger) -> list[str]:
    """Return a warning if the campaign was begun with other libraries or another processor: bits may differ."""
    now, before = f"{campaign.software()}; {campaign.kernel()}", ledger.fact("kernel")
    if before in ("", now):
        ledger.keep_fact("kernel", now)
        return []
    return [f"this campaign was begun with {before}; now it is {now}: the last bits of new shards may differ"]


def restack(folder: Path, assignments: Sequence[str] = ()) -> Path:
    """Make ``xcorr.h5`` again from the shards, without looking at waveforms; return its path.

    ``assignments`` are new values of stack settings (``stack.methods=[...]``) and of how to run; others are those of
    the campaign and cannot be changed. Raises SettingsError for those, CampaignError where there is no campaign.
    """
    folder = folder.absolute()
    old = campaign.frozen_settings(folder)
    settings = build(override(old.as_dict(), assignments))
    if settings.hash() != old.hash() or _of_inputs(settings) != _of_inputs(old):
        raise SettingsError(f"only stack settings can be new here, and not stack.substack_s: {', '.join(assignments)}")
    prepare_process()
    with CampaignLock(folder):
        campaign.remove_leftovers(folder)
        ledger = Ledger(folder, settings.hash())
        try:
            ledger.look()
            members = Members.from_json(ledger.fact("members"))
            if members is None:
                raise campaign.CampaignError(f"{folder} has no shards to stack")
            _require_series(folder, ledger)
            campaign.freeze_settings(folder, settings)
            with recorded(folder, _circumstances(settings)) as record:
                found = survey_of(members, settings)
                stack_campaign(folder, settings, found, campaign.pair_table(found), ledger, record)
        finally:
            ledger.close()
    return folder / RESULTS


def _of_inputs(settings: Settings) -> dict[str, Any]:
    """Return the settings that say what is in the shards, and all others that stacking does not look at."""
    return {name: values for name, values in settings.as_dict().items() if name not in ("stack", "run")}


def _circumstances(settings: Settings) -> Circumstances:
    """Return what provenance says of how a run is made."""
    r, text = settings.run, to_toml(settings.as_dict())
    software = f"{campaign.software()}; {campaign.kernel()}"
    return Circumstances(settings.provenance.level, r.mapping, r.workers, software, settings.hash(), text)


def stack_campaign(
    folder: Path, settings: Settings, found: Survey, pairs: np.ndarray, ledger: Ledger, record: Run | None = None
) -> None:
    """Make ``xcorr.h5`` out of all shards; remove them where the series are not to be kept."""
    shards = ledger.shards()
    starts = sorted({s.start_ns for s in shards})
    number = {start: k for k, start in enumerate(starts)}
    tables = campaign.tables(settings, found, pairs, starts, shards)
    requests: list[StackRequest] = []
    for g in found.generations:
        own = [(number[s.start_ns], s.strip, s.path) for s in shards if s.generation == g.number]
        pieces, azimuths = len(tables.pieces), pairs["azimuth_deg"]
        requests += stack_requests(g.layout, len(tables.lags_s), own, pieces, azimuths, g.first_row)
    graph = pipeline.stack_workflow(settings, tuple(requests), folder, tables)
    parallel = len(tables.pieces) * len(tables.pairs) * len(tables.lags_s) > LITTLE and len(tables.pieces) > 1
    watch = [] if record is None else record.observers(graph)
    if parallel:
        run(graph, None, settings.run.mapping, settings.run.workers, watch, _options(settings))
    else:
        run(graph, observers=watch)
    if not settings.stack.keep_series:
        ledger.remove_shards()


def _options(settings: Settings) -> dict[str, Any]:
    """Return the options of the mapping."""
    r = settings.run
    return {"nimbus": r.storm_nimbus, "keys": r.storm_keys} if r.mapping == "storm" else {}


def _watch(settings: Settings, generation: Generation, chunks: Sequence[Chunk], style: str | None) -> list[Observer]:
    if style is None:
        return []
    layout, shape = generation.layout, pipeline.series_shape(settings)
    items = len(chunks) * sum(bool(layout.strips_of(k)) for k in range(layout.stations))
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

    with h5py.File(folder / RESULTS) as file:
        method = next(iter(file["stacks"].values()))
        counts = [group["n_windows"][...] for group in method.values()]
    return int(np.count_nonzero(np.any(counts, axis=0)))
