"""The command line. Heavy packages are imported by the command that needs them."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from xcorr import cli_tools as tools
from xcorr.cli_tools import EXISTING, EXISTING_FILE, OPTIONAL_PATH

os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")  # clearing fresh huge pages costs more than they save here
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its own threads are not used here, and spin where they begin
gc.set_threshold(50_000)  # importing makes many objects and no garbage
atexit.register(gc.freeze)  # so that the end of the process does not search them either

USAGE_ERRORS = (
    "SettingsError",
    "StationListError",
    "SourceError",
    "MetadataError",
    "CatalogueError",
    "FftError",
    "GraphError",
    "WorkflowLoadError",
    "RegistryError",
    "ProvenanceError",
)


class _Group(click.Group):
    """Turns our errors into one clear message and an exit code: 2 for wrong usage, 1 for the rest."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            click.echo(str(error) or "interrupted", err=True)
            ctx.exit(128 + signal.SIGINT)
        except Exception as error:
            from xcorr.core.errors import XcorrError

            if isinstance(error, OSError) and not isinstance(error, XcorrError) and error.filename is not None:
                click.echo(f"error: {error.filename}: {error.strerror}", err=True)
                ctx.exit(1)
            if not isinstance(error, XcorrError):
                raise
            if traceback_text := getattr(error, "traceback_text", ""):
                click.echo(traceback_text, err=True)
            click.echo(f"error: {error}", err=True)
            ctx.exit(2 if type(error).__name__ in USAGE_ERRORS else 1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="xcorr")
def main() -> None:
    """Ambient-noise cross-correlations of a seismic network, from a station list to HDF5.

    \b
    xcorr init                                  write stations.txt and xcorr.toml to start from
    xcorr run stations.txt --source sds:DIR     the main job
    xcorr plan stations.txt --source sds:DIR    what it would take
    xcorr info stations.xcorr                   what came of it
    xcorr plot stations.xcorr                   a record section
    xcorr status | verify | stack | export | pack   campaigns, see their --help
    xcorr prov stations.xcorr                   what came from what; prov query asks
    xcorr doctor                                what works here, and the cure for what does not
    xcorr workflow | pe | registry | storm      any workflow, its elements, and where it runs

    Exit codes: 0 done; 1 nothing produced, or an error; 2 wrong usage; 3 done, but some inputs failed; 130 interrupted.
    """


