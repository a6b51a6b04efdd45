"""Makes ``monitor.h5``: velocity changes of a campaign's series."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xcorr.campaign.monitor_plan import MonitorPlan, monitor_plan
from xcorr.campaign.stack import circumstances, mapping_options, series_of_campaign, stack_campaign
from xcorr.campaign.workflows import chained
from xcorr.core import WorkflowGraph
from xcorr.mappings import run
from xcorr.network.survey import survey_of
from xcorr.observers.published import Publish, Published, publishing
from xcorr.pes import MeasureRows, MonitorSource
from xcorr.pes.monitoring.monitor_file import NAME, PARTS
from xcorr.pes.storing.parts import parts_there, remove_parts
from xcorr.provenance.runs import Run, recorded
from xcorr.results import Results
from xcorr.settings import Settings, SettingsError
from xcorr.settings.recipe import Recipe
from xcorr.settings.tables import Monitor
from xcorr.settings.toml import build, override
from xcorr.store import folder as folders
from xcorr.store.derived import WriteMarkedMonitor
from xcorr.store.tables import pair_table

SECTIONS = ("monitor", "run")  # whose settings may be new


@dataclasses.dataclass(frozen=True)
class Monitored:
    """The file of velocity changes, and how many measurements of how many pieces were made now."""

    path: Path
    tables: int
    pieces: int
    ranges: int
    resumed: int


def monitor(folder: Path, assignments: Sequence[str] = (), plain: dict[str, object] | None = None) -> Monitored:
    """Measure velocity changes of the series of a campaign; only what is new is measured.

    ``plain`` has tables ``monitor`` of a settings file that replace those of the campaign; ``assignments`` are new
    values of settings of the sections ``monitor`` and ``run``. Without any table there is one measurement with
    defaults. Raises SettingsError for settings that cannot be, CampaignError where there are no series.
    """
    folder = folder.absolute()
    settings = _settings(folder, assignments, plain or {})
    with series_of_campaign(folder, settings, "measure") as (ledger, roster):
        found, recipe = survey_of(roster, settings), Recipe(settings)
        with (
            publishing(folder, settings.run.mapping, ledger.counts) as published,
            recorded(folder, circumstances(settings)) as record,
        ):
            stack_campaign(folder, recipe, found, pair_table(found), ledger, record, published=published)
            with Results(folder) as results:
                plan = monitor_plan(folder, recipe, found, results, ledger)
            folders.freeze_settings(folder, settings)  # only now that they are known to be possible
            if plan is None:
                remove_parts(folder / PARTS)
                return Monitored(folder / NAME, 0, 0, 0, 0)
            return _measure(folder, recipe, plan, record, published)


def _measure(folder: Path, recipe: Recipe, plan: MonitorPlan, record: Run | None, published: Published) -> Monitored:
    """Run the workflow for all ranges of rows that an earlier run has not measured."""
    there = parts_there(folder / PARTS, plan.tables.key)
    remove_parts(folder / PARTS, besides=[plan.tables.key])
    left = tuple(r for r in plan.requests if r.first_row not in there)
    graph = _workflow(folder, recipe, dataclasses.replace(plan, requests=left))
    watch = [] if record is None else record.observers(graph)
    watch.append(Publish(published, "monitoring", {"MeasureRows": len(left)}))
    how = recipe.settings.run
    run(graph, None, how.mapping, how.workers, watch, mapping_options(recipe.settings))
    pieces = max((len(job.wanted) for job in plan.jobs), default=0)
    return Monitored(folder / NAME, len(plan.jobs), pieces, len(plan.requests), len(plan.requests) - len(left))


def _settings(folder: Path, assignments: Sequence[str], plain: dict[str, object]) -> Settings:
    old = folders.frozen_settings(folder)
    unknown = [a for a in assignments if a.partition(".")[0].strip() not in SECTIONS]
    if unknown:
        raise SettingsError(f"--set {unknown[0]}: only settings of {' and '.join(SECTIONS)} can be new here")
    given = {**old.as_dict(), **({"monitor": plain["monitor"]} if "monitor" in plain else {})}
    settings = build(override(given, assignments))
    return settings if settings.monitor else dataclasses.replace(settings, monitor=(Monitor(),))


def _workflow(folder: Path, recipe: Recipe, plan: MonitorPlan) -> WorkflowGraph:
    """Return the workflow from shards to ``monitor.h5``."""
    pieces = plan.tables.pieces
    times = np.stack([pieces["start_ns"], pieces["end_ns"]], axis=1)
    write = WriteMarkedMonitor(str(folder), plan.tables)
    write.name = "WriteMonitor"
    rate, substacks = recipe.settings.condition.rate_hz, len(recipe.substacks)
    measure = MeasureRows(str(folder), plan.jobs, rate, recipe.max_lag, times, substacks)
    return chained(MonitorSource(plan.requests), measure, write)
