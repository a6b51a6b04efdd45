"""Archives: what was selected, or what rules kept, as a folder, an SDS tree or an RO-Crate, here or in a store."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xcorr.provenance import history
from xcorr.provenance.crate import METADATA, Part, documents, metadata
from xcorr.provenance.destination import ArchiveError, Destination, is_address, sha256
from xcorr.provenance.store import reading, record_archive
from xcorr.results import Results
from xcorr.results.packed import Named, files_of
from xcorr.results.pair_table import PairTable
from xcorr.results.selection import Selection
from xcorr.store.derived import settle
from xcorr.store.folder import frozen_settings
from xcorr.store.ledger import Ledger
from xcorr.store.ledger_reader import SEAL
from xcorr.store.lock import CampaignLock, Locked

LAYOUTS = ("folder", "sds", "rocrate")
Kept = tuple[Path, dict[str, Any]]  # a file, and what is recorded of it
EVERY = 50  # files between two writings of the manifest


@dataclasses.dataclass(frozen=True)
class What:
    """What goes into an archive: stacks of the pairs selected in a format, or with ``kept`` the items kept by rules."""

    kept: bool = False
    kind: str = "sac"
    components: str = "ZZ"
    stack: str = "linear"
    band: str = ""
    selection: Selection | None = None
    reverse: bool = False
    insist: bool = False


@dataclasses.dataclass(frozen=True)
class Archived:
    """The number of files of an archive, their bytes, how many were there already, and what is kept elsewhere."""

    files: int
    bytes: int
    there: int
    elsewhere: int = 0


def archive(campaign: Path, place: str, layout: str, what: What) -> Archived:
    """Write an archive, with a manifest of SHA-256; files that are there already are not written again.

    ``layout``: ``folder``; ``sds`` for kept waveforms; ``rocrate``, a Workflow Run RO-Crate. The provenance of the
    campaign records the archive. Raises ArchiveError, ExportError, ResultsError.
    """
    if layout == "sds" and not what.kept:
        raise ArchiveError("layout sds: only kept waveforms have it, not correlations; add --kept, or take folder")
    if not is_address(place) and Path(place).resolve().is_relative_to(campaign.resolve()):
        raise ArchiveError(f"{place}: lies in the campaign itself; choose another destination")
    items, elsewhere = _kept_files(campaign) if what.kept else ([], 0)
    to = Destination(place)
    digests: dict[str, str] = {}
    there = total = 0
    parts: list[Part] = []
    with tempfile.TemporaryDirectory(prefix="xcorr-") as scratch:

        def put(name: str, path: Path, about: str) -> None:
            nonlocal there, total
            digest, size = sha256(path), path.stat().st_size
            is_there = to.has(name, digest, size)
            there += is_there
            if not is_there:
                to.put(path, name)
            if to.known.get(name) != digest:
                digests[name] = digest
                if len(digests) % EVERY == 0:
                    to.list_in_manifest(digests, Path(scratch))
            total += size
            parts.append(Part(name, size, digest, about))

        for name, path, about in _wanted(campaign, layout, what, items, Path(scratch)):
            put(f"data/{name}" if layout == "rocrate" else name, path, about)
        if layout == "rocrate":
            for name, path, about in _of_crate(campaign, Path(scratch), parts, what):
                put(name, path, about)
        to.list_in_manifest(digests, Path(scratch))
    _record(campaign, (time.time(), place, layout, len(parts), total, repr(what)))
    return Archived(len(parts), total, there, elsewhere)


def _record(campaign: Path, row: tuple[float, str, str, int, int, str]) -> None:
    """Record an archive, and mark the changed store as whole. A run that is under way does that at its end."""
    settings = frozen_settings(campaign)
    try:
        with CampaignLock(campaign):
            ledger = Ledger(campaign, settings.hash(), not settings.stack.keep_series)
            try:
                sealed = bool(ledger.fact(SEAL)) and ledger.is_whole()
                record_archive(campaign, row)
                settle(ledger, campaign / "provenance" / "store.sqlite")
                if sealed:
                    ledger.seal()
            finally:
                ledger.close()
    except Locked:
        record_archive(campaign, row)


def _wanted(campaign: Path, layout: str, what: What, items: list[Kept], scratch: Path) -> Iterator[Named]:
    if not what.kept:
        with Results(campaign) as results:
            table = PairTable(results, what.components, what.stack, what.band, what.insist)
            yield from files_of(table, (what.selection or Selection()).rows(table), what.kind, what.reverse)
    elif layout == "sds":
        yield from _as_sds(items, scratch)
    else:
        for path, row in items:
            yield f"{path.parent.name}/{path.name}", path, f"{row['item']}, kept by {row['rule']}"


def _kept_files(campaign: Path) -> tuple[list[Kept], int]:
    """Return the files of kept items in the campaign, and how many items are kept at addresses instead.

    Raises ArchiveError if a file is gone or is not what was kept, or if there is none.
    """
    with reading(campaign) as store:
        rows = history.kept(store)
    found, elsewhere = list[Kept](), 0
    for row in rows:
        if is_address(row["path"]):
            elsewhere += 1
            continue
        path = history.kept_path(campaign, row["path"])
        if not path.is_file() or sha256(path) != row["sha256"]:
            what = "is not what was kept: its SHA-256 differs" if path.is_file() else "was kept, and is gone"
            raise ArchiveError(f"{path}: {what}; nothing was archived; run the campaign again")
        found.append((path, row))
    if not found:
        there = f"{elsewhere} item(s) are kept at other addresses already" if elsewhere else "no item was kept"
        raise ArchiveError(f"{campaign}: {there}, so there is nothing to archive; [[keep]] rules keep items")
    return found, elsewhere


def _as_sds(items: list[Kept], scratch: Path) -> Iterator[Named]:
    """Yield a file for each channel and day of kept waveforms, as an SDS archive has them.

    Waveforms of different elements are different data; each element then has an archive of its own.
    """
    import obspy

    waveforms = sorted(path for path, _ in items if path.suffix == ".mseed")
    if not waveforms:
        raise ArchiveError("layout sds: no waveforms were kept, only spectra or correlations; take folder")
    several = len({path.parent.name for path in waveforms}) > 1
    days: dict[str, list[Path]] = {}  # the files that have a part of a day; only one day is in memory at a time
    for path in waveforms:
        for trace in obspy.read(str(path), format="MSEED", headonly=True):
            for name in _days(trace.stats):
                days.setdefault(f"{path.parent.name}/{name}" if several else name, []).append(path)
    made = scratch / "day.mseed"
    for name, paths in sorted(days.items()):
        stream = obspy.Stream()
        for path in dict.fromkeys(paths):
            for trace in obspy.read(str(path), format="MSEED"):
                span = _days(trace.stats).get(name.partition("/")[2] if several else name)
                if span:
                    stream.append(trace.slice(*span, nearest_sample=False))
        stream.sort().write(str(made), format="MSEED")
        yield name, made, "kept waveforms of a channel and day"


def _days(s: Any) -> dict[str, tuple[Any, Any]]:
    """Return the files of an SDS archive that a trace with these headers has a part in, and the time of each part."""
    import obspy

    found, start = {}, s.starttime
    while start <= s.endtime:
        end = obspy.UTCDateTime(start.year, start.month, start.day) + 86400
        code = f"{s.network}.{s.station}.{s.location}.{s.channel}.D.{start.year}.{start.julday:03d}"
        name = f"{start.year}/{s.network}/{s.station}/{s.channel}.D/{code}"
        found[name] = start, obspy.UTCDateTime(ns=end.ns - 1)
        start = end
    return found


def _of_crate(campaign: Path, scratch: Path, parts: list[Part], what: What) -> Iterator[Named]:
    """Yield the files that make a folder an RO-Crate; the metadata last, because they list all others."""
    for name, content, about in documents(campaign):
        (scratch / name).write_bytes(content)
        yield name, scratch / name, about
    chosen = what.selection or "all pairs"
    told = "Items kept by rules." if what.kept else f"Stacks {what.stack} of {what.components}: {chosen}"
    (scratch / METADATA).write_text(metadata(campaign, parts, told))
    yield METADATA, scratch / METADATA, "metadata of the crate"
