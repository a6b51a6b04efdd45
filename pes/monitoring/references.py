"""References and moving stacks: means of pieces over a span of time, weighted by their numbers of windows."""

from __future__ import annotations

import dataclasses

import numpy as np

from xcorr.pes.items import Float32

Weighted = tuple[Float32, np.ndarray]  # [..., lag], and numbers of windows [...]


@dataclasses.dataclass(frozen=True, slots=True)
class Spans:
    """For each of several means, the first piece in it and the one after the last."""

    first: np.ndarray
    stop: np.ndarray

    @classmethod
    def before(cls, times_ns: np.ndarray, length_ns: int, gap_ns: int = 0) -> Spans:
        """Return the spans that end with each piece, or ``gap_ns`` earlier, and are ``length_ns`` long.

        ``times_ns`` [piece, 2] are the starts and ends of pieces, in order. A span has the pieces that end by its end
        and begin at or after its start.
        """
        ends = times_ns[:, 1] - gap_ns
        return cls.between(times_ns, ends - length_ns, ends)

    @classmethod
    def between(cls, times_ns: np.ndarray, starts_ns: np.ndarray, ends_ns: np.ndarray) -> Spans:
        """Return the spans of the pieces that lie between two times."""
        first = np.searchsorted(times_ns[:, 0], starts_ns)
        return cls(first, np.maximum(first, np.searchsorted(times_ns[:, 1], ends_ns, side="right")))


def means(series: Float32, n: np.ndarray, spans: Spans) -> Weighted:
    """Return the mean of the pieces of each span, [span, row, lag], and its number of windows, [span, row].

    ``series`` is [piece, row, lag], ``n`` [piece, row]. A series with n = 0 is ignored; a mean without windows is NaN.
    Every mean is summed in float64 in the order of time, so that it depends on its own pieces alone.
    """
    found = np.empty((len(spans.first), *series.shape[1:]), np.float32)
    windows = np.empty(found.shape[:2], n.dtype)
    for k, (first, stop) in enumerate(zip(spans.first.tolist(), spans.stop.tolist(), strict=True)):
        found[k], windows[k] = mean(series[first:stop], n[first:stop])
    return found, windows


def mean(series: Float32, n: np.ndarray) -> Weighted:
    """Return the mean of pieces [piece, row, lag], weighted by ``n`` [piece, row]: [row, lag] and windows [row]."""
    if len(n) == 1:
        return np.where(n[0][:, None] > 0, series[0], np.float32(np.nan)), n[0]
    total, part = np.zeros(series.shape[1:]), np.empty(series.shape[1:])
    for piece, weights in zip(series, n, strict=True):
        if weights.any():
            np.multiply(piece, weights[:, None], out=part)
            part[weights == 0] = 0.0
            total += part
    windows = n.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        total /= windows[:, None]
    return total.astype(np.float32), windows
