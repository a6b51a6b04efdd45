"""Makes a campaign of correlations that exist already: of other campaigns, or of other programs."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xcorr.campaign.finish import finish, pairs_with_data
from xcorr.campaign.remaining import check_space
from xcorr.campaign.running import run_workflow
from xcorr.campaign.stack import circumstances, stack_campaign
from xcorr.campaign.workflows import bytes_to_write
from xcorr.core import ElementError, WorkflowGraph
from xcorr.core.observe import WorkerStatistics
from xcorr.mappings import engine
from xcorr.network.roster import Generation
from xcorr.network.survey import Survey
from xcorr.observers.progress import summarize
from xcorr.observers.published import NAME as PROGRESS
from xcorr.observers.published import Publish, publishing
from xcorr.pes import WriteShards
from xcorr.pes.items import Chunk
from xcorr.pes.process_setup import prepare_process
from xcorr.pes.reading.files import CAMPAIGN_MARK
from xcorr.provenance.runs import recorded
from xcorr.settings import Settings
from xcorr.settings.recipe import Recipe
from xcorr.store import folder as folders
from xcorr.store.ledger import Ledger
from xcorr.store.ledger_reader import NAME as LEDGER
from xcorr.store.ledger_reader import LedgerError, LedgerReader
from xcorr.store.lock import NAME as LOCK
from xcorr.store.lock import CampaignLock
from xcorr.store.reconcile import reconcile
from xcorr.store.report import make_report
from xcorr.store.software import software
from xcorr.store.sqlite_files import BESIDE, telling_who_waits
from xcorr.store.tables import pair_table
from xcorr.store.verify import behind

BEGUN = {"shards", LOCK, CAMPAIGN_MARK, PROGRESS, LEDGER, *(f"{LEDGER}{end}" for end in BESIDE)}  # before the facts


@dataclasses.dataclass(frozen=True)
class Assembly:
    """What a campaign is made of: settings and survey; ``facts`` for its ledger; the ``phase`` shown to users.

    ``facts_now`` returns the facts again: if they are others at the end, its sources have changed meanwhile.
    ``workflow`` (generation, chunks with the strips that they lack) makes shards; ``element`` is the one whose items
    are strips.
    """

    settings: Settings
    found: Survey
    facts: dict[str, str]
    facts_now: Callable[[], dict[str, str]]
    phase: str
    workflow: Callable[[Generation, Sequence[Chunk]], WorkflowGraph]
    element: str


def assemble(folder: Path, what: Assembly, about: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Make a campaign, or go on where an interrupted call was. ``about`` (report) adds to the report.

    Raises CampaignError if the folder holds something else.
    """
    start = time.perf_counter()
    settings, found, recipe = what.settings, what.found, Recipe(what.settings)
    engine(settings.run.mapping)
    members = found.roster.to_json(len(found.generations) - 1)
    _require_new(folder, what.facts, members)
    prepare_process()
    folders.make_folder(folder)
    with CampaignLock(folder), telling_who_waits(folder):
        folders.freeze_settings(folder, settings)
        folders.remove_leftovers(folder)
        ledger = Ledger(folder, settings.hash())
        try:
            with publishing(folder, settings.run.mapping, ledger.counts) as published:
                reconcile(ledger)
                _enter(ledger, what, members)
                at_work: list[WorkerStatistics] = []
                with recorded(folder, circumstances(settings)) as record:
                    try:
                        for graph, count in _workflows(recipe, what, ledger, folder):
                            watch = [] if record is None else record.observers(graph)
                            watch.append(Publish(published, what.phase, {what.element: count}))
                            at_work += run_workflow(folder, settings, graph, watch).workers
                    except ElementError:
                        _require_unchanged(folder, what)
                        raise
                    _require_unchanged(folder, what)
                    stack_campaign(folder, recipe, found, pair_table(found), ledger, record, published=published)
            report = make_report(settings, found, ledger, pairs_with_data(folder), folder)
            report |= {"shards_kept": 0, "repaired": [], "warnings": [], "workers": summarize(at_work)}
            report["behind"] = behind(folder)
            report["seconds"] = round(time.perf_counter() - start, 3)
            finish(folder, ledger, report | about(report))
        except BaseException:
            folders.remove_leftovers(folder)
            raise
        finally:
            ledger.close()


