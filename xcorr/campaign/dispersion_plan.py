"""Decides what a dispersion run measures, and what it keeps of the file that there is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from xcorr.campaign.row_requests import chosen_rows, requests_for
from xcorr.network.survey import Survey
from xcorr.pes.dispersion.array_curve import Binning
from xcorr.pes.dispersion.curve import Curve, read_curve
from xcorr.pes.dispersion.dispersion import DispersionJob
from xcorr.pes.dispersion.dispersion_file import NAME, DispersionTable, DispersionTables, Network, read_network
from xcorr.pes.dispersion.measure import FIELDS
from xcorr.pes.dispersion.measure import Dispersion as Measurement
from xcorr.pes.parameters import ParameterError
from xcorr.pes.stacking.result_file import stack_path
from xcorr.pes.storing.aside import set_aside
from xcorr.pes.storing.read_series import RowsRequest
from xcorr.results import Results
from xcorr.settings import SettingsError
from xcorr.settings.dispersion import components_of, dispersion_of, stack_of
from xcorr.settings.recipe import Recipe
from xcorr.settings.tables import Dispersion
from xcorr.store.derived import is_ours, unreadable
from xcorr.store.ledger import Ledger
from xcorr.store.software import software

RANGE_BYTES = 256 << 20  # of what a worker has of a range in memory
SCHEME = 1  # changes when a new version would measure other values: measurements of older ones are made again
FEWEST = 3  # parts that the pieces must give for errors by resampling


@dataclasses.dataclass(frozen=True)
class DispersionPlan:
    """What is measured: jobs, the requests for rows, curves that the user gave, and what the file holds besides."""

    jobs: tuple[DispersionJob, ...]
    requests: tuple[RowsRequest, ...]
    curves: Mapping[str, Curve]
    about: Mapping[str, Mapping[str, str]]
    stations: np.ndarray
    pairs: np.ndarray
    kept: tuple[str, ...]
    attributes: Mapping[str, str]
    pieces: int
    key: str

    def tables(self, jobs: list[DispersionJob]) -> DispersionTables:
        """Return the contents of the file besides values, with the networks that are known now."""
        tables = []
        for job in jobs:
            assert isinstance(job.network, Network)
            tables.append(DispersionTable(job.path, job.how.periods_s, self.about[job.path], job.network))
        return DispersionTables(self.stations, self.pairs, tuple(tables), self.kept, self.attributes, self.key)


def dispersion_plan(
    folder: Path, recipe: Recipe, found: Survey, results: Results, ledger: Ledger
) -> DispersionPlan | None:
    """Return what is to be measured, or None if everything is up to date. Raises SettingsError for what cannot be."""
    settings, shards = recipe.settings, ledger.shards()
    pairs, stations = results.dataset("pairs"), results.dataset("stations")
    of_pairs = hashlib.blake2b(pairs.tobytes() + stations["id"].tobytes(), digest_size=16).hexdigest()
    old = _old(folder, ledger, of_pairs)
    digest = str(results.attributes.get("shards_digest", ""))
    has_series = all(s.kept for s in shards)
    pieces = len({s.start_ns for s in shards}) * len(recipe.substacks)
    jobs, about, curves = [], {}, {}
    for of in settings.dispersion:
        how, stack, rows = dispersion_of(settings, of), stack_of(settings, of), chosen_rows(results, of)
        distance = pairs["distance_m"][rows] / 1000
        if not np.isfinite(distance).any() or not (distance > 0).any():
            raise SettingsError(f"[[dispersion]] {of.name}: no distance between two stations is known")
        curve = _curve(of, how, old)
        parts = min(of.resamples, pieces) if has_series else 0
        binning = Binning.of(distance[np.isfinite(distance)], how.velocity_km_s[0], how.band_hz[1])
        for components in components_of(settings, of):
            made = results.file[stack_path(of.band, stack, components).rpartition("/")[0]].attrs
            job = DispersionJob(
                of.name, components, stack, of.band, how, rows, binning, parts if parts >= FEWEST else 0
            )
            given = None if curve is None else [value.tolist() for value in dataclasses.astuple(curve)]
            told = (SCHEME, FIELDS, how, stack, of.band, job.resamples, recipe.max_lag, settings.condition.rate_hz)
            text = repr((told, rows.tolist(), of_pairs, given, sorted((k, str(v)) for k, v in made.items())))
            about[job.path] = {
                "settings": json.dumps(dataclasses.asdict(of)),
                "fingerprint": hashlib.blake2b((text + digest).encode(), digest_size=16).hexdigest(),
                "shards_digest": digest,
                "pairs_digest": of_pairs,
            }
            jobs.append(job)
            if curve is not None:
                curves[job.path] = curve
    changed = [job for job in jobs if old.fingerprints.get(job.path) != about[job.path]["fingerprint"]]
    if not changed:
        return None
    kept = tuple(path for path in old.fingerprints if path not in {job.path for job in changed})
    rows = np.unique(np.concatenate([job.rows for job in changed]))
    most = max(job.resamples for job in changed)
    size = (2 * recipe.max_lag + 1) * (4 + 20 * most)  # resampled stacks, and their sums in float64
    requests = tuple(requests_for(recipe, found, shards, pairs, rows, RANGE_BYTES // size))
    told_ranges = [(r.first_row, r.stop_row) for r in requests]
    work = [(job.path, about[job.path]["fingerprint"]) for job in changed]
    key = hashlib.blake2b(repr((work, kept, told_ranges)).encode(), digest_size=16).hexdigest()
    names = json.dumps([of.name for of in settings.dispersion])
    attributes = {"software": software(), "settings_hash": settings.hash(), "names": names}
    return DispersionPlan(
        tuple(changed), requests, curves, about, stations, pairs, kept, attributes, pieces, key
    )  # fmt: skip


def _curve(of: Dispersion, how: Measurement, old: _Old) -> Curve | None:
    """Return the curve that the user gave, if any; from the present file, if its own is not there any more.

    Raises SettingsError for a file that is none, or whose curve cannot be that of waves, or covers no period.
    """
    if not of.curve:
        return None
    where = f"[[dispersion]] {of.name}: curve:"
    try:
        curve = read_curve(Path(of.curve))
    except FileNotFoundError as error:
        if of.curve not in old.curves:
            raise SettingsError(f"{where} {error}") from None
        curve = old.curves[of.curve]
    except (OSError, UnicodeDecodeError, ParameterError) as error:
        raise SettingsError(f"{where} {error}") from None
    f = 1 / np.array(how.periods_s)
    if not curve.covers(f).any():
        low, high = 1 / curve.frequency_hz[-1], 1 / curve.frequency_hz[0]
        raise SettingsError(
            f"{where} {of.curve}: has {low:g} to {high:g} s, and none of the periods measured, {how.periods_s[0]:g} to "
            f"{how.periods_s[-1]:g} s; lines are period (s), phase velocity (km/s)"
        )
    slow, fast = how.velocity_km_s
    outside = curve.phase_km_s[(curve.phase_km_s < slow) | (curve.phase_km_s > fast)]
    if len(outside):
        raise SettingsError(
            f"{where} {of.curve}: {outside[0]:g} km/s is not within velocity_km_s, {slow:g} to {fast:g} km/s; "
            "lines are period (s), phase velocity (km/s)"
        )
    if not curve.is_possible(np.linspace(f.min(), f.max(), 200)):
        raise SettingsError(
            f"{where} {of.curve}: between its points the group velocity d(omega)/dk is negative, or far above the "
            "phase velocity; smooth the curve, or take fewer points"
        )
    return curve


@dataclasses.dataclass(frozen=True)
class _Old:
    """What the present file has: fingerprints of its groups of the same pairs, and given curves by their files."""

    fingerprints: Mapping[str, str] = dataclasses.field(default_factory=dict)
    curves: Mapping[str, Curve] = dataclasses.field(default_factory=dict)


def _old(folder: Path, ledger: Ledger, pairs_digest: str) -> _Old:
    """Return what the present file has. A file that is damaged, or not ours, is set aside."""
    import h5py

    path = folder / NAME
    if not path.exists():
        return _Old()
    if not is_ours(ledger, path) or unreadable(path):
        set_aside(path)
        return _Old()
    fingerprints, curves = {}, {}
    with h5py.File(path) as file:
        groups = [g for of in file.values() if isinstance(of, h5py.Group) for g in of.values()]
        for group in groups:
            if str(group.attrs["pairs_digest"]) == pairs_digest:
                fingerprints[group.name[1:]] = str(group.attrs["fingerprint"])
            network = read_network(group)
            if network.is_given and network.curve is not None:
                curves[str(json.loads(group.attrs["settings"])["curve"])] = network.curve
    return _Old(fingerprints, curves)
