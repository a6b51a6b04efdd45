"""Which channels of a station are tried first in a chunk."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Sequence

from xcorr.pes.items import Candidate, RawChannel, SlotRequest


def most_complete_first(
    slots: Sequence[SlotRequest], read: Callable[[SlotRequest, Candidate], RawChannel]
) -> tuple[SlotRequest, ...]:
    """Return slots whose candidates are in the order of the seconds of usable data of their sensors, over all slots.

    A sensor has all channels with the same location and code but for the last letter, so that components of one
    chunk come from one sensor where they can. Sensors with the same whole seconds keep their order.
    """
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    for slot in slots:
        for candidate in slot.candidates:
            segments = read(slot, candidate).segments
            seconds[_sensor(candidate)] += sum(len(s.data) / float(s.rate_hz) for s in segments)
    return tuple(
        dataclasses.replace(slot, candidates=tuple(sorted(slot.candidates, key=lambda c: -round(seconds[_sensor(c)]))))
        for slot in slots
    )


def _sensor(candidate: Candidate) -> tuple[str, str]:
    return candidate.location, candidate.channel[:-1]
