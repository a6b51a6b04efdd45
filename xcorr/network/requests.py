"""Work items: the channels that could fill the slots of a station in a chunk, and the files that hold them."""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from xcorr.network.channels import COMPONENT_OF, own_name_first, patterns_of, preference
from xcorr.network.station_list import Station
from xcorr.network.survey import Survey
from xcorr.pes.correlating.layout import Layout
from xcorr.pes.items import HELPER, Candidate, Chunk, SlotRequest, StationRequest
from xcorr.pes.reading.segments import NS
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
    chosen: dict[int, dict[int, dict[str, list[Candidate]]]] = {}

    def of(number: int, chunk: Chunk) -> tuple[SlotRequest, ...]:
        if number not in chosen:
            chosen[number] = _candidates_by_chunk(found.stations[number], found, settings)
        return _slots(number, chosen[number].get(chunk.start_ns, {}), settings)

    return of


def _candidates_by_chunk(station: Station, found: Survey, settings: Settings) -> dict[int, dict[str, list[Candidate]]]:
    """Return the channels that could fill a slot, best first, by start of chunk (ns) and component."""
    size = settings.data.chunk_s * NS
    starts = {chunk.start_ns for chunk in found.chunks}
    patterns = patterns_of(station.channels, settings)
    components = ("Z", "N", "E")  # all, because rotation may need components that are not wanted
    files: dict[tuple[int, str, int, str, tuple[bool, str]], list[str]] = defaultdict(list)
    for coverage in found.index.coverages.get((station.network, station.code), []):
        rank = preference(coverage, patterns, components)
        if rank is None:
            continue
        first, stop = coverage.start_ns // size, -(-(coverage.end_ns + found.index.slack_ns) // size)
        for number in range(first, stop):
            if number * size not in starts:
                continue
            letter = COMPONENT_OF[coverage.channel[-1]]
            key = number * size, letter, rank, coverage.location, own_name_first(coverage.channel)
            if coverage.path not in files[key]:
                files[key].append(coverage.path)
    by_chunk: dict[int, dict[str, list[Candidate]]] = defaultdict(lambda: defaultdict(list))
    for (start, letter, _, location, (_, channel)), paths in sorted(files.items()):
        candidate = Candidate(station.network, station.code, location, channel, tuple(paths))
        by_chunk[start][letter].append(candidate)
    return by_chunk


def _slots(number: int, by_component: dict[str, list[Candidate]], settings: Settings) -> tuple[SlotRequest, ...]:
    """Return a station's slots. If channels must be rotated, add the helper channels that rotation needs."""
    wanted = settings.components
    slots = [
        SlotRequest(number * len(wanted) + k, letter, tuple(by_component.get(letter, ())))
        for k, letter in enumerate(wanted)
    ]
    letters = {c.channel[-1] for slot in slots for c in slot.candidates}
    if letters & set("UVW"):
        helpers = set("ZNE")  # U, V and W are tilted, so each component needs all three
    elif letters & set("12") or (settings.data.metadata is not None and letters & set("NE")):
        helpers = set("NE")
    else:
        helpers = set()
    more = sorted((helpers - set(wanted)) & by_component.keys())
    return (*slots, *(SlotRequest(HELPER, letter, tuple(by_component[letter])) for letter in more))
