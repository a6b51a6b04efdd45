"""Joins campaigns of the same settings, which cover other days or other pairs, in a new one."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xcorr.campaign.finish import finish, pairs_with_data
from xcorr.campaign.merge_plan import Gathered, MergeError, Part, merged_lines, merged_roster, read_part
from xcorr.campaign.remaining import check_space
from xcorr.campaign.running import run_workflow
from xcorr.campaign.stack import circumstances, stack_campaign
from xcorr.campaign.workflows import bytes_to_write, chained
from xcorr.core import WorkflowGraph
from xcorr.core.observe import WorkerStatistics
from xcorr.network.chunks import parse_time
from xcorr.network.roster import Generation, generations_of
from xcorr.network.survey import Survey
from xcorr.observers.progress import summarize
from xcorr.observers.published import NAME as PROGRESS
from xcorr.observers.published import Publish, publishing
from xcorr.pes import WriteShards
from xcorr.pes.items import Chunk
from xcorr.pes.process_setup import prepare_process
from xcorr.pes.reading.files import CAMPAIGN_MARK
from xcorr.pes.reading.source import Index
from xcorr.pes.stacking.gather import GatherStrips
from xcorr.pes.stacking.stack import SeriesShape, StackSource
from xcorr.provenance.runs import recorded
from xcorr.settings import Settings
from xcorr.settings.recipe import Recipe
from xcorr.store import folder as folders
from xcorr.store.derived import STATIONS
from xcorr.store.keep_ledger import KeepLedger
from xcorr.store.ledger import Ledger
from xcorr.store.ledger_reader import NAME as LEDGER
from xcorr.store.ledger_reader import LedgerError, LedgerReader
from xcorr.store.lock import NAME as LOCK
from xcorr.store.lock import CampaignLock
from xcorr.store.reconcile import reconcile
from xcorr.store.report import make_report, read_report
from xcorr.store.software import software
from xcorr.store.sqlite_files import BESIDE, telling_who_waits
from xcorr.store.tables import pair_table

FACT = "merged"  # of the ledger: the campaigns that it is made of
BEGUN = {"shards", LOCK, CAMPAIGN_MARK, PROGRESS, LEDGER, *(f"{LEDGER}{end}" for end in BESIDE)}  # before that
_log = logging.getLogger("xcorr")


@dataclasses.dataclass(frozen=True)
class Merged:
    """A merged campaign: its folder, and the numbers of stations, pairs and chunks."""

    folder: Path
    stations: int
    pairs: int
    chunks: int


def merge(campaigns: Sequence[Path], folder: Path, mapping: str = "sequential", workers: int | None = None) -> Merged:
    """Make a campaign of several. Its results are those, to the bit, of one run over all lists and days.

    Of a chunk and pair that several have, the first one's is taken, of those that have most of the chunk's time.
    The same call goes on where an interrupted one was. Raises MergeError for campaigns that cannot be merged, and
    CampaignError if the folder is another campaign.
    """
    start = time.perf_counter()
    folder = folder.absolute()
    parts = tuple(read_part(path) for path in campaigns)
    settings = _settings(parts, mapping, workers)
    roster = merged_roster(parts)
    generations, chunks = generations_of(roster, settings), _chunks(parts)
    found = Survey(roster, merged_lines(parts), chunks, generations, Index("", {}))
    for generation in generations:
        Gathered(parts, roster, generation, settings, tuple((c, ()) for c in chunks)).check()
    names = json.dumps([str(part.folder) for part in parts])
    _require_new(folder, names)
    prepare_process()
    folders.make_folder(folder)
    with CampaignLock(folder), telling_who_waits(folder):
        folders.freeze_settings(folder, settings)
        folders.remove_leftovers(folder)
        ledger = Ledger(folder, settings.hash())
        try:
            with publishing(folder, mapping, ledger.counts) as published:
                reconcile(ledger)
                _enter(ledger, parts, found, names)
                recipe = Recipe(settings)
                graphs = _workflows(recipe, parts, found, ledger, folder)
                at_work: list[WorkerStatistics] = []
                with recorded(folder, circumstances(settings)) as record:
                    for graph, count in graphs:
                        watch = [] if record is None else record.observers(graph)
                        watch.append(Publish(published, "merging", {"GatherStrips": count}))
                        at_work += run_workflow(folder, settings, graph, watch).workers
                    stack_campaign(folder, recipe, found, pair_table(found), ledger, record, published=published)
            report = _report(parts, settings, found, ledger, folder)
            report |= {"workers": summarize(at_work), "seconds": round(time.perf_counter() - start, 3)}
            finish(folder, ledger, report)
        except BaseException:
            folders.remove_leftovers(folder)
            raise
        finally:
            ledger.close()
    return Merged(folder, len(roster.stations), found.rows, len(chunks))


def _settings(parts: Sequence[Part], mapping: str, workers: int | None) -> Settings:
    """Return the settings of the merged campaign: those of the first, over the time of all."""
    first = parts[0].settings
    for part in parts[1:]:
        if part.settings.hash() != first.hash():
            raise MergeError(
                f"{parts[0].folder} and {part.folder} have other settings:\n"
                + folders.difference(parts[0].folder / CAMPAIGN_MARK, part.settings, ("in the first", "in the other"))
            )
    start = _limit([part.settings.data.start for part in parts], min)
    end = _limit([part.settings.data.end for part in parts], max)
    own = {str(part.folder / STATIONS) for part in parts}
    metadata = None if first.data.metadata in own else first.data.metadata
    return dataclasses.replace(
        first,
        data=dataclasses.replace(first.data, metadata=metadata, start=start, end=end),
        run=dataclasses.replace(first.run, mapping=mapping, workers=workers),
        keep=(),
    )


def _limit(texts: Sequence[str | None], choose: Callable[..., str]) -> str | None:
    """Return the first or last of times, None if one of them is not set."""
    given = [text for text in texts if text]
    return choose(given, key=lambda text: parse_time(text, "data")) if len(given) == len(texts) else None


def _chunks(parts: Sequence[Part]) -> tuple[Chunk, ...]:
    """Return the chunks of all campaigns. Wanted is the time that all have that have the chunk."""
    starts = sorted({start for part in parts for start in part.shards})
    found = []
    for index, start in enumerate(starts):
        shards = [part.shards[start][0] for part in parts if start in part.shards]
        low, high = max(s.data_start_ns for s in shards), min(s.data_end_ns for s in shards)
        if len({(s.data_start_ns, s.data_end_ns) for s in shards}) > 1:
            low, high = (low, high) if low < high else (start, start)
            name = Chunk(index, start, shards[0].end_ns, low, high).name
            _log.warning("chunk %s: the campaigns have other parts of it; xcorr run will compute it again", name)
        found.append(Chunk(index, start, shards[0].end_ns, low, high))
    return tuple(found)


def _require_new(folder: Path, names: str) -> None:
    """Raise CampaignError if a folder holds anything but an earlier part of the same merge."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    with contextlib.suppress(LedgerError), contextlib.closing(LedgerReader(folder)) as ledger:
        if ledger.fact(FACT) == names:
            return
    if {path.name for path in folder.iterdir()} <= BEGUN and not any((folder / "shards").glob("*")):
        return
    raise folders.CampaignError(f"{folder} exists; choose another folder with -o, or remove it")


