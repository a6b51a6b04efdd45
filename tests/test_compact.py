"""Compaction: the shards of a strip and month in one file, with the same bits, whatever stops it."""

import os
import shutil
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from archives import START, settings, station_list, trace, waveform

from xcorr import results
from xcorr.campaign import compact as module
from xcorr.campaign.compact import compact
from xcorr.campaign.run import run_campaign
from xcorr.campaign.stack import restack
from xcorr.provenance.campaign_lineage import CampaignLineage
from xcorr.results.compare import differences
from xcorr.store.verify import problems

CODES = ("AAA", "BBB", "CCC")
DAY = 86_400
FIRST = START - 3 * DAY  # 27 February: the days are in two months


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Four stations and nine days at 0.5 Hz, from the end of February to the beginning of March."""
    root = tmp_path_factory.mktemp("months") / "sds"
    for k, code in enumerate((*CODES, "DDD")):
        for day in range(9):
            folder = root / "2024" / "XX" / code / "BHZ.D"
            folder.mkdir(parents=True, exist_ok=True)
            one = trace(code, waveform(10 * day + k, seconds=DAY, rate=0.5), 0.5, start=FIRST + day * DAY)
            one.write(str(folder / f"XX.{code}..BHZ.D.2024.{58 + day:03d}"), format="MSEED")
    return root


def daily(archive, days=9, **sections):
    return settings(
        archive,
        data={"start": "2024-02-27", "end": str(FIRST + days * DAY), "chunk_s": DAY},
        condition={"rate_hz": 0.5, "band_hz": [0.05, 0.2]},
        window={"length_s": 3600.0, "step_s": 3600.0},
        **sections,
    )


def names(folder):
    return sorted(p.name for p in (folder / "shards").iterdir())


def series(folder, first="XX.AAA", second="XX.BBB"):
    with results.open(folder) as found:
        return found.get(first, second, stack=None).to_numpy().tobytes()


@pytest.fixture(scope="module")
def original(archive, tmp_path_factory):
    """A campaign of nine days that was never compacted."""
    folder = tmp_path_factory.mktemp("original")
    run_campaign(station_list(folder, *CODES), folder / "x.xcorr", daily(archive, stack={"methods": ["linear", "pws"]}))
    return folder / "x.xcorr"


def test_fewer_files_the_same_bits(archive, original, tmp_path, invoke):
    folder, how = tmp_path / "x.xcorr", daily(archive, stack={"methods": ["linear", "pws"]})
    run_campaign(station_list(tmp_path, *CODES), folder, how)
    assert len(names(folder)) == 9
    told = invoke("compact", folder)
    assert told.exit_code == 0, told.output
    assert "9 file(s) of shards became 2" in told.output
    assert names(folder) == ["202402_00-00.h5", "202403_00-00.h5"]
    assert list(differences(folder, original)) == []
    assert series(folder) == series(original)
    assert list(problems(folder)) == []
    with CampaignLineage(folder) as one, CampaignLineage(original) as other:
        ours, theirs = (lineage.of_pair("XX.AAA", "XX.CCC") for lineage in (one, other))
    assert set(ours.entities) == set(theirs.entities)
    again = run_campaign(station_list(tmp_path, *CODES), folder, how)
    assert again.report["shards_kept"] == 9
    assert again.report["workers"]["items"] == {}
    assert again.report["bytes_written"] == sum(p.stat().st_size for p in (folder / "shards").iterdir())
    restack(folder, ["stack.methods=['linear', 'pws']"])
    assert list(differences(folder, original)) == []
    (tmp_path / "moved").mkdir()
    os.rename(folder, tmp_path / "moved" / "y.xcorr")
    assert series(tmp_path / "moved" / "y.xcorr") == series(original)


def test_a_compacted_campaign_grows_and_is_compacted_again(archive, original, tmp_path):
    folder, methods = tmp_path / "x.xcorr", {"stack": {"methods": ["linear", "pws"]}}
    for days in (2, 5, 7, 9):
        run_campaign(station_list(tmp_path, *CODES), folder, daily(archive, days, **methods))
        compact(folder)
        assert list(problems(folder)) == []
    run_campaign(station_list(tmp_path, *CODES, "DDD"), folder, daily(archive, **methods))
    compact(folder)
    assert names(folder) == ["202402_00-00.h5", "202402_01-00.h5", "202403_00-00.h5", "202403_01-00.h5"]
    restack(folder)
    run_campaign(station_list(tmp_path, *CODES), tmp_path / "once.xcorr", daily(archive, **methods))
    run_campaign(station_list(tmp_path, *CODES, "DDD"), tmp_path / "once.xcorr", daily(archive, **methods))
    restack(tmp_path / "once.xcorr")
    assert list(differences(folder, tmp_path / "once.xcorr")) == []


@pytest.mark.parametrize("point", ["ledger", "results", "removal"])
def test_a_compaction_that_is_stopped_loses_nothing(archive, original, tmp_path, monkeypatch, point):
    folder, how = tmp_path / "x.xcorr", daily(archive, stack={"methods": ["linear", "pws"]})
    run_campaign(station_list(tmp_path, *CODES), folder, how)
    stopped = {"ledger": "share", "results": "stack_campaign", "removal": "remove_redundant"}[point]

    def stop(*_):
        raise InterruptedError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(module, stopped, stop)
        with pytest.raises(InterruptedError):
            compact(folder)
    assert series(folder) == series(original), "while nobody has run anything"
    finished = run_campaign(station_list(tmp_path, *CODES), folder, how)
    assert finished.report["shards_kept"] == 9
    assert finished.report["aside"] == []
    assert list(problems(folder)) == []
    assert list(differences(folder, original)) == []
    compact(folder)
    assert names(folder) == ["202402_00-00.h5", "202403_00-00.h5"]
    assert list(problems(folder)) == []
    assert list(differences(folder, original)) == []


def test_damage_in_a_larger_file_costs_one_shard(archive, original, tmp_path):
    folder, how = tmp_path / "x.xcorr", daily(archive, stack={"methods": ["linear", "pws"]})
    run_campaign(station_list(tmp_path, *CODES), folder, how)
    compact(folder)
    victim = folder / "shards" / "202403_00-00.h5"
    data = bytearray(victim.read_bytes())
    with h5py.File(victim) as file:
        at = file["20240303T000000_00-00.h5/series/ZZ"].id.get_chunk_info(0).byte_offset
    data[at + 50] ^= 16
    victim.write_bytes(data)
    assert any(line.startswith("202403_00-00.h5: damaged") for line in problems(folder))
    finished = run_campaign(station_list(tmp_path, *CODES), folder, how)
    assert finished.report["shards_kept"] == 8
    assert finished.report["aside"] == ["202403_00-00.h5.0"]
    assert list(problems(folder)) == []
    assert list(differences(folder, original)) == []


def test_a_larger_file_that_was_cut_costs_nothing_while_the_old_ones_are_there(
    archive, original, tmp_path, monkeypatch
):
    folder, how = tmp_path / "x.xcorr", daily(archive, stack={"methods": ["linear", "pws"]})
    run_campaign(station_list(tmp_path, *CODES), folder, how)

    def stop(*_):
        raise InterruptedError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(module, "share", stop)
        with pytest.raises(InterruptedError):
            compact(folder)
    larger = folder / "shards" / "202402_00-00.h5"
    larger.write_bytes(larger.read_bytes()[:1000])
    for shard in (folder / "shards").glob("202402*T*.h5"):
        os.utime(shard)  # they look changed, so they are read and entered again
    finished = run_campaign(station_list(tmp_path, *CODES), folder, how)
    assert finished.report["shards_kept"] == 9
    assert finished.report["aside"] == ["202402_00-00.h5.0"]
    assert list(differences(folder, original)) == []
    assert list(problems(folder)) == []


def test_larger_files_that_were_exchanged_or_copied_are_put_back(archive, original, tmp_path):
    """Then days are added and joined: a file under a wrong name must not be replaced by another month."""
    folder, methods = tmp_path / "x.xcorr", {"stack": {"methods": ["linear", "pws"]}}
    run_campaign(station_list(tmp_path, *CODES), folder, daily(archive, 7, **methods))
    compact(folder)
    one, two = (folder / "shards" / name for name in names(folder))
    contents = one.read_bytes(), two.read_bytes()
    one.write_bytes(contents[1])
    two.write_bytes(contents[0])
    (folder / "shards" / "202405_00-00.h5").write_bytes(contents[0])
    said = list(problems(folder))
    for name in (one.name, two.name, "202405_00-00.h5"):
        assert f"{name}: holds another strip or chunk than its name says" in said
    finished = run_campaign(station_list(tmp_path, *CODES), folder, daily(archive, **methods))
    assert finished.report["shards_kept"] == 7, "nothing is computed again"
    assert len(finished.report["aside"]) == 1, "the copy"
    compact(folder)
    assert list(problems(folder)) == []
    restack(folder)
    assert list(differences(folder, original)) == []
    assert series(folder) == series(original)


def test_a_poorer_result_is_joined_with_that_in_a_larger_file(archive, tmp_path):
    """A file is emptied after compaction, another has failed: what was good stays."""
    import shutil

    copied = tmp_path / "sds"
    shutil.copytree(archive, copied)
    spoiled = copied / "2024" / "XX" / "BBB" / "BHZ.D" / "XX.BBB..BHZ.D.2024.060"
    good = spoiled.read_bytes()
    folder, how = tmp_path / "x.xcorr", daily(copied)
    run_campaign(station_list(tmp_path, *CODES), folder, how)
    compact(folder)
    with h5py.File(folder / "xcorr.h5") as file:
        before = file["series/ZZ"][...].tobytes()
    spoiled.write_bytes(b"")
    finished = run_campaign(station_list(tmp_path, *CODES), folder, how, refresh=True)
    assert len(finished.report["stale"]) == 1
    assert "20240229T000000_00-00.h5" in names(folder), "newer than that in the larger file"
    with h5py.File(folder / "xcorr.h5") as file:
        assert file["series/ZZ"][...].tobytes() == before
    assert list(problems(folder)) == []
    compact(folder)
    assert names(folder) == ["202402_00-00.h5", "202403_00-00.h5"]
    spoiled.write_bytes(good)
    finished = run_campaign(station_list(tmp_path, *CODES), folder, how, refresh=True)
    assert finished.report["stale"] == []
    with h5py.File(folder / "xcorr.h5") as file:
        assert file["series/ZZ"][...].tobytes() == before
    assert list(problems(folder)) == []


@pytest.mark.slow
def test_kills_during_compaction(archive, original, tmp_path):
    folder, how = tmp_path / "x.xcorr", daily(archive, stack={"methods": ["linear", "pws"]})
    rng = np.random.default_rng(5)
    shutil.copytree(original, tmp_path / "y.xcorr")
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "xcorr", "compact", tmp_path / "y.xcorr"], check=True, capture_output=True)
    took = time.perf_counter() - begin
    command, killed = [sys.executable, "-m", "xcorr", "compact", folder], 0
    for number in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(original, folder)
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(float(rng.uniform(0.5, 1.0)) * took)
        running.kill()
        killed += running.wait() != 0
        assert series(folder) == series(original), number
        run_campaign(station_list(tmp_path, *CODES), folder, how)
        assert list(differences(folder, original)) == [], number
        assert list(problems(folder)) == [], number
    assert killed > 5
