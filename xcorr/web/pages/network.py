"""The page of availability: channels by chunks, and what happened in one of them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field

from xcorr.core import XcorrError
from xcorr.core.errors import nearest
from xcorr.web.answers import place_of, token_of
from xcorr.web.campaigns import Campaign
from xcorr.web.pages.render import Click, home, page, query, ways
from xcorr.web.parameters import Time, as_ns
from xcorr.web.problems import Problem
from xcorr.web.routes import Served
from xcorr.web.routes.network import (
    ACCOUNT,
    Availability,
    accounts,
    availability_picture,
    chosen_availability,
    in_words,
)

SHOWN = ("slot", "start", "status", "reason", "windows", "seed_id", "gaps", "gap_s")
LOG_LINES = 20
router = APIRouter()


class AvailabilityPage(Availability, Click):
    """The page, where its picture was clicked, and the account that is shown."""

    slot: str = Field("", max_length=100)
    at: Time = ""


@router.get("/c/{c}/availability")
def availability(one: Served, request: Request, asked: Annotated[AvailabilityPage, Query()]) -> Response:
    """Show what became of every channel in every chunk."""
    given = {
        k: v
        for k, v in asked.model_dump(exclude_defaults=True).items()
        if k not in ("at_x", "at_y", "next", "slot", "at")
    }
    pictured = {k: v for k, v in given.items() if k not in ("status", "reason", "loc", "cha", "limit", "sort")}
    problem, size, cell = "", (930, 400), None
    try:
        picture = availability_picture(one, asked)
        size = picture.size
        if asked.at_x is not None:
            cell = picture.cell(asked.at_x, asked.at_y or 0.0)
        if cell is not None:
            names, starts, *_ = chosen_availability(one, asked)
            asked.slot, asked.at = names[cell[0]], in_words(int(starts[cell[1]]))
        account = _account(one, request, asked) if asked.slot and asked.at else None
    except XcorrError as error:
        problem, account = str(error), None
    rows, after = accounts(one, asked, place_of(asked.next, "accounts"))
    base = f"{home(request, one)}/availability"
    for row in rows:
        row["link"] = base + query(given, slot=row["slot"], at=row["start"]) + "#account"
    return page(
        request, "availability.html", "Availability", one, "/availability",
        ways(request, one, "/availability", given, "r.report['reasons']", "xcorr info CAMPAIGN --accounts"),
        asked=asked, given=given, query=query(given), picture=query(pictured), rows=rows, names=SHOWN, problem=problem,
        next=base + query(given, next=token_of(after, "accounts")) if after else "",
        width=size[0], height=size[1], account=account,
    )  # fmt: skip


def _account(one: Campaign, request: Request, asked: AvailabilityPage) -> dict[str, Any]:
    """Return the account of one channel in one chunk, with its files and what the logs say of its station."""
    names = one.slots()
    if asked.slot not in names:
        raise Problem(404, f"no channel {asked.slot!r}{nearest(asked.slot, names)}")
    with one.ledger() as ledger:
        found = ledger.account(as_ns(asked.at, 0), names.index(asked.slot))
    plain = found.as_dict()
    return {
        "slot": asked.slot,
        "at": asked.at,
        "facts": [(k, plain[k]) for k in ("status", *ACCOUNT[3:9], "note", "stale", "metadata") if plain[k] != ""],
        "windows": dict(found.windows),
        "files": [(path, f"{home(request, one)}/lineage{query({'file': path})}") for path, _, _ in found.files],
        "log": _log_lines(one, asked.slot.rpartition(".")[0]),
    }


def _log_lines(one: Campaign, station: str) -> list[str]:
    """Return the last lines of the workers' logs that name a station."""
    found, named = [], re.compile(rf"(?<![\w.]){re.escape(station)}(?!\w)")
    for path in sorted((one.folder / "logs").glob("worker-*.log")):
        with path.open(errors="replace") as lines:
            found += [line.rstrip() for line in lines if named.search(line)][-LOG_LINES:]
    return found[-LOG_LINES:]
