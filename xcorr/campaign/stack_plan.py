"""Decides what the stack pass makes, what it keeps, and which shards are in the running sums already."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from xcorr.pes.stacking.result_file import NAME as RESULTS
from xcorr.pes.stacking.sums import keeps_sums
from xcorr.pes.stacking.sums_file import SUMS, summed_components, summed_shards
from xcorr.pes.storing.shards import digest_of
from xcorr.settings import Settings
from xcorr.settings.recipe import Recipe
from xcorr.store.derived import Stacks, is_ours, read_stacks, unreadable
from xcorr.store.folder import CampaignError
from xcorr.store.ledger import Ledger
from xcorr.store.ledger_schema import Shard

Strip = tuple[int, int]  # generation and number of a strip


@dataclasses.dataclass(frozen=True)
class StackPlan:
    """What the stack pass makes.

    ``methods`` are made; with ``only_links`` nothing is, because only the series have moved. ``kept`` are copied from
    the present results; its values say whether they then lack new data. ``ordered`` are all shards, those of a strip in
    the order in which they are added to the sums. The first ``summed`` [strip] of a strip are in the sums already.
    ``components`` are the component pairs of all stacks.
    """

    methods: tuple[str, ...]
    kept: dict[str, bool]
    ordered: tuple[Shard, ...]
    summed: dict[Strip, int]
    components: tuple[str, ...]
    only_links: bool = False

    def about(self, settings: Settings, pieces: int) -> dict[str, dict[str, Any]]:
        """Return, for each method that is made, what its stacks are made from and how."""
        digest = digest_of((s.name, s.id) for s in self.ordered)
        return {
            m: {"shards_digest": digest, "pieces": pieces, "parameters": parameters(settings, m)} for m in self.methods
        }


def parameters(settings: Settings, method: str) -> str:
    """Return the parameters of a stack method as text: the fields of Stacking that begin with its name."""
    fields = dataclasses.asdict(Recipe(settings).stacking)
    return json.dumps({k: v for k, v in fields.items() if k.startswith(method.replace("-", "_") + "_")})


def stack_plan(
    folder: Path, settings: Settings, ledger: Ledger, rows: int, everything: bool, again: bool = False
) -> StackPlan | None:
    """Return what the stack pass has to do, or None if it has nothing to do.

    With ``everything``, the stacks asked for are made from nothing; with ``again``, also all others that there are.

    Stacks that ``xcorr stack`` made stay, whatever the methods of this run are. Raises CampaignError if series were
    removed and the sums, which are then the only way to add data, are gone.
    """
    shards = ledger.shards()
    digest, asked = digest_of((s.name, s.id) for s in shards), settings.stack.methods
    ours = is_ours(ledger, folder / RESULTS)
    # other results that can be read, such as older ones that were put back, may have stacks that nothing else has
    old = read_stacks(folder) if ours or ((folder / RESULTS).exists() and not unreadable(folder / RESULTS)) else None
    there = old.of if old else {}
    made_before = json.loads(ledger.fact("stacks") or "[]")  # of results that are damaged now, all are made again
    readable, only_links = all(s.kept for s in shards), False
    stored = (*(old.components if old else ()), *json.loads(ledger.fact("stacked components") or "[]"))
    components = tuple(dict.fromkeys((*settings.outputs, *stored, *settings.stack.components)))
    lost = [c for c in components if old and c not in old.components]
    if lost and shards and not readable:
        raise CampaignError(
            f"{folder}: there are no stacks of {', '.join(lost)}, and the series were not kept (stack.keep_series = "
            "false); choose another folder with -o"
        )
    is_new = readable and bool(lost)
    if everything or is_new:
        methods = tuple(dict.fromkeys((*asked, *there, *made_before))) if again or not everything else asked
        everything = True
    elif ours and old and _is_current(old, digest, rows, asked, settings):
        if old.paths and old.paths != {s.path for s in shards}:
            methods, only_links = (), True
        elif keeps_sums(old.pieces, settings.stack.keep_series) and readable and not is_ours(ledger, folder / SUMS):
            methods = tuple(m for m in asked if m == "linear") or asked  # the sums are made again
        else:
            return None
    elif old and shards and not any(s.kept for s in shards):
        return None  # all is in the stacks, and no series are left
    else:
        new = [m for m in asked if m not in there or there[m].get("parameters") != parameters(settings, m)]
        new += [m for m in made_before if m not in there]
        every = dict.fromkeys((*asked, *there, *made_before))
        methods = tuple(m for m in every if m == "linear" or (m in new and readable))
    kept = {m: about.get("shards_digest") != digest for m, about in there.items() if m not in methods}
    if only_links:
        return StackPlan((), kept, tuple(shards), {}, components, only_links)
    ordered, summed = _in_sums(folder, ledger, shards, readable)
    if again or (any(summed.values()) and not set(components) <= summed_components(folder / SUMS)):
        summed = {}  # R and T in the sums are of the old azimuths, or there are none
    return StackPlan(methods, {} if everything else kept, ordered, summed, components)


def _is_current(old: Stacks, digest: str, rows: int, asked: tuple[str, ...], settings: Settings) -> bool:
    """Return whether the results are of all shards and pairs, and have the stacks that are asked for."""
    if (old.shards_digest, old.rows) != (digest, rows):
        return False
    return all(m in old.of and old.of[m].get("parameters") == parameters(settings, m) for m in asked)


def _in_sums(
    folder: Path, ledger: Ledger, shards: list[Shard], readable: bool
) -> tuple[tuple[Shard, ...], dict[Strip, int]]:
    """Return the shards in the order of the sums, and how many of each strip are in them.

    Sums are added in the order of time, so that they have the same bits however a campaign grew. Where series were
    removed, later additions come last, whatever their time.
    """
    known: dict[Strip, list[tuple[str, str]]] = {}
    by_name = {s.name: (s.generation, s.strip) for s in shards}
    if is_ours(ledger, folder / SUMS):
        for name, key in summed_shards(folder / SUMS):
            known.setdefault(by_name.get(name, (-1, -1)), []).append((name, key))
    ordered: list[Shard] = []
    summed: dict[Strip, int] = {}
    for strip in sorted(set(by_name.values())):
        of_strip = [s for s in shards if (s.generation, s.strip) == strip]
        inside = known.get(strip, [])
        place = {shard: k for k, shard in enumerate(inside)}
        if not readable and not all(s.kept or (s.name, s.id) in place for s in of_strip):
            raise CampaignError(
                f"{folder}: the series were not kept (stack.keep_series = false), and {SUMS}, to which new data are "
                "added, is missing, damaged, or of other shards; choose another folder with -o"
            )
        if not readable:
            of_strip.sort(key=lambda s: place.get((s.name, s.id), len(inside)))
        names = [(s.name, s.id) for s in of_strip]
        if inside and all(s.id for s in of_strip) and names[: len(inside)] == inside:
            summed[strip] = len(inside)
        ordered += of_strip
    return tuple(ordered), summed
