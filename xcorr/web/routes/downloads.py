"""What was selected as one file: a zip with checksums, a script for curl, or an RO-Crate."""

from __future__ import annotations

import hashlib
import shlex
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from pydantic import Field

from xcorr.pes.stacking.result_file import NAME as RESULTS
from xcorr.provenance.crate import METADATA, Part, documents, metadata
from xcorr.provenance.destination import MANIFEST
from xcorr.results.packed import Named, files_of, names_of, with_data
from xcorr.results.pair_table import PairTable
from xcorr.web.answers import as_json, attachment, produces
from xcorr.web.campaigns import Campaign
from xcorr.web.parameters import Pairs
from xcorr.web.problems import Problem, busy
from xcorr.web.routes import API, Served
from xcorr.web.routes.pairs import EXPORTS, chosen

AT_ONCE = 4  # downloads
MOST_TOGETHER = 20_000  # pairs in one NetCDF or CSV file
BLOCK = 1 << 20
Content = tuple[str, bytes, str]  # name, contents, what it is
router = APIRouter(tags=["downloads"])
_slots = threading.BoundedSemaphore(AT_ONCE)


class Download(Pairs):
    """Which pairs, and how they are packed."""

    reverse: bool = Field(False, description="Positive lag from station 2 to 1.")
    format: Literal["sac", "mseed", "nc", "csv"] = "sac"
    pack: Literal["zip", "script"] = Field("zip", description="A zip file, or a script of curl commands.")
    estimate: bool = Field(False, description="Only say how much it would be.")


@router.get(API + "/{c}/download", responses=produces("application/zip", "text/x-shellscript", "application/json"))
def download(one: Served, request: Request, asked: Annotated[Download, Query()]) -> Response:
    """Give the stacks of the pairs chosen: a zip with SHA-256 of each file, or a script that fetches file after file.

    The script skips files that are there already, so that it can be stopped and run again.
    """
    table, rows = _with_data(one, asked)
    size = 4 * len(one.results().lags_s) * (1 if asked.format in ("sac", "mseed") else 2) + 640
    if asked.estimate:
        about = {"pairs": len(rows), "bytes": len(rows) * size, "format": asked.format}
        return as_json(about)
    if asked.pack == "script":
        return PlainTextResponse(_script(one, request, asked, table, rows), 200, None, "text/x-shellscript")
    if asked.format in ("nc", "csv") and len(rows) > MOST_TOGETHER:
        raise Problem(
            413, f"{len(rows):,} pairs; one {asked.format} file has at most {MOST_TOGETHER:,}: narrow, or take sac"
        )
    found = files_of(table, rows, EXPORTS[asked.format], asked.reverse)
    return _streamed(zipped(found), f"{one.name}-{asked.format}.zip")


def _with_data(one: Campaign, asked: Pairs) -> tuple[PairTable, np.ndarray]:
    """Return the table of pairs, and the rows that are asked for and have data."""
    table, rows = chosen(one, asked)
    return table, with_data(table, rows)


def _streamed(parts: Iterator[bytes], name: str) -> Response:
    if not _slots.acquire(blocking=False):
        raise busy(f"{AT_ONCE} downloads are under way")
    return _Counted(parts, 200, attachment(name), "application/zip")


class _Counted(StreamingResponse):
    """A download, which frees its place at its end, however it ends."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            _slots.release()


class _Sink:
    """Takes what a zip file writes, for the stream; it cannot seek."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: whoever streams takes what there is."""

    def taken(self) -> bytes:
        found = b"".join(self.parts)
        self.parts.clear()
        return found


