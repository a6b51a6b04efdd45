"""Waveforms in ASDF files (Krischer et al. 2016, GJI 207): HDF5 with a dataset for each piece of a channel.

The format's definition is at https://asdf-definition.readthedocs.io. A dataset ``Waveforms/NET.STA/NET.STA.LOC.CHA__
START__END__TAG`` has the attributes ``starttime`` (ns) and ``sampling_rate``; ``StationXML`` beside it has coordinates.
"""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from xcorr.core import XcorrError
from xcorr.pes.reading.waveform import LONGEST_NS, NS, Coordinates, Waveform

HDF5 = b"\x89HDF\r\n\x1a\n"
Stations = Collection[tuple[str, str]]


class NotAsdf(XcorrError, TypeError):
    """An HDF5 file of another format."""


def is_hdf5(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is HDF5."""
    return head.startswith(HDF5)


def read_asdf(path: str, start_ns: int | None, end_ns: int | None, stations: Stations | None = None) -> list[Waveform]:
    """Return the waveforms with samples within a time, of all or some stations (network, station).

    Only these samples are read. Raises NotAsdf, and OSError for a damaged file.
    """
    found = []
    for waveform in _pieces(path, stations, False):
        if (start_ns is not None and waveform.last_ns < start_ns) or (
            end_ns is not None and waveform.start_ns > end_ns
        ):
            continue
        part = waveform.within(start_ns, end_ns)
        found.append(dataclasses.replace(part, data=np.asarray(part.data[:])))  # read before the file is closed
    return found


def read_asdf_headers(path: str) -> list[Waveform]:
    """Return the waveforms without their samples, with the coordinates of their stations if the file has them."""
    return [dataclasses.replace(w, data=np.zeros(0, np.float32)) for w in _pieces(path, None, True)]


def _pieces(path: str, stations: Stations | None, with_places: bool) -> Iterator[Waveform]:
    """Yield the waveforms of a file, whose data are datasets of the open file."""
    import h5py

    with h5py.File(path) as file:
        kind = file.attrs.get("file_format", b"")
        if (kind.decode() if isinstance(kind, bytes) else str(kind)) != "ASDF" or "Waveforms" not in file:
            raise NotAsdf(f"{path} is HDF5, but not ASDF")
        for name, group in file["Waveforms"].items():
            network, _, station = name.partition(".")
            if stations is not None and (network, station) not in stations:
                continue
            place = _place(group) if with_places else None
            for piece, data in group.items():
                codes = piece.partition("__")[0].split(".")
                if len(codes) == 4 and "sampling_rate" in data.attrs:
                    yield _waveform(codes, data, place)


def _waveform(codes: list[str], data: Any, place: Coordinates | None) -> Waveform:
    rate, start, samples = float(data.attrs["sampling_rate"]), int(data.attrs["starttime"]), len(data)
    is_rate = math.isfinite(rate) and rate > 0
    last = start + min(round((samples - 1) / rate * NS), 2 * LONGEST_NS) if is_rate and samples else start
    network, station, location, channel = codes
    return Waveform(network, station, location, channel, start, last, rate, data, samples, None, place)


def _place(group: Any) -> Coordinates | None:
    """Return the coordinates of a station's StationXML, None without any that can be read."""
    from obspy import read_inventory

    if "StationXML" not in group:
        return None
    try:
        of = read_inventory(io.BytesIO(group["StationXML"][...].tobytes()), format="STATIONXML")
        station = of.networks[0].stations[0]
    except Exception:  # ObsPy raises anything on garbage; a list or data.metadata can give the place
        return None
    return Coordinates(float(station.latitude), float(station.longitude), float(station.elevation))
