"""The monitoring pass: reads series from the shards and measures velocity changes, one range of rows at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.core import IterativePE
from xcorr.pes.items import Float32
from xcorr.pes.monitoring.measure import Measurer, SeriesOfRows, Values
from xcorr.pes.monitoring.measurement import Measurement
from xcorr.pes.monitoring.monitor_file import NAME, PARTS, REFERENCE, MonitorTables, assemble
from xcorr.pes.process_setup import prepare_process, touch_product_buffer
from xcorr.pes.stacking.stack import StackSource
from xcorr.pes.storing.open_shards import OpenShards
from xcorr.pes.storing.parts import AssembleParts, MeasuredRows
from xcorr.pes.storing.read_series import RowsRequest, Series, read_series, series_of, stored_parts
from xcorr.pes.storing.shards import require_space


@dataclasses.dataclass(frozen=True, slots=True)
class MonitorJob:
    """A measurement of a run, of one component pair and a ``band`` of the series.

    ``wanted`` pieces (numbers) are measured, which needs those of ``needed`` too. ``window``: first and last lag
    (samples) that any pair needs. ``rows`` are the pairs that are measured, in order. ``known_references``: the
    references are those of the file that is replaced.
    """

    name: str
    components: str
    band: str
    how: Measurement
    wanted: np.ndarray
    needed: np.ndarray
    window: tuple[int, int]
    rows: np.ndarray
    known_references: bool = False


class MonitorSource(StackSource):
    """The source of the monitoring pass: writes requests for rows."""


class MeasureRows(IterativePE):
    """Reads the series of a range of rows and measures velocity changes: one :class:`MeasuredRows` for a range.

    ``rate_hz`` and ``max_lag`` (samples) are those of the series, ``times_ns`` [piece, 2] starts and ends of all pieces
    of the campaign, ``substacks`` the pieces of a chunk. All measurements share one reading of the series.
    """

    stateless = True

    def __init__(
        self,
        folder: str,
        jobs: Sequence[MonitorJob],
        rate_hz: float,
        max_lag: int,
        times_ns: np.ndarray,
        substacks: int = 1,
    ) -> None:
        super().__init__()
        self.folder, self.jobs, self.rate_hz, self.max_lag = folder, jobs, rate_hz, max_lag
        self.times_ns, self.substacks = times_ns, substacks

    def _preprocess(self) -> None:
        prepare_process()
        touch_product_buffer()
        step = int(self.times_ns[0, 1] - self.times_ns[0, 0])
        self._measurers = [Measurer(job.how, self.rate_hz, self.max_lag, job.window, step) for job in self.jobs]

    def process(self, inputs: dict[str, Any]) -> None:
        """Measure one range."""
        request: RowsRequest = inputs["input"]
        found: dict[str, np.ndarray] = {}
        for band, pair in dict.fromkeys((job.band, job.components) for job in self.jobs):
            ours = [k for k, job in enumerate(self.jobs) if (job.band, job.components) == (band, pair)]
            needed = np.unique(np.concatenate([self.jobs[k].needed for k in ours]))
            series, n = self._read(request, band, pair, needed)
            for k in ours:
                found |= self._measured(self.jobs[k], self._measurers[k], request, needed, series, n)
        self.write("output", MeasuredRows(request.first_row, found))

    def _read(self, request: RowsRequest, band: str, pair: str, needed: np.ndarray) -> Series:
        """Return the series of some pieces (numbers), [piece, row, lag], NaN where there are no windows."""
        rows = request.rows
        shape = len(needed), rows.stop - rows.start
        series, n = np.full((*shape, 2 * self.max_lag + 1), np.nan, np.float32), np.zeros(shape, np.int32)
        parts = stored_parts([pair])
        chunks = set((needed // self.substacks).tolist())
        shards = OpenShards(self.folder)
        try:
            for chunk, path in request.shards:
                if chunk in chunks:
                    there, windows = series_of(read_series(shards, path, band, parts, rows), pair, request.azimuth_deg)
                    pieces = chunk * self.substacks + np.arange(self.substacks)
                    at = np.searchsorted(needed, pieces)
                    inside = np.flatnonzero(needed[np.minimum(at, len(needed) - 1)] == pieces)
                    series[at[inside]], n[at[inside]] = there[inside], windows[inside]
        finally:
            shards.close()
        series[n == 0] = np.nan
        return series, n

    def _measured(
        self,
        job: MonitorJob,
        measurer: Measurer,
        request: RowsRequest,
        needed: np.ndarray,
        series: Float32,
        n: np.ndarray,
    ) -> dict[str, np.ndarray]:
        own = np.searchsorted(needed, job.needed)
        if len(own) < len(needed):
            series, n = series[own], n[own]
        skipped = np.isin(np.arange(request.first_row, request.stop_row), job.rows, invert=True)
        numbers = frozenset(np.flatnonzero(skipped).tolist())
        of = SeriesOfRows(series, n, self.times_ns[job.needed], request.distance_m, request.first_row, numbers)
        path = f"{job.name}/{job.components}"
        references = self._known(path, request) if job.known_references else measurer.references(of)
        values: Values = measurer(of, np.searchsorted(job.needed, job.wanted), references)
        found = {f"{path}/{name}": value for name, value in values.items()}
        if job.how.reference.kind == "period":
            found[f"{path}/{REFERENCE}"] = np.where(skipped[:, None], np.float32(np.nan), references[0])
        return found

    def _known(self, path: str, request: RowsRequest) -> Float32:
        import h5py

        with h5py.File(Path(self.folder, NAME)) as file:
            known: Float32 = file[f"{path}/{REFERENCE}"][request.first_row : request.stop_row][None]
        return known


class WriteMonitor(AssembleParts):
    """Writes the file of velocity changes from :class:`MeasuredRows`; it becomes visible when complete."""

    file_name, parts = NAME, PARTS

    def __init__(self, folder: str, tables: MonitorTables) -> None:
        super().__init__(folder)
        self.tables = tables

    def _key(self) -> str:
        return self.tables.key

    def _preprocess(self) -> None:
        t, folder = self.tables, Path(self.folder)
        fields = sum(
            len(table.fields) * (len(t.pieces) + len(new)) for table, new in zip(t.tables, t.wanted, strict=True)
        )
        references = 2 * t.lags * sum(table.has_reference for table in t.tables)
        old = folder / NAME
        require_space(folder, 4 * len(t.pairs) * (fields + references) + (old.stat().st_size if old.exists() else 0))

    def _assemble(self, temporary: Path) -> None:
        assemble(Path(self.folder), self.tables, temporary)
