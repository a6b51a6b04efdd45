"""Phase and group velocities: ``xcorr dispersion``."""

from __future__ import annotations

from pathlib import Path

import click

from xcorr.cli.options import EXISTING, EXISTING_FILE, OPTIONAL_PATH


@click.command()
@click.argument("campaign", type=EXISTING)
@click.option("-c", "--config", type=EXISTING_FILE, help="Settings file whose [[dispersion]] tables are measured.")
@click.option("-m", "--mapping", help="Mapping: sequential, threads, processes, mpi or storm.")
@click.option("-n", "--workers", type=click.IntRange(min=1), help="Number of workers.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="dispersion.KEY=VALUE",
    help="Set a key of all measurements, or with dispersion.NAME.KEY of one, in TOML.",
)
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
    import sys

    from xcorr.campaign.dispersion import dispersion as measure
    from xcorr.mappings import engine
    from xcorr.results.dispersion import tallies
    from xcorr.settings import SettingsError
    from xcorr.settings.toml import load
    from xcorr.store.folder import frozen_settings

    given = list(assignments)
    given += [f"run.mapping={mapping}"] if mapping else []
    given += [f"run.workers={workers}"] if workers else []
    plain = load(config) if config else None
    if plain is not None and not plain.get("dispersion"):
        raise SettingsError(f"{config}: has no [[dispersion]] tables, so there is nothing to measure")

    def work() -> int:
        done = measure(campaign, given, plain)
        if not done.tables:
            click.echo(f"{done.path} is up to date")
        else:
            resumed = f"; {done.resumed} of {done.ranges} ranges were there already" if done.resumed else ""
            click.echo(f"{done.path}: {done.tables} measurement(s) of {done.pairs} pair(s){resumed}")
        if done.tables or period is None:
            for line in tallies(done.path):
                click.echo(line)
        if period is not None:
            click.echo(_map(campaign, period, measurement, cell_km, velocity_type, components, output))
        return 0

    sys.exit(engine(mapping or frozen_settings(campaign).run.mapping).lead(work))


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
