"""What recording costs: CPU seconds of a run at each level over those of a run without, median of paired runs."""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from synthetic import write_network


def cpu_seconds(archive: Path, level: str) -> float:
    """Return user and system seconds of one run on the sequential mapping, imports included."""
    out = archive / "x.xcorr"
    command = ["run", archive / "stations.csv", "--source", f"sds:{archive / 'sds'}", "-o", out]
    program = Path(sys.executable).with_name("xcorr")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([program, *command, "--set", f"provenance.level={level}"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    shutil.rmtree(out)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--stations", type=int, default=64)
    parser.add_argument("--hours", type=float, default=24 * 12)
    parser.add_argument("--levels", nargs="+", default=["run", "invocation"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder)
        write_network(archive, given.stations, given.hours, 4.0)
        cpu_seconds(archive, "off")
        for level in given.levels:
            ratios, seconds = [], []
            for k in range(given.pairs):  # in alternating order, so that a drift of the machine does not count
                found = {one: cpu_seconds(archive, one) for one in (("off", level) if k % 2 else (level, "off"))}
                ratios.append(found[level] / found["off"])
                seconds.append(found["off"])
            more = 100 * (statistics.median(ratios) - 1)
            base = f"{statistics.median(seconds):.0f} s without"
            print(f"{level}: {more:+.1f} % CPU (median of {given.pairs} pairs; {base})", flush=True)


if __name__ == "__main__":
    main()
