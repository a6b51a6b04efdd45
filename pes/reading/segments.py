"""Makes contiguous segments from raw ones: merging, overlaps, gaps, and zeros that are gaps."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from xcorr.pes.items import Segment
from xcorr.pes.reading.waveform import NS

ZEROS_IN_A_ROW = 8  # samples of a possible run of zeros that are tested before all samples are


@dataclasses.dataclass(frozen=True, slots=True)
class Cleaned:
    """Segments without gaps, and what was removed: gaps (count, s), zeros (s), non-finite runs, disputed times (s)."""

    segments: tuple[Segment, ...]
    gaps: int
    gap_s: float
    zeros_s: float
    non_finite_ns: tuple[tuple[int, int], ...]
    disputed_s: float


def varies(data: np.ndarray) -> bool:
    """Return whether samples are not all the same. The difference of two integers may not fit their kind."""
    return bool(len(data) and data.max() > data.min())


def sample_ns(start_ns: int, rate_hz: Fraction, index: int) -> int:
    """Return the time of a sample, rounded to the nanosecond."""
    return start_ns + round(index * NS / rate_hz)


def end_ns(segment: Segment) -> int:
    """Return the time one sample interval after the last sample."""
    return sample_ns(segment.start_ns, segment.rate_hz, len(segment.data))


def clean(
    pieces: list[Segment],
    start_ns: int,
    stop_ns: int,
    max_gap_s: float = 0.0,
    zeros_are_gaps_s: float = 60.0,
) -> Cleaned:
    """Return the contiguous segments of one channel within ``[start_ns, stop_ns)``.

    ``pieces`` are sorted by time and trimmed. Overlaps with equal samples are joined. Overlaps with different samples
    become gaps. Non-finite samples, and runs of exact zeros of at least ``zeros_are_gaps_s`` (0: none), become gaps.
    Gaps of up to ``max_gap_s`` are interpolated linearly, but not over non-finite samples.
    """
    trimmed = [t for p in pieces if len((t := _trim(p, start_ns, stop_ns)).data)]
    # of pieces that begin together, the longest comes first and holds the others
    merged, disputed_s = _merge(sorted(trimmed, key=lambda s: (s.start_ns, -len(s.data))))
    zeros_s = 0.0
    non_finite: list[tuple[int, int]] = []
    kept: list[Segment] = []
    for segment in merged:
        bad = ~np.isfinite(segment.data) if segment.data.dtype.kind == "f" else np.zeros(len(segment.data), bool)
        non_finite += [
            (sample_ns(segment.start_ns, segment.rate_hz, a), sample_ns(segment.start_ns, segment.rate_hz, b))
            for a, b in _runs(bad)
        ]
        zero = _long_zero_runs(segment, zeros_are_gaps_s)
        zeros_s += np.count_nonzero(zero) / float(segment.rate_hz)
        kept += _cut(segment, bad | zero)
    joined = _interpolate(kept, max_gap_s, non_finite) if max_gap_s > 0 else kept
    covered = sum((len(s.data) / s.rate_hz for s in joined), Fraction(0))
    edges = [start_ns, *[t for s in joined for t in (s.start_ns, end_ns(s))], stop_ns]
    holes = [
        b - a for a, b in zip(edges[::2], edges[1::2], strict=True) if joined and b - a >= (NS / joined[0].rate_hz)
    ]
    gap_s = (stop_ns - start_ns) / NS - float(covered)
    return Cleaned(tuple(joined), len(holes) if joined else 1, max(0.0, gap_s), zeros_s, tuple(non_finite), disputed_s)


def _trim(segment: Segment, start_ns: int, stop_ns: int) -> Segment:
    """Keep the samples with ``start_ns <= t < stop_ns``."""
    first = max(0, math.ceil((start_ns - segment.start_ns) * segment.rate_hz / NS))
    last = max(first, math.ceil((stop_ns - segment.start_ns) * segment.rate_hz / NS))
    return _slice(segment, first, min(last, len(segment.data)))


def _slice(segment: Segment, first: int, last: int) -> Segment:
    start_ns = sample_ns(segment.start_ns, segment.rate_hz, first)
    return dataclasses.replace(segment, start_ns=start_ns, data=segment.data[first:last])


def cut_at(segment: Segment, times_ns: Sequence[int]) -> list[Segment]:
    """Return the parts of a segment between these times."""
    bounds = [segment.start_ns, *(t for t in times_ns if segment.start_ns < t < end_ns(segment)), end_ns(segment)]
    parts = [_trim(segment, a, b) for a, b in itertools.pairwise(bounds)]
    return [p for p in parts if len(p.data)]


def _merge(ordered: list[Segment]) -> tuple[list[Segment], float]:
    """Return the segments without overlaps, and the seconds in which overlapping samples disagree."""
    merged: list[Segment] = []
    disputed: list[tuple[int, int]] = []
    for segment in ordered:
        last = merged[-1] if merged else None
        if last is None or segment.start_ns >= end_ns(last) + _half_sample(last):
            merged.append(segment)
            continue
        at = (segment.start_ns - last.start_ns) * last.rate_hz / NS
        if at < 0:  # earlier segments already cover the time before the last segment, or dispute it
            segment = _trim(segment, last.start_ns, end_ns(segment))
            if not len(segment.data):
                continue
            at = (segment.start_ns - last.start_ns) * last.rate_hz / NS
        index = round(at)
        overlap = min(len(last.data) - index, len(segment.data))
        alike = segment.rate_hz == last.rate_hz and segment.direction == last.direction
        on_grid = alike and abs(at - index) <= Fraction(1, 4)
        agrees = on_grid and _same(last.data[index : index + overlap], segment.data[:overlap])
        if agrees:
            if index + len(segment.data) > len(last.data):
                data = np.concatenate([last.data[:index], segment.data])
                merged[-1] = dataclasses.replace(last, data=data)
            continue
        disputed.append((segment.start_ns, min(end_ns(last), end_ns(segment))))
        tail = _trim(segment, end_ns(last), end_ns(segment))
        if len(tail.data):
            merged.append(tail)
    holes = _union(disputed)  # cut out at the end, because a later piece may also cover a disputed time
    kept = [piece for segment in merged for piece in _without(segment, holes)]
    return kept, sum(stop - start for start, stop in holes) / NS


def _union(times: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges of time that do not overlap, in order."""
    found: list[tuple[int, int]] = []
    for start, stop in sorted(t for t in times if t[0] < t[1]):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        else:
            found.append((start, stop))
    return found


