"""Joins campaigns of the same settings, which cover other days or other pairs, in a new one."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xcorr.campaign.assemble import Assembly, assemble, require_outside, shard_writer
from xcorr.campaign.merge_parts import MergeError, Part, read_part
from xcorr.campaign.merge_plan import MIXED, Gathered, merged_lines, merged_roster
from xcorr.campaign.workflows import chained
from xcorr.core import WorkflowGraph
from xcorr.network.chunks import parse_time
from xcorr.network.roster import Generation, generations_of
from xcorr.network.survey import Survey
from xcorr.pes.items import Chunk
from xcorr.pes.reading.files import CAMPAIGN_MARK
from xcorr.pes.reading.source import Index
from xcorr.pes.stacking.gather import GatherStrips
from xcorr.pes.stacking.stack import SeriesShape, StackSource
from xcorr.settings import Settings
from xcorr.settings.recipe import Recipe
from xcorr.store import folder as folders
from xcorr.store.derived import STATIONS
from xcorr.store.keep_ledger import KeepLedger
from xcorr.store.ledger_reader import IMPORTED, LedgerReader
from xcorr.store.report import NAME as REPORT
from xcorr.store.report import read_report

FACT = "merged"  # of the ledger: the campaigns that it is made of, and a digest of their shards
LISTS = ("errors", "unreadable", "ignored_files", "warnings")  # of reports
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

    Of a chunk and pair that several have, the first one's is taken, of those that have most of the chunk's time; what
    it lacks is taken from the others. If they were made of other data, this is none of both, and the report says so.
    The same call goes on where an interrupted one was. Raises MergeError for campaigns that cannot be merged, and
    CampaignError if the folder is another campaign.
    """
    folder = folder.absolute()
    parts = tuple(read_part(path) for path in campaigns)
    for part in parts:
        require_outside(folder, part.folder)
    settings = _settings(parts, mapping, workers)
    roster = merged_roster(parts)
    generations, (chunks, remarks) = generations_of(roster, settings), _chunks(parts)
    found = Survey(roster, merged_lines(parts), chunks, generations, Index("", {}))
    for generation in generations:
        Gathered(parts, roster, generation, settings, tuple((c, ()) for c in chunks)).check()
    recipe = Recipe(settings)

    def workflow(generation: Generation, todo: Sequence[Chunk]) -> WorkflowGraph:
        strips = tuple((chunk, chunk.wanted or ()) for chunk in todo)
        shape = recipe.shape
        return chained(
            StackSource(Gathered(parts, roster, generation, settings, strips)),
            GatherStrips(SeriesShape(shape.bands, shape.pairs, shape.lags, len(todo), shape.substacks)),
            shard_writer(folder, recipe, found, generation),
            KeepLedger(str(folder)),
        )

    def facts_now() -> dict[str, str]:
        return _facts([read_part(path) for path in campaigns])

    what = Assembly(settings, found, _facts(parts), facts_now, "merging", workflow, "GatherStrips")
    for text in remarks:
        _log.warning(text)
    assemble(folder, what, lambda report: _report(folder, parts, report, remarks))
    return Merged(folder, len(roster.stations), found.rows, len(chunks))


def _facts(parts: Sequence[Part]) -> dict[str, str]:
    """Return what the ledger keeps of the campaigns."""
    made_of = [{"folder": str(part.folder), "shards": part.facts["shards"]} for part in parts]
    return {name: parts[0].facts[name] for name in ("kernel", IMPORTED)} | {FACT: json.dumps(made_of)}


