"""What commands that measure on the correlations of a campaign have in common: settings, stacks, workflows."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from xcorr.campaign.running import run_workflow
from xcorr.campaign.stack import circumstances, series_of_campaign, stack_campaign
from xcorr.core import WorkflowGraph
from xcorr.network.survey import Survey, survey_of
from xcorr.observers.published import Publish, Published, publishing
from xcorr.provenance.runs import Run, recorded
from xcorr.settings import Settings, SettingsError
from xcorr.settings.recipe import Recipe
from xcorr.settings.toml import build, override
from xcorr.store import folder as folders
from xcorr.store.ledger import Ledger
from xcorr.store.tables import pair_table


def settings_of_command(
    folder: Path, section: str, assignments: Sequence[str], plain: Mapping[str, object] | None
) -> Settings:
    """Return the settings of a campaign with tables ``section`` of ``plain`` in place of its own, and assignments.

    Raises SettingsError for an assignment to another section than ``section`` and ``run``.
    """
    sections = (section, "run")
    unknown = [a for a in assignments if a.partition(".")[0].strip() not in sections]
    if unknown:
        raise SettingsError(f"--set {unknown[0]}: only settings of {' and '.join(sections)} can be new here")
    given = folders.frozen_settings(folder).as_dict()
    if plain and section in plain:
        given[section] = plain[section]
    return build(override(given, assignments))


@dataclasses.dataclass(frozen=True)
class Measured:
    """The file of a command, how many measurements were made now, in how many ranges of rows, and those of before."""

    path: Path
    tables: int
    ranges: int
    resumed: int


@dataclasses.dataclass(frozen=True)
class Measuring:
    """A campaign that is locked, and whose stacks are up to date."""

    folder: Path
    recipe: Recipe
    found: Survey
    ledger: Ledger
    record: Run | None
    published: Published

    def run(self, graph: WorkflowGraph, what: str, counts: Mapping[str, int]) -> None:
        """Run a workflow, recorded and shown as ``what``; ``counts`` are the items that elements get."""
        watch = [] if self.record is None else self.record.observers(graph)
        watch.append(Publish(self.published, what, counts))
        run_workflow(self.folder, self.recipe.settings, graph, watch)


@contextlib.contextmanager
def measuring(folder: Path, settings: Settings, needs_series: bool = True) -> Iterator[Measuring]:
    """Lock a campaign and bring its stacks up to date. Raises CampaignError where series or stacks are lacking."""
    with series_of_campaign(folder, settings, "measure", needs_series) as (ledger, roster):
        found, recipe = survey_of(roster, settings), Recipe(settings)
        with (
            publishing(folder, settings.run.mapping, ledger.counts) as published,
            recorded(folder, circumstances(settings)) as record,
        ):
            stack_campaign(folder, recipe, found, pair_table(found), ledger, record, published=published)
            yield Measuring(folder, recipe, found, ledger, record, published)
