"""Figures of results: record section by distance, one pair, availability."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np

from xcorr.core import XcorrError
from xcorr.results import Results, ResultsError
from xcorr.store.accounts import Availability

SECTION_BINS = 60
P = ParamSpec("P")


class PlotError(XcorrError, ValueError):
    """A picture that cannot be drawn or written."""


def _with_defaults(draw: Callable[P, None]) -> Callable[P, None]:
    """Draw with Matplotlib's defaults: a ``matplotlibrc`` in the current folder could have it run LaTeX."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **options: P.kwargs) -> None:
        import matplotlib

        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            draw(*args, **options)

    return drawn


@_with_defaults
def record_section(results: Results, path: Path, components: str = "ZZ", max_lag_s: float | None = None) -> None:
    """Draw the stacks of all pairs against lag, by distance, each scaled to its maximum.

    Where all distances are unknown, pairs are drawn in the order of the list. Above 60 pairs, traces are averaged in
    60 bins of distance. Raises ResultsError if no pair has data.
    """
    gather = results.gather(components).astype(np.float64)
    distance = results.file["pairs"]["distance_m"][...] / 1000
    keep = np.isfinite(gather).all(axis=1)
    by_distance = bool(np.isfinite(distance[keep]).any())
    if by_distance:
        keep &= np.isfinite(distance)
    if not keep.any():
        raise ResultsError(f"no pair has a stack of {components}")
    gather, place = gather[keep], distance[keep] if by_distance else np.flatnonzero(keep).astype(float)
    gather /= np.maximum(np.abs(gather).max(axis=1, keepdims=True), np.finfo(float).tiny)
    if by_distance and len(gather) > SECTION_BINS:
        gather, place = _binned(gather, place)
    figure, axes = _figure(7, 8)
    spacing = np.ptp(place) / max(len(place) - 1, 1) or 1.0
    scale = 0.8 * spacing / np.abs(gather).max()
    for trace, at in zip(gather, place, strict=True):
        axes.plot(results.lags_s, at + scale * trace, color="black", linewidth=0.6)
    axes.set_xlabel("lag (s); positive: from station 1 to station 2")
    axes.set_ylabel("distance (km)" if by_distance else "pair, in the order of the list (distances unknown)")
    axes.set_title(f"{components}, {int(keep.sum())} pairs")
    limit = max_lag_s or results.lags_s[-1]
    axes.set_xlim(-limit, limit)
    _save(figure, path)


def _binned(gather: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    edges = np.linspace(distance.min(), distance.max(), SECTION_BINS + 1)
    bins = np.clip(np.digitize(distance, edges) - 1, 0, SECTION_BINS - 1)
    filled = np.unique(bins)
    means = np.array([gather[bins == b].mean(axis=0) for b in filled])
    return means, np.array([distance[bins == b].mean() for b in filled])


@_with_defaults
def pair(
    results: Results, path: Path, first: str, second: str, components: str = "ZZ", max_lag_s: float | None = None
) -> None:
    """Draw one pair: its stack with twice the standard error, and the series over time below."""
    stack = results.get(first, second, components)
    if not np.isfinite(stack.values).all():
        raise ResultsError(f"{first} and {second} have no stack of {components}")
    series = results.get(first, second, components, stack=None)
    figure, (above, below) = _figure(8, 7, rows=2)
    above.plot(results.lags_s, stack.values, color="black", linewidth=0.8)
    error = 2 * np.nan_to_num(stack.coords["std_error"].values)
    above.fill_between(results.lags_s, stack.values - error, stack.values + error, alpha=0.3)
    distance = stack.attrs["distance_m"] / 1000
    known = f"{distance:.1f} km, " if np.isfinite(distance) else ""
    above.set_title(
        f"{first} - {second} {components}, {known}{stack.attrs['n_windows']} windows, SNR {stack.attrs['snr']:.1f}"
    )
    above.set_ylabel("stack, shaded: two standard errors")
    limit = np.nanpercentile(np.abs(series.values), 99.5)
    start, end = results.pieces[0, 0], results.pieces[-1, 1]
    days = [(t - np.datetime64(0, "ns")) / np.timedelta64(1, "D") for t in (start, end)]
    extent = (results.lags_s[0], results.lags_s[-1], days[1], days[0])
    below.imshow(series.values, aspect="auto", cmap="RdBu", vmin=-limit, vmax=limit, extent=extent)
    below.yaxis_date()
    shown = max_lag_s or results.lags_s[-1]
    for axes in (above, below):
        axes.set_xlim(-shown, shown)
    below.set_xlabel("lag (s); positive: from station 1 to station 2")
    _save(figure, path)


@_with_defaults
def availability(found: Availability, path: Path) -> None:
    """Draw the share of windows used by slot and chunk."""
    slots, share = found.slots, found.share
    figure, axes = _figure(8, min(20.0, 2 + 0.2 * len(slots)))
    image = axes.imshow(share, aspect="auto", vmin=0, vmax=1, cmap="viridis", interpolation="nearest")
    axes.set_yticks(range(len(slots)), slots) if len(slots) <= 80 else axes.set_ylabel("slot")
    axes.set_xlabel("chunk")
    figure.colorbar(image, label="share of windows used")
    _save(figure, path)


def _figure(width: float, height: float, rows: int = 1) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # not pyplot, which keeps its figures open
    return figure, figure.subplots(rows)


def _save(figure: Any, path: Path) -> None:
    try:
        figure.savefig(path, dpi=120)
    except (ValueError, OSError) as error:
        raise PlotError(f"cannot write the picture {str(path)!r}: {error}") from error
