"""What a run will take, said beforehand."""

import dataclasses
import json
import time

import pytest
from archives import START, settings, station_list, write
from conftest import ROOT

from xcorr import results
from xcorr.campaign.calibration import MeasuredCosts, calibrate
from xcorr.campaign.forecast import chunks_at_once, forecast, highest_rate, memory_bytes, parse_bytes
from xcorr.campaign.run import run_campaign
from xcorr.network.survey import survey_list
from xcorr.results.compare import differences
from xcorr.settings import SettingsError
from xcorr.settings.recipe import Recipe
from xcorr.settings.toml import build


@pytest.fixture
def root(tmp_path):
    for code in ("AAA", "BBB", "CCC"):
        write(tmp_path / "sds", code)
    return tmp_path / "sds"


def test_the_plan_is_what_is_done(root, tmp_path, invoke, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    stations = station_list(tmp_path, "AAA", "BBB", "CCC")
    how = settings(root)
    options = ["--source", f"sds:{root}", "--start", "2024-03-01", "--end", "2024-03-01T02:00:00"]
    plain = {"data.chunk_s": 3600, "condition.band_hz": [0.1, 1.0], "window.length_s": 600.0, "window.step_s": 600.0}
    plain |= {"correlate.max_lag_s": 30.0, "correlate.block": 8}
    options += [word for key, value in plain.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    asked = invoke("plan", stations, *options, "--json")
    assert asked.exit_code == 0, asked.output
    plan = json.loads(asked.output)
    assert not (tmp_path / "stations.xcorr").exists(), "planning writes nothing"
    finished = run_campaign(stations, tmp_path / "x.xcorr", how)
    report = finished.report
    assert (plan["stations"], plan["pairs"], plan["chunks"]) == (3, report["pairs"], report["chunks"])
    shards = list((tmp_path / "x.xcorr" / "shards").iterdir())
    assert plan["files"] == len(shards) + 4
    series = 4 * 3 * 2 * 241
    assert plan["bytes_written"] == series + 4 * 3 * 2 * 241, "series, and a stack with its error"
    assert plan["bytes_read"] == sum(p.stat().st_size for p in root.rglob("*.061"))
    begin = time.perf_counter()
    assert json.loads(invoke("plan", stations, *options, "--json").output)["seconds"] == plan["seconds"]
    assert time.perf_counter() - begin < 1.0, "the calibration is kept"
    again = json.loads(invoke("plan", stations, *options, "-o", tmp_path / "x.xcorr", "--json").output)
    assert again["files"] == 4, "what is there is not planned again"
    assert "time" in invoke("plan", stations, *options).output


def test_calibration_measures_something(root, tmp_path):
    costs = calibrate(settings(root), tmp_path)
    assert 0.1 < costs.start_s < 30
    assert all(0 < value < 1 for value in dataclasses.astuple(costs)[1:])
    assert costs.station_s > costs.pair_s > costs.sample_s


def test_time_grows_with_what_is_to_do(root, tmp_path):
    stations, how = station_list(tmp_path, "AAA", "BBB", "CCC"), settings(root)
    found = survey_list(stations, how)
    costs = MeasuredCosts(1.0, 1e-8, 2.0, 1e-4, 1e-8)
    todo = {0: [dataclasses.replace(c, wanted=(0,)) for c in found.chunks]}
    both, one = forecast(Recipe(how), found, todo, costs, 1), forecast(Recipe(how), found, {0: todo[0][:1]}, costs, 1)
    assert both.seconds > one.seconds
    assert both.flops == 2 * one.flops


def test_time_falls_with_workers_up_to_the_cores_there_are(root, tmp_path, monkeypatch):
    monkeypatch.setattr("xcorr.campaign.forecast.available_cores", lambda: 2)
    how = settings(root, run={"mapping": "processes"})
    found = survey_list(station_list(tmp_path, "AAA", "BBB", "CCC"), how)
    todo = {0: [dataclasses.replace(c, wanted=(0,)) for c in found.chunks]}
    took = [forecast(Recipe(how), found, todo, MeasuredCosts(0.0, 0.0, 2.0, 0.0, 0.0), n).seconds for n in (1, 2, 8)]
    preparing = 2.0 * 3 * len(found.chunks) / 0.95  # seconds, stations, chunks; the share of processes
    assert took[0] - took[1] == pytest.approx(preparing / 2, abs=0.11)
    assert took[2] == took[1], "more workers than cores are no faster"


def test_memory_decides_how_many_chunks_are_open(root, tmp_path):
    stations = station_list(tmp_path, "AAA", "BBB", "CCC")
    found = survey_list(stations, settings(root))
    one, two = (memory_bytes(Recipe(settings(root)), found, 1, k) for k in (1, 2))
    assert one < two
    tight, roomy = (settings(root, run={"memory": f"{round(b / 1000) + 1}kB"}) for b in (one, two))
    assert tuple(chunks_at_once(Recipe(how), found, 1, 2) for how in (tight, roomy)) == (1, 2)
    run_campaign(stations, tmp_path / "tight.xcorr", tight)
    run_campaign(stations, tmp_path / "roomy.xcorr", roomy)
    assert list(differences(tmp_path / "tight.xcorr", tmp_path / "roomy.xcorr")) == []
    with pytest.raises(SettingsError, match=r"take about 0\.\d GB for one chunk; allow more"):
        run_campaign(stations, tmp_path / "none.xcorr", settings(root, run={"memory": "10MB"}))
    assert not list(tmp_path.glob("none.xcorr/shards/*.h5"))


def test_small_chunks_are_open_in_numbers_that_keep_all_workers_busy(root, tmp_path):
    found = survey_list(station_list(tmp_path, "AAA", "BBB", "CCC"), settings(root))

    def count(workers, stations, chunks=99, **run):
        many = dataclasses.replace(found.roster, stations=found.roster.stations[:1] * stations)
        how = Recipe(settings(root, run={"mapping": "processes", **run}))
        return chunks_at_once(how, dataclasses.replace(found, roster=many), workers, chunks)

    assert [count(2, n) for n in (2, 16, 32, 64, 200)] == [16, 5, 3, 2, 2]
    assert count(1, 2) == 2, "one worker waits for nobody"
    assert count(8, 64) == 5
    assert count(2, 2, chunks=7) == 7
    assert count(2, 2, open_chunks=3) == 3
    least = memory_bytes(Recipe(settings(root, run={"mapping": "processes"})), found, 2, 1)
    assert count(2, 2, memory=f"{round(least / 1000) + 1}kB") == 1


@pytest.mark.slow
@pytest.mark.parametrize("mapping", ["threads", "processes"])
def test_memory_stays_below_its_ceiling(tmp_path, monkeypatch, mapping):
    """Three days of 64 stations where two days at once would be too much; all processes together, at their peak."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from headline import run as measured
    from synthetic import write_network

    stations = write_network(tmp_path, 64, hours=72.0)
    plain = {"data": {"source": f"sds:{tmp_path}/sds"}, "run": {"mapping": mapping, "workers": 2}}
    how = build(plain)
    found = survey_list(stations, how)
    one, two = (memory_bytes(Recipe(how), found, 2, k) for k in (1, 2))
    ceiling = round((one + two) / 2e6)
    tight = build({**plain, "run": {**plain["run"], "memory": f"{ceiling}MB"}})
    assert chunks_at_once(Recipe(tight), found, 2, 3) == 1
    made = measured(tmp_path, tmp_path / "x.xcorr", ["run.workers=2"], mapping, f"{ceiling}MB")
    assert made["peak_mb"] <= 1.2 * ceiling
    with results.open(tmp_path / "x.xcorr") as of_three_days:
        assert len(of_three_days.pieces) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("mapping", "workers"), [("sequential", 1), ("threads", 2), ("processes", 2)])
def test_memory_counts_the_data_at_their_own_rate(tmp_path, monkeypatch, mapping, workers):
    """Days at 100 Hz that become 4 Hz: nearly all of the memory holds what is at 100 Hz."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from headline import run as measured
    from synthetic import write_network

    stations = write_network(tmp_path, 6, rate_hz=100.0)
    how = build({"data": {"source": f"sds:{tmp_path}/sds"}, "run": {"mapping": mapping, "workers": workers}})
    found = survey_list(stations, how)
    assert highest_rate(how, found) == 100.0
    said = memory_bytes(Recipe(how), found, workers, 1) / 1e6
    made = measured(tmp_path, tmp_path / "x.xcorr", [f"run.workers={workers}"], mapping, "4GB")
    assert 0.8 < said / made["peak_mb"] < 1.25


def test_the_highest_rate_is_that_of_the_channels_that_are_read(root, tmp_path):
    """Of those that the settings or the list name, in the time wanted; one damaged file hides no other."""

    def rate(lines, **data):
        (tmp_path / "list.txt").write_text(lines)
        how = settings(root, data=data)
        return highest_rate(how, survey_list(tmp_path / "list.txt", how))

    (root / "2024" / "XX" / "AAA" / "HHZ.D").mkdir()
    write(root, "AAA", channel="HHZ", rate=20.0)
    both = "XX AAA\nXX BBB\n"
    assert rate(both, channels=["BHZ", "HHZ"]) == 20.0
    assert rate(both, channels=["BHZ"]) == 10.0
    assert rate("XX.AAA..HHZ\nXX BBB\n", channels=["BHZ"]) == 20.0
    assert rate("XX.AAA..BHZ\nXX.BBB..BHZ\n", channels=["BHZ", "HHZ"]) == 10.0
    (root / "2024" / "XX" / "BBB" / "HHZ.D").mkdir()
    write(root, "BBB", channel="HHZ", rate=20.0).write_bytes(b"garbage")
    assert rate(both, channels=["BHZ", "HHZ"]) == 20.0
    later = write(root, "CCC", channel="HHZ", rate=40.0, start=START + 5 * 86_400)
    later.rename(later.with_name(later.name.replace(".061", ".066")))
    assert rate("XX AAA\nXX CCC\n", channels=["BHZ", "HHZ"]) == 20.0


@pytest.mark.parametrize("text", ["", "4", "GB", "4 gigs", "-4GB", "1.2.3GB"])
def test_wrong_sizes(text):
    with pytest.raises(SettingsError, match="write a size such as"):
        parse_bytes(text)


@pytest.mark.parametrize(("text", "size"), [("4GB", 4e9), ("1.5 GiB", 1.5 * 2**30), ("800MB", 8e8), (" 2TB ", 2e12)])
def test_sizes(text, size):
    assert parse_bytes(text) == size
