"""Figures of what was measured on correlations: velocity changes and dispersion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from xcorr.cli.options import selection_of

MONITORING = ("monitor", "similarity", "interferogram")
DISPERSION = ("dispersion", "frequency_time", "bessel", "histograms", "paths")
OF_PAIR = ("similarity", "interferogram", "frequency_time")


def measured_options(command: Any) -> Any:
    """Add the options for figures of measurements."""
    options = (
        click.option(
            "--monitor", metavar="NAMES", help="Draw velocity changes of these measurements, such as coda,late or all."
        ),
        click.option("--similarity", metavar="NAME", help="With --pair: draw its coefficients by stretch and date."),
        click.option(
            "--interferogram", metavar="NAME", help="With --pair: draw its series by date, and the lags compared."
        ),
        click.option(
            "--mean",
            type=click.Choice(["median", "mean", "weighted", "trimmed"]),
            default="median",
            help="--monitor: how the pairs are put together.",
        ),
        click.option("--dispersion", metavar="NAME", help="Draw phase and group velocities of pairs by period."),
        click.option(
            "--frequency-time", metavar="NAME", help="With --pair: draw its envelopes by period and velocity."
        ),
        click.option("--bessel", metavar="NAME", help="Draw the frequency-Bessel transform of the network."),
        click.option("--histograms", metavar="NAME", help="Draw histograms of velocities by period."),
        click.option("--paths", metavar="NAME", help="With --period: draw paths on a map, coloured by velocity."),
        click.option("--period", type=click.FloatRange(min=0, min_open=True), help="--paths: the period (s)."),
        click.option(
            "--velocity-type", type=click.Choice(["phase", "group"]), default="phase", help="--histograms, --paths."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def measured_kind(given: dict[str, Any], chosen: list[str]) -> str:
    """Return which figure of a measurement is asked for, if any, beside the ``chosen`` other figures."""
    kinds = [name for name in (*MONITORING, *DISPERSION) if given[name] is not None]
    others = [name for name in chosen if name != "pair" or not kinds or kinds[0] not in (*OF_PAIR, "monitor")]
    if len(kinds) > 1 or (kinds and others):
        first, second = [*kinds, *others][:2]
        raise click.UsageError(
            f"--{first.replace('_', '-')} and --{second.replace('_', '-')} are different figures; give one of them"
        )
    return kinds[0] if kinds else ""


def measured(
    kind: str, results: Path, given: dict[str, Any], named: Callable[..., str], selected: list[str]
) -> tuple[Any, str]:
    """Return a figure of a measurement, and the name of its file."""
    from xcorr.results import Results, figures

    option = kind.replace("_", "-")
    components, pair, names = given["components"] or "", given["pair"], given[kind].split(",")
    if not all(names) or (kind != "monitor" and len(names) > 1):
        raise click.UsageError(f"--{option} {given[kind]!r}: names no measurement, or several where one is drawn")
    if kind in OF_PAIR and not pair:
        raise click.UsageError(f"--{option} needs --pair NET.STA NET.STA")
    if kind == "paths" and given["period"] is None:
        raise click.UsageError("--paths needs --period SECONDS")
    if kind != "paths" and given["period"] is not None:
        raise click.UsageError(f"--period is of --paths, not of --{option}")
    if given["velocity"]:
        raise click.UsageError("--velocity draws lines in a record section; take --velocity-type phase or group")
    period = f"{given['period']:g}s" if kind == "paths" else ""
    of_type = given["velocity_type"] if kind in ("histograms", "paths") else ""
    called = named(kind, "+".join(names), components, period, of_type, "-".join(pair or ()), *selected)
    with Results(results) as found:
        if kind in OF_PAIR:
            return getattr(figures, kind)(found, pair[0], pair[1], names[0], components), called
        rows = None
        if not pair and any(selected):
            chosen = selection_of(
                **{name: given[name] for name in ("distance", "azimuth", "pairs", "networks", "where")}
            )
            with found.monitoring if kind == "monitor" else found.dispersion as of:
                rows = of.selected(found, components, chosen)
        if kind == "bessel":
            if any(selected):
                raise click.UsageError("--bessel is of all pairs of the measurement; choose them in its settings")
            return figures.bessel(found, names[0], components), called
        if kind == "histograms":
            return figures.velocity_histograms(found, names[0], components, given["velocity_type"], rows), called
        if kind == "paths":
            drawn = figures.velocity_paths(found, given["period"], names[0], components, given["velocity_type"], rows)
            return drawn, called
        if kind == "dispersion":
            return figures.dispersion_curves(found, names[0], components, rows), called
        wanted = () if names == ["all"] else names
        return figures.velocity_changes(found, wanted, components, pair, rows, given["mean"]), called
