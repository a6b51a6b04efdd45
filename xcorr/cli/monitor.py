"""Velocity changes: ``xcorr monitor``."""

from __future__ import annotations

from pathlib import Path

import click

from xcorr.cli.measuring import led, measuring_options, tables_of, tell_done, with_run


@click.command()
@measuring_options("monitor")
def monitor(
    campaign: Path, config: Path | None, mapping: str | None, workers: int | None, assignments: tuple[str, ...]
) -> None:
    """Measure velocity changes (dv/v) of the series of a campaign, and write them to monitor.h5.

    What is measured is in [[monitor]] tables of the settings; `xcorr init` shows all keys. Repeat the command after new
    data have come: with reference = "period" or "rolling" only the new pieces are measured.
    """
    from xcorr.campaign.monitor import monitor as measure
    from xcorr.results.monitoring import tallies

    plain = tables_of(config, "monitor")

    def work() -> int:
        done = measure(campaign, with_run(assignments, mapping, workers), plain)
        tell_done(done, f", {done.pieces} piece(s) measured")
        for line in tallies(done.path) if done.tables else ():
            click.echo(line)
        return 0

    led(campaign, mapping, work)
