"""The list of campaigns, what each holds, its progress, its report, its result file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import FileResponse, Response, StreamingResponse

from xcorr.core import XcorrError
from xcorr.observers.published import NAME as PROGRESS
from xcorr.pes.stacking.result_file import NAME as RESULTS
from xcorr.provenance.history import archives
from xcorr.provenance.store import ProvenanceError, reading
from xcorr.results.summary import facts
from xcorr.store import lock
from xcorr.store.report import read_report
from xcorr.store.verify import running
from xcorr.web.answers import as_json, fresh, produces
from xcorr.web.campaigns import Campaign
from xcorr.web.guard import REPORT_CSP
from xcorr.web.parameters import Asked
from xcorr.web.problems import Problem, busy
from xcorr.web.routes import API, Served

LOOK_S, BEAT_S, EVENTS = 0.5, 15.0, 100  # between looks at a file, between comments; streams at once
router = APIRouter(tags=["campaigns"])
_streams = {"open": 0}


@router.get(API, responses=produces("application/json"))
def campaigns(request: Request, asked: Annotated[Asked, Query()]) -> dict[str, Any]:
    """List the campaigns that this server shows."""
    return {"campaigns": [brief(one) for one in request.app.state.campaigns.by_name.values()]}


def brief(one: Campaign) -> dict[str, Any]:
    """Return name, state and numbers of a campaign in a few words."""
    about: dict[str, Any] = {"id": one.name, "folder": one.folder.name, **running(one.folder)}
    try:
        if (one.folder / RESULTS).is_file():
            about |= facts(one.results())
    except XcorrError as error:  # costs this campaign, and no other
        about["problem"] = str(error)
    return about


@router.get(API + "/{c}", responses=produces("application/json"))
def campaign(one: Served, request: Request, asked: Annotated[Asked, Query()]) -> Any:
    """Say what a campaign holds: components, stacks, bands, lags, units, the account of its last run."""
    found = overview(one)
    return as_json(found, fresh(request, f"{one.stamp()} {one.stamp(PROGRESS)} {lock.is_running(one.folder)}"))


def overview(one: Campaign) -> dict[str, Any]:
    """Return what a campaign holds."""
    about: dict[str, Any] = {"id": one.name, **running(one.folder)}
    if (one.folder / RESULTS).is_file():
        results = one.results()
        about["results"] = {
            **facts(results),
            "components": results.components,
            "stacks": results.stacks,
            "bands": results.bands,
            "lags_s": [float(results.lags_s[0]), float(results.lags_s[-1])],
            "samples": len(results.lags_s),
            "settings_hash": str(results.attributes["settings_hash"]),
            "lag_convention": results.attributes["lag_convention"],
        }
    if (one.folder / "report.json").is_file():
        report = one.kept("report", ("report.json",), lambda: read_report(one.folder))
        about["report"] = {k: v for k, v in report.items() if k not in ("channel_chunk", "requested", "ignored_files")}
    with contextlib.suppress(ProvenanceError), reading(one.folder) as store:
        about["archives"] = archives(store)
    return about


@router.get(API + "/{c}/status", responses=produces("application/json"))
def status(one: Served, asked: Annotated[Asked, Query()]) -> dict[str, Any]:
    """Say how far a campaign has come: what its run has published in the last second."""
    return running(one.folder)


class Since(Asked):
    """Where a stream of events goes on."""

    once: Literal["0", "1"] = "0"


@router.get(API + "/{c}/events", responses=produces("text/event-stream"))
async def events(
    one: Served,
    request: Request,
    asked: Annotated[Since, Query()],
    last_event_id: Annotated[str, Header(max_length=200)] = "",
) -> Response:
    """Stream the progress: an event ``progress`` whenever it changes, ``results`` when there are new results.

    Each event is the whole state, and its id names it. A client that comes back with Last-Event-ID gets the next event
    as soon as the state is another one. ``once=1`` ends the stream after the first event.
    """
    if _streams["open"] >= EVENTS:
        raise busy(f"{EVENTS} event streams are open")
    return StreamingResponse(
        _events(one, request, last_event_id, asked.once == "1"), 200, {"Cache-Control": "no-store"}, "text/event-stream"
    )


async def _events(one: Campaign, request: Request, last: str, once: bool) -> AsyncIterator[str]:
    _streams["open"] += 1
    try:
        known, sent = last, time.monotonic()
        before = one.stamp(RESULTS)
        yield "retry: 1000\n\n"
        while not await request.is_disconnected():
            at = f"{one.stamp(PROGRESS)}-{'r' if lock.is_running(one.folder) else 'i'}"
            if at != known:
                known, sent = at, time.monotonic()
                yield f"id: {at}\nevent: progress\ndata: {json.dumps(running(one.folder))}\n\n"
                if once:
                    return
            if (now := one.stamp(RESULTS)) != before:
                before = now
                yield f'event: results\ndata: {{"stamp": "{now}"}}\n\n'
            if time.monotonic() - sent > BEAT_S:
                sent = time.monotonic()
                yield ": still here\n\n"
            await asyncio.sleep(LOOK_S)
    finally:
        _streams["open"] -= 1


@router.get(API + "/{c}/report", responses=produces("text/html"))
def report(one: Served, request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """Give the report page of the last run."""
    headers = fresh(request, one.stamp("report.html"))
    return _file(one, "report.html", {**headers, "Content-Security-Policy": REPORT_CSP})


@router.get(API + "/{c}/xcorr.h5", responses={**produces("application/x-hdf5"),
    206: {"description": "A part, by Range.", "content": {"application/x-hdf5": {}}},
    416: {"description": "The range is not in the file.", "content": {"text/plain": {}}}
})  # fmt: skip
def result_file(one: Served, request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """Give the result file. The series are in shards beside it; ``xcorr pack`` makes it self-contained."""
    return _file(one, RESULTS, fresh(request, one.stamp(RESULTS)), f"{one.name}.h5")


def _file(one: Campaign, name: str, headers: dict[str, str], called: str | None = None) -> Response:
    if not (one.folder / name).is_file():
        raise Problem(404, f"campaign {one.name!r} has no {name} yet; a finished run writes it")
    kind = "text/html" if name.endswith(".html") else "application/x-hdf5"
    return FileResponse(one.inside(name), 200, headers, kind, filename=called)
