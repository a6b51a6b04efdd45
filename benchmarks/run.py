"""Measures and prints; writes bench-out/bench.json. ``make bench``; ``--quick`` for a short look."""

from __future__ import annotations

import argparse
import json
import platform
from importlib.metadata import version
from pathlib import Path

import engine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short look")
    quick = parser.parse_args().quick
    found = {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("xcorr", "numpy", "scipy")},
        "sequential_us_per_item_and_hop": engine.sequential_hop_us(30_000 if quick else 300_000),
        "processes_us_per_item": engine.process_hop_us(30_000 if quick else 300_000),
        "payload_gb_per_s": engine.payload_gb_s(300 if quick else 2000),
        "two_workers": engine.speed_up(5.0 if quick else 60.0),
    }
    print(f"sequential: {found['sequential_us_per_item_and_hop']:.2f} us per small item and hop")
    print(f"processes:  {found['processes_us_per_item']:.2f} us per small item to another process")
    print(f"payload:    {found['payload_gb_per_s']:.2f} GB/s of 2 MB arrays through three processes")
    two = found["two_workers"]
    print(f"speed-up of two workers on {two['sequential_s']:.0f} s of correlation ({two['days']} days, 64 stations):")
    for mapping in ("threads", "processes", "mpi"):
        shares = ", ".join(f"{s:.0%}" for s in two[mapping]["cpu_share"])
        print(f"  {mapping:10} {two[mapping]['speed_up']:.2f}; CPU inside elements / wall: {shares}")
    out = Path("bench-out")
    out.mkdir(exist_ok=True)
    (out / "bench.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