def _half_sample(segment: Segment) -> int:
    return round(NS / segment.rate_hz / 2)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == b.dtype.kind == "f"))


def _without(segment: Segment, holes: Sequence[tuple[int, int]]) -> list[Segment]:
    """Return the parts of a segment outside ranges of time, which are in order and do not overlap."""
    first = bisect.bisect_right(holes, segment.start_ns, key=lambda hole: hole[1])
    parts, begin, end = [], segment.start_ns, end_ns(segment)
    for start, stop in itertools.takewhile(lambda hole: hole[0] < end, holes[first:]):
        parts.append(_trim(segment, begin, start))
        begin = stop
    if begin == segment.start_ns:
        return [segment]
    return [p for p in (*parts, _trim(segment, begin, end)) if len(p.data)]


def _long_zero_runs(segment: Segment, shortest_s: float) -> np.ndarray:
    keep = np.zeros(len(segment.data), bool)
    shortest = max(1, math.ceil(shortest_s * segment.rate_hz))
    if shortest_s <= 0:
        return keep
    apart = max(1, shortest // ZEROS_IN_A_ROW)
    few = segment.data[::apart] == 0
    in_a_row = shortest // apart  # the shortest run holds at least so many of these few samples
    others = np.flatnonzero(~few)
    if np.diff(others, prepend=-1, append=len(few)).max() <= in_a_row:
        return keep
    for first, stop in _runs(segment.data == 0):
        if stop - first >= shortest:
            keep[first:stop] = True
    return keep


def _cut(segment: Segment, bad: np.ndarray) -> list[Segment]:
    return [_slice(segment, a, b) for a, b in _runs(~bad)] if bad.any() else [segment]


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Return start and stop of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8))).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def _interpolate(segments: list[Segment], max_gap_s: float, non_finite: list[tuple[int, int]]) -> list[Segment]:
    """Join neighbours on one sample grid across gaps of at most ``max_gap_s`` by a straight line."""
    joined: list[Segment] = []
    for segment in segments:
        last = joined[-1] if joined else None
        if last is not None and (last.rate_hz, last.direction) == (segment.rate_hz, segment.direction):
            at = (segment.start_ns - last.start_ns) * last.rate_hz / NS
            missing = round(at) - len(last.data)
            holds_bad = any(a < segment.start_ns and b > end_ns(last) - _half_sample(last) for a, b in non_finite)
            on_grid = abs(at - round(at)) <= Fraction(1, 4)
            if on_grid and not holds_bad and 0 <= missing <= max_gap_s * last.rate_hz:
                bridge = np.linspace(float(last.data[-1]), float(segment.data[0]), missing + 2)[1:-1]
                data = np.concatenate([last.data, bridge, segment.data])
                joined[-1] = dataclasses.replace(last, data=data)
                continue
        joined.append(segment)
    return joined
