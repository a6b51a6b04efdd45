"""The published headline of this workflow: 1,000 stations, 499,500 pairs, all written; and a day at short lags.

``hour``: one hour at 4 Hz, lags of 1,250 s (as published: 3,066 s on 32 cores of a cluster with MPI, 39 GB, which
float64 takes). ``day``: one day at 4 Hz, lags of 120 s. Needs 25 GB of disk for archives and results. A sample of pairs
is checked against a direct computation in float64. Prints JSON: wall, CPU (not that of worker processes), peak memory
(all processes), bytes written over unique results.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import obspy
import scipy.fft
from memory import peak_mb, pss_mb
from synthetic import write_network

CASES = {
    "hour": (1.0, ["data.end=2024-03-01T01:00:00", "data.chunk_s=3600", "correlate.max_lag_s=1250"]),
    "day": (24.0, ["correlate.max_lag_s=120"]),
}
CHECKED = 20


def family(process: int) -> list[int]:
    """Return a process and its children, theirs too."""
    found, todo = [], [process]
    while todo:
        one = todo.pop()
        found.append(one)
        try:
            todo += [int(p) for t in Path(f"/proc/{one}/task").iterdir() for p in (t / "children").read_text().split()]
        except (OSError, ProcessLookupError):
            continue  # it has just ended
    return found


def run(archive: Path, out: Path, assignments: list[str], mapping: str, memory: str) -> dict[str, float]:
    command = [Path(sys.executable).with_name("xcorr"), "run", archive / "stations.csv", "-o", out, "-m", mapping]
    command += [
        "--source",
        f"sds:{archive / 'sds'}",
        "--memory",
        memory,
        *(w for a in assignments for w in ("--set", a)),
    ]
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL)
    with peak_mb(lambda: pss_mb(family(process.pid))) as peak:
        code = process.wait()
        seconds = time.perf_counter() - begin
    if code:
        raise SystemExit(f"the run ended with exit code {code}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 1), "peak_mb": round(peak[0])}


def check(archive: Path, out: Path) -> float:
    """Return the least correlation coefficient of a sample of pairs with a direct computation."""
    from xcorr import results
    from xcorr.store.folder import frozen_settings

    how = frozen_settings(out)
    rate, length = how.condition.rate_hz, how.samples(how.window.length_s)
    lags = how.samples(how.correlate.max_lag_s)
    nfft = scipy.fft.next_fast_len(length + lags, real=True)  # the bins that are whitened belong to the method
    frequency = np.fft.rfftfreq(nfft, 1 / rate)
    f1, f2 = how.whiten_band_hz
    taper = 0.5 - 0.5 * np.cos(np.pi * np.clip(np.minimum(frequency - f1, f2 - frequency) / 0.01, 0, 1))
    least = 1.0
    rng = np.random.default_rng(1)
    with results.open(out) as found:
        pairs = found.pairs
        for row in rng.choice(len(pairs), CHECKED, replace=False):
            first, second = pairs["station_1"][row], pairs["station_2"][row]
            spectra = []
            for name in (first, second):
                path = next((archive / "sds").rglob(f"{name}..BHZ*"))
                trace = obspy.read(str(path))[0].detrend("linear").taper(None, max_length=2 / how.condition.band_hz[0])
                trace.filter("bandpass", freqmin=f1, freqmax=f2, corners=4, zerophase=True)
                edge = round(2 / how.condition.band_hz[0] * rate)  # masked, as in the run
                trace.data[:edge] = trace.data[-edge:] = 0
                whole = np.sign(trace.data)[: len(trace.data) // length * length].reshape(-1, length)
                spectrum = np.fft.rfft(whole, nfft)
                spectra.append(spectrum / np.maximum(np.abs(spectrum), 1e-30) * taper)
            time_domain = np.fft.irfft((spectra[0].conj() * spectra[1]).mean(axis=0), nfft)
            direct = np.concatenate([time_domain[-lags:], time_domain[: lags + 1]])
            least = min(least, np.corrcoef(direct, found.get(first, second).values)[0, 1])
    return float(least)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the archives and results go")
    parser.add_argument("--case", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--stations", type=int, default=1000)
    parser.add_argument("-m", "--mapping", default="processes")
    parser.add_argument("--memory", default="4GB")
    given = parser.parse_args()
    for case in given.case:
        hours, assignments = CASES[case]
        archive, out = given.folder / f"{case}-{given.stations}", given.folder / f"{case}-{given.stations}.xcorr"
        if not (archive / "stations.csv").exists():
            write_network(archive, given.stations, hours)
        shutil.rmtree(out, ignore_errors=True)
        found: dict[str, object] = {"case": case, "stations": given.stations, "mapping": given.mapping}
        found |= run(archive, out, assignments, given.mapping, given.memory)
        lags = 2 * int(float(assignments[-1].partition("=")[2]) * 4) + 1
        unique = 4 * lags * given.stations * (given.stations - 1) // 2
        size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
        found |= {"gb_written": round(size / 1e9, 2), "written_over_unique": round(size / unique, 3)}
        found["least_coefficient_of_sample"] = round(check(archive, out), 4)
        print(json.dumps(found), flush=True)
        shutil.rmtree(out)


if __name__ == "__main__":
    main()
