"""Station metadata from StationXML: coordinates, and instrument responses by channel and epoch."""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from xcorr.core import XcorrError
from xcorr.core.interrupt import shielded
from xcorr.pes.reading.formats import read
from xcorr.pes.reading.places import files_at
from xcorr.pes.reading.waveform import NS, Coordinates, Place

UNITS = {"displacement": "DISP", "velocity": "VEL", "acceleration": "ACC"}
GRID_POINTS = 4096
VERTICAL = 90.0  # degrees of dip, up or down
MINUTE_NS = 60 * NS
UNIT = {"Z": (1.0, 0.0, 0.0), "N": (0.0, 1.0, 0.0), "E": (0.0, 0.0, 1.0)}  # up, north, east
InverseResponse = Callable[[np.ndarray], np.ndarray]  # 1/R at frequencies (Hz)

MOST_FILES = 50_000  # of station metadata


class MetadataError(XcorrError, ValueError):
    """Station metadata cannot be read, or lack something that is needed."""


def read_inventory(place: str) -> Any:
    """Return the ObsPy inventory of one StationXML file or all that match a glob.

    Raises MetadataError, with the name, if there is no file or a file cannot be read.
    """
    paths = files_at(place, MOST_FILES + 1)
    if not paths:
        raise MetadataError(f"data.metadata: there is no file at {place!r}")
    if len(paths) > MOST_FILES:
        raise MetadataError(f"data.metadata: {place!r} stands for more than {MOST_FILES} files; name their folder")
    return _parsed(tuple((path, os.stat(path).st_mtime_ns, os.stat(path).st_size) for path in paths))


@functools.lru_cache(maxsize=1)
def _parsed(files: tuple[tuple[str, int, int], ...]) -> Any:
    """Return the inventory of files with these paths, times of change and sizes; one for all elements of a process."""
    import obspy

    inventory = obspy.Inventory()
    for path, _, _ in files:
        try:
            with shielded():
                inventory += read("inventory", path)
        except Exception as error:  # ObsPy raises anything on garbage
            raise MetadataError(
                f"data.metadata: {path!r} is not readable as station metadata: "
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            ) from error
    return inventory


def station_places(inventory: Any) -> dict[tuple[str, str], list[Place]]:
    """Return the places of every station of an inventory, one for each of its epochs."""
    places: dict[tuple[str, str], list[Place]] = {}
    for network in inventory:
        for station in network:
            at = Coordinates(float(station.latitude), float(station.longitude), float(station.elevation))
            times = {"start_ns": station.start_date, "end_ns": station.end_date}
            place = Place(at, **{name: time.ns for name, time in times.items() if time is not None})
            places.setdefault((network.code, station.code), []).append(place)
    return places


def find_response(inventory: Any, seed_id: str, time_ns: int) -> Any:
    """Return the response of a channel at a time.

    Raises MetadataError if the inventory lacks the channel, an epoch at this time, or the response.
    """
    from obspy import UTCDateTime

    time = UTCDateTime(ns=time_ns)
    valid = _channels_at(inventory, seed_id, time_ns)
    if not valid and not epoch_starts(inventory, seed_id):
        raise MetadataError(f"the station metadata lack {seed_id}")
    if not valid:
        raise MetadataError(f"the station metadata have no epoch of {seed_id} at {time}")
    latest = valid[-1]
    if latest.response is None or not latest.response.response_stages:
        raise MetadataError(f"the station metadata have no response of {seed_id} at {time}")
    return latest.response


def epoch_starts(inventory: Any, seed_id: str) -> list[int]:
    """Return the times, in ns, at which epochs of a channel begin or end."""
    channels = _channels(inventory, seed_id)
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


def _channels(inventory: Any, seed_id: str) -> list[Any]:
    """Return all epochs of a channel."""
    network, station, location, channel = seed_id.split(".")
    found = inventory.select(network, station, channel=channel)
    return [c for n in found for s in n for c in s if c.location_code == location]


