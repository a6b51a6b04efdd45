"""Pictures of many correlations in milliseconds: a pair by date, pairs by distance, station against station."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from xcorr.results.figures.style import what
from xcorr.results.framed import Framed, diverging, in_bins, names_along, require_some, sequential, ticks
from xcorr.results.reader import Results

if TYPE_CHECKING:
    import xarray

MOST_ROWS = 560  # of pieces or pairs that are shown apart; more are averaged
LAG = "lag (s); positive: from station 1 to station 2"


def waterfall(found: xarray.DataArray, pieces: np.ndarray, within_ns: tuple[int, int]) -> Framed:
    """Return the picture of a series [piece, lag] by date, from the pieces that begin within a time (ns).

    Pieces without data, and gaps between pieces, are grey. The largest of 99.5 % of all values has the full colour.
    """
    starts = pieces[:, 0].astype("M8[ns]").astype(np.int64)
    inside = (starts >= within_ns[0]) & (starts < within_ns[1])
    values, starts = found.values[inside], starts[inside]
    known = np.isfinite(values[:, 0]) if len(values) else np.zeros(0, bool)
    require_some(int(known.sum()), f"no piece of {found.name} in this time has data")
    length = int((pieces[0, 1] - pieces[0, 0]).astype(np.int64))
    place = (starts - starts[0]) // length  # in rows of equal length, so that gaps take their time
    size = int(place[-1]) + 1
    if size <= 100 * len(values):
        full = np.full((size, values.shape[1]), np.nan, np.float32)
        full[place] = values
    else:  # a few pieces far apart
        full, size = values, len(values)
    limit = float(np.nanpercentile(np.abs(values[known]), 99.5)) or 1.0
    image, _ = in_bins(full, MOST_ROWS)
    times = starts[0] + np.arange(size) * length if len(full) > len(values) else starts
    days = [str(np.datetime64(int(t), "ns"))[:16] for t in times]
    short = [day[:10] for day in days] if length % 86_400_000_000_000 == 0 else days
    lags = found["lag_s"].values
    return Framed(
        diverging(image / limit),
        f"{found.name}, {int(known.sum())} pieces of {length / 1e9:g} s",
        ticks(lags[0], lags[-1]),
        names_along(short, 12),
        LAG,
        "date (UTC)",
    )


def heat_gather(
    results: Results,
    rows: np.ndarray,
    distance_km: np.ndarray,
    components: str,
    stack: str,
    band: str = "",
    lags_s: tuple[float, float] | None = None,
    norm: str = "trace",
    most: int = MOST_ROWS,
    velocities_km_s: Sequence[float] = (),
    insist: bool = False,
) -> Framed:
    """Return the picture of stacks of pairs (rows in order of ``distance_km``), lags from left to right.

    ``norm``: each trace is scaled to its maximum (``trace``), or all to the largest (``all``). Above ``most`` pairs,
    neighbours are averaged.
    """
    lags = results.lags_s
    first, last = lags_s or (float(lags[0]), float(lags[-1]))
    columns = np.flatnonzero((lags >= first) & (lags <= last))
    require_some(len(rows) * len(columns), "no pair, or no lag, is selected")
    values = results.gather(components, stack, band, rows, insist, at_a_glance=True)[:, columns]
    size = np.nanmax(np.abs(values), axis=1, keepdims=True, initial=0)
    if norm == "all":
        size = np.full_like(size, size.max(initial=0))
    values = np.divide(values, size, out=np.full_like(values, np.nan), where=size > 0)
    image, starts = in_bins(values, most)
    names = [f"{d:.1f}" if np.isfinite(d) else "unknown" for d in distance_km[starts]]
    averaged = f", averaged in {len(image)} rows" if len(image) < len(rows) else ""
    shown = lags[columns]
    return Framed(
        diverging(image),
        f"{what(results, components, stack, band)}: {len(rows)} pairs{averaged}",
        ticks(shown[0], shown[-1]),
        names_along(names, 20),
        LAG,
        "distance (km)",
        lines=_moveouts(distance_km[starts], shown, velocities_km_s),
    )


def _moveouts(
    distance: np.ndarray, lags: np.ndarray, velocities: Sequence[float]
) -> tuple[tuple[float, float, float, float], ...]:
    """Return lines of the lags at which waves of these velocities arrive, in percent, on both sides of zero."""
    known = np.flatnonzero(np.isfinite(distance))
    if len(known) < 2:
        return ()
    lines, span = [], lags[-1] - lags[0]
    for velocity in velocities:
        for sign in (-1, 1):
            at = 100 * (sign * distance[known] / velocity - lags[0]) / span
            y = 100 * (known + 0.5) / len(distance)
            inside = (at >= 0) & (at <= 100)
            pairs = np.flatnonzero(inside[:-1] & inside[1:])
            lines += [(at[k], y[k], at[k + 1], y[k + 1]) for k in pairs]
    return tuple(lines)


def heat_matrix(
    results: Results, ends: tuple[np.ndarray, np.ndarray], rows: np.ndarray, values: np.ndarray, title: str
) -> tuple[Framed, np.ndarray]:
    """Return the picture of a number of each pair, station against station, and the stations' numbers in order.

    ``values`` [row] are of the pairs in ``rows``. The largest of 99 % of all values has the brightest colour.
    """
    require_some(len(rows), "no pair is selected")
    first, second = ends[0][rows], ends[1][rows]
    used = np.zeros(len(results.dataset("stations")), bool)
    used[first] = used[second] = True
    stations = np.flatnonzero(used)
    place = np.cumsum(used) - 1
    image = np.full((len(stations), len(stations)), np.nan, np.float32)
    image[place[first], place[second]] = image[place[second], place[first]] = values
    known = values[np.isfinite(values)]
    limit = float(np.percentile(known, 99)) if len(known) else 1.0
    names = results.dataset("stations")["id"][stations].astype(str).tolist()
    size = int(np.clip(16 * len(stations), 420, 560))
    made = Framed(
        sequential(image / (limit or 1.0)),
        f"{title}; brightest: {limit:.3g} or more",
        names_along(names, 12, size),
        names_along(names, 28),
        "station",
        "station",
        width=size,
        height=size,
    )
    return made, stations
