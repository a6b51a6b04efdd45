"""Dispersion: curves, a pair's frequency-time diagram, the network's frequency-Bessel picture, histograms, maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xcorr.pes.dispersion import flags, ftan, waves
from xcorr.pes.dispersion.array_curve import frequency_bessel
from xcorr.pes.dispersion.correlation_spectra import Grid, spectra
from xcorr.results.errors import ResultsError
from xcorr.results.figures.style import axes_for, new_figure, with_defaults
from xcorr.results.reader import Results
from xcorr.results.scale import evenly
from xcorr.results.velocity_maps import MapOfPeriod, at_period, near_middle
from xcorr.settings.dispersion import dispersion_of, stack_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LINES = 2000  # pairs drawn
VELOCITIES = 201  # of pictures
BINS = 40


@with_defaults
def dispersion_curves(results: Results, name: str = "", components: str = "", rows: np.ndarray | None = None) -> Figure:
    """Draw accepted phase and group velocities of pairs by period, their median, and the network's curve.

    Raises ResultsError if there is no such measurement.
    """
    with results.dispersion as of:
        found, network = of.get(name, components, rows=rows), of.network(name, components)
    figure, axes = new_figure(10, 4.5, columns=2)
    period = found["period"].values
    for panel, what in zip(axes, ("phase", "group"), strict=True):
        values = np.where(found[f"{what}_accepted"].values, found[f"{what}_km_s"].values, np.nan)
        there = np.isfinite(values).any(axis=1)
        step = max(1, int(there.sum()) // MOST_LINES)
        for line in values[there][::step]:
            panel.plot(period, line, color="0.6", linewidth=0.4, alpha=0.5, zorder=1)
        used = np.isfinite(values).sum(axis=0) > 2
        if used.any():
            panel.plot(
                period[used], np.nanmedian(values[:, used], axis=0), "o", color="C0", markersize=3, label="median"
            )
        if what == "phase" and used.any():
            crossing = np.where(np.isfinite(values), found["crossing_km_s"].values, np.nan)[:, used]
            there_too = np.isfinite(crossing).any(axis=0)
            middle = np.nanmedian(crossing[:, there_too], axis=0)
            panel.plot(period[used][there_too], middle, "+", color="C2", markersize=5, label="median, zero crossings")
        if network.curve is not None:
            f = network.curve.frequency_hz
            panel.plot(1 / f, getattr(network.curve, what)(f), color="C3", linewidth=1.5, label="network")
        panel.set_xscale("log")
        panel.set_xlim(period[0] * 0.95, period[-1] * 1.05)
        panel.set_title(f"{what} velocity, {int(there.sum())} pairs", fontsize="medium")
        _periods(panel)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize="small", loc="best")  # named, or Matplotlib warns where this is slow
    axes[0].set_ylabel("km/s")
    figure.suptitle(f"{found.attrs['measurement']} {found.attrs['components']}", fontsize="medium")
    return figure  # type: ignore[no-any-return]


@with_defaults
def frequency_time(
    results: Results, first: str, second: str, name: str = "", components: str = "", ax: Axes | None = None
) -> Figure:
    """Draw the envelopes of a pair's filtered waves by period and group velocity, and what was measured.

    The waves are the mean of both sides; each period is scaled by its maximum. Raises ResultsError as :meth:`get`.
    """
    with results.dispersion as of:
        network, about = of.network(name, components), of.settings(name, components)
        found = of.get(name, components, [f"{first}-{second}"]).isel(pair=0)
    pair = found.attrs["components"]
    curve = network.curve
    if curve is None:
        raise ResultsError(f"{about.name} {pair}: there is no curve of the network")
    if (found["flag"].values & flags.NO_DATA).any():
        raise ResultsError(f"{first}-{second}: has no data in {about.name} {pair}")
    how = dispersion_of(results.settings, about)
    stack = results.get(str(found["station_1"].values), str(found["station_2"].values), pair,
                        stack_of(results.settings, about), about.band)  # fmt: skip
    rate, middle = 1 / float(results.lags_s[1] - results.lags_s[0]), len(results.lags_s) // 2
    grid, distance = Grid(rate, middle, how.band_hz, how.velocity_km_s), np.array([float(found["distance_km"])])
    f = np.geomspace(*how.band_hz, 121)
    by = ftan.filters(grid, curve, f, float(distance[0]))
    sides = ftan.matched(spectra(stack.values[None], distance, grid), waves.kind_of(pair),
                         curve.wavenumber(grid.frequency_hz), distance)  # fmt: skip
    height = np.abs(ftan.envelopes((sides[0] + sides[1]) / 2, by))[0]
    arrival = float(distance[0]) / curve.group(f)
    velocity = np.linspace(*how.velocity_km_s, VELOCITIES)
    image = np.stack(
        [np.interp(distance[0] / velocity, t + a, h / h.max(), np.nan, np.nan)
         for t, a, h in zip(by.times_s, arrival, height, strict=True)]
    )  # fmt: skip
    figure, axes = axes_for(ax, 7, 5)
    mesh = axes.pcolormesh(1 / f, velocity, image.T, cmap="viridis", vmin=0, vmax=1, rasterized=True, shading="nearest")
    figure.colorbar(mesh, ax=axes, label="envelope, share of its maximum at the period")
    period = found["period"].values
    axes.plot(1 / f, curve.group(f), color="white", linewidth=0.8, linestyle="--", label="network, group")
    for what, color in (("group", "C1"), ("phase", "C3")):
        good = found[f"{what}_accepted"].values
        value, error = found[f"{what}_km_s"].values, found[f"{what}_error_km_s"].values
        axes.errorbar(period[good], value[good], error[good], fmt="o", color=color, markersize=3, linewidth=0.8,
                      label=what)  # fmt: skip
        axes.plot(period[~good], value[~good], "x", color=color, markersize=4, label=f"{what}, rejected")
    axes.set_xscale("log")
    axes.set_ylim(how.velocity_km_s)
    axes.set_xlim(period[0], period[-1])
    _periods(axes)
    axes.set_ylabel("velocity (km/s)")
    axes.legend(fontsize="small", loc="upper left")
    axes.set_title(f"{first}-{second} {pair}, {distance[0]:.1f} km", fontsize="medium")
    return figure  # type: ignore[no-any-return]


@with_defaults
def bessel(results: Results, name: str = "", components: str = "", ax: Axes | None = None) -> Figure:
    """Draw the frequency-Bessel transform of all pairs, whose ridges are the modes, and the curve of the network."""
    with results.dispersion as of:
        network, about = of.network(name, components), of.settings(name, components)
        pair = of.group(name, components).name.rpartition("/")[2]
    velocity = np.linspace(*about.velocity_km_s, VELOCITIES)
    image = frequency_bessel(network.spectra, waves.kind_of(pair), network.frequency_hz, velocity)
    figure, axes = axes_for(ax, 7, 5)
    f = network.frequency_hz
    mesh = axes.pcolormesh(f, velocity, image.T, cmap="viridis", vmin=0, vmax=1, rasterized=True, shading="nearest")
    figure.colorbar(mesh, ax=axes, label="share of the largest value")
    if network.curve is not None:
        axes.plot(network.curve.frequency_hz, network.curve.phase_km_s, color="C3", linewidth=1, label="network")
        axes.legend(fontsize="small", loc="best")
    axes.set_xlabel("frequency (Hz)")
    axes.set_ylabel("phase velocity (km/s)")
    pairs = int(network.spectra.count.sum())
    axes.set_title(f"{about.name} {pair}, spectra of {pairs} pairs", fontsize="medium")
    return figure  # type: ignore[no-any-return]


@with_defaults
def velocity_histograms(
    results: Results, name: str = "", components: str = "", velocity: str = "phase", rows: np.ndarray | None = None
) -> Figure:
    """Draw histograms of accepted velocities at up to nine periods. Raises ResultsError if none is accepted."""
    with results.dispersion as of:
        found = of.get(name, components, rows=rows)
    good = found[f"{velocity}_accepted"].values
    used = np.flatnonzero(good.any(axis=0))
    if not len(used):
        raise ResultsError(f"no {velocity} velocity is accepted")
    chosen = used[evenly(len(used), 9)]
    lines = -(-len(chosen) // 3)
    figure, axes = new_figure(9, 2.4 * lines, lines, columns=3)
    values = found[f"{velocity}_km_s"].values
    low, high = np.quantile(values[good], [0.005, 0.995]).tolist()
    limits = low - 0.05, high + 0.05
    for panel, k in zip(np.ravel(axes), chosen, strict=False):
        of_period = values[good[:, k], k]
        panel.hist(of_period, bins=BINS, range=limits, color="C0")
        panel.axvline(float(found[f"network_{velocity}_km_s"][k]), color="C3", linewidth=1)
        panel.set_title(f"{found['period'].values[k]:.3g} s: {len(of_period)} pairs", fontsize="small")
    for panel in np.ravel(axes)[len(chosen) :]:
        panel.set_visible(False)
    figure.supxlabel(f"{velocity} velocity (km/s); line: network", fontsize="small")
    return figure  # type: ignore[no-any-return]


@with_defaults
def velocity_paths(
    results: Results,
    period_s: float,
    name: str = "",
    components: str = "",
    velocity: str = "phase",
    rows: np.ndarray | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the paths of accepted velocities at the nearest period, coloured by velocity.

    Raises ResultsError if there is none, or none whose stations have coordinates.
    """
    from matplotlib.collections import LineCollection

    with results.dispersion as of:
        found = at_period(of.get(name, components, rows=rows), period_s)
    found = found.isel(pair=found[f"{velocity}_accepted"].values)
    ends = np.stack([[found[f"{key}_{k}"].values for key in ("longitude", "latitude")] for k in (1, 2)], axis=0)
    ends = ends.transpose(2, 0, 1)
    known = np.isfinite(ends).all(axis=(1, 2))
    if not known.any():
        raise ResultsError(f"no path with coordinates has an accepted {velocity} velocity at {period_s:g} s")
    ends = ends[known]
    ends[..., 0] = near_middle(ends[..., 0])
    values = found[f"{velocity}_km_s"].values[known]
    figure, axes = axes_for(ax, 7.5, 6)
    order = np.argsort(np.abs(values - np.median(values)))  # those that differ most are drawn last
    lines = LineCollection(list(ends[order]), cmap="RdYlBu", linewidths=0.8)
    lines.set_array(values[order])
    lines.set_clim(*np.quantile(values, [0.02, 0.98]))
    axes.add_collection(lines)
    axes.plot(*ends.reshape(-1, 2).T, "^", color="black", markersize=4)
    axes.set_aspect(1 / max(np.cos(np.radians(ends[..., 1].mean())), 0.05), adjustable="datalim")
    axes.set_xlabel("longitude (°)")
    axes.set_ylabel("latitude (°)")
    figure.colorbar(lines, ax=axes, label=f"{velocity} velocity (km/s)")
    axes.set_title(
        f"{found.attrs['components']}, {float(found['period']):.3g} s, {len(values)} paths", fontsize="medium"
    )
    return figure  # type: ignore[no-any-return]


