"""Makes segments with true times from the waveforms of a channel: where records and header disagree, records are right.

Waveforms that follow each other make a run, which becomes one segment. If its times fit the rate of the header to a
sample, it has that rate, and the start of the first waveform. Otherwise it has the rate that its times give; a run
whose clock did not drift evenly is cut into parts that did.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from xcorr.pes.items import Segment
from xcorr.pes.reading.waveform import NS, Waveform, meant, simplest

SNAP = 1e-5  # relative: a header's rate that is nearer to a simple one stands for the simple one
MOST_WRONG = 0.02  # relative: a header's rate that is farther from what the times give is not corrected
FEW = 5  # waveforms, from which the true rate is not estimated by their median
CLOSE = 0.05  # samples: largest error of a rational that stands for a rate, over a run
MOST_DRIFT = 1.0  # samples, over a run
UNEVEN = 0.5  # samples from a straight line
INEXACT = 2.1  # samples between records whose times are all inexact by a sample


@dataclasses.dataclass(frozen=True, slots=True)
class Drift:
    """What a clock did: parts per million of the header's rate, and seconds over the run."""

    ppm: float
    seconds: float
    rate_hz: float


def nominal_rate(rate_hz: float) -> Fraction:
    """Return the simple rate that a header's rate stands for, or else the header's rate."""
    simple = simplest(rate_hz)
    return simple if abs(float(simple) / rate_hz - 1) <= SNAP else meant(rate_hz)


def to_segments(waveforms: Sequence[Waveform]) -> tuple[list[Segment], list[Drift]]:
    """Return the segments of a channel's waveforms, by time, and every drift of more than a sample."""
    segments: list[Segment] = []
    drifts: list[Drift] = []
    ordered = _without_copies(sorted(waveforms, key=lambda w: (w.start_ns, -w.samples)))
    by_rate = itertools.groupby(ordered, key=lambda w: (nominal_rate(w.rate_hz), w.direction))
    for (rate, direction), group in by_rate:
        for run in _runs(list(group), rate):
            for part in _even_parts(run, rate):
                made, drift = _segment(part, rate, direction)
                segments += made
                drifts += drift
    return segments, drifts


def _without_copies(ordered: list[Waveform]) -> list[Waveform]:
    """Return waveforms without those that are there twice."""
    found: list[Waveform] = []
    for w in ordered:
        last = found[-1] if found else None
        if last is None or (w.start_ns, w.samples) != (last.start_ns, last.samples) or not _same(w.data, last.data):
            found.append(w)
    return found


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _runs(waveforms: list[Waveform], rate: Fraction) -> list[list[Waveform]]:
    """Return the waveforms in runs: each begins one interval after the end of the one before, to half a sample.

    If many begin up to :data:`INEXACT` samples beside it, early as well as late, their times are that inexact.
    """
    interval = NS / (_median_rate(waveforms) or float(rate))
    off = np.array([(b.start_ns - _end(a, interval)) / interval for a, b in itertools.pairwise(waveforms)])
    beside = off[(abs(off) > UNEVEN) & (abs(off) <= INEXACT)]
    inexact = len(off) >= FEW and len(beside) > 0.1 * len(off) and beside.min() < 0 < beside.max()
    tolerance = interval * (INEXACT if inexact else UNEVEN)
    runs: list[list[Waveform]] = []
    for waveform in waveforms:
        if runs and abs(waveform.start_ns - _end(runs[-1][-1], interval)) <= tolerance:
            runs[-1].append(waveform)
        else:
            runs.append([waveform])
    return runs


def _end(waveform: Waveform, interval_ns: float) -> float:
    """Return the time of the next sample. The last one's is what the times of the records say, where there are some."""
    if waveform.samples and abs(waveform.drift) > MOST_DRIFT:
        return waveform.last_ns + interval_ns
    return waveform.start_ns + waveform.samples * interval_ns


