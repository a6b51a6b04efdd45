"""The network: map of stations and pairs, matrix of pairs, availability of data."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from xcorr.results.errors import ResultsError
from xcorr.results.figures.style import axes_for, date_axis, days, edges_of, rows_of, what, with_defaults
from xcorr.results.reader import Results
from xcorr.results.scale import KM_PER_DEGREE, evenly, scale_length
from xcorr.results.selection import Selection

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from xcorr.store.accounts import Availability

NAMED = 60  # most stations that are named
MOST_LINES = 2000  # most pairs drawn on a map
QUANTITIES = {"snr": "signal-to-noise ratio", "n_windows": "windows"}


@with_defaults
def station_map(
    results: Results, selection: Selection | None = None, only: Collection[str] | None = None, ax: Axes | None = None
) -> Figure:
    """Draw the stations with coordinates, and the pairs selected between them; ``only`` these stations.

    Raises ResultsError if none has coordinates.
    """
    stations, pairs = (
        results.dataset("stations"),
        results.dataset("pairs")[rows_of(results, selection, results.components[0])],
    )
    x, y = stations["longitude"].copy(), stations["latitude"]
    known = np.isfinite(x + y)
    if only is not None:
        known &= np.isin(stations["id"].astype(str), list(only))
    if not known.any():
        raise ResultsError("no station has coordinates; give them in the list (CSV) or with StationXML")
    middle = np.degrees(np.angle(np.exp(1j * np.radians(x[known])).mean()))
    x = middle + (x - middle + 180) % 360 - 180  # on one side of the date line
    figure, axes = axes_for(ax, 8, 7)
    lines = np.flatnonzero(known[pairs["station_1"]] & known[pairs["station_2"]])
    shown = lines[evenly(len(lines), MOST_LINES)]
    for row in shown:
        ends = [pairs["station_1"][row], pairs["station_2"][row]]
        axes.plot(x[ends], y[ends], color="0.75", linewidth=0.5, zorder=1)
    axes.plot(x[known], y[known], "^", color="C3", markersize=7, zorder=2)
    if known.sum() <= NAMED:
        for a, b, name in zip(x[known], y[known], stations["id"][known].astype(str), strict=True):
            axes.annotate(name, (a, b), (5, 5), textcoords="offset points", fontsize="small", zorder=3)
    axes.margins(0.12)
    shrink = np.cos(np.radians(y[known].mean()))
    axes.set_aspect(1 / max(shrink, 0.05), adjustable="datalim")
    axes.set_xlabel("longitude (°)")
    axes.set_ylabel("latitude (°)")
    few = f" ({len(shown)} drawn)" if len(shown) < len(lines) else ""
    lost = f", {int((~known).sum())} without coordinates" if not known.all() else ""
    axes.set_title(f"{int(known.sum())} stations{lost}, {len(lines)} pairs{few}", fontsize="medium")
    figure.canvas.draw()  # only now are the limits known
    _scale_and_north(axes, shrink)
    return figure  # type: ignore[no-any-return]


def _scale_and_north(axes, shrink: float) -> None:  # type: ignore[no-untyped-def]
    low, high = axes.get_xlim()
    width_km = (high - low) * KM_PER_DEGREE * shrink
    length = scale_length(width_km)
    part = length / width_km
    axes.plot([0.05, 0.05 + part], [0.04, 0.04], transform=axes.transAxes, color="black", linewidth=3, zorder=4)
    axes.text(0.05 + part / 2, 0.05, f"{length:g} km", transform=axes.transAxes, ha="center", va="bottom")
    axes.annotate(
        "N",
        (0.95, 0.97),
        (0.95, 0.87),
        xycoords="axes fraction",
        ha="center",
        va="center",
        arrowprops={"arrowstyle": "->", "linewidth": 1.5},
    )


@with_defaults
def matrix(
    results: Results,
    components: str = "ZZ",
    stack: str | None = None,
    band: str = "",
    quantity: str = "snr",
    selection: Selection | None = None,
    insist: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Draw a number of each pair, station against station: ``snr`` of a stack, or its ``n_windows``."""
    stack = stack or results.main_stack
    rows = rows_of(results, selection, components, stack, band, insist)
    values = results.numbers(quantity, components, stack, band, rows, insist)
    stations, pairs = results.dataset("stations"), results.dataset("pairs")[rows]
    used = np.unique([pairs["station_1"], pairs["station_2"]])
    place = np.searchsorted(used, [pairs["station_1"], pairs["station_2"]])
    image = np.full((len(used), len(used)), np.nan)
    image[place[0], place[1]] = image[place[1], place[0]] = values
    size = float(np.clip(0.25 * len(used), 5, 12))
    figure, axes = axes_for(ax, size + 1.5, size)
    shown = axes.imshow(image, cmap="viridis", interpolation="nearest", vmin=0)
    names = stations["id"][used].astype(str)
    if len(used) <= NAMED:
        axes.set_xticks(range(len(used)), names, rotation=90)
        axes.set_yticks(range(len(used)), names)
    axes.set_xlabel("station 2")
    axes.set_ylabel("station 1")
    axes.set_title(f"{what(results, components, stack, band)}, {len(rows)} pairs", fontsize="medium")
    figure.colorbar(shown, label=QUANTITIES[quantity])
    return figure  # type: ignore[no-any-return]


@with_defaults
def availability(found: Availability, chunk_s: float = 86400.0, ax: Axes | None = None) -> Figure:
    """Draw the share of windows used by component of a station (slot) and chunk, whose length is ``chunk_s``."""
    slots = found.slots
    figure, axes = axes_for(ax, 8, min(20.0, 2 + 0.2 * len(slots)))
    starts = np.array(found.starts_ns, "datetime64[ns]")
    ends = starts + np.timedelta64(round(chunk_s * 1e9), "ns")
    edges, share = edges_of(days(starts), days(ends), np.asarray(found.share).T)
    image = axes.pcolormesh(edges, np.arange(len(slots) + 1), share.T, vmin=0, vmax=1, cmap="viridis", rasterized=True)
    axes.invert_yaxis()
    if len(slots) <= 80:
        axes.set_yticks(np.arange(len(slots)) + 0.5, slots)
    else:
        axes.set_ylabel(f"{len(slots)} components of stations, {slots[0]} to {slots[-1]}")
    axes.set_xlabel("date (UTC)")
    axes.set_title("white: nothing there", fontsize="medium")
    date_axis(axes.xaxis)
    figure.colorbar(image, label="share of windows used")
    return figure  # type: ignore[no-any-return]
