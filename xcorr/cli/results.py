"""Results: ``xcorr info``, ``compare`` and ``export``."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xcorr.cli.campaigns import tell
from xcorr.cli.options import EXISTING, OPTIONAL_PATH, selection_of, selection_options, stack_options

if TYPE_CHECKING:
    from xcorr.results import Results


@click.command()
@click.argument("results", type=EXISTING)
@click.option("--accounts", is_flag=True, help="Print what became of every channel in every chunk.")
@click.option("--format", "kind", type=click.Choice(["csv", "json"]), default="csv", help="Format of --accounts.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def info(results: Path, accounts: bool, kind: str, as_json: bool) -> None:
    """Show what a campaign folder or its xcorr.h5 holds."""
    from xcorr.results import Results

    if accounts:
        from xcorr.store.accounts import account_rows, write_csv

        rows = account_rows(results if results.is_dir() else results.parent)
        if as_json or kind == "json":  # a line for each
            for row in rows:
                click.echo(json.dumps(row))
        else:
            write_csv(rows, sys.stdout)
        return
    with Results(results) as found:
        pieces = found.pieces
        facts = {
            "file": str(found.path),
            "stations": len(found.dataset("stations")),
            "pairs": len(found.dataset("pairs")),
            "components": found.components,
            "stacks": found.stacks,
            "pieces": len(pieces),
            "start": str(pieces[0, 0])[:19],
            "end": str(pieces[-1, 1])[:19],
            "lags": f"{found.lags_s[0]:g} to {found.lags_s[-1]:g} s, {len(found.lags_s)} samples",
            **{k: str(found.attributes[k]) for k in ("created", "software", "settings_hash", "lag_convention")},
        }
        settings = str(found.attributes["settings"])
        facts |= _measurements(found)
        facts |= _from_report(found)
    if as_json:
        click.echo(json.dumps(facts))
    else:
        for name, value in facts.items():
            click.echo(f"{name:15} {', '.join(value) if isinstance(value, list) else value}")
        click.echo("\n" + settings)


def _from_report(found: Results) -> dict[str, Any]:
    """Return where the data of results came from, if not from waveforms; or that the report cannot be read."""
    try:
        report = found.report
    except OSError as error:  # such as ReportDamaged
        return {"report": str(error)}
    facts: dict[str, Any] = {}
    if (origin := report.get("imported")) is not None:
        facts["imported"] = f"from {origin['program']}, {origin['path']}: {'; '.join(origin['notes'])}"
    return facts | ({"merged": report["merged"]} if "merged" in report else {})


def _measurements(found: Results) -> dict[str, list[str]]:
    """Return the names of measurements on the correlations, or why they cannot be read."""
    from xcorr.pes.dispersion import dispersion_file
    from xcorr.pes.monitoring import monitor_file
    from xcorr.results import ResultsError

    names: dict[str, list[str]] = {}
    for kind, file in (("monitoring", monitor_file.NAME), ("dispersion", dispersion_file.NAME)):
        if (found.path.parent / file).exists():
            try:
                with getattr(found, kind) as measured:
                    names[kind] = measured.names
            except ResultsError as error:
                names[kind] = [str(error)]
    return names


@click.command()
@click.argument("first", type=EXISTING)
@click.argument("second", type=EXISTING)
def compare(first: Path, second: Path) -> None:
    """Compare the datasets of two results bit by bit. Say where they differ (then exit code 1)."""
    from xcorr.results.compare import differences

    sys.exit(tell(differences(first, second), "dataset(s) differ", "all datasets are the same to the bit"))


@click.command()
@click.argument("results", type=EXISTING)
@click.option("-o", "--output", type=OPTIONAL_PATH, required=True, help="File or folder to write.")
@click.option(
    "--format",
    "kind",
    required=True,
    help="asdf, csv, mseed, netcdf, sac, zarr, or what another package brings. With --dispersion: csv, netcdf, "
    "dsurftomo, surfatt, fmst.",
)
@stack_options
@selection_options
@click.option("--pair", nargs=2, metavar="NET.STA NET.STA", help="Export one pair.")
@click.option("--monitor", "measurement", help="Export the velocity changes of a measurement: csv or netcdf.")
@click.option(
    "--dispersion", "curves", help="Export the velocities of a measurement, also in formats of tomography programs."
)
@click.option("--series", is_flag=True, help="Export the series, not the stacks.")
@click.option("--reverse", is_flag=True, help="Positive lag: from station 2 to 1, as in ObsPy, yam and dispel4py.")
def export(
    results: Path,
    output: Path,
    kind: str,
    which: str | None,
    band: str,
    components: str | None,
    insist: bool,
    pair: tuple[str, str] | None,
    measurement: str | None,
    curves: str | None,
    series: bool,
    reverse: bool,
    **selected: Any,
) -> None:
    """Write the stacks, or the series, of pairs in a format that other programs read."""
    from xcorr.core import installed
    from xcorr.results import Results
    from xcorr.results.export import export as write

    of_results = [name for name, given in (("monitor", measurement), ("dispersion", curves)) if given is not None]
    if series and which:
        raise click.UsageError("--series and --stack are different things; give one of them")
    if len(of_results) > 1 or (of_results and (series or which or band or reverse)):
        raise click.UsageError(
            f"--series, --stack, --band and --reverse are of correlations, not of --{of_results[0]}; give one of "
            "--monitor and --dispersion"
        )
    if not of_results and kind not in installed.names("exports"):
        raise click.BadParameter(f"--format: {kind!r} is not one of {', '.join(installed.names('exports'))}")
    wanted = selection_of(**selected)
    with Results(results) as found:
        if pair:
            found.row(*pair)  # raises an error that says what there is
            wanted = dataclasses.replace(wanted, pairs=(*wanted.pairs, "-".join(pair)))
        if measurement is not None:
            from xcorr.results.monitoring import export_changes

            count = export_changes(found, output, kind, measurement, components or "", wanted)
            click.echo(f"wrote the velocity changes of {count} pair(s) to {output}")
            return
        if curves is not None:
            from xcorr.results.tomography import export_dispersion

            count = export_dispersion(found, output, kind, curves, components or "", wanted)
            click.echo(f"wrote the dispersion of {count} pair(s) to {output}")
            return
        stack = None if series else which or found.main_stack
        listed = components.replace(" ", "").split(",") if components else ()
        count = write(found, output, kind, stack, reverse, band, listed, wanted, insist)
        click.echo(f"wrote {count} {'series' if series else 'correlations'} to {output}")
