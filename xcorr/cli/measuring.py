"""What ``xcorr monitor`` and ``xcorr dispersion`` have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xcorr.cli.options import EXISTING, EXISTING_FILE
from xcorr.core import installed

if TYPE_CHECKING:
    from xcorr.campaign.measuring import Measured


def measuring_options(section: str) -> Callable[[Any], Any]:
    """Return a decorator with the campaign, and the options that say what is measured, and how it is run."""
    options = (
        click.argument("campaign", type=EXISTING),
        click.option(
            "-c", "--config", type=EXISTING_FILE, help=f"Settings file whose [[{section}]] tables are measured."
        ),
        click.option("-m", "--mapping", help=f"Mapping: {', '.join(installed.names('mappings'))}."),
        click.option("-n", "--workers", type=click.IntRange(min=1), help="Number of workers."),
        click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar=f"{section}.KEY=VALUE",
            help=f"Set a key of all measurements, or with {section}.NAME.KEY of one, in TOML.",
        ),
    )

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def tables_of(config: Path | None, section: str) -> dict[str, object] | None:
    """Return the settings of a file. Raises SettingsError if it has no tables of the section."""
    from xcorr.settings import SettingsError
    from xcorr.settings.toml import load

    plain = load(config) if config else None
    if plain is not None and not plain.get(section):
        raise SettingsError(f"{config}: has no [[{section}]] tables, so there is nothing to measure")
    return plain


def with_run(assignments: tuple[str, ...], mapping: str | None, workers: int | None) -> list[str]:
    """Return assignments with those of the mapping and the workers."""
    more = [f"run.mapping={mapping}"] if mapping else []
    return [*assignments, *more, *([f"run.workers={workers}"] if workers else [])]


def tell_done(done: Measured, what: str) -> None:
    """Print what was measured now."""
    if not done.tables:
        click.echo(f"{done.path} is up to date")
        return
    resumed = f"; {done.resumed} of {done.ranges} ranges were there already" if done.resumed else ""
    click.echo(f"{done.path}: {done.tables} measurement(s){what}{resumed}")


def led(campaign: Path, mapping: str | None, work: Callable[[], int]) -> None:
    """Do the work on the mapping, which under MPI only rank 0 does, and exit."""
    from xcorr.mappings import engine
    from xcorr.store.folder import frozen_settings

    sys.exit(engine(mapping or frozen_settings(campaign).run.mapping).lead(work))
