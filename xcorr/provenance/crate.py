"""Campaigns as RO-Crates: the metadata of a folder or zip file with results, settings, report and PROV inside.

RO-Crate 1.1 (Soiland-Reyes et al. 2022, Data Science 5), profile Workflow Run Crate 0.5 (Leo et al. 2024, PLoS ONE 19).
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xcorr.pes.reading.files import CAMPAIGN_MARK
from xcorr.provenance import document, history
from xcorr.provenance.store import ProvenanceError, reading
from xcorr.settings.written import to_toml
from xcorr.store import lock
from xcorr.store.folder import frozen_settings

METADATA = "ro-crate-metadata.json"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
KINDS = {  # of files in a crate, by suffix
    ".toml": "application/toml", ".json": "application/json", ".html": "text/html", ".nc": "application/x-netcdf",
    ".h5": "application/x-hdf5", ".csv": "text/csv", ".sac": "application/octet-stream",
    ".mseed": "application/vnd.fdsn.mseed", ".npz": "application/octet-stream", ".txt": "text/plain",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Part:
    """A file of a crate: path in it, bytes, SHA-256, and what it is in a few words."""

    path: str
    bytes: int
    sha256: str
    about: str


def documents(campaign: Path) -> Iterator[tuple[str, bytes, str]]:
    """Yield name, contents and description of what every crate has besides data: report, settings, PROV."""
    for name, about in (("report.html", "report of the last run"), ("report.json", "the same for programs")):
        if (campaign / name).is_file():
            yield name, (campaign / name).read_bytes(), about
    settings = to_toml(frozen_settings(campaign).as_dict())
    yield CAMPAIGN_MARK, settings.encode(), "the settings of the campaign: what was run"
    with contextlib.suppress(ProvenanceError):  # level "off", or the package prov is not installed
        yield "prov.json", document.write(campaign, None, "json").encode(), "all runs as W3C PROV-JSON"


def metadata(campaign: Path, parts: Sequence[Part], described: str) -> str:
    """Return ``ro-crate-metadata.json`` of a crate with these parts; ``described`` says what was selected.

    ``campaign.toml`` must be among the parts: the settings are the workflow. The runs of the campaign are its actions.
    """
    name = campaign.resolve().name.removesuffix(".xcorr")
    try:
        with reading(campaign) as store:
            runs = history.runs(store, lock.is_running(campaign))
    except ProvenanceError:  # recorded at level "off"
        runs = []
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    results = [_ref(p.path) for p in parts if p.path != CAMPAIGN_MARK]
    graph: list[dict[str, Any]] = [
        {
            "@id": METADATA,
            "@type": "CreativeWork",
            "about": _ref("./"),
            "conformsTo": [
                _ref("https://w3id.org/ro/crate/1.1"),
                _ref("https://w3id.org/workflowhub/workflow-ro-crate/1.0"),
            ],
        },
        {
            "@id": "./",
            "@type": "Dataset",
            "name": f"Ambient-noise cross-correlations of the campaign {name}",
            "description": described,
            "datePublished": now,
            "license": "All rights of the data remain with the operators of the networks; ask them.",
            "conformsTo": [_ref(url) for url in PROFILES],
            "mainEntity": _ref(CAMPAIGN_MARK),
            "hasPart": [_ref(p.path) for p in parts],
            "mentions": [_ref(f"#run-{r['id']}") for r in runs],
        },
        *({"@id": url, "@type": "CreativeWork", "name": n, "version": v} for url, (n, v) in PROFILES.items()),
        {
            "@id": "#xcorr-settings",
            "@type": "ComputerLanguage",
            "name": "xcorr settings (TOML)",
            "identifier": _ref("https://toml.io/en/v1.0.0"),
            "url": _ref("https://toml.io/en/v1.0.0"),
        },
        {
            "@id": "#xcorr",
            "@type": "SoftwareApplication",
            "name": "xcorr",
            "softwareVersion": _version(),
            "url": "urn:xcorr",
        },
        *(_file(p) for p in parts),
        *(_run(r, results) for r in runs),
        *({"@id": f"#user-{u}", "@type": "Person", "name": u} for u in sorted({r["user"] for r in runs})),
    ]
    return json.dumps({"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph}, indent=1)


def _ref(name: str) -> dict[str, str]:
    return {"@id": name}


def _version() -> str:
    from importlib.metadata import version

    return version("xcorr")


def _file(part: Part) -> dict[str, Any]:
    about: dict[str, Any] = {
        "@id": part.path,
        "@type": "File",
        "name": part.path,
        "description": part.about,
        "contentSize": str(part.bytes),
        "sha256": part.sha256,
        "encodingFormat": KINDS.get(Path(part.path).suffix, "application/octet-stream"),
    }
    if part.path == CAMPAIGN_MARK:
        about["@type"] = ["File", "SoftwareSourceCode", "ComputationalWorkflow"]
        about["programmingLanguage"] = _ref("#xcorr-settings")
        about["runtimePlatform"] = "xcorr"
    return about


def _run(run: dict[str, Any], results: list[dict[str, str]]) -> dict[str, Any]:
    done = run["status"] == "done"
    about = {
        "@id": f"#run-{run['id']}",
        "@type": "CreateAction",
        "name": f"Run {run['id']} of the campaign, on the mapping {run['mapping']}",
        "description": f"{run['software']}; settings {run['settings_hash']}; status: {run['status']}",
        "instrument": _ref(CAMPAIGN_MARK),
        "agent": _ref(f"#user-{run['user']}"),
        "startTime": _time(run["begun"]),
        "actionStatus": f"http://schema.org/{'CompletedActionStatus' if done else 'FailedActionStatus'}",
        "object": [_ref(CAMPAIGN_MARK)],
        "result": results if done else [],
    }
    if run["ended"] is not None:
        about["endTime"] = _time(run["ended"])
    if not done:
        about["error"] = run["status"]
    return about


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
