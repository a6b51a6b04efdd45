"""Checks a campaign: that every file is there, is whole, and was made with the settings of the campaign."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xcorr.observers.published import RUNNING, read_progress
from xcorr.pes.dispersion.dispersion_file import NAME as DISPERSION
from xcorr.pes.items import WINDOWS_USED
from xcorr.pes.monitoring.monitor_file import NAME as MONITOR
from xcorr.pes.monitoring.monitor_file import SHARDS
from xcorr.pes.stacking.result_file import NAME as RESULTS
from xcorr.pes.stacking.sums_file import SUMS
from xcorr.pes.storing.shards import ShardBusy, ShardError, compact_name, digest_of, name_of, part_names, read_shard
from xcorr.settings import Settings
from xcorr.store import doubts, lock
from xcorr.store import folder as campaign
from xcorr.store.derived import DIFFERS, MARKED, MEASURED, damage, differs, looks_marked, read_stacks, unreadable
from xcorr.store.ledger_reader import SEAL, LedgerError, LedgerReader
from xcorr.store.reconcile import files_of, looks_known, redundant
from xcorr.store.report import ReportDamaged, read_report
from xcorr.store.sqlite_files import open_to_read
from xcorr.store.tables import pieces_of_shards


def problems(folder: Path, quick: bool = False) -> Iterator[str]:
    """Yield a line for everything that a rerun would repair. Raises CampaignError where there is no campaign.

    Every byte of every file is read and compared with its checksum. With ``quick``, files are only compared with the
    ledger by size and time of change: files that rot on the disk are not noticed. Nothing is changed, but damaged
    files that look unchanged are noted for the next run.
    """
    settings = campaign.frozen_settings(folder, even_altered=True)
    with contextlib.ExitStack() as stack:
        try:
            ledger = stack.enter_context(contextlib.closing(LedgerReader(folder)))
        except LedgerError as error:
            yield str(error)
            ledger = None
        if quick and ledger is not None:
            yield from _in_settings(folder, settings)
            yield from _by_looks(folder, ledger)
            return
        damaged: set[str] = set()
        yield from _in_all(folder, settings, ledger, damaged)
    if damaged:
        doubts.note(folder, damaged)


def _by_looks(folder: Path, ledger: LedgerReader) -> Iterator[str]:
    """Yield the files that are missing, or have another size or time of change than the ledger says."""
    expected = _expected(ledger)
    for path in expected:
        if not (folder / path.partition("#")[0]).exists():
            yield f"{Path(path).name}: missing"
    in_file = files_of(ledger.known())
    for file in sorted((folder / "shards").glob("*.h5")):
        if not looks_known(file, in_file.get(f"shards/{file.name}", {})):
            yield f"{file.name}: not in the ledger, or changed since"
    if ledger.fact(SEAL):
        for name in MARKED:
            if name in MEASURED and not (folder / name).exists():
                continue
            if not looks_marked(ledger, folder / name):
                yield f"{name}: missing, or changed since the last run"


def _in_all(folder: Path, settings: Settings, ledger: LedgerReader | None, damaged: set[str]) -> Iterator[str]:
    if ledger is not None and not ledger.is_whole():
        yield "ledger.sqlite: damaged: its rows are not those that were sealed"
        ledger = None
    known = {} if ledger is None else _expected(ledger)
    found: dict[str, str] = {}
    expected = set(known)
    whole = settings.stack.keep_series  # of shards that are lacking or damaged, the digest says nothing
    for file in sorted((folder / "shards").glob("*.h5")):
        try:
            for part in part_names(file) or [""]:
                content = read_shard(file, thorough=True, part=part)
                path = f"shards/{file.name}#{part}" if part else f"shards/{file.name}"
                if path in expected or not expected:
                    found[content.path] = content.id
                if content.settings_hash != settings.hash():
                    yield f"{file.name}: made with other settings"
                if content.path != name_of(path) or (part and compact_name(content.path) != f"shards/{file.name}"):
                    yield f"{file.name}: holds another strip or chunk than its name says"
        except (ShardError, ShardBusy) as error:
            whole = False
            damaged |= {file.name} if isinstance(error, ShardError) else set()
            yield str(error)
        for path in [p for p in known if p.partition("#")[0] == f"shards/{file.name}"]:
            del known[path]
    yield from (f"{Path(path).name}: missing" for path in known)
    digest = digest_of(found.items()) if whole and not known else None
    for line in _in_results(folder, settings.hash(), digest, ledger):
        damaged.add(line.partition(":")[0])
        yield line
    told = [*_in_settings(folder, settings), *_in_report(folder, digest), *_in_provenance(folder)]
    yield from told
    if ledger is not None and ledger.fact(SEAL):  # else a run was stopped, and has not entered what it wrote
        for name in MARKED:
            if any(line.startswith(name) for line in told) or name == RESULTS:
                continue
            if name in MEASURED and not (folder / name).exists():
                continue
            if not (folder / name).exists() and not looks_marked(ledger, folder / name):
                lean = name == SUMS and not settings.stack.keep_series
                yield f"{name}: missing" + (", and the series from which it was made were not kept" if lean else "")
            elif name in MEASURED and (text := damage(ledger, folder / name)):
                yield f"{name}: {text}; {MEASURED[name]} measures what is in it again"
            elif name not in (SUMS, *MEASURED) and (folder / name).exists() and differs(ledger, folder / name):
                yield f"{name}: {DIFFERS}"
    if not lock.is_running(folder):  # a run has unfinished files of its own
        if ledger is not None:
            yield from (f"{p.name}: left over from a compaction that was ended" for p in redundant(ledger))
        yield from (f"{p.name}: left over from a run that was ended" for p in campaign.leftovers(folder, settings.keep))


def behind(folder: Path) -> list[str]:
    """Return the stacks that lack data which the campaign has, and what they lack. Nothing is wrong with them."""
    try:
        return [f"{method}: {what}" for method, what in read_stacks(folder).behind().items()]
    except (OSError, KeyError):  # no results, or damaged ones, which are problems
        return []


def monitor_behind(folder: Path) -> str:
    """Return what ``monitor.h5`` lacks of the series that the campaign has; an empty text if nothing."""
    import h5py

    if not (folder / MONITOR).exists():
        return ""
    try:
        with h5py.File(folder / MONITOR) as file, contextlib.closing(LedgerReader(folder)) as ledger:
            settings = campaign.frozen_settings(folder, even_altered=True)
            now = pieces_of_shards(settings, ledger.shards())
            starts = file["pieces"]["start_ns"].tolist()
            asked = [of.name for of in settings.monitor]
            groups = [group for name in asked if name in file for group in file[name].values()]
            known = [set(zip(starts, group[SHARDS][...].tolist(), strict=True)) for group in groups]
    except (OSError, KeyError, LedgerError):  # damaged, which is a problem
        return ""
    wanted = set(zip(now["start_ns"].tolist(), now["shards"].tolist(), strict=True))
    lacking = max((len(wanted - there) for there in known), default=0)
    return f"velocity changes lack {lacking} of {len(now)} pieces, or are of others" if lacking else ""


def dispersion_behind(folder: Path) -> str:
    """Return what is older in ``dispersion.h5`` than in the stacks; an empty text if nothing is."""
    import h5py

    try:
        with h5py.File(folder / DISPERSION) as file:
            stacks = read_stacks(folder)
            asked = [of.name for of in campaign.frozen_settings(folder, even_altered=True).dispersion]
            groups = [g for name in asked if name in file for g in file[name].values()]
            old = [g.name[1:] for g in groups if g.attrs["shards_digest"] != stacks.shards_digest]
    except (OSError, KeyError):  # not there, or damaged, which is a problem
        return ""
    return f"dispersion {', '.join(old)} is of older stacks" if old else ""


def _expected(ledger: LedgerReader) -> dict[str, None]:
    """Return the shards that should exist according to the ledger."""
    shards, expected = ledger.shards(), int(ledger.fact("expected") or 0)
    lacking = [f"shard {k} of {expected}" for k in range(len(shards) + 1, expected + 1)]
    return dict.fromkeys([*(s.path for s in shards if s.kept), *lacking])


def _in_settings(folder: Path, settings: Settings) -> Iterator[str]:
    if campaign.recorded_hash(folder) != settings.hash():
        yield "campaign.toml: the settings do not match the identity in the same file"


def _in_report(folder: Path, digest: str | None) -> Iterator[str]:
    """Yield what is wrong with the reports; ``digest`` is that of the shards, None if they were removed."""
    try:
        report = read_report(folder)
    except ReportDamaged as error:
        yield str(error)
        return
    except campaign.CampaignError:
        yield "report.json: missing"
        return
    if digest is not None and report.get("shards_digest", digest) != digest:
        yield "report.json: older than the shards, or of others"
    if not (folder / "report.html").is_file():
        yield "report.html: missing"


def _in_provenance(folder: Path) -> Iterator[str]:
    path = folder / "provenance" / "store.sqlite"
    if not path.exists():  # level off
        return
    try:
        with contextlib.closing(open_to_read(path)) as store:
            verdict = store.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.DatabaseError as error:
        verdict = str(error)
    if verdict != "ok":
        yield f"provenance/store.sqlite: damaged: {verdict}".splitlines()[0]


def _in_results(folder: Path, settings_hash: str, digest: str | None, ledger: LedgerReader | None) -> Iterator[str]:
    import h5py

    if not (folder / RESULTS).exists():
        yield f"{RESULTS}: missing"
        return
    wrong = {name: unreadable(folder / name) for name in (RESULTS, SUMS) if (folder / name).exists()}
    yield from (f"{name}: {text}" for name, text in wrong.items() if text)
    if wrong[RESULTS]:
        return
    with h5py.File(folder / RESULTS) as file:
        made_with, made_of = file.attrs.get("settings_hash"), file.attrs.get("shards_digest", digest)
    if made_with != settings_hash:
        yield f"{RESULTS}: made with other settings"
    elif digest not in (None, made_of):
        yield f"{RESULTS}: older than the shards, or of others"
    elif ledger is not None:
        yield from (f"{name}: {DIFFERS}" for name, text in wrong.items() if not text and differs(ledger, folder / name))


def state(folder: Path) -> dict[str, Any]:
    """Return the progress of a campaign, which may be running.

    Raises CampaignError if there is no campaign, LedgerError if the ledger cannot be read.
    """
    campaign.frozen_settings(folder, even_altered=True)
    with contextlib.closing(LedgerReader(folder, thorough=False)) as ledger:
        shards, windows, counts = ledger.shards(), ledger.windows(), ledger.counts()
    return {
        "folder": str(folder),
        **running(folder),
        **counts,
        "chunks": len({s.start_ns for s in shards}),
        "bytes": sum(s.bytes for s in shards),
        "windows": {WINDOWS_USED: 0, **windows},
        "results": str(folder / RESULTS) if (folder / RESULTS).exists() else "not yet",
    }


def running(folder: Path) -> dict[str, Any]:
    """Return which process runs a campaign now (``no`` if none does), and the progress that its last run published."""
    is_running, owner = lock.is_running(folder), lock.holder(folder)
    published = read_progress(folder)
    if published and not is_running and published.get("state") == RUNNING:
        published["state"] = "stopped"  # killed, so that it could not say so
    return {
        "running": f"process {owner['pid']} on {owner['host']}" if is_running and owner else "no",
        "progress": published,
    }
