"""Makes a finished campaign of real size with noise in it: 1,000 stations (499,500 pairs), two years, by default.

    python benchmarks/big_campaign.py FOLDER [--stations 1000] [--days 730]

Stacks of all pairs are written. Series have values for the first 64 pairs only, so that the shards take little space;
all shards of all days are there. The ledger has the account of every channel on every day, and the provenance store has
every invocation of the elements before correlation, and every file. Needs 8 GB of disk for the default size.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import numpy as np
from store import DAY, NS, START, campaign

from xcorr.pes import WriteShards
from xcorr.pes.correlating.rows import CorrelationRows, StripEnd
from xcorr.pes.items import Chunk, SlotAccount
from xcorr.pes.stacking.result_file import WriteResults
from xcorr.pes.stacking.stack import StackedRows
from xcorr.provenance.campaign_lineage import CHAIN
from xcorr.provenance.store import INSERTS, NAME, create, folder_of
from xcorr.store.tables import pair_table, tables

WITH_SERIES = 64  # pairs
BLOCK = 5000  # rows of stacks written at once


def make(folder: Path, stations: int, days: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    recipe, found, ledger = campaign(folder, stations)
    start = time.perf_counter()
    _shards(folder, recipe, found, ledger, days)
    ledger.seal()
    print(f"shards and ledger {time.perf_counter() - start:6.0f} s", flush=True)
    _results(folder, recipe, found, ledger, days)
    print(f"results           {time.perf_counter() - start:6.0f} s", flush=True)
    ledger.close()
    _provenance(folder, stations, days)
    print(f"provenance        {time.perf_counter() - start:6.0f} s", flush=True)


def chunk_of(day: int) -> Chunk:
    begin = START + day * DAY * NS
    return Chunk(day, begin, begin + DAY * NS, begin, begin + DAY * NS)


def file_of(station: int, day: int) -> str:
    return f"/archive/2024/YY/S{station:04d}/BHZ.D/YY.S{station:04d}..BHZ.D.2024.{day + 61:03d}"


def _shards(folder: Path, recipe, found, ledger, days: int) -> None:
    layout, lags = found.generations[0].layout, recipe.shape.lags
    noise = np.random.default_rng(0).standard_normal((WITH_SERIES, lags)).astype(np.float32)
    attributes = {"settings_hash": recipe.settings.hash()}
    writer = WriteShards(str(folder), layout, lags, attributes, members=found.roster.to_json(0))
    writer.write = lambda port, record: ledger.keep(record)
    writer._preprocess()
    ledger._database.execute("PRAGMA synchronous = OFF")
    for day in range(days):
        for strip in layout.strips:
            each = []
            if strip == 0:
                n = np.full(WITH_SERIES, 24, np.int32)
                data = noise + np.float32(day % 30 / 10)
                writer.process({"input": CorrelationRows(chunk_of(day), strip, "", "ZZ", 0, 0, data, n)})
                each = [
                    SlotAccount(k, 0, "used", "", f"YY.S{k:04d}..BHZ", ((file_of(k, day), 345_600, day),), 345_600,
                                windows={"used": 24})
                    for k in layout.stations_needed(strip)
                ]  # fmt: skip
            writer.process({"input": StripEnd(chunk_of(day), strip, tuple(each))})


def _results(folder: Path, recipe, found, ledger, days: int) -> None:
    starts = [chunk_of(day).start_ns for day in range(days)]
    pairs = pair_table(found)
    result = WriteResults(str(folder), tables(recipe, found, pairs, starts, ledger.shards()))
    result._preprocess()
    random, lags = np.random.default_rng(1), recipe.shape.lags
    for first in range(0, len(pairs), BLOCK):
        size = min(BLOCK, len(pairs) - first)
        mean = random.standard_normal((size, lags), np.float32)
        snr, symmetry = random.gamma(2.0, 5.0, size).astype(np.float32), random.random(size, np.float32)
        n = np.full(size, 24 * days, np.int32)
        error = np.abs(mean) / 100
        rows = StackedRows(first, "", "ZZ", {"linear": mean}, error, n, {"linear": snr}, {"linear": symmetry})
        result.process({"input": rows})
    result._postprocess()


def _provenance(folder: Path, stations: int, days: int) -> None:
    folder_of(folder).mkdir(exist_ok=True)
    store = create(folder_of(folder) / NAME, indexed=True)
    store.execute("PRAGMA synchronous = OFF")
    store.execute("BEGIN")
    run = (1, 1.7e9, 1.7e9 + days, "done", "invocation", "processes", 8, "somebody", "host", 1, "xcorr", "x", "")
    store.execute(INSERTS["run"], run)
    for name in (*CHAIN, "CorrelateStrips", "StackRows"):
        store.execute(INSERTS["element"], (1, name, f"xcorr.pes:{name}", "1", "x", "single", "{}"))
    for day in range(days):
        at = 1.7e9 + day
        rows = []
        for k in range(stations):
            identity = f"{chunk_of(day).name}.00/YY.S{k:04d}"
            before = f"StationSource.output:{identity}"
            for element in CHAIN:
                name, seq = f"{element}({before})", day * (stations // 8 + 1) + k // 8
                rows.append((1, name, element, k % 8, k % 8, seq, "input", before, "", at, at + 0.01, "done"))
                before = f"{element}.output:{identity}"
        store.executemany(INSERTS["invocation"], rows)
        products = [
            (1, f"{r[2]}.output:{r[1].partition(':')[2][:-1]}", r[2], r[3], "output", r[5], "", at) for r in rows
        ]
        store.executemany(INSERTS["product"], products)
        store.executemany(INSERTS["file"], [(file_of(k, day), 345_600, day, "0" * 64) for k in range(stations)])
    store.execute("COMMIT")
    store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stations", type=int, default=1000)
    parser.add_argument("--days", type=int, default=730)
    given = parser.parse_args()
    make(given.folder, given.stations, given.days)
