"""Rotates channels of any orientation to the components Z, N and E, and these components to R and T.

R = cos(az) N + sin(az) E and T = -sin(az) N + cos(az) E at both stations of a pair, az from station 1 to 2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xcorr.pes.items import HELPER, Bool, Float32, Float64, SlotAccount
from xcorr.pes.preparing.windows import USED
from xcorr.pes.reading.metadata import MetadataError, orientation

UNIT = {"Z": (1.0, 0.0, 0.0), "N": (0.0, 1.0, 0.0), "E": (0.0, 0.0, 1.0)}
NEGLIGIBLE = 1e-6
NEARLY_DEG = 5.0  # channels named Z, N or E may differ so much from their names (SEED manual, appendix A)


@dataclasses.dataclass(frozen=True, slots=True)
class Trace:
    """A conditioned channel that fills the slot of a component; arrays are None where it has no data."""

    component: str
    account: SlotAccount
    data: Float32 | None
    mask: Bool | None
    verdict: np.ndarray | None


def to_components(traces: Sequence[Trace], inventory: Any, time_ns: int) -> list[Trace]:
    """Return the traces of the wanted slots, turned from the channels' directions to Z, N and E.

    A component is a linear combination of the channels, with the direction of the component. A sample is valid if it is
    valid in all channels of the combination. A window is rejected if it is rejected in one of these channels. If no
    combination has the direction, the slot fails with the reason. Without metadata, the last letter of a channel gives
    its direction, so other letters than Z, N and E need metadata.
    """
    directions: dict[int, tuple[float, float, float]] = {}
    unknown: dict[int, str] = {}
    for k, trace in enumerate(traces):
        if trace.data is not None:
            try:
                directions[k] = _direction(trace, inventory, time_ns)
            except MetadataError as error:
                unknown[k] = str(error)
    matrix = np.array(list(directions.values())).reshape(-1, 3)
    turned = []
    for k, trace in enumerate(traces):
        if trace.account.slot == HELPER:
            continue
        if trace.data is None or not trace.component:
            turned.append(trace)
        elif k in unknown:
            turned.append(_failed(trace, unknown[k]))
        else:
            turned.append(_combined(list(directions).index(k), [traces[d] for d in directions], matrix))
    return turned


def _direction(trace: Trace, inventory: Any, time_ns: int) -> tuple[float, float, float]:
    """Return the unit vector (up, north, east) of a channel."""
    seed_id = trace.account.seed_id
    letter = seed_id[-1:] or trace.component
    found = None if inventory is None or not seed_id else orientation(inventory, seed_id, time_ns)
    if found is None:
        if letter in UNIT:
            return UNIT[letter]
        raise MetadataError(f"the direction of {seed_id} is not known: set data.metadata to a StationXML file with it")
    azimuth, dip = np.deg2rad(found)
    direction = -np.sin(dip), np.cos(dip) * np.cos(azimuth), np.cos(dip) * np.sin(azimuth)
    return float(direction[0]), float(direction[1]), float(direction[2])


def _combined(own: int, known: Sequence[Trace], matrix: np.ndarray) -> Trace:
    """Return the component of a slot, combined from channels with the directions ``matrix`` [channel, 3]."""
    trace = known[own]
    wanted = np.array(UNIT[trace.component])
    weights = np.linalg.lstsq(matrix.T, wanted, rcond=None)[0]
    weights[np.abs(weights) < NEGLIGIBLE] = 0.0  # rounding errors must not cost samples where such a channel has a gap
    if np.abs(matrix.T @ weights - wanted).max() > 1e-3:
        if abs(matrix[own] @ wanted) < np.cos(np.deg2rad(NEARLY_DEG)):
            return _failed(trace, f"the directions of the channels with data do not give {trace.component}")
        weights = np.eye(len(known))[own]
    parts = [(w, t) for w, t in zip(weights, known, strict=True) if w]
    if len(parts) == 1 and parts[0][0] == 1.0 and parts[0][1] is trace:
        return trace
    mask: Bool = np.all([np.asarray(t.mask) for _, t in parts], axis=0)
    data: Float32 = np.zeros(len(mask), np.float32)
    for weight, part in parts:
        data += np.float32(weight) * np.asarray(part.data)
    verdicts = np.array([t.verdict for _, t in parts])
    if not mask.any():
        return _failed(trace, "the channels it is made of have no valid sample in common")
    files = tuple(dict.fromkeys(file for _, part in parts for file in part.account.files))
    account = dataclasses.replace(trace.account, files=files)
    # USED is 0, so a rejection in any channel wins
    return Trace(trace.component, account, data * mask, mask, verdicts.max(axis=0, initial=USED))


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
