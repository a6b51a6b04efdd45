"""Campaigns: nothing lost, nothing done twice. Kills, new days, new stations, locks, full disks, damage."""

import contextlib
import csv
import json
import os
import random
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import h5py
import numpy as np
import obspy
import pytest
from archives import START, settings, station_list, trace, waveform, write
from conftest import ROOT, accounts_of
from processes import marked

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.network.roster import Roster
from xcorr.results.compare import differences
from xcorr.store import sqlite_files
from xcorr.store.folder import CampaignError
from xcorr.store.ledger import Ledger
from xcorr.store.ledger_reader import LedgerError
from xcorr.store.lock import CampaignLock, Locked, is_running
from xcorr.store.pack import pack
from xcorr.store.reconcile import reconcile
from xcorr.store.verify import problems, state

DAY = 86_400


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """An archive of five stations and four days, at 1 Hz."""
    root = tmp_path_factory.mktemp("days") / "sds"
    for k, code in enumerate(("AAA", "BBB", "CCC", "DDD", "EEE")):
        for day in range(4):
            folder = root / "2024" / "XX" / code / "BHZ.D"
            folder.mkdir(parents=True, exist_ok=True)
            data = waveform(10 * day + k, seconds=DAY, rate=1.0)
            one = trace(code, data, 1.0, start=START + day * DAY)
            one.write(str(folder / f"XX.{code}..BHZ.D.2024.{61 + day:03d}"), format="MSEED")
    return root


def daily(root, until=4, **sections):
    data = {"start": "2024-03-01", "end": f"2024-03-{1 + until:02d}", "chunk_s": DAY}
    how = {"condition": {"rate_hz": 1.0, "band_hz": [0.05, 0.4]}, "window": {"length_s": 3600.0, "step_s": 3600.0}}
    return settings(root, **{"data": data, **how, **sections})


def same(first, second):
    return list(differences(first, second)) == []


def checksums(folder):
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (folder / "shards").glob("*.h5")}


def test_new_days_are_added_and_only_they_are_read(days, tmp_path):
    stations = station_list(tmp_path, "AAA", "BBB", "CCC")
    run_campaign(stations, tmp_path / "grown.xcorr", daily(days, 2))
    before = checksums(tmp_path / "grown.xcorr")
    again = run_campaign(stations, tmp_path / "grown.xcorr", daily(days, 4))
    run_campaign(stations, tmp_path / "once.xcorr", daily(days, 4))
    assert again.report["shards_kept"] == 2
    assert again.report["workers"]["items"]["ReadStation"] == 6, "three stations on two new days"
    assert again.report["chunks"] == 4
    assert len(accounts_of(again.folder)) == 12
    after = checksums(tmp_path / "grown.xcorr")
    assert {name: after[name] for name in before} == before
    assert same(tmp_path / "grown.xcorr", tmp_path / "once.xcorr")
    third = run_campaign(stations, tmp_path / "grown.xcorr", daily(days, 4))
    assert (third.report["shards_kept"], third.report["workers"]["items"]) == (4, {})
    assert same(tmp_path / "grown.xcorr", tmp_path / "once.xcorr")


def test_an_earlier_day_comes_first(days, tmp_path):
    stations = station_list(tmp_path, "AAA", "BBB")
    late = daily(days, 4, data={"start": "2024-03-03", "end": "2024-03-05", "chunk_s": DAY})
    run_campaign(stations, tmp_path / "x.xcorr", late)
    run_campaign(stations, tmp_path / "x.xcorr", daily(days, 1))
    with results.open(tmp_path / "x.xcorr") as found:
        assert [str(t)[:10] for t in found.pieces[:, 0]] == ["2024-03-01", "2024-03-03", "2024-03-04"]
        alone = found.get("XX.AAA", "XX.BBB", stack=None)
    run_campaign(stations, tmp_path / "y.xcorr", daily(days, 1))
    with results.open(tmp_path / "y.xcorr") as other:
        first = other.get("XX.AAA", "XX.BBB", stack=None)
    assert alone.values[0].tobytes() == first.values[0].tobytes()


@pytest.mark.parametrize("block", [8, 64])
def test_stations_are_appended_and_old_pairs_never_touched(days, tmp_path, block):
    how = {"correlate": {"block": block, "max_lag_s": 60.0}}
    run_campaign(station_list(tmp_path, "BBB", "DDD", "AAA"), tmp_path / "grown.xcorr", daily(days, 2, **how))
    before = checksums(tmp_path / "grown.xcorr")
    with results.open(tmp_path / "grown.xcorr") as found:
        old = list(found.pairs[["station_1", "station_2"]].itertuples(index=False, name=None))
    more = station_list(tmp_path, "CCC", "BBB", "DDD", "AAA", "EEE")
    again = run_campaign(more, tmp_path / "grown.xcorr", daily(days, 2, **how))
    after = checksums(tmp_path / "grown.xcorr")
    assert {name: after[name] for name in before} == before
    assert again.report["shards_kept"] == len(before)
    run_campaign(
        station_list(tmp_path, "BBB", "DDD", "AAA", "CCC", "EEE"), tmp_path / "once.xcorr", daily(days, 2, **how)
    )
    with results.open(tmp_path / "grown.xcorr") as a, results.open(tmp_path / "once.xcorr") as b:
        assert list(a.stations["id"]) == ["XX.BBB", "XX.DDD", "XX.AAA", "XX.CCC", "XX.EEE"]
        pairs = list(a.pairs[["station_1", "station_2"]].itertuples(index=False, name=None))
        assert pairs[:3] == old
        assert len(pairs) == 10
        for first, second in pairs:
            for stack in ("linear", None):
                x, y = (r.get(first, second, stack=stack).values for r in (a, b))
                assert x.tobytes() == y.tobytes(), (first, second)
    assert again.report["pairs_with_data"] == 10


