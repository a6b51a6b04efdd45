"""Velocity changes: ``xcorr monitor``."""

from __future__ import annotations

from pathlib import Path

import click

from xcorr.cli.options import EXISTING, EXISTING_FILE


@click.command()
@click.argument("campaign", type=EXISTING)
@click.option("-c", "--config", type=EXISTING_FILE, help="Settings file whose [[monitor]] tables are measured.")
@click.option("-m", "--mapping", help="Mapping: sequential, threads, processes, mpi or storm.")
@click.option("-n", "--workers", type=click.IntRange(min=1), help="Number of workers.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="monitor.KEY=VALUE",
    help="Set a key of all measurements, or with monitor.NAME.KEY of one, in TOML.",
)
def monitor(
    campaign: Path, config: Path | None, mapping: str | None, workers: int | None, assignments: tuple[str, ...]
) -> None:
    """Measure velocity changes (dv/v) of the series of a campaign, and write them to monitor.h5.

    What is measured is in [[monitor]] tables of the settings; `xcorr init` shows all keys. Repeat the command after new
    data have come: with reference = "period" or "rolling" only the new pieces are measured.
    """
    import sys

    from xcorr.campaign.monitor import monitor as measure
    from xcorr.mappings import engine
    from xcorr.results.monitoring import tallies
    from xcorr.settings import SettingsError
    from xcorr.settings.toml import load
    from xcorr.store.folder import frozen_settings

    given = list(assignments)
    given += [f"run.mapping={mapping}"] if mapping else []
    given += [f"run.workers={workers}"] if workers else []
    plain = load(config) if config else None
    if plain is not None and not plain.get("monitor"):
        raise SettingsError(f"{config}: has no [[monitor]] tables, so there is nothing to measure")

    def work() -> int:
        done = measure(campaign, given, plain)
        if not done.tables:
            click.echo(f"{done.path} is up to date")
            return 0
        resumed = f"; {done.resumed} of {done.ranges} ranges were there already" if done.resumed else ""
        click.echo(f"{done.path}: {done.tables} measurement(s), {done.pieces} piece(s) measured{resumed}")
        for line in tallies(done.path):
            click.echo(line)
        return 0

    sys.exit(engine(mapping or frozen_settings(campaign).run.mapping).lead(work))