@with_defaults
def period_map(of: MapOfPeriod) -> Figure:
    """Draw a first map of velocities, the number of rays in each cell, and what of a checkerboard comes back."""
    figure, axes = new_figure(13, 4.2, columns=3)
    cells, found = of.found.cells, of.found
    x = cells.x0 + cells.size_km * np.arange(cells.shape[1] + 1)
    y = cells.y0 + cells.size_km * np.arange(cells.shape[0] + 1)
    seen = found.rays > 0
    velocity = np.where(seen, found.velocity_km_s, np.nan)
    for panel, values, label, how in (
        (axes[0], velocity, f"{of.velocity} velocity (km/s)", {"cmap": "RdYlBu"}),
        (axes[1], np.where(seen, found.rays, np.nan), "rays", {"cmap": "viridis"}),
        (axes[2], np.where(seen, -100 * found.recovered, np.nan), "checkerboard of ±5 %, recovered (%)",
         {"cmap": "RdYlBu", "vmin": -5, "vmax": 5}),
    ):  # fmt: skip
        mesh = panel.pcolormesh(x, y, values, **how)
        panel.plot(*of.stations_km.T, "^", color="black", markersize=3)
        panel.set_aspect("equal")
        panel.set_xlabel("east (km)")
        figure.colorbar(mesh, ax=panel, label=label)
    axes[0].set_ylabel("north (km)")
    rms = float(np.sqrt(np.mean(found.residual_s**2)))
    words = (
        f"{of.components}, {of.period_s:.3g} s, {of.paths} paths, cells of {cells.size_km:.3g} km, residual {rms:.2g} s"
    )
    figure.suptitle(words, fontsize="medium")
    return figure  # type: ignore[no-any-return]


def _periods(axes: Any) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xlabel("period (s)")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