def test_a_station_that_is_no_longer_listed_keeps_its_place(days, tmp_path):
    run_campaign(station_list(tmp_path, "AAA", "BBB", "CCC"), tmp_path / "x.xcorr", daily(days, 1))
    run_campaign(station_list(tmp_path, "AAA", "CCC"), tmp_path / "x.xcorr", daily(days, 2))
    with results.open(tmp_path / "x.xcorr") as found:
        assert found.get("XX.AAA", "XX.BBB", stack=None).coords["n_windows"].values.tolist()[1] == 0
        assert (found.get("XX.AAA", "XX.CCC", stack=None).coords["n_windows"].values > 0).all()


def test_the_order_of_stations_is_settled_before_their_first_shard(days, tmp_path, monkeypatch):
    """A run that dies while it appends stations, and a list that has changed again when it is repeated."""
    import xcorr.campaign.run as module

    run_campaign(station_list(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr", daily(days, 2))

    def die(*_, **__):
        raise RuntimeError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(module, "stack_campaign", die)
        with pytest.raises(RuntimeError, match="killed here"):
            run_campaign(station_list(tmp_path, "AAA", "BBB", "DDD"), tmp_path / "x.xcorr", daily(days, 1))
    last = run_campaign(station_list(tmp_path, "CCC", "AAA", "BBB", "DDD"), tmp_path / "x.xcorr", daily(days, 2))
    assert last.report["pairs_with_data"] == 6
    with results.open(tmp_path / "x.xcorr") as found:
        assert list(found.stations["id"]) == ["XX.AAA", "XX.BBB", "XX.DDD", "XX.CCC"]
        everything = found.get("XX.DDD", "XX.CCC", stack=None)
    assert (everything.coords["n_windows"].values > 0).all()


def test_wrong_usage_leaves_no_folder(days, tmp_path, invoke):
    stations = station_list(tmp_path, "AAA")
    assert invoke("run", stations, "--source", f"sds:{days}", "-o", tmp_path / "x.xcorr").exit_code == 1
    assert not (tmp_path / "x.xcorr").exists()


def test_refresh_makes_again_what_came_from_changed_files(days, tmp_path):
    root = tmp_path / "sds"
    shutil.copytree(days, root)
    stations = station_list(tmp_path, "AAA", "BBB", "CCC")
    run_campaign(stations, tmp_path / "x.xcorr", daily(root, 3))
    path = root / "2024" / "XX" / "BBB" / "BHZ.D" / "XX.BBB..BHZ.D.2024.062"
    trace("BBB", waveform(99, DAY, 1.0), 1.0, start=START + DAY).write(str(path), format="MSEED")
    kept = run_campaign(stations, tmp_path / "x.xcorr", daily(root, 3))
    assert kept.report["shards_kept"] == 3
    made = run_campaign(stations, tmp_path / "x.xcorr", daily(root, 3), refresh=True)
    assert made.report["shards_kept"] == 1, "the next day also reads the file: its last record may run over midnight"
    run_campaign(stations, tmp_path / "y.xcorr", daily(root, 3))
    assert same(tmp_path / "x.xcorr", tmp_path / "y.xcorr")


@pytest.mark.parametrize(("count", "memory"), [(1, "enough"), (2, "enough"), (2, "little")])
def test_when_the_disk_begins_changes_nothing(days, tmp_path, monkeypatch, count, memory):
    """Series that are read again stay in memory where half of it can hold them; others leave it once written."""
    stations, asked = station_list(tmp_path, "AAA", "BBB", "CCC"), []
    run_campaign(stations, tmp_path / "x.xcorr", daily(days, count))
    advise = os.posix_fadvise

    def ask(descriptor, first, size, how):
        asked.append((first, first + size))
        advise(descriptor, first, size, how)

    monkeypatch.setattr("xcorr.pes.storing.write_shards.WRITE_BYTES", 100)
    monkeypatch.setattr(os, "posix_fadvise", ask)
    if memory == "little":
        monkeypatch.setattr("xcorr.campaign.workflows.memory_of_machine", lambda: 1000)
    run_campaign(stations, tmp_path / "y.xcorr", daily(days, count))
    if count == 2 and memory == "enough":
        assert len(asked) == 2 * count, "once for the pairs of each first station"
        assert all(a[1] == b[0] for a, b in zip(asked[::2], asked[1::2], strict=True))
    else:
        assert len(asked) == 3 * count, "and once when all is on the disk"
        assert {first for first, _ in asked} == {0}
    assert same(tmp_path / "x.xcorr", tmp_path / "y.xcorr")


def test_refresh_keeps_what_is_no_longer_listed(days, tmp_path):
    run_campaign(station_list(tmp_path, "AAA", "BBB", "CCC"), tmp_path / "x.xcorr", daily(days, 1))
    before = checksums(tmp_path / "x.xcorr")
    again = run_campaign(station_list(tmp_path, "AAA", "CCC"), tmp_path / "x.xcorr", daily(days, 1), refresh=True)
    assert (again.report["shards_kept"], again.report["pairs_with_data"]) == (1, 3)
    assert checksums(tmp_path / "x.xcorr") == before


@pytest.mark.parametrize("code", [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN])
def test_a_ledger_that_cannot_be_used_now_is_not_lost(days, tmp_path, monkeypatch, code):
    folder, stations = tmp_path / "x.xcorr", station_list(tmp_path, "AAA", "BBB")
    run_campaign(stations, folder, daily(days, 1, stack={"keep_series": False}))
    before = (folder / "ledger.sqlite").read_bytes()
    with monkeypatch.context() as patch, contextlib.ExitStack() as held:
        if code == sqlite3.SQLITE_BUSY:
            patch.setattr(sqlite_files, "WAIT_S", 0.1)
            patch.setattr(sqlite_files, "_is_local", lambda _: False)  # else readers and writers do not meet
            Ledger(folder).close()
            before = (folder / "ledger.sqlite").read_bytes()
            connect = sqlite3.connect
            other = held.enter_context(contextlib.closing(connect(folder / "ledger.sqlite", isolation_level=None)))
            other.execute("BEGIN EXCLUSIVE")
        else:
            descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
            held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, descriptors)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, descriptors[1]))
        with pytest.raises(LedgerError, match=r"cannot be used now: (database is locked|unable to open database file)"):
            Ledger(folder)
    assert (folder / "ledger.sqlite").read_bytes() == before
    with contextlib.closing(Ledger(folder)) as ledger:
        assert len(ledger.shards()) == 1


