"""What all pages share: templates, addresses, the same question in other ways, maps, places clicked on pictures."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import shlex
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
import numpy as np
from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from xcorr.results.map_frame import places_of
from xcorr.results.scale import evenly
from xcorr.web.campaigns import Campaign
from xcorr.web.routes import API

MAP_PX = 640
NAMED, MOST_PATHS, MOST_PLACES = 40, 600, 1500  # stations named, pairs drawn and stations drawn on a map


@dataclasses.dataclass(frozen=True)
class Ways:
    """The same question with curl, in Python, on the command line."""

    curl: str
    python: str
    command: str


class Click(BaseModel):
    """Where a picture was clicked (px)."""

    model_config = ConfigDict(extra="forbid")
    at_x: float | None = Field(None, alias="at.x")
    at_y: float | None = Field(None, alias="at.y")


@functools.cache
def _templates() -> jinja2.Environment:
    folder = Path(__file__).parent.parent / "templates"
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    found.filters["quoted"] = lambda text: quote(str(text), safe="")
    found.filters["utc"] = _in_words
    found.filters["megabytes"] = lambda n: f"{(n or 0) / 1e6:,.1f} MB"
    return found


def _in_words(seconds: float | None) -> str:
    return "" if seconds is None else f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M:%S}"


def page(
    request: Request, template: str, title: str, one: Campaign | None = None, here: str = "", ways: Ways | None = None,
    status: int = 200, **values: Any,
) -> Response:  # fmt: skip
    """Return a page. ``here`` is the part of the navigation that it belongs to."""
    root = request.scope.get("root_path", "")
    text = (
        _templates()
        .get_template(template)
        .render(
            title=title,
            one=one,
            root=root,
            home=home(request, one) if one else "",
            api=api(request, one) if one else "",
            here=here,
            ways=ways,
            version=version("xcorr"),
            **values,
        )
    )
    return HTMLResponse(text, status)


def home(request: Request, one: Campaign) -> str:
    """Return the address of a campaign's pages."""
    return f"{request.scope.get('root_path', '')}/c/{quote(one.name, safe='')}"


def api(request: Request, one: Campaign) -> str:
    """Return the address of a campaign in the API."""
    return f"{request.scope.get('root_path', '')}{API}/{quote(one.name, safe='')}"


def query(given: Mapping[str, Any], **changes: Any) -> str:
    """Return parameters as the end of an address, with changes; a change to an empty text leaves it out."""
    kept = {k: _text(v) for k, v in {**given, **changes}.items() if v not in ("", None)}
    return f"?{urlencode(kept)}" if kept else ""


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def ways(request: Request, one: Campaign, place: str, given: Mapping[str, Any], python: str, command: str) -> Ways:
    """Return the same question in other ways. ``place`` is the part of the API's address after the campaign."""
    base = str(request.base_url).rstrip("/").removesuffix(request.scope.get("root_path", ""))
    return Ways(
        f"{base}{api(request, one)}{place}{query(given)}".replace("'", "%27"),
        f"import xcorr\n\nr = xcorr.open({one.folder.name!r})\n{python}",
        command.replace("CAMPAIGN", shlex.quote(one.folder.name)),
    )


def map_of(
    request: Request, one: Campaign, ends: tuple[np.ndarray, np.ndarray], link: Any, used: set[str] | None = None
) -> dict[str, Any]:
    """Return the map of stations and of the pairs between them, for the template.

    ``link`` returns the address that a station leads to. ``used``: those filled; default: those of the pairs.
    """
    table = one.results().dataset("stations")
    names = table["id"].astype(str)
    if used is None:
        used = set(names[np.unique(np.concatenate(ends))]) if len(ends[0]) else set()
    places, unplaced, frame = places_of(table, used)
    if not places:
        return {"places": [], "unplaced": unplaced}
    height = round(MAP_PX / float(frame["ratio"]))
    at = {p["name"]: (p["x"] * MAP_PX / 100, p["y"] * height / 100) for p in places}
    both = [(names[ends[0][k]], names[ends[1][k]]) for k in evenly(len(ends[0]), MOST_PATHS)]
    lines = [(*at[a], *at[b]) for a, b in both if a in at and b in at and a != b]
    return {
        "places": [
            {"name": p["name"], "x": round(at[p["name"]][0], 1), "y": round(at[p["name"]][1], 1), "used": p["used"],
             "link": link(p["name"])}
            for p in places[:MOST_PLACES]
        ],
        "unplaced": unplaced,
        "lines": [tuple(round(float(v), 1) for v in line) for line in lines],
        "fewer": f"{len(lines)} of {len(ends[0]):,} pairs are drawn." if len(lines) < len(ends[0]) else "",
        "named": len(places) <= NAMED,
        "radius": 5 if len(places) < 300 else 3,
        "width": MAP_PX,
        "height": height,
        "frame": {k: frame[k] for k in ("west", "north", "degrees", "shrink")},
        "scale": round(frame["scale"] * MAP_PX / 100, 1),
        "scale_km": frame["scale_km"],
    }  # fmt: skip
