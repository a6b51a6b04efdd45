"""Lineages and runs as W3C PROV documents: PROV-JSON, PROV-N, PROV-XML, RDF (Turtle), and a picture.

PROV-DM (W3C Recommendation 2013) with terms of S-PROV (Spinuso 2017) for the workflow: WFExecution, Component,
Invocation, Data, and their attributes.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from xcorr.provenance import history
from xcorr.provenance.lineage import Lineage
from xcorr.provenance.store import ProvenanceError, reading

XCORR, SPROV = "urn:xcorr:", "http://s-prov.org/ns/#"
INSTALL = "pip install 'xcorr[provenance]'"


def document_of(campaign: Path, lineage: Lineage) -> Any:
    """Return a ``prov`` document of a lineage: its entities and activities, the settings as plan, and the software.

    Raises ProvenanceError if the package ``prov`` is missing, or the lineage breaks the rules of PROV.
    """
    wrong = lineage.problems()
    if wrong:
        raise ProvenanceError(f"{campaign}: the provenance is damaged: {'; '.join(wrong[:3])}")
    made = _begin(campaign)
    for name, attributes in lineage.entities.items():
        kind = "xcorr:File" if name.startswith("file:") else "s-prov:Data"
        made.entity(_name(name), {"prov:label": name, "prov:type": _term(made, kind), **_plain(attributes)})
    for name, attributes in lineage.activities.items():
        begun, ended = (_time(attributes.get(key)) for key in ("begun", "ended"))
        rest = {k: v for k, v in attributes.items() if k not in ("begun", "ended")}
        about = {"prov:label": name, "prov:type": _term(made, "s-prov:Invocation"), **_plain(rest)}
        made.activity(_name(name), begun, ended, about)
    for activity, entity in sorted(lineage.used):
        made.usage(_name(activity), _name(entity))
    for entity, activity in sorted(lineage.generated):
        made.generation(_name(entity), _name(activity))
    for entity, source in sorted(lineage.derived):
        made.derivation(_name(entity), _name(source))
    for activity in lineage.activities:
        made.association(_name(activity), "xcorr:software", "xcorr:plan")
    return made


def document_of_runs(campaign: Path) -> Any:
    """Return a ``prov`` document of all runs of a campaign, with their users and elements."""
    made = _begin(campaign)
    with reading(campaign) as store:
        for run, begun, ended, status, mapping, workers, user, host in store.execute(
            "SELECT id, begun, ended, status, mapping, workers, user, host FROM run ORDER BY id"
        ).fetchall():
            facts = {"status": status, "mapping": mapping, "workers": workers, "host": host}
            kind = {"prov:type": _term(made, "s-prov:WFExecution"), **_plain(facts)}
            made.activity(f"xcorr:run-{run}", _time(begun), _time(ended), kind)
            made.association(f"xcorr:run-{run}", "xcorr:software", "xcorr:plan")
            made.agent(_name(f"user {user}"), {"prov:type": _term(made, "prov:Person"), "prov:label": user})
            made.association(f"xcorr:run-{run}", _name(f"user {user}"))
            for element, kind_of, version, code in store.execute(
                "SELECT name, class, version, content_hash FROM element WHERE run = ? ORDER BY name", (run,)
            ).fetchall():
                name = _name(f"element {element}")
                about = {"class": kind_of, "version": version, "content_hash": code}
                type_of = _term(made, "s-prov:Component")
                made.entity(name, {"prov:label": element, "prov:type": type_of, **_plain(about)})
                made.usage(f"xcorr:run-{run}", name)
        for k, archive in enumerate(reversed(history.archives(store)), 1):
            name, place = f"xcorr:archive-{k}", _name(f"archive {archive['destination']}")
            facts = {k: archive[k] for k in ("layout", "files", "bytes", "selection")}
            made.activity(name, _time(archive["at"]), None, {"prov:label": "xcorr archive"})
            made.entity(place, {"prov:label": archive["destination"], **_plain(facts)})
            made.generation(place, name)
            made.association(name, "xcorr:software", "xcorr:plan")
    return made


def _begin(campaign: Path) -> Any:
    """Return a document with its namespaces, the software as agent and the settings as plan."""
    try:
        from prov.model import ProvDocument
    except ImportError:
        raise ProvenanceError(f"PROV documents need the package prov: {INSTALL}") from None
    made = ProvDocument()
    made.add_namespace("xcorr", XCORR)
    made.add_namespace("s-prov", SPROV)
    software, settings_hash, settings = "", "", ""
    try:
        with reading(campaign) as store:
            row = store.execute("SELECT software, settings_hash, settings FROM run ORDER BY id DESC LIMIT 1").fetchone()
            software, settings_hash, settings = row or ("", "", "")
    except ProvenanceError:
        from xcorr.store.folder import recorded_hash

        settings_hash = recorded_hash(campaign)
    made.agent("xcorr:software", {"prov:type": _term(made, "prov:SoftwareAgent"), "prov:label": software or "xcorr"})
    plan = {"settings_hash": settings_hash, "settings": settings}
    made.entity("xcorr:plan", {"prov:type": _term(made, "prov:Plan"), **_plain(plan)})
    return made


def _name(text: str) -> str:
    """Return the qualified name of an entity, activity or agent: a readable part, and a hash that makes it unique."""
    short = "".join(c if c.isalnum() or c in "-_." else "_" for c in text)[-60:]
    return f"xcorr:{short}-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"


def _term(document: Any, name: str) -> Any:
    return document.valid_qualified_name(name)


def _time(seconds: float | None) -> datetime.datetime | None:
    return None if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _plain(attributes: dict[str, Any]) -> dict[Any, Any]:
    return {f"xcorr:{quote(k, safe='')}": v for k, v in attributes.items() if v is not None and v != ""}


def draw(lineage: Lineage, link: Callable[[str], str] | None = None) -> str:
    """Return a lineage as SVG: entities as ellipses, activities as boxes, from the sources on the left.

    ``link`` returns the address that a node leads to, or an empty text.
    """
    nodes = [*lineage.entities, *lineage.activities]
    edges = [(e, a) for a, e in lineage.used] + [(a, e) for e, a in lineage.generated]
    below: dict[str, list[str]] = {}
    degree = dict.fromkeys(nodes, 0)
    for a, b in edges:
        below.setdefault(a, []).append(b)
        degree[b] += 1
    column, ready = dict.fromkeys(nodes, 0), [n for n in nodes if not degree[n]]
    while ready:
        node = ready.pop()
        for other in below.get(node, ()):
            column[other] = max(column[other], column[node] + 1)
            degree[other] -= 1
            if not degree[other]:
                ready.append(other)
    filled: dict[int, int] = {}
    place = {}
    for node in sorted(nodes):
        row = filled.get(column[node], 0)
        filled[column[node]] = row + 1
        place[node] = (20 + column[node] * 330, 20 + row * 56)
    size = f'width="{max(x for x, _ in place.values()) + 320}" height="{max(y for _, y in place.values()) + 60}"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="10">']
    for a, b in sorted(edges):
        (x1, y1), (x2, y2) = place[a], place[b]
        lines.append(f'<line x1="{x1 + 280}" y1="{y1 + 18}" x2="{x2}" y2="{y2 + 18}" stroke="#888"/>')
    for node, (x, y) in place.items():
        shape = f'<rect x="{x}" y="{y}" width="280" height="36" fill="#cdf" stroke="#36c"/>'
        if node in lineage.entities:
            shape = f'<ellipse cx="{x + 140}" cy="{y + 18}" rx="140" ry="18" fill="#ffc" stroke="#a80"/>'
        count = (lineage.entities.get(node) or lineage.activities.get(node) or {}).get("count")
        label = node if len(node) <= 50 else f"{node[:14]}...{node[-32:]}"
        label = f"{label} ({count:,})" if count else label
        text = f'<text x="{x + 140}" y="{y + 22}" text-anchor="middle">{escape(label)}</text>'
        shown = f"<g><title>{escape(node)}</title>{shape}{text}</g>"
        address = link(node) if link else ""
        lines.append(f'<a href="{escape(address)}">{shown}</a>' if address else shown)
    return "\n".join([*lines, "</svg>", ""])


FORMATS: dict[str, Callable[[Any], str]] = {
    "json": lambda d: str(d.serialize(indent=1)),
    "provn": lambda d: str(d.get_provn()) + "\n",
    "xml": lambda d: str(d.serialize(format="xml")),
    "turtle": lambda d: str(d.serialize(format="rdf", rdf_format="turtle")),
}


def write(campaign: Path, lineage: Lineage | None, kind: str) -> str:
    """Return a lineage (None: the runs) of a campaign as text in a format: json, provn, xml, turtle or svg.

    Raises ProvenanceError for an unknown format or a missing package.
    """
    if kind == "svg":
        if lineage is None:
            raise ProvenanceError("svg shows the lineage of one product; name one with --pair, --file or --item")
        return draw(lineage)
    if kind not in FORMATS:
        raise ProvenanceError(f"format {kind!r} is not one of {', '.join([*FORMATS, 'svg'])}")
    document = document_of_runs(campaign) if lineage is None else document_of(campaign, lineage)
    try:
        return FORMATS[kind](document)
    except ImportError as error:
        raise ProvenanceError(f"format {kind} needs a package that is not installed: {INSTALL} ({error})") from None
