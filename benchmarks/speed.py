"""How near the work is to the arithmetic limit, how it scales, and whether ``xcorr plan`` foretells it.

    python benchmarks/speed.py [--quick] [--only kernel conditioning scaling libraries plan]

Every figure is a ratio of two things measured in this run, or stands beside the sizes it is of. Writes JSON lines.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from headline import run as measured_run
from synthetic import START, sts2, write_network

from xcorr.pes import CorrelateStrips
from xcorr.pes.correlating.layout import Layout
from xcorr.pes.items import Chunk, Segment, SlotAccount, SpectraBlock
from xcorr.pes.preparing.condition import Conditioning, condition
from xcorr.pes.preparing.whiten import Band, SpectralGrid
from xcorr.pes.process_setup import prepare_process
from xcorr.pes.reading.metadata import Metadata, inverse_response
from xcorr.pes.transforms.fft import LIBRARIES, FftError, library

ALL = ("kernel", "conditioning", "scaling", "libraries", "plan")
WORKERS = 2
RATE, LENGTH, BAND = 4.0, 14_400, (0.05, 1.0)  # 1-h windows


def say(**found: Any) -> None:
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()}), flush=True)


def on_threads(call: Callable[[int], None], count: int) -> float:
    """Return the seconds that calls take on as many threads, each with its number."""
    threads = [threading.Thread(target=call, args=(k,)) for k in range(count)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begin


# -- the correlation stage against its raw pieces ----------------------------------------------------------------


def raw_pieces(grid: SpectralGrid, stations: int, windows: int, chunks: int) -> float:
    """Return the best seconds of bare np.matmul over slabs of frequencies and np.fft.irfft of 32 rows, all pairs.

    A chunk for each thread; no packing, transposition, cutting, scaling, counting or item of a workflow.
    """
    rng, side, n = np.random.default_rng(0), 64, grid.nfft
    blocks = -(-stations // side)
    tiles, pairs = blocks * (blocks + 1) // 2, stations * (stations - 1) // 2
    first = rng.standard_normal((grid.bins, side, windows), np.float32).astype(np.complex64)
    second = rng.standard_normal((grid.bins, windows, side), np.float32).astype(np.complex64)
    padded = np.zeros((32, n // 2 + 1), np.complex64)
    padded[:, grid.first : grid.stop] = rng.standard_normal((32, grid.bins))

    def best(slab: int) -> float:
        out = [np.empty((slab, side, side), np.complex64) for _ in range(chunks)]
        times = [np.empty((32, n), np.float32) for _ in range(chunks)]

        def work(k: int) -> None:
            for _ in range(tiles):
                for low in range(0, grid.bins, slab):
                    part = slice(low, min(low + slab, grid.bins))
                    np.matmul(first[part], second[part], out=out[k][: part.stop - low])
            for _ in range(-(-pairs // 32)):
                np.fft.irfft(padded, n, out=times[k])

        return on_threads(work, chunks)

    return min(best(slab) for slab in (64, 256) for _ in range(2))


def stage(band: Band, stations: int, windows: int, chunks: int) -> float:
    """Return the seconds from spectra in memory to lag-cut pairs, a chunk for each of as many threads."""
    rng = np.random.default_rng(0)
    layout = Layout(stations, ("Z",), ("ZZ",), 64)
    names = tuple(f"YY.S{k:04d}" for k in range(stations))
    spectra = [rng.standard_normal((1, band.grid.bins, 2 * windows), np.float32).view(np.complex64) for _ in range(8)]
    valid = np.ones((1, windows), bool)

    def items(number: int) -> list[SpectraBlock]:
        count = -(-layout.blocks // layout.blocks_per_strip)
        chunk = Chunk(number, number, number + 1, number, number + 1, strips=count)
        return [
            SpectraBlock(
                chunk, name, layout.strips_of(k), (SlotAccount(k, number, "used"),), (k,), (spectra[k % 8],), valid
            )
            for k, name in enumerate(names)
        ]

    given = [items(number) for number in range(chunks)]
    correlators = [CorrelateStrips(layout, (band,), windows, names) for _ in range(chunks)]
    counts = [0] * chunks

    def work(k: int) -> None:
        element = correlators[k]
        element.owns = lambda _: True  # type: ignore[method-assign]
        element._emit = lambda _, item: counts.__setitem__(k, counts[k] + len(getattr(item, "data", ())))
        for item in given[k]:
            element.process({"input": item})

    for element in correlators:
        element.preprocess()
    seconds = on_threads(work, chunks)
    assert counts == [layout.rows] * chunks
    return seconds


def plain_loop(grid: SpectralGrid, windows: int) -> float:
    """Return the seconds per pair of the obvious loop: each window of each pair transformed back and added."""
    rng, m = np.random.default_rng(0), grid.lags
    spectra = np.zeros((4, windows, grid.nfft // 2 + 1), np.complex64)
    spectra[..., grid.first : grid.stop] = rng.standard_normal((4, windows, grid.bins))
    pairs = list(itertools.combinations(range(len(spectra)), 2))
    begin = time.perf_counter()
    for i, j in pairs:
        total = np.zeros(2 * m + 1)
        for first, second in zip(spectra[i], spectra[j], strict=True):
            lags = np.fft.irfft(first.conj() * second, grid.nfft)
            total += np.concatenate([lags[-m:], lags[: m + 1]])
    return (time.perf_counter() - begin) / len(pairs)


def kernel(quick: bool) -> None:
    cases = [(64, 24, 120.0), (256, 24, 120.0), (64, 48, 120.0), (64, 24, 1250.0)]
    for stations, windows, lag_s in cases[:1] if quick else cases:
        band = Band.of(LENGTH, int(lag_s * RATE), RATE, BAND)
        times, raw = [], []
        for _ in range(4):
            times.append(stage(band, stations, windows, WORKERS))
            raw.append(raw_pieces(band.grid, stations, windows, WORKERS))
        pairs = WORKERS * stations * (stations - 1) // 2
        say(
            measured="correlation stage over raw matmul and irfft",
            stations=stations, windows=windows, lag_s=lag_s, threads=WORKERS,
            best=min(times) / min(raw), median=statistics.median(times) / statistics.median(raw),
            us_per_pair_and_thread=1e6 * WORKERS * min(times) / pairs,
            plain_loop_over_stage=plain_loop(band.grid, windows) * pairs / (WORKERS * min(times)),
        )  # fmt: skip


# -- conditioning --------------------------------------------------------------------------------------------------


def conditioning(quick: bool) -> None:
    """A day at 40 Hz with the response of an STS-2 removed, to 4 Hz; on one core."""
    import obspy
    from obspy.core.inventory import Inventory, Network, Station

    station = Station("A", 0, 0, 0, channels=[sts2(40.0)], creation_date=obspy.UTCDateTime(2000))
    inventory = Inventory([Network("XX", stations=[station])])
    inverse = inverse_response(Metadata(inventory).response("XX.A..BHZ", START.ns), 40.0, 2.0, "velocity", 60.0)
    data = np.random.default_rng(0).integers(-9999, 9999, 86_400 * 40).astype(np.int32)
    segment, how, times = Segment(START.ns, Fraction(40), data), Conditioning(4.0, BAND, 4, 40.0), []
    for _ in range(3 if quick else 9):
        begin = time.perf_counter()
        condition([segment], START.ns, 86_400 * 4, how, inverse)
        times.append(time.perf_counter() - begin)
    say(measured="conditioning of a day at 40 Hz, response removed, to 4 Hz, seconds", first=times[0],
        median=statistics.median(times))  # fmt: skip


# -- the whole program ---------------------------------------------------------------------------------------------


def archive(folder: Path, stations: int) -> Path:
    place = folder / f"n{stations}"
    if not (place / "stations.csv").exists():
        write_network(place, stations)
    return place


def scaling(quick: bool, folder: Path) -> None:
    """The whole program, imports and writing included: by stations, and by workers."""
    times: dict[tuple[int, str, int], float] = {}
    sizes = (16, 64) if quick else (16, 64, 128, 256, 512)
    cases = [(n, "threads", WORKERS) for n in sizes] + [(64, "sequential", 1), (64, "processes", WORKERS)]
    cases += [] if quick else [(256, "processes", WORKERS)]
    for stations, mapping, workers in cases:
        runs = []
        for _ in range(1 if quick or stations > 256 else 3):
            out = folder / "out.xcorr"
            found = measured_run(archive(folder, stations), out, [f"run.workers={workers}"], mapping, "4GB")
            subprocess.run(["rm", "-rf", str(out)], check=True)
            runs.append(found)
        found = {k: statistics.median(r[k] for r in runs) for k in runs[0]}
        times[stations, mapping, workers] = found["seconds"]
        pairs = stations * (stations - 1) // 2
        say(measured="whole program, one day at 4 Hz", stations=stations, mapping=mapping, workers=workers, pairs=pairs,
            ms_per_pair=1e3 * found["seconds"] / pairs, **found)  # fmt: skip
    per_pair = {n: times[n, "threads", WORKERS] / (n * (n - 1)) for n in sizes}
    for a, b in itertools.pairwise(sizes):
        say(measured=f"cost per pair, {b} stations over {a}", ratio=per_pair[b] / per_pair[a])


def libraries(quick: bool, folder: Path) -> None:
    """The whole program by the library of its transforms (run.fft), those that are installed, one after another."""
    names = []
    for name in LIBRARIES:
        try:
            library(name)
            names.append(name)
        except FftError as error:
            say(measured="whole program by library", library=name, absent=str(error))
    out, times = folder / "out.xcorr", {name: [] for name in names}  # type: dict[str, list[float]]
    for _, name in itertools.product(range(1 if quick else 5), names):
        found = measured_run(archive(folder, 64), out, [f"run.fft={name}", f"run.workers={WORKERS}"], "threads", "4GB")
        subprocess.run(["rm", "-rf", str(out)], check=True)
        times[name].append(found["seconds"])
    plain = statistics.median(times["pocketfft"])
    for name in names:
        ratio = statistics.median(times[name]) / plain
        say(measured="whole program by library, 64 stations, over pocketfft", library=name, ratio=ratio)


def plan(quick: bool, folder: Path) -> None:
    """What ``xcorr plan`` says over what the run then takes."""
    for stations, mapping in itertools.product((64,) if quick else (64, 256, 1000), ("threads", "processes")):
        if stations == 1000 and mapping == "processes":
            continue
        place, out = archive(folder, stations), folder / "out.xcorr"
        command = [Path(sys.executable).with_name("xcorr"), "plan", place / "stations.csv", "--source"]
        command += [f"sds:{place / 'sds'}", "-m", mapping, "-o", out, "--memory", "4GB", "--json"]
        with tempfile.TemporaryDirectory() as cache:  # so that it is this code that is calibrated
            how = {"capture_output": True, "text": True, "env": {**os.environ, "XDG_CACHE_HOME": cache}}
            said = json.loads(subprocess.run(list(map(str, command)), check=True, **how).stdout)
        runs = [measured_run(place, out, [], mapping, "4GB")]
        subprocess.run(["rm", "-rf", str(out)], check=True)
        for _ in range(0 if quick or stations > 256 else 2):
            runs.append(measured_run(place, out, [], mapping, "4GB"))
            subprocess.run(["rm", "-rf", str(out)], check=True)
        found = {k: statistics.median(r[k] for r in runs) for k in runs[0]}
        say(measured="plan over measured", stations=stations, mapping=mapping, seconds=found["seconds"],
            time=said["seconds"] / found["seconds"], peak_mb=found["peak_mb"],
            memory=said["memory_bytes"] / 1e6 / found["peak_mb"])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=ALL)
    parser.add_argument("--folder", type=Path, help="where archives are kept for the next time")
    given = parser.parse_args()
    prepare_process()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        for name in given.only or ALL:
            if name in ("kernel", "conditioning"):
                globals()[name](given.quick)
            else:
                globals()[name](given.quick, folder)


if __name__ == "__main__":
    main()
