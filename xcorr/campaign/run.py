"""Runs a campaign: makes shards, ``xcorr.h5`` and ``report.json`` from station list, source and metadata."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.campaign import head_start
from xcorr.campaign.finish import finish, pairs_with_data
from xcorr.campaign.forecast import chunks_at_once, memory_limit, worker_count
from xcorr.campaign.own_metadata import keep_metadata, own_metadata
from xcorr.campaign.remaining import check_space, what_remains
from xcorr.campaign.remarks import has_other_places, new_files, other_kernel, other_metadata
from xcorr.campaign.running import run_workflow
from xcorr.campaign.stack import circumstances, require_series, require_sums, stack_campaign
from xcorr.campaign.workflows import bytes_to_write, correlation_workflow, element_classes, events, expected_items
from xcorr.core import Observer, WorkflowGraph, installed
from xcorr.core.message import WorkerDied
from xcorr.mappings import engine
from xcorr.network.roster import Roster, generations_of
from xcorr.network.survey import Survey, require_possible, survey_list
from xcorr.observers.progress import Progress, summarize
from xcorr.observers.published import Publish, Published, publishing
from xcorr.observers.worker_log import WorkerLog
from xcorr.pes.items import Chunk
from xcorr.pes.process_setup import prepare_process
from xcorr.pes.reading.files import CAMPAIGN_MARK
from xcorr.pes.storing.smaller import require as require_compression
from xcorr.pes.transforms.fft import library
from xcorr.provenance.keep import KeepItems, check_rules, products_of
from xcorr.provenance.runs import recorded
from xcorr.results.report_page import prepare_page
from xcorr.settings import Settings, SettingsError
from xcorr.settings.recipe import Recipe
from xcorr.store import folder as folders
from xcorr.store.accounts import slot_names
from xcorr.store.derived import settle
from xcorr.store.ledger import Ledger
from xcorr.store.ledger_reader import IMPORTED
from xcorr.store.lock import CampaignLock
from xcorr.store.reconcile import reconcile, remove_redundant
from xcorr.store.report import make_report
from xcorr.store.software import software
from xcorr.store.sqlite_files import telling_who_waits
from xcorr.store.tables import pair_table
from xcorr.store.verify import behind

FINISHED, NOTHING, SOME_FAILED = 0, 1, 3
_log = logging.getLogger("xcorr")


@dataclasses.dataclass(frozen=True)
class Finished:
    """A finished run: the folder of its results, its report, and its exit code."""

    folder: Path
    report: dict[str, Any]
    exit_code: int


def run_campaign(
    list_path: Path,
    folder: Path,
    settings: Settings,
    progress: str | None = None,
    refresh: bool = False,
    refresh_metadata: bool = False,
) -> Finished:
    """Compute the shards that a campaign still lacks, stack them, and return the finished run.

    Finished shards are kept. With ``refresh``, shards whose input files, responses or orientations have changed are
    recomputed. With ``refresh_metadata``, stations get their present coordinates, and the stacks are made again from
    the series. ``progress`` is the style in which progress is shown: ``bar``, ``line`` or ``json``; None shows nothing.
    Raises XcorrError if the campaign cannot be run.
    """
    start = time.perf_counter()
    settings, folder = folders.absolute(settings), folder.absolute()
    # before the folder is made, so that a wrong rule leaves nothing behind
    check_rules(settings.keep, products_of(element_classes(settings).items()))
    library(settings.run.fft)
    installed.load("arrays", settings.run.arrays)
    require_compression(settings.stack.compression)
    prepare_process()  # before the head start, whose threads would not get these settings
    head_start.begin(settings.run.mapping, settings.run.workers)
    events(settings)
    memory_limit(settings)
    with own_metadata(list_path, folder, settings, refresh_metadata) as complete:
        from_source = settings.data.metadata is None
        return _run(list_path, folder, complete, from_source, progress, refresh, refresh_metadata, start)


def _run(
    list_path: Path,
    folder: Path,
    settings: Settings,
    metadata_from_source: bool,
    progress: str | None,
    refresh: bool,
    refresh_metadata: bool,
    start: float,
) -> Finished:
    """Run a campaign whose settings are complete; ``start`` is when it began."""
    found = None
    if not folder.exists():  # a run that is not possible leaves no folder behind
        found = survey_list(list_path, settings)
        require_possible(found)
        chunks_at_once(Recipe(settings), found, worker_count(settings), len(found.chunks))
    else:
        settings = folders.with_campaigns_numbers(folder, settings)
    folders.make_folder(folder)
    with CampaignLock(folder), telling_who_waits(folder):
        if metadata_from_source:
            settings = keep_metadata(folder, settings)
        rewritten = folders.freeze_settings(folder, settings)
        folders.remove_leftovers(folder, settings.keep)
        ledger = Ledger(folder, settings.hash(), not settings.stack.keep_series)
        one = _Campaign(list_path, folder, Recipe(settings), ledger, progress, refresh, refresh_metadata)
        try:
            with publishing(folder, settings.run.mapping, ledger.counts) as published:
                report = _persist(folder, settings, lambda: one.execute(found, published))
                report["repaired"] = [*rewritten, *report["repaired"]]
                report["seconds"] = round(time.perf_counter() - start, 3)
                finish(folder, ledger, report)
        except BaseException:
            folders.remove_leftovers(folder, settings.keep)
            raise
        finally:
            ledger.close()
    code = NOTHING if not report["pairs_with_data"] else SOME_FAILED if report["errors"] else FINISHED
    return Finished(folder, report, code)


def _persist(folder: Path, settings: Settings, attempt: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the report of an attempt. If a worker dies, try again, as often as the mapping allows."""
    left = engine(settings.run.mapping).attempts
    while True:
        left -= 1
        try:
            return attempt()
        except WorkerDied as error:
            if not left:
                raise
            _log.warning("%s; trying again, going on with what is stored", error)
            folders.remove_leftovers(folder, settings.keep)


