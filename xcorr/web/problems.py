"""Errors as answers: the text of FDSN web services, or RFC 9457 JSON where the client prefers that."""

from __future__ import annotations

import datetime
import sqlite3
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from xcorr.core import XcorrError
from xcorr.core.errors import nearest
from xcorr.provenance.store import DamagedStore, ProvenanceError
from xcorr.results.errors import ResultsError
from xcorr.results.export import ExportError
from xcorr.results.where import ConditionError
from xcorr.store.folder import CampaignError
from xcorr.store.ledger_reader import LedgerError

TITLES = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    410: "Gone", 413: "Content Too Large", 500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip
STATUS: dict[type[XcorrError], int] = {
    ConditionError: 400,
    ResultsError: 400,
    ExportError: 404,
    DamagedStore: 500,
    ProvenanceError: 404,
    CampaignError: 404,
    LedgerError: 503,
}
RETRY_S = 5


class Problem(XcorrError):
    """A request that cannot be answered: the status of the answer, and what was given, is allowed, and can be done."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def busy(detail: str) -> Problem:
    """Return the problem of a server that is busy, with the seconds after which the client may try again."""
    return Problem(503, detail, Retry_After=str(RETRY_S))


def answer(request: Request, status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """Return a problem in the form that the client prefers."""
    headers = {**(headers or {}), "Cache-Control": "no-store"}
    title = TITLES.get(status, "Error")
    if "json" in request.headers.get("accept", ""):
        body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
        body["instance"] = request.url.path
        return JSONResponse(body, status, headers, "application/problem+json")
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").removesuffix("+00:00")
    base = request.scope.get("root_path", "")
    text = (
        f"Error {status}: {title}\n\n{detail}\n\nUsage details are available from {base}/docs\n\n"
        f"Request:\n{request.url.path}{'?' if request.url.query else ''}{request.url.query}\n\n"
        f"Request Submitted:\n{now}\n\nService version:\n1\n"
    )
    return PlainTextResponse(text, status, headers)


def add_handlers(app: FastAPI) -> None:
    """Let an application answer with :func:`answer` whatever goes wrong."""

    async def problem(request: Request, error: Problem) -> Response:
        return answer(request, error.status, error.detail, error.headers)

    async def of_xcorr(request: Request, error: XcorrError) -> Response:
        status = next((s for kind, s in STATUS.items() if isinstance(error, kind)), 500)
        return answer(request, status, str(error), {"Retry-After": str(RETRY_S)} if status == 503 else None)

    async def of_database(request: Request, error: sqlite3.Error) -> Response:
        return answer(request, 500, f"a database of this campaign: {error}; xcorr verify says what is damaged")

    async def of_system(request: Request, error: OSError) -> Response:
        return answer(request, 500, f"{error}; xcorr verify says what is damaged")

    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return answer(request, 400, "\n".join(_in_words(e, request) for e in error.errors()))

    async def http(request: Request, error: HTTPException) -> Response:
        return answer(request, error.status_code, str(error.detail), dict(error.headers or {}))

    async def broken(request: Request, error: Exception) -> Response:
        return answer(request, 500, "the server has failed here; its log says where")

    handlers: dict[Any, Any] = {
        Problem: problem,
        XcorrError: of_xcorr,
        OSError: of_system,
        sqlite3.Error: of_database,
        RequestValidationError: invalid,
        HTTPException: http,
        Exception: broken,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def _in_words(error: Any, request: Request) -> str:
    """Return what is wrong with a parameter: its name, the value given, what is allowed, the nearest name."""
    place, *names = error["loc"]
    name = ".".join(map(str, names)) or place
    if error["type"] == "extra_forbidden":
        known = parameters_of(request)
        return f"{name}: no such parameter{nearest(name, known)}; there are {', '.join(known) or 'none'}"
    given = "" if error["type"] == "missing" else f" = {error.get('input')!r}"
    return f"{name}{given}: {error['msg'][:1].lower()}{error['msg'][1:]}"


def parameters_of(request: Request) -> list[str]:
    """Return the names of the query parameters of the route that a request goes to."""
    route = request.scope.get("route")
    dependant = getattr(route, "dependant", None)
    models = [p.field_info.annotation for p in dependant.query_params] if dependant else []
    return sorted(field.alias or name for model in models for name, field in getattr(model, "model_fields", {}).items())