def shard_writer(folder: Path, recipe: Recipe, found: Survey, generation: Generation) -> WriteShards:
    """Return the element that writes the shards of a generation."""
    return WriteShards(
        str(folder),
        generation.layout,
        recipe.shape.lags,
        {"settings_hash": recipe.settings.hash(), "software": software()},
        recipe.shape.bands,
        recipe.shape.substacks,
        generation.number,
        found.roster.to_json(generation.number),
        compression=recipe.settings.stack.compression,
        series_bits=recipe.settings.stack.series_bits,
    )


def require_outside(folder: Path, source: Path) -> None:
    """Raise CampaignError if a campaign would be made within what it is made of."""
    if source.resolve() == folder.resolve():
        raise folders.CampaignError(f"{folder} is read, and is not changed; choose another folder with -o")
    if source.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise folders.CampaignError(f"{folder} lies in {source}, which is not changed; choose another folder with -o")


def _require_new(folder: Path, facts: dict[str, str], members: str) -> None:
    """Raise CampaignError if a folder holds anything but an earlier part of the same, of the same stations."""
    if folder.exists() and not folder.is_dir():
        raise folders.CampaignError(f"{folder} is a file; choose another folder with -o")
    if not folder.exists() or not any(folder.iterdir()):
        return
    with contextlib.suppress(LedgerError), contextlib.closing(LedgerReader(folder)) as ledger:
        same = all(ledger.fact(name) == value for name, value in facts.items())
        if same and ledger.fact("members") in ("", members):
            return
        if any(ledger.fact(name) for name in facts if name != "kernel"):
            raise folders.CampaignError(
                f"{folder} was made of other data (or their times of change are others), or has been continued since; "
                "choose another folder with -o, or remove it"
            )
    if {path.name for path in folder.iterdir()} <= BEGUN and not any((folder / "shards").glob("*")):
        return
    raise folders.CampaignError(f"{folder} exists; choose another folder with -o, or remove it")


def _require_unchanged(folder: Path, what: Assembly) -> None:
    """Raise CampaignError if the sources are not what they were at the start."""
    if what.facts_now() != what.facts:
        raise folders.CampaignError(
            f"what {folder} is made of has changed meanwhile, so that it is of both; remove it, and repeat"
        )


def _enter(ledger: Ledger, what: Assembly, members: str) -> None:
    found = what.found
    for name, value in what.facts.items():
        ledger.keep_fact(name, value)
    ledger.keep_fact("members", members)
    ledger.keep_requested(found.requested)
    ledger.keep_fact("expected", str(len(found.chunks) * sum(len(g.layout.strips) for g in found.generations)))


def _workflows(recipe: Recipe, what: Assembly, ledger: Ledger, folder: Path) -> list[tuple[WorkflowGraph, int]]:
    """Return the workflow of every generation that lacks strips, and how many."""
    done = {(s.start_ns, s.generation, s.strip) for s in ledger.shards()}
    todo: dict[int, list[Chunk]] = {}
    for generation in what.found.generations:
        for chunk in what.found.chunks:
            lacking = tuple(s for s in generation.layout.strips if (chunk.start_ns, generation.number, s) not in done)
            if lacking:
                made = dataclasses.replace(chunk, wanted=lacking, generation=generation.number)
                todo.setdefault(generation.number, []).append(made)
    check_space(folder, bytes_to_write(recipe, what.found, todo, len(what.found.chunks)))
    return [
        (what.workflow(what.found.generations[number], chunks), sum(len(chunk.wanted or ()) for chunk in chunks))
        for number, chunks in todo.items()
    ]
