"""The dispersion pass: from stacks to the curve of the network, and with it to the velocities of every pair."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.core import IterativePE
from xcorr.pes.dispersion import waves
from xcorr.pes.dispersion.array_curve import Binned, Binning, array_curve, binned
from xcorr.pes.dispersion.correlation_spectra import Grid, spectra
from xcorr.pes.dispersion.curve import Curve
from xcorr.pes.dispersion.dispersion_file import NAME, PARTS, DispersionTables, Network, assemble
from xcorr.pes.dispersion.measure import Dispersion, DispersionMeasurer
from xcorr.pes.items import Float32, Float64
from xcorr.pes.process_setup import prepare_process, touch_product_buffer
from xcorr.pes.stacking.result_file import NAME as RESULTS
from xcorr.pes.stacking.result_file import stack_path
from xcorr.pes.stacking.stack import StackSource
from xcorr.pes.storing.open_shards import OpenShards
from xcorr.pes.storing.parts import AssembleParts, KeepParts, MeasuredRows, read_parts
from xcorr.pes.storing.read_series import RowsRequest, read_series, series_of, stored_parts
from xcorr.pes.storing.shards import require_space

FAR = 0.15  # difference of a given curve from that of the spectra, beyond which cycles are wrong
TOGETHER = 1024  # rows whose spectra are in memory at once


@dataclasses.dataclass(frozen=True, slots=True)
class DispersionJob:
    """A measurement of a run, of one component pair of a ``stack`` and ``band`` of the results.

    ``rows`` are the pairs that are measured, in order. ``resamples``: parts that are left out in turn, for errors; 0:
    none. ``network``: the curve of all pairs and the amplitudes of their spectra, in the second workflow.
    """

    name: str
    components: str
    stack: str
    band: str
    how: Dispersion
    rows: np.ndarray
    binning: Binning
    resamples: int = 0
    network: Network | None = None

    @property
    def path(self) -> str:
        """The group in the file."""
        return f"{self.name}/{self.components}"

    def grid(self, rate_hz: float, max_lag: int) -> Grid:
        """Return the lags and frequencies of the correlations."""
        return Grid(rate_hz, max_lag, self.how.band_hz, self.how.velocity_km_s)


class DispersionSource(StackSource):
    """The source of the dispersion passes: writes requests for rows."""


class _ReadsStacks(IterativePE):
    """Reads the stacks of ranges of rows from ``xcorr.h5``, for all jobs."""

    stateless = True

    def __init__(self, folder: str, jobs: Sequence[DispersionJob], rate_hz: float, max_lag: int) -> None:
        super().__init__()
        self.folder, self.jobs, self.rate_hz, self.max_lag = folder, jobs, rate_hz, max_lag

    def _preprocess(self) -> None:
        prepare_process()
        touch_product_buffer()

    def _stacks(self, request: RowsRequest) -> Iterator[tuple[DispersionJob, Float32, Float64]]:
        """Yield each job with its stacks [row, lag], NaN for rows that are not measured, and distances (km) [row]."""
        import h5py

        number = np.arange(request.first_row, request.stop_row)
        with h5py.File(Path(self.folder, RESULTS)) as file:
            for job in self.jobs:
                group = file[stack_path(job.band, job.stack, job.components)]
                stacks = group["mean"][request.first_row : request.stop_row]
                stacks[(group["n_windows"][request.first_row : request.stop_row] == 0) | ~np.isin(number, job.rows)] = (
                    np.nan
                )
                yield job, stacks, request.distance_m / 1000


class SumSpectra(_ReadsStacks):
    """Sums the spectra of a range of rows by distance, for the curve of the network."""

    def process(self, inputs: dict[str, Any]) -> None:
        """Sum one range."""
        request: RowsRequest = inputs["input"]
        found: dict[str, np.ndarray] = {}
        for job, stacks, distance in self._stacks(request):
            grid = job.grid(self.rate_hz, self.max_lag)
            total = Binned.nothing(job.binning, grid)
            for low in range(0, len(stacks), TOGETHER):
                part = slice(low, low + TOGETHER)
                total += binned(spectra(stacks[part], distance[part], grid), distance[part], job.binning, grid)
            found |= {f"{job.path}/{name}": value for name, value in total.packed().items()}
        self.write("output", MeasuredRows(request.first_row, found))


class WriteSpectra(KeepParts):
    """Keeps sums of spectra of ranges of rows; :func:`networks` puts them together."""

    parts = PARTS

    def __init__(self, folder: str, key: str) -> None:
        super().__init__(folder)
        self.key = key

    def _key(self) -> str:
        return self.key


def networks(
    folder: Path, key: str, jobs: Sequence[DispersionJob], curves: Mapping[str, Curve], rate_hz: float, max_lag: int
) -> list[DispersionJob]:
    """Return the jobs with what the sums of all ranges say. ``curves``, by path, are those that the user has given."""
    totals = [Binned.nothing(job.binning, job.grid(rate_hz, max_lag)) for job in jobs]
    for _, values in read_parts(folder / PARTS, key):
        for k, job in enumerate(jobs):
            own = {name.rpartition("/")[2]: v for name, v in values.items() if name.rpartition("/")[0] == job.path}
            totals[k].add_packed(own)
    found = []
    for job, total in zip(jobs, totals, strict=True):
        frequency = job.grid(rate_hz, max_lag).of_network_hz
        given = curves.get(job.path)
        fitted = array_curve(total, waves.kind_of(job.components), frequency, job.how.velocity_km_s)
        network = Network(frequency, total, given or fitted, given is not None, _difference(given, fitted))
        found.append(dataclasses.replace(job, network=network))
    return found


def _difference(given: Curve | None, fitted: Curve | None) -> float:
    """Return the largest difference of two curves where both are, as a share; 0 without one of them."""
    if given is None or fitted is None:
        return 0.0
    f = fitted.frequency_hz[given.covers(fitted.frequency_hz)]
    return float(np.abs(given.phase(f) / fitted.phase(f) - 1).max(initial=0))


class MeasureDispersion(_ReadsStacks):
    """Measures phase and group velocities of a range of rows: one :class:`MeasuredRows` for a range.

    With ``resamples`` of a job, the series in the shards are read too. ``pieces`` is the number of pieces of the
    campaign, ``substacks`` that of a chunk.
    """

    def __init__(
        self,
        folder: str,
        jobs: Sequence[DispersionJob],
        rate_hz: float,
        max_lag: int,
        pieces: int = 0,
        substacks: int = 1,
    ) -> None:
        super().__init__(folder, jobs, rate_hz, max_lag)
        self.pieces, self.substacks = pieces, substacks

    def _preprocess(self) -> None:
        super()._preprocess()
        self._measurers: dict[str, DispersionMeasurer] = {}
        for job in self.jobs:
            curve = None if job.network is None else job.network.curve
            if job.network is not None and curve is not None:
                grid = job.grid(self.rate_hz, self.max_lag)
                level = job.network.spectra.level(curve.wavenumber(job.network.frequency_hz))
                self._measurers[job.path] = DispersionMeasurer(
                    job.how, job.components, grid, curve, level, job.network.differs > FAR
                )

    def process(self, inputs: dict[str, Any]) -> None:
        """Measure one range."""
        request: RowsRequest = inputs["input"]
        found: dict[str, np.ndarray] = {}
        for job, stacks, distance in self._stacks(request):
            if job.path in self._measurers:
                parts = self._resampled(job, request) if job.resamples else None
                values = self._measurers[job.path](stacks, distance, parts)
                found |= {f"{job.path}/{name}": value for name, value in values.items()}
        self.write("output", MeasuredRows(request.first_row, found))

    def _resampled(self, job: DispersionJob, request: RowsRequest) -> Float32:
        """Return linear stacks [part, row, lag], each of all pieces but those of one span of time."""
        shape = job.resamples, request.stop_row - request.first_row
        sums, counts = np.zeros((*shape, 2 * self.max_lag + 1)), np.zeros(shape)
        names = stored_parts([job.components])
        shards = OpenShards(self.folder)
        try:
            for chunk, path in request.shards:
                of_parts = read_series(shards, path, job.band, names, request.rows)
                series, windows = series_of(of_parts, job.components, request.azimuth_deg)
                for k in range(self.substacks):
                    part = (chunk * self.substacks + k) * job.resamples // self.pieces
                    n = windows[k].astype(np.float64)
                    sums[part] += np.where(n[:, None] > 0, series[k], 0) * n[:, None]
                    counts[part] += n
        finally:
            shards.close()
        left, number = sums.sum(axis=0) - sums, counts.sum(axis=0) - counts
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Float32 = (left / number[..., None]).astype(np.float32)
        return found


class WriteDispersion(AssembleParts):
    """Writes the file of dispersion from :class:`MeasuredRows`; it becomes visible when complete."""

    file_name, parts = NAME, PARTS

    def __init__(self, folder: str, tables: DispersionTables) -> None:
        super().__init__(folder)
        self.tables = tables

    def _key(self) -> str:
        return self.tables.key

    def _preprocess(self) -> None:
        fields = sum(len(table.fields) * table.periods for table in self.tables.tables)
        old = Path(self.folder, NAME)
        size = old.stat().st_size if old.exists() else 0
        require_space(Path(self.folder), 8 * len(self.tables.pairs) * fields + size)

    def _assemble(self, temporary: Path) -> None:
        assemble(Path(self.folder), self.tables, temporary)
