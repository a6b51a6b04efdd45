"""Makes ``monitor.h5``: velocity changes of a campaign's series."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xcorr.campaign.measuring import Measured, Measuring, measuring, settings_of_command
from xcorr.campaign.monitor_plan import MonitorPlan, monitor_plan
from xcorr.campaign.workflows import chained
from xcorr.core import WorkflowGraph
from xcorr.pes import MeasureRows, MonitorSource
from xcorr.pes.monitoring.monitor_file import NAME, PARTS
from xcorr.pes.storing.parts import parts_there, remove_parts
from xcorr.results import Results
from xcorr.settings.recipe import Recipe
from xcorr.settings.tables import Monitor
from xcorr.store import folder as folders
from xcorr.store.derived import WriteMarkedMonitor


@dataclasses.dataclass(frozen=True)
class Monitored(Measured):
    """What was measured, and of how many pieces."""

    pieces: int


def monitor(folder: Path, assignments: Sequence[str] = (), plain: dict[str, object] | None = None) -> Monitored:
    """Measure velocity changes of the series of a campaign; only what is new is measured.

    ``plain`` has tables ``monitor`` of a settings file that replace those of the campaign; ``assignments`` are new
    values of settings of the sections ``monitor`` and ``run``. Without any table there is one measurement with
    defaults. Raises SettingsError for settings that cannot be, CampaignError where there are no series.
    """
    folder = folder.absolute()
    settings = settings_of_command(folder, "monitor", assignments, plain)
    if not settings.monitor:
        settings = dataclasses.replace(settings, monitor=(Monitor(),))
    with measuring(folder, settings) as of:
        with Results(folder) as results:
            plan = monitor_plan(folder, of.recipe, of.found, results, of.ledger)
        folders.freeze_settings(folder, settings)  # only now that they are known to be possible
        if plan is None:
            remove_parts(folder / PARTS)
            return Monitored(folder / NAME, 0, 0, 0, 0)
        return _measure(folder, of, plan)


def _measure(folder: Path, of: Measuring, plan: MonitorPlan) -> Monitored:
    """Run the workflow for all ranges of rows that an earlier run has not measured."""
    there = parts_there(folder / PARTS, plan.tables.key)
    remove_parts(folder / PARTS, besides=[plan.tables.key])
    left = tuple(r for r in plan.requests if r.first_row not in there)
    graph = _workflow(folder, of.recipe, dataclasses.replace(plan, requests=left))
    of.run(graph, "monitoring", {"MeasureRows": len(left)})
    pieces = max((len(job.wanted) for job in plan.jobs), default=0)
    return Monitored(folder / NAME, len(plan.jobs), len(plan.requests), len(plan.requests) - len(left), pieces)


def _workflow(folder: Path, recipe: Recipe, plan: MonitorPlan) -> WorkflowGraph:
    """Return the workflow from shards to ``monitor.h5``."""
    pieces = plan.tables.pieces
    times = np.stack([pieces["start_ns"], pieces["end_ns"]], axis=1)
    write = WriteMarkedMonitor(str(folder), plan.tables)
    write.name = "WriteMonitor"
    rate, substacks = recipe.settings.condition.rate_hz, len(recipe.substacks)
    measure = MeasureRows(str(folder), plan.jobs, rate, recipe.max_lag, times, substacks)
    return chained(MonitorSource(plan.requests), measure, write)
