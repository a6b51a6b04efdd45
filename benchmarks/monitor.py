"""Velocity changes: the kernel beside its products, a whole program, and other programs on the same arrays.

    python benchmarks/monitor.py kernel [--pairs 1000] [--days 365]
    python benchmarks/monitor.py program FOLDER [--stations 200] [--days 365] [--workers 2]
    python benchmarks/monitor.py peers PYTHON

``kernel`` uses one thread. ``program`` needs 28 GB of disk for its default size. ``PYTHON`` is an interpreter that has
SeisMIC and MSNoise (pip install seismic msnoise; SeisMIC finds MPI by LD_LIBRARY_PATH). Prints JSON lines.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

from xcorr.pes.monitoring.lag_windows import LagWindow
from xcorr.pes.monitoring.measure import Measurer, SeriesOfRows, window_of_all
from xcorr.pes.monitoring.measurement import Measurement
from xcorr.pes.monitoring.mwcs import Mwcs
from xcorr.pes.process_setup import prepare_process, touch_product_buffer

DAY = 86_400 * 10**9
RATE, MAX_LAG, LAGS, STEPS = 4.0, 500, 961, 201


def say(**found: object) -> None:
    print(json.dumps({k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in found.items()}), flush=True)


def times_of(days: int) -> np.ndarray:
    return (19_000 + np.arange(days))[:, None] * DAY + np.array([0, DAY])


# -- the kernel ----------------------------------------------------------------------------------------------


def kernel(pairs: int, days: int) -> None:
    """Measure batches of 96 pairs; beside it, in turn, bare products of the same shapes, and a pass over the data."""
    prepare_process()
    touch_product_buffer()
    how = Measurement(LagWindow(0, (LAGS // 2) / RATE), steps=STEPS)
    measurer = Measurer(how, RATE, MAX_LAG, window_of_all(how, np.zeros(1), RATE), DAY)
    rng, batch = np.random.default_rng(0), 96
    series = rng.standard_normal((days, batch, 2 * MAX_LAG + 1), dtype=np.float32)
    of = SeriesOfRows(series, np.ones(series.shape[:2], np.int32), times_of(days), np.zeros(batch))
    references = measurer.references(of)
    stretched = [rng.standard_normal((LAGS, STEPS), dtype=np.float32) for _ in range(batch)]
    inside = slice(MAX_LAG - LAGS // 2, MAX_LAG + LAGS // 2 + 1)
    seconds = np.zeros(3)
    for _ in range(-(-pairs // batch)):
        begin = time.perf_counter()
        for k in range(batch):
            np.matmul(series[:, k, inside], stretched[k])
        products = time.perf_counter()
        for day in series:
            day.sum()
        passed = time.perf_counter()
        measurer(of, np.arange(days), references)
        seconds += np.diff([begin, products, passed, time.perf_counter()])
    seconds *= pairs / (-(-pairs // batch) * batch)
    products, passed, measured = map(float, seconds)
    speed = 2e-9 * pairs * days * LAGS * STEPS / products
    say(what="kernel", pairs=pairs, days=days, products_s=products, pass_s=passed, measured_s=measured)
    say(gflops_of_products=speed, measured_less_pass_over_products=(measured - passed) / products)


# -- the whole program ---------------------------------------------------------------------------------------


def program(folder: Path, stations: int, days: int, workers: int) -> None:
    from store import campaign, write_days

    campaign_folder = folder / "monitored.xcorr"
    if not (campaign_folder / "xcorr.h5").exists():
        shutil.rmtree(campaign_folder, ignore_errors=True)
        recipe, found, ledger = campaign(campaign_folder, stations)
        write_days(campaign_folder, recipe, found, ledger, range(days))
        ledger.keep_fact("expected", str(len(ledger.shards())))
        ledger.seal()
        ledger.close()
        subprocess.run([sys.executable, "-m", "xcorr", "stack", str(campaign_folder)], check=True)
    (campaign_folder / "monitor.h5").unlink(missing_ok=True)
    size = sum(path.stat().st_size for path in (campaign_folder / "shards").glob("*.h5"))
    begin = time.perf_counter()
    for path in sorted((campaign_folder / "shards").glob("*.h5")):
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass
    read = time.perf_counter() - begin
    for reference in ("whole", "period"):
        given = [
            f"monitor.reference={reference}",
            "monitor.reference_start=2024-03-01",
            "monitor.reference_end=2024-06-01",
        ]
        command = [
            sys.executable,
            "-m",
            "xcorr",
            "monitor",
            str(campaign_folder),
            "-m",
            "processes",
            "-n",
            str(workers),
        ]
        begin = time.perf_counter()
        subprocess.run([*command, *(word for g in given for word in ("--set", g))], check=True)
        wall = time.perf_counter() - begin
        pairs = stations * (stations - 1) // 2
        say(what="program", reference=reference, pairs=pairs, days=days, workers=workers, gigabytes=size / 1e9,
            wall_s=wall, reading_the_files_s=read, share_of_reading=read / wall,
            microseconds_per_value=1e6 * wall * workers / (pairs * days))  # fmt: skip


# -- other programs ------------------------------------------------------------------------------------------

PEERS = """
import json, sys, time
import numpy as np
data = np.load(sys.argv[1])
series, reference, rate, first, last = data["series"], data["reference"], float(data["rate"]), *data["window"]
found = {}
middle = len(reference) // 2
try:
    from seismic.monitor.stretch_mod import time_stretch_estimate
    window = [np.arange(int(first * rate), int(last * rate) + 1)]
    begin = time.perf_counter()
    of = time_stretch_estimate(series.copy(), reference.copy(), window, 0.02, 201, "both")
    found["SeisMIC stretching"] = (np.ravel(of["value"]).tolist(), time.perf_counter() - begin)
