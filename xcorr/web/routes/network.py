"""Stations, and what became of every channel in every chunk."""

from __future__ import annotations

import datetime
import fnmatch
import json
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field

from xcorr.core.errors import nearest
from xcorr.pes.reading.waveform import NS
from xcorr.results import figures
from xcorr.results.framed import Framed, names_along, require_some, sequential
from xcorr.web.answers import fresh, listing, offset_of, place_of, produces, token_of
from xcorr.web.campaigns import DRAWING, OF_LEDGER, Campaign, heavy
from xcorr.web.parameters import LAST_NS, Channels, as_ns
from xcorr.web.problems import Problem
from xcorr.web.routes import API, Served

router = APIRouter(tags=["network"])
STATION = ("id", "network", "station", "latitude", "longitude", "elevation_m", "pairs")
ACCOUNT = (
    *("slot", "start", "status", "reason", "seed_id", "samples", "gaps", "gap_s", "zeros_s"),
    *("windows_used", "windows", "files", "note", "stale"),
)


class Stations(Channels):
    """Which stations."""

    format: Literal["json", "csv", "geojson", "text", "png"] = "json"


@router.get(API + "/{c}/stations", responses=produces(
    "text/csv", "application/geo+json", "text/plain", "image/png", model=True))  # fmt: skip
def stations(one: Served, request: Request, asked: Annotated[Stations, Query()]) -> Response:
    """List the stations; ``text`` is FDSN station text, ``png`` a map."""
    stamp = one.stamp("xcorr.h5", *OF_LEDGER)
    headers = fresh(request, stamp)
    rows = chosen_stations(one, asked)
    if asked.format == "png":
        with heavy(), DRAWING:
            picture = figures.encoded(figures.station_map(one.results(), only=[r["id"] for r in rows]), "png")
            return Response(picture, 200, headers, "image/png")
    if asked.sort:
        rows = _sorted(rows, asked.sort, STATION)
    if rows and asked.format in ("geojson", "text"):  # formats without a place for next: all in one answer
        return _geojson(rows, headers) if asked.format == "geojson" else _fdsn_text(one, rows, headers)
    first = offset_of(asked.next, stamp)
    shown = rows[first : first + asked.limit]
    after = token_of(first + asked.limit, stamp) if first + asked.limit < len(rows) else None
    return listing(request, asked, shown, asked.format, headers, len(rows), first, after, STATION)


def chosen_stations(one: Campaign, asked: Channels) -> list[dict[str, Any]]:
    """Return the stations with these codes, in this box, with such channels that were used in this time."""
    results = one.results()
    used = _used(one, asked) if asked.loc or asked.cha or asked.start or asked.end else None
    table, pairs = results.dataset("stations"), results.dataset("pairs")
    count = np.bincount(pairs["station_1"], minlength=len(table)) + np.bincount(
        pairs["station_2"], minlength=len(table)
    )
    rows = []
    for k, row in enumerate(table.tolist()):
        name, network, code = (text.decode() for text in row[:3])
        latitude, longitude, elevation = row[3:6]
        if (
            _fits(network, asked.net)
            and _fits(code, asked.sta)
            and _inside(latitude, longitude, asked)
            and (used is None or name in used)
        ):
            values = {"latitude": latitude, "longitude": longitude, "elevation_m": elevation}
            numbers = {n: None if v != v else v for n, v in values.items()}
            rows.append({"id": name, "network": network, "station": code, **numbers, "pairs": int(count[k])})
    return rows


def _used(one: Campaign, asked: Channels) -> set[str]:
    """Return the stations with a used channel with these codes in this time."""
    names = one.slots()
    with one.ledger() as ledger:
        found = ledger.used_channels(*_within(one, asked))
    return {names[slot].rpartition(".")[0] for slot, seed_id in found if _fits_seed(seed_id, asked)}


def _within(one: Campaign, asked: Channels) -> tuple[int, int]:
    """Return the first and last start (ns) of the chunks that have a part in the time asked for; the last excluded."""
    chunk = one.settings().data.chunk_s * NS
    return as_ns(asked.start, -LAST_NS + chunk) - chunk + 1, as_ns(asked.end, LAST_NS)


