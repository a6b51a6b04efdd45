"""Archives: ``xcorr archive``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from xcorr.cli.options import EXISTING, installed_name, selection_of, selection_options, stack_options


@click.command()
@click.argument("campaign", type=EXISTING)
@click.argument("destination")
@click.option("--kept", is_flag=True, help="Archive the items that [[keep]] rules have kept, not correlations.")
@click.option(
    "--layout", type=click.Choice(["folder", "sds", "rocrate"]), default="folder", show_default=True,
    help="sds: kept waveforms as an SDS tree. rocrate: a Workflow Run RO-Crate.",
)  # fmt: skip
@click.option("--format", "kind", default="sac", show_default=True, callback=installed_name("exports"))
@stack_options
@selection_options
@click.option("--reverse", is_flag=True, help="Positive lag: from station 2 to 1.")
def archive(
    campaign: Path,
    destination: str,
    kept: bool,
    layout: str,
    kind: str,
    which: str | None,
    band: str,
    components: str | None,
    insist: bool,
    reverse: bool,
    **selected: Any,
) -> None:
    """Copy what is selected, or was kept, to DESTINATION: a folder, or s3://bucket/prefix. Run again, it resumes."""
    from xcorr.campaign.archive import What
    from xcorr.campaign.archive import archive as write
    from xcorr.results import Results

    if kept:
        _require_no_choice()
        what = What(kept=True)
    else:
        with Results(campaign) as found:
            stack = which or found.main_stack
            chosen = components or ("ZZ" if "ZZ" in found.components else found.components[0])
        what = What(False, kind, chosen, stack, band, selection_of(**selected), reverse, insist)
    done = write(campaign, destination, layout, what)
    click.echo(f"{destination}: {done.files} file(s), {done.bytes / 1e6:.1f} MB; {done.there} were there already")
    if done.elsewhere:
        click.echo(f"{done.elsewhere} item(s) are kept at other addresses, and not copied")
    if not done.recorded:
        click.echo(f"note: the provenance of {campaign} could not record this archive")


def _require_no_choice() -> None:
    """Raise UsageError if an option is given that chooses correlations, together with --kept."""
    context = click.get_current_context()
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if source is ParameterSource.COMMANDLINE and option.name not in ("campaign", "destination", "kept", "layout"):
            raise click.UsageError(f"{option.opts[0]} chooses correlations; --kept archives all items that were kept")
