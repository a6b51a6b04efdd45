"""Windows on a chunk's grid, and the reasons to reject them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from xcorr.pes.items import WINDOWS_USED, Bool, Float32, Float64
from xcorr.pes.parameters import require_numbers
from xcorr.pes.transforms.running_mean import running_mean

REASONS = (
    WINDOWS_USED,
    "coverage",
    "non-finite",
    "max_over_std",
    "kurtosis",
    "sta_lta",
    "dead",
    "clipped",
    "catalogue",
)
(USED, LOW_COVERAGE, NON_FINITE, MAX_OVER_STD, KURTOSIS, STA_LTA, DEAD, CLIPPED, CATALOGUE) = range(len(REASONS))


@dataclasses.dataclass(frozen=True, slots=True)
class Windowing:
    """Windows in samples of the target rate, and the limits of the quality control (0: no limit).

    ``kurtosis``: largest m4 / m2² (3 for Gaussian noise). ``sta_lta``: largest ratio of the mean of x² over ``sta_s``
    to the mean over ``lta_s`` (s). ``dead``: smallest rms, as a share of the median rms of the chunk's windows.
    ``clipped``: largest share of raw samples in flat runs at the raw extremes. Raises
    ParameterError for values that cannot be.
    """

    length: int
    step: int
    min_coverage: float = 0.9
    max_over_std: float = 10.0
    kurtosis: float = 0.0
    sta_lta: float = 0.0
    sta_s: float = 10.0
    lta_s: float = 600.0
    dead: float = 0.0
    clipped: float = 0.0

    def __post_init__(self) -> None:
        require_numbers(self, "length", "step", least=1)
        require_numbers(
            self, "min_coverage", "max_over_std", "kurtosis", "sta_lta", "sta_s", "lta_s", "dead", "clipped"
        )

    def starts(self, samples: int) -> npt.NDArray[np.int64]:
        """Return the first sample of every window."""
        return np.arange(window_count(samples, self.length, self.step), dtype=np.int64) * self.step


def window_count(samples: int, length: int, step: int) -> int:
    """Return 1 + floor((samples - length) / step), or 0 if not even one window fits."""
    return 0 if samples < length else 1 + (samples - length) // step


def by_reason(verdict: npt.NDArray[np.int8]) -> dict[str, int]:
    """Return how many windows have each of :data:`REASONS`, where there are any."""
    counts = np.bincount(verdict, minlength=len(REASONS)).tolist()
    return {reason: count for reason, count in zip(REASONS, counts, strict=True) if count}


def windowed(values: npt.NDArray[np.generic], length: int, step: int) -> npt.NDArray[np.generic]:
    """Return a read-only view [..., window, sample] of values [..., sample]."""
    return np.lib.stride_tricks.sliding_window_view(values, length, axis=-1)[..., ::step, :]


def judge(
    data: Float32,
    mask: Bool,
    how: Windowing,
    rate_hz: float = 1.0,
    non_finite: Iterable[tuple[int, int]] = (),
    clipped: Iterable[tuple[int, int]] = (),
    events: Iterable[tuple[int, int]] = (),
) -> npt.NDArray[np.int8]:
    """Return, for each window of one conditioned trace, an index into :data:`REASONS`.

    ``data`` and ``mask`` [sample]; masked samples are zero. A window is rejected for any of these reasons:

    - its share of valid samples is below ``min_coverage``;
    - it overlaps a range of positions ``[first, stop)`` in ``non_finite`` or ``events``, or its values are not finite;
    - its share of samples in the ranges ``clipped`` is above the limit;
    - max|x| exceeds ``max_over_std`` times the standard deviation of the valid samples of the chunk (here the root mean
      square, because the trace has no mean);
    - it exceeds another limit of :class:`Windowing`.

    Sums are float64.
    """
    starts = how.starts(len(data))
    verdict = np.full(len(starts), USED, np.int8)
    if not len(starts):
        return verdict
    cut = windowed(data, how.length, how.step)
    peak = np.maximum(cut.max(axis=-1), -cut.min(axis=-1))  # np.abs would make an array of all windows
    covered = _share(starts, how.length, mask)
    for first, stop in events:  # in this order, because the last of several reasons counts
        verdict[(starts < stop) & (first < starts + how.length)] = CATALOGUE
    if how.clipped > 0:
        flags = np.zeros(len(data), bool)
        for first, stop in clipped:
            flags[max(first, 0) : max(stop, 0)] = True
        verdict[_share(starts, how.length, flags) > how.clipped] = CLIPPED
    if mask.any() and np.isfinite(peak).all():  # a NaN would spread through the sums over the chunk
        _judge_values(verdict, data, mask, how, rate_hz, peak, covered)
    # with min_coverage = 0, a window without data is not used either
    verdict[(covered < how.min_coverage) | (covered == 0)] = LOW_COVERAGE
    verdict[~np.isfinite(peak)] = NON_FINITE
    for first, stop in non_finite:
        verdict[(starts < stop) & (first < starts + how.length)] = NON_FINITE
    return verdict


def _judge_values(
    verdict: npt.NDArray[np.int8],
    data: Float32,
    mask: Bool,
    how: Windowing,
    rate_hz: float,
    peak: Float32,
    covered: Float64,
) -> None:
    cut = windowed(data, how.length, how.step)
    n = np.maximum(covered * how.length, 1)
    if how.dead > 0:
        rms = np.sqrt(np.square(cut, dtype=np.float64).sum(axis=-1) / n)
        verdict[rms < how.dead * np.median(rms[covered > 0])] = DEAD
    if how.sta_lta > 0:
        squares = np.square(data, dtype=np.float64)
        sta, lta = (running_mean(squares, mask, round(s * rate_hz / 2)) for s in (how.sta_s, how.lta_s))
        ratio = np.divide(sta, lta, out=np.zeros(len(data)), where=mask & (lta > 0))
        verdict[windowed(ratio, how.length, how.step).max(axis=-1) > how.sta_lta] = STA_LTA
    if how.kurtosis > 0:
        squares = np.square(cut, dtype=np.float64)
        second, fourth = squares.sum(axis=-1) / n, np.square(squares).sum(axis=-1) / n
        verdict[fourth > how.kurtosis * second**2] = KURTOSIS
    if how.max_over_std > 0:
        sigma = np.sqrt(np.einsum("i,i->", data, data, dtype=np.float64, casting="safe") / np.count_nonzero(mask))
        verdict[peak > how.max_over_std * sigma] = MAX_OVER_STD


def _share(starts: np.ndarray, length: int, flags: Bool) -> Float64:
    if flags.all():
        return np.ones(len(starts))
    return np.array([np.count_nonzero(flags[start : start + length]) for start in starts.tolist()]) / length


def flat_runs(data: np.ndarray, shortest: int = 3) -> Sequence[tuple[int, int]]:
    """Return ranges of at least ``shortest`` equal samples in a row at the largest or smallest value of a trace."""
    found: list[tuple[int, int]] = []
    for extreme in (data.max(), data.min()):
        flags = np.concatenate([[False], data == extreme, [False]])
        edges = np.flatnonzero(flags[1:] != flags[:-1]).tolist()
        found += [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= shortest]
    return found
