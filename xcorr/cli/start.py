"""Starting points: ``xcorr init`` and ``xcorr demo``."""

from __future__ import annotations

import importlib.resources
import shutil
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from xcorr.cli.options import OPTIONAL_PATH
from xcorr.core.errors import XcorrError, nearest

STATIONS_EXAMPLE = """# One station per line: NET STA, or NET.STA.LOC.CHA with * and ?.
# CI WBM
# CI.*
"""
NEXT = """
Look at {picture} and at {report}. Then try:
  xcorr info {campaign}
  xcorr plot {campaign} --pair XX.D00 XX.D02
  xcorr plot {campaign} --map
  xcorr export {campaign} --format sac -o {folder}/sac
  xcorr run {stations}                 # again: nothing is left to compute
"""


class AlreadyThere(XcorrError, FileExistsError):
    """A file exists that the command would overwrite."""


class NoPreset(XcorrError, ValueError):
    """A preset that there is not."""


def presets() -> dict[str, Traversable]:
    """Return the presets by name."""
    found = (importlib.resources.files("xcorr") / "configs").iterdir()
    return {p.name.removesuffix(".toml"): p for p in sorted(found, key=lambda p: p.name) if p.name.endswith(".toml")}


@click.command()
@click.argument("folder", type=OPTIONAL_PATH, default=Path())
@click.option("--preset", help="Settings to start from: monitoring, tomography or verce.")
def init(folder: Path, preset: str | None) -> None:
    """Write stations.txt and a commented xcorr.toml with every setting into FOLDER."""
    import tomllib

    from xcorr.settings import Settings
    from xcorr.settings.toml import build
    from xcorr.settings.written import to_toml

    settings, about = Settings(), ""
    if preset is not None:
        if preset not in presets():
            raise NoPreset(f"no preset {preset!r}{nearest(preset, presets())}; there are {', '.join(presets())}")
        text = presets()[preset].read_text(encoding="utf-8")
        settings = build(tomllib.loads(text))
        about = "".join(line for line in text.partition("\n[")[0].splitlines(True) if line.startswith("#")) + "\n"
    texts = {"stations.txt": STATIONS_EXAMPLE, "xcorr.toml": about + to_toml(settings.as_dict(), comment=True)}
    for name in texts:
        if (folder / name).exists():
            raise AlreadyThere(f"{folder / name} exists already; remove it or choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
        click.echo(f"wrote {folder / name}")


@click.command()
@click.argument("folder", type=OPTIONAL_PATH, default=Path("xcorr-demo"))
def demo(folder: Path) -> None:
    """Copy the sample data to FOLDER, correlate them and draw a record section; say what to try next.

    The data are four hours of an ambient field at 14 made-up stations, one of which is dead.
    """
    from xcorr.campaign.run import run_campaign
    from xcorr.cli.run import summary
    from xcorr.results import Results, figures
    from xcorr.settings.toml import build, load

    stations, picture = folder / "stations.txt", folder / "section.png"
    if not stations.exists():
        if folder.exists() and any(folder.iterdir()):
            raise AlreadyThere(f"{folder} exists already, and is not empty; choose another folder")
        _copy_demo(folder)
    campaign = folder / "stations.xcorr"
    finished = run_campaign(stations, campaign.absolute(), build(load(folder / "xcorr.toml")), "line")
    click.echo(summary(finished.report, campaign))
    with Results(campaign) as found:
        figures.save(figures.record_section(found, max_lag_s=40.0), picture)
    report = campaign / "report.html"
    click.echo(NEXT.format(picture=picture, report=report, campaign=campaign, folder=folder, stations=stations))


def _copy_demo(folder: Path) -> None:
    """Write list, settings and data of the demo into a folder; the list last, which says that all is there."""
    root = importlib.resources.files("xcorr")
    folder.mkdir(parents=True, exist_ok=True)
    with (
        importlib.resources.as_file(root / "sample") as sample,
        importlib.resources.as_file(root / "configs") as configs,
    ):
        shutil.copytree(sample / "sds", folder / "archive", dirs_exist_ok=True)
        shutil.copy(sample / "stations.xml", folder)
        text = (configs / "demo" / "xcorr.toml").read_text("utf-8")
        for path, here in (("../../data/demo/sds", "archive"), ("../../data/demo/stations.xml", "stations.xml")):
            text = text.replace(path, here)
        (folder / "xcorr.toml").write_text(text, "utf-8")
        shutil.copy(configs / "demo" / "stations.txt", folder)
