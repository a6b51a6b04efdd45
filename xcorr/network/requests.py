"""Work items: the channels that could fill the slots of a station in a chunk, and the files that hold them."""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from xcorr.network.channels import COMPONENT_OF, COMPONENTS, own_name_first, patterns_of, preference
from xcorr.network.station_list import Station
from xcorr.network.survey import Survey
from xcorr.pes.correlating.layout import Layout
from xcorr.pes.items import HELPER, Candidate, Chunk, SlotRequest, StationRequest
from xcorr.pes.reading.waveform import NS
from xcorr.settings import Settings


@dataclasses.dataclass(frozen=True)
class Requests:
    """Work items, each made only when it is asked for, because a year of 1,000 stations has 365,000."""

    found: Survey
    settings: Settings
    layout: Layout
    todo: tuple[Chunk, ...]

    def _needed(self) -> Callable[[Chunk], list[tuple[int, tuple[int, ...]]]]:
        """Return a function that returns, for a chunk, the stations needed and the strips that need each."""
        strips = [set(self.layout.strips_of(number)) for number in range(self.layout.stations)]

        @functools.cache
        def needed(wanted: tuple[int, ...]) -> list[tuple[int, tuple[int, ...]]]:
            found = [(number, tuple(sorted(own & set(wanted)))) for number, own in enumerate(strips)]
            return [(number, own) for number, own in found if own]

        return lambda chunk: needed(tuple(self.layout.strips) if chunk.wanted is None else chunk.wanted)

    def __len__(self) -> int:
        """Return the number of work items."""
        needed = self._needed()
        return sum(len(needed(chunk)) for chunk in self.todo)

    def __iter__(self) -> Iterator[StationRequest]:
        """Yield the work items in the order of chunks."""
        needed, slots = self._needed(), slots_of(self.found, self.settings)
        for chunk in self.todo:
            for number, strips in needed(chunk):
                yield StationRequest(chunk, self.found.stations[number].name, slots(number, chunk), strips)

    def __deepcopy__(self, memo: dict[int, Any]) -> Requests:
        """Return the same object, which needs no copy because it never changes."""
        return self


def slots_of(found: Survey, settings: Settings) -> Callable[[int, Chunk], tuple[SlotRequest, ...]]:
    """Return a function of station number and chunk that returns the slots with their candidates."""
    known: dict[int, _Channels] = {}

    def of(number: int, chunk: Chunk) -> tuple[SlotRequest, ...]:
        if number not in known:
            known[number] = _Channels(found.stations[number], found, settings)
        channels = known[number]
        return _slots(number, channels.candidates(chunk), channels, settings)

    return of


class _Channels:
    """The channels of a station, by time. What could fill its slots is found for one chunk when it is asked for."""

    def __init__(self, station: Station, found: Survey, settings: Settings) -> None:
        self.station = station
        self.patterns = patterns_of(station.channels, settings)
        self.size, self.slack = settings.data.chunk_s * NS, found.index.slack_ns
        every = found.index.coverages.get((station.network, station.index_code), [])
        coverages = [c for c in every if c.start_ns < station.within[1] and c.end_ns > station.within[0]]
        good = [c for c in coverages if not c.refused]
        self.coverages = sorted(good, key=lambda c: c.start_ns)  # stable: else the order of the source stays
        self.turned = any(c.turned for c in good)
        self.refused: dict[str, str] = {}
        for c in coverages:
            if c.refused and preference(c, self.patterns, COMPONENTS) is not None:
                self.refused.setdefault(COMPONENT_OF[c.channel[-1]], c.refused)
        self.starts = np.array([c.start_ns for c in self.coverages], np.int64)
        self.longest = max((c.end_ns - c.start_ns for c in self.coverages), default=0)

    def candidates(self, chunk: Chunk) -> dict[str, list[Candidate]]:
        """Return the channels that could fill a slot in a chunk, best first, by component."""
        start, end = chunk.start_ns, chunk.start_ns + self.size
        first, stop = np.searchsorted(self.starts, [start - self.longest - self.slack, end]).tolist()
        files: dict[tuple[str, int, str, tuple[bool, str]], list[str]] = defaultdict(list)
        for coverage in self.coverages[first:stop]:
            # all components, because rotation may need some that are not wanted
            rank = preference(coverage, self.patterns, COMPONENTS)
            if rank is None or coverage.end_ns + self.slack <= start:
                continue
            letter = COMPONENT_OF[coverage.channel[-1]]
            paths = files[letter, rank, coverage.location, own_name_first(coverage.channel)]
            if coverage.path not in paths:
                paths.append(coverage.path)
        by_component: dict[str, list[Candidate]] = defaultdict(list)
        for (letter, _, location, (_, channel)), paths in sorted(files.items()):
            network, code = self.station.network, self.station.source_code
            by_component[letter].append(Candidate(network, code, location, channel, tuple(paths)))
        return by_component


def _slots(
    number: int, by_component: dict[str, list[Candidate]], channels: _Channels, settings: Settings
) -> tuple[SlotRequest, ...]:
    """Return a station's slots. If channels must be rotated, add the helper channels that rotation needs."""
    wanted, within = settings.components, channels.station.within

    def slot(slot: int, letter: str) -> SlotRequest:
        return SlotRequest(slot, letter, tuple(by_component.get(letter, ())), channels.refused.get(letter, ""), within)

    slots = [slot(number * len(wanted) + k, letter) for k, letter in enumerate(wanted)]
    letters = {c.channel[-1] for slot in slots for c in slot.candidates}
    if letters & set("UVW"):
        helpers = set("ZNE")  # U, V and W are tilted, so each component needs all three
    elif letters & set("12") or ((settings.data.metadata is not None or channels.turned) and letters & set("NE")):
        helpers = set("NE")
    else:
        helpers = set()
    more = sorted((helpers - set(wanted)) & by_component.keys())
    return (*slots, *(slot(HELPER, letter) for letter in more))
