"""Station metadata from StationXML: coordinates, and instrument responses by channel and epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xcorr.core import XcorrError
from xcorr.core.interrupt import shielded
from xcorr.pes.reading.formats import read
from xcorr.pes.reading.places import files_at
from xcorr.pes.reading.source import Coordinates

UNITS = {"displacement": "DISP", "velocity": "VEL", "acceleration": "ACC"}
GRID_POINTS = 4096
InverseResponse = Callable[[np.ndarray], np.ndarray]  # 1/R at frequencies (Hz)

MOST_FILES = 50_000  # of station metadata


class MetadataError(XcorrError, ValueError):
    """Station metadata cannot be read, or lack something that is needed."""


def read_inventory(place: str) -> Any:
    """Return the ObsPy inventory of one StationXML file or all that match a glob.

    Raises MetadataError, with the name, if there is no file or a file cannot be read.
    """
    import obspy

    paths = files_at(place, MOST_FILES + 1)
    if not paths:
        raise MetadataError(f"data.metadata: there is no file at {place!r}")
    if len(paths) > MOST_FILES:
        raise MetadataError(f"data.metadata: {place!r} stands for more than {MOST_FILES} files; name their folder")
    inventory = obspy.Inventory()
    for path in paths:
        try:
            with shielded():
                inventory += read("inventory", path)
        except Exception as error:  # ObsPy raises anything on garbage
            raise MetadataError(
                f"data.metadata: {path!r} is not readable as station metadata: "
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            ) from error
    return inventory


def station_coordinates(inventory: Any) -> dict[tuple[str, str], Coordinates]:
    """Return the coordinates of every station of an inventory (its latest epoch wins)."""
    return {
        (network.code, station.code): Coordinates(
            float(station.latitude), float(station.longitude), float(station.elevation)
        )
        for network in inventory
        for station in sorted(network, key=lambda s: s.start_date.ns if s.start_date else 0)
    }


def find_response(inventory: Any, seed_id: str, time_ns: int) -> Any:
    """Return the response of a channel at a time.

    Raises MetadataError if the inventory lacks the channel, an epoch at this time, or the response.
    """
    from obspy import UTCDateTime

    network, station, location, channel = seed_id.split(".")
    time = UTCDateTime(ns=time_ns)
    found = inventory.select(network, station, location=location or "", channel=channel)
    channels = [c for n in found for s in n for c in s if c.location_code == location]
    if not channels:
        raise MetadataError(f"the station metadata lack {seed_id}")
    valid = [c for c in channels if c.is_active(time=time)]
    if not valid:
        raise MetadataError(f"the station metadata have no epoch of {seed_id} at {time}")
    latest = max(valid, key=lambda c: c.start_date.ns if c.start_date else 0)  # one ends where the next begins
    if latest.response is None or not latest.response.response_stages:
        raise MetadataError(f"the station metadata have no response of {seed_id} at {time}")
    return latest.response


def epoch_starts(inventory: Any, seed_id: str) -> list[int]:
    """Return the times, in ns, at which epochs of a channel begin or end."""
    network, station, location, channel = seed_id.split(".")
    found = inventory.select(network, station, channel=channel)
    channels = [c for n in found for s in n for c in s if c.location_code == location]
    return sorted({t.ns for c in channels for t in (c.start_date, c.end_date) if t is not None})


def inverse_response(
    response: Any, rate_hz: float, highest_hz: float, units: str, water_level_db: float
) -> InverseResponse:
    """Return the function that gives 1/R at frequencies up to ``highest_hz``, for data at ``rate_hz``.

    ObsPy (evalresp) evaluates R on a fixed grid of logarithmic and linear frequencies. Between the grid points R is
    interpolated linearly. The water level lies ``water_level_db`` below the maximum of |R| up to the Nyquist frequency
    of the input. A smaller |R| is raised to this level and keeps its phase. Where R is 0, the result is 0.
    """
    nyquist = rate_hz / 2
    grid = np.union1d(
        np.linspace(0, highest_hz, GRID_POINTS), np.geomspace(1e-6 * highest_hz, highest_hz, GRID_POINTS // 2)
    )
    wide = np.union1d(np.linspace(0, nyquist, 513), np.geomspace(1e-6 * nyquist, nyquist, 513))
    try:
        values, over_all = (
            response.get_evalresp_response_for_frequencies(f, output=UNITS[units]) for f in (grid, wide)
        )
    except Exception as error:  # ObsPy and evalresp raise anything on impossible responses
        raise MetadataError(f"the response cannot be evaluated: {type(error).__name__}: {error}") from error
    level = np.abs(over_all[np.isfinite(over_all)]).max() * 10 ** (-water_level_db / 20)
    size = np.abs(values)
    raised = np.where(size < level, values * (level / np.where(size > 0, size, 1)), values)

    def inverse(frequency_hz: np.ndarray) -> np.ndarray:
        at = np.interp(frequency_hz, grid, raised)
        out = np.zeros(len(at), complex)
        np.divide(1.0, at, out=out, where=at != 0)
        return out

    return inverse


def orientation(inventory: Any, seed_id: str, time_ns: int) -> tuple[float, float] | None:
    """Return azimuth and dip (degrees) of a channel at a time, or None if the metadata do not give them."""
    from obspy import UTCDateTime

    network, station, location, channel = seed_id.split(".")
    time = UTCDateTime(ns=time_ns)
    found = inventory.select(network, station, channel=channel)
    channels = [c for n in found for s in n for c in s if c.location_code == location and c.is_active(time=time)]
    known = [c for c in channels if c.azimuth is not None and c.dip is not None]
    if not known:
        return None
    latest = max(known, key=lambda c: c.start_date.ns if c.start_date else 0)
    return float(latest.azimuth), float(latest.dip)