except Exception as error:
    print(f"SeisMIC: {error!r}", file=sys.stderr)
try:
    from msnoise.stretch import stretch_mat_creation
    lags = np.arange(-middle, middle + 1) / rate
    mask = (np.abs(lags) >= first) & (np.abs(lags) <= last)
    begin = time.perf_counter()
    stretched, deltas = stretch_mat_creation(reference * mask, 0.02, 201)  # as MSNoise: the mask before stretching
    values = []
    for one in series:
        coefficients = np.dot(stretched, one * mask) / np.sqrt((stretched**2).sum(1) * ((one * mask) ** 2).sum())
        values.append(float(deltas[np.argmax(coefficients)]) - 1)
    found["MSNoise stretching"] = (values, time.perf_counter() - begin)
except Exception as error:
    print(f"MSNoise stretching: {error!r}", file=sys.stderr)
try:
    from msnoise.move2obspy import mwcs
    low, high, length, step = data["mwcs"]
    begin, values = time.perf_counter(), []
    for one in series:
        rows = np.array(mwcs(one, reference, low, high, rate, -middle / rate, length, step))
        inside = (np.abs(rows[:, 0]) >= first + length / 2) & (np.abs(rows[:, 0]) <= last - length / 2)
        t, dt, error = rows[inside, 0], rows[inside, 1], np.maximum(rows[inside, 2], 1e-6)
        weight = 1 / error**2
        t0, d0 = np.average(t, weights=weight), np.average(dt, weights=weight)
        values.append(float(-(weight * (t - t0) * (dt - d0)).sum() / (weight * (t - t0) ** 2).sum()))
    found["MSNoise MWCS"] = (values, time.perf_counter() - begin)
except Exception as error:
    print(f"MSNoise MWCS: {error!r}", file=sys.stderr)
print(json.dumps(found))
"""


def coda(seed: int, lags: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(seed)
    f, size, phase = rng.uniform(0.2, 1, 60), rng.uniform(0.5, 1, 60), rng.uniform(0, 2 * np.pi, (2, 60))
    waves = np.cos(2 * np.pi * f * np.abs(lags)[..., None] + phase[(lags < 0).astype(int)])
    return (size * waves).sum(-1) * np.exp(-np.abs(lags) / 60)


def peers(python: str) -> None:
    """Known changes of an analytic coda without noise: the largest error of each program, and the seconds it takes."""
    lags, window = np.arange(-MAX_LAG, MAX_LAG + 1) / RATE, (15.0, 90.0)
    for largest in (0.018, 0.002):
        changes = np.linspace(-largest, largest, 37)
        series = np.array([coda(0, lags * (1 + c)) for c in changes])
        reference = coda(0, lags)
        with tempfile.TemporaryDirectory() as place:
            path = Path(place, "arrays.npz")
            np.savez(path, series=series, reference=reference, rate=RATE, window=window, mwcs=(0.2, 1.0, 10.0, 2.5))
            done = subprocess.run([python, "-c", PEERS, str(path)], capture_output=True, text=True, check=True)
        sys.stderr.write("".join(f"{line}\n" for line in done.stderr.splitlines() if "Error" in line))
        for name, (values, seconds) in json.loads(done.stdout).items():
            found = -np.array(values) if name == "SeisMIC stretching" else np.array(values)  # which has t -> t e^-v
            off = min((np.abs(sign * found - changes).max(), sign) for sign in (1, -1))
            say(what="peers", up_to=largest, program=name, largest_error=float(off[0]), sign=off[1], seconds=seconds)
        of = SeriesOfRows(series[:, None].astype("f4"), np.ones((37, 1), int), times_of(37), np.zeros(1))
        for name, how in (
            ("xcorr stretching", Measurement(LagWindow(*window))),
            ("xcorr mwcs", Measurement(LagWindow(*window), "mwcs", mwcs=Mwcs((0.2, 1.0), 10.0, 2.5))),
        ):
            measurer = Measurer(how, RATE, MAX_LAG, window_of_all(how, np.zeros(1), RATE), DAY)
            begin = time.perf_counter()
            found = measurer(of, np.arange(37), reference[None, None].astype("f4"))["dvv"][:, 0]
            seconds = time.perf_counter() - begin
            say(what="peers", up_to=largest, program=name, largest_error=float(np.abs(found - changes).max()), sign=1,
                seconds=seconds)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("kernel")
    one.add_argument("--pairs", type=int, default=1000)
    one.add_argument("--days", type=int, default=365)
    two = commands.add_parser("program")
    two.add_argument("folder", type=Path)
    two.add_argument("--stations", type=int, default=200)
    two.add_argument("--days", type=int, default=365)
    two.add_argument("--workers", type=int, default=2)
    commands.add_parser("peers").add_argument("python")
    given = vars(parser.parse_args())
    {"kernel": kernel, "program": program, "peers": peers}[given.pop("command")](**given)


if __name__ == "__main__":
    main()