def _fits(code: str, patterns: str) -> bool:
    listed = [p.strip() for p in patterns.split(",") if p.strip()]
    return not listed or any(p == (code or "--") or fnmatch.fnmatchcase(code, p) for p in listed)


def _inside(latitude: float, longitude: float, asked: Channels) -> bool:
    corners = asked.corners()
    if corners is None:
        return True
    west, south, east, north = corners
    across = west <= longitude <= east if west <= east else longitude >= west or longitude <= east
    return bool(south <= latitude <= north and across)


def _sorted(rows: list[dict[str, Any]], by: str, names: tuple[str, ...]) -> list[dict[str, Any]]:
    name = by.removeprefix("-")
    if name not in names:
        raise Problem(400, f"sort = {by!r}: no such field{nearest(name, names)}; there are {', '.join(names)}")
    known = sorted((r for r in rows if r[name] is not None), key=lambda r: r[name], reverse=by.startswith("-"))
    return known + [r for r in rows if r[name] is None]


def _geojson(rows: list[dict[str, Any]], headers: dict[str, str]) -> Response:
    features = [
        {
            "type": "Feature",
            "id": row["id"],
            "geometry": None
            if row["latitude"] is None or row["longitude"] is None
            else {"type": "Point", "coordinates": [row["longitude"], row["latitude"]]},
            "properties": row,
        }
        for row in rows
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    return Response(text, 200, headers, "application/geo+json")


def _fdsn_text(one: Campaign, rows: list[dict[str, Any]], headers: dict[str, str]) -> Response:
    """Return FDSN station text at the level ``station``; the times are those of the campaign."""
    pieces = one.results().pieces
    start, end = (str(t)[:19] for t in (pieces[0, 0], pieces[-1, 1]))
    lines = ["#Network|Station|Latitude|Longitude|Elevation|SiteName|StartTime|EndTime"]
    for row in rows:
        numbers = ["" if row[n] is None else f"{row[n]:g}" for n in ("latitude", "longitude", "elevation_m")]
        lines.append("|".join((row["network"], row["station"], *numbers, "", start, end)))
    return Response("\n".join(lines) + "\n", 200, headers, "text/plain")


class Availability(Channels):
    """Which accounts."""

    reason: str = Field("", max_length=200, description="Text in the reason; * and ? stand for any letters.")
    status: Literal["", "used", "absent", "unusable", "failed"] = ""
    format: Literal["json", "csv", "png", "svg"] = "json"


@router.get(API + "/{c}/availability", responses=produces("text/csv", "image/png", "image/svg+xml", model=True))
def availability(one: Served, request: Request, asked: Annotated[Availability, Query()]) -> Response:
    """Say of every channel (slot) in every chunk whether it was used, and why not; ``png`` is the picture."""
    headers = fresh(request, one.stamp(*OF_LEDGER))
    if asked.format in ("png", "svg"):
        for name in ("status", "reason", "loc", "cha"):
            if getattr(asked, name):
                raise Problem(400, f"{name}: a picture shows every channel; leave {name} out, or take json or csv")
        with heavy():
            picture = availability_picture(one, asked)
            kind = "image/png" if asked.format == "png" else "image/svg+xml"
            return Response(picture.encoded(asked.format), 200, headers, kind)
    if asked.sort not in ("", "start"):
        raise Problem(400, f"sort = {asked.sort!r}: accounts come by start and slot; leave it out, or 'start'")
    rows, after = accounts(one, asked, place_of(asked.next, "accounts"))
    following = token_of(after, "accounts") if after else None
    before = 1 if asked.next else 0
    return listing(request, asked, rows, asked.format, headers, None, before, following, ACCOUNT)


def accounts(one: Campaign, asked: Availability, after: Any) -> tuple[list[dict[str, Any]], Any]:
    """Return accounts by start and slot, and the last one's place if there are more."""
    names = one.slots()
    slots = slots_of(one, names, asked)
    conditions, values = ["start_ns >= ?", "start_ns < ?"], list[Any](_within(one, asked))
    if len(slots) < len(names):
        conditions.append(f"slot IN ({', '.join(map(str, slots)) or 'NULL'})")
    if asked.status:
        conditions.append("status = ?")
        values.append(asked.status)
    if asked.reason:
        conditions.append("reason GLOB ?")
        values.append(f"*{asked.reason.strip('*')}*")
    if after is not None:
        if not (isinstance(after, list) and len(after) == 2 and all(isinstance(v, int) for v in after)):
            raise Problem(400, "next: no place in this list; leave it out to begin anew")
        conditions.append("(start_ns, slot) > (?, ?)")
        values += after
    rows: list[dict[str, Any]] = []
    place: list[int] = []
    with one.ledger() as ledger:
        for start, a in ledger.accounts(" AND ".join(conditions), values):
            if not _fits_seed(a.seed_id, asked):
                continue
            if len(rows) == asked.limit:
                return rows, place
            place = [start, a.slot]
            rows.append(_plain(names[a.slot], start, a))
    return rows, None


def slots_of(one: Campaign, names: list[str], asked: Channels) -> list[int]:
    """Return the numbers of the slots with these codes, in this box, among ``NET.STA.C``."""
    found = []
    inside = None
    if asked.box:
        inside = {s["id"] for s in chosen_stations(one, Channels.model_validate({"box": asked.box}))}
    for k, name in enumerate(names):
        network, _, rest = name.partition(".")
        in_box = inside is None or name.rpartition(".")[0] in inside
        if in_box and _fits(network, asked.net) and _fits(rest.rpartition(".")[0], asked.sta):
            found.append(k)
    return found


def _fits_seed(seed_id: str, asked: Channels) -> bool:
    if not (asked.loc or asked.cha):
        return True
    *_, location, channel = ("", "", *seed_id.split("."))
    return _fits(location, asked.loc) and _fits(channel, asked.cha)


def in_words(time_ns: int) -> str:
    """Return a time as ISO 8601 text, UTC, to the second: chunks begin at whole seconds."""
    return datetime.datetime.fromtimestamp(time_ns // NS, datetime.UTC).isoformat().replace("+00:00", "Z")


def _plain(name: str, start: int, account: Any) -> dict[str, Any]:
    found = {**account.as_dict(), "slot": name, "start": in_words(start), "windows_used": account.windows_used}
    found["windows"] = ", ".join(f"{n} {reason}" for reason, n in account.windows.items())
    found["files"] = " ".join(path for path, _, _ in account.files)
    return {field: found[field] for field in ACCOUNT}


def chosen_availability(one: Campaign, asked: Channels) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Return slots, starts (ns), share of windows used and failed [slot, chunk] of what is asked for."""
    seen = one.availability()
    rows = slots_of(one, list(seen.slots), asked)
    starts = np.array(seen.starts_ns, np.int64)
    low, high = _within(one, asked)
    columns = np.flatnonzero((starts >= low) & (starts < high))
    require_some(len(rows) * len(columns), "no channel has an account in this time")
    inside = np.ix_(np.array(rows), columns)
    return [seen.slots[k] for k in rows], starts[columns], seen.share[inside], seen.failed[inside]


def availability_picture(one: Campaign, asked: Channels) -> Framed:
    """Return the picture of availability, channels from top to bottom, chunks from left to right."""
    names, starts, share, failed = chosen_availability(one, asked)
    image = sequential(share)
    image[failed] = 210, 50, 50
    days = [in_words(int(start))[: 10 if (starts % 86_400_000_000_000 == 0).all() else 16] for start in starts]
    return Framed(
        image,
        "share of windows used, dark to bright; grey: no data; red: failed",
        names_along(days, 8, 800),
        names_along(names, 28),
        "date (UTC)",
        "channel",
        height=min(560, max(120, 16 * len(names))),
    )
