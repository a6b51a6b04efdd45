"""Which mapping and number of workers serve people best: whole programs over networks of several sizes.

Every size is run with each mapping in turns, so that other load on the machine meets all of them; the smallest of the
repetitions counts. The mapping is that of the columns, the workers are the cores there are.

    python benchmarks/defaults.py FOLDER [--repeat 3]
    python benchmarks/defaults.py FOLDER --sizes 200x48 --ways processes dask
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from synthetic import write_network

from xcorr.mappings.engine import available_cores

SIZES = ("2x24", "4x168", "16x24", "64x24", "32x168")  # stations x hours
WAYS = ("sequential", "threads", "processes")


def seconds(folder: Path, mapping: str) -> float:
    """Return the wall time of a run from nothing."""
    out = folder / "x.xcorr"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "xcorr", "run", folder / "stations.csv", "--source", f"sds:{folder / 'sds'}"]
    begin = time.perf_counter()
    subprocess.run([*command, "-o", out, "-m", mapping], check=True, capture_output=True)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    parser.add_argument("--ways", nargs="+", default=WAYS)
    given = parser.parse_args()
    print(f"{available_cores()} cores; seconds, and in brackets the share of {given.ways[0]}")
    for size in given.sizes:
        folder, (stations, hours) = given.folder / size, map(int, size.split("x"))
        if not folder.exists():
            write_network(folder, stations, hours)
        found = [{way: seconds(folder, way) for way in given.ways} for _ in range(given.repeat)]
        best = {way: min(f[way] for f in found) for way in given.ways}
        text = ", ".join(f"{way} {s:.2f} ({s / best[given.ways[0]]:.2f})" for way, s in best.items())
        print(f"{stations:3} stations x {hours / 24:g} d: {text}", flush=True)


if __name__ == "__main__":
    main()
