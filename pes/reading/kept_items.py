"""The product of ReadStation, for [[keep]] rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from xcorr.core.product import Product
from xcorr.pes.items import STATION_METADATA, RawStation
from xcorr.pes.reading.waveform_file import write_miniseed


def _write_segments(item: RawStation, path: Path) -> None:
    """Write the segments as read, as miniSEED."""
    write_miniseed(
        [
            trace(item.station, channel.account.seed_id, s.start_ns, float(s.rate_hz), s.data)
            for channel in item.channels
            for s in channel.segments
        ],
        path,
    )


def trace(station: str, seed_id: str, start_ns: int, rate_hz: float, data: np.ndarray) -> Any:
    """Return an ObsPy trace."""
    import obspy

    network, code = station.split(".")
    _, _, location, channel = seed_id.split(".") if seed_id.count(".") == 3 else ("", "", "", "")
    header: dict[str, Any] = {"network": network, "station": code, "location": location, "channel": channel}
    header |= {"starttime": obspy.UTCDateTime(ns=start_ns), "sampling_rate": rate_hz}
    return obspy.Trace(np.ascontiguousarray(data), header)


RAW = Product(RawStation, STATION_METADATA, ".mseed", _write_segments)
