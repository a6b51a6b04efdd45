"""The stack pass: reads series from the shards and stacks them over pieces, one range of rows at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.core import GenericPE, IterativePE
from xcorr.pes.correlating.layout import Layout
from xcorr.pes.correlating.snr import quality
from xcorr.pes.items import Float32, Float64
from xcorr.pes.preparing.orient import stored_pairs
from xcorr.pes.stacking.methods import Stacking, stacked
from xcorr.pes.stacking.sums import Sums
from xcorr.pes.stacking.sums_file import SUMS, read_sums
from xcorr.pes.storing.open_shards import OpenShards
from xcorr.pes.storing.read_series import Series, read_series, series_of, stored_parts
from xcorr.pes.storing.shards import chunk_shape, series_path

SUMS_BYTES = 192 << 20  # of the sums of a range of rows: a shard is opened once for each range
RANGE_BYTES = 32 << 20  # of the series that a stack method gets at once


@dataclasses.dataclass(frozen=True, slots=True)
class StackRequest:
    """Rows ``first_row ... stop_row - 1`` of the campaign, all of one strip, and the strip's shards in chunk order.

    ``shards`` holds (chunk, path); ``offset`` is the strip's first row; ``azimuth_deg`` [row] of the pairs. The first
    ``summed`` shards are in the running sums already.
    """

    first_row: int
    stop_row: int
    offset: int
    shards: tuple[tuple[int, str], ...]
    azimuth_deg: Float64
    summed: int = 0

    @property
    def identity(self) -> str:
        """First and last row."""
        return f"{self.first_row}-{self.stop_row - 1}"


@dataclasses.dataclass(frozen=True, slots=True)
class StackedRows:
    """Stacks of a range of rows for one band and component pair, by method; ``n_windows`` [row].

    ``std_error`` [row, lag] is None if there is only one piece. ``means`` is empty if the stack is the only piece
    itself. ``sums`` is None if no running sums are kept.
    """

    first_row: int
    band: str
    components: str
    means: Mapping[str, Float32]
    std_error: Float32 | None
    n_windows: np.ndarray
    snr: Mapping[str, Float32]
    symmetry: Mapping[str, Float32]
    sums: Sums | None = None

    @property
    def identity(self) -> str:
        """Band, components and first row."""
        return f"{self.band or 'main'}/{self.components}/{self.first_row}"


def stack_requests(
    layout: Layout,
    lags: int,
    shards: Sequence[tuple[int, int, str]],
    azimuth_deg: Float64,
    first_row: int = 0,
    outputs: int = 1,
    summed: Mapping[int, int] | None = None,
) -> Iterator[StackRequest]:
    """Yield requests that cover all rows of a layout, which begin at ``first_row`` in the campaign.

    ``shards`` lists (chunk, strip, path), those of a strip in order; ``azimuth_deg`` [row] those of the campaign;
    ``outputs`` is the number of component pairs that are stacked; ``summed`` has, by strip, how many shards are in the
    running sums.
    """
    for strip in layout.strips:
        of_strip = tuple((chunk, path) for chunk, s, path in shards if s == strip)
        rows = layout.strip_rows(strip)
        start, end = rows.start + first_row, rows.stop + first_row
        together = chunk_shape(lags, len(rows))[0]  # a range ends where a chunk of HDF5 does: both are read whole
        size = max(1, SUMS_BYTES // (16 * lags * outputs) // together) * together
        for first in range(start, end, size):
            stop = min(first + size, end)
            yield StackRequest(first, stop, start, of_strip, azimuth_deg[first:stop], (summed or {}).get(strip, 0))


class StackSource(GenericPE):
    """The source of the passes over shards: writes requests."""

    def __init__(self, requests: Iterable[Any]) -> None:
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

    @property
    def pieces(self) -> int:
        """Pieces of the series."""
        return self.chunks * self.substacks


class StackRows(IterativePE):
    """Reads the series of a range of rows and stacks them: one :class:`StackedRows` per band and component pair.

    ``outputs`` are the component pairs wanted: pairs in the shards, or pairs with R and T, which are computed from the
    pairs in the shards. The linear stack comes from running sums: shards that are in the sums already are not read.
    Other ``methods`` read all shards. With ``keep_series`` the shards stay. A stack of one piece is then not written,
    because the result file shows the piece in the shard. ``keep_sums``: send the sums on.
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
        keep_sums: bool = False,
    ) -> None:
        super().__init__()
        self.keep_series = keep_series
        self.keep_sums = keep_sums
        self.folder = folder
        self.shape = shape
        self.outputs = outputs
        self.methods = methods
        self.stacking = stacking

    def process(self, inputs: dict[str, Any]) -> None:
        """Stack one range for every band and component pair."""
        request: StackRequest = inputs["input"]
        alone = self.keep_series and self.shape.pieces == 1
        single = [pair for pair in self.outputs if alone and pair in self.shape.pairs]
        several = [pair for pair in self.outputs if pair not in single]
        shards = OpenShards(self.folder)
        try:
            for band in self.shape.bands:
                for pair in single:
                    self.write("output", self._single(shards, request, band, pair))
                for pair, sums in self._sums(shards, request, band, several).items():
                    means = self._means(shards, request, band, pair, sums)
                    self.write("output", self._stacks(request.first_row, band, pair, means, sums))
        finally:
            shards.close()

    def _stacks(self, first_row: int, band: str, pair: str, means: dict[str, np.ndarray], sums: Sums) -> StackedRows:
        error = sums.error().astype(np.float32) if self.shape.pieces > 1 else None
        found = {m: quality(mean) for m, mean in means.items()}
        return StackedRows(
            first_row,
            band,
            pair,
            {m: mean.astype(np.float32) for m, mean in means.items()},
            error,
            sums.windows,
            {m: ratio for m, (ratio, _) in found.items()},
            {m: coefficient for m, (_, coefficient) in found.items()},
            sums if self.keep_sums else None,
        )

    def _sums(self, shards: OpenShards, request: StackRequest, band: str, pairs: Sequence[str]) -> dict[str, Sums]:
        """Return the sums of all pieces, from those in the file and the shards that are not in them yet."""
        rows = slice(request.first_row, request.stop_row)
        if request.summed:
            found = {pair: read_sums(Path(self.folder, SUMS), band, pair, rows) for pair in pairs}
        else:
            found = {pair: Sums.zeros(rows.stop - rows.start, self.shape.lags) for pair in pairs}
        rows = slice(request.first_row - request.offset, request.stop_row - request.offset)
        for _, path in request.shards[request.summed :]:
            known = read_series(shards, path, band, stored_parts(pairs), rows)
            for pair, sums in found.items():
                sums.add(*series_of(known, pair, request.azimuth_deg))
        return found

    def _means(
        self, shards: OpenShards, request: StackRequest, band: str, pair: str, sums: Sums
    ) -> dict[str, np.ndarray]:
        """Return the stacks [row, lag] of every method."""
        means = {"linear": sums.mean()} if "linear" in self.methods else {}
        others = [m for m in self.methods if m != "linear"]
        if not others:
            return means
        count = request.stop_row - request.first_row
        means |= {m: np.full((count, self.shape.lags), np.nan, np.float32) for m in others}
        together = chunk_shape(self.shape.lags, count)[0]
        size = max(1, RANGE_BYTES // (4 * self.shape.lags * self.shape.pieces) // together) * together
        for low in range(0, count, size):
            part = slice(low, min(low + size, count))
            series, n = self._all_pieces(shards, request, band, pair, part)
            for method in others:
                means[method][part] = stacked(method, series, n, self.stacking)
        return {m: means[m] for m in self.methods}

    def _all_pieces(self, shards: OpenShards, request: StackRequest, band: str, pair: str, part: slice) -> Series:
        """Return the series of some rows of a request, of all pieces of the campaign."""
        subs, shape = self.shape.substacks, (self.shape.pieces, part.stop - part.start)
        series, n = np.full((*shape, self.shape.lags), np.nan, np.float32), np.zeros(shape, np.int32)
        begin = request.first_row - request.offset
        rows = slice(begin + part.start, begin + part.stop)
        for chunk, path in request.shards:
            known = read_series(shards, path, band, stored_pairs(pair), rows)
            at = slice(chunk * subs, (chunk + 1) * subs)
            series[at], n[at] = series_of(known, pair, request.azimuth_deg[part])
        return series, n

    def _single(self, shards: OpenShards, request: StackRequest, band: str, pair: str) -> StackedRows:
        """Return the stacks of one piece. Every method gives the piece itself, so only its other numbers are read."""
        rows = slice(request.first_row - request.offset, request.stop_row - request.offset)
        kinds = ("series_n_windows", "series_snr", "series_symmetry")
        if request.shards:
            shard = shards[request.shards[0][1]]
            n, snr, even = (shard[series_path(band, pair, kind)][:, rows] for kind in kinds)
        else:
            n = np.zeros((1, rows.stop - rows.start), np.int32)
            snr = even = np.full(n.shape, np.nan, np.float32)
        by_method = dict.fromkeys(self.methods, snr[0]), dict.fromkeys(self.methods, even[0])
        return StackedRows(request.first_row, band, pair, {}, None, n[0], *by_method)
