"""Locations of a station as sensors that count as stations of their own."""

from __future__ import annotations

import dataclasses

from xcorr.network.station_list import SENSOR
from xcorr.pes.reading.source import Coverage, Index
from xcorr.settings import SettingsError


def by_location(index: Index) -> Index:
    """Return an index in which each location of a station is a station, ``STA:LOC``; a blank location is ``STA``.

    Raises SettingsError if the source does not know its locations before they are asked for.
    """
    coverages: dict[tuple[str, str], list[Coverage]] = {}
    places = {}
    for (network, station), every in index.coverages.items():
        for coverage in every:
            if index.of_requests or set(coverage.location) & set("*?["):
                raise SettingsError(
                    f'data.sensors = "location": {index.source!r} does not tell which locations it has; use '
                    "files, or ask for each location in a campaign of its own"
                )
            key = network, f"{station}{SENSOR}{coverage.location}" if coverage.location else station
            coverages.setdefault(key, []).append(coverage)
            if (network, station) in index.places:
                places[key] = index.places[network, station]
    return dataclasses.replace(index, coverages=coverages, places=places)
