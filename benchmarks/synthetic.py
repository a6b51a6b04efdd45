"""Writes synthetic networks for benchmarks and long tests.

    python benchmarks/synthetic.py FOLDER --stations 64 [--hours 24] [--rate 4]

A common field, delayed differently at every station, plus local noise; seeded. An SDS archive and a station list with
coordinates on a grid 10 km apart.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import obspy
from obspy.core.inventory import Channel, Response

START = obspy.UTCDateTime(2024, 3, 1)


def station_line(k: int) -> str:
    """Return the line of a station in a list with coordinates."""
    return f"YY,S{k:04d},{40 + 0.09 * (k // 32):.4f},{5 + 0.12 * (k % 32):.4f},0"


def write_list(folder: Path, stations: int) -> Path:
    """Write the list of stations, on a grid 10 km apart; return its path."""
    lines = ["network,station,latitude,longitude,elevation_m", *map(station_line, range(stations))]
    (folder / "stations.csv").write_text("\n".join(lines) + "\n")
    return folder / "stations.csv"


def sts2(rate_hz: float, code: str = "BHZ", at: tuple[float, float, float] = (0, 0, 0)) -> Channel:
    """Return the metadata of a channel with the response of an STS-2."""
    poles = [-0.037 + 0.037j, -0.037 - 0.037j, -251.3 + 0j]
    response = Response.from_paz([0j, 0j], poles, 1500.0, input_units="M/S")
    return Channel(code, "", *at, 0, azimuth=0, dip=-90, sample_rate=rate_hz, response=response)


def write_network(folder: Path, stations: int, hours: float = 24.0, rate_hz: float = 4.0, seed: int = 0) -> Path:
    """Write archive and list below ``folder``; return the path of the list."""
    samples = int(hours * 3600 * rate_hz)
    common = np.random.default_rng(seed).standard_normal(samples + 4000)
    for k in range(stations):
        code = f"S{k:04d}"
        rng = np.random.default_rng([seed, k])
        delay = int(rng.integers(0, 400))
        data = np.round(100 * (common[delay : delay + samples] + rng.standard_normal(samples))).astype(np.int32)
        header = {"network": "YY", "station": code, "channel": "BHZ", "sampling_rate": rate_hz, "starttime": START}
        place = folder / "sds" / "2024" / "YY" / code / "BHZ.D"
        place.mkdir(parents=True, exist_ok=True)
        day = int(86_400 * rate_hz)
        for number, first in enumerate(range(0, samples, day)):
            trace = obspy.Trace(data[first : first + day], {**header, "starttime": START + number * 86_400})
            path = place / f"YY.{code}..BHZ.D.2024.{61 + number:03d}"
            trace.write(str(path), format="MSEED", encoding="STEIM2", reclen=4096)
    return write_list(folder, stations)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stations", type=int, required=True)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--rate", type=float, default=4.0)
    given = parser.parse_args()
    print(write_network(given.folder, given.stations, given.hours, given.rate))
