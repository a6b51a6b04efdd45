"""``xcorr import``: a campaign of the correlations of another program."""

from __future__ import annotations

from pathlib import Path

import click

from xcorr.core import installed


@click.command("import")
@click.argument("kind", type=click.Choice(installed.names("imports")))
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", "folder", required=True, type=click.Path(path_type=Path), help="Folder to make.")
@click.option("--choice", help="One of several sets: a filter of MSNoise (01), a key of yam (c1_s1d).")
@click.option("--metadata", help="StationXML with the coordinates of stations, if the files have none.")
@click.option("--set", "assignments", multiple=True, metavar="SECTION.KEY=VALUE", help="A setting, in TOML.")
def import_(
    kind: str, path: Path, folder: Path, choice: str | None, metadata: str | None, assignments: tuple[str, ...]
) -> None:
    """Make a campaign of the correlations of another program.

    KIND is noisepy (a folder of an ASDF or Zarr store), msnoise (a project), sac (a tree of files), or h5 (obspyh5, as
    of yam). Results, pictures, velocity changes, dispersion and the web then work as for any campaign.
    """
    from xcorr.campaign.imported import import_campaign

    made = import_campaign(kind, path, folder, assignments, choice, metadata)
    click.echo(f"wrote {made.folder}: {made.stations} stations, {made.pairs} pairs with data, {made.pieces} piece(s)")
    for note in made.notes:
        click.echo(f"note: {note}")
