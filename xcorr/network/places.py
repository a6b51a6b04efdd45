"""Where stations were at the time of their data: stations that were moved."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from xcorr.network.station_list import Station
from xcorr.pes.reading.source import Coverage
from xcorr.pes.reading.waveform import Coordinates, Place, day_of

ALWAYS = (-(2**62), 2**62)
NEXT = "@{}"  # ends the code of a station at its second, third, ... place


def metres(a: Coordinates, b: Coordinates) -> float:
    """Return the distance of two places on WGS84."""
    from pyproj import Geod

    return float(Geod(ellps="WGS84").inv(a.longitude, a.latitude, b.longitude, b.latitude)[2])


def placed(
    station: Station,
    places: Sequence[Place],
    data: Sequence[Coverage],
    limits: tuple[int | None, int | None],
    apart_m: float,
    known: Coordinates | None,
) -> tuple[list[Station], list[str]]:
    """Return a station at the places where it has data within limits (ns), and what is to be said of them.

    Places nearer to each other than ``apart_m`` are one, with the coordinates of most data; others are stations of
    their own, the later ones with ``@2``, ``@3`` ... after their code. ``known`` are the coordinates that the campaign
    has already: those of a campaign that was begun without its earlier places stay.
    """
    ordered = sorted(places, key=lambda p: p.start_ns)
    used = [(p, s) for p in ordered if (s := _seconds(p, data))]
    if not used:
        outside = bool(data) and bool(ordered)
        at = ordered[-1].at if ordered else station.coordinates
        text = f"{station.name}: no epoch of its coordinates is that of its data; those of the last epoch are used"
        return [dataclasses.replace(station, coordinates=at)], [text] * outside
    groups: list[list[tuple[Place, float]]] = []
    for place, size in used:
        if groups and metres(groups[-1][-1][0].at, place.at) <= apart_m:
            groups[-1].append((place, size))
        else:
            groups.append([(place, size)])
    if known is not None and known.are_known and metres(known, _most(groups[0])) > apart_m:
        groups = [[entry for group in groups for entry in group]]
    moves = _moves(used)
    texts = [f"{station.name} was moved {moves}"] if moves else []
    stations = []
    for number, group in enumerate(groups, 1):
        within = (
            ALWAYS[0] if number == 1 else group[0][0].start_ns,
            ALWAYS[1] if number == len(groups) else groups[number][0][0].start_ns,
        )
        code = station.code + (NEXT.format(number) if number > 1 else "")
        if any(_seconds(Place(place.at, *_common(place, limits)), data) for place, _ in group):
            stations.append(dataclasses.replace(station, code=code, coordinates=_most(group), within=within))
    if len(groups) > 1:
        names = ", ".join(s.name for s in stations)
        texts[0] += f"; places more than data.moved_m = {apart_m:g} m apart are stations of their own: {names}"
    elif texts:
        texts[0] += "; the place with most data counts for all"
    return stations, texts


def _common(place: Place, limits: tuple[int | None, int | None]) -> tuple[int, int]:
    """Return the time of a place within limits."""
    first, last = (always if ns is None else ns for ns, always in zip(limits, ALWAYS, strict=True))
    return max(place.start_ns, first), min(place.end_ns, last)


def _seconds(place: Place, data: Sequence[Coverage]) -> float:
    """Return the seconds of data at a place."""
    return sum(max(0, min(c.end_ns, place.end_ns) - max(c.start_ns, place.start_ns)) for c in data) / 1e9


def _most(group: Sequence[tuple[Place, float]]) -> Coordinates:
    return max(group, key=lambda entry: entry[1])[0].at


def _moves(used: Sequence[tuple[Place, float]]) -> str:
    steps = [(metres(a.at, b.at), day_of(b.start_ns)) for (a, _), (b, _) in itertools.pairwise(used)]
    return ", ".join(f"by {apart:.0f} m on {day}" for apart, day in steps if apart)