def zipped(found: Iterable[Named], last: Callable[[list[Part]], Iterable[Content]] | None = None) -> Iterator[bytes]:
    """Yield a zip file with these files and a manifest of their SHA-256; ``last`` makes more from the list of parts.

    What goes wrong on the way is raised: the connection then ends before the zip does, which the client notices.
    """
    sink, parts = _Sink(), list[Part]()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:  # type: ignore[call-overload]
        for name, path, what in found:
            digest, member = hashlib.sha256(), zipfile.ZipInfo.from_file(path, name)
            with made.open(member, "w", force_zip64=True) as to, path.open("rb") as file:
                while block := file.read(BLOCK):
                    digest.update(block)
                    to.write(block)
                    yield sink.taken()
            parts.append(Part(name, path.stat().st_size, digest.hexdigest(), what))
            yield sink.taken()
        for name, content, what in last(parts) if last else ():
            made.writestr(name, content)
            parts.append(Part(name, len(content), hashlib.sha256(content).hexdigest(), what))
            yield sink.taken()
        made.writestr(MANIFEST, "".join(f"{p.sha256}  {p.path}\n" for p in parts))
    yield sink.taken()


def _script(one: Campaign, request: Request, asked: Download, table: PairTable, rows: np.ndarray) -> str:
    base = f"{str(request.base_url).rstrip('/')}{API}/{quote(one.name)}"
    how = {"format": asked.format, "components": table.of[0], "stack": asked.stack, "band": asked.band}
    query = urlencode({k: v for k, v in how.items() if v} | ({"reverse": "true"} if asked.reverse else {}))
    lines = [
        "#!/bin/sh",
        "# Fetches correlations one by one; run it again after a stop. The token of the server is in XCORR_TOKEN.",
        "set -eu",
        ': "${XCORR_TOKEN:?set it to the token of the server}"',
        "get() {",
        '  [ -s "$2" ] && return',
        '  curl --fail --silent --show-error --retry 5 --retry-connrefused -H "Authorization: Bearer $XCORR_TOKEN" \\',
        '    -o "$2.part" "$1" && mv "$2.part" "$2"',
        "}",
    ]
    for (first, second), name in names_of(table, rows).items():
        address = f"{base}/pairs/{quote(first, safe='')}/{quote(second, safe='')}?{query}"
        lines.append(f"get {shlex.quote(address)} {shlex.quote(f'{name}.{asked.format}')}")
    return "\n".join(lines) + "\n"


class Crate(Download):
    """Which pairs go into the crate, and how."""

    format: Literal["sac", "mseed", "nc", "csv"] = "nc"
    pack: Literal["zip"] = "zip"
    data: Literal["none", "selected", "all"] = Field("selected", description="all: the whole xcorr.h5.")


@router.get(API + "/{c}/rocrate", responses=produces("application/zip", "application/json"))
def rocrate(one: Served, request: Request, asked: Annotated[Crate, Query()]) -> Response:
    """Give a zip that is a Workflow Run RO-Crate: settings, runs, report, PROV, and the results selected."""
    table, rows = _with_data(one, asked)
    if asked.estimate:
        sizes = {
            "none": 0,
            "selected": len(rows) * 8 * len(one.results().lags_s),
            "all": (one.folder / RESULTS).stat().st_size,
        }
        about = {"pairs": len(rows), "bytes": sizes[asked.data], "format": asked.format}
        return as_json(about)
    if asked.data == "selected" and len(rows) > MOST_TOGETHER:
        raise Problem(413, f"{len(rows):,} pairs; a crate has at most {MOST_TOGETHER:,}: narrow, or take data=all")
    return _streamed(crate(one, asked, table, rows), f"{one.name}-crate.zip")


def crate(one: Campaign, asked: Crate, table: PairTable, rows: np.ndarray) -> Iterator[bytes]:
    """Yield the zip of a crate, with the data of these pairs if they are asked for."""

    found: Iterable[Named] = ()
    if asked.data == "all":
        found = [(RESULTS, one.inside(RESULTS), "tables and stacks of all pairs")]
    elif asked.data == "selected":
        files = files_of(table, rows, EXPORTS[asked.format], asked.reverse)
        found = ((f"data/{name}", path, what) for name, path, what in files)

    def rest(parts: list[Part]) -> Iterator[Content]:
        yield from documents(one.folder)
        told = f"Selected: {asked.given() or 'all pairs'}." if asked.data == "selected" else f"Data: {asked.data}."
        yield METADATA, metadata(one.folder, parts, told).encode(), "metadata of the crate"

    return zipped(found, rest)
