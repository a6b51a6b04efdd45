"""Station metadata from StationXML: coordinates, and orientations and instrument responses by channel and epoch."""

from __future__ import annotations

import functools
import logging
import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from xcorr.core import XcorrError
from xcorr.core.interrupt import shielded
from xcorr.pes.reading.formats import ONE_AT_A_TIME, UnknownFormat, read
from xcorr.pes.reading.places import files_at
from xcorr.pes.reading.waveform import NS, Coordinates, Place

UNITS = {"displacement": "DISP", "velocity": "VEL", "acceleration": "ACC"}
OUTPUTS = UNITS | {"sensor": "DEF"}  # as ObsPy names them; sensor: the unit that the sensor measures
GRID_POINTS = 4096
VERTICAL = 90.0  # degrees of dip, up or down
MINUTE_NS = 60 * NS
InverseResponse = Callable[[np.ndarray], np.ndarray]  # 1/R at frequencies (Hz)

_log = logging.getLogger("xcorr")
MOST_FILES = 50_000  # of station metadata


class MetadataError(XcorrError, ValueError):
    """Station metadata cannot be read, or lack something that is needed."""


class Metadata:
    """What an ObsPy inventory says of stations and channels, found without a search; None stands for no metadata."""

    def __init__(self, inventory: Any = None) -> None:
        self.given = inventory is not None
        self._inventory = inventory or ()
        self._epochs: dict[str, list[tuple[int, int, Any]]] = {}
        for network in self._inventory:
            for station in network:
                for c in station:
                    first = c.start_date.ns if c.start_date else -(2**63)
                    last = c.end_date.ns if c.end_date else 2**63
                    name = f"{network.code}.{station.code}.{c.location_code}.{c.code}".upper()
                    self._epochs.setdefault(name, []).append((first, last, c))
        for epochs in self._epochs.values():
            epochs.sort(key=lambda epoch: epoch[:2])

    def places(self) -> dict[tuple[str, str], list[Place]]:
        """Return the places of every station, one for each of its epochs."""
        places: dict[tuple[str, str], list[Place]] = {}
        for network in self._inventory:
            for station in network:
                at = Coordinates(float(station.latitude), float(station.longitude), float(station.elevation))
                times = {"start_ns": station.start_date, "end_ns": station.end_date}
                place = Place(at, **{name: time.ns for name, time in times.items() if time is not None})
                places.setdefault((network.code, station.code), []).append(place)
        return places

    def channels_at(self, seed_id: str, time_ns: int) -> list[Any]:
        """Return the epochs of a channel at a time, as ObsPy has them, the latest one last.

        An epoch does not have its end itself, where another one may begin. Many end a second before the next one
        begins; such an epoch counts until then.
        """
        epochs = self._of(seed_id)
        now = [c for first, last, c in epochs if first <= time_ns < last]
        if not now and any(time_ns < first <= time_ns + MINUTE_NS for first, _, _ in epochs):
            now = [c for first, last, c in epochs if last <= time_ns < last + MINUTE_NS]
        return now

    def epoch_starts(self, seed_id: str) -> list[int]:
        """Return the times, in ns, at which epochs of a channel begin or end."""
        return sorted({t for first, last, _ in self._of(seed_id) for t in (first, last) if abs(t) < 2**63})

    def lacks(self, seed_id: str, time_ns: int) -> bool:
        """Return whether there are epochs of a channel, but none at a time."""
        return bool(self._of(seed_id)) and not self.channels_at(seed_id, time_ns)

    def sampling_rate(self, seed_id: str, time_ns: int) -> float | None:
        """Return the sampling rate (Hz) of a channel at a time, or None if it is not known."""
        rates = [c.sample_rate for c in self.channels_at(seed_id, time_ns) if c.sample_rate]
        return float(rates[-1]) if rates else None

    def orientation(self, seed_id: str, time_ns: int) -> tuple[float, float] | None:
        """Return azimuth and dip (degrees) of a channel at a time, or None. A vertical channel needs no azimuth."""
        channels = self.channels_at(seed_id, time_ns)
        known = [c for c in channels if c.dip is not None and (c.azimuth is not None or abs(c.dip) == VERTICAL)]
        return (float(known[-1].azimuth or 0.0), float(known[-1].dip)) if known else None

    def response(self, seed_id: str, time_ns: int) -> Any:
        """Return the response of a channel at a time.

        Raises MetadataError if there is no such channel, no epoch at this time, or no response.
        """
        from obspy import UTCDateTime

        valid = self.channels_at(seed_id, time_ns)
        if not self._of(seed_id):
            raise MetadataError(f"the station metadata lack {seed_id}")
        if not valid:
            raise MetadataError(f"the station metadata have no epoch of {seed_id} at {UTCDateTime(ns=time_ns)}")
        latest = valid[-1]
        if latest.response is None or not latest.response.response_stages:
            raise MetadataError(f"the station metadata have no response of {seed_id} at {UTCDateTime(ns=time_ns)}")
        return latest.response

    def _of(self, seed_id: str) -> list[tuple[int, int, Any]]:
        return self._epochs.get(seed_id.upper(), [])


