"""The stack pass: reads series from the shards and stacks them over pieces, one range of rows at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.core import GenericPE, IterativePE
from xcorr.pes.correlating.layout import Layout
from xcorr.pes.correlating.snr import quality
from xcorr.pes.items import Float32, Float64
from xcorr.pes.preparing.orient import rotated, stored_pairs
from xcorr.pes.stacking.methods import Stacking, jackknife_error, stacked
from xcorr.pes.storing.shards import series_path

RANGE_BYTES = 16 << 20  # of series read at once


@dataclasses.dataclass(frozen=True, slots=True)
class StackRequest:
    """Rows ``first_row ... stop_row - 1`` of the campaign, all of one strip, and the strip's shards in chunk order.

    ``shards`` holds (chunk, path); ``offset`` is the strip's first row; ``azimuth_deg`` [row] of the pairs.
    """

    first_row: int
    stop_row: int
    offset: int
    shards: tuple[tuple[int, str], ...]
    azimuth_deg: Float64

    @property
    def identity(self) -> str:
        """First and last row."""
        return f"{self.first_row}-{self.stop_row - 1}"


@dataclasses.dataclass(frozen=True, slots=True)
class StackedRows:
    """Stacks of a range of rows for one band and component pair, by method; ``n_by_piece`` [piece, row].

    ``std_error`` [row, lag] is None if there is only one piece. ``means`` is empty for component pairs that are stored
    but not stacked, and if the stack is the only piece itself.
    """

    first_row: int
    band: str
    components: str
    means: Mapping[str, Float32]
    std_error: Float32 | None
    n_by_piece: np.ndarray
    snr: Mapping[str, Float32]
    symmetry: Mapping[str, Float32]

    @property
    def identity(self) -> str:
        """Band, components and first row."""
        return f"{self.band or 'main'}/{self.components}/{self.first_row}"


def stack_requests(
    layout: Layout,
    lags: int,
    shards: Sequence[tuple[int, int, str]],
    pieces: int,
    azimuth_deg: Float64,
    first_row: int = 0,
) -> Iterator[StackRequest]:
    """Yield requests that cover all rows of a layout, which begin at ``first_row`` in the campaign.

    ``shards`` lists (chunk, strip, path); ``azimuth_deg`` [row] those of the campaign.
    """
    size = max(1, RANGE_BYTES // (4 * lags * max(pieces, 1)))
    for strip in layout.strips:
        of_strip = tuple(sorted((chunk, path) for chunk, s, path in shards if s == strip))
        rows = layout.strip_rows(strip)
        start, end = rows.start + first_row, rows.stop + first_row
        for first in range(start, end, size):
            stop = min(first + size, end)
            yield StackRequest(first, stop, start, of_strip, azimuth_deg[first:stop])


class StackSource(GenericPE):
    """The source of the stack pass: writes stack requests."""

    def __init__(self, requests: Sequence[StackRequest]) -> None:
        super().__init__()
        self._add_output("output")
        self.requests = requests

    def process(self, inputs: dict[str, Any]) -> None:
        """Write every request."""
        for request in self.requests:
            self.write("output", request)


@dataclasses.dataclass(frozen=True, slots=True)
class SeriesShape:
    """What the shards hold: names of the bands, component pairs, lags, chunks, and substacks in each chunk."""

    bands: tuple[str, ...]
    pairs: tuple[str, ...]
    lags: int
    chunks: int
    substacks: int = 1


class StackRows(IterativePE):
    """Reads the series of a range of rows and stacks them: one :class:`StackedRows` per band and component pair.

    ``outputs`` are the component pairs wanted: pairs in the shards, or pairs with R and T, which are computed from the
    pairs in the shards. With ``keep_series`` the shards stay. A stack of one piece is then not written, because the
    result file shows the piece in the shard.
    """

    stateless = True

    def __init__(
        self,
        folder: str,
        shape: SeriesShape,
        outputs: Sequence[str],
        methods: Sequence[str],
        stacking: Stacking,
        keep_series: bool = True,
    ) -> None:
        super().__init__()
        self.keep_series = keep_series
        self.folder = folder
        self.shape = shape
        self.outputs = outputs
        self.methods = methods
        self.stacking = stacking

    def process(self, inputs: dict[str, Any]) -> None:
        """Stack one range for every band and component pair."""
        request: StackRequest = inputs["input"]
        for band in self.shape.bands:
            known: dict[str, tuple[Float32, np.ndarray]] = {}
            for pair in self.outputs:
                if self.keep_series and self.shape.chunks * self.shape.substacks == 1 and pair in self.shape.pairs:
                    self.write("output", self._single(request, band, pair))
                    continue
                needed = stored_pairs(pair)
                for part in needed:
                    if part not in known:
                        known[part] = self._read(request, band, part)
                series, n = known[pair] if needed == (pair,) else _turned(known, pair, request.azimuth_deg)
                self.write("output", self._stack(request.first_row, band, pair, series, n))
            for part in known.keys() - set(self.outputs):
                self.write("output", StackedRows(request.first_row, band, part, {}, None, known[part][1], {}, {}))

    def _stack(self, first_row: int, band: str, pair: str, series: np.ndarray, n: np.ndarray) -> StackedRows:
        means = {m: stacked(m, series, n, self.stacking) for m in self.methods}
        error = jackknife_error(series, n).astype(np.float32) if len(series) > 1 else None
        found = {m: quality(mean) for m, mean in means.items()}
        return StackedRows(
            first_row,
            band,
            pair,
            {m: mean.astype(np.float32) for m, mean in means.items()},
            error,
            n,
            {m: ratio for m, (ratio, _) in found.items()},
            {m: coefficient for m, (_, coefficient) in found.items()},
        )

    def _single(self, request: StackRequest, band: str, pair: str) -> StackedRows:
        """Return the stacks of one piece. Every method gives the piece itself, so only its other numbers are read."""
        import h5py

        rows = slice(request.first_row - request.offset, request.stop_row - request.offset)
        kinds = ("series_n_windows", "series_snr", "series_symmetry")
        if request.shards:
            with h5py.File(Path(self.folder, request.shards[0][1])) as file:
                n, snr, even = (file[series_path(band, pair, kind)][:, rows] for kind in kinds)
        else:
            n = np.zeros((1, rows.stop - rows.start), np.int32)
            snr = even = np.full(n.shape, np.nan, np.float32)
        by_method = dict.fromkeys(self.methods, snr[0]), dict.fromkeys(self.methods, even[0])
        return StackedRows(request.first_row, band, pair, {}, None, n, *by_method)

    def _read(self, request: StackRequest, band: str, pair: str) -> tuple[Float32, np.ndarray]:
        import h5py

        count, subs = request.stop_row - request.first_row, self.shape.substacks
        series = np.full((self.shape.chunks * subs, count, self.shape.lags), np.nan, np.float32)
        n = np.zeros((self.shape.chunks * subs, count), np.int32)
        rows = slice(request.first_row - request.offset, request.stop_row - request.offset)
        for chunk, path in request.shards:
            pieces = slice(chunk * subs, (chunk + 1) * subs)
            with h5py.File(Path(self.folder, path)) as file:
                series[pieces] = file[series_path(band, pair)][:, rows]
                n[pieces] = file[series_path(band, pair, "series_n_windows")][:, rows]
        return series, n


def _turned(
    known: Mapping[str, tuple[Float32, np.ndarray]], pair: str, azimuth_deg: Float64
) -> tuple[np.ndarray, np.ndarray]:
    """Return the series of a pair of R, T and Z, and the numbers of windows (0 if a component has none)."""
    parts = stored_pairs(pair)
    n = np.min([known[p][1] for p in parts], axis=0)
    n = np.where(np.isfinite(azimuth_deg), n, 0)
    return rotated({p: known[p][0] for p in parts}, azimuth_deg, pair), n
