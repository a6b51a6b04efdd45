"""Pages of provenance: lineage in both directions, runs, kept items."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from xcorr.core import XcorrError
from xcorr.pes.items import STATION_METADATA, WINDOWS_USED, Chunk
from xcorr.provenance import document, history
from xcorr.provenance.destination import is_address
from xcorr.provenance.grouped import kind_of, sentences
from xcorr.provenance.store import ProvenanceError, reading
from xcorr.results.where import ConditionError, Where
from xcorr.store import lock
from xcorr.web.answers import fresh, offset_of, token_of
from xcorr.web.campaigns import DRAWING, OF_STORE, Campaign, heavy
from xcorr.web.pages.preview import preview
from xcorr.web.pages.render import home, page, query, ways
from xcorr.web.parameters import Asked
from xcorr.web.routes import Served
from xcorr.web.routes.history import kept_item, timeline
from xcorr.web.routes.lineage import LineageOf, shown, whole

router = APIRouter()
LISTED = 1000  # of the products that a bad file touched
AFTER_CONDITION = ("ConditionStation", "NormalizeStation", "TransformStation")
COLOURS = ("#1f5a94", "#c2571a", "#2f7d32", "#8e3a9d", "#a8322a", "#5a6570", "#86690c", "#0f766e")


@router.get("/c/{c}/lineage")
def lineage(one: Served, request: Request, asked: Annotated[LineageOf, Query()]) -> Response:
    """Show a lineage: sentences first, then a graph of at most 200 groups, and the same as a tree."""
    given = {k: v for k, v in asked.model_dump(exclude_defaults=True).items() if v != ""}
    base, values = f"{home(request, one)}/lineage", dict[str, Any]()
    named = asked.pair or asked.file or asked.item
    if named:
        try:
            with heavy():
                everything, start = whole(one, asked)
                found, left = shown(everything, start, asked)
            opened = [name for name in asked.open.split(",") if name]

            def link(name: str) -> str:
                about = found.entities.get(name) or found.activities.get(name) or {}
                if about.get("count"):
                    return base + query(given, open=",".join([*opened, name]), max_nodes=min(asked.max_nodes, 200))
                if name.startswith("file:"):
                    return base + query({"file": name.removeprefix("file:")})
                if name.startswith("stack:"):
                    return base + query(_of_stack(name))
                return base + query({"item": name}) if name in found.entities and "." in kind_of(name) else ""

            values = {
                "sentences": sentences(found),
                "left": left,
                "svg": document.draw(found, link),
                "tree": [(name, about, link(name)) for name, about in sorted(found.entities.items())],
                "steps": sorted(found.activities.items()),
                "touched": sorted(n for n in everything.entities if n.startswith("stack:")),
            }
        except XcorrError as error:
            values = {"problem": str(error)}
    kind = next((name for name in ("file", "item", "pair") if getattr(asked, name)), "pair")
    what = f"--{kind} {shlex.quote(getattr(asked, kind) or 'XX.A-XX.B')}"
    toward = f", direction={asked.direction!r}" if asked.direction else ""
    way = f" --direction {asked.direction}" if asked.direction else ""
    return page(
        request, "lineage.html", "Lineage", one, "/lineage",
        ways(request, one, "/lineage", given,
             f"from pathlib import Path\nfrom xcorr.provenance.ask import lineage\nlineage(Path({one.folder.name!r}), "
             f"pair={asked.pair or None!r}, path={asked.file or None!r}, item={asked.item or None!r}{toward})",
             f"xcorr prov CAMPAIGN {what}{way} --format svg -o lineage.svg"),
        asked=asked, given=given, query=query(given), named=named,
        values={"problem": "", "sentences": [], **values},
        listed=LISTED, folder=shlex.quote(one.folder.name),
    )  # fmt: skip


def _of_stack(name: str) -> dict[str, str]:
    """Return the parameters for the lineage of a stack, ``stack:METHOD/BAND/COMPONENTS/PAIR``."""
    parts = name.removeprefix("stack:").split("/")
    if len(parts) != 4:
        return {}
    stack, band, components, pair = parts
    return {"pair": pair, "stack": stack, "components": components, "band": "" if band == "main" else band}


@router.get("/c/{c}/runs")
def runs(one: Served, request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """Show the runs of a campaign."""
    try:
        with reading(one.folder) as store:
            found = history.runs(store, lock.is_running(one.folder))
    except ProvenanceError:
        found = []
    for run in found:
        run["link"] = f"{home(request, one)}/runs/{run['id']}"
    return page(
        request, "runs.html", "Runs", one, "/runs",
        ways(request, one, "/runs", {}, "r.report", "xcorr prov CAMPAIGN"), runs=found,
    )  # fmt: skip


@router.get("/c/{c}/runs/{n}")
def run(
    one: Served, n: Annotated[int, Path(ge=1, le=10**9)], request: Request, asked: Annotated[Asked, Query()]
) -> Response:
    """Show one run: timeline by worker, totals, what was skipped, settings compared with the run before."""
    with reading(one.folder) as store:
        found = history.run(store, n, lock.is_running(one.folder))
        skipped, _ = history.activity(store, n, "", "skipped", None, 100)
        open_ones, _ = history.activity(store, n, "", "under way", None, 100)
        before = store.execute("SELECT settings FROM run WHERE id < ? ORDER BY id DESC LIMIT 1", (n,)).fetchone()
    lines = difflib.unified_diff((before or ("",))[0].splitlines(), found["settings"].splitlines(), lineterm="", n=0)
    changed = [line for line in lines if not line.startswith(("---", "+++", "@@"))] if before else None
    of = timeline(one, n)
    elements = sorted({e for w in of["workers"] for e in w["elements"]})
    return page(
        request, "run.html", f"Run {n}", one, "/runs",
        ways(request, one, f"/runs/{n}", {}, "r.report['workers']", "xcorr prov CAMPAIGN"),
        run=found, skipped=skipped, open_ones=open_ones, changed=changed, timeline=of,
        colours={e: COLOURS[k % len(COLOURS)] for k, e in enumerate(elements)},
        width=(of["ended"] - of["begun"]) / of["bins"] if of["bins"] else 1.0,
    )  # fmt: skip


class KeptPage(BaseModel):
    """The rule whose items are counted."""

    model_config = ConfigDict(extra="forbid")
    element: str = Field("", max_length=100)
    condition: str = Field("", max_length=2000)
    next: str = Field("", max_length=400)


@router.get("/c/{c}/kept")
def kept(one: Served, request: Request, asked: Annotated[KeptPage, Query()]) -> Response:
    """Show kept items, and count what a rule would have kept."""
    stamp, rows, note = one.stamp(*OF_STORE), [], ""
    try:
        with reading(one.folder) as store:
            rows = history.kept(store)
    except ProvenanceError as error:
        note = str(error)
    for row in rows:
        row["far"] = is_address(row["path"])
    first = offset_of(asked.next, stamp)
    counted = _counted(one, asked) if asked.element else None
    base = f"{home(request, one)}/kept"
    return page(
        request, "kept.html", "Kept items", one, "/kept",
        ways(request, one, "/kept", {}, "from pathlib import Path\nfrom xcorr.provenance.ask import query\n"
             f"query(Path({one.folder.name!r}), kept=True)", "xcorr prov query CAMPAIGN --kept"),
        rows=rows[first : first + 50], total=len(rows), note=note, asked=asked, counted=counted,
        elements=AFTER_CONDITION, fields=list(STATION_METADATA),
        next=base + query({"next": token_of(first + 50, stamp)}) if first + 50 < len(rows) else "",
    )  # fmt: skip


def _counted(one: Campaign, asked: KeptPage) -> str:
    """Return how many items a rule would have kept, in words; from the ledger, so at every level of provenance."""
    try:
        test = Where(asked.condition, STATION_METADATA)
        total = passing = 0
        for metadata in _metadata(one):
            total += 1
            passing += test(metadata)
    except (ConditionError, XcorrError) as error:
        return str(error)
    return f"This rule would have kept {passing:,} of {total:,} items."


def _metadata(one: Campaign) -> Iterator[dict[str, Any]]:
    """Yield the metadata that the items of every station in every chunk had after ConditionStation."""
    names, now = one.slots(), (0, "")
    metadata: dict[str, Any] = {}
    with one.ledger() as ledger:
        for start, a in ledger.accounts(files=False):
            station = names[a.slot].rpartition(".")[0]
            if (start, station) != now:
                if metadata:
                    yield metadata
                now, metadata = (start, station), {name: kind() for name, kind in STATION_METADATA.items()}
                metadata |= {"chunk": Chunk(0, start, 0, 0, 0).name, "station": station}
                metadata["network"] = station.partition(".")[0]
            for name in ("samples", "gaps", "gap_s", "zeros_s"):
                metadata[name] += getattr(a, name)
            metadata["windows_used"] += a.windows_used
            metadata["windows_rejected"] += sum(n for reason, n in a.windows.items() if reason != WINDOWS_USED)
            metadata["failed"] |= a.is_error
    if metadata:
        yield metadata


@router.get("/c/{c}/kept/{key}.png")
def picture(one: Served, key: str, request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """Draw a kept item."""
    path, digest = kept_item(one, key)
    headers = fresh(request, digest)
    with heavy(), DRAWING:
        return Response(preview(path), 200, headers, "image/png")
