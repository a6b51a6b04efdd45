"""Archives: what was selected, or what rules kept, as a folder, an SDS tree or an RO-Crate, here or in a store."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from xcorr.pes.reading.files import CAMPAIGN_MARK
from xcorr.provenance import history
from xcorr.provenance.crate import METADATA, Part, documents, metadata
from xcorr.provenance.destination import ArchiveError, Destination, local_folder, sha256
from xcorr.provenance.history import Kept
from xcorr.provenance.store import reading, record_archive
from xcorr.results import Results
from xcorr.results.packed import Named, files_of
from xcorr.results.pair_table import PairTable
from xcorr.results.selection import Selection
from xcorr.store import lock
from xcorr.store.derived import settle
from xcorr.store.folder import frozen_settings
from xcorr.store.ledger import Ledger
from xcorr.store.ledger_reader import NAME as LEDGER
from xcorr.store.ledger_reader import SEAL
from xcorr.store.lock import CampaignLock, Locked

LAYOUTS = ("folder", "sds", "rocrate")
_log = logging.getLogger("xcorr")
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
    """The number of files of an archive, their bytes, how many were there already, and how many are kept elsewhere.

    ``recorded``: the provenance of the campaign could be written.
    """

    files: int
    bytes: int
    there: int
    elsewhere: int = 0
    recorded: bool = True


def archive(campaign: Path, place: str, layout: str, what: What) -> Archived:
    """Write an archive, with a manifest of SHA-256; files that are there already are not written again.

    ``layout``: ``folder``; ``sds`` for kept waveforms; ``rocrate``, a Workflow Run RO-Crate. The provenance of the
    campaign records the archive. Raises ArchiveError, ExportError, ResultsError.
    """
    if layout == "sds" and not what.kept:
        raise ArchiveError("layout sds: only kept waveforms have it, not correlations; add --kept, or take folder")
    _require_outside(campaign, place)
    items, elsewhere = _kept_files(campaign) if what.kept else ([], 0)
    with contextlib.closing(Destination(place)) as to:
        parts, there = _written(campaign, to, layout, what, items)
    total = sum(part.bytes for part in parts)
    row = time.time(), place, layout, len(parts), total, repr(what)
    return Archived(len(parts), total, there, elsewhere, _record(campaign, row))


def _require_outside(campaign: Path, place: str) -> None:
    """Raise ArchiveError if a destination lies in a campaign, this one or another."""
    folder = local_folder(place)
    for at in () if folder is None else (folder.resolve(), *folder.resolve().parents):
        if at == campaign.resolve():
            raise ArchiveError(f"{place}: lies in the campaign itself; choose another destination")
        if (at / CAMPAIGN_MARK).is_file() and (at / LEDGER).exists():
            raise ArchiveError(f"{place}: lies in another campaign, {at}; choose another destination")


def _written(campaign: Path, to: Destination, layout: str, what: What, items: list[Kept]) -> tuple[list[Part], int]:
    """Write what is wanted and not there yet; return all files of the archive, and how many were there already."""
    digests: dict[str, str] = {}
    there = 0
    parts: dict[str, Part] = {}
    with tempfile.TemporaryDirectory(prefix="xcorr-") as scratch:

        def put(name: str, path: Path, about: str) -> None:
            nonlocal there
            if name in parts:
                raise ArchiveError(f"{to.place}: two files would be called {name}; archive them apart")
            to.hold()
            digest, size = sha256(path), path.stat().st_size
            is_there = to.has(name, digest, size)
            there += is_there
            if not is_there:
                to.put(path, name)
            if to.known.get(name) != digest:
                digests[name] = digest
                if len(digests) % EVERY == 0:
                    to.list_in_manifest(digests, Path(scratch))
            parts[name] = Part(name, size, digest, about)

        for name, path, about in _wanted(campaign, layout, what, items, Path(scratch)):
            put(f"data/{name}" if layout == "rocrate" else name, path, about)
        if layout == "rocrate":
            for name, path, about in _of_crate(campaign, Path(scratch), parts.values(), what):
                put(name, path, about)
        to.list_in_manifest(digests, Path(scratch))
    return list(parts.values()), there


def _record(campaign: Path, row: tuple[float, str, str, int, int, str]) -> bool:
    """Record an archive, and mark the changed store as whole. A run that is under way does that at its end.

    Return False where the campaign cannot be written, such as on a file system for reading only.
    """
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
        return True
    except Locked:
        if os.access(campaign, os.W_OK) and lock.is_running(campaign):
            record_archive(campaign, row)
            return True
    except (OSError, sqlite3.OperationalError) as error:
        _log.warning("%s: its provenance cannot record the archive: %s", campaign, error)
    return False


def _wanted(campaign: Path, layout: str, what: What, items: list[Kept], scratch: Path) -> Iterator[Named]:
    if not what.kept:
        with Results(campaign) as results:
            table = PairTable(results, what.components, what.stack, what.band, what.insist)
            yield from files_of(table, (what.selection or Selection()).rows(table), what.kind, what.reverse)
    elif layout == "sds":
        yield from _as_sds(campaign, items, scratch)
    else:
        for path, row in items:
            yield _place(campaign, path), path, f"{row['item']}, kept by {row['rule']}"


def _place(campaign: Path, path: Path) -> str:
    """Return where a kept file lies in the campaign: two rules may keep items of one name in different folders."""
    inside = path.is_relative_to(campaign.absolute())
    return str(path.relative_to(campaign.absolute())) if inside else f"{path.parent.name}/{path.name}"


def _kept_files(campaign: Path) -> tuple[list[Kept], int]:
    """Return the files of kept items in the campaign, and how many items are kept at addresses instead.

    Raises ArchiveError if a file is gone or is not what was kept, or if there is none.
    """
    with reading(campaign) as store:
        found, elsewhere = history.kept_files(campaign, store)
    for path, row in found:
        if lost := history.what_is_lost(path, row):
            chunk = row["item"].partition(":")[2].partition(".")[0]
            raise ArchiveError(
                f"{lost}; nothing was archived. A run keeps the items of its chunk again if you remove "
                f"shards/{chunk}_*.h5 (or, after xcorr compact, the file of its month)"
            )
    if not found:
        there = f"{elsewhere} item(s) are kept at other addresses already" if elsewhere else "no item was kept"
        raise ArchiveError(f"{campaign}: {there}, so there is nothing to archive; [[keep]] rules keep items")
    return found, elsewhere


def _as_sds(campaign: Path, items: list[Kept], scratch: Path) -> Iterator[Named]:
    """Yield a file for each channel and day of kept waveforms, as an SDS archive has them.

    Waveforms of different elements or rules are different data; each then has an archive of its own.
    """
    import obspy

    waveforms = sorted(path for path, _ in items if path.suffix == ".mseed")
    if not waveforms:
        raise ArchiveError("layout sds: no waveforms were kept, only spectra or correlations; take folder")
    folders = {path.parent: str(Path(_place(campaign, path)).parent) for path in waveforms}
    several = len(folders) > 1
    days: dict[str, list[Path]] = {}  # the files that have a part of a day; only one day is in memory at a time
    for path in waveforms:
        for trace in obspy.read(str(path), format="MSEED", headonly=True):
            for name in _days(trace.stats):
                days.setdefault(f"{folders[path.parent]}/{name}" if several else name, []).append(path)
    made = scratch / "day.mseed"
    for name, paths in sorted(days.items()):
        stream = obspy.Stream()
        for path in dict.fromkeys(paths):
            for trace in obspy.read(str(path), format="MSEED"):
                span = _days(trace.stats).get(name.removeprefix(f"{folders[path.parent]}/") if several else name)
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


def _of_crate(campaign: Path, scratch: Path, parts: Collection[Part], what: What) -> Iterator[Named]:
    """Yield the files that make a folder an RO-Crate; the metadata last, because they list all others."""
    for name, content, about in documents(campaign):
        (scratch / name).write_bytes(content)
        yield name, scratch / name, about
    chosen = what.selection or "all pairs"
    told = "Items kept by rules." if what.kept else f"Stacks {what.stack} of {what.components}: {chosen}"
    (scratch / METADATA).write_text(metadata(campaign, list(parts), told), "utf-8")
    yield METADATA, scratch / METADATA, "metadata of the crate"
