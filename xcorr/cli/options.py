"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xcorr.core import installed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xcorr.results.selection import Selection
    from xcorr.settings import Settings

OPTIONAL_PATH = click.Path(path_type=Path)
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
EXISTING = click.Path(exists=True, path_type=Path)


def installed_name(kind: str) -> Any:
    """Return the callback of an option for names that packages have entered in a group, such as ``exports``."""

    def check(ctx: click.Context, param: click.Parameter, value: str) -> str:
        from xcorr.core import installed

        if value not in installed.names(kind):
            raise click.BadParameter(f"{value!r} is not one of {', '.join(installed.names(kind))}")
        return value

    return check


def source_options(command: Any) -> Any:
    """Add the options for settings and source. Every command that reads a source has the same ones."""
    options = (
        click.option(
            "-c", "--config", type=EXISTING_FILE, help="Settings file. Default: xcorr.toml beside the list, if any."
        ),
        click.option(
            "--source",
            help="Waveforms: sds:DIR, files:DIR_OR_GLOB, fdsn:URL (or a provider ObsPy knows: fdsn:IRIS), or s3:scedc.",
        ),
        click.option("--metadata", help="StationXML, RESP or dataless SEED: a file, folder or glob."),
        click.option("--start", help="Start of the time wanted (UTC). Default: the start of the archive."),
        click.option("--end", help="End of the time wanted (UTC), not included. Default: the end of the archive."),
        click.option(
            "--set", "assignments", multiple=True, metavar="SECTION.KEY=VALUE", help="Override a setting, in TOML."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def run_options(command: Any) -> Any:
    """Add the options for output, mapping, workers and memory."""
    options = (
        click.option(
            "-o", "--output", type=OPTIONAL_PATH, help="Campaign folder. Default: <list>.xcorr beside the station list."
        ),
        click.option("-m", "--mapping", help=f"Mapping: {', '.join(installed.names('mappings'))}."),
        click.option(
            "-n", "--workers", type=click.IntRange(min=1), help="Number of workers. Default: the cores xcorr may use."
        ),
        click.option("--memory", help="Most memory that all processes together may take, such as 4GB."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs."),
        click.option(
            "--refresh",
            is_flag=True,
            help="Recompute the results of files, responses and directions that have changed.",
        ),
        click.option(
            "--refresh-metadata",
            is_flag=True,
            help="Take new coordinates of stations, and make distances, azimuths and stacks again.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def stack_options(command: Any) -> Any:
    """Add the options for what is shown or written of each pair."""
    options = (
        click.option("--stack", "which", help="Which stack. Default: the linear one, if there is one."),
        click.option("--band", default="", help="A further band, by name."),
        click.option("--components", help="Component pair, such as ZZ, or RT made of N and E. For export: ZZ,TT."),
        click.option("--insist", is_flag=True, help="Make R and T even where N and E had different weights."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def selection_options(command: Any) -> Any:
    """Add the options that select pairs."""
    options = (
        click.option("--distance", nargs=2, type=float, metavar="KM KM", help="Pairs with a distance from .. to."),
        click.option("--azimuth", nargs=2, type=float, metavar="DEG DEG", help="Pairs with an azimuth within."),
        click.option("--pairs", multiple=True, metavar="PATTERN", help="Pairs with such names, as 'XX.*-YY.*'."),
        click.option("--network", "networks", multiple=True, metavar="PATTERN", help="Pairs with both stations in it."),
        click.option("--where", default="", metavar="CONDITION", help="Pairs that pass, as 'snr > 10'."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def selection_of(
    distance: tuple[float, float] | None,
    azimuth: tuple[float, float] | None,
    pairs: tuple[str, ...],
    networks: tuple[str, ...],
    where: str,
) -> Selection:
    """Return the selection that the options stand for."""
    from xcorr.results.selection import Selection

    return Selection(distance, azimuth, pairs, networks, where)


def settings_of(
    stations: Path, config: Path | None, assignments: tuple[str, ...], options: Mapping[str, Any]
) -> Settings:
    """Return the settings of a run. The command line overrides the file, and the file overrides the defaults."""
    from xcorr.settings.given import plain_of, with_short_names
    from xcorr.settings.toml import build, override

    return build(override(with_short_names(plain_of(stations, config), options), assignments))


def write_out(text: str, output: Path | None) -> None:
    """Write a text to a file, or to the terminal."""
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, "utf-8")
        click.echo(f"wrote {output}")
