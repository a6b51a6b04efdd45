"""Makes ``xcorr.h5`` from the shards of a campaign: at the end of a run, or again with other stack settings."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.campaign.running import run_workflow
from xcorr.campaign.stack_plan import StackPlan, stack_plan
from xcorr.campaign.workflows import stack_workflow
from xcorr.core import XcorrError
from xcorr.mappings import run
from xcorr.network.foresight import leaves_nothing
from xcorr.network.roster import Roster
from xcorr.network.survey import Survey, survey_of
from xcorr.observers.published import Publish, Published, publishing
from xcorr.pes.process_setup import prepare_process
from xcorr.pes.stacking.result_file import NAME as RESULTS
from xcorr.pes.stacking.result_file import Tables
from xcorr.pes.stacking.stack import StackRequest, stack_requests
from xcorr.pes.stacking.sums import keeps_sums
from xcorr.pes.stacking.sums_file import SUMS
from xcorr.pes.storing.aside import set_aside
from xcorr.pes.storing.read_series import require_filters
from xcorr.pes.storing.shards import name_of
from xcorr.provenance.runs import Circumstances, Run, recorded
from xcorr.settings import Settings, SettingsError
from xcorr.settings.recipe import Recipe
from xcorr.settings.toml import build, override
from xcorr.settings.written import to_toml
from xcorr.store import folder as folders
from xcorr.store.derived import damage, is_ours, settle_all
from xcorr.store.ledger import Ledger
from xcorr.store.lock import CampaignLock
from xcorr.store.reconcile import reconcile
from xcorr.store.software import kernel, software
from xcorr.store.sqlite_files import telling_who_waits
from xcorr.store.tables import pair_table, tables

LITTLE = 16_000_000  # up to so many values of series, stacking takes less time than starting workers


def restack(folder: Path, assignments: Sequence[str] = (), insist: bool = False) -> Path:
    """Make ``xcorr.h5`` again from the shards, without reading waveforms; return its path.

    ``assignments`` are new values of settings of the sections ``stack`` (``stack.methods=[...]``) and ``run``. Other
    settings cannot change. Raises SettingsError for an assignment to another setting, for a limit that leaves nothing,
    and for R and T of a campaign in which they are not those of the ground, unless one ``insists``; CampaignError if
    the folder holds no campaign.
    """
    folder = folder.absolute()
    old = folders.frozen_settings(folder)
    settings = build(override(old.as_dict(), assignments))
    if settings.hash() != old.hash() or _of_inputs(settings) != _of_inputs(old):
        raise SettingsError(
            f"--set {', '.join(assignments)}: only stack settings can be new here, except stack.substack_s; "
            "choose another folder for a new campaign"
        )
    if texts := leaves_nothing(settings):
        raise SettingsError("; ".join(texts))
    turned = [p for p in settings.stack.components if set(p) & set("RT") and p not in old.stack.components]
    if turned and settings.rotation_doubts and not insist:
        raise SettingsError(f"{', '.join(turned)}: {'; '.join(settings.rotation_doubts)}; --insist makes them anyway")
    with series_of_campaign(folder, settings, "stack") as (ledger, roster):
        folders.freeze_settings(folder, settings)
        with (
            publishing(folder, settings.run.mapping, ledger.counts) as published,
            recorded(folder, circumstances(settings)) as record,
        ):
            found, recipe = survey_of(roster, settings), Recipe(settings)
            stack_campaign(folder, recipe, found, pair_table(found), ledger, record, True, published=published)
    return folder / RESULTS


@contextlib.contextmanager
def series_of_campaign(
    folder: Path, settings: Settings, purpose: str, needs_series: bool = True
) -> Iterator[tuple[Ledger, Roster]]:
    """Lock a campaign and give its ledger and stations, to ``purpose`` (a verb) its series, which are all there.

    At the end, without an error, the files that were made are marked as whole. Raises CampaignError if there are no
    series, or not all; series that were not kept are only a reason if ``needs_series``.
    """
    prepare_process()
    with CampaignLock(folder), telling_who_waits(folder):
        folders.remove_leftovers(folder)
        ledger = Ledger(folder, settings.hash(), not settings.stack.keep_series)
        try:
            reconcile(ledger)
            roster = Roster.from_json(ledger.fact("members"))
            if roster is None:
                raise folders.CampaignError(f"{folder} has no shards to {purpose}")
            if needs_series:
                require_series(folder, ledger)
            _require_all(folder, ledger)
            yield ledger, roster
            settle_all(ledger)
            ledger.seal()
        finally:
            ledger.close()


def _of_inputs(settings: Settings) -> dict[str, Any]:
    """Return the settings that stacking must not change: all but the sections ``stack`` and ``run``."""
    return {name: values for name, values in settings.as_dict().items() if name not in ("stack", "run")}


def _require_all(folder: Path, ledger: Ledger) -> None:
    """Raise CampaignError if shards are lacking: new stacks would silently be of less than those there are."""
    import h5py

    there = {s.name for s in ledger.shards()}
    lacking = int(ledger.fact("expected") or 0) - len(there)
    with contextlib.suppress(OSError), h5py.File(folder / RESULTS) as file:  # results that cannot be read say nothing
        lacking = max(lacking, len({name_of(path.decode()) for path in file["shards"]["path"]} - there))
    if lacking > 0:
        raise folders.CampaignError(
            f"{folder}: {lacking} shard(s) are lacking, or were damaged and set aside; repeat xcorr run, which makes "
            "them again, and then stack"
        )


def require_series(folder: Path, ledger: Ledger) -> None:
    """Raise CampaignError if a series of the campaign was not kept, CompressionError if it cannot be read here."""
    shards = ledger.shards()
    if not all(s.kept for s in shards):
        raise folders.CampaignError(
            f"{folder}: the series were not kept (stack.keep_series = false). Nothing can be recomputed or stacked "
            "again; choose another folder with -o"
        )
    for shard in (*shards[:1], *shards[-1:]):  # the compression may have changed once
        require_filters(str(folder), shard.path)


def require_sums(folder: Path, ledger: Ledger) -> None:
    """Raise CampaignError if series were removed, and the sums to which new data are added cannot be read."""
    if not all(s.kept for s in ledger.shards()) and not is_ours(ledger, folder / SUMS):
        raise folders.CampaignError(
            f"{folder}: the series were not kept (stack.keep_series = false), and {SUMS}, to which new data are added, "
            "is missing or damaged; choose another folder with -o"
        )


def circumstances(settings: Settings) -> Circumstances:
    """Return the circumstances of a run that provenance records."""
    how, text = settings.run, to_toml(settings.as_dict())
    of_software = f"{software()}; {kernel()}"
    return Circumstances(settings.provenance.level, how.mapping, how.workers, of_software, settings.hash(), text)


def stack_campaign(
    folder: Path,
    recipe: Recipe,
    found: Survey,
    pairs: np.ndarray,
    ledger: Ledger,
    record: Run | None = None,
    everything: bool = False,
    again: bool = False,
    published: Published | None = None,
) -> None:
    """Bring ``xcorr.h5`` up to date with the shards. Then remove the shards if the series are not to be kept.

    New data are added to the running sums of the linear stacks. The stacks of other methods stay as they are;
    ``everything`` makes those asked for again too, and with ``again`` all that there are. Nothing is done where nothing
    is new. Raises CampaignError if the sums that are needed are gone.
    """
    settings, shards = recipe.settings, ledger.shards()
    plan = stack_plan(folder, settings, ledger, len(pairs), everything or again, again)
    if plan is not None:
        starts = sorted({s.start_ns for s in shards})
        made = tables(recipe, found, pairs, starts, shards)
        made = dataclasses.replace(
            made,
            methods=plan.methods,
            components=plan.components,
            made=plan.about(settings, len(made.pieces)),
            kept=plan.kept,
        )
        if not plan.only_links and keeps_sums(len(made.pieces), settings.stack.keep_series):
            made = dataclasses.replace(made, summed=tuple((s.name, s.id) for s in plan.ordered))
        try:
            _pass(folder, recipe, found, made, plan, record, published)
        except XcorrError as error:
            text = damage(ledger, folder / SUMS) if any(plan.summed.values()) else ""
            if not text:
                raise
            if not settings.stack.keep_series:
                raise folders.CampaignError(
                    f"{folder / SUMS}: {text}; the series were not kept (stack.keep_series = false), so no data can be "
                    "added to these results; choose another folder with -o"
                ) from error
            set_aside(folder / SUMS)  # and make the sums again
            folders.remove_leftovers(folder)
            _pass(folder, recipe, found, made, dataclasses.replace(plan, summed={}), record, published)
        ledger.keep_fact("stacks", json.dumps([*plan.methods, *plan.kept]))
        ledger.keep_fact("stacked components", json.dumps(plan.components))
    if not settings.stack.keep_series:
        ledger.remove_shards()  # only now that xcorr.h5 is complete


def _pass(
    folder: Path,
    recipe: Recipe,
    found: Survey,
    made: Tables,
    plan: StackPlan,
    record: Run | None,
    published: Published | None,
) -> None:
    """Run the stack workflow."""
    settings = recipe.settings
    number = {start: k for k, start in enumerate(sorted({s.start_ns for s in plan.ordered}))}
    requests: list[StackRequest] = []
    for g in () if plan.only_links else found.generations:
        own = [(number[s.start_ns], s.strip, s.path) for s in plan.ordered if s.generation == g.number]
        summed = {strip: count for (generation, strip), count in plan.summed.items() if generation == g.number}
        azimuths, outputs = made.pairs["azimuth_deg"], len(made.components)
        requests += stack_requests(g.layout, len(made.lags_s), own, azimuths, g.first_row, outputs, summed)
    graph = stack_workflow(recipe, tuple(requests), folder, made)
    parallel = (
        bool(requests) and len(made.pieces) * len(made.pairs) * len(made.lags_s) > LITTLE and len(made.pieces) > 1
    )
    watch = [] if record is None else record.observers(graph)
    if published is not None:
        watch.append(Publish(published, "stacking", {"StackRows": len(requests)}))
    if parallel:
        run_workflow(folder, settings, graph, watch)
    else:
        run(graph, observers=watch)
