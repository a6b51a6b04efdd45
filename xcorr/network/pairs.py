"""Which pairs are wanted: by name, network, distance and azimuth."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

import numpy as np

from xcorr.network.station_list import Station
from xcorr.pes.items import Bool, Float64, Int64
from xcorr.settings.schema import SettingsError
from xcorr.settings.sections import Correlate


def geometry(stations: Sequence[Station], i: Int64, j: Int64) -> tuple[Float64, Float64, Float64]:
    """Return distance (m), azimuth and back-azimuth (degrees) of pairs on WGS84, from 1 to 2.

    NaN where a place is not known; azimuths also where the distance is 0.
    """
    from pyproj import Geod

    longitude = np.array([s.coordinates.longitude for s in stations])
    latitude = np.array([s.coordinates.latitude for s in stations])
    known = np.isfinite(longitude[i] + longitude[j] + latitude[i] + latitude[j])
    ends = [np.where(known, x, 0.0) for x in (longitude[i], latitude[i], longitude[j], latitude[j])]
    azimuth, back, distance = Geod(ellps="WGS84").inv(ends[0], ends[1], ends[2], ends[3])
    apart = known & (distance > 0)
    return (
        np.where(known, distance, np.nan),
        np.where(apart, azimuth % 360, np.nan),
        np.where(apart, back % 360, np.nan),
    )


def chosen_pairs(stations: Sequence[Station], wanted: Correlate) -> Bool:
    """Return which pairs are wanted, [station, station], above or on the diagonal.

    A pair must pass every selection that is set. ``pairs``: one of the patterns names the pair, in either order.
    ``distance_km``: the distance lies within the limits. ``azimuth_deg``: the azimuth from one of the two stations to
    the other lies in the sector. ``networks``: the stations are of the same network, or of two. Autocorrelations have
    no distance and no azimuth, so only names and networks select them. Raises SettingsError if distances or azimuths
    are asked for and a station has no coordinates.
    """
    count = len(stations)
    chosen = np.triu(np.ones((count, count), bool), 0 if wanted.autocorrelations else 1)
    same = [(s.network, s.index_code) for s in stations]  # a station that was moved makes no pair with itself
    for k in (k for k, s in enumerate(stations) if s.code != s.index_code):
        others = [n for n in range(count) if n != k and same[n] == same[k]]
        chosen[others, k] = chosen[k, others] = False
    if wanted.pairs:
        chosen &= _named(stations, wanted.pairs)
    codes = np.array([s.network for s in stations])
    if wanted.networks != "all":
        chosen &= (codes[:, None] == codes[None, :]) == (wanted.networks == "within")
    if wanted.distance_km is not None or wanted.azimuth_deg is not None:
        key = "distance_km" if wanted.distance_km is not None else "azimuth_deg"
        lost = [s.name for s in stations if not np.isfinite(s.coordinates.latitude + s.coordinates.longitude)]
        if lost:
            raise SettingsError(
                f"correlate.{key} needs coordinates, which {', '.join(lost[:5])} lack; give coordinates in the list "
                "(CSV) or with data.metadata"
            )
        i, j = np.triu_indices(count, 1)
        distance, azimuth, back = geometry(stations, i, j)
        passes = np.ones(len(i), bool)
        if wanted.distance_km is not None:
            passes &= (distance >= 1000 * wanted.distance_km[0]) & (distance <= 1000 * wanted.distance_km[1])
        if wanted.azimuth_deg is not None:
            start, stop = wanted.azimuth_deg
            width = 360.0 if stop - start >= 360 else (stop - start) % 360
            passes &= np.any([(a - start) % 360 <= width for a in (azimuth, back)], axis=0)
        chosen[i, j] &= passes
    return chosen


def _named(stations: Sequence[Station], patterns: Sequence[str]) -> Bool:
    # a name is that of all its places and sensors
    names = [(s.name, f"{s.network}.{s.index_code}", f"{s.network}.{s.source_code}") for s in stations]
    named = np.zeros((len(names), len(names)), bool)
    for pattern in patterns:
        ends = [end.strip() for end in pattern.split("-")]
        first, second = ([any(fnmatch.fnmatchcase(n, end) for n in own) for own in names] for end in ends)
        named |= np.outer(first, second) | np.outer(second, first)
    return named
