"""How the store of a campaign grows: time and memory of stacking, and of everything that reads accounts.

    python benchmarks/store.py FOLDER --only stack [--stations 200] [--days 365]
    python benchmarks/store.py FOLDER --only accounts [--stations 1000] [--days 365]

``stack``: shards of real size with noise in them are stacked from nothing, then a day is added, and a day is stacked
alone (keep_series = false, so that sums are made). Each time beside it: reading the same bytes in one go, with nothing
in the page cache (as root). ``accounts``: an SDS archive of three components whose files are empty; all chunks are in
the ledger. Then survey, plan, resume, report and ``verify --quick``, each in a process of its own: time and memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from xcorr.campaign.stack import stack_campaign
from xcorr.mappings.engine import available_cores
from xcorr.network.roster import Roster
from xcorr.network.station_list import Station
from xcorr.network.survey import survey_of
from xcorr.pes import WriteShards
from xcorr.pes.correlating.rows import CorrelationRows, StripEnd
from xcorr.pes.items import Chunk, SlotAccount
from xcorr.pes.reading.waveform import Coordinates
from xcorr.settings.recipe import Recipe
from xcorr.settings.toml import build
from xcorr.store import folder as folders
from xcorr.store.ledger import Ledger
from xcorr.store.tables import pair_table

DAY = 86_400
NS = 10**9
START = 1_709_251_200 * NS  # 2024-03-01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=("stack", "accounts"), required=True)
    parser.add_argument("--stations", type=int)
    parser.add_argument("--days", type=int, default=365)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.only == "stack":
        stack(given.folder, given.stations or 200, given.days)
    else:
        accounts(given.folder, given.stations or 1000, given.days)


def campaign(folder: Path, stations: int, keep_series: bool = True, components: tuple[str, ...] = ("ZZ",)):
    settings = build(
        {
            "data": {"source": f"sds:{folder.parent / 'sds'}"},
            "correlate": {"components": list(components)},
            "stack": {"keep_series": keep_series},
            "run": {"mapping": "processes", "workers": available_cores()},
            "provenance": {"level": "off"},
        }
    )
    roster = Roster(
        tuple(
            Station("YY", f"S{k:04d}", Coordinates(40 + 0.09 * (k // 32), 5 + 0.12 * (k % 32), 0.0), ())
            for k in range(stations)
        ),
        (stations,),
    )
    (folder / "shards").mkdir(parents=True)
    folders.freeze_settings(folder, settings)
    ledger = Ledger(folder, settings.hash(), not keep_series)
    ledger.begin()
    ledger.keep_fact("members", roster.to_json(0))
    return Recipe(settings), survey_of(roster, settings), ledger


def write_days(folder: Path, recipe: Recipe, found, ledger: Ledger, days: range) -> None:
    """Write shards of real size: the same noise, rotated from day to day."""
    layout = found.generations[0].layout
    lags = recipe.shape.lags
    noise = np.random.default_rng(0).standard_normal((max(len(layout.strip_rows(s)) for s in layout.strips), lags))
    noise = noise.astype(np.float32)
    writer = WriteShards(str(folder), layout, lags, {"settings_hash": recipe.settings.hash()}, cached=False)
    writer.write = lambda port, record: ledger.keep(record)
    writer._preprocess()
    for day in days:
        begin = START + day * DAY * NS
        chunk = Chunk(day, begin, begin + DAY * NS, begin, begin + DAY * NS)
        for strip in layout.strips:
            rows = len(layout.strip_rows(strip))
            for low in range(0, rows, 1000):
                part = noise[low : min(low + 1000, rows)] + np.float32(day)
                n = np.full(len(part), 24, np.int32)
                writer.process({"input": CorrelationRows(chunk, strip, "", "ZZ", 0, low, part, n)})
            accounts = [SlotAccount(k, 0, "used", windows={"used": 24}) for k in layout.stations_needed(strip)]
            writer.process({"input": StripEnd(chunk, strip, tuple(accounts))})


def forget_cache() -> bool:
    subprocess.run(["sync"], check=True)
    with contextlib.suppress(OSError):
        Path("/proc/sys/vm/drop_caches").write_text("3")
        return True
    return False


def read_through(folder: Path) -> float:
    """Return the seconds that plain reading of all shards takes."""
    cold, start = forget_cache(), time.perf_counter()
    for path in sorted((folder / "shards").glob("*.h5")):
        with path.open("rb", buffering=0) as file:
            while file.read(16 << 20):
                pass
    seconds = time.perf_counter() - start
    print(f"  plain reading     {seconds:8.1f} s, {'cold' if cold else 'from the page cache'}", flush=True)
    return seconds


def stacking(folder: Path, recipe: Recipe, found, ledger: Ledger) -> float:
    pairs = pair_table(found)
    forget_cache()
    start = time.perf_counter()
    stack_campaign(folder, recipe, found, pairs, ledger)
    return time.perf_counter() - start


def stack(folder: Path, stations: int, days: int) -> None:
    shutil.rmtree(folder / "grown.xcorr", ignore_errors=True)
    recipe, found, ledger = campaign(folder / "grown.xcorr", stations)
    start = time.perf_counter()
    write_days(folder / "grown.xcorr", recipe, found, ledger, range(days))
    size = sum(p.stat().st_size for p in (folder / "grown.xcorr" / "shards").iterdir())
    print(f"{stations} stations, {found.rows} pairs, {days} days: {size / 1e9:.1f} GB of shards, "
          f"written in {time.perf_counter() - start:.0f} s", flush=True)  # fmt: skip
    plain = read_through(folder / "grown.xcorr")
    whole = stacking(folder / "grown.xcorr", recipe, found, ledger)
    print(f"  from nothing      {whole:8.1f} s: {plain / whole:.2f} of the speed of plain reading", flush=True)
    write_days(folder / "grown.xcorr", recipe, found, ledger, range(days, days + 1))
    more = stacking(folder / "grown.xcorr", recipe, found, ledger)
    ledger.close()
    shutil.rmtree(folder / "alone.xcorr", ignore_errors=True)
    recipe, found, ledger = campaign(folder / "alone.xcorr", stations, keep_series=False)
    write_days(folder / "alone.xcorr", recipe, found, ledger, range(1))
    alone = stacking(folder / "alone.xcorr", recipe, found, ledger)
    ledger.close()
    print(f"  one day more      {more:8.1f} s; one day alone {alone:.1f} s: ratio {more / alone:.2f}", flush=True)
    for name in ("grown.xcorr", "alone.xcorr"):
        shutil.rmtree(folder / name)


def accounts(folder: Path, stations: int, days: int) -> None:
    """Make the archive and a campaign whose ledger is full; then measure each command in a process of its own."""
    made = folder / "accounts"
    shutil.rmtree(made, ignore_errors=True)
    start = time.perf_counter()
    _empty_archive(made / "sds", stations, days)
    places = [f"YY,S{k:04d},{40 + 0.09 * (k // 32):.4f},{5 + 0.12 * (k % 32):.4f}" for k in range(stations)]
    (made / "stations.csv").write_text("network,station,latitude,longitude\n" + "\n".join(places) + "\n")
    recipe, found, ledger = campaign(made / "x.xcorr", stations, components=("ZZ", "NN", "EE"))
    _full_ledger(made / "x.xcorr", recipe, found, ledger, days)
    ledger.seal()
    ledger.close()
    size = (made / "x.xcorr" / "ledger.sqlite").stat().st_size / 1e6
    print(f"{stations} stations x 3 components x {days} days: made in {time.perf_counter() - start:.0f} s, "
          f"ledger {size:.0f} MB", flush=True)  # fmt: skip
    for name in ("survey", "plan", "resume", "report", "verify"):
        done = subprocess.run([sys.executable, __file__, "--step", name, made], capture_output=True, text=True)
        print(f"  {name:8} {done.stdout.strip() or done.stderr.strip()[-300:]}", flush=True)


def _empty_archive(root: Path, stations: int, days: int) -> None:
    for k in range(stations):
        for letter in "ZNE":
            place = root / "2024" / "YY" / f"S{k:04d}" / f"BH{letter}.D"
            place.mkdir(parents=True)
            for day in range(days):
                year, number = (2024, 61 + day) if day < 306 else (2025, day - 305)
                where = place if year == 2024 else root / "2025" / "YY" / f"S{k:04d}" / f"BH{letter}.D"
                where.mkdir(parents=True, exist_ok=True)
                os.close(os.open(where / f"YY.S{k:04d}..BH{letter}.D.{year}.{number:03d}", os.O_CREAT | os.O_WRONLY))


def _full_ledger(folder: Path, recipe: Recipe, found, ledger: Ledger, days: int) -> None:
    """Enter the shards of all days, as files without rows, and the accounts of all slots."""
    layout = found.generations[0].layout
    writer = WriteShards(str(folder), layout, recipe.shape.lags, {"settings_hash": recipe.settings.hash()})
    writer.write = lambda port, record: ledger.keep(record)
    writer._preprocess()
    ledger._database.execute("PRAGMA synchronous = OFF")
    for day in range(days):
        begin = START + day * DAY * NS
        chunk = Chunk(day, begin, begin + DAY * NS, begin, begin + DAY * NS)
        for strip in layout.strips:
            slots = [s * 3 + k for s in layout.stations_needed(strip) for k in range(3)] if strip == 0 else []
            each = [_account(folder, slot, day) for slot in slots]
            rows = CorrelationRows(chunk, strip, "", "ZZ", 0, 0, np.zeros((1, recipe.shape.lags), np.float32),
                                   np.array([24], np.int32))  # fmt: skip
            writer.process({"input": rows})
            writer.process({"input": StripEnd(chunk, strip, tuple(each))})


def _account(folder: Path, slot: int, day: int) -> SlotAccount:
    code, letter = f"S{slot // 3:04d}", "ZNE"[slot % 3]
    year, number = (2024, 61 + day) if day < 306 else (2025, day - 305)
    path = (
        folder.parent
        / "sds"
        / str(year)
        / "YY"
        / code
        / f"BH{letter}.D"
        / f"YY.{code}..BH{letter}.D.{year}.{number:03d}"
    )
    files = ((str(path), 0, 0),)
    return SlotAccount(slot, 0, "used", "", f"YY.{code}..BH{letter}", files, 345_600, windows={"used": 24})


def step(name: str, made: Path) -> None:
    """Do one thing, and print its time and the largest memory of this process."""
    from xcorr.campaign.remaining import what_remains
    from xcorr.network.survey import survey_list
    from xcorr.store.accounts import availability
    from xcorr.store.report import make_report
    from xcorr.store.verify import problems

    folder = made / "x.xcorr"
    settings = folders.frozen_settings(folder)
    start = time.perf_counter()
    told = ""
    if name == "verify":
        told = f"{len(list(problems(folder, quick=True)))} problem(s)"
    else:
        ledger = Ledger(folder, settings.hash(), False)
        found = survey_list(made / "stations.csv", settings, Roster.from_json(ledger.fact("members")))
        told = f"{len(found.chunks)} chunks"
        if name in ("plan", "resume"):
            from xcorr.campaign.workflows import bytes_to_write

            todo = what_remains(found, ledger, settings, refresh=False).todo
            told = f"{sum(len(c.wanted or ()) for chunks in todo.values() for c in chunks)} shard(s) remain"
            bytes_to_write(Recipe(settings), found, todo, len(found.chunks))
        if name == "report":
            report = make_report(settings, found, ledger, 0, folder)
            seen = availability(folder)
            told = f"{len(json.dumps(report)) / 1e6:.1f} MB, {seen.share.shape[0]} slots"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{time.perf_counter() - start:6.1f} s, {peak:6.0f} MB; {told}")


if __name__ == "__main__":
    if sys.argv[1] == "--step":
        step(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
