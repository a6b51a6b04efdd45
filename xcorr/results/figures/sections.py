"""Correlations against lag: all pairs by distance, and one pair over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from xcorr.results.errors import ResultsError
from xcorr.results.figures.style import (
    LAG,
    amplitude,
    axes_for,
    date_axis,
    days,
    edges_of,
    new_figure,
    rows_of,
    what,
    with_defaults,
)
from xcorr.results.reader import Results
from xcorr.results.selection import Selection

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SECTION_BINS = 60
MOST_PIECES, MOST_LAGS = 2000, 2000  # shown of a series


@with_defaults
def record_section(
    results: Results,
    components: str = "ZZ",
    max_lag_s: float | None = None,
    stack: str | None = None,
    band: str = "",
    selection: Selection | None = None,
    velocity_km_s: Sequence[float] = (),
    insist: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Draw the stacks of pairs against lag, by distance, each scaled to its maximum, with lines of velocities.

    Where all distances are unknown, pairs are drawn in the order of the list. Above 60 pairs, traces are averaged in
    60 bins of distance; the title says so. Raises ResultsError if no pair has data, or as :meth:`Results.gather`.
    """
    stack = stack or results.main_stack
    rows = rows_of(results, selection, components, stack, band, insist)
    gather = results.gather(components, stack, band, rows, insist).astype(np.float64)
    distance = results.dataset("pairs")["distance_m"][rows] / 1000
    keep = np.isfinite(gather).all(axis=1)
    by_distance = bool(np.isfinite(distance[keep]).any())
    if by_distance:
        keep &= np.isfinite(distance)
    if not keep.any():
        raise ResultsError(f"no pair has a stack of {components}" + (" among those selected" if selection else ""))
    gather, place = gather[keep], distance[keep] if by_distance else rows[keep].astype(float)
    gather /= np.maximum(np.abs(gather).max(axis=1, keepdims=True), np.finfo(float).tiny)
    title = f"{what(results, components, stack, band)}\n{int(keep.sum())} pairs, each scaled to its maximum"
    if by_distance and len(gather) > SECTION_BINS:
        gather, place = _binned(gather, place)
        title += f", averaged in {len(gather)} bins of distance"
    figure, axes = axes_for(ax, 7, 8)
    spacing = np.ptp(place) / max(len(place) - 1, 1) or 1.0
    scale = 0.8 * spacing / np.abs(gather).max()
    for trace, at in zip(gather, place, strict=True):
        axes.plot(results.lags_s, at + scale * trace, color="black", linewidth=0.6)
    limit = max_lag_s or results.lags_s[-1]
    if by_distance:
        _velocities(axes, velocity_km_s, place)
    axes.set_xlabel(LAG)
    axes.set_ylabel("distance (km)" if by_distance else "pair, in the order of the list (distances unknown)")
    axes.set_title(title, fontsize="medium")
    axes.set_xlim(-limit, limit)
    return figure  # type: ignore[no-any-return]


def _velocities(axes, velocity_km_s: Sequence[float], distance: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    """Draw the lags at which waves of these velocities arrive, on both sides of zero."""
    ends = np.array([max(0.0, distance.min()), distance.max()])
    for k, velocity in enumerate(velocity_km_s):
        for sign in (-1, 1):
            label = f"{velocity:g} km/s" if sign > 0 else None
            axes.plot(sign * ends / velocity, ends, "--", color=f"C{k}", linewidth=1.2, label=label)
    if velocity_km_s:
        axes.legend(loc="upper left", fontsize="small")


def _binned(gather: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    edges = np.linspace(distance.min(), distance.max(), SECTION_BINS + 1)
    bins = np.clip(np.digitize(distance, edges) - 1, 0, SECTION_BINS - 1)
    filled = np.unique(bins)
    means = np.array([gather[bins == b].mean(axis=0) for b in filled])
    return means, np.array([distance[bins == b].mean() for b in filled])


@with_defaults
def pair(
    results: Results,
    first: str,
    second: str,
    components: str = "ZZ",
    max_lag_s: float | None = None,
    stack: str | None = None,
    band: str = "",
    insist: bool = False,
    with_series: bool = True,
) -> Figure:
    """Draw one pair: its stack with twice the standard error, and the series over time below if there is one.

    Raises ResultsError if the pair has no stack.
    """
    stack = stack or results.main_stack
    found = results.get(first, second, components, stack, band, insist)
    if not np.isfinite(found.values).all():
        raise ResultsError(f"{first} and {second} have no stack of {components}")
    with_series = with_series and results.has_series(components, band)
    figure, axes = new_figure(8, 7 if with_series else 4, rows=2 if with_series else 1)
    above = axes[0] if with_series else axes
    above.plot(results.lags_s, found.values, color="black", linewidth=0.8)
    error = 2 * np.nan_to_num(found.coords["std_error"].values)
    above.fill_between(results.lags_s, found.values - error, found.values + error, alpha=0.3)
    distance = found.attrs["distance_m"] / 1000
    known = f", {distance:.1f} km, azimuth {found.attrs['azimuth_deg']:.0f}°" if np.isfinite(distance) else ""
    above.set_title(
        f"{first} - {second}{known}\n{what(results, components, stack, band)}, {found.attrs['n_windows']} windows, "
        f"SNR {found.attrs['snr']:.1f}; shaded: two standard errors",
        fontsize="medium",
    )
    above.set_ylabel(amplitude(results, components))
    shown = max_lag_s or results.lags_s[-1]
    above.set_xlim(-shown, shown)
    if with_series:
        _series(results, figure, axes[1], results.get(first, second, components, None, band, insist).values, shown)
        axes[1].set_ylabel("date (UTC)")
    (axes[1] if with_series else above).set_xlabel(LAG)
    return figure  # type: ignore[no-any-return]


def _series(results: Results, figure, axes, series: np.ndarray, shown: float) -> None:  # type: ignore[no-untyped-def]
    """Draw a series [piece, lag] over time, with gaps where there are no pieces."""
    inside = np.flatnonzero(np.abs(results.lags_s) <= shown)[:: max(1, -(-len(results.lags_s) // MOST_LAGS))]
    step = -(-len(series) // MOST_PIECES)
    pieces = results.pieces
    known = np.isfinite(series[:, 0])
    starts = np.arange(0, len(series), step)
    counts = np.add.reduceat(known.astype(float), starts)[:, None]
    sums = np.add.reduceat(np.where(known[:, None], series[:, inside], 0.0), starts)
    means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    ends = pieces[np.minimum(starts + step, len(series)) - 1, 1]
    edges, rows = edges_of(days(pieces[starts, 0]), days(ends), means)
    lags = results.lags_s[inside]
    half = (lags[1] - lags[0]) / 2
    limit = np.nanpercentile(np.abs(series), 99.5) if known.any() else 1.0
    image = axes.pcolormesh(
        np.append(lags - half, lags[-1] + half), edges, rows, cmap="RdBu", vmin=-limit, vmax=limit, rasterized=True
    )
    axes.invert_yaxis()
    axes.set_xlim(-shown, shown)
    date_axis(axes.yaxis)
    length = (pieces[0, 1] - pieces[0, 0]) / np.timedelta64(1, "s") * step
    axes.set_title(f"{len(series)} pieces, {length:g} s in each row", fontsize="medium")
    figure.colorbar(image, ax=axes, label="correlation")
