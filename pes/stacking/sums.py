"""Running sums of linear stacks: a new piece is added to them without reading the older pieces again."""

from __future__ import annotations

import dataclasses

import numpy as np

from xcorr.pes.items import Float64

BLOCK = 1 << 15  # about so many values are added at once, so that they stay in the cache of the processor
ENOUGH_PIECES = 8  # for fewer pieces, reading all series again takes less time than keeping the sums


def keeps_sums(pieces: int, keep_series: bool) -> bool:
    """Return whether sums are kept for the next run."""
    return pieces >= ENOUGH_PIECES or not keep_series


@dataclasses.dataclass(slots=True)
class Sums:
    """Sums over pieces in float64: ``weighted`` and ``squares`` [row, lag], sum n C and sum n C².

    ``windows`` [row] is sum n, the number of windows, and ``pieces`` [row] counts the pieces with windows.
    """

    weighted: Float64
    squares: Float64
    windows: np.ndarray
    pieces: np.ndarray

    @classmethod
    def zeros(cls, rows: int, lags: int) -> Sums:
        """Return the sums of nothing."""
        sums = np.zeros((rows, lags)), np.zeros((rows, lags))
        return cls(*sums, np.zeros(rows, np.int64), np.zeros(rows, np.int64))

    def add(self, series: np.ndarray, n: np.ndarray) -> None:
        """Add pieces, one after another: series [piece, row, lag], and n [piece, row], their numbers of windows.

        A piece of a row with n = 0 is ignored.
        """
        rows, lags = self.weighted.shape
        step = max(1, BLOCK // lags)
        for piece, weights in zip(series, n, strict=True):
            for low in range(0, rows, step):
                part = slice(low, low + step)
                w = weights[part]
                if not w.any():
                    continue
                values = piece[part].astype(np.float64)
                if not w.all():
                    values[w == 0] = 0.0  # NaN, which 0 as a weight would not remove
                products = values * w[:, None]
                self.weighted[part] += products
                products *= values
                self.squares[part] += products
        self.windows += n.sum(axis=0)
        self.pieces += (n > 0).sum(axis=0)

    def mean(self) -> Float64:
        """Return the linear stack sum n C / sum n, [row, lag]; NaN where no piece has a window."""
        windows = self.windows[:, None]
        mean: Float64 = np.full(self.weighted.shape, np.nan)
        np.divide(self.weighted, windows, out=mean, where=windows > 0)
        return mean

    def error(self) -> Float64:
        """Return the standard error of the linear stack, [row, lag]; NaN where fewer than two pieces have windows.

        SE² = sum n (C - mean)² / ((K - 1) sum n) over K pieces: the error by external consistency of a weighted mean
        (Birge 1932, Phys. Rev. 40, 207). It is exact if the variance of a piece is proportional to 1/n, as for means
        of n windows. With equal n it is the delete-one jackknife.
        """
        windows, k = self.windows[:, None].astype(np.float64), self.pieces[:, None]
        known = k > 1
        error: Float64 = np.full(self.weighted.shape, np.nan)
        np.divide(np.square(self.weighted), windows, out=error, where=known)
        np.subtract(self.squares, error, out=error)
        np.maximum(error, 0.0, out=error)  # equal pieces: rounding may give less than nothing
        np.divide(error, (k - 1) * windows, out=error, where=known)
        np.sqrt(error, out=error)
        return error
