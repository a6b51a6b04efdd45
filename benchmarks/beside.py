"""How much a server beside a run costs it, and how late events are.

    python benchmarks/beside.py FOLDER [--rounds 6] [--days 6]

A campaign of synthetic data is run from nothing, again and again: alone, and with a server that shows it to a client
which follows the events. Both are measured in turn. Events are
late by the time from the writing of progress.json to their arrival.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import obspy

RATE, STATIONS = 20.0, 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--days", type=int, default=6)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    archive(given.folder, given.days)
    alone, beside, late = [], [], list[float]()
    for k in range(given.rounds):
        for with_server in (False, True) if k % 2 else (True, False):
            (beside if with_server else alone).append(one_run(given.folder, with_server, late))
    ratio = statistics.median(b / a for a, b in zip(alone, beside, strict=True))
    print(f"alone {statistics.median(alone):.2f} s, with a server {statistics.median(beside):.2f} s: ratio {ratio:.3f}")
    print(f"events: {len(late)}, late by {statistics.median(late):.2f} s, at most {max(late):.2f} s")


def archive(folder: Path, days: int) -> None:
    random = np.random.default_rng(0)
    for station in range(STATIONS):
        for day in range(61, 61 + days):
            place = folder / "sds" / "2024" / "XX" / f"S{station:02d}" / "BHZ.D"
            place.mkdir(parents=True, exist_ok=True)
            data = (1000 * random.standard_normal(int(86400 * RATE))).astype("i4")
            start = obspy.UTCDateTime(f"2024-{day:03d}")
            header = {"network": "XX", "station": f"S{station:02d}", "channel": "BHZ", "starttime": start}
            header["sampling_rate"] = RATE
            name = f"XX.S{station:02d}..BHZ.D.2024.{day:03d}"
            if not (place / name).exists():
                obspy.Trace(data, header).write(str(place / name), format="MSEED")
    lines = [f"XX,S{k:02d},{40 + k / 10},{-100 + k / 10}" for k in range(STATIONS)]
    (folder / "list.csv").write_text("network,station,latitude,longitude\n" + "\n".join(lines) + "\n")


def one_run(folder: Path, with_server: bool, late: list[float]) -> float:
    """Return the seconds that a run takes from nothing."""
    shutil.rmtree(folder / "x.xcorr", ignore_errors=True)
    token = secrets.token_urlsafe(20)
    program = [sys.executable, "-m", "xcorr"]
    command = [*program, "run", folder / "list.csv", "--source", f"sds:{folder / 'sds'}", "-o", folder / "x.xcorr"]
    start = time.perf_counter()
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = None
    if with_server:
        while not (folder / "x.xcorr" / "campaign.toml").exists():
            time.sleep(0.02)
        server = subprocess.Popen(
            [*program, "serve", folder / "x.xcorr", "--port", "0"], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "XCORR_TOKEN": token},
        )  # fmt: skip
        assert server.stdout is not None
        port = int(server.stdout.readline().rpartition(":")[2].partition("/")[0])
        threading.Thread(target=follow, args=(port, token, late), daemon=True).start()
    run.wait()
    seconds = time.perf_counter() - start
    if server is not None:
        server.kill()
        server.wait()
    return seconds


def follow(port: int, token: str, late: list[float]) -> None:
    """Read the events, and note how late each is."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/api/v1/campaigns/x/events", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        while line := answer.readline():
            if line.startswith(b"data: "):
                written = json.loads(line[6:]).get("progress", {}).get("written")
                if written:
                    late.append(time.time() - written)
    except (OSError, http.client.HTTPException):
        return  # the server has been killed


if __name__ == "__main__":
    main()