def read_metadata(place: str | None) -> Metadata:
    """Return the metadata in one file, in a folder and those below it, or in all that match a glob.

    None stands for no metadata. Files of a folder that hold no metadata, such as notes, are left out. Raises
    MetadataError, with the name, if there is no file or a file cannot be read.
    """
    if place is None:
        return Metadata()
    paths = files_at(place, MOST_FILES + 1)
    if not paths:
        raise MetadataError(f"data.metadata: there is no file at {place!r}")
    if len(paths) > MOST_FILES:
        raise MetadataError(f"data.metadata: {place!r} stands for more than {MOST_FILES} files; name their folder")
    return _parsed(tuple((path, os.stat(path).st_mtime_ns, os.stat(path).st_size) for path in paths))


@functools.lru_cache(maxsize=1)
def _parsed(files: tuple[tuple[str, int, int], ...]) -> Metadata:
    """Return the metadata in files with these paths, times of change and sizes; one object for all of a process."""
    import obspy

    inventory = obspy.Inventory()
    others: list[str] = []
    for path, _, _ in files:
        try:
            with shielded():
                inventory += read("inventory", path)
        except UnknownFormat as error:
            if len(files) == 1 or ".xml" in path.lower():
                raise MetadataError(f"data.metadata: {path!r} is not readable as station metadata: {error}") from None
            others.append(path)
        except Exception as error:  # ObsPy raises anything on garbage
            raise MetadataError(
                f"data.metadata: {path!r} is not readable as station metadata: "
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            ) from error
    if others and len(others) == len(files):
        raise MetadataError(f"data.metadata: none of {len(files)} files holds station metadata, such as {others[0]!r}")
    if others:
        _log.warning("data.metadata: %d file(s) hold no station metadata, such as %s", len(others), others[0])
    return Metadata(inventory)


def is_pressure(code: str) -> bool:
    """Return whether a channel or component is that of a hydrophone, which has no direction."""
    return code.endswith("H")


def units_of(seed_id: str, units: str) -> str:
    """Return a unit of ground motion, or for a hydrophone ``sensor``: pressure is not made ground motion."""
    return "sensor" if is_pressure(seed_id) else units


def evaluated(response: Any, frequency_hz: Any, units: str) -> np.ndarray:
    """Return a response at frequencies in a unit of :data:`OUTPUTS`. Raises whatever ObsPy and evalresp raise."""
    with ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="ObsPy can not map unit")  # pascal is not to be mapped
        values: np.ndarray = response.get_evalresp_response_for_frequencies(frequency_hz, output=OUTPUTS[units])
    return values


def inverse_response(
    response: Any, rate_hz: float, highest_hz: float, units: str, water_level_db: float
) -> InverseResponse:
    """Return the function that gives 1/R at frequencies up to ``highest_hz``, for data at ``rate_hz``.

    ``units`` is one of :data:`OUTPUTS`.

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
        values, over_all = (evaluated(response, f, units) for f in (grid, wide))
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