def _settings(parts: Sequence[Part], mapping: str, workers: int | None) -> Settings:
    """Return the settings of the merged campaign: those of the first, over the time of all, with the stacks of all."""
    first = parts[0].settings
    for part in parts[1:]:
        if bool(part.facts[IMPORTED]) != bool(parts[0].facts[IMPORTED]):
            raise MergeError(f"of {parts[0].folder} and {part.folder}, one was imported from another program")
        if part.settings.hash() != first.hash():
            raise MergeError(
                f"{parts[0].folder} and {part.folder} have other settings:\n"
                + folders.difference(parts[0].folder / CAMPAIGN_MARK, part.settings, ("in the first", "in the other"))
            )
    start = _limit([part.settings.data.start for part in parts], min)
    end = _limit([part.settings.data.end for part in parts], max)
    stacks = [part.settings.stack for part in parts]
    methods = tuple(dict.fromkeys(method for stack in stacks for method in stack.methods))
    turned = tuple(dict.fromkeys(pair for stack in stacks for pair in stack.components))
    own = {str(part.folder / STATIONS) for part in parts}
    metadata = None if first.data.metadata in own else first.data.metadata
    return dataclasses.replace(
        first,
        data=dataclasses.replace(first.data, metadata=metadata, start=start, end=end),
        stack=dataclasses.replace(first.stack, methods=methods, components=turned),
        run=dataclasses.replace(first.run, mapping=mapping, workers=workers),
        keep=(),
    )


def _limit(texts: Sequence[str | None], choose: Callable[..., str]) -> str | None:
    """Return the first or last of times, None if one of them is not set."""
    given = [text for text in texts if text]
    return choose(given, key=lambda text: parse_time(text, "data")) if len(given) == len(texts) else None


def _chunks(parts: Sequence[Part]) -> tuple[tuple[Chunk, ...], list[str]]:
    """Return the chunks of all campaigns, and remarks. Wanted is the time that all have that have the chunk."""
    starts = sorted({start for part in parts for start in part.shards})
    found, remarks = [], []
    for index, start in enumerate(starts):
        shards = [part.shards[start][0] for part in parts if start in part.shards]
        low, high = max(s.data_start_ns for s in shards), min(s.data_end_ns for s in shards)
        if len({(s.data_start_ns, s.data_end_ns) for s in shards}) > 1:
            low, high = (low, high) if low < high else (start, start)
            name = Chunk(index, start, shards[0].end_ns, low, high).name
            remarks.append(f"chunk {name}: the campaigns have other parts of it; xcorr run will compute it again")
        found.append(Chunk(index, start, shards[0].end_ns, low, high))
    return tuple(found), remarks


def _report_of(part: Part) -> dict[str, Any]:
    """Return the report of a part; of one that is lost or damaged, only that it is."""
    try:
        report = read_report(part.folder)
    except OSError:  # as CampaignError is
        report = {}
    lists = {name: report.get(name) for name in LISTS} if isinstance(report, dict) else {}
    if lists and all(isinstance(lines, list) for lines in lists.values()):
        return lists
    return {"warnings": [f"{part.folder / REPORT} is lost or damaged: its errors and warnings are not known"]}


def _report(folder: Path, parts: Sequence[Part], report: dict[str, Any], remarks: Sequence[str]) -> dict[str, Any]:
    """Return what the reports of the parts add to that of the merged campaign."""
    before = [_report_of(part) for part in parts]
    found: dict[str, Any] = {
        name: list(dict.fromkeys([*report[name], *(line for old in before for line in old.get(name, []))]))
        for name in LISTS
    }
    found["warnings"] += remarks
    with contextlib.closing(LedgerReader(folder, thorough=False)) as ledger:
        mixed = sum(1 for _ in ledger.accounts("note LIKE ?", (f"%{MIXED}%",)))
    if mixed:
        found["warnings"].append(
            f"{mixed} channel(s) and chunk(s): {MIXED}; xcorr run --refresh computes them of the data that are there"
        )
    kernels = sorted({part.facts["kernel"] for part in parts})
    if len(kernels) > 1:
        found["warnings"].append(f"the campaigns were made with {' and with '.join(kernels)}; last bits may differ")
    return found | {"merged": [str(part.folder) for part in parts]}
