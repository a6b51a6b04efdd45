"""The application: routes of the API, pages, assets, and the guard around them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from xcorr.web import pages
from xcorr.web.answers import NotModified
from xcorr.web.campaigns import Campaigns
from xcorr.web.guard import Guard
from xcorr.web.problems import add_handlers
from xcorr.web.routes import campaigns, downloads, history, lineage, network, pairs, pictures

STATIC = Path(__file__).parent / "static"
OPENAPI = "/api/v1/openapi.json"
ABOUT = """Ambient-noise cross-correlations of seismic networks: results, lineage, downloads. Only GET and HEAD.
Parameters follow the FDSN web services where those have them: net, sta, loc, cha (or their long names) take `*`, `?`
and lists with commas; start and end are UTC; nodata=204 or 404. Lists give `next` where there is more."""


def create_app(folders: Sequence[Path], token: str, hosts: Collection[str] = ()) -> Guard:
    """Return the application for these campaigns. Raises CampaignError for a folder that is none.

    ``token`` lets clients in; ``hosts`` are further names by which the server may be called.
    """
    app = FastAPI(
        title="xcorr", version=version("xcorr"), description=ABOUT, openapi_url=None, docs_url=None, redoc_url=None
    )
    app.state.campaigns = Campaigns(folders)
    for module in (campaigns, network, pairs, pictures, downloads, history, lineage):
        app.include_router(module.router)
    app.include_router(pages.router, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC))
    add_handlers(app)

    async def not_modified(request: Request, error: NotModified) -> Response:
        return Response(status_code=304, headers={"ETag": error.tag})

    app.add_exception_handler(NotModified, not_modified)  # type: ignore[arg-type]

    @app.get(OPENAPI, include_in_schema=False)
    def schema(request: Request) -> JSONResponse:
        return JSONResponse(described(app))

    app.state.schema = lambda: described(app)
    return Guard(app, token, hosts)


def described(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with how clients show the token."""
    found = app.openapi()
    found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    found["security"] = [{"token": []}]
    names = list(app.state.campaigns.by_name)
    for operations in found["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)  # answered with 400
            for parameter in operation.get("parameters", ()):
                if (parameter["in"], parameter["name"]) == ("path", "c"):
                    parameter["schema"] = {"type": "string", "enum": names}
    return found