def test_a_look_at_a_campaign_does_not_keep_a_run_out(tmp_path):
    """Whoever asks for the state of a campaign holds its lock for a moment."""
    (tmp_path / "lock").touch()
    looks = threading.Event()

    def look():
        while not looks.is_set():
            is_running(tmp_path)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(200):
            with CampaignLock(tmp_path):
                pass
    finally:
        looks.set()
        thread.join()


def test_what_failed_is_tried_again_and_what_is_absent_is_not(days, tmp_path):
    root = tmp_path / "sds"
    shutil.copytree(days, root)
    path = root / "2024" / "XX" / "BBB" / "BHZ.D" / "XX.BBB..BHZ.D.2024.062"
    good = path.read_bytes()
    path.write_bytes(b"000001D " + b"\xff" * 4096)
    (path.parent / "XX.BBB..BHZ.D.2024.063").unlink()
    stations = station_list(tmp_path, "AAA", "BBB")
    first = run_campaign(stations, tmp_path / "x.xcorr", daily(root, 3))
    assert first.exit_code == 3
    # the bad file is one of two that the day after is read from, so that day is tried again too
    assert run_campaign(stations, tmp_path / "x.xcorr", daily(root, 3)).report["shards_kept"] == 1
    path.write_bytes(good)
    healed = run_campaign(stations, tmp_path / "x.xcorr", daily(root, 3))
    assert (healed.exit_code, healed.report["shards_kept"]) == (0, 1)
    assert healed.report["slots_by_status"]["used"] == 5


def test_other_settings_are_refused_with_what_differs(days, tmp_path, invoke):
    stations = station_list(tmp_path, "AAA", "BBB")
    run_campaign(stations, tmp_path / "x.xcorr", daily(days, 1))
    with pytest.raises(CampaignError, match=r"other settings:\n  whiten.method: 'phase' there, 'none' now\n"):
        run_campaign(stations, tmp_path / "x.xcorr", daily(days, 1, whiten={"method": "none"}))
    run_campaign(stations, tmp_path / "x.xcorr", daily(days, 1, stack={"methods": ["linear", "pws"]}))