@dataclasses.dataclass
class _Campaign:
    """One run of a campaign whose lock is held."""

    list_path: Path
    folder: Path
    recipe: Recipe
    ledger: Ledger
    progress: str | None
    refresh: bool
    refresh_metadata: bool

    def execute(self, found: Survey | None, published: Published) -> dict[str, Any]:
        """Compute missing shards, stack, and return the report. ``found``: an earlier survey of the list, if any."""
        folder, ledger, settings = self.folder, self.ledger, self.recipe.settings
        if ledger.fact(IMPORTED):
            raise folders.CampaignError(f"{folder} was imported from another program; choose another folder with -o")
        repaired = reconcile(ledger)
        settle(ledger, folder / CAMPAIGN_MARK)
        roster = Roster.from_json(ledger.fact("members"))
        if found is None or roster is not None:
            found = survey_list(self.list_path, settings, roster, self.refresh_metadata)
        self._require_same_pairs(roster, found)
        moved = has_other_places(folder, found)
        ledger.keep_fact("members", found.roster.to_json(len(found.generations) - 1))  # their order is settled now
        ledger.keep_requested(found.requested)
        remaining = what_remains(found, ledger, settings, self.refresh)
        todo, without_series = remaining.todo, remaining.without_series
        done = {(s.start_ns, s.generation, s.strip) for s in ledger.shards()}
        wanted = {
            (c.start_ns, number, strip) for number, chunks in todo.items() for c in chunks for strip in c.wanted or ()
        }
        if wanted:
            require_sums(folder, ledger)
        every = {c.start_ns for c in found.chunks} | {start for start, _, _ in done}
        check_space(folder, bytes_to_write(self.recipe, found, todo, len(every)))
        workflows = self._workflows(found, todo)  # before anything is recorded: settings may still be refused here
        ledger.keep_fact("expected", str(len(done | wanted)))
        warnings = [*(c.text for c in found.concerns), *other_kernel(ledger)]
        warnings += new_files(remaining.changed, slot_names(found.roster, settings))
        if without_series:
            warnings.append(
                f"{without_series} shard(s) should be recomputed, because an input failed or has changed, or more time "
                "is wanted; their series were not kept (stack.keep_series = false), so their part of the stacks stays"
            )
        workers = []
        with recorded(folder, circumstances(settings)) as record, ThreadPoolExecutor(1) as beside:
            beside.submit(prepare_page)  # prepare the end of the run while workers compute
            pairs = beside.submit(pair_table, found)
            for graph in workflows:
                expected = expected_items(graph)
                watch = [WorkerLog(folder), Publish(published, "correlating", expected), *self._progress(expected)]
                if record is not None:
                    watch += record.observers(graph)
                    watch += [KeepItems(folder, record.number, settings.keep)] if settings.keep else []
                workers += run_workflow(folder, settings, graph, watch).workers
            stack_campaign(folder, self.recipe, found, pairs.result(), ledger, record, again=moved, published=published)
        remove_redundant(ledger)
        report = make_report(settings, found, ledger, pairs_with_data(folder), folder)
        for name in ("errors", "unreadable"):
            report[name] += other_metadata(remaining.other_metadata, slot_names(found.roster, settings))
        report |= {
            "shards_kept": len(done - wanted),
            "repaired": repaired,
            "warnings": warnings,
            "workers": summarize(workers),
            "behind": behind(folder),
        }
        return report

    def _require_same_pairs(self, roster: Roster | None, found: Survey) -> None:
        """Raise SettingsError if new coordinates would change the pairs, CampaignError if they cannot be taken."""
        if roster is None or not self.refresh_metadata:
            return
        old = generations_of(roster, self.recipe.settings)
        both = zip(old, found.generations, strict=False)
        if not all(np.array_equal(a.layout.matrix, b.layout.matrix) for a, b in both):
            raise SettingsError(
                "--refresh-metadata: with the new coordinates other pairs pass correlate.distance_km or azimuth_deg; "
                "choose another folder with -o"
            )
        same = all(a.coordinates == b.coordinates for a, b in zip(roster.stations, found.stations, strict=False))
        if not same:
            require_series(self.folder, self.ledger)

    def _workflows(self, found: Survey, todo: dict[int, list[Chunk]]) -> list[WorkflowGraph]:
        """Return the workflow of every generation that lacks something."""
        settings = self.recipe.settings
        attributes = {"settings_hash": settings.hash(), "software": software()}
        most = max((len(chunks) for chunks in todo.values()), default=1)
        at_once = chunks_at_once(self.recipe, found, worker_count(settings), most) if todo else 1
        return [
            correlation_workflow(
                self.recipe, found, found.generations[number], chunks, at_once, self.folder, attributes
            )
            for number, chunks in todo.items()
        ]

    def _progress(self, expected: dict[str, int]) -> list[Observer]:
        return [] if self.progress is None else [Progress(expected, self.progress)]
