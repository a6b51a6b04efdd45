"""Pages of pairs: the table with facets, one pair, the gather."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import Annotated, Any
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from xcorr.core import XcorrError
from xcorr.provenance.campaign_lineage import CampaignLineage
from xcorr.provenance.grouped import grouped, sentences
from xcorr.results.pair_table import LISTED
from xcorr.web.answers import offset_of, token_of
from xcorr.web.campaigns import Campaign
from xcorr.web.pages.render import Click, home, map_of, page, query, ways
from xcorr.web.problems import Problem
from xcorr.web.routes import Served
from xcorr.web.routes.pairs import OnePair, PairList, chosen, counted
from xcorr.web.routes.pictures import TITLES, GatherOf, MatrixOf, gather_picture, matrix_picture

router = APIRouter()
CLASSES = {
    "distance_km": ("distance_km_min", "distance_km_max", "distance (km)"),
    "azimuth_deg": ("azimuth_min", "azimuth_max", "azimuth (°)"),
    "snr": ("snr_min", "snr_max", "signal-to-noise ratio"),
    "symmetry": ("symmetry_min", "symmetry_max", "symmetry"),
    "n_windows": ("n_windows_min", "n_windows_max", "windows"),
}


class PairsPage(PairList, MatrixOf):
    """The pairs page has the list and the matrix."""


@router.get("/c/{c}/pairs")
def pairs(one: Served, request: Request, asked: Annotated[PairsPage, Query()]) -> Response:
    """Show the pairs chosen as a table with facets, on a map, and as a matrix."""
    stamp, base = one.stamp("xcorr.h5"), f"{home(request, one)}/pairs"
    table, rows = chosen(one, asked)
    ordered = table.ordered(rows, asked.sort) if asked.sort else rows
    first = offset_of(asked.next, stamp)
    given = {k: v for k, v in asked.given().items() if k not in ("next",)}
    selection = {k: v for k, v in given.items() if k not in ("sort", "limit", "quantity", "fields", "nodata", "format")}
    facets = counted(table, rows)
    for name, of in facets["classes"].items():
        low, high, _ = CLASSES[name]
        of["links"] = [
            base + query(given, **{low: _low(of["edges"][k], name), high: _high(of["edges"], k + 1, name)}) if n else ""
            for k, n in enumerate(of["counts"])
        ]
    for of in facets["networks"]:
        first_net, second_net = of["ends"]
        of["link"] = base + query(given, where=_of_networks(first_net, second_net, asked.where))
    shown = [table.pair(int(r)) for r in ordered[first : first + asked.limit]]
    for row in shown:
        row["link"] = _address(one, request, row["station_1"], row["station_2"]) + query(_of_stack(asked))
    after = first + asked.limit
    ends = (table.ends[0][rows], table.ends[1][rows])
    return page(
        request, "pairs.html", "Pairs", one, "/pairs",
        ways(request, one, "/pairs", {k: v for k, v in given.items() if k != "quantity"}, _python(asked, table.of),
             _listed(asked)),
        asked=asked, rows=shown, names=LISTED, total=len(rows), first=first, facets=facets, classes=CLASSES,
        next=base + query(given, next=token_of(after, stamp)) if after < len(rows) else "",
        sorts={n: base + query(given, sort=f"-{n}" if asked.sort == n else n) for n in LISTED},
        map=map_of(request, one, ends, lambda name: base + query(given, sta1=name)),
        selection=selection, given=given, of=table.of, results=one.results(), quantities=list(TITLES),
        csv=query(selection, format="csv", limit=1000, sort=asked.sort), download=query(selection),
        clear=base,
    )  # fmt: skip


def _low(edge: float, name: str) -> Any:
    return int(np.ceil(edge)) if name == "n_windows" else edge


def _high(edges: list[float], k: int, name: str) -> Any:
    """Return the largest value of a class: its upper edge belongs to the next class, if there is one."""
    if k == len(edges) - 1:
        return int(edges[k]) if name == "n_windows" else edges[k]
    return int(np.ceil(edges[k])) - 1 if name == "n_windows" else float(np.nextafter(edges[k], -np.inf))


def _of_networks(first: str, second: str, where: str) -> str:
    """Return a condition for pairs between two networks, together with another one."""
    orders = dict.fromkeys(((first, second), (second, first)))
    either = [f"network_1 == {a!r} and network_2 == {b!r}" for a, b in orders]
    both = f"({' or '.join(either)})"
    return f"({where}) and {both}" if where.strip() else both


def _of_stack(asked: Any) -> dict[str, str]:
    return {k: getattr(asked, k) for k in ("components", "stack", "band")}


def _python(asked: Any, of: Any) -> str:
    found = asked.selection()
    parts = [f"pairs={list(found.pairs)!r}"] if found.pairs else []
    parts += [f"networks={list(found.networks)!r}"] if found.networks else []
    parts += [f"azimuth_deg={found.azimuth_deg!r}"] if found.azimuth_deg else []
    parts += [f"where={found.where!r}"] if found.where else []
    parts += [f"components={of[0]!r}", f"stack={of[1]!r}", *([f"band={of[2]!r}"] if of[2] else [])]
    return f"r.select({', '.join(parts)})"


def _options(asked: Any) -> str:
    """Return the options of the command line for the pairs selected."""
    found = asked.selection()
    parts = [f"--pairs {shlex.quote(p)}" for p in found.pairs]
    parts += [f"--network {shlex.quote(n)}" for n in found.networks]
    parts += [f"--azimuth {found.azimuth_deg[0]!r} {found.azimuth_deg[1]!r}"] if found.azimuth_deg else []
    parts += [f"--where {shlex.quote(found.where)}"] if found.where else []
    named = (("--components", asked.components), ("--stack", asked.stack), ("--band", asked.band))
    return "".join(f" {p}" for p in [*parts, *(f"{n} {shlex.quote(v)}" for n, v in named if v)])


def _listed(asked: Any) -> str:
    """Return the command that lists the pairs selected, or exports them if conditions alone do not select them."""
    found = asked.selection()
    if found.pairs or found.networks or found.azimuth_deg:
        return f"xcorr export CAMPAIGN --format csv -o pairs.csv{_options(asked)}"
    options = _options(asked) if found.where else f" --where 'distance_km >= 0'{_options(asked)}"
    return f"xcorr prov query CAMPAIGN{options}"


class MatrixClick(MatrixOf, Click):
    """Where the matrix was clicked."""


@router.get("/c/{c}/matrix-at")
def matrix_at(one: Served, request: Request, asked: Annotated[MatrixClick, Query()]) -> Response:
    """Go to the pair at a place of the matrix."""
    made, stations = matrix_picture(one, asked)
    cell = made.cell(asked.at_x or 0.0, asked.at_y or 0.0)
    names = one.results().dataset("stations")["id"].astype(str)
    if cell is None:
        rest = {k: v for k, v in asked.given().items() if not k.startswith("at_")}
        return RedirectResponse(f"{home(request, one)}/pairs{query(rest)}", 303)
    first, second = (names[stations[k]] for k in cell)
    return _to_pair(one, request, first, second, asked)


def _address(one: Campaign, request: Request, first: str, second: str) -> str:
    return f"{home(request, one)}/pair/{quote(first, safe='')}/{quote(second, safe='')}"


def _to_pair(one: Campaign, request: Request, first: str, second: str, asked: Any) -> Response:
    try:
        row = one.row(first, second)
    except Problem:  # such as a station with itself
        return RedirectResponse(f"{home(request, one)}/pairs{query(_of_stack(asked), sta1=first, sta2=second)}", 303)
    ends = one.table().ends
    names = one.table().stations
    address = _address(one, request, names[ends[0][row]], names[ends[1][row]])
    return RedirectResponse(address + query(_of_stack(asked)), 303)


@router.get("/c/{c}/pair/{a}/{b}")
def pair(one: Served, a: str, b: str, request: Request, asked: Annotated[OnePair, Query()]) -> Response:
    """Show one pair: stack with error, series by date, windows by verdict, lineage in sentences, downloads."""
    row, results, base = one.row(a, b), one.results(), home(request, one)
    components, stack = asked.components or one.main_components(), asked.stack or results.main_stack
    found = results.get(a, b, components, stack, asked.band, asked.insist)
    given = {"components": components, "stack": stack, "band": asked.band, "insist": asked.insist or ""}
    told, files, verdicts = _lineage(one, a, b, components, stack, asked.band)
    pairs = results.dataset("pairs")[row : row + 1]
    facts = [(k.replace("_", " "), f"{v:.6g}" if isinstance(v, float) else v) for k, v in found.attrs.items() if v == v]
    here = _address(one, request, a, b)

    def to_pairs(name: str) -> str:
        return f"{base}/pairs" + query({"sta1": name})

    call = f"{a!r}, {b!r}, {components!r}"
    both = f"{shlex.quote(a)} {shlex.quote(b)}"
    more = f" --band {shlex.quote(asked.band)}" if asked.band else ""
    return page(
        request, "pair.html", f"{a} – {b}", one, "/pairs",
        ways(request, one, f"/pairs/{quote(a, safe='')}/{quote(b, safe='')}", given,
             f"r.get({call})  # the stack\nr.get({call}, None)  # the series\nr.trace({call})  # ObsPy",
             f"xcorr plot CAMPAIGN --pair {both} --components {components} --stack {stack}{more}"),
        a=a, b=b, facts=facts, given=query(given), results=results,
        has_data=bool(found.attrs["n_windows"]), has_series=results.has_series(components, asked.band),
        told=told, files=files, verdicts=verdicts, components=components, stack=stack, band=asked.band,
        map=map_of(request, one, (pairs["station_1"], pairs["station_2"]), to_pairs),
        lineage=f"{base}/lineage" + query({"pair": f"{a}-{b}", **given, "insist": ""}),
        others={c: here + query(given, components=c) for c in results.components},
        turned={c: here + query(given, components=c) for c in _turned(results)},
    )  # fmt: skip


def _turned(results: Any) -> list[str]:
    """Return the component pairs of R and T that can be made of those stored."""
    there = set(results.components)
    able = {"NN", "NE", "EN", "EE"} <= there and not results.settings.rotation_doubts
    return [c for c in ("RR", "TT", "RT", "TR") if able and c not in there]


def _lineage(one: Campaign, a: str, b: str, components: str, stack: str, band: str) -> Any:
    """Return the lineage of a stack in sentences, its files (at most 10, and how many), and windows by verdict."""
    try:
        with CampaignLineage(one.folder, one.results()) as of:
            whole = of.of_pair(a, b, components, stack, band)
    except XcorrError as error:  # such as series that were not kept
        return [str(error)], ([], 0), {}
    files = sorted(name.removeprefix("file:") for name in whole.entities if name.startswith("file:"))
    verdicts: dict[str, Counter[str]] = {}
    for name, about in whole.entities.items():
        for key in about:
            if key.startswith("windows."):
                channel = str(about.get(f"channel.{key[-1]}") or name.rpartition("/")[2])
                for part in filter(None, about[key].split(", ")):
                    n, _, reason = part.partition(" ")
                    verdicts.setdefault(channel, Counter())[reason] += int(n)
    return sentences(grouped(whole, "station")), (files[:10], len(files)), verdicts


def _lags(asked: GatherOf) -> str:
    """Return the option of the command line for the lags shown, which lie around zero there."""
    ends = [abs(lag) for lag in (asked.lag_min, asked.lag_max) if lag]
    return f" --max-lag {max(ends):g}" if ends else ""


class GatherPage(GatherOf, Click):
    """The gather page, and where its picture was clicked."""


@router.get("/c/{c}/gather")
def gather(one: Served, request: Request, asked: Annotated[GatherPage, Query()]) -> Response:
    """Show the gather of the pairs chosen; a click on a trace leads to its pair."""
    table, rows = chosen(one, asked)
    given = {k: v for k, v in asked.model_dump(exclude_defaults=True).items() if not k.startswith("at_") and v != ""}
    problem, size = "", (930, 650)
    try:
        made, ordered = gather_picture(one, asked)
        size = made.size
        if asked.at_x is not None and (cell := made.cell(asked.at_x, asked.at_y or 0.0)):
            row = int(ordered[cell[0] * -(-len(ordered) // len(made.image))])
            first, second = (table.stations[end[row]] for end in table.ends)
            return _to_pair(one, request, first, second, asked)
    except XcorrError as error:
        problem = str(error)
    return page(
        request, "gather.html", "Gather", one, "/gather",
        ways(request, one, "/gather", given,
             f"chosen = {_python(asked, table.of)}\nr.gather({table.of[0]!r}, rows=chosen.index)  # [pair, lag]",
             f"xcorr plot CAMPAIGN{_options(asked)}{_lags(asked)} --velocity {shlex.quote(asked.velocities or '2,3')}"),
        asked=asked, given=given, query=query(given), total=len(rows), problem=problem, results=one.results(),
        of=table.of, width=size[0], height=size[1],
    )  # fmt: skip
