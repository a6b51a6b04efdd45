"""Pictures of many pairs: gather and matrix."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field

from xcorr.results import figures
from xcorr.results.figures.heat import MOST_ROWS
from xcorr.results.framed import Framed
from xcorr.web.answers import fresh, produces
from xcorr.web.campaigns import Campaign, heavy
from xcorr.web.parameters import Pairs
from xcorr.web.problems import Problem
from xcorr.web.routes import API, Served
from xcorr.web.routes.pairs import KINDS, chosen

MOST_PAIRS = 20_000  # whose stacks are read for one picture
router = APIRouter(tags=["pictures"])
TITLES = {
    "snr": "signal-to-noise ratio",
    "n_windows": "windows",
    "symmetry": "symmetry",
    "distance_km": "distance (km)",
}


class GatherOf(Pairs):
    """Which pairs, lags and velocities."""

    lag_min: float | None = Field(None, ge=-1e6, le=1e6, description="First lag shown (s).")
    lag_max: float | None = Field(None, ge=-1e6, le=1e6, description="Last lag shown (s).")
    norm: Literal["trace", "all"] = Field(
        "trace", description="Scale each trace to its maximum, or all to the largest."
    )
    bins: int = Field(MOST_ROWS, ge=1, le=2000, description="Most rows; neighbours of more pairs are averaged.")
    sample: int = Field(0, ge=0, le=MOST_PAIRS, description="Draw so many pairs, evenly by distance. 0: all.")
    velocities: str = Field("", max_length=100, description="Lines of these velocities in km/s, such as 2,3,4.")


class Gather(GatherOf):
    """Which pairs, lags and velocities, and in which format."""

    format: Literal["png", "svg"] = "png"


@router.get(API + "/{c}/gather", responses=produces("image/png", "image/svg+xml"))
def gather(one: Served, request: Request, asked: Annotated[Gather, Query()]) -> Response:
    """Draw the stacks of pairs, by distance from top to bottom."""
    headers = fresh(request, one.stamp("xcorr.h5"))
    with heavy():
        return Response(gather_picture(one, asked)[0].encoded(asked.format), 200, headers, KINDS[asked.format])


def gather_picture(one: Campaign, asked: GatherOf) -> tuple[Framed, np.ndarray]:
    """Return the picture of the pairs chosen, and their rows in the order shown. Raises Problem 413 for too many."""
    table, rows = chosen(one, asked)
    rows = rows[np.argsort(table["distance_km"][rows], kind="stable")]  # unknown distances come last
    if asked.sample and len(rows) > asked.sample:
        rows = rows[np.linspace(0, len(rows) - 1, asked.sample).round().astype(int)]
    if len(rows) > MOST_PAIRS:
        raise Problem(
            413,
            f"{len(rows):,} pairs; a gather shows at most {MOST_PAIRS:,}. Narrow by sta1, net, distance_km_max, "
            "snr_min or where, or draw a sample",
        )
    results, (components, stack, band) = one.results(), table.of
    first, last = float(results.lags_s[0]), float(results.lags_s[-1])
    low = first if asked.lag_min is None else asked.lag_min
    high = last if asked.lag_max is None else asked.lag_max
    if not low < high:
        raise Problem(
            400, f"lag_min = {low:g} is not smaller than lag_max = {high:g}; lags are {first:g} to {last:g} s"
        )
    made = figures.heat_gather(
        results,
        rows,
        table["distance_km"][rows],
        components,
        str(stack),
        band,
        (low, high),
        asked.norm,
        asked.bins,
        velocities(asked.velocities),
    )
    return made, rows


def velocities(text: str) -> tuple[float, ...]:
    """Return velocities (km/s). Raises Problem 400 for a text that is none."""
    try:
        found = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        found = (0.0,)
    if any(not 0 < v < 1000 for v in found):
        raise Problem(400, f"velocities = {text!r}: write velocities in km/s, such as 2,3,4")
    return found


class MatrixOf(Pairs):
    """Which pairs, and which number of them."""

    quantity: Literal["snr", "n_windows", "symmetry", "distance_km"] = "snr"


class Matrix(MatrixOf):
    """Which pairs, which number of them, and in which format."""

    format: Literal["png", "svg"] = "png"


@router.get(API + "/{c}/matrix", responses=produces("image/png", "image/svg+xml"))
def matrix(one: Served, request: Request, asked: Annotated[Matrix, Query()]) -> Response:
    """Draw a number of each pair, station against station."""
    headers = fresh(request, one.stamp("xcorr.h5"))
    with heavy():
        return Response(matrix_picture(one, asked)[0].encoded(asked.format), 200, headers, KINDS[asked.format])


def matrix_picture(one: Campaign, asked: MatrixOf) -> tuple[Framed, np.ndarray]:
    """Return the picture of the pairs chosen, and the stations' numbers in the order shown."""
    table, rows = chosen(one, asked)
    values = np.asarray(table[asked.quantity], np.float32)[rows]
    return figures.heat_matrix(one.results(), table.ends, rows, values, TITLES[asked.quantity])
