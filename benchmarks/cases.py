"""What whole programs take on the work that people have, beside the limit of this machine for each.

    python benchmarks/cases.py FOLDER [--cases P1 P6 ...] [--share 0.1] [--mapping threads]

``--share`` takes a part of the days. Archives are kept in FOLDER; every day of a station has the same samples. Prints a
line of JSON for each case: wall, CPU and memory of the program, seconds inside each element, what was outside of all,
and the parts of the limit: decoding of the files, bare FFTs, bare matrix products, writing of the bytes that are there
in the end, each measured in this run on one core. ``over_limit`` is the wall time of all workers over their sum.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import obspy
from headline import run as measured_run
from synthetic import START, station_line, sts2, write_list

from xcorr.pes.correlating.gridding import gridding
from xcorr.pes.preparing.whiten import Band
from xcorr.pes.process_setup import prepare_process
from xcorr.pes.transforms.fft import next_fast_len
from xcorr.store.folder import frozen_settings

RECORD = 4096


@dataclasses.dataclass(frozen=True)
class Case:
    """Stations, days, letters of the channels, sampling rate (Hz), and settings."""

    stations: int
    days: int
    letters: str = "Z"
    rate_hz: float = 4.0
    settings: tuple[str, ...] = ()
    response: bool = False


NINE = 'correlate.components=["ZZ","ZN","ZE","NZ","NN","NE","EZ","EN","EE"]'
PHASED = ('correlate.method="phase"', 'whiten.method="none"')
LONG = (*PHASED, "correlate.max_lag_s=7200", "window.length_s=14400", "window.step_s=14400")
CASES = {
    "P1": Case(2, 365),
    "P2": Case(12, 365, "ZNE", settings=(NINE, "stack.substack_s=3600")),
    "P3": Case(64, 30),
    "P4": Case(256, 7, "ZNE", settings=(NINE,)),
    "P5": Case(1000, 1),
    "P6": Case(2, 182, settings=LONG),
    "P6low": Case(2, 182, settings=("condition.rate_hz=0.1", "condition.band_hz=[0.005,0.04]", *LONG)),
    "P7": Case(16, 1, rate_hz=100.0, settings=("condition.rate_hz=4",), response=True),
    "P8": Case(64, 1),
    "P8large": Case(256, 1),
    "phase": Case(2, 182, settings=PHASED),
    "three": Case(24, 1, "ZNE", settings=('correlate.components=["ZZ","NN","EE"]',)),
    "month": Case(16, 30),
    "scale": Case(200, 30),
}


def write_archive(folder: Path, case: Case) -> Path:
    """Write archive and list below ``folder``, if they are not there; return the folder."""
    place = folder / f"n{case.stations}x{case.days}{case.letters}{case.rate_hz:g}{'R' * case.response}"
    if (place / "stations.csv").exists():
        return place
    samples = int(86_400 * case.rate_hz)
    common = np.random.default_rng(0).standard_normal(samples + 4000)
    for k in range(case.stations):
        code = f"S{k:04d}"
        for j, letter in enumerate(case.letters):
            rng = np.random.default_rng([k, j])
            delay = int(rng.integers(0, 400))
            data = np.round(100 * (common[delay : delay + samples] + rng.standard_normal(samples))).astype(np.int32)
            header = {"network": "YY", "station": code, "channel": f"BH{letter}", "sampling_rate": case.rate_hz}
            memory = io.BytesIO()
            obspy.Trace(data, header | {"starttime": START}).write(
                memory, format="MSEED", encoding="STEIM2", reclen=RECORD
            )
            records = np.frombuffer(memory.getvalue(), np.uint8).reshape(-1, RECORD).copy()
            for day in range(case.days):
                date = START + day * 86_400
                records[:, 20:24] = np.frombuffer(np.array([date.year, date.julday], ">u2").tobytes(), np.uint8)
                at = place / "sds" / f"{date.year}" / "YY" / code / f"BH{letter}.D"
                at.mkdir(parents=True, exist_ok=True)
                records.tofile(at / f"YY.{code}..BH{letter}.D.{date.year}.{date.julday:03d}")
    if case.response:
        write_metadata(place, case)
    write_list(place, case.stations)
    return place


def write_metadata(place: Path, case: Case) -> None:
    """Write StationXML with an STS-2 for every station."""
    from obspy.core.inventory import Inventory, Network, Station

    stations = []
    for k in range(case.stations):
        _, code, *at = station_line(k).split(",")
        channels = [sts2(case.rate_hz, f"BH{letter}", tuple(map(float, at))) for letter in case.letters]
        stations.append(Station(code, *map(float, at), channels=channels, creation_date=obspy.UTCDateTime(2000)))
    Inventory([Network("YY", stations=stations)]).write(str(place / "stations.xml"), format="STATIONXML")


def best(call: Callable[[], object], times: int = 3) -> float:
    """Return the least seconds that a call takes."""
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        found.append(time.perf_counter() - begin)
    return min(found)


def limits(case: Case, days: int, place: Path, out: Path) -> dict[str, float]:
    """Return the seconds on one core of the work that nothing can avoid."""
    import pymseed

    how, rng = frozen_settings(out), np.random.default_rng(0)
    rate, length = how.condition.rate_hz, how.samples(how.window.length_s)
    band = Band.of(length, how.samples(how.correlate.max_lag_s), rate, how.whiten_band_hz)
    grid, short = band.grid, gridding(band.grid)
    windows = int((86_400 - how.window.length_s) // how.window.step_s) + 1
    pieces = max(1, round(86_400 / how.stack.substack_s)) if how.stack.substack_s else 1
    copies = 2 if how.correlate.method == "phase" else 1
    channel_days, letters = case.stations * len(case.letters) * days, len(case.letters)
    slots = case.stations * letters
    rows = case.stations * (case.stations - 1) // 2 * len(how.correlate.components) * pieces * days

    file = next(path for path in sorted((place / "sds").rglob("*")) if path.is_file())
    decode = best(
        lambda: [s.np_datasamples for t in pymseed.MS3TraceList.from_file(str(file), unpack_data=True) for s in t]
    )
    samples = int(86_400 * case.rate_hz)
    day = rng.standard_normal(next_fast_len(samples), np.float32)
    one = rng.standard_normal((windows, grid.nfft), np.float32)
    nfft = short.nfft if short else grid.nfft
    half = rng.standard_normal((32, nfft // 2 + 1), np.float32).astype(np.complex64)
    long = best(lambda: np.fft.irfft(np.fft.rfft(day)))
    transforms = best(lambda: np.fft.rfft(one))
    if how.correlate.method == "phase":  # by its definition: the analytic signal of the day, complex windows
        common = rng.standard_normal(next_fast_len(int(86_400 * rate)), np.float32)
        whole = np.fft.fft(common)
        long += best(lambda: np.fft.ifft(whole))
        long += best(lambda: np.fft.rfft(common))
        transforms = best(lambda: np.fft.fft(one))
    inverse = best(lambda: np.fft.irfft(half, nfft)) / 32
    side = min(slots, 64)
    of_piece = max(1, windows * copies // pieces)
    bins = min(grid.bins, 512)
    a = rng.standard_normal((bins, side, 2 * of_piece), np.float32).view(np.complex64)
    b = np.ascontiguousarray(a.transpose(0, 2, 1))
    products = best(lambda: np.matmul(a, b)) * grid.bins / bins * max(1, math.ceil(slots / side) ** 2 / 2)
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    block, probe = rng.bytes(64 << 20), out.parent / "probe"

    def write() -> None:
        with probe.open("wb") as stream:
            stream.write(block)
            os.fsync(stream.fileno())

    disk = best(write) / len(block)
    probe.unlink()
    return {
        "decode": channel_days * decode,
        "ffts": channel_days * (long + transforms) + rows * inverse,
        "products": products * pieces * days,
        "write": size * disk,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--mapping", nargs="+", default=["sequential"])
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--repeat", type=int, default=1)
    given = parser.parse_args()
    prepare_process()
    for name in given.cases:
        case = CASES[name]
        days = max(1, round(given.share * case.days))
        place = write_archive(given.folder, dataclasses.replace(case, days=days))
        out = given.folder / "out.xcorr"
        for mapping in given.mapping:
            workers = 1 if mapping == "sequential" else given.workers
            settings = [*case.settings, *([] if mapping == "sequential" else [f"run.workers={workers}"])]
            if case.response:
                settings += [f"data.metadata={place / 'stations.xml'}", "condition.response=velocity"]
            runs = []
            for _ in range(given.repeat):
                shutil.rmtree(out, ignore_errors=True)
                runs.append(measured_run(place, out, settings, mapping, "4GB"))
            found = min(runs, key=lambda r: r["seconds"])
            report = json.loads((out / "report.json").read_text())["workers"]
            elements = report["element_seconds"]
            limit = limits(case, days, place, out)
            outside = found["seconds"] * workers - sum(elements.values())
            said: dict[str, Any] = {"case": name, "days": days, "mapping": mapping, "workers": workers, **found}
            said |= {"over_limit": round(found["seconds"] * workers / sum(limit.values()), 2)}
            said |= {"limit": {k: round(v, 3) for k, v in limit.items()}}
            said |= {"elements": {**elements, "outside": round(outside, 3)}}
            print(json.dumps(said), flush=True)
        shutil.rmtree(out, ignore_errors=True)


if __name__ == "__main__":
    main()
