"""Dispersion: the kernel by pair, beside the bare Fourier transforms of a plain frequency-time analysis.

    python benchmarks/dispersion.py [--pairs 20000] [--stations 1000]

One thread. Pairs are drawn from those of stations in a square of 85 km; correlations are those of an isotropic field
of waves with c(f) = 3.2 - 0.8 f km/s and noise, 961 lags at 4 Hz, 30 periods from 1.3 to 9 s. Prints JSON lines.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import scipy.fft

from xcorr.pes.dispersion import waves
from xcorr.pes.dispersion.array_curve import Binned, Binning, array_curve, binned
from xcorr.pes.dispersion.correlation_spectra import Grid, spectra
from xcorr.pes.dispersion.measure import Dispersion, DispersionMeasurer
from xcorr.pes.process_setup import prepare_process, touch_product_buffer

RATE, MAX_LAG, TOGETHER = 4.0, 480, 4096


def say(**found: object) -> None:
    print(json.dumps({k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in found.items()}), flush=True)


def correlations(distance_km: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    nfft = 4096
    f = np.arange(nfft // 2 + 1) * RATE / nfft
    level = np.exp(-0.5 * (np.maximum(np.abs(f - 0.45) - 0.3, 0) / 0.05) ** 2)
    k = 2 * np.pi * f / (3.2 - 0.8 * np.minimum(f, 1.2))
    found = np.fft.irfft(level * waves.spectrum(waves.VERTICAL, distance_km[:, None] * k))
    found = found[:, np.arange(-MAX_LAG, MAX_LAG + 1)].astype(np.float32)
    size = 0.05 * np.abs(found).max(axis=1, keepdims=True)
    return found + size * rng.standard_normal(found.shape, dtype=np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--stations", type=int, default=1000)
    given = parser.parse_args()
    prepare_process()
    touch_product_buffer()
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 85, (given.stations, 2))
    first, second = np.triu_indices(given.stations, 1)
    chosen = rng.choice(len(first), min(given.pairs, len(first)), replace=False)
    distance = np.hypot(*(places[first[chosen]] - places[second[chosen]]).T)
    how = Dispersion(tuple(np.geomspace(1.3, 9, 30).tolist()))
    grid = Grid(RATE, MAX_LAG, how.band_hz, how.velocity_km_s)
    by = Binning.of(distance, how.velocity_km_s[0], how.band_hz[1])
    seconds = {"spectra": 0.0, "network": 0.0, "measure": 0.0, "transforms": 0.0}
    total, errors, accepted = Binned.nothing(by, grid), [], 0
    blocks = [(d, correlations(d, rng)) for d in np.split(distance, range(TOGETHER, len(distance), TOGETHER))]
    for d, rows in blocks:
        begin = time.perf_counter()
        total += binned(spectra(rows, d, grid), d, by, grid)
        seconds["spectra"] += time.perf_counter() - begin
    begin = time.perf_counter()
    curve = array_curve(total, waves.VERTICAL, grid.of_network_hz, how.velocity_km_s)
    assert curve is not None
    measurer = DispersionMeasurer(how, "ZZ", grid, curve, total.level(curve.wavenumber(grid.of_network_hz)))
    seconds["network"] = time.perf_counter() - begin
    truth = 3.2 - 0.8 / np.array(how.periods_s)
    for d, rows in blocks:
        begin = time.perf_counter()
        found = measurer(rows, d)
        seconds["measure"] += time.perf_counter() - begin
        good = found["flag"] == 0
        accepted += int(good.sum())
        errors.append(np.abs(found["phase_km_s"] / truth - 1)[good])
        begin = time.perf_counter()  # a plain analysis: both sides to the frequency domain, and back for every period
        sides = np.stack([rows[:, MAX_LAG:], rows[:, MAX_LAG::-1]])
        there = scipy.fft.fft(sides, grid.nfft)
        for _ in how.periods_s:
            scipy.fft.ifft(there, overwrite_x=False)
        seconds["transforms"] += time.perf_counter() - begin
    pairs = len(distance)
    each = {f"{name}_us": 1e6 * value / pairs for name, value in seconds.items() if name != "network"}
    say(what="each pair", pairs=pairs, periods=len(how.periods_s), **each, network_s=seconds["network"])
    ours = seconds["spectra"] + seconds["measure"]
    say(minutes_for_499500_pairs=(ours / pairs * 499_500 + seconds["network"]) / 60,
        over_bare_transforms=ours / seconds["transforms"],
        memory_gb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        accepted=accepted, median_error=float(np.median(np.concatenate(errors))))  # fmt: skip


if __name__ == "__main__":
    main()
