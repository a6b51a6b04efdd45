"""Where stations were at the time of their data: stations that were moved."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

from xcorr.network.station_list import Station
from xcorr.pes.reading.source import Coverage
from xcorr.pes.reading.waveform import Coordinates, Place, day_of

ALWAYS = (-(2**62), 2**62)
NEXT = "@{}"  # ends the code of a station at its second, third, ... place


def metres(a: Coordinates, b: Coordinates) -> float:
    """Return the distance of two places on WGS84."""
    if (a.longitude, a.latitude) == (b.longitude, b.latitude):
        return 0.0  # of most stations, and importing pyproj takes a while
    from pyproj import Geod

    return float(Geod(ellps="WGS84").inv(a.longitude, a.latitude, b.longitude, b.latitude)[2])


def placed(
    station: Station,
    places: Sequence[Place],
    data: Sequence[Coverage],
    limits: tuple[int | None, int | None],
    apart_m: float,
    known: Mapping[str, Coordinates],
) -> tuple[list[Station], list[str]]:
    """Return a station at the places where it has data within limits (ns), and what is to be said of them.

    Places nearer than ``apart_m`` to the first of them are one, with the coordinates of most data; others are stations
    of their own, with ``@2``, ``@3`` ... after their code. ``known`` are the stations that the campaign has at places
    of this station, by code: a place that it has keeps its code. If it has none of several places, all count as its
    one.
    """
    ordered = _in_turn(places)
    used = [(p, s) for p in ordered if (s := _seconds(data, p.start_ns, p.end_ns))]
    if not used:
        outside = bool(data) and bool(ordered)
        at = ordered[-1].at if ordered else station.coordinates
        text = f"{station.name}: no epoch of its coordinates is that of its data; those of the last epoch are used"
        return [dataclasses.replace(station, coordinates=at)], [text] * outside
    groups: list[list[Place]] = []
    for place in ordered:
        if groups and metres(groups[-1][0].at, place.at) <= apart_m:
            groups[-1].append(place)
        else:
            groups.append([place])
    codes = _codes(station.code, groups, apart_m, known)
    if len(groups) > 1 and known and not set(codes) & known.keys():
        groups, codes = [ordered], [station.code]
    stations = []
    for k, (group, code) in enumerate(zip(groups, codes, strict=True)):
        first = group[0].start_ns if k else ALWAYS[0]
        stop = groups[k + 1][0].start_ns if k + 1 < len(groups) else ALWAYS[1]
        if _seconds(data, *_common(first, stop, limits)):
            most = max(group, key=lambda p: _seconds(data, p.start_ns, p.end_ns))
            stations.append(dataclasses.replace(station, code=code, coordinates=most.at, within=(first, stop)))
    return stations, _remarks(station, used, stations, apart_m)


def _in_turn(places: Sequence[Place]) -> list[Place]:
    """Return places by time: of those that begin together only the first, and equal ones in a row as one."""
    found: list[Place] = []
    for place in sorted(places, key=lambda p: p.start_ns):
        if found and place.at == found[-1].at:
            found[-1] = Place(place.at, found[-1].start_ns, max(found[-1].end_ns, place.end_ns))
        elif not found or place.start_ns > found[-1].start_ns:
            found.append(place)
    return found


def _codes(code: str, groups: Sequence[Sequence[Place]], apart_m: float, known: Mapping[str, Coordinates]) -> list[str]:
    """Return the code of every group of places: that of the campaign, or the first that is free."""
    codes = [
        next((c for c, at in known.items() if at.are_known and metres(at, group[0].at) <= apart_m), "")
        for group in groups
    ]
    free = (c for n in itertools.count(1) if (c := code + (NEXT.format(n) if n > 1 else "")) not in {*codes, *known})
    if len(groups) == 1 and not codes[0]:
        return [code]  # its coordinates were corrected
    return [c or next(free) for c in codes]


def _common(first_ns: int, stop_ns: int, limits: tuple[int | None, int | None]) -> tuple[int, int]:
    """Return the part of a time within limits."""
    low, high = (always if ns is None else ns for ns, always in zip(limits, ALWAYS, strict=True))
    return max(first_ns, low), min(stop_ns, high)


def _seconds(data: Sequence[Coverage], first_ns: int, stop_ns: int) -> float:
    """Return the seconds of data within a time."""
    return sum(max(0, min(c.end_ns, stop_ns) - max(c.start_ns, first_ns)) for c in data) / 1e9


def _remarks(
    station: Station, used: Sequence[tuple[Place, float]], stations: Sequence[Station], apart_m: float
) -> list[str]:
    steps = [(metres(a.at, b.at), day_of(b.start_ns)) for (a, _), (b, _) in itertools.pairwise(used)]
    moves = ", ".join(f"by {apart:.0f} m on {day}" for apart, day in steps if apart)
    if not moves:
        return []
    text = f"{station.name} was moved {moves}; "
    if len(stations) == 1 and stations[0].within == ALWAYS:
        return [f"{text}one place counts for all of its data, with the latitude {stations[0].coordinates.latitude:g}"]
    names = ", ".join(s.name for s in stations)
    return [f"{text}places more than data.moved_m = {apart_m:g} m apart are stations of their own: {names}"]
