"""Runs and what their workers did, items, kept items, and the files that were read."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import FileResponse, Response
from pydantic import Field

from xcorr.core import installed
from xcorr.provenance import history
from xcorr.provenance.destination import sha256
from xcorr.provenance.keep import products_of
from xcorr.provenance.store import reading
from xcorr.results.pair_table import FIELDS
from xcorr.store import lock
from xcorr.web.answers import as_json, fresh, listing, offset_of, place_of, produces, token_of
from xcorr.web.campaigns import OF_STORE, Campaign
from xcorr.web.parameters import Asked, Listed
from xcorr.web.problems import Problem
from xcorr.web.routes import API, Served

router = APIRouter(tags=["provenance"])
Number = Annotated[int, Path(ge=1, le=10**9)]
PARTIAL: dict[int | str, dict[str, Any]] = {
    206: {"description": "A part, by Range.", "content": {"application/octet-stream": {}}},
    416: {"description": "The range is not in the file.", "content": {"text/plain": {}}},
}


@router.get(API + "/{c}/runs", responses=produces("application/json"))
def runs(one: Served, request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """List the runs of a campaign, the last one first."""
    headers = fresh(request, f"{one.stamp(*OF_STORE)} {lock.is_running(one.folder)}")
    with reading(one.folder) as store:
        return as_json({"runs": history.runs(store, lock.is_running(one.folder))}, headers)


@router.get(API + "/{c}/runs/{n}", responses=produces("application/json"))
def run(one: Served, n: Number, request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """Give one run: elements with parameters and hashes, totals by instance, settings, and how busy workers were."""
    headers = fresh(request, f"{one.stamp(*OF_STORE)} {lock.is_running(one.folder)}")
    with reading(one.folder) as store:
        found = history.run(store, n, lock.is_running(one.folder))
    return as_json({**found, "timeline": timeline(one, n)}, headers)


def timeline(one: Campaign, number: int) -> Any:
    """Return how busy every worker was in a run."""

    def make() -> Any:
        with reading(one.folder) as store:
            return history.timeline(store, number)

    return one.kept(("timeline", number), OF_STORE, make)


class Invocations(Listed):
    """Which invocations."""

    element: str = Field("", max_length=100)
    status: Literal["", "done", "skipped", "under way"] = ""
    format: Literal["json", "csv"] = "json"


@router.get(API + "/{c}/runs/{n}/activity", responses=produces("text/csv", model=True))
def activity(one: Served, n: Number, request: Request, asked: Annotated[Invocations, Query()]) -> Response:
    """List the invocations of a run, by element, instance and number."""
    headers = fresh(request, one.stamp(*OF_STORE))
    with reading(one.folder) as store:
        history.require_run(store, n)
        what = f"activity {n} {asked.element} {asked.status}"
        place = _keys(place_of(asked.next, what))
        rows, after = history.activity(store, n, asked.element, asked.status, place, asked.limit)
    return _part(request, asked, rows, after, what, headers, history.INVOCATION, asked.format)


def _keys(place: Any) -> Any:
    if place is not None and not (isinstance(place, list) and [type(p) for p in place] == [str, int, int, str]):
        raise Problem(400, "next: no place in this list; leave it out to begin anew")
    return place


def _part(
    request: Request, asked: Listed, rows: Any, after: Any, what: str, headers: dict[str, str], names: Any, kind: str
) -> Response:
    following = token_of(after, what) if after else None
    return listing(request, asked, rows, kind, headers, None, int(bool(asked.next)), following, names)


@router.get(API + "/{c}/terms", responses=produces("application/json"))
def terms(one: Served, request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """List the fields that conditions may name: of pairs, and of the items of every element."""
    of_pairs = [
        {"name": n, "type": "str" if n[-2:] in ("_1", "_2") else "int" if n == "n_windows" else "float"} for n in FIELDS
    ]
    return as_json({"pairs": of_pairs, "items": item_terms()}, fresh(request, "1"))


def item_terms() -> dict[str, list[dict[str, str]]]:
    """Return the metadata of the items of every element of the application, by name."""
    classes = ((name, installed.load("elements", name)) for name in installed.names("elements"))
    return {
        name: [
            {"port": port, "name": n, "type": kind.__name__} for port, p in of.items() for n, kind in p.metadata.items()
        ]
        for name, of in products_of(classes).items()
    }


class Items(Listed):
    """Which items."""

    run: int = Field(0, ge=0, le=10**9, description="Number of the run. Default: the last one.")
    element: str = Field("", max_length=100)
    where: str = Field("", max_length=2000, description="Condition on the metadata, which level 'item' records.")
    format: Literal["json", "csv"] = "json"


@router.get(API + "/{c}/items", responses=produces("text/csv", model=True))
def items(one: Served, request: Request, asked: Annotated[Items, Query()]) -> Response:
    """List items that a run wrote. With ``where`` one answer compares 20,000 of them; ``next`` goes on."""
    headers = fresh(request, one.stamp(*OF_STORE))
    with reading(one.folder) as store:
        number = asked.run or history.last_run(store)
        history.require_run(store, number)
        what = f"items {number} {asked.element} {asked.where}"
        place = _keys(place_of(asked.next, what))
        rows, after = history.items(store, number, asked.element, asked.where, place, asked.limit)
    if not rows and after:  # nothing among those compared yet: not the end
        following = token_of(after, what)
        return as_json({"total": None, "count": 0, "left_out": None, "next": following, "items": []}, headers)
    return _part(request, asked, rows, after, what, headers, history.ITEM, asked.format)


@router.get(API + "/{c}/items/{item:path}", responses=produces("application/json"))
def item(one: Served, item: str, request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """Give one item: who made it, who used it, its metadata, and where it is kept."""
    headers = fresh(request, one.stamp(*OF_STORE))
    with reading(one.folder) as store:
        return as_json(history.item(store, item), headers)


class Kept(Listed):
    """Which kept items."""

    element: str = Field("", max_length=100)
    run: int = Field(0, ge=0, le=10**9, description="Number of the run. Default: all.")
    format: Literal["json", "csv"] = "json"


@router.get(API + "/{c}/kept", responses=produces("text/csv", model=True))
def kept(one: Served, request: Request, asked: Annotated[Kept, Query()]) -> Response:
    """List the items that [[keep]] rules have kept, with their SHA-256."""
    stamp = one.stamp(*OF_STORE)
    headers = fresh(request, stamp)
    with reading(one.folder) as store:
        rows = history.kept(store)
    rows = [r for r in rows if asked.run in (0, r["run"]) and r["item"].startswith(asked.element)]
    first = offset_of(asked.next, stamp)
    after = token_of(first + asked.limit, stamp) if first + asked.limit < len(rows) else None
    shown = rows[first : first + asked.limit]
    return listing(request, asked, shown, asked.format, headers, len(rows), first, after, history.KEPT)


@router.get(API + "/{c}/kept/{key}", responses={**produces("application/octet-stream"), **PARTIAL})
def kept_file(one: Served, key: str, request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """Give the bytes of a kept item."""
    path, digest = kept_item(one, key)
    headers = {**fresh(request, digest), "X-Checksum-SHA256": digest, "Content-Disposition": "attachment"}
    return FileResponse(path, 200, headers, "application/octet-stream")


def kept_item(one: Campaign, key: str) -> tuple[FilePath, str]:
    """Return the file of a kept item, and its SHA-256.

    Raises Problem 404 if there is none with this key in the campaign, 500 if the file is not what was kept.
    """
    with reading(one.folder) as store:
        found = next((row for row in history.kept(store) if row["key"] == key), None)
    if found is None:
        raise Problem(404, f"no kept item {key!r}; /kept lists them")
    path, digest = one.inside(str(history.kept_path(one.folder, found["path"]))), str(found["sha256"])
    if sha256(path) != digest:
        raise Problem(500, f"{path.name} is not what was kept: its SHA-256 differs")
    return path, digest


class Inputs(Listed):
    """Which input files."""

    format: Literal["json", "csv"] = "json"


@router.get(API + "/{c}/inputs", responses=produces("text/csv", model=True))
def inputs(one: Served, request: Request, asked: Annotated[Inputs, Query()]) -> Response:
    """List the files that were read, with their SHA-256, by path."""
    headers = fresh(request, one.stamp(*OF_STORE))
    after = place_of(asked.next, "inputs")
    if after is not None and not isinstance(after, str):
        raise Problem(400, "next: no place in this list; leave it out to begin anew")
    with reading(one.folder) as store:
        rows = history.inputs(store, after or "", asked.limit + 1)
    place = rows[asked.limit - 1]["path"] if len(rows) > asked.limit else None
    return _part(request, asked, rows[: asked.limit], place, "inputs", headers, history.INPUT, asked.format)
