"""A small campaign as a version makes it: `python tests/fixture_campaign.py FOLDER` in a checkout of that version.

Three stations, two days, from waveforms that :func:`write_day` makes again. The folder is committed below
``tests/campaigns``; later versions must open, verify and continue it (`test_old_campaigns.py`).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import obspy

FIRST_DAY = obspy.UTCDateTime(2024, 3, 1)
RATE_HZ = 1.0
STATIONS = "network,station,latitude,longitude\nXX,A,38.0,-97.0\nXX,B,38.1,-97.0\nXX,C,38.0,-97.2\n"
SETTINGS = """
[data]
channels = ["LH?"]

[condition]
rate_hz = 1.0
band_hz = [0.05, 0.3]

[window]
length_s = 3600.0
step_s = 3600.0

[correlate]
max_lag_s = 60.0
components = ["ZZ", "RR", "TT"]

[stack]
methods = ["linear", "pws"]
substack_s = 43200

[[bands]]
name = "low"
band_hz = [0.05, 0.1]
"""


def write_day(root: Path, day: int) -> None:
    """Write day ``day`` (1 is 2024-03-01) of all stations to an SDS archive: noise, partly common to all stations."""
    start, samples = FIRST_DAY + (day - 1) * 86400, round(86400 * RATE_HZ)
    common = np.random.default_rng(day).standard_normal(samples + 100)
    for number, code in enumerate("ABC"):
        for k, channel in enumerate(("LHZ", "LHN", "LHE")):
            own = np.random.default_rng([day, number, k]).standard_normal(samples)
            data = (200 * (common[10 * number : samples + 10 * number] + own)).astype(np.int32)
            header = {"network": "XX", "station": code, "channel": channel, "sampling_rate": RATE_HZ}
            folder = root / str(start.year) / "XX" / code / f"{channel}.D"
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"XX.{code}..{channel}.D.{start.year}.{start.julday:03d}"
            obspy.Trace(data, {**header, "starttime": start}).write(str(path), format="MSEED")


def write_inputs(folder: Path) -> tuple[Path, Path]:
    """Write station list and settings; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    listed, settings = folder / "stations.csv", folder / "settings.toml"
    listed.write_text(STATIONS)
    settings.write_text(SETTINGS)
    return listed, settings


def main() -> None:
    """Make the campaign; its archive is made beside it."""
    from xcorr.cli.program import main as xcorr

    folder = Path(sys.argv[1])
    listed, settings = write_inputs(folder.parent / "inputs")
    for day in (1, 2):
        write_day(folder.parent / "archive", day)
    xcorr(["run", str(listed), "-c", str(settings), "--source", f"sds:{folder.parent / 'archive'}", "-o", str(folder)])


if __name__ == "__main__":
    main()
