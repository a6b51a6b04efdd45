"""Makes ``dispersion.h5``: phase and group velocities from a campaign's stacks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from xcorr.campaign.dispersion_plan import DispersionPlan, dispersion_plan
from xcorr.campaign.measuring import Measured, Measuring, measuring, settings_of_command
from xcorr.campaign.workflows import chained
from xcorr.pes import DispersionSource, MeasureDispersion, SumSpectra, WriteSpectra
from xcorr.pes.dispersion.dispersion import networks
from xcorr.pes.dispersion.dispersion_file import NAME, PARTS
from xcorr.pes.storing.parts import parts_there, remove_parts
from xcorr.pes.storing.read_series import RowsRequest
from xcorr.results import Results
from xcorr.settings.tables import Dispersion
from xcorr.store import folder as folders
from xcorr.store.derived import WriteMarkedDispersion


@dataclasses.dataclass(frozen=True)
class Dispersed(Measured):
    """What was measured, and of how many pairs."""

    pairs: int


def dispersion(folder: Path, assignments: Sequence[str] = (), plain: dict[str, object] | None = None) -> Dispersed:
    """Measure phase and group velocities on the stacks of a campaign; what is up to date is kept.

    ``plain`` has tables ``dispersion`` of a settings file that replace those of the campaign; ``assignments`` are new
    values of settings of the sections ``dispersion`` and ``run``. Without any table there is one measurement with
    defaults. Raises SettingsError for settings that cannot be, CampaignError where there are no stacks.
    """
    folder = folder.absolute()
    settings = settings_of_command(folder, "dispersion", assignments, plain)
    tables = settings.dispersion or (Dispersion(),)
    placed = (dataclasses.replace(t, curve=str(Path(t.curve).absolute())) if t.curve else t for t in tables)
    settings = dataclasses.replace(settings, dispersion=tuple(placed))
    with measuring(folder, settings, needs_series=False) as of:
        with Results(folder) as results:
            plan = dispersion_plan(folder, of.recipe, of.found, results, of.ledger)
        folders.freeze_settings(folder, settings)  # only now that they are known to be possible
        if plan is None:
            remove_parts(folder / PARTS)
            return Dispersed(folder / NAME, 0, 0, 0, 0)
        return _measure(folder, of, plan)


def _measure(folder: Path, of: Measuring, plan: DispersionPlan) -> Dispersed:
    """Run both workflows, each for the ranges of rows that an earlier run has not done."""
    keys = (f"{plan.key}-spectra", plan.key)
    remove_parts(folder / PARTS, besides=keys)
    rate, max_lag = of.recipe.settings.condition.rate_hz, of.recipe.max_lag

    def left(key: str) -> tuple[RowsRequest, ...]:
        there = parts_there(folder / PARTS, key)
        return tuple(r for r in plan.requests if r.first_row not in there)

    if wanted := left(keys[0]):
        first = SumSpectra(str(folder), plan.jobs, rate, max_lag), WriteSpectra(str(folder), keys[0])
        of.run(chained(DispersionSource(wanted), *first), "spectra", {"SumSpectra": len(wanted)})
    jobs = networks(folder, keys[0], plan.jobs, plan.curves, rate, max_lag)
    wanted = left(keys[1])
    write = WriteMarkedDispersion(str(folder), plan.tables(jobs))
    write.name = "WriteDispersion"
    measure = MeasureDispersion(str(folder), jobs, rate, max_lag, plan.pieces, len(of.recipe.substacks))
    of.run(chained(DispersionSource(wanted), measure, write), "dispersion", {"MeasureDispersion": len(wanted)})
    pairs, resumed = max(len(job.rows) for job in plan.jobs), len(plan.requests) - len(wanted)
    return Dispersed(folder / NAME, len(jobs), len(plan.requests), resumed, pairs)
