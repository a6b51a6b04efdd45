"""What all figures share: Matplotlib's defaults, axes of dates, writing."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from xcorr.core import XcorrError
from xcorr.results.pair_table import PairTable
from xcorr.results.reader import Results
from xcorr.results.selection import Selection

DPI = 120
LAG = "lag (s); positive: from station 1 to station 2"
P = ParamSpec("P")
R = TypeVar("R")


class PlotError(XcorrError, ValueError):
    """A picture that cannot be drawn or written."""


def with_defaults(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw with Matplotlib's defaults: a ``matplotlibrc`` in the current folder could have it run LaTeX."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **options: P.kwargs) -> R:
        import matplotlib

        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            return draw(*args, **options)

    return drawn


def new_figure(
    width: float, height: float, rows: int = 1, heights: tuple[float, ...] | None = None, columns: int = 1
) -> tuple[Any, Any]:
    """Return a figure (inches) and its axes, without pyplot, which keeps its figures open. ``heights`` are relative."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    class Picture(Figure):
        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, dpi=DPI)
            return buffer.getvalue()

    figure = Picture(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, height_ratios=heights)


def axes_for(ax: Any | None, width: float, height: float) -> tuple[Any, Any]:
    """Return the figure and the axes to draw in: those of the caller, or new ones of a size in inches."""
    return new_figure(width, height) if ax is None else (ax.figure, ax)


def encoded(figure: Any, kind: str) -> bytes:
    """Return a figure as ``png`` or ``svg``."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DPI)
    return buffer.getvalue()


@with_defaults
def save(figure: Any, path: Path) -> None:
    """Write a figure in the format that the name's end says. Raises PlotError if it cannot be written."""
    try:
        figure.savefig(path, dpi=DPI)
    except (ValueError, OSError) as error:
        raise PlotError(f"cannot write the picture {str(path)!r}: {error}") from error


def rows_of(
    results: Results,
    selection: Selection | None,
    components: str = "ZZ",
    stack: str | None = None,
    band: str = "",
    insist: bool = False,
) -> np.ndarray:
    """Return the rows of the pairs selected; conditions on numbers of a stack are on those of the stack named."""
    return (selection or Selection()).rows(PairTable(results, components, stack, band, insist))


def what(results: Results, components: str, stack: str, band: str) -> str:
    """Return components, stack and band in words, for titles."""
    return f"{components}, {stack} stack" + (f", band {band}" if band else "")


def amplitude(results: Results, components: str) -> str:
    """Return the label of an axis of correlations."""
    units = results.units_of(components)
    return "correlation" + (f" ({units})" if units != "1" else " (no unit)")


def days(times: np.ndarray) -> np.ndarray:
    """Return times (datetime64) as Matplotlib has dates."""
    found: np.ndarray = (times - np.datetime64(0, "ns")) / np.timedelta64(1, "D")
    return found


def date_axis(axis: Any) -> None:
    """Make an axis one of dates."""
    import matplotlib.dates

    dates: Any = matplotlib.dates  # without types
    locator = dates.AutoDateLocator()
    axis.axis_date()
    axis.set_major_locator(locator)
    axis.set_major_formatter(dates.ConciseDateFormatter(locator))


def edges_of(starts: np.ndarray, ends: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return edges in time, and values [piece, ...] with rows of NaN in the gaps between pieces."""
    edges, rows = [starts[0]], []
    for start, end, row in zip(starts, ends, values, strict=True):
        if start > edges[-1]:
            edges.append(start)
            rows.append(np.full(row.shape, np.nan))
        edges.append(end)
        rows.append(row)
    return np.array(edges), np.array(rows)