def _channels_at(inventory: Any, seed_id: str, time_ns: int) -> list[Any]:
    """Return the epochs of a channel at a time, the latest one last.

    An epoch does not have its end itself, where another one may begin. Many end a second before the next one begins;
    such an epoch counts until then.
    """
    found = []
    for c in _channels(inventory, seed_id):
        first = c.start_date.ns if c.start_date else -(2**63)
        last = c.end_date.ns if c.end_date else 2**63
        found.append((first, last, c))
    found.sort(key=lambda epoch: epoch[:2])
    now = [c for first, last, c in found if first <= time_ns < last]
    if not now and any(time_ns < first <= time_ns + MINUTE_NS for first, _, _ in found):
        now = [c for first, last, c in found if last <= time_ns < last + MINUTE_NS]
    return now


def sampling_rate(inventory: Any, seed_id: str, time_ns: int) -> float | None:
    """Return the sampling rate (Hz) of a channel at a time, or None if the metadata do not give it."""
    rates = [c.sample_rate for c in _channels_at(inventory, seed_id, time_ns) if c.sample_rate]
    return float(rates[-1]) if rates else None


class Digests:
    """What an inventory says of channels in a time: where they point, and with ``units`` of ground motion responses.

    Channels that the inventory does not know point where their last letter says, or where their files say. Responses
    are compared by their values at three frequencies of a band, to six digits, however they are written.
    """

    def __init__(self, inventory: Any, units: str, band_hz: tuple[float, float]) -> None:
        self.inventory, self.units = inventory, units
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
            starts = [] if self.inventory is None else epoch_starts(self.inventory, seed_id)
            self._known[key] = [self._part(seed_id, t, in_files) for t in (-(2**62), *starts)]
        return self._known[key]

    def _part(self, seed_id: str, time_ns: int, in_files: bool) -> tuple[int, str, float | None]:
        found = None if self.inventory is None else orientation(self.inventory, seed_id, time_ns)
        direction = vector(*found) if found else None if in_files else UNIT.get(seed_id[-1:])
        text = "in the files" if direction is None else " ".join(f"{x + 0.0:.5f}" for x in direction)
        epochs = [] if self.inventory is None else _channels_at(self.inventory, seed_id, time_ns)
        response = epochs[-1].response if epochs else None
        sensitivity = response.instrument_sensitivity if response else None
        return time_ns, f"{text} {self._response(response)}", sensitivity.value if sensitivity else None

    def _response(self, response: Any) -> str:
        if self.units == "none" or response is None or not response.response_stages:
            return ""
        try:
            values = response.get_evalresp_response_for_frequencies(self.frequencies_hz, output=UNITS[self.units])
        except Exception:  # ObsPy and evalresp raise anything on impossible responses; their removal tells of it
            return "impossible"
        return " ".join(f"{v:.5e}" for v in values)


def vector(azimuth_deg: float, dip_deg: float) -> tuple[float, float, float]:
    """Return the unit vector (up, north, east) of an azimuth and a dip."""
    azimuth, dip = np.deg2rad((azimuth_deg, dip_deg))
    return float(-np.sin(dip)), float(np.cos(dip) * np.cos(azimuth)), float(np.cos(dip) * np.sin(azimuth))


def knows(inventory: Any, seed_id: str, time_ns: int) -> bool:
    """Return whether an inventory has an epoch of a channel at a time, or none at any time."""
    return inventory is None or not _channels(inventory, seed_id) or bool(_channels_at(inventory, seed_id, time_ns))


def orientation(inventory: Any, seed_id: str, time_ns: int) -> tuple[float, float] | None:
    """Return azimuth and dip (degrees) of a channel at a time, or None if the metadata do not give them.

    A vertical channel needs no azimuth.
    """
    channels = _channels_at(inventory, seed_id, time_ns)
    known = [c for c in channels if c.dip is not None and (c.azimuth is not None or abs(c.dip) == VERTICAL)]
    return (float(known[-1].azimuth or 0.0), float(known[-1].dip)) if known else None
