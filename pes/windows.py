"""Windows on a chunk's grid, and the reasons to reject them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from xcorr.pes.items import LOW_COVERAGE, MAX_OVER_STD, NON_FINITE, USED, Bool, Float32


def window_count(samples: int, length: int, step: int) -> int:
    """Return 1 + floor((samples - length) / step), or 0 if not even one window fits."""
    return 0 if samples < length else 1 + (samples - length) // step


def windowed(values: npt.NDArray[np.generic], length: int, step: int) -> npt.NDArray[np.generic]:
    """Return a read-only view [..., window, sample] of values [..., sample]."""
    return np.lib.stride_tricks.sliding_window_view(values, length, axis=-1)[..., ::step, :]


def judge(
    data: Float32,
    mask: Bool,
    length: int,
    step: int,
    min_coverage: float,
    max_over_std: float,
    non_finite: Iterable[tuple[int, int]] = (),
) -> npt.NDArray[np.int8]:
    """Return, for each window of one conditioned trace, an index into ``WINDOW_REASONS``.

    ``data`` and ``mask`` [sample]; masked samples are zero. A window is rejected when its share of valid samples is
    below ``min_coverage``; when it overlaps a range of positions ``[first, stop)`` in ``non_finite``, or its values are not
    finite; and when max|x| exceeds ``max_over_std`` (0: never) times the standard deviation (root mean
    square: the trace has no mean) of the valid samples of the chunk, summed in float64.
    """
    count = window_count(len(data), length, step)
    verdict = np.full(count, USED, np.int8)
    if not count:
        return verdict
    cut = windowed(data, length, step)
    peak = np.maximum(cut.max(axis=-1), -cut.min(axis=-1))
    if max_over_std > 0 and mask.any():
        sigma = np.sqrt(np.einsum("i,i->", data, data, dtype=np.float64, casting="safe") / np.count_nonzero(mask))
        verdict[peak > max_over_std * sigma] = MAX_OVER_STD
    total = np.concatenate([[0], np.cumsum(mask, dtype=np.int64)])
    starts = np.arange(count) * step
    covered = total[starts + length] - total[starts]
    verdict[covered < min_coverage * length] = LOW_COVERAGE
    verdict[covered == 0] = LOW_COVERAGE
    verdict[~np.isfinite(peak)] = NON_FINITE
    for first, stop in non_finite:
        verdict[(starts < stop) & (first < starts + length)] = NON_FINITE
    return verdict
