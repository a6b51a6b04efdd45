"""Which metadata a channel was made with, in words, as the ledger keeps them: :attr:`SlotAccount.metadata`.

The words are ``NET.STA.LOC.CHA=DIGEST`` for every channel of which a slot was made, for its direction and response, and
``within=START,END`` (ns) if the station was elsewhere during a part of the chunk.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from typing import Any

import numpy as np

from xcorr.pes.items import Chunk
from xcorr.pes.reading.metadata import Metadata, evaluated, units_of

UNIT = {"Z": (1.0, 0.0, 0.0), "N": (0.0, 1.0, 0.0), "E": (0.0, 0.0, 1.0)}  # up, north, east
WITHIN = "within="


def place_word(within: tuple[int, int], chunk: Chunk) -> str:
    """Return the word for the time (ns) of a station at its place in a chunk; none for the whole chunk."""
    start, stop = max(within[0], chunk.start_ns), min(within[1], chunk.end_ns)
    return "" if (start, stop) == (chunk.start_ns, chunk.end_ns) else f"{WITHIN}{start},{max(start, stop)}"


def place_and_channels(words: str) -> tuple[str, dict[str, str]]:
    """Return the word for the place, and the digests by channel. Accounts without data name no channels.

    >>> place_and_channels("within=5,9 XX.A..BHZ=1f2e3d4c")
    ('within=5,9', {'XX.A..BHZ': '1f2e3d4c'})
    """
    place, channels = "", {}
    for word in words.split():
        if word.startswith(WITHIN):
            place = word
        else:
            seed_id, _, digest = word.partition("=")
            channels[seed_id] = digest
    return place, channels


def vector(azimuth_deg: float, dip_deg: float) -> tuple[float, float, float]:
    """Return the unit vector (up, north, east) of an azimuth and a dip."""
    azimuth, dip = np.deg2rad((azimuth_deg, dip_deg))
    return float(-np.sin(dip)), float(np.cos(dip) * np.cos(azimuth)), float(np.cos(dip) * np.sin(azimuth))


class Digests:
    """What metadata say of channels in a time: where they point, and with ``units`` of ground motion responses.

    Channels that the metadata do not have point where their last letter says, or where their files say. Responses are
    compared by their values at three frequencies of a band, to six digits, however they are written.
    """

    def __init__(self, metadata: Metadata, units: str, band_hz: tuple[float, float]) -> None:
        self.metadata, self.units = metadata, units
        low, high = band_hz
        self.frequencies_hz = [low, math.sqrt(low * high), high]
        self._known: dict[tuple[str, bool], list[tuple[int, str, float | None]]] = {}

    def of(self, seed_id: str, start_ns: int, end_ns: int, in_files: bool = False) -> str:
        """Return ``NET.STA.LOC.CHA=DIGEST`` for a time; ``in_files``: the files say where the channel points."""
        if not seed_id:
            return ""
        inside: list[tuple[int, str]] = []
        for begin, what, _ in self._parts(seed_id, in_files):
            if begin <= start_ns:
                inside = [(start_ns, what)]
            elif begin < end_ns and what != inside[-1][1]:
                inside.append((begin, what))
        return f"{seed_id}={hashlib.blake2b(repr(inside).encode(), digest_size=4).hexdigest()}"

    def changes(self, seed_id: str, in_files: bool = False) -> list[int]:
        """Return the times (ns) at which a channel is turned, or its sensitivity changes."""
        parts = self._parts(seed_id, in_files)
        times = []
        for (_, before, gain_before), (begin, after, gain_after) in itertools.pairwise(parts):
            same_gain = gain_before is None or gain_after is None or gain_before == gain_after
            if before != after or not same_gain:
                times.append(begin)
        return times

    def _parts(self, seed_id: str, in_files: bool) -> list[tuple[int, str, float | None]]:
        """Return the begin (ns), the text and the sensitivity of every part of time in which nothing changes."""
        key = seed_id, in_files
        if key not in self._known:
            times = (-(2**62), *self.metadata.epoch_starts(seed_id))
            self._known[key] = [self._part(seed_id, t, in_files) for t in times]
        return self._known[key]

    def _part(self, seed_id: str, time_ns: int, in_files: bool) -> tuple[int, str, float | None]:
        found = self.metadata.orientation(seed_id, time_ns)
        direction = vector(*found) if found else None if in_files else UNIT.get(seed_id[-1:])
        text = "in the files" if direction is None else " ".join(f"{x + 0.0:.5f}" for x in direction)
        epochs = self.metadata.channels_at(seed_id, time_ns)
        response = epochs[-1].response if epochs else None
        sensitivity = response.instrument_sensitivity if response else None
        return time_ns, f"{text} {self._response(seed_id, response)}", sensitivity.value if sensitivity else None

    def _response(self, seed_id: str, response: Any) -> str:
        if self.units == "none" or response is None or not response.response_stages:
            return ""
        try:
            values = evaluated(response, self.frequencies_hz, units_of(seed_id, self.units))
        except Exception:  # ObsPy and evalresp raise anything on impossible responses; their removal tells of it
            return "impossible"
        return " ".join(f"{v:.5e}" for v in values)
