"""Rotates channels of any orientation to the components Z, N and E, and these components to R and T.

R = cos(az) N + sin(az) E and T = -sin(az) N + cos(az) E at both stations of a pair, az from station 1 to 2.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from xcorr.pes.items import HELPER, Bool, Float32, Float64, Segment, SlotAccount
from xcorr.pes.preparing.windows import USED
from xcorr.pes.reading.metadata import Metadata, is_pressure
from xcorr.pes.reading.used_metadata import UNIT, vector
from xcorr.pes.reading.waveform import NS

UNKNOWN = "the direction of {} is not known: set data.metadata to a StationXML file with it"
NOTHING_IN_COMMON = "the channels it is made of have no valid sample in common"
NEGLIGIBLE = 1e-6
NEARLY_DEG = 5.0  # channels named Z, N or E may differ so much from their names (SEED manual, appendix A)


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """The direction of a channel from a time (ns) on: a unit vector (up, north, east), or why it is not known."""

    start_ns: int
    direction: tuple[float, float, float] | str


@dataclasses.dataclass(frozen=True, slots=True)
class Trace:
    """A conditioned channel that fills the slot of a component; arrays are None where it has no data.

    ``spans`` are its directions, by time; the first one begins before the chunk.
    """

    component: str
    account: SlotAccount
    data: Float32 | None
    mask: Bool | None
    verdict: np.ndarray | None
    spans: tuple[Span, ...] = ()


def spans_of(
    seed_id: str,
    component: str,
    segments: Sequence[Segment],
    metadata: Metadata,
    times_ns: Sequence[int],
    start_ns: int,
) -> tuple[Span, ...]:
    """Return the directions of a channel in a chunk that begins at ``start_ns``.

    They come from the metadata, whose epochs change at ``times_ns``; else from the files; else from the last letter of
    the channel, which must be Z, N or E. ``component`` stands for the letter of data without a channel.
    """
    letter = seed_id[-1:] or component
    starts = sorted({start_ns, *times_ns, *(s.start_ns for s in segments if s.direction is not None)})
    spans: list[Span] = []
    for start in starts:
        known = metadata.orientation(seed_id, start)
        if known is None:
            before = [s for s in segments if s.start_ns <= start] or list(segments[:1])
            known = before[-1].direction if before else None
        direction = vector(*known) if known else UNIT.get(letter, UNKNOWN.format(seed_id))
        if not spans or spans[-1].direction != direction:
            spans.append(Span(start, direction))
    return tuple(spans)


def to_components(traces: Sequence[Trace], start_ns: int, rate_hz: Fraction) -> list[Trace]:
    """Return the traces of the wanted slots, turned from the channels' directions to Z, N and E.

    A component is a linear combination of the channels, with the direction of the component. A sample is valid if it is
    valid in all channels of the combination. A window is rejected if it is rejected in one of these channels. Where no
    combination has the direction, the slot has no data, and its account gives the reason. Samples begin at
    ``start_ns``.
    """
    known = [t for t in traces if t.data is not None and not is_pressure(t.component)]
    bounds = sorted({_sample(s.start_ns, start_ns, rate_hz) for t in known for s in t.spans[1:]})
    size = len(known[0].data) if known and known[0].data is not None else 0
    edges = [0, *(b for b in bounds if 0 < b < size), size]
    parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
    directions = [[_direction_at(t, part.start, start_ns, rate_hz) for t in known] for part in parts]
    turned = []
    for trace in traces:
        if trace.account.slot == HELPER:
            continue
        if trace.data is None or not trace.component or is_pressure(trace.component):
            turned.append(trace)
        else:
            own = next(k for k, t in enumerate(known) if t is trace)
            turned.append(_combined(own, known, parts, directions))
    return turned


def _sample(time_ns: int, start_ns: int, rate_hz: Fraction) -> int:
    return math.ceil((time_ns - start_ns) * rate_hz / NS)


def _direction_at(trace: Trace, sample: int, start_ns: int, rate_hz: Fraction) -> tuple[float, float, float] | str:
    begun = [s for s in trace.spans if _sample(s.start_ns, start_ns, rate_hz) <= sample]
    return begun[-1].direction if begun else trace.spans[0].direction


def _combined(
    own: int, known: Sequence[Trace], parts: Sequence[slice], directions: Sequence[Sequence[tuple[float, ...] | str]]
) -> Trace:
    """Return the component of a slot, combined in each part of the chunk by the directions of the channels there."""
    trace = known[own]
    recipes = [_weights(own, trace, known, where) for where in directions]
    if all(isinstance(r, dict) and r == {own: 1.0} for r in recipes):
        return trace
    mask, data = np.zeros_like(np.asarray(trace.mask)), np.zeros_like(np.asarray(trace.data))
    used: dict[int, Trace] = {}
    reasons: list[str] = []
    for part, recipe in zip(parts, recipes, strict=True):
        if isinstance(recipe, str):
            reasons += [recipe] * bool(np.any(np.asarray(trace.mask)[part]))
            continue
        used |= {k: known[k] for k in recipe}
        mask[part] = np.all([np.asarray(known[k].mask)[part] for k in recipe], axis=0)
        for k, weight in recipe.items():
            data[part] += np.float32(weight) * np.asarray(known[k].data)[part]
    if not mask.any():
        return _failed(trace, "; ".join(dict.fromkeys(reasons)) or NOTHING_IN_COMMON)
    verdicts = np.array([t.verdict for t in used.values()])
    files = tuple(dict.fromkeys(file for t in (*used.values(), trace) for file in t.account.files))
    reason = "; ".join(dict.fromkeys(filter(None, [trace.account.reason, *reasons])))
    tokens = dict.fromkeys(word for t in (trace, *used.values()) for word in t.account.metadata.split())
    account = dataclasses.replace(trace.account, files=files, reason=reason, metadata=" ".join(tokens))
    # USED is 0, so a rejection in any channel wins
    return Trace(trace.component, account, data * mask, mask, verdicts.max(axis=0, initial=USED))


def _weights(
    own: int, trace: Trace, known: Sequence[Trace], directions: Sequence[tuple[float, ...] | str]
) -> dict[int, float] | str:
    """Return the weights of the channels that make a component, or why none do."""
    own_direction = directions[own]
    if isinstance(own_direction, str):
        return own_direction
    sensor = trace.account.seed_id[:-1]  # channels of another sensor have another gain
    there = [k for k, d in enumerate(directions) if not isinstance(d, str) and known[k].account.seed_id[:-1] == sensor]
    weights = _solved(tuple(tuple(map(float, directions[k])) for k in there), trace.component)
    if weights is None:
        if abs(np.array(own_direction) @ np.array(UNIT[trace.component])) < np.cos(np.deg2rad(NEARLY_DEG)):
            return f"the directions of the channels with data do not give {trace.component}"
        return {own: 1.0}
    return {k: w for k, w in zip(there, weights, strict=True) if w}


@functools.lru_cache(maxsize=1024)  # the same for most stations and days
def _solved(directions: tuple[tuple[float, ...], ...], component: str) -> tuple[float, ...] | None:
    """Return the weights with which channels of these directions make a component; None if they cannot."""
    matrix, wanted = np.array(directions), np.array(UNIT[component])
    weights = np.linalg.lstsq(matrix.T, wanted, rcond=None)[0]
    weights[np.abs(weights) < NEGLIGIBLE] = 0.0  # rounding errors must not cost samples where such a channel has a gap
    return tuple(weights.tolist()) if np.abs(matrix.T @ weights - wanted).max() <= 1e-3 else None


def _failed(trace: Trace, reason: str) -> Trace:
    return Trace(trace.component, dataclasses.replace(trace.account, status="failed", reason=reason), None, None, None)


def rotated(tensor: Mapping[str, np.ndarray], azimuth_deg: Float64, pair: str) -> np.ndarray:
    """Return a component pair of R, T and Z, computed from pairs of Z, N and E.

    Arrays are [..., pair, lag], azimuths [pair]. The first letter is the component of station 1. The result is NaN
    where the azimuth is not known.
    """
    az = np.deg2rad(azimuth_deg)[:, None]
    weights = {"R": {"N": np.cos(az), "E": np.sin(az)}, "T": {"N": -np.sin(az), "E": np.cos(az)}}
    first, second = (weights.get(letter, {letter: np.ones_like(az)}) for letter in pair)
    total: np.ndarray = sum(wa * wb * tensor[a + b] for a, wa in first.items() for b, wb in second.items())
    return total


def stored_pairs(pair: str) -> tuple[str, ...]:
    """Return the component pairs of Z, N, E that a pair is made of.

    >>> stored_pairs("RZ"), stored_pairs("ZZ")
    (('NZ', 'EZ'), ('ZZ',))
    """
    first, second = ("NE" if letter in "RT" else letter for letter in pair)
    return tuple(a + b for a in first for b in second)
