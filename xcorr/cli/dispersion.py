"""Phase and group velocities: ``xcorr dispersion``."""

from __future__ import annotations

from pathlib import Path

import click

from xcorr.cli.measuring import led, measuring_options, tables_of, tell_done, with_run
from xcorr.cli.options import OPTIONAL_PATH


@click.command()
@measuring_options("dispersion")
@click.option(
    "--map",
    "period",
    type=click.FloatRange(min=0, min_open=True),
    metavar="PERIOD",
    help="Then draw a first map at this period (s).",
)
@click.option("--measurement", default="", help="--map: which one. Default: the first.")
@click.option("--cell", "cell_km", type=click.FloatRange(min=0.001), help="--map: size of a cell (km).")
@click.option("--velocity-type", type=click.Choice(["phase", "group"]), default="phase", help="--map: which velocity.")
@click.option("--components", default="", help="--map: component pair. Default: ZZ.")
@click.option("-o", "--output", type=OPTIONAL_PATH, help="--map: picture. Default: in the campaign.")
def dispersion(
    campaign: Path,
    config: Path | None,
    mapping: str | None,
    workers: int | None,
    assignments: tuple[str, ...],
    period: float | None,
    measurement: str,
    cell_km: float | None,
    velocity_type: str,
    components: str,
    output: Path | None,
) -> None:
    """Measure phase and group velocities by period on the stacks of a campaign, and write them to dispersion.h5.

    The curve of the whole network comes first. It tells by how many cycles the phase of each pair has turned. What is
    measured is in [[dispersion]] tables of the settings; docs/dispersion.md lists their keys.
    """
    from xcorr.campaign.dispersion import dispersion as measure
    from xcorr.results.dispersion import tallies

    plain = tables_of(config, "dispersion")

    def work() -> int:
        done = measure(campaign, with_run(assignments, mapping, workers), plain)
        tell_done(done, f" of {done.pairs} pair(s)")
        for line in tallies(done.path) if done.tables or period is None else ():
            click.echo(line)
        if period is not None:
            click.echo(_map(campaign, period, measurement, cell_km, velocity_type, components, output))
        return 0

    led(campaign, mapping, work)


def _map(
    campaign: Path,
    period: float,
    name: str,
    cell_km: float | None,
    velocity: str,
    components: str,
    output: Path | None,
) -> str:
    """Draw a map, and return what was written."""
    from xcorr.results import Results, figures
    from xcorr.results.velocity_maps import map_of

    with Results(campaign) as results:
        found = map_of(results, period, name, components, velocity, cell_km)
    called = f"map_{found.measurement}_{found.components}_{velocity}_{found.period_s:.3g}s.png"
    target = output or campaign / called
    figures.save(figures.period_map(found), target)
    return f"wrote {target}"