def _asked(command: Any) -> Any:
    """Add the options that say what is wanted, the same for every command that looks at a source."""
    options = (
        click.option(
            "-c", "--config", type=EXISTING_FILE, help="Settings; default: xcorr.toml beside the list, if there is one."
        ),
        click.option(
            "--source",
            help="Waveforms: sds:DIR, files:DIR_OR_GLOB, or fdsn:URL (or a provider ObsPy knows, such as fdsn:IRIS).",
        ),
        click.option("--metadata", help="StationXML path or glob."),
        click.option("--start", help="First time wanted, UTC; default: the archive's."),
        click.option("--end", help="End of the time wanted, UTC; default: the archive's."),
        click.option(
            "--set", "assignments", multiple=True, metavar="SECTION.KEY=VALUE", help="Override a setting, in TOML."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _how(command: Any) -> Any:
    """Add the options that say how to run."""
    options = (
        click.option(
            "-o", "--output", type=OPTIONAL_PATH, help="Campaign folder; default: <name of the list>.xcorr beside it."
        ),
        click.option("-m", "--mapping", help="How to run: sequential, threads, processes, mpi or storm."),
        click.option(
            "-n", "--workers", type=click.IntRange(min=1), help="Number of workers; default: the cores this may use."
        ),
        click.option("--memory", help="Most that all processes together may take, such as 4GB."),
        click.option("--json", "as_json", is_flag=True, help="For machines: JSON."),
        click.option("--refresh", is_flag=True, help="Make again what was made from files that have changed since."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@main.command("run")
@click.argument("stations", type=EXISTING_FILE)
@_asked
@_how
def run(**given: Any) -> None:
    """Correlate all pairs of the stations of a list.

    STATIONS has a station per line: NET STA, NET.STA.LOC.CHA (with * and ?), a CSV with coordinates, or FDSN station
    text. Results go to a folder: xcorr.h5 to open, shards, report.json. The same command again does what is not yet
    done: after a crash the rest, later the new days and the new stations. Settings: command line beats file beats
    default; `xcorr init` writes a file with all of them.
    """
    try:
        from xcorr import command

        sys.exit(command.run(**given))
    except KeyboardInterrupt:
        from xcorr import command

        raise KeyboardInterrupt(f"interrupted: {command.kept(**given)}") from None


@main.command()
@click.argument("stations", type=EXISTING_FILE)
@_asked
@_how
def plan(**given: Any) -> None:
    """Say what `xcorr run` with the same options would take: pairs, operations, bytes, files, memory and time.

    The first time on a machine, or with other settings, a calibration takes some seconds.
    """
    from xcorr import command

    command.plan(**given)


@main.command()
@click.argument("folder", type=OPTIONAL_PATH, default=Path())
def init(folder: Path) -> None:
    """Write stations.txt and a commented xcorr.toml with every setting into FOLDER."""
    from xcorr import command

    for path in command.init(folder):
        click.echo(f"wrote {path}")


@main.command()
@click.argument("results", type=EXISTING)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def info(results: Path, as_json: bool) -> None:
    """Say what a campaign folder or xcorr.h5 holds."""
    from xcorr import command

    command.info(results, as_json)


@main.command()
@click.argument("results", type=EXISTING)
@click.option(
    "-o",
    "--output",
    type=OPTIONAL_PATH,
    help="Picture to write (png, pdf, svg); default: beside the results.",
)
@click.option("--pair", nargs=2, metavar="NET.STA NET.STA", help="One pair instead of the record section.")
@click.option("--availability", is_flag=True, help="Windows used by channel and chunk instead.")
@click.option("--components", default="ZZ", show_default=True, help="Component pair.")
@click.option("--max-lag", type=float, help="Largest lag shown (s).")
def plot(**given: Any) -> None:
    """Draw a record section by distance, one pair, or the availability of data."""
    if given["pair"] and given["availability"]:
        raise click.UsageError("--pair and --availability are different figures; give one of them")
    from xcorr import command

    click.echo(f"wrote {command.plot(**given)}")


@main.command()
@click.argument("first", type=EXISTING)
@click.argument("second", type=EXISTING)
def compare(first: Path, second: Path) -> None:
    """Compare the datasets of two results bit by bit; say where they differ (exit code 1)."""
    from xcorr import command

    sys.exit(command.compare(first, second))


@main.command()
@click.argument("stations", type=EXISTING_FILE, required=False)
@_asked
def doctor(**given: Any) -> None:
    """Say what is installed and works, and with STATIONS also what its source holds; name the cures (exit code 1)."""
    from xcorr import command

    sys.exit(command.doctor(**given))


@main.command()
@click.argument("campaign", type=EXISTING)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def status(campaign: Path, as_json: bool) -> None:
    """Say where a campaign stands; it may be running in another terminal."""
    from xcorr import command

    command.status(campaign, as_json)


@main.command()
@click.argument("campaign", type=EXISTING)
def verify(campaign: Path) -> None:
    """Read every byte of a campaign; name what is missing or damaged, which running it again repairs (exit code 1)."""
    from xcorr import command

    sys.exit(command.verify(campaign))


@main.command()
@click.argument("campaign", type=EXISTING)
@click.option("--set", "assignments", multiple=True, metavar="stack.KEY=VALUE", help="New stack settings, in TOML.")
def stack(campaign: Path, assignments: tuple[str, ...]) -> None:
    """Make new stacks from the series of a campaign, without touching waveforms."""
    from xcorr.campaign_run import restack

    click.echo(f"wrote {restack(campaign, assignments)}")


@main.command()
@click.argument("results", type=EXISTING)
@click.option("-o", "--output", type=OPTIONAL_PATH, required=True, help="File or folder to write.")
@click.option("--format", "kind", type=click.Choice(["sac", "mseed", "netcdf", "zarr", "asdf", "csv"]), required=True)
@click.option("--stack", "which", default="linear", show_default=True, help="Which stack.")
@click.option("--band", default="", help="A further band, by name.")
@click.option("--reverse", is_flag=True, help="Positive lag from station 2 to 1, as ObsPy, yam and dispel4py have it.")
def export(results: Path, output: Path, kind: str, which: str, band: str, reverse: bool) -> None:
    """Write the stacks of all pairs in another program's format."""
    from xcorr.export import export as write
    from xcorr.results import Results

    with Results(results) as found:
        click.echo(f"wrote {write(found, output, kind, which, reverse, band)} correlations to {output}")


@main.command()
@click.argument("campaign", type=EXISTING)
def pack(campaign: Path) -> None:
    """Make xcorr.h5 self-contained: copy into it what it shows of the shards."""
    from xcorr.export import pack as make

    click.echo(f"{campaign / 'xcorr.h5'}: {make(campaign) / 1e6:.1f} MB")


for group in (tools.workflow, tools.storm, tools.pe, tools.registry, tools.prov):
    main.add_command(group)
