"""Lineage, in both directions: of a pair's stack, a file, or an item; grouped, as a path, as W3C PROV."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field

from xcorr.provenance import document
from xcorr.provenance.campaign_lineage import CampaignLineage
from xcorr.provenance.grouped import as_json as plain
from xcorr.provenance.grouped import downstream, grouped, near, path, sentences
from xcorr.provenance.lineage import Lineage, item_lineage
from xcorr.web.answers import as_json, fresh, produces
from xcorr.web.campaigns import Campaign, heavy
from xcorr.web.parameters import OfStack
from xcorr.web.problems import Problem
from xcorr.web.routes import API, Served

router = APIRouter(tags=["provenance"])
FORMATS = {
    "json": "application/json",
    "provjson": "application/json",
    "provn": "text/provenance-notation",
    "xml": "application/xml",
    "turtle": "text/turtle",
    "svg": "image/svg+xml",
    "text": "text/plain",
}
MOST_DOCUMENT = 20_000  # nodes of a PROV document, which takes a millisecond for each


class LineageOf(OfStack):
    """Of what, and how much of it."""

    pair: str = Field("", max_length=200, description="XX.A-XX.B: the lineage of this pair's stack.")
    file: str = Field("", max_length=4000, description="A waveform file, as /inputs lists it: what was made with it.")
    item: str = Field("", max_length=400, description="Name of a recorded item.")
    direction: Literal["", "back", "forward"] = Field("", description="To inputs or to results; for items.")
    depth: int | None = Field(None, ge=0, le=100, description="Most steps from the product.")
    group: Literal["none", "element", "station"] = Field("element", description="What is shown as one node.")
    open: str = Field("", max_length=1000, description="Groups shown node by node, separated by commas.")
    path_to: str = Field("", max_length=4000, description="Show only the shortest way to this node.")
    max_nodes: int = Field(200, ge=1, le=20_000, description="Most nodes; the answer counts those left out.")


class Asked(LineageOf):
    """Of what, how much of it, and in which format."""

    format: Literal["json", "provjson", "provn", "xml", "turtle", "svg", "text"] = "json"


@router.get(API + "/{c}/lineage", responses=produces(*FORMATS.values()))
def lineage(one: Served, request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """Follow the lineage of a stack back to files, of a file forward to stacks, or of an item either way.

    As W3C PROV (provjson, provn, xml, turtle) nodes are never grouped, and limits do not apply, path_to excepted.
    """
    headers = fresh(request, one.stamp())
    with heavy():
        found, start = whole(one, asked)
        if asked.format in ("provjson", "provn", "xml", "turtle"):
            found = path(found, start, asked.path_to) if asked.path_to else found
            size = len(found.entities) + len(found.activities)
            if size > MOST_DOCUMENT:
                raise Problem(413, f"{size:,} nodes; a PROV document has at most {MOST_DOCUMENT:,}: use path_to")
            kind = "json" if asked.format == "provjson" else asked.format
            return Response(document.write(one.folder, found, kind), 200, headers, FORMATS[asked.format])
        found, left = shown(found, start, asked)
    if asked.format == "json":
        return as_json(plain(found, left), headers)
    if asked.format == "svg":
        return Response(document.write(one.folder, found, "svg"), 200, headers, "image/svg+xml")
    more = [f"{left} more are not told; raise max_nodes."] if left else []
    return Response("\n".join([*sentences(found), *more]) + "\n", 200, headers, "text/plain")


def shown(found: Lineage, start: str, asked: LineageOf) -> tuple[Lineage, int]:
    """Return the part of a whole lineage that is asked for, grouped, and how many nodes are left out."""
    if asked.path_to:
        return path(found, start, asked.path_to), 0
    if asked.depth is not None:
        found, _ = near(found, start, asked.depth, len(found.entities) + len(found.activities) + 1)
    found = grouped(found, asked.group, [name.strip() for name in asked.open.split(",") if name.strip()])
    size = len(found.entities) + len(found.activities)
    if size <= asked.max_nodes:
        return found, 0
    return near(found, start if start in found.entities else next(iter(found.entities)), None, asked.max_nodes)


def whole(one: Campaign, asked: LineageOf) -> tuple[Lineage, str]:
    """Return the whole lineage and the name of its product. Raises Problem 400 unless one product is named."""
    if sum(map(bool, (asked.pair, asked.file, asked.item))) != 1:
        raise Problem(400, "name one product: pair=XX.A-XX.B, file=PATH or item=NAME")
    if (asked.pair and asked.direction == "forward") or (asked.file and asked.direction == "back"):
        raise Problem(400, "direction: a stack's lineage goes only back, a file's only forward; leave direction out")
    if asked.item:
        return item_lineage(one.folder, asked.item, asked.direction or "back"), asked.item
    with CampaignLineage(one.folder, one.results()) as of:
        if asked.file:
            start = f"file:{os.path.abspath(asked.file)}"
            return downstream(of.of_file(asked.file), start), start
        first, second = pair_ends(one, asked.pair)
        components, stack = asked.components or one.main_components(), asked.stack or one.results().main_stack
        found = of.of_pair(first, second, components, stack, asked.band)
        return found, next(n for n in found.entities if n.startswith("stack:"))


def pair_ends(one: Campaign, text: str) -> tuple[str, str]:
    """Return the two stations of ``XX.A-XX.B``; codes may have a dash, too. Raises Problem 400, or 404 if unknown."""
    parts = text.split("-")
    halves = [("-".join(parts[:k]), "-".join(parts[k:])) for k in range(1, len(parts))]
    halves = [ends for ends in halves if all("." in end for end in ends)]
    if not halves:
        raise Problem(400, f"pair = {text!r}: does not name two stations; write XX.A-XX.B")
    known = [ends for ends in halves if all(end in one.results().station_numbers for end in ends)]
    first, second = (known or halves)[0]
    one.row(first, second)
    return first, second