def test_a_campaign_in_use_is_refused_and_a_dead_lock_is_taken_over(days, tmp_path):
    stations, folder = station_list(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr"
    folder.mkdir()
    program = f"""
import time, sys
from pathlib import Path
from xcorr.store.lock import CampaignLock
with CampaignLock(Path({str(folder)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(Locked, match=f"in use by process {other.pid} on {socket.gethostname()}"):
            run_campaign(stations, folder, daily(days, 1))
        other.kill()
    assert run_campaign(stations, folder, daily(days, 1)).exit_code == 0
    (folder / "lock").write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    with pytest.raises(Locked, match=r"process 1 on elsewhere.*remove .*lock"):
        run_campaign(stations, folder, daily(days, 1))
    (folder / "lock").unlink()
    with CampaignLock(folder):
        assert state(folder)["running"].startswith(f"process {os.getpid()}")
    assert state(folder)["running"] == "no"


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def flip_series(path):
    with h5py.File(path) as file:
        at = file["series/ZZ"].id.get_chunk_info(0).byte_offset
    flip(path, at + 100)


DAMAGE = {
    "truncated": lambda f: os.truncate(next(f.glob("shards/*.h5")), 5000),
    "empty": lambda f: next(f.glob("shards/*.h5")).write_bytes(b""),
    "flipped": lambda f: flip_series(next(f.glob("shards/*.h5"))),
    "deleted": lambda f: next(f.glob("shards/*.h5")).unlink(),
    "no ledger": lambda f: (f / "ledger.sqlite").unlink(),
    "garbage ledger": lambda f: (f / "ledger.sqlite").write_bytes(b"garbage" * 1000),
    "flipped ledger": lambda f: flip(f / "ledger.sqlite", 0),
    "truncated ledger": lambda f: os.truncate(f / "ledger.sqlite", 6000),
    "no results": lambda f: (f / "xcorr.h5").unlink(),
    "truncated results": lambda f: os.truncate(f / "xcorr.h5", 3000),
    "leftover": lambda f: (f / "shards" / ".x.h5.1.part").write_bytes(b"x"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_verify_names_damage_and_a_rerun_repairs_it(days, tmp_path, damage, invoke):
    stations, folder = station_list(tmp_path, "AAA", "BBB", "CCC"), tmp_path / "x.xcorr"
    run_campaign(stations, folder, daily(days, 2))
    run_campaign(stations, tmp_path / "whole.xcorr", daily(days, 2))
    assert list(problems(folder)) == []
    assert invoke("verify", folder).exit_code == 0
    DAMAGE[damage](folder)
    result = invoke("verify", folder)
    assert result.exit_code == 1, result.output
    assert "xcorr run with the same list makes again" in result.output
    again = run_campaign(stations, folder, daily(days, 2))
    assert again.exit_code == 0
    assert list(problems(folder)) == []
    assert same(folder, tmp_path / "whole.xcorr")
    assert len(accounts_of(again.folder)) == 6


def test_every_flipped_byte_of_a_shard_is_found_or_does_not_matter(days, tmp_path):
    stations, folder = station_list(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr"
    run_campaign(stations, folder, daily(days, 1))
    with results.open(folder) as found:
        good = found.get("XX.AAA", "XX.BBB", stack=None)
    shard = next(folder.glob("shards/*.h5"))
    whole, rng = shard.read_bytes(), random.Random(1)
    for _ in range(60):
        at = rng.randrange(len(whole))
        flip(shard, at)
        if not any("h5" in p for p in problems(folder)):
            with results.open(folder) as found:
                got = found.get("XX.AAA", "XX.BBB", stack=None)
            assert got.values.tobytes() == good.values.tobytes(), f"byte {at} of {len(whole)}"
            assert (got.coords["n_windows"].values == good.coords["n_windows"].values).all()
        shard.write_bytes(whole)


def test_a_full_disk_is_seen_before_the_start_and_stops_cleanly(days, tmp_path, monkeypatch):
    disk = tmp_path / "small"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", disk]).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        stations = station_list(tmp_path, "AAA", "BBB", "CCC", "DDD")
        wide = daily(days, 4, correlate={"max_lag_s": 1800.0})
        with pytest.raises(CampaignError, match=r"the run would write 0\.5 MB and the disk has 0\.\d MB free"):
            run_campaign(stations, disk / "x.xcorr", wide)
        subprocess.run(["mount", "-o", "remount,size=1800k", disk], check=True)
        with monkeypatch.context() as patch:
            patch.setattr(
                "xcorr.campaign.run.bytes_to_write", lambda *_: 0
            )  # as if another program filled the disk meanwhile
            with pytest.raises(Exception, match="is full: .* make room and run again: what is finished is kept"):
                run_campaign(stations, disk / "y.xcorr", wide)
        assert list((disk / "y.xcorr").rglob(".*.part")) == []
        assert 0 < len(list((disk / "y.xcorr").glob("shards/*.h5"))) < 4
        subprocess.run(["mount", "-o", "remount,size=30m", disk], check=True)
        assert run_campaign(stations, disk / "y.xcorr", wide).exit_code == 0
        run_campaign(stations, tmp_path / "z.xcorr", wide)
        assert same(disk / "y.xcorr", tmp_path / "z.xcorr")
    finally:
        subprocess.run(["umount", "-l", disk], check=True)  # a traceback may hold a file


def test_new_stacks_without_waveforms(days, tmp_path, invoke):
    root, folder = tmp_path / "sds", tmp_path / "x.xcorr"
    shutil.copytree(days, root)
    stations = station_list(tmp_path, "AAA", "BBB", "CCC")
    run_campaign(stations, folder, daily(root, 3))
    shutil.rmtree(root)
    result = invoke("stack", folder, "--set", 'stack.methods=["linear","pws","robust"]', "--set", "stack.pws_power=3")
    assert result.exit_code == 0, result.output
    wanted = {"methods": ["linear", "pws", "robust"], "pws_power": 3.0}
    run_campaign(stations, tmp_path / "y.xcorr", daily(days, 3, stack=wanted))
    assert same(folder, tmp_path / "y.xcorr")
    before = (folder / "campaign.toml").read_bytes()
    for other in ("correlate.max_lag_s=10", "data.source=sds:/elsewhere", "data.end=2024-03-02"):
        result = invoke("stack", folder, "--set", other)
        assert result.exit_code == 2
        assert "only stack settings can be new here" in result.output
    assert (folder / "campaign.toml").read_bytes() == before


@pytest.mark.parametrize("until", [1, 3])
def test_series_that_are_not_kept(days, tmp_path, invoke, until):
    stations = station_list(tmp_path, "AAA", "BBB", "CCC")
    lean = {"stack": {"keep_series": False, "methods": ["linear", "pws"]}}
    run_campaign(stations, tmp_path / "lean.xcorr", daily(days, until, **lean))
    first = accounts_of(tmp_path / "lean.xcorr")
    assert not list((tmp_path / "lean.xcorr" / "shards").iterdir())
    run_campaign(stations, tmp_path / "full.xcorr", daily(days, until, stack={"methods": ["linear", "pws"]}))
    with results.open(tmp_path / "lean.xcorr") as lean_file, results.open(tmp_path / "full.xcorr") as full_file:
        for method in ("linear", "pws"):
            assert lean_file.gather(stack=method).tobytes() == full_file.gather(stack=method).tobytes()
        with pytest.raises(results.ResultsError, match="were not kept"):
            lean_file.get("XX.AAA", "XX.BBB", stack=None)
    assert list(problems(tmp_path / "lean.xcorr")) == []
    again = run_campaign(stations, tmp_path / "lean.xcorr", daily(days, until, **lean))
    assert accounts_of(again.folder) == first
    refused = invoke("stack", tmp_path / "lean.xcorr")
    assert refused.exit_code == 1
    assert "were not kept" in refused.output
    (tmp_path / "lean.xcorr" / "xcorr.h5").unlink()
    run_campaign(stations, tmp_path / "lean.xcorr", daily(days, until, stack={"keep_series": False}))
    with results.open(tmp_path / "lean.xcorr") as again, results.open(tmp_path / "full.xcorr") as full_file:
        assert again.gather().tobytes() == full_file.gather().tobytes(), "the running sums are enough"


def test_removal_of_series_that_was_cut_short_is_finished(days, tmp_path):
    stations, lean = station_list(tmp_path, "AAA", "BBB"), {"stack": {"keep_series": False}}
    run_campaign(stations, tmp_path / "x.xcorr", daily(days, 2))
    shards = list((tmp_path / "x.xcorr" / "shards").iterdir())
    with sqlite3.connect(tmp_path / "x.xcorr" / "ledger.sqlite") as database:
        database.execute("UPDATE shard SET kept = 0")
    assert shards
    run_campaign(stations, tmp_path / "x.xcorr", daily(days, 2, **lean))
    assert not any(p.exists() for p in shards)


def test_status_and_ledger(days, tmp_path, invoke):
    stations, folder = station_list(tmp_path, "AAA", "BBB", "GONE"), tmp_path / "x.xcorr"
    run_campaign(stations, folder, daily(days, 2))
    found = json.loads(invoke("status", folder, "--json").output)
    assert (found["running"], found["shards"], found["shards_expected"], found["chunks"]) == ("no", 2, 2, 2)
    assert found["windows"]["used"] == 96
    assert "shards     2 of 2, 2 chunk(s)" in invoke("status", folder).output
    with sqlite3.connect(folder / "ledger.sqlite") as database:
        assert database.execute("SELECT line, status FROM requested").fetchall() == [
            (1, "used"), (2, "used"), (3, "absent")
        ]  # fmt: skip
        (files,) = database.execute("SELECT files FROM channel_chunk WHERE slot = 1").fetchone()
    ((path, size, _),) = json.loads(files)
    assert os.path.getsize(path) == size
    assert invoke("status", tmp_path).exit_code == 1
    assert "there is no campaign in" in invoke("status", tmp_path).output


def test_the_ledger_is_made_again_from_the_shards(days, tmp_path):
    stations, folder = station_list(tmp_path, "AAA", "BBB", "CCC"), tmp_path / "x.xcorr"
    made = daily(days, 2)
    run_campaign(stations, folder, made)
    old = Ledger(folder, made.hash())
    facts = old.shards(), list(old.accounts()), Roster.from_json(old.fact("members"))
    old.close()
    (folder / "ledger.sqlite").unlink()
    new = Ledger(folder, made.hash())
    assert reconcile(new) == []
    assert (new.shards(), list(new.accounts())) == facts[:2]
    again = Roster.from_json(new.fact("members"))
    assert [s.name for s in again.stations] == [s.name for s in facts[2].stations]
    assert again.bounds == facts[2].bounds
    new.close()


# -- kills -------------------------------------------------------------------------------------------------------


class Run:
    """A run of the program, marked so that all its processes can be found."""

    def __init__(self, arguments):
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [Path(sys.executable).with_name("xcorr"), *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "XCORR_TEST_MARK": self.mark},
        )

    def family(self):
        """The program and its workers."""
        return marked(self.mark)


def kill_one(arguments, folder, rng, wait_for):
    """Start a run, kill one of its processes at a random moment; return whether that was before the end.

    Every other moment is soon after a shard has been finished.
    """
    before = len(list(folder.glob("shards/*.h5")))
    run = Run(arguments)
    if rng.random() < 0.5:
        time.sleep(rng.random() * wait_for)
    else:
        while run.process.poll() is None and len(list(folder.glob("shards/*.h5"))) <= before:
            time.sleep(0.005)
        time.sleep(rng.random() * 0.2)
    members = run.family()
    if not members or run.process.poll() is not None:
        assert run.process.wait() == 0
        return False
    os.kill(rng.choice(members), signal.SIGKILL)
    code = run.process.wait(30)
    deadline = time.monotonic() + 5
    while run.family() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not run.family(), "processes are left"
    return code != 0


def kill_again_and_again(arguments, folder, whole, kills, seed, wait_for):
    rng = random.Random(seed)
    killed = kept = 0
    for _ in range(20 * kills):
        if killed == kills:
            break
        if kill_one(arguments, folder, rng, wait_for):
            killed += 1
            finished = list(folder.glob("shards/*.h5"))
            kept += len(finished)
        else:  # it came to its end: begin again with nothing
            assert same(folder, whole)
            shutil.rmtree(folder)
    assert killed == kills
    assert kept > 0, "no kill came after the first shard"
    assert Run(arguments).process.wait(120) == 0
    assert same(folder, whole)
    assert list(problems(folder)) == []
    assert list(folder.rglob(".*.part")) == []


MAPPINGS = ["sequential", "threads", "processes", "mpi", pytest.param("dask", marks=pytest.mark.slow)]


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_demo_ends_as_if_nothing_had_been(demo, tmp_path, mapping, kills):
    folder = tmp_path / "demo.xcorr"
    arguments = ["run", ROOT / "configs/demo/stations.txt", "-o", folder, "-m", mapping, "-n", 2]
    kill_again_and_again(arguments, folder, demo, kills, seed=kills + 1, wait_for=3.0)


@pytest.mark.slow
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_killed_kansas_week_ends_as_if_nothing_had_been(real_data, tmp_path, mapping):
    (tmp_path / "stations.txt").write_text("KS A7K2\nKS B4Q8\nKS C9M3\nKS D2X6\n")
    arguments = ["run", tmp_path / "stations.txt", "--source", f"files:{real_data}/kansas-3c-1hz"]
    arguments += ["--start", "2022-05-17", "--end", "2022-05-24", "--set", "condition.rate_hz=1"]
    arguments += ["--set", "condition.band_hz=[0.05,0.4]", "--set", "correlate.components=all"]
    assert Run([*arguments, "-o", tmp_path / "whole.xcorr"]).process.wait(120) == 0
    folder = tmp_path / "killed.xcorr"
    again = [*arguments, "-o", folder, "-m", mapping, "-n", 2]
    kill_again_and_again(again, folder, tmp_path / "whole.xcorr", 20, seed=7, wait_for=5.0)


@pytest.mark.slow
def test_two_years_of_1000_stations_open_in_a_second(tmp_path):
    """Sizes real (499,500 pairs, 961 lags, 730 days), values sparse: shards hold the rows of a few pairs."""
    from xcorr.pes import WriteShards
    from xcorr.pes.correlating.layout import Layout
    from xcorr.pes.correlating.rows import CorrelationRows, StripEnd
    from xcorr.pes.items import Chunk
    from xcorr.pes.stacking.result_file import Tables, WriteResults

    stations, days, lags = 1000, 730, 961
    layout = Layout(stations, ("Z",), ("ZZ",), 64)
    assert len(layout.strips) <= 12, "files per day"
    (tmp_path / "shards").mkdir()
    writer = WriteShards(str(tmp_path), layout, lags, {"settings_hash": "x"})
    records = []
    writer.write = lambda port, record: records.append(record)
    writer._preprocess()
    data = np.arange(lags, dtype=np.float32)[None]
    for day in range(days):
        chunk = Chunk(day, day * DAY * 10**9, (day + 1) * DAY * 10**9, day * DAY * 10**9, (day + 1) * DAY * 10**9)
        for strip in layout.strips:
            if strip == 0:
                rows = CorrelationRows(chunk, strip, "", "ZZ", 0, 5, data + day, np.array([24], np.int32))
                writer.process({"input": rows})
            writer.process({"input": StripEnd(chunk, strip, ())})
    i, j = layout.pair_indices()
    pairs = np.zeros(len(i), [("station_1", "i4"), ("station_2", "i4"), ("distance_m", "f8"), ("azimuth_deg", "f8"),
                              ("back_azimuth_deg", "f8")])  # fmt: skip
    pairs["station_1"], pairs["station_2"] = i, j
    kind = [("id", "S16"), ("network", "S8"), ("station", "S8"), ("latitude", "f8"), ("longitude", "f8"),
            ("elevation_m", "f8")]  # fmt: skip
    names = np.array([(f"YY.S{k:04d}", "YY", f"S{k:04d}", 0, 0, 0) for k in range(stations)], kind)
    pieces = np.array([(r.chunk.start_ns, r.chunk.end_ns) for r in records if r.strip == 0],
                      [("start_ns", "i8"), ("end_ns", "i8")])  # fmt: skip
    shards = tuple(
        (r.chunk.index, layout.strip_rows(r.strip).start, len(layout.strip_rows(r.strip)), r.path) for r in records
    )
    facts = {"software": "", "settings_hash": "x", "created": "", "settings": ""}
    tables = Tables(names, np.zeros(1), pairs, pieces, np.arange(lags) - 480.0, ("",), ("ZZ",), ("ZZ",), ("linear",),
                    1, shards, facts)  # fmt: skip
    result = WriteResults(str(tmp_path), tables)
    result._preprocess()
    result._postprocess()
    import xarray  # noqa: F401  # counted once in a program's life, not for every pair

    start = time.perf_counter()
    found = results.open(tmp_path)
    opened = time.perf_counter() - start
    series = found.get("YY.S0000", "YY.S0006", stack=None)
    read = time.perf_counter() - start - opened
    assert (series.values[:, 0] == np.arange(days)).all()
    assert opened < 1.0
    assert read < 1.0
    assert len(list((tmp_path / "shards").iterdir())) <= 12 * days


@pytest.mark.parametrize("kind", ["sac", "mseed", "netcdf", "zarr", "asdf", "csv"])
@pytest.mark.parametrize("reverse", [False, True])
def test_exports_read_back(demo, tmp_path, invoke, kind, reverse):
    target = tmp_path / {"netcdf": "x.nc", "zarr": "x.zarr", "asdf": "x.h5", "csv": "x.csv"}.get(kind, "x")
    result = invoke("export", demo, "--format", kind, "-o", target, *(["--reverse"] if reverse else []))
    assert result.exit_code == 0, result.output
    assert "wrote 78 correlations" in result.output
    first, second = "XX.D00", "XX.D03"
    with results.open(demo) as found:
        whole = found.get(first, second)
    expected = whole.values[::-1] if reverse else whole.values
    got = read_back(kind, target, first, second)
    assert np.asarray(got["values"], np.float32).tobytes() == np.ascontiguousarray(expected).tobytes()
    assert got["first_lag_s"] == pytest.approx(float(whole["lag_s"][0]))
    if "distance_m" in got:
        assert got["distance_m"] == pytest.approx(whole.attrs["distance_m"], rel=1e-6)
    assert invoke("export", demo, "--format", kind, "-o", target).exit_code == 1, "never overwritten"


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("how", "unit"),
    [
        ({}, "1"),
        ({"normalize.method": "none", "whiten.method": "none"}, "counts^2"),
        ({"normalize.method": "none", "whiten.method": "none", "correlate.amplitude": "energy"}, "1"),
        ({"normalize.method": "none", "whiten.method": "none", "correlate.method": "coherency"}, "1"),
    ],
)
def test_exports_say_unit_and_direction(tmp_path, invoke, reverse, how, unit):
    import xarray

    for code in ("AAA", "BBB"):
        write(tmp_path / "sds", code)
    (tmp_path / "list.csv").write_text(
        "network,station,latitude,longitude,elevation_m\nXX,AAA,40,-100,12\nXX,BBB,41,-100,34\n"
    )
    more = [f"--set={k}={v!r}" for k, v in how.items()]
    base = ["--set=window.length_s=600", "--set=window.step_s=600", "--set=correlate.max_lag_s=30"]
    folder, flag = tmp_path / "x.xcorr", ["--reverse"] if reverse else []
    run = ["run", tmp_path / "list.csv", "--source", f"sds:{tmp_path / 'sds'}", "-o", folder, *base, *more]
    assert invoke(*run).exit_code == 0
    for kind, place in (("sac", "sac"), ("netcdf", "x.nc"), ("csv", "x.csv")):
        assert invoke("export", folder, "--format", kind, "-o", tmp_path / place, *flag).exit_code == 0
    with results.open(folder) as found:
        assert found.file.attrs["units"] == found.get("XX.AAA", "XX.BBB").attrs["units"] == unit
    direction = "2 to 1" if reverse else "1 to 2"
    (path,) = (tmp_path / "sac").rglob("*.sac")
    sac = obspy.read(str(path))[0].stats.sac
    assert (sac.kuser0.strip(), sac.kuser1.strip(), sac.o) == (unit[:8], direction, 0.0)
    assert (sac.evel, sac.stel) == (12.0, 34.0)
    assert sac.gcarc == pytest.approx(1.0, abs=0.01)
    with xarray.open_dataset(tmp_path / "x.nc") as nc, results.open(folder) as found:
        error = found.get("XX.AAA", "XX.BBB")["std_error"].to_numpy()
        error = error[::-1] if reverse else error
        assert np.array_equal(nc["std_error"].to_numpy()[0], error, equal_nan=True)
        assert nc["correlation"].attrs["units"] == nc["std_error"].attrs["units"] == unit
        assert nc.attrs["positive_lag"] == direction
    (row,) = csv.DictReader((tmp_path / "x.csv").read_text().splitlines())
    assert (row["units"], row["positive_lag"]) == (unit, direction)


def read_back(kind, target, first, second):
    if kind in ("sac", "mseed"):
        path = target / first / f"{first}_{second}_ZZ.sac" if kind == "sac" else target / f"{first}_{second}_ZZ.mseed"
        found = obspy.read(str(path))[0]
        lag = float(found.stats.sac.b) if kind == "sac" else found.stats.starttime.timestamp
        more = {"distance_m": 1000 * found.stats.sac.dist} if kind == "sac" else {}
        return {"values": found.data, "first_lag_s": lag, **more}
    if kind in ("netcdf", "zarr"):
        import xarray

        found = xarray.open_dataset(target) if kind == "netcdf" else xarray.open_zarr(target)
        with found:
            ends = zip(found["station_1"].values, found["station_2"].values, strict=True)
            row = [tuple(map(str, e)) for e in ends].index((first, second))
            values, distance = found["correlation"].values[row], float(found["distance_m"].values[row])
            return {"values": values, "first_lag_s": float(found["lag_s"][0]), "distance_m": distance}
    if kind == "asdf":
        import pyasdf

        with pyasdf.ASDFDataSet(str(target), mode="r", mpi=False) as file:
            group = file.auxiliary_data.CrossCorrelation[first.replace(".", "_")][second.replace(".", "_")]
            item = group["ZZ"]
            return {"values": item.data[:], **{k: item.parameters[k] for k in ("first_lag_s", "distance_m")}}
    lines = [line.split(",") for line in target.read_text().splitlines()]
    row = next(line for line in lines if line[:2] == [first, second])
    return {"values": row[9:], "first_lag_s": float(lines[0][9]), "distance_m": float(row[3])}


def test_packed_results_hold_every_method(days, tmp_path):
    how = {"stack": {"methods": ["linear", "pws", "robust"]}}
    run_campaign(station_list(tmp_path, "AAA", "BBB", "CCC"), tmp_path / "x.xcorr", daily(days, 2, **how))
    shutil.copytree(tmp_path / "x.xcorr", tmp_path / "packed.xcorr")
    with CampaignLock(tmp_path / "packed.xcorr"), pytest.raises(Locked, match="in use"):
        pack(tmp_path / "packed.xcorr")
    pack(tmp_path / "packed.xcorr")
    assert same(tmp_path / "x.xcorr", tmp_path / "packed.xcorr")
    with results.open(tmp_path / "packed.xcorr") as found:
        assert np.isfinite(found.get("XX.AAA", "XX.CCC", stack="robust").std_error.values).all()
    (tmp_path / "packed.xcorr" / "xcorr.h5").unlink()
    with pytest.raises(CampaignError, match="nothing to pack"):
        pack(tmp_path / "packed.xcorr")


def test_packed_results_need_no_shards(demo, tmp_path, invoke):
    folder = tmp_path / "demo.xcorr"
    shutil.copytree(demo, folder)
    assert invoke("pack", folder).exit_code == 0
    assert same(folder, demo)
    shutil.rmtree(folder / "shards")
    with results.open(folder) as packed, results.open(demo) as whole:
        for stack in ("linear", None):
            x, y = (r.get("XX.D00", "XX.D03", stack=stack).values for r in (packed, whole))
            assert x.tobytes() == y.tobytes()


def test_data_written_at_the_end_of_a_day_in_progress(tmp_path):
    """A file that grows is seen with --refresh."""
    for code in ("AAA", "BBB"):
        write(tmp_path / "sds", code, waveform(sum(map(ord, code)), seconds=3600))
    stations, made = station_list(tmp_path, "AAA", "BBB"), settings(tmp_path / "sds", data={"end": "2024-03-02"})
    run_campaign(stations, tmp_path / "x.xcorr", made)
    for code in ("AAA", "BBB"):
        write(tmp_path / "sds", code, waveform(sum(map(ord, code)), seconds=7200))
    run_campaign(stations, tmp_path / "x.xcorr", made, refresh=True)
    run_campaign(stations, tmp_path / "y.xcorr", made)
    assert same(tmp_path / "x.xcorr", tmp_path / "y.xcorr")


def test_accounts_as_csv_and_json(demo, invoke):
    import csv
    import io

    rows = list(csv.DictReader(io.StringIO(invoke("info", demo, "--accounts", "--format", "csv").output)))
    plain = [json.loads(line) for line in invoke("info", demo, "--accounts", "--format", "json").output.splitlines()]
    assert len(rows) == len(plain) == 56
    for row, one in zip(rows, plain, strict=True):
        assert (row["slot"], int(row["start_ns"]), row["status"]) == (one["slot"], one["start_ns"], one["status"])
        assert row["windows"] == ", ".join(f"{n} {reason}" for reason, n in one["windows"].items())
        assert row["files"].split() == [name for name, _, _ in one["files"]]
