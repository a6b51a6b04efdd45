"""The list of campaigns, what one holds, and how to use the API."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from xcorr.pes.stacking.result_file import NAME as RESULTS
from xcorr.store.report import reason_line
from xcorr.web.pages.render import home, map_of, page, query, ways
from xcorr.web.parameters import Asked
from xcorr.web.routes import Served
from xcorr.web.routes.campaigns import brief, overview

MOST_REASONS = 30
router = APIRouter()


@router.get("/")
def campaigns(request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """Show the campaigns that are served."""
    shown = [(home(request, one), brief(one)) for one in request.app.state.campaigns.by_name.values()]
    return page(request, "campaigns.html", "Campaigns", shown=shown)


@router.get("/c/{c}")
def campaign(one: Served, request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """Show what a campaign holds, and how far it has come."""
    found = overview(one)
    report: dict[str, Any] = found.get("report", {})
    drawn: dict[str, Any] = {"places": [], "unplaced": 0}
    if (one.folder / RESULTS).is_file():
        pairs = one.results().dataset("pairs")
        base = home(request, one)
        drawn = map_of(
            request, one, (pairs["station_1"], pairs["station_2"]), lambda name: f"{base}/pairs" + query({"sta1": name})
        )
    return page(
        request,
        "overview.html",
        f"Campaign {one.name}",
        one,
        found=found,
        report=report,
        map=drawn,
        progress=found["progress"],
        stages=_stages(found["progress"]),
        reasons=[(g["kind"], reason_line(g)) for g in report.get("reasons", [])[:MOST_REASONS]],
        more_reasons=max(0, len(report.get("reasons", [])) - MOST_REASONS),
        facts=_account(found, report),
        ways=ways(request, one, "", {}, "r  # what it holds\nr.report  # the account of the last run",
                  "xcorr info CAMPAIGN; xcorr status CAMPAIGN"),
    )  # fmt: skip


def _stages(progress: dict[str, Any]) -> list[tuple[str, int, int]]:
    """Return name, items done and items expected of every stage whose end is known."""
    items = progress.get("items", {})
    return [(name, min(items.get(name, 0), n), n) for name, n in progress.get("expected", {}).items()]


def _account(found: dict[str, Any], report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a campaign holds and how its last run went, in rows."""
    rows = [(k, ", ".join(map(str, v)) if isinstance(v, list) else v) for k, v in found.get("results", {}).items()]
    rows = [(k.replace("_", " "), v) for k, v in rows if k not in ("lags_s", "samples") and v]
    if report:
        windows = report["windows"]
        rejected = ", ".join(f"{n:,} {why}" for why, n in windows.items() if why != "used" and n)
        rows += [
            ("last run", f"{report['created']}, {report['software']}"),
            ("stations", f"{report['stations_asked']} lines asked, {report['stations_used']} stations used"),
            ("pairs", f"{report['pairs']:,}, {report['pairs_with_data']:,} with data"),
            ("chunks", f"{report['chunks']:,} in {report['shards']:,} shards, {report['bytes_written'] / 1e6:,.1f} MB"),
            ("windows", f"{windows['used']:,} used" + (f"; rejected: {rejected}" if rejected else "")),
            ("channels in chunks", ", ".join(f"{n:,} {s}" for s, n in report["slots_by_status"].items())),
            ("warnings", "; ".join(report.get("warnings", [])) or "none"),
        ]
    return rows


@router.get("/docs")
def docs(request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """Show the API: every address with its parameters and formats, from the OpenAPI document."""
    schema = request.app.state.schema()
    routes = []
    for address, operations in schema["paths"].items():
        one = operations["get"]
        parameters = [
            {
                "name": p["name"],
                "in": p["in"],
                "kind": _kind(p["schema"]),
                "about": p.get("description", p["schema"].get("description", "")),
            }
            for p in one.get("parameters", [])
        ]
        formats = sorted(one["responses"]["200"].get("content", {}))
        about = one.get("description", "")
        routes.append({"address": address, "about": about, "parameters": parameters, "formats": formats})
    base = str(request.base_url).rstrip("/")
    names = list(request.app.state.campaigns.by_name)
    return page(
        request, "docs.html", "The web API", here="docs", routes=routes, about=schema["info"]["description"],
        base=base, name=names[0],
    )  # fmt: skip


def _kind(schema: dict[str, Any]) -> str:
    """Return what values a parameter takes, in words."""
    kinds = [s for s in schema.get("anyOf", [schema]) if s.get("type") != "null"]
    one = kinds[0] if kinds else {}
    if "enum" in one or "const" in one:
        return " | ".join(str(v) or '""' for v in one.get("enum", [one.get("const")]))
    limits = [f"{sign} {one[key]:g}" for key, sign in (("minimum", ">="), ("maximum", "<=")) if key in one]
    default = schema.get("default")
    text = f"{one.get('type', '')} {', '.join(limits)}".strip()
    return text + (f", default {default}" if default not in (None, "") else "")
