"""What was selected as one file: a zip with checksums, a script for curl, or an RO-Crate."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
import threading
import zipfile
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from pydantic import Field

from xcorr.core import XcorrError
from xcorr.pes.reading.files import CAMPAIGN_MARK
from xcorr.pes.stacking.result_file import NAME as RESULTS
from xcorr.provenance import document
from xcorr.provenance.crate import METADATA, Part, metadata, plain_settings
from xcorr.provenance.store import ProvenanceError
from xcorr.results.packed import Named, files_of, names_of
from xcorr.web.answers import attachment, produces
from xcorr.web.campaigns import Campaign
from xcorr.web.parameters import Pairs
from xcorr.web.problems import Problem, busy
from xcorr.web.routes import API, Served
from xcorr.web.routes.pairs import EXPORTS, chosen

AT_ONCE = 4  # downloads
MOST_TOGETHER = 20_000  # pairs in one NetCDF or CSV file
MANIFEST = "manifest-sha256.txt"
BLOCK = 1 << 20
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
    table, rows = chosen(one, asked)
    size = 4 * len(one.results().lags_s) * (1 if asked.format in ("sac", "mseed") else 2) + 640
    if asked.estimate:
        about = {"pairs": len(rows), "bytes": len(rows) * size, "format": asked.format}
        return Response(json.dumps(about), 200, None, "application/json")
    if asked.pack == "script":
        names = names_of(table, table.of[0], asked.selection())
        return PlainTextResponse(_script(one, request, asked, names, table.of[0]), 200, None, "text/x-shellscript")
    if asked.format in ("nc", "csv") and len(rows) > MOST_TOGETHER:
        raise Problem(
            413, f"{len(rows):,} pairs; one {asked.format} file has at most {MOST_TOGETHER:,}: narrow, or take sac"
        )
    if not len(rows):
        raise Problem(404, "no pair is selected")
    if asked.format in ("sac", "mseed"):
        names_of(table, table.of[0], asked.selection())  # refused now, not in the middle of the zip
    return _streamed(zipped(files(one, asked), f"{one.name} as {asked.format}"), f"{one.name}-{asked.format}.zip")


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


def files(one: Campaign, asked: Download) -> Iterator[Named]:
    """Yield name, path and description of the files that ``xcorr export`` would write for the pairs chosen."""
    components, stack, band = chosen(one, asked)[0].of
    return files_of(
        one.results(), EXPORTS[asked.format], components, str(stack), band, asked.selection(), asked.reverse
    )


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


def zipped(found: Iterable[Named], about: str, last: Any = None) -> Iterator[bytes]:
    """Yield a zip file with these files and a manifest of their SHA-256; ``last`` makes more from the list of parts.

    If something fails on the way, the zip lacks its end, and a file ERROR.txt in it says why.
    """
    sink, parts = _Sink(), list[Part]()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:  # type: ignore[call-overload]
        try:
            for name, path, what in found:
                digest = hashlib.sha256()
                with (
                    made.open(zipfile.ZipInfo.from_file(path, name), "w", force_zip64=True) as to,
                    path.open("rb") as file,
                ):
                    while block := file.read(BLOCK):
                        digest.update(block)
                        to.write(block)
                        if data := sink.taken():
                            yield data
                parts.append(Part(name, path.stat().st_size, digest.hexdigest(), what))
                yield sink.taken()
            for name, text, what in last(parts) if last else ():
                made.writestr(name, text)
                parts.append(Part(name, len(text.encode()), hashlib.sha256(text.encode()).hexdigest(), what))
                yield sink.taken()
        except XcorrError as error:
            made.writestr("ERROR.txt", f"{about}: not complete: {error}\n")
        made.writestr(MANIFEST, "".join(f"{p.sha256}  {p.path}\n" for p in parts))
    yield sink.taken()


def _script(
    one: Campaign, request: Request, asked: Download, names: dict[tuple[str, str], str], components: str
) -> str:
    base = f"{str(request.base_url).rstrip('/')}{API}/{quote(one.name)}"
    how = {"format": asked.format, "components": components, "stack": asked.stack, "band": asked.band}
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
    for (first, second), name in names.items():
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
    _, rows = chosen(one, asked)
    if asked.estimate:
        size = (
            (one.folder / RESULTS).stat().st_size if asked.data == "all" else len(rows) * 8 * len(one.results().lags_s)
        )
        about = {"pairs": len(rows), "bytes": 0 if asked.data == "none" else size, "format": asked.format}
        return Response(json.dumps(about), 200, None, "application/json")
    if asked.data == "selected" and len(rows) > MOST_TOGETHER:
        raise Problem(413, f"{len(rows):,} pairs; a crate has at most {MOST_TOGETHER:,}: narrow, or take data=all")
    return _streamed(crate(one, asked), f"{one.name}-crate.zip")


def crate(one: Campaign, asked: Crate) -> Iterator[bytes]:
    """Yield the zip of a crate."""

    def parts_of() -> Iterator[Named]:
        for name, what in (("report.html", "report of the last run"), ("report.json", "the same for programs")):
            if (one.folder / name).is_file():
                yield name, one.inside(name), what
        if asked.data == "all":
            yield RESULTS, one.inside(RESULTS), "tables and stacks of all pairs"
        elif asked.data == "selected":
            yield from ((f"data/{name}", path, what) for name, path, what in files(one, asked))

    def texts(parts: list[Part]) -> Iterator[tuple[str, str, str]]:
        written = [(CAMPAIGN_MARK, plain_settings(one.folder), "the settings of the campaign: what was run")]
        with contextlib.suppress(ProvenanceError):  # level "off", or the package prov is not installed
            written.append(("prov.json", document.write(one.folder, None, "json"), "all runs as W3C PROV-JSON"))
        yield from written
        told = f"Selected: {asked.given() or 'all pairs'}." if asked.data == "selected" else f"Data: {asked.data}."
        yield METADATA, metadata(one.folder, parts, told), "metadata of the crate"

    return zipped(parts_of(), one.name, texts)
