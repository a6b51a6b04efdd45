"""Figures: ``xcorr plot``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from xcorr.cli.measured_figures import measured, measured_kind, measured_options
from xcorr.cli.options import EXISTING, OPTIONAL_PATH, selection_of, selection_options, stack_options

KINDS = {  # figures besides the record section, and what they show
    "map": "Draw a map of stations and pairs.",
    "matrix": "Draw the signal-to-noise ratios, station against station.",
    "spectra": "Draw the spectra of stacks.",
    "psd": "Draw power spectra of a station's waveforms before and after conditioning, read from the source again.",
    "availability": "Draw the share of windows used, by component of a station and chunk.",
}


def _kinds(command: Any) -> Any:
    for name, text in reversed(KINDS.items()):
        command = click.option(f"--{name}", is_flag=True, help=text)(command)
    return command


@click.command()
@click.argument("results", type=EXISTING)
@click.option("--pair", nargs=2, metavar="NET.STA NET.STA", help="Draw one pair, and its series over time.")
@_kinds
@measured_options
@stack_options
@selection_options
@click.option("--velocity", help="Lines of these velocities in the record section (km/s), such as 2,3,4.")
@click.option("--max-lag", type=click.FloatRange(min=0, min_open=True), help="Largest lag shown (s).")
@click.option("--station", help="--psd: the station. Default: that with most windows.")
@click.option("--day", help="--psd: the chunk, by a time in it. Default: that with most windows.")
@click.option(
    "-o",
    "--output",
    type=OPTIONAL_PATH,
    help="Picture to write (png, pdf, svg). Default: in the campaign, named by what it shows.",
)
def plot(results: Path, output: Path | None, **given: Any) -> None:
    """Draw a record section by distance, or one of the other figures."""
    import numpy as np

    from xcorr.results import figures

    chosen = [name for name in ("pair", *KINDS) if given[name]]
    if len(chosen) > 1:
        raise click.UsageError(f"--{chosen[0]} and --{chosen[1]} are different figures; give one of them")
    for name in ("max_lag", "distance", "azimuth"):
        if given[name] is not None and not np.isfinite(given[name]).all():
            raise click.BadParameter(f"--{name.replace('_', '-')}: must be finite")
    folder = results if results.is_dir() else results.parent
    kind = measured_kind(given, chosen)
    if kind:
        figure, name = measured(kind, results, given, _named, _selected(given))
    else:
        figure, name = _drawn(chosen[0] if chosen else "section", results, folder, given)
    target = output or folder / f"{name}.png"
    figures.save(figure, target)
    click.echo(f"wrote {target}")


def _drawn(kind: str, results: Path, folder: Path, given: dict[str, Any]) -> tuple[Any, str]:
    """Return a figure, and the name of its file: that of the figure and of all that was chosen."""
    from xcorr.results import Results, figures

    if kind == "availability":
        from xcorr.store.accounts import availability
        from xcorr.store.folder import frozen_settings

        return figures.availability(availability(folder), frozen_settings(folder).data.chunk_s), kind
    if kind == "psd":
        from xcorr.results.sample import sample

        seen = sample(folder, given["station"], given["day"])
        return figures.psd(seen), _named(kind, seen.station, re.sub(r"[-:]", "", seen.start))
    selection = selection_of(given["distance"], given["azimuth"], given["pairs"], given["networks"], given["where"])
    components, band, insist = given["components"] or "ZZ", given["band"], given["insist"]
    with Results(results) as found:
        if not given["components"] and components not in found.components:
            components = found.components[0]
        stack = given["which"] or found.main_stack
        what = (components, stack, band and f"band-{band}")
        lag = given["max_lag"] and f"lag{given['max_lag']:g}s"
        pairs = _selected(given)
        if kind == "pair":
            first, second = given["pair"]
            drawn = figures.pair(found, first, second, components, given["max_lag"], stack, band, insist)
            return drawn, _named(kind, "-".join(given["pair"]), *what, lag)
        if kind == "map":
            return figures.station_map(found, selection), _named(kind, *pairs)
        if kind == "matrix":
            return figures.matrix(found, components, stack, band, "snr", selection, insist), _named(kind, *what, *pairs)
        if kind == "spectra":
            return figures.spectra(found, components, stack, band, selection, insist), _named(kind, *what, *pairs)
        velocities = _velocities(given["velocity"])
        lines = velocities and "v" + "-".join(f"{v:g}" for v in velocities)
        drawn = figures.record_section(found, components, given["max_lag"], stack, band, selection, velocities, insist)
        return drawn, _named(kind, *what, lag, *pairs, lines)


def _selected(given: dict[str, Any]) -> list[str]:
    """Return the selection of pairs in words for the name of a file."""
    words = [pattern.replace("*", "+").replace("?", "=") for pattern in given["pairs"]]
    for name, unit in (("distance", "km"), ("azimuth", "deg")):
        if given[name] is not None:
            words.append(f"{name}{given[name][0]:g}-{given[name][1]:g}{unit}")
    return [*words, *given["networks"], given["where"].replace(" ", "")]


def _named(*words: Any) -> str:
    return "_".join(re.sub(r"[^\w.+@:=-]", "x", str(word)) for word in words if word)


def _velocities(text: str | None) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in (text or "").split(",") if part.strip())
    except ValueError:
        found = (0.0,)
    if any(not 0 < v < 1000 for v in found):
        raise click.BadParameter(f"--velocity {text!r}: write velocities in km/s, such as 2,3,4")
    return found
