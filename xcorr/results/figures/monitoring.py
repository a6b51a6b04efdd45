"""Velocity changes: curves over dates, coefficients by stretch and date, and the correlations behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xcorr.results.errors import ResultsError
from xcorr.results.figures.style import axes_for, date_axis, days, edges_of, new_figure, with_defaults
from xcorr.results.monitoring import in_order
from xcorr.results.networks import network
from xcorr.results.reader import Results
from xcorr.settings.monitoring import measurement_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PERCENT = 100


@with_defaults
def velocity_changes(
    results: Results,
    names: Sequence[str] = (),
    components: str = "",
    pair: tuple[str, str] | None = None,
    rows: np.ndarray | None = None,
    how: str = "median",
) -> Figure:
    """Draw dv/v, coefficients and numbers over dates, a curve for each measurement.

    Of one ``pair`` with standard errors; else of the network (``how`` as in :func:`network`) with the 16th to 84th
    percentile of the pairs. Flagged values are drawn faint, and do not count in the network. Raises ResultsError for
    measurements or pairs that do not exist.
    """
    with results.monitoring as of:
        figure, (top, middle, bottom) = new_figure(9, 7.5, 3, (2, 1, 1))
        top.sharex(middle)
        middle.sharex(bottom)
        for k, name in enumerate(names or of.names):
            only = [f"{pair[0]}-{pair[1]}"] if pair else ()
            changes = of.get(name, components, only, rows)
            if not changes.sizes["pair"]:
                raise ResultsError(f"{name}: no pair that was measured is selected")
            at = days(changes["time"].values + (changes["end"].values - changes["time"].values) / 2)
            label = f"{changes.attrs['measurement']} {changes.attrs['components']}"
            draw = _pair if pair else _network
            draw((top, middle, bottom), at, changes, label, f"C{k}", how)
    top.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    top.set_ylabel("dv/v (%)")
    middle.set_ylabel("coefficient")
    bottom.set_ylabel("windows" if pair else "pairs")
    bottom.set_ylim(0)
    middle.set_ylim(0, 1.02)
    top.legend(fontsize="small", loc="best")
    top.set_title("-".join(pair) if pair else f"network, {how} with 16th to 84th percentile", fontsize="medium")
    date_axis(bottom.xaxis)
    for axes in (top, middle):
        axes.tick_params(labelbottom=False)
    return figure  # type: ignore[no-any-return]


def _pair(axes: Any, at: np.ndarray, changes: Any, label: str, color: str, how: str) -> None:
    top, middle, bottom = axes
    one = changes.isel(pair=0)
    good, dvv = one["flag"].values == 0, PERCENT * one["dvv"].values
    error = PERCENT * one["error"].values
    top.errorbar(at[good], dvv[good], error[good], fmt=".-", color=color, linewidth=0.8, label=label)
    top.plot(at[~good], dvv[~good], ".", color=color, alpha=0.3)
    middle.plot(at, one["coefficient"].values, ".-", color=color, linewidth=0.8)
    bottom.plot(at, one["n_windows"].values, ".-", color=color, linewidth=0.8)


def _network(axes: Any, at: np.ndarray, changes: Any, label: str, color: str, how: str) -> None:
    top, middle, bottom = axes
    of = network(changes, how).isel(group=0)
    top.fill_between(at, PERCENT * of["low"].values, PERCENT * of["high"].values, color=color, alpha=0.2, linewidth=0)
    top.plot(at, PERCENT * of["dvv"].values, ".-", color=color, linewidth=1, label=label)
    values = np.where(changes["flag"].values == 0, changes["coefficient"].values, np.nan)
    there = np.isfinite(values).any(axis=1)
    middle.plot(at[there], np.nanmedian(values[there], axis=1), ".-", color=color, linewidth=0.8)
    bottom.plot(at, of["n_pairs"].values, ".-", color=color, linewidth=0.8)


@with_defaults
def similarity(
    results: Results, first: str, second: str, name: str = "", components: str = "", ax: Axes | None = None
) -> Figure:
    """Draw the coefficients of a pair by stretch and date, and the dv/v that was measured.

    Raises ResultsError for a measurement that has no single reference to stretch.
    """
    with results.monitoring as of:
        values = of.similarity(results, first, second, name, components)
        changes = of.get(name, components, [f"{first}-{second}"]).isel(pair=0)
    figure, axes = axes_for(ax, 9, 4.5)
    pieces, step = results.pieces, np.diff(values["epsilon"].values).mean()
    edges, rows = edges_of(days(pieces[:, 0]), days(pieces[:, 1]), np.where(values == 0, np.nan, values))
    epsilon = np.append(values["epsilon"].values - step / 2, values["epsilon"].values[-1] + step / 2)
    image = axes.pcolormesh(edges, PERCENT * epsilon, rows.T, cmap="RdYlBu_r", vmin=-1, vmax=1, rasterized=True)
    middle = days(pieces[:, 0] + (pieces[:, 1] - pieces[:, 0]) / 2)
    axes.plot(middle, PERCENT * changes["dvv"].values, ".-", color="black", linewidth=0.6, markersize=3)
    figure.colorbar(image, ax=axes, label="correlation coefficient")
    axes.set_ylabel("stretch, dv/v (%)")
    axes.set_title(f"{first}-{second}, {changes.attrs['measurement']} {changes.attrs['components']}", fontsize="medium")
    date_axis(axes.xaxis)
    return figure  # type: ignore[no-any-return]


@with_defaults
def interferogram(results: Results, first: str, second: str, name: str = "", components: str = "") -> Figure:
    """Draw the series of a pair by date, its mean above, and the lags that a measurement compares.

    Raises ResultsError for a measurement or pair that does not exist.
    """
    with results.monitoring as of:
        settings = of.settings(name, components)
        pair = of.get(name, components, [f"{first}-{second}"]).attrs["components"]
    first, second = in_order(results, first, second)  # in which the sides are those of the measurement
    series = results.get(first, second, pair, None, settings.band)
    windows, values = series["n_windows"].values, series.values
    if not windows.any():
        raise ResultsError(f"{first}-{second}: no piece has data")
    lags, there = results.lags_s, windows > 0
    figure, (top, below) = new_figure(9, 8, 2, (1, 3))
    below.sharex(top)
    stack = np.average(values[there], axis=0, weights=windows[there])
    top.plot(lags, stack / np.abs(stack).max(), color="black", linewidth=0.7)
    largest = np.abs(values[there]).max(axis=1, keepdims=True)
    scaled = np.full(values.shape, np.nan)
    scaled[there] = values[there] / np.where(largest > 0, largest, 1)
    edges, rows = edges_of(days(results.pieces[:, 0]), days(results.pieces[:, 1]), scaled)
    step = lags[1] - lags[0]
    below.pcolormesh(np.append(lags - step / 2, lags[-1] + step / 2), edges, rows, cmap="seismic", vmin=-1, vmax=1)
    date_axis(below.yaxis)
    window = measurement_of(results.settings, settings).window
    low, high = window.limits_s(series.attrs["distance_m"] if settings.velocity_km_s else 0.0)
    for sign in {"both": (-1, 1), "left": (-1,), "right": (1,)}[window.sides]:
        top.axvspan(sign * low, sign * high, color="C0", alpha=0.2, linewidth=0)
        for edge in (low, high):
            below.axvline(sign * edge, color="black", linewidth=0.8, linestyle="--")
    top.set_title(f"{first}-{second} {pair}; lags compared: {low:g} to {high:g} s", fontsize="medium")
    below.set_xlabel("lag (s); positive: from station 1 to station 2")
    return figure  # type: ignore[no-any-return]
