"""Lists as answers: pages, fields, formats; entity tags."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from xcorr.core.errors import nearest
from xcorr.web.parameters import Listed
from xcorr.web.problems import Problem

NDJSON, CSV = "application/x-ndjson", "text/csv"
PROBLEM: dict[str, Any] = {"content": {"text/plain": {}, "application/problem+json": {}}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"description": "A parameter is not possible; the text says what is.", **PROBLEM},
    401: {"description": "No token, or a wrong one.", **PROBLEM},
    403: {"description": "The server is not called by this name.", **PROBLEM},
    404: {"description": "There is no such thing, or no data (nodata=404).", **PROBLEM},
    410: {"description": "The data have changed since the first page.", **PROBLEM},
    413: {"description": "Too large; the text says how to ask for less.", **PROBLEM},
    503: {"description": "Busy; Retry-After says when to try again.", **PROBLEM},
    304: {"description": "Not changed since the answer with this ETag."},
    204: {"description": "No data."},
}


class Listing(BaseModel):
    """A part of a list. ``left_out`` counts the items that come after it; ``next`` asks for them."""

    total: int | None = None
    count: int
    left_out: int | None = None
    next: str | None = None
    items: list[dict[str, Any]]


def produces(*kinds: str, model: bool = False) -> dict[int | str, dict[str, Any]]:
    """Return the declaration of a route's answers, of these media types besides JSON lists if ``model``."""
    content: dict[str, Any] = {kind: {} for kind in kinds}
    if model:
        content["application/json"] = {"schema": Listing.model_json_schema()}
    return {**PROBLEMS, 200: {"description": "What was asked for.", "content": content}}


def attachment(name: str) -> dict[str, str]:
    """Return the header that lets a browser store an answer under a name, of which only plain letters stay."""
    return {"Content-Disposition": f'attachment; filename="{re.sub(r"[^A-Za-z0-9._+@-]", "_", name)}"'}


def fresh(request: Request, stamp: str) -> dict[str, str]:
    """Return the headers with the entity tag of an answer. Raises NotModified if the client has this answer already."""
    asked = f"{request.url.path}?{request.url.query}"
    tag = f'"{hashlib.blake2b(f"{stamp} {asked}".encode(), digest_size=10).hexdigest()}"'
    known = [part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")]
    if tag in known:
        raise NotModified(tag)
    return {"ETag": tag}


class NotModified(Exception):
    """The client has the answer already."""

    def __init__(self, tag: str) -> None:
        super().__init__(tag)
        self.tag = tag


def as_json(found: Any, headers: dict[str, str] | None = None) -> Response:
    """Return plain data as JSON."""
    return Response(json.dumps(found), 200, headers, "application/json")


def token_of(at: Any, stamp: str) -> str:
    """Return where to go on, as a text for the client to give back."""
    return base64.urlsafe_b64encode(json.dumps([at, stamp]).encode()).decode().rstrip("=")


def place_of(token: str, stamp: str) -> Any:
    """Return where to go on. Raises Problem 400 for a text that was not given, 410 if the data have changed since."""
    if not token:
        return None
    try:
        at, of = json.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
    except (ValueError, TypeError):
        raise Problem(400, f"next = {token!r}: no place that an answer has given; leave it out to begin anew") from None
    if not _is_plain(at):
        raise Problem(400, f"next = {token!r}: no place in this list; leave it out to begin anew")
    if of != stamp:
        raise Problem(410, "next: the data have changed since the first page; leave it out to begin anew")
    return at


def _is_plain(at: Any) -> bool:
    """Return whether a place is a number, a text, or a short list of them, as answers give them."""
    if isinstance(at, list):
        return len(at) <= 4 and all(not isinstance(part, list) and _is_plain(part) for part in at)
    if isinstance(at, str):
        return at.isprintable()
    return isinstance(at, int) and abs(at) < 1 << 62


def offset_of(token: str, stamp: str) -> int:
    """Return the number of items that came before, of a list that has such places. Raises Problem as place_of does."""
    at = place_of(token, stamp)
    if at is None:
        return 0
    if not isinstance(at, int) or at < 0:
        raise Problem(400, f"next = {token!r}: no place in this list; leave it out to begin anew")
    return at


def listing(
    request: Request,
    asked: Listed,
    items: Iterable[dict[str, Any]],
    kind: str,
    headers: dict[str, str],
    total: int | None = None,
    before: int = 0,
    following: str | None = None,
    names: Sequence[str] = (),
) -> Response:
    """Return a part of a list as JSON, lines of JSON, or CSV. ``names`` are the fields there are."""
    wanted = [name.strip() for name in asked.fields.split(",") if name.strip()]
    for name in wanted:
        if name not in names:
            raise Problem(400, f"fields = {name!r}: no such field{nearest(name, names)}; there are {', '.join(names)}")
    rows = [{name: row.get(name) for name in wanted or row} for row in items]
    if not rows and not before:
        if asked.nodata == "404":
            raise Problem(404, "no data; the parameters select nothing")
        return Response(status_code=204, headers=headers)
    left = None if total is None else total - before - len(rows)
    if total is not None:
        headers["X-Total-Count"] = str(total)
    if following:
        headers["Link"] = f'<{request.url.include_query_params(next=following)}>; rel="next"'
    if kind == "ndjson":
        return Response("".join(json.dumps(row) + "\n" for row in rows), 200, headers, NDJSON)
    if kind == "csv":
        return Response(as_csv(rows, wanted or list(names)), 200, headers, CSV)
    body = Listing(total=total, count=len(rows), left_out=left, next=following, items=rows)
    return JSONResponse(body.model_dump(), 200, headers)


def as_csv(rows: Iterable[dict[str, Any]], names: Sequence[str]) -> str:
    """Return rows as CSV, with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(["" if row.get(name) is None else row[name] for name in names] for row in rows)
    return text.getvalue()
