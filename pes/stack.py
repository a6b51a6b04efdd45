"""Stacks over chunks, their errors and quality, and the elements of the stack pass.

Arrays are [piece, row, lag] with weights ``n`` [piece, row], the numbers of windows; sums are float64 in the
order of pieces. No data: NaN, with 0 windows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.core import GenericPE, IterativePE
from xcorr.pes.items import Float32, Float64
from xcorr.pes.layout import Layout

RANGE_BYTES = 16 << 20  # of series read at once


def linear_stack(series: np.ndarray, n: np.ndarray) -> Float64:
    """Return sum n C / sum n, [row, lag]; NaN where no piece has a window."""
    if len(series) == 1:
        return np.where(n[0][:, None] > 0, series[0], np.nan)
    total = np.zeros(series.shape[1:])
    for piece, weight in zip(series, n, strict=True):
        total += np.where(weight[:, None] > 0, piece * weight[:, None].astype(np.float64), 0.0)
    windows = n.sum(axis=0)[:, None]
    mean: Float64 = np.full(total.shape, np.nan)
    np.divide(total, windows, out=mean, where=windows > 0)
    return mean


def jackknife_error(series: np.ndarray, n: np.ndarray) -> Float64:
    """Return the standard error [row, lag] of the linear stack by the delete-one jackknife.

    SE² = (K - 1)/K sum (theta(k) - mean theta)², theta(k) the stack without piece k, over the K pieces with
    windows (Efron & Stein 1981, Ann. Stat. 9(3), eq. 1.3); NaN where K < 2.
    """
    if len(series) < 2:
        return np.full(series.shape[1:], np.nan)
    windows = n.sum(axis=0)[:, None].astype(np.float64)
    total = linear_stack(series, n) * windows
    mean, squares = np.zeros(total.shape), np.zeros(total.shape)
    count = np.zeros(windows.shape)
    for piece, weight in zip(series, n, strict=True):
        w = weight[:, None].astype(np.float64)
        used = (w > 0) & (windows > w)
        theta = np.divide(total - np.where(used, piece, 0.0) * w, windows - w, out=np.zeros(total.shape), where=used)
        count += used
        difference = np.where(used, theta - mean, 0.0)
        mean += difference / np.maximum(count, 1)
        squares += difference * np.where(used, theta - mean, 0.0)
    return np.sqrt(np.where(count > 1, (count - 1) / np.maximum(count, 1) * squares, np.nan))


def signal_to_noise(stack: np.ndarray) -> Float64:
    """Return max|C| / rms of the outer 20 % of lags, [row]."""
    m = stack.shape[1] // 2
    lag = np.abs(np.arange(-m, m + 1))
    outer = stack[:, lag > 0.8 * m]
    rms = np.sqrt(np.square(outer).mean(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.abs(stack).max(axis=1) / rms)


def symmetry(stack: np.ndarray) -> Float64:
    """Return the correlation coefficient of C(tau) with C(-tau), tau > 0, [row]."""
    m = stack.shape[1] // 2
    causal, acausal = stack[:, m + 1 :], stack[:, :m][:, ::-1]
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (causal, acausal))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1)))


@dataclasses.dataclass(frozen=True, slots=True)
class StackRequest:
    """Rows ``first_row ... stop_row - 1`` of the campaign, all of one strip, and the strip's shards in chunk order.

    ``shards`` holds (piece, path); ``offset`` is the strip's first row.
    """

    first_row: int
    stop_row: int
    offset: int
    shards: tuple[tuple[int, str], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class StackedRows:
    """Stacks of a range of rows for one component pair; ``n_by_piece`` [piece, row]."""

    first_row: int
    components: str
    mean: Float32
    std_error: Float32
    n_by_piece: np.ndarray
    snr: Float32
    symmetry: Float32


def stack_requests(
    layout: Layout, lags: int, shards: Sequence[tuple[int, int, str]], pieces: int
) -> Iterator[StackRequest]:
    """Yield requests that cover all rows; ``shards`` lists (piece, strip, path)."""
    size = max(1, RANGE_BYTES // (4 * lags * max(pieces, 1)))
    for strip in range(layout.strips):
        of_strip = tuple(sorted((piece, path) for piece, s, path in shards if s == strip))
        rows = layout.strip_rows(strip)
        for first in range(rows.start, rows.stop, size):
            yield StackRequest(first, min(first + size, rows.stop), rows.start, of_strip)


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


class StackRows(IterativePE):
    """Reads the series of a range of rows from the shards and stacks them, one item per component pair."""

    def __init__(self, folder: str, components: Sequence[str], lags: int, pieces: int) -> None:
        super().__init__()
        self.folder = folder
        self.components = components
        self.lags = lags
        self.pieces = pieces

    def process(self, inputs: dict[str, Any]) -> None:
        """Stack one range for every component pair."""
        request: StackRequest = inputs["input"]
        for pair in self.components:
            series, n = self._read(request, pair)
            mean, error = linear_stack(series, n), jackknife_error(series, n)
            self.write(
                "output",
                StackedRows(
                    request.first_row,
                    pair,
                    mean.astype(np.float32),
                    error.astype(np.float32),
                    n,
                    signal_to_noise(mean).astype(np.float32),
                    symmetry(mean).astype(np.float32),
                ),
            )

    def _read(self, request: StackRequest, pair: str) -> tuple[Float32, np.ndarray]:
        import h5py

        count = request.stop_row - request.first_row
        series = np.full((self.pieces, count, self.lags), np.nan, np.float32)
        n = np.zeros((self.pieces, count), np.int32)
        rows = slice(request.first_row - request.offset, request.stop_row - request.offset)
        for piece, path in request.shards:
            with h5py.File(Path(self.folder, path)) as file:
                series[piece] = file[f"series/{pair}"][rows]
                n[piece] = file[f"n_windows/{pair}"][rows]
        return series, n
