"""Decides what a monitoring run measures, and what it keeps of the file that there is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from xcorr.campaign.row_requests import chosen_rows, requests_for
from xcorr.network.survey import Survey
from xcorr.pes.monitoring.interpolation import SLOTS, node_count
from xcorr.pes.monitoring.lag_windows import require_window
from xcorr.pes.monitoring.measure import window_of_all
from xcorr.pes.monitoring.measurement import Measurement
from xcorr.pes.monitoring.monitor import MonitorJob
from xcorr.pes.monitoring.monitor_file import NAME, SHARDS, MonitorTables, Table
from xcorr.pes.parameters import ParameterError
from xcorr.pes.storing.aside import set_aside
from xcorr.pes.storing.read_series import RowsRequest
from xcorr.results import Results
from xcorr.settings import SettingsError
from xcorr.settings.monitoring import components_of, measurement_of
from xcorr.settings.recipe import Recipe
from xcorr.settings.tables import Monitor
from xcorr.store.derived import is_ours, unreadable
from xcorr.store.ledger import Ledger
from xcorr.store.software import software
from xcorr.store.tables import pieces_of_shards

RANGE_BYTES = 256 << 20  # of the series that a worker reads at once
MOST_BYTES = 1 << 30  # of stretched references and coefficients
MOST_COMPARED = 3000  # pieces that are compared with one another
SCHEME = 1  # changes when a new version would measure other values: measurements of older ones are made again


@dataclasses.dataclass(frozen=True)
class MonitorPlan:
    """What is measured: jobs, the requests for rows, and what the file holds besides."""

    jobs: tuple[MonitorJob, ...]
    requests: tuple[RowsRequest, ...]
    tables: MonitorTables


@dataclasses.dataclass(frozen=True)
class _Old:
    """What the present file says of itself: by group its fingerprint, and the shards of each piece, by its start."""

    fingerprints: Mapping[str, str]
    shards: Mapping[str, Mapping[int, bytes]]
    starts: frozenset[int] = frozenset()


def monitor_plan(folder: Path, recipe: Recipe, found: Survey, results: Results, ledger: Ledger) -> MonitorPlan | None:
    """Return what is to be measured, or None if everything is up to date. Raises SettingsError for what cannot be."""
    settings, shards = recipe.settings, ledger.shards()
    pieces = pieces_of_shards(settings, shards)
    pairs, stations = results.dataset("pairs"), results.dataset("stations")
    of_pairs = hashlib.blake2b(pairs[["station_1", "station_2", "distance_m"]].tobytes(), digest_size=16)
    of_pairs.update(stations["id"].tobytes())
    old = _old(folder, ledger)
    jobs: list[MonitorJob] = []
    groups: list[Table] = []
    for of in settings.monitor:
        how = measurement_of(settings, of)
        own = chosen_rows(results, of)
        about = {"settings": json.dumps(dataclasses.asdict(of))}
        text = repr(
            (SCHEME, how, of.band, recipe.max_lag, settings.condition.rate_hz, own.tolist(), of_pairs.hexdigest())
        )
        about["fingerprint"] = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        for pair in components_of(settings, of):
            table = Table(of.name, pair, how.fields, about, how.reference.kind == "period")
            is_same = old.fingerprints.get(table.path) == about["fingerprint"]
            wanted = _wanted(how, pieces, old.shards[table.path] if is_same else None)
            groups.append(table)
            jobs.append(_job(of, pair, how, wanted, pieces, own, pairs, recipe))
    if not any(len(job.wanted) for job in jobs) and old.starts == set(pieces["start_ns"].tolist()):
        return None
    working = [job for job in jobs if len(job.wanted)]
    named = {table.path for table in groups}
    kept = tuple(name for name in old.fingerprints if name not in named)
    rows = np.unique(np.concatenate([job.rows for job in working])) if working else np.empty(0, np.int64)
    needed = np.unique(np.concatenate([job.needed for job in working])) if working else np.empty(0, np.int64)
    size = 4 * (2 * recipe.max_lag + 1) * max(1, len(needed))
    requests = tuple(requests_for(recipe, found, shards, pairs, rows, RANGE_BYTES // size))
    work = [(t.path, t.about["fingerprint"], j.wanted.tolist()) for t, j in zip(groups, jobs, strict=True)]
    ranges = [(r.first_row, r.stop_row) for r in requests]
    key = hashlib.blake2b(repr((work, ranges)).encode() + pieces.tobytes(), digest_size=16).hexdigest()
    made = MonitorTables(
        stations,
        pairs,
        pieces,
        tuple(groups),
        tuple(job.wanted for job in jobs),
        kept,
        {"software": software(), "settings_hash": settings.hash(), "substack_s": settings.substack_s},
        2 * recipe.max_lag + 1,
        key,
    )
    return MonitorPlan(tuple(working), requests, made)


def _old(folder: Path, ledger: Ledger) -> _Old:
    """Return what the present file says of itself. One that is damaged, or not ours, is set aside."""
    import h5py

    path = folder / NAME
    if not path.exists():
        return _Old({}, {})
    if not is_ours(ledger, path) or unreadable(path):
        set_aside(path)
        return _Old({}, {})
    with h5py.File(path) as file:
        starts = file["pieces"]["start_ns"].tolist()
        groups = {
            f"{name}/{pair}": group
            for name, of in file.items()
            if isinstance(of, h5py.Group)
            for pair, group in of.items()
            if SHARDS in group
        }
        shards = {name: dict(zip(starts, g[SHARDS][...].tolist(), strict=True)) for name, g in groups.items()}
        return _Old({n: str(g.attrs["fingerprint"]) for n, g in groups.items()}, shards, frozenset(starts))


def _wanted(how: Measurement, pieces: np.ndarray, old: Mapping[int, bytes] | None) -> np.ndarray:
    """Return the pieces (numbers) whose values are not in the file, or were of other shards (``old``, by start)."""
    every = np.arange(len(pieces))
    if old is None:
        return every
    starts, digests = pieces["start_ns"].tolist(), pieces["shards"].tolist()
    length = int(pieces["end_ns"][0] - pieces["start_ns"][0])
    changed = [s for s, d in zip(starts, digests, strict=True) if old.get(s) != d]
    changed += sorted(old.keys() - set(starts))
    if not changed:
        return every[:0]
    start, end = how.reference.start_ns, how.reference.end_ns
    in_period = how.reference.kind == "period" and any(start <= s and s + length <= end for s in changed)
    if how.needs_all() or in_period:
        return every
    moved = np.sort(np.array(changed))
    # a value depends on the pieces that begin in the span before its end
    first = pieces["end_ns"] - np.maximum(how.reach_ns(), length)
    touched = np.searchsorted(moved, first) < np.searchsorted(moved, pieces["end_ns"])
    return np.flatnonzero(touched)


def _job(
    of: Monitor,
    pair: str,
    how: Measurement,
    wanted: np.ndarray,
    pieces: np.ndarray,
    rows: np.ndarray,
    pairs: np.ndarray,
    recipe: Recipe,
) -> MonitorJob:
    """Return what is measured of one component pair. Raises SettingsError if lags that it needs are not there."""
    rate, distances = recipe.settings.condition.rate_hz, pairs["distance_m"][rows]
    try:
        require_window(how.window, distances, how.largest_stretch, rate, recipe.max_lag)
    except ParameterError as error:
        raise SettingsError(f"[[monitor]] {of.name}: {error}") from None
    window = window_of_all(how, distances, rate)
    _require_memory(of, how, window, pieces)
    is_new = len(wanted) == len(pieces)
    first = np.searchsorted(pieces["start_ns"], pieces["end_ns"][wanted] - how.reach_ns())
    spans = np.zeros(len(pieces) + 1, np.int64)  # +1 where what a value depends on begins, -1 after its piece
    np.add.at(spans, np.minimum(first, wanted), 1)
    np.add.at(spans, wanted + 1, -1)
    needed = np.arange(len(pieces)) if is_new else np.flatnonzero(np.cumsum(spans[:-1]) > 0)
    known = how.reference.kind == "period" and not is_new
    return MonitorJob(of.name, pair, of.band, how, wanted, needed, window, rows, known)


def _require_memory(of: Monitor, how: Measurement, window: tuple[int, int], pieces: np.ndarray) -> None:
    """Raise SettingsError for a measurement that would take more memory than a worker should."""
    if how.method != "stretching":
        return
    each = how.steps if how.reference.kind == "rolling" else node_count(how.epsilon_max, window[1], how.steps)
    stretched = 4 * SLOTS * each * (window[1] - window[0] + 1) * (2 if how.window.sides == "both" else 1)
    length = how.reference.length_s * 1e9
    if how.reference.kind == "several" and len(pieces):
        stretched *= int((pieces["end_ns"][-1] - pieces["start_ns"][0]) // length) + 1
    stretched += 8 * max(SLOTS, len(pieces)) * how.steps
    if stretched > MOST_BYTES:
        raise SettingsError(
            f"[[monitor]] {of.name}: stretched references and coefficients would take {stretched / 1e9:.1f} GB in "
            "each worker; take fewer steps, fewer lags, or with reference = 'several' a larger reference_length_s"
        )
    if how.reference.kind == "none" and len(pieces) > MOST_COMPARED:
        raise SettingsError(
            f"[[monitor]] {of.name}: reference = 'none' compares every piece with every other one, and there are "
            f"{len(pieces):,}; at most {MOST_COMPARED:,} are allowed; take another reference, or longer pieces"
        )