def _median_rate(waveforms: list[Waveform]) -> float | None:
    """Return the rate that the starts of many waveforms give, if nearly all agree and the header's is nearly so."""
    if len(waveforms) < FEW:
        return None
    counts = np.array([w.samples for w in waveforms[:-1]])
    steps = np.diff(np.array([w.start_ns for w in waveforms], np.int64)).astype(float)
    periods = steps / counts
    period = float(np.median(periods))
    if period <= 0 or np.mean(np.abs(steps - counts * period) <= period / 2) < 0.8:
        return None
    rate = NS / period
    return rate if abs(rate / waveforms[0].rate_hz - 1) <= MOST_WRONG else None


def _line(run: list[Waveform]) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the samples whose times are known, and these times, in ns after the first."""
    firsts = np.cumsum([0, *(w.samples for w in run)])
    numbers = [n for k, w in enumerate(run) for n in (firsts[k], firsts[k] + w.samples - 1)]
    times = [t - run[0].start_ns for w in run for t in (w.start_ns, w.last_ns)]
    return np.array(numbers, float), np.array(times, float)


def _drift(run: list[Waveform], rate: Fraction) -> float:
    """Return how many samples longer a run is than its rate says."""
    samples = sum(w.samples for w in run)
    last = run[-1]
    start_of_last = (last.start_ns - run[0].start_ns) / NS * float(rate) - (samples - last.samples)
    return start_of_last + (last.last_ns - last.start_ns) / NS * float(rate) - (last.samples - 1)


def _even_parts(run: list[Waveform], rate: Fraction) -> list[list[Waveform]]:
    """Return a run in parts whose times lie on a straight line, or fit the header's rate."""
    if len(run) == 1 or _fits(run, rate):
        return [run]
    numbers, times = _line(run)
    fit = np.polyval(np.polyfit(numbers, times, 1), numbers)
    if np.abs(times - fit).max() * float(rate) / NS <= UNEVEN:
        return [run]
    middle = len(run) // 2
    if len(run) < FEW or _is_jitter(times - fit):
        return [run]
    return _even_parts(run[:middle], rate) + _even_parts(run[middle:], rate)


def _is_jitter(off_line: np.ndarray) -> bool:
    """Return whether neighbours lie on both sides of a line without any order, so that a finer cut helps nothing."""
    signs = np.sign(off_line[::2])
    return bool(np.mean(signs[1:] != signs[:-1]) > 0.25)


def _fits(run: list[Waveform], rate: Fraction) -> bool:
    """Return whether the times of a run are those that the rate of the header gives."""
    if len(run) == 1:
        return abs(_drift(run, rate)) <= MOST_DRIFT
    numbers, times = _line(run)
    off = times * float(rate) / NS - numbers
    return bool(np.abs(off).max() <= UNEVEN) or (abs(_drift(run, rate)) <= MOST_DRIFT and _is_jitter(off))


def _segment(
    run: list[Waveform], rate: Fraction, direction: tuple[float, float] | None
) -> tuple[list[Segment], list[Drift]]:
    data = run[0].data if len(run) == 1 else np.concatenate([w.data for w in run])
    if _fits(run, rate):
        return [Segment(run[0].start_ns, rate, data, direction)], []
    numbers, times = _line(run)
    step, start = np.polyfit(numbers, times, 1) if len(run) > 1 else (times[-1] / numbers[-1], 0.0)
    true = rational(NS / step, len(data))
    drift = Drift((float(true / rate) - 1) * 1e6, -_drift(run, rate) / float(rate), float(true))
    return [Segment(run[0].start_ns + round(start), true, data, direction)], [drift]


def rational(rate_hz: float, samples: int) -> Fraction:
    """Return the simplest fraction near a rate, so near that the last sample of many has its time to 0.05 samples."""
    largest = 32
    while True:
        found = Fraction(rate_hz).limit_denominator(largest)
        if found and abs(float(found) / rate_hz - 1) * samples <= CLOSE:
            return found
        largest *= 2
