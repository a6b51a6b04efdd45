"""Pairs: which there are, how they are distributed, and the correlations of one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field

from xcorr.results import figures
from xcorr.results.export import one_pair
from xcorr.results.packed import exported
from xcorr.results.pair_table import LISTED, PairTable
from xcorr.web.answers import as_json, attachment, fresh, listing, offset_of, produces, token_of
from xcorr.web.campaigns import DRAWING, Campaign, heavy
from xcorr.web.parameters import LAST_NS, Listed, OfStack, Pairs, Time, as_ns
from xcorr.web.problems import Problem
from xcorr.web.routes import API, Served

router = APIRouter(tags=["pairs"])
MOST_VALUES = 2_000_000  # numbers in one answer as JSON or CSV
HISTOGRAM = 20
KINDS = {
    "mseed": "application/vnd.fdsn.mseed",
    "sac": "application/octet-stream",
    "nc": "application/x-netcdf",
    "csv": "text/csv",
    "png": "image/png",
    "svg": "image/svg+xml",
}
EXPORTS = {"mseed": "mseed", "sac": "sac", "nc": "netcdf", "csv": "csv"}


class PairList(Pairs, Listed):
    """Which pairs, and how the list is given."""

    sort: str = Field("", max_length=40, description="Field to sort by, as -snr for the largest first.")
    format: Literal["json", "ndjson", "csv"] = "json"


@router.get(API + "/{c}/pairs", responses=produces("application/x-ndjson", "text/csv", model=True))
def pairs(one: Served, request: Request, asked: Annotated[PairList, Query()]) -> Response:
    """List pairs with distance, azimuths, signal-to-noise ratio, symmetry and number of windows of a stack."""
    stamp = one.stamp("xcorr.h5")
    headers = fresh(request, stamp)
    table, rows = chosen(one, asked)
    if asked.sort:
        rows = table.ordered(rows, asked.sort)
    first = offset_of(asked.next, stamp)
    shown = [table.pair(int(row)) for row in rows[first : first + asked.limit]]
    after = token_of(first + asked.limit, stamp) if first + asked.limit < len(rows) else None
    return listing(request, asked, shown, asked.format, headers, len(rows), first, after, LISTED)


def chosen(one: Campaign, asked: Pairs) -> tuple[PairTable, np.ndarray]:
    """Return the table of pairs, and the rows that are asked for."""
    table = one.table(asked.components, asked.stack, asked.band)
    return table, asked.selection().rows(table)


@router.get(API + "/{c}/pairs/facets", responses=produces("application/json"))
def facets(one: Served, request: Request, asked: Annotated[Pairs, Query()]) -> Response:
    """Count the pairs chosen by networks, and in classes of distance, azimuth, signal-to-noise ratio, symmetry."""
    headers = fresh(request, one.stamp("xcorr.h5"))
    table, rows = chosen(one, asked)
    return as_json({"total": len(rows), **counted(table, rows)}, headers)


def counted(table: PairTable, rows: np.ndarray) -> dict[str, Any]:
    """Return the numbers of pairs by networks and by classes of each number."""
    networks, number = np.unique([s.partition(".")[0] for s in table.stations], return_inverse=True)
    ends = [number[end[rows]] for end in table.ends]
    code = np.minimum(*ends) * len(networks) + np.maximum(*ends)
    of = np.bincount(code, minlength=len(networks) ** 2)
    by_network = [
        {"networks": f"{a}-{b}", "ends": [a, b], "count": int(of[k])}
        for k in np.argsort(-of, kind="stable")[:100]
        for a, b in [(str(networks[k // len(networks)]), str(networks[k % len(networks)]))]
        if of[k]
    ]
    classes = {}
    for name in ("distance_km", "azimuth_deg", "snr", "symmetry", "n_windows"):
        values = np.asarray(table[name][table.ordered(rows, name)], np.float64)  # NaN last
        known = values[: int(np.count_nonzero(np.isfinite(values)))]
        if not len(known):
            continue
        low, high = (0.0, 360.0) if name == "azimuth_deg" else (float(known[0]), float(known[-1]))
        edges = np.linspace(low, high, HISTOGRAM + 1)
        first = np.searchsorted(known, edges[1:-1])  # of each class but the first
        classes[name] = {
            "edges": edges.tolist(),
            "counts": np.diff([0, *first, len(known)]).tolist(),
            "unknown": int(len(values) - len(known)),
        }
    return {"networks": by_network, "classes": classes}


class OnePair(OfStack):
    """Which correlation of a pair."""

    reverse: bool = Field(False, description="Positive lag from station 2 to 1, as ObsPy, yam and dispel4py have it.")
    insist: bool = Field(False, description="Make R and T even where N and E had different weights.")


class Correlation(OnePair):
    """Which correlation of a pair, and in which format."""

    format: Literal["json", "mseed", "sac", "nc", "csv", "png", "svg"] = "json"


@router.get(API + "/{c}/pairs/{a}/{b}", responses=produces("application/json", *KINDS.values()))
def pair(one: Served, a: str, b: str, request: Request, asked: Annotated[Correlation, Query()]) -> Response:
    """Give the stack of a pair; R and T are made of N and E where these are stored."""
    headers = fresh(request, one.stamp("xcorr.h5"))
    one.row(a, b)
    if asked.format in ("png", "svg"):
        return _picture(one, a, b, asked, headers)
    found = correlation(one, a, b, asked)
    if asked.format == "json":
        about = {k: _plain(v) for k, v in found.attrs.items()}
        values = {"lag_s": found["lag_s"], "values": found, "std_error": found["std_error"]}
        return as_json(about | {name: _numbers(v.values) for name, v in values.items()}, headers)
    return _file(found, asked.format, headers)


class Series(OnePair):
    """Which series of a pair."""

    start: Time = ""
    end: Time = ""
    format: Literal["json", "mseed", "nc", "csv", "png", "svg"] = "json"


@router.get(API + "/{c}/pairs/{a}/{b}/series", responses=produces("application/json", *KINDS.values()))
def series(one: Served, a: str, b: str, request: Request, asked: Annotated[Series, Query()]) -> Response:
    """Give the correlations of a pair, one for each piece of time that has data; ``png`` is a waterfall by date."""
    headers = fresh(request, one.stamp("xcorr.h5"))
    one.row(a, b)
    results, components = one.results(), asked.components or one.main_components()
    with heavy():
        if asked.format in ("png", "svg"):
            found = results.get(a, b, components, None, asked.band, asked.insist)
            picture = figures.waterfall(found, results.pieces, _within(asked))
            return Response(picture.encoded(asked.format), 200, headers, KINDS[asked.format])
        found = one_pair(
            results, a, b, components, None, asked.band, asked.reverse, asked.insist, within_ns=_within(asked)
        )
    if not len(found):
        raise Problem(404, f"{a} and {b} have no correlations of {components} in this time")
    if asked.format in ("json", "csv") and found.size > MOST_VALUES:
        most = MOST_VALUES // found.shape[1]
        raise Problem(413, f"{found.size:,} numbers; ask for at most {most} pieces by start and end, or for format=nc")
    if asked.format == "json":
        about = {k: _plain(v) for k, v in found.attrs.items()}
        times = np.datetime_as_string(found["time"].values.astype("M8[ms]"), timezone="UTC").tolist()
        rows = [_numbers(row) for row in found.values]
        windows = found["n_windows"].values.tolist()
        lags = _numbers(found["lag_s"].values)
        return as_json(about | {"time": times, "n_windows": windows, "lag_s": lags, "values": rows}, headers)
    return _file(found, asked.format, headers)


def _within(asked: Series) -> tuple[int, int]:
    return as_ns(asked.start, -LAST_NS), as_ns(asked.end, LAST_NS)


def correlation(one: Campaign, a: str, b: str, asked: OnePair) -> Any:
    """Return the stack of a pair as ``xcorr export`` writes it. Raises Problem 404 if it has no data."""
    results, components = one.results(), asked.components or one.main_components()
    stack = asked.stack or results.main_stack
    found = one_pair(results, a, b, components, stack, asked.band, asked.reverse, asked.insist)
    if not found.attrs["n_windows"]:
        raise Problem(404, f"{a} and {b} have no stack of {components}: no window of both was used at the same time")
    return found


def _picture(one: Campaign, a: str, b: str, asked: Correlation, headers: dict[str, str]) -> Response:
    results, components = one.results(), asked.components or one.main_components()
    with heavy(), DRAWING:
        figure = figures.pair(
            results, a, b, components, None, asked.stack or None, asked.band, asked.insist, with_series=False
        )
        made = figures.encoded(figure, asked.format)
    return Response(made, 200, headers, KINDS[asked.format])


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if value != value else value


def _numbers(values: np.ndarray) -> list[float | None]:
    """Return numbers as the shortest decimals that are them; None for NaN, which JSON lacks."""
    return [None if v != v else float(str(v)) for v in np.asarray(values)]


def _file(found: Any, kind: str, headers: dict[str, str]) -> Response:
    """Return a correlation in the format of another program, as ``xcorr export`` writes it."""
    a = found.attrs
    name = "_".join((a["station_1"], a["station_2"], a["components"]))
    headers |= attachment(f"{name}.{kind}")
    with heavy(), exported([found], EXPORTS[kind]) as files:
        return Response(b"".join(path.read_bytes() for _, path in files), 200, headers, KINDS[kind])