def _enter(ledger: Ledger, parts: Sequence[Part], found: Survey, names: str) -> None:
    ledger.keep_fact(FACT, names)
    ledger.keep_fact("members", found.roster.to_json(len(found.generations) - 1))
    ledger.keep_requested(found.requested)
    ledger.keep_fact("kernel", parts[0].facts["kernel"])
    ledger.keep_fact("expected", str(len(found.chunks) * sum(len(g.layout.strips) for g in found.generations)))


def _workflows(
    recipe: Recipe, parts: tuple[Part, ...], found: Survey, ledger: Ledger, folder: Path
) -> list[tuple[WorkflowGraph, int]]:
    """Return the workflow of every generation that lacks strips, and how many."""
    done = {(s.start_ns, s.generation, s.strip) for s in ledger.shards()}
    todo: dict[int, list[Chunk]] = {}
    for generation in found.generations:
        for chunk in found.chunks:
            lacking = tuple(s for s in generation.layout.strips if (chunk.start_ns, generation.number, s) not in done)
            if lacking:
                made = dataclasses.replace(chunk, wanted=lacking, generation=generation.number)
                todo.setdefault(generation.number, []).append(made)
    check_space(folder, bytes_to_write(recipe, found, todo, len(found.chunks)))
    return [
        (
            _workflow(recipe, parts, found, found.generations[number], chunks, folder),
            sum(len(chunk.wanted or ()) for chunk in chunks),
        )
        for number, chunks in todo.items()
    ]


def _workflow(
    recipe: Recipe,
    parts: tuple[Part, ...],
    found: Survey,
    generation: Generation,
    chunks: Sequence[Chunk],
    folder: Path,
) -> WorkflowGraph:
    s, shape = recipe.settings, recipe.shape
    todo = tuple((chunk, chunk.wanted or ()) for chunk in chunks)
    return chained(
        StackSource(Gathered(parts, found.roster, generation, s, todo)),
        GatherStrips(SeriesShape(shape.bands, shape.pairs, shape.lags, len(chunks), shape.substacks)),
        WriteShards(
            str(folder),
            generation.layout,
            shape.lags,
            {"settings_hash": s.hash(), "software": software()},
            shape.bands,
            shape.substacks,
            generation.number,
            found.roster.to_json(generation.number),
        ),
        KeepLedger(str(folder)),
    )


def _report(parts: Sequence[Part], settings: Settings, found: Survey, ledger: Ledger, folder: Path) -> dict[str, Any]:
    report = make_report(settings, found, ledger, pairs_with_data(folder), folder)
    before = [read_report(part.folder) for part in parts]
    for name in ("errors", "unreadable", "ignored_files"):
        report[name] = list(dict.fromkeys([*report[name], *(line for old in before for line in old.get(name, []))]))
    kernels = sorted({part.facts["kernel"] for part in parts})
    other = [f"the campaigns were made with {' and with '.join(kernels)}; last bits may differ"]
    warnings = list(dict.fromkeys(line for old in before for line in old.get("warnings", [])))
    return report | {
        "shards_kept": 0,
        "repaired": [],
        "warnings": [*warnings, *(other if len(kernels) > 1 else [])],
        "behind": [],
        "merged": [str(part.folder) for part in parts],
    }
