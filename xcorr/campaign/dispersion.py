"""Makes ``dispersion.h5``: phase and group velocities from a campaign's stacks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from xcorr.campaign.dispersion_plan import DispersionPlan, dispersion_plan
from xcorr.campaign.stack import circumstances, mapping_options, series_of_campaign, stack_campaign
from xcorr.campaign.workflows import chained
from xcorr.core import WorkflowGraph
from xcorr.mappings import run
from xcorr.network.survey import survey_of
from xcorr.observers.published import Publish, Published, publishing
from xcorr.pes import DispersionSource, MeasureDispersion, SumSpectra, WriteSpectra
from xcorr.pes.dispersion.dispersion import networks
from xcorr.pes.dispersion.dispersion_file import NAME, PARTS
from xcorr.pes.storing.parts import parts_there, remove_parts
from xcorr.provenance.runs import Run, recorded
from xcorr.results import Results
from xcorr.settings import Settings, SettingsError
from xcorr.settings.recipe import Recipe
from xcorr.settings.tables import Dispersion
from xcorr.settings.toml import build, override
from xcorr.store import folder as folders
from xcorr.store.derived import WriteMarkedDispersion
from xcorr.store.tables import pair_table

SECTIONS = ("dispersion", "run")  # whose settings may be new


@dataclasses.dataclass(frozen=True)
class Dispersed:
    """The file of velocities, and how many measurements of how many pairs were made now."""

    path: Path
    tables: int
    pairs: int
    ranges: int
    resumed: int


def dispersion(folder: Path, assignments: Sequence[str] = (), plain: dict[str, object] | None = None) -> Dispersed:
    """Measure phase and group velocities on the stacks of a campaign; what is up to date is kept.

    ``plain`` has tables ``dispersion`` of a settings file that replace those of the campaign; ``assignments`` are new
    values of settings of the sections ``dispersion`` and ``run``. Without any table there is one measurement with
    defaults. Raises SettingsError for settings that cannot be, CampaignError where there are no stacks.
    """
    folder = folder.absolute()
    settings = _settings(folder, assignments, plain or {})
    with series_of_campaign(folder, settings, "measure", needs_series=False) as (ledger, roster):
        found, recipe = survey_of(roster, settings), Recipe(settings)
        with (
            publishing(folder, settings.run.mapping, ledger.counts) as published,
            recorded(folder, circumstances(settings)) as record,
        ):
            stack_campaign(folder, recipe, found, pair_table(found), ledger, record, published=published)
            with Results(folder) as results:
                plan = dispersion_plan(folder, recipe, found, results, ledger)
            folders.freeze_settings(folder, settings)  # only now that they are known to be possible
            if plan is None:
                remove_parts(folder / PARTS)
                return Dispersed(folder / NAME, 0, 0, 0, 0)
            return _measure(folder, recipe, plan, record, published)


def _measure(folder: Path, recipe: Recipe, plan: DispersionPlan, record: Run | None, published: Published) -> Dispersed:
    """Run both workflows, each for the ranges of rows that an earlier run has not done."""
    keys = (f"{plan.key}-spectra", plan.key)
    remove_parts(folder / PARTS, besides=keys)
    rate, max_lag = recipe.settings.condition.rate_hz, recipe.max_lag
    resumed = 0

    def work(graph: WorkflowGraph, what: str, element: str, count: int) -> None:
        watch = [] if record is None else record.observers(graph)
        watch.append(Publish(published, what, {element: count}))
        how = recipe.settings.run
        run(graph, None, how.mapping, how.workers, watch, mapping_options(recipe.settings))

    there = parts_there(folder / PARTS, keys[0])
    left = tuple(r for r in plan.requests if r.first_row not in there)
    if left:
        first = SumSpectra(str(folder), plan.jobs, rate, max_lag), WriteSpectra(str(folder), keys[0])
        work(chained(DispersionSource(left), *first), "spectra", "SumSpectra", len(left))
    jobs = networks(folder, keys[0], plan.jobs, plan.curves, rate, max_lag)
    there = parts_there(folder / PARTS, keys[1])
    left, resumed = tuple(r for r in plan.requests if r.first_row not in there), len(there)
    write = WriteMarkedDispersion(str(folder), plan.tables(jobs))
    write.name = "WriteDispersion"
    measure = MeasureDispersion(str(folder), jobs, rate, max_lag, plan.pieces, len(recipe.substacks))
    work(chained(DispersionSource(left), measure, write), "dispersion", "MeasureDispersion", len(left))
    pairs = max(len(job.rows) for job in plan.jobs)
    return Dispersed(folder / NAME, len(jobs), pairs, len(plan.requests), resumed)


def _settings(folder: Path, assignments: Sequence[str], plain: dict[str, object]) -> Settings:
    old = folders.frozen_settings(folder)
    unknown = [a for a in assignments if a.partition(".")[0].strip() not in SECTIONS]
    if unknown:
        raise SettingsError(f"--set {unknown[0]}: only settings of {' and '.join(SECTIONS)} can be new here")
    given = {**old.as_dict(), **({"dispersion": plain["dispersion"]} if "dispersion" in plain else {})}
    settings = build(override(given, assignments))
    tables = settings.dispersion or (Dispersion(),)
    placed = (dataclasses.replace(t, curve=str(Path(t.curve).absolute())) if t.curve else t for t in tables)
    return dataclasses.replace(settings, dispersion=tuple(placed))
