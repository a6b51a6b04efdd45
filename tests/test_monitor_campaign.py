"""From waveforms of a medium that changes to its curve: on all mappings, interrupted, growing, damaged, exported."""

import dataclasses
import json
import shutil
import subprocess
import sys

import h5py
import numpy as np
import obspy
import pytest
from changing_medium import SETTINGS, truth, write_changing
from interruptions import cut_and_alter, interrupt, killed_and_repeated
from matplotlib.figure import Figure

from xcorr import results
from xcorr.campaign import monitor as module
from xcorr.campaign.monitor import monitor
from xcorr.campaign.run import run_campaign
from xcorr.pes.monitoring.monitor_file import NAME, PARTS
from xcorr.results import figures
from xcorr.results.errors import ResultsError
from xcorr.results.networks import network
from xcorr.settings import SettingsError
from xcorr.settings.tables import Monitor
from xcorr.settings.toml import build, load, override
from xcorr.settings.written import to_toml
from xcorr.store.folder import CampaignError
from xcorr.store.verify import monitor_behind, problems

DAYS = 60
PERIOD = {"reference": "period", "reference_start": "2024-01-01", "reference_end": "2024-01-21"}
TABLES = [
    {"name": "late", "lag_s": [10.0, 50.0], "epsilon_max": 0.01, "steps": 101, **PERIOD},
    {"name": "moving", "lag_s": [10.0, 50.0], "epsilon_max": 0.01, "steps": 101, "moving_s": 3 * 86_400, **PERIOD},
    {"name": "rolling", "lag_s": [10.0, 50.0], "epsilon_max": 0.01, "steps": 101, "reference": "rolling",
     "reference_length_s": 4 * 86_400, "reference_gap_s": 86_400},
    {"name": "phases", "method": "mwcs", "lag_s": [10.0, 50.0], "window_s": 20.0, **PERIOD},
    {"name": "waves", "method": "wavelet", "lag_s": [10.0, 50.0], "band_hz": [0.15, 0.5], **PERIOD},
]  # fmt: skip


def made(folder, stations, days, hours, first=0, tables=TABLES):
    """A campaign of the changing medium, without velocity changes measured yet."""
    codes = write_changing(folder / "sds", stations, days, hours)
    (folder / "stations.txt").write_text("".join(f"XX {code}\n" for code in codes))
    plain = {name: dict(keys) for name, keys in SETTINGS.items()}
    plain["data"]["source"] = f"sds:{folder / 'sds'}"
    plain["monitor"] = tables
    assert run_campaign(folder / "stations.txt", folder / "c.xcorr", build(plain)).exit_code == 0
    return folder / "c.xcorr"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Six stations and sixty days, measured."""
    campaign = made(tmp_path_factory.mktemp("whole"), 6, DAYS, 6.0)
    monitor(campaign)
    return campaign


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Three stations and twelve days, not measured."""
    return made(tmp_path_factory.mktemp("small"), 3, 12, 2.0)


def values(campaign):
    """Every dataset of the file, as bytes, without the shards, which have other names in every campaign."""
    found = {}
    with h5py.File(campaign / NAME) as file:
        file.visititems(lambda name, data: found.update({name: data[...].tobytes()} if hasattr(data, "dtype") else {}))
    return {name: data for name, data in found.items() if not name.endswith("/shards")}


def test_the_curve_comes_back(whole):
    """A step of -0.2 % and a drift of 0.1 %: every method has them, pair by pair within its errors."""
    expected = truth(DAYS)
    with results.open(whole) as r, r.monitoring as of:
        for name in ("late", "phases", "waves"):
            changes = of.get(name)
            assert (changes["flag"].values == 0).mean() > 0.99, name
            off = changes["dvv"].values - expected[:, None]
            off -= off[:20].mean(axis=0)  # of the reference
            scatter = off / changes["error"].values
            assert scatter.std() < 2, name
            together = network(changes).isel(group=0)["dvv"].values
            together -= together[:20].mean() - expected[:20].mean()
            assert np.abs(together - expected).max() < 6e-4, name
            step = together[31:40].mean() - together[20:29].mean()
            assert step == pytest.approx(expected[31:40].mean() - expected[20:29].mean(), abs=1.5e-4), name
        rolling = network(of.get("rolling"))["dvv"].values[0]
        assert rolling[30] == pytest.approx(-0.002, abs=4e-4)
        assert np.abs(rolling[40:]).max() < 6e-4


def test_all_mappings_give_the_same_bits(whole, tmp_path, invoke):
    expected = values(whole)
    for mapping in ("threads", "processes"):
        shutil.copytree(whole, tmp_path / mapping)
        (tmp_path / mapping / NAME).unlink()
        answer = invoke("monitor", tmp_path / mapping, "-m", mapping, "-n", 2)
        assert answer.exit_code == 0, answer.output
        assert values(tmp_path / mapping) == expected, mapping


@pytest.mark.parametrize("mapping", ["mpi", pytest.param("dask", marks=pytest.mark.slow)])
def test_mappings_of_several_hosts_give_the_same_bits(whole, tmp_path, mapping):
    folder = tmp_path / "x.xcorr"
    shutil.copytree(whole, folder)
    (folder / NAME).unlink()
    command = [sys.executable, "-m", "xcorr", "monitor", str(folder), "-m", mapping, "-n", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert values(folder) == values(whole)


def test_what_is_up_to_date_is_not_measured(whole):
    before = (whole / NAME).stat()
    assert monitor(whole).tables == 0
    assert (whole / NAME).stat() == before
    assert list(problems(whole)) == []


def grown(small, tmp_path, upto):
    """A campaign of the first days; returns it and a function that adds the others."""
    folder = tmp_path / "grown"
    shutil.copytree(small.parent, folder)
    shutil.rmtree(folder / "c.xcorr")
    plain = {**build(load(small / "campaign.toml")).as_dict()}
    plain["data"]["source"] = f"sds:{folder / 'sds'}"
    later = [path for path in folder.rglob("*.2024.*") if int(path.name[-3:]) > upto]
    for path in later:
        path.rename(path.with_name("." + path.name))

    def run():
        assert run_campaign(folder / "stations.txt", folder / "c.xcorr", build(plain), refresh=True).exit_code == 0
        return monitor(folder / "c.xcorr")

    def add(day):
        for path in later:
            if int(path.name[-3:]) == day:
                path.with_name("." + path.name).rename(path)
        return run()

    run()
    return folder / "c.xcorr", add


def test_new_days_cost_a_day_and_change_no_other(small, tmp_path):
    """Day after day, or all at once: the same bits, and only what depends on new days is measured."""
    tables = [{**t, "reference_end": "2024-01-06"} if "reference_end" in t else t for t in TABLES]
    shutil.copytree(small.parent, tmp_path / "all")
    assignments = [
        f"monitor.{t['name']}.{key}={value!r}" for t in tables for key, value in t.items() if key == "reference_end"
    ]
    small = tmp_path / "all" / "c.xcorr"
    monitor(small, assignments)
    campaign, add = grown(small, tmp_path, 8)
    for day, most in ((9, 2), (10, 2), (12, 2), (11, 7)):  # SDS files may go on into the next day, so that it is there
        assert add(day).pieces <= most, "only the new day, or what moving stacks and references have of it"
    assert values(campaign) == values(small)
    assert list(problems(campaign)) == []


def test_absent_days_change_no_bits_of_others(whole, tmp_path):
    """A tenth of the days gone: the others, as far as they do not depend on them, keep their bits."""
    folder = tmp_path / "gaps"
    shutil.copytree(whole.parent, folder)
    shutil.rmtree(folder / "c.xcorr")
    gone = [24, 33, 34, 41, 50, 58]  # numbers of days, from 0
    for path in folder.rglob("*.2024.*"):
        if int(path.name[-3:]) - 1 in gone:
            path.unlink()
    plain = build(load(whole / "campaign.toml")).as_dict()
    plain["data"]["source"] = f"sds:{folder / 'sds'}"
    assert run_campaign(folder / "stations.txt", folder / "c.xcorr", build(plain)).exit_code == 0
    monitor(folder / "c.xcorr")
    kept = [day for day in range(DAYS) if day not in gone]
    with h5py.File(whole / NAME) as all_days, h5py.File(folder / "c.xcorr" / NAME) as some:
        starts = some["pieces"]["start_ns"].tolist()
        place = {
            day: starts.index(int(start)) for day, start in enumerate(all_days["pieces"]["start_ns"]) if day in kept
        }
        for table, reach in (("late", 0), ("moving", 2), ("rolling", 5), ("phases", 0), ("waves", 0)):
            for field, data in some[table]["ZZ"].items():
                if field == "shards":
                    continue
                if field == "reference":
                    assert data[...].tobytes() == all_days[table]["ZZ"][field][...].tobytes()
                    continue
                for day, at in place.items():
                    if not set(range(day - reach, day)) & set(gone):
                        assert data[at].tobytes() == all_days[table]["ZZ"][field][day].tobytes(), (table, field, day)


def test_interrupted_and_resumed_is_uninterrupted(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("xcorr.campaign.monitor_plan.RANGE_BYTES", 0)
    monkeypatch.setattr("xcorr.campaign.row_requests.chunk_shape", lambda lags, rows: (2, lags))
    campaign = tmp_path / "c.xcorr"
    shutil.copytree(whole, campaign)
    (campaign / NAME).unlink()
    interrupt(lambda: monitor(campaign), module.WriteMarkedMonitor, 4)
    parts = sorted((campaign / PARTS).rglob("*.npz"))
    assert len(parts) == 4
    cut_and_alter(*parts[1:3])
    done = monitor(campaign)
    assert done.resumed == 2, "a cut and an altered part are measured again"
    assert values(campaign) == values(whole)
    assert not (campaign / PARTS).exists()


@pytest.mark.parametrize("mapping", [pytest.param("sequential", marks=pytest.mark.slow), "processes"])
def test_killed_at_any_time(whole, tmp_path, mapping):
    campaign = tmp_path / "c.xcorr"
    shutil.copytree(whole, campaign)
    (campaign / NAME).unlink()
    command = [sys.executable, "-m", "xcorr", "monitor", str(campaign), "-m", mapping, "-n", "2"]
    killed_and_repeated(command, (0.8, 1.6, 2.2))
    assert values(campaign) == values(whole)
    assert list(problems(campaign)) == []


def test_other_settings_measure_anew_and_keep_what_is_not_asked_for(small, tmp_path, invoke):
    campaign = tmp_path / "c.xcorr"
    shutil.copytree(small, campaign)
    monitor(campaign)
    before = values(campaign)
    answer = invoke("monitor", campaign, "--set", "monitor.late.epsilon_max=0.005")
    assert "1 measurement(s)" in answer.output
    after = values(campaign)
    assert {n.partition("/")[0] for n in before if after[n] != before[n]} == {"late"}
    config = tmp_path / "other.toml"
    config.write_text('[[monitor]]\nname = "second"\nlag_s = [5.0, 40.0]\n')
    assert invoke("monitor", campaign, "-c", config).exit_code == 0
    with results.open(campaign) as r:
        assert set(r.monitoring.names) == {"late", "moving", "rolling", "phases", "waves", "second"}
        assert r.monitoring.settings("late").epsilon_max == 0.005
    refused = invoke("monitor", campaign, "--set", "condition.rate_hz=1")
    assert refused.exit_code == 2
    assert "only settings of monitor and run" in refused.output


def test_days_that_came_while_a_measurement_was_not_asked_for(small, tmp_path):
    """It is kept as it was; asked for again, it gets the days that it lacks, and until then this is told."""
    folder = tmp_path / "f"
    shutil.copytree(small.parent, folder)
    shutil.rmtree(folder / "c.xcorr")
    plain = build(load(small / "campaign.toml")).as_dict()
    plain["data"]["source"] = f"sds:{folder / 'sds'}"
    del plain["monitor"]  # a run keeps those that xcorr monitor has recorded
    last = [path for path in folder.rglob("*.2024.*") if int(path.name[-3:]) > 9]
    for path in last:
        path.rename(path.with_name("." + path.name))
    a, b = {"name": "a", **BASE, **FIVE}, {"name": "b", **BASE, **FIVE, "sides": "left"}

    def run():
        assert run_campaign(folder / "stations.txt", folder / "c.xcorr", build(plain), refresh=True).exit_code == 0

    run()
    monitor(folder / "c.xcorr", (), {"monitor": [a, b]})
    for path in last:
        path.with_name("." + path.name).rename(path)
    run()
    assert "lack" in monitor_behind(folder / "c.xcorr")
    monitor(folder / "c.xcorr", (), {"monitor": [b]})
    assert monitor_behind(folder / "c.xcorr") == "", "b is all that is asked for"
    assert monitor(folder / "c.xcorr", (), {"monitor": [a, b]}).tables == 1
    assert monitor_behind(folder / "c.xcorr") == ""
    found = values(folder / "c.xcorr")
    (folder / "c.xcorr" / NAME).unlink()
    monitor(folder / "c.xcorr", (), {"monitor": [a, b]})
    assert values(folder / "c.xcorr") == found


def test_stations_that_come_later(tmp_path):
    """A station more: pairs of the others keep their bits, and those of the new one are measured."""
    tables = [{"name": "a", **BASE, **FIVE}]
    campaign = made(tmp_path, 4, 6, 2.0, tables=tables)
    every = (tmp_path / "stations.txt").read_text()
    whole = tmp_path / "whole.xcorr"
    campaign.rename(whole)
    monitor(whole)
    (tmp_path / "stations.txt").write_text("".join(every.splitlines(keepends=True)[:3]))
    plain = load(whole / "campaign.toml")
    assert run_campaign(tmp_path / "stations.txt", campaign, build(plain)).exit_code == 0
    monitor(campaign)
    (tmp_path / "stations.txt").write_text(every)
    assert run_campaign(tmp_path / "stations.txt", campaign, build(plain)).exit_code == 0
    monitor(campaign)
    with results.open(whole) as r, results.open(campaign) as s, r.monitoring as one, s.monitoring as other:
        names = one.get("a")["pair"].values.tolist()
        assert len(names) == 6
        assert other.get("a", rows=np.array([5, 0]))["pair"].values.tolist() == [
            other.get("a", rows=np.arange(6))["pair"].values[k] for k in (5, 0)
        ]
        for rows in ([6], [-1], [True] * 6):
            with pytest.raises(ResultsError, match="must be numbers of pairs"):
                other.get("a", rows=np.array(rows))
        expected, found = one.get("a", pairs=names), other.get("a", pairs=names)
        assert np.abs(found["dvv"].values - expected["dvv"].values).max() < 1e-7
        assert (found["flag"].values == expected["flag"].values).all()


def test_pairs_in_any_order(whole):
    with results.open(whole) as r, r.monitoring as of:
        every = of.get("late")
        names = every["pair"].values.tolist()
        for chosen in (names[::-1], [names[5], names[2], names[5]], names[3:6]):
            found = of.get("late", pairs=chosen)
            assert found["pair"].values.tolist() == chosen
            for k, name in enumerate(chosen):
                expected = every["dvv"].values[:, names.index(name)]
                assert found["dvv"].values[:, k].tobytes() == expected.tobytes()


def test_damage_is_told_and_measured_again(small, tmp_path):
    campaign = tmp_path / "c.xcorr"
    shutil.copytree(small, campaign)
    monitor(campaign)
    expected = values(campaign)
    data = bytearray((campaign / NAME).read_bytes())
    data[len(data) // 2] ^= 0xFF
    (campaign / NAME).write_bytes(bytes(data))
    assert any(NAME in text for text in problems(campaign))
    monitor(campaign)
    assert values(campaign) == expected
    assert list(problems(campaign)) == []
    with h5py.File(campaign / NAME, "a") as file:
        file.attrs["version"] = 99
    with pytest.raises(ResultsError, match="newer version"):
        results.open(campaign).monitoring  # noqa: B018


def test_a_damaged_measurement_holds_nothing_else_up(small, tmp_path, invoke):
    campaign = tmp_path / "c.xcorr"
    shutil.copytree(small, campaign)
    monitor(campaign)
    expected = values(campaign)
    with (campaign / NAME).open("r+b") as file:
        file.truncate((campaign / NAME).stat().st_size - 1000)
    listed = small.parent / "stations.txt"
    finished = run_campaign(listed, campaign, build(load(campaign / "campaign.toml")))
    assert finished.exit_code == 0
    assert any(NAME in line and "xcorr monitor" in line for line in finished.report["warnings"])
    assert invoke("compact", campaign).exit_code == 0
    assert [line for line in problems(campaign) if NAME not in line] == []
    assert any(NAME in line for line in problems(campaign))
    monitor(campaign)
    assert values(campaign) == expected
    assert list(problems(campaign)) == []


def test_results_say_what_was_measured(whole, invoke, tmp_path):
    with results.open(whole) as r:
        of = r.monitoring
        changes = of.get("late", pairs=["XX.M00-XX.M01", "XX.M03-XX.M01"])
        assert changes.sizes == {"time": DAYS, "pair": 2}
        assert changes["pair"].values.tolist() == ["XX.M00-XX.M01", "XX.M01-XX.M03"]
        table = of.table("late")
        assert len(table) == DAYS * 15
        row = table[(table["pair"] == "XX.M00-XX.M01") & (table["time"] == "2024-01-05")]
        assert row["dvv"].item() == changes["dvv"].values[4, 0]
        with pytest.raises(ResultsError, match="did you mean 'late'"):
            of.get("lat")
        with pytest.raises(ResultsError, match="no pair"):
            of.get("late", pairs=["XX.M00-XX.M99"])
        values = of.similarity(r, "XX.M00", "XX.M01", "late")
        top = values["epsilon"].values[values.values.argmax(axis=1)]
        assert np.abs(top - changes["dvv"].values[:, 0]).max() <= 1e-4
    assert json.loads(invoke("info", whole, "--json").output)["monitoring"] == of.names
    assert invoke("export", whole, "--monitor", "late", "--format", "csv", "-o", tmp_path / "x.csv").exit_code == 0
    text = (tmp_path / "x.csv").read_text().splitlines()
    assert len(text) == 1 + DAYS * 15
    assert text[0].startswith("pair,start,end,dvv,error,coefficient,n_windows,flag")
    assert invoke("export", whole, "--monitor", "late", "--format", "netcdf", "-o", tmp_path / "x.nc").exit_code == 0
    import xarray

    with xarray.open_dataset(tmp_path / "x.nc", engine="h5netcdf") as found:
        assert found["dvv"].shape == (DAYS, 15)
        assert "faster" in found["dvv"].attrs["long_name"]
    for option in (("--series",), ("--reverse",), ("--band", "low"), ("--stack", "linear")):
        words = ("--monitor", "late", "--format", "csv", "-o", tmp_path / "z", *option)
        assert invoke("export", whole, *words).exit_code == 2, option
    refused = invoke("export", whole, "--monitor", "late", "--format", "sac", "-o", tmp_path / "y")
    assert "csv or netcdf" in refused.output


def test_figures(whole, invoke, tmp_path):
    pair = ("--pair", "XX.M00", "XX.M01")
    for k, options in enumerate(
        (("--monitor", "all"), ("--monitor", "late,waves", *pair), ("--similarity", "late", *pair),
         ("--interferogram", "late", *pair), ("--monitor", "late", "--mean", "weighted"),
         ("--monitor", "late", "--where", "distance_km > 0"))
    ):  # fmt: skip
        answer = invoke("plot", whole, *options, "-o", tmp_path / f"{k}.png")
        assert answer.exit_code == (1 if "--where" in options else 0), answer.output  # there are no coordinates
    page = Figure()
    axes = page.subplots()
    with results.open(whole) as r:
        assert figures.similarity(r, "XX.M00", "XX.M01", "late", ax=axes) is page
    assert axes.collections
    assert invoke("plot", whole, "--similarity", "late").exit_code == 2
    assert invoke("plot", whole, "--similarity", "late,waves", *pair).exit_code == 2
    assert invoke("plot", whole, "--monitor", "late,").exit_code == 2
    assert invoke("plot", whole, "--monitor", "late", "--interferogram", "late", *pair).exit_code == 2
    assert invoke("plot", whole, "--monitor", "late", "--map").exit_code == 2
    assert "coefficients by stretch" in invoke("plot", whole, "--similarity", "waves", *pair).output


def test_what_cannot_be_measured_is_said(small, tmp_path, invoke):
    campaign = tmp_path / "c.xcorr"
    shutil.copytree(small, campaign)
    for given, words in (
        ("monitor.late.lag_s=[5.0, 59.9]", "stretched by 1"),
        ("monitor.late.components=['NN']", "must be pairs that can be made"),
        ("monitor.late.band='low'", "there are no further bands"),
        ("monitor.late.moving_s=60.0", "at least the length of a piece"),
        ("monitor.late.reference_start='x'", "is not a time"),
        ("monitor.late.pairs=['XX.Q*-XX.*']", "no pair is chosen"),
        ("monitor.late.steps=4", "must be at least 5"),
        ("monitor.late.stpes=5", "did you mean"),
        ("monitor.pairs.lag_s=[5.0, 9.0]", "name of a table"),
        ("monitor.phases.window_s=39.0", "a line needs 3"),
        ("monitor.late.components=['ZZ', 'ZZ']", "twice"),
        ("monitor.rolling.reference_gap_s=0.0", "would hold what is compared"),
        ("monitor.all.steps=5", "choose another"),
        ("monitor.phases.smooth_bins=100", "from 1 to half of them"),
        ("monitor.rolling.reference_length_s=60.0", "at least the length of a piece"),
        ("monitor.rolling.steps=99999", "GB in each worker"),
    ):
        refused = invoke("monitor", campaign, "--set", given)
        assert refused.exit_code == 2, (given, refused.output)
        assert words in refused.output, (given, refused.output)
    assert not (campaign / NAME).exists()
    (tmp_path / "none.toml").write_text("[condition]\nrate_hz = 1.0\n")
    assert "no [[monitor]] tables" in invoke("monitor", campaign, "-c", tmp_path / "none.toml").output
    done = invoke("monitor", campaign)
    assert done.exit_code == 0, "what was refused is not in the settings"
    assert "late ZZ: 36 value(s), 0 flagged" in done.output
    far = invoke(
        "monitor", campaign, "--set", "monitor.far.velocity_km_s=1.0", "--set", "monitor.far.lag_s=[5.0, 25.0]"
    )
    assert "far ZZ: 0 value(s), 0 flagged; nothing could be measured" in far.output
    (campaign / NAME).unlink()
    assert list(problems(campaign, quick=True)) == []
    with pytest.raises(ResultsError, match="xcorr monitor measures"):
        results.open(campaign).monitoring  # noqa: B018
    plain = override(build(load(small / "campaign.toml")).as_dict(), ["stack.keep_series=false"])
    folder = tmp_path / "sums.xcorr"
    assert run_campaign(small.parent / "stations.txt", folder, build(plain)).exit_code == 0
    with pytest.raises(CampaignError, match="series were not kept"):
        monitor(folder)
    with pytest.raises(SettingsError, match="letters, digits"):
        build({**plain, "monitor": [{"name": "a b"}]})
    doubtful = {**plain, "correlate": {**plain["correlate"], "components": ["all"]}, "whiten": {"per": "channel"}}
    with pytest.raises(SettingsError, match="not those of the ground"):
        build({**doubtful, "monitor": [{"name": "a", "components": ["TT"]}]})


def test_a_run_keeps_the_measurements_of_its_campaign(small, tmp_path):
    campaign = tmp_path / "c.xcorr"
    shutil.copytree(small, campaign)
    plain = build(load(campaign / "campaign.toml")).as_dict()
    del plain["monitor"]
    assert run_campaign(small.parent / "stations.txt", campaign, build(plain)).exit_code == 0
    assert [m["name"] for m in load(campaign / "campaign.toml")["monitor"]] == [t["name"] for t in TABLES]


def test_pairs_named_the_other_way_round_have_the_same_pictures(small, tmp_path):
    campaign = tmp_path / "c.xcorr"
    shutil.copytree(small, campaign)
    monitor(campaign, (), {"monitor": [{"name": "left", **BASE, "sides": "left"}]})
    with results.open(campaign) as r, r.monitoring as of:
        one = of.similarity(r, "XX.M00", "XX.M01", "left")
        assert of.similarity(r, "XX.M01", "XX.M00", "left").values.tobytes() == one.values.tobytes()


def test_settings_of_monitoring_make_no_other_campaign(small):
    with_tables = build(load(small / "campaign.toml"))
    plain = with_tables.as_dict()
    del plain["monitor"]
    assert build(plain).hash() == with_tables.hash()
    import tomllib

    assert build(tomllib.loads(to_toml(with_tables.as_dict()))) == with_tables


BASE = {"lag_s": [10.0, 50.0], "epsilon_max": 0.01, "steps": 41}
DAY = 86_400.0
FIVE = {"reference": "period", "reference_start": "2024-01-01", "reference_end": "2024-01-05"}
KEYS = {  # a value of each key, and what else it needs; both with and without the key are measured
    "name": ("other", {}),
    "method": ("mwcs", {}),
    "components": (["NN"], {"components": ["ZZ"]}),
    "band": ("low", {}),
    "lag_s": ([20.0, 40.0], {}),
    "velocity_km_s": (1.0, {"lag_s": [5.0, 25.0]}),
    "sides": ("left", {}),
    "compare_sides": (True, {}),
    "reference": ("rolling", {"reference_length_s": DAY}),
    "reference_start": ("2024-01-03", FIVE),
    "reference_end": ("2024-01-03", FIVE),
    "reference_length_s": (2 * DAY, {"reference": "rolling", "reference_length_s": DAY, "reference_gap_s": DAY}),
    "reference_gap_s": (2 * DAY, {"reference": "rolling", "reference_length_s": DAY, "reference_gap_s": DAY}),
    "smooth_s": (5 * DAY, {"reference": "none", "smooth_s": DAY, "smooth_strength": 1.0}),
    "smooth_strength": (5.0, {"reference": "none", "smooth_s": DAY}),
    "moving_s": (2 * DAY, {}),
    "epsilon_max": (0.001, {}),
    "steps": (21, {}),
    "band_hz": ([0.2, 0.5], {"method": "wavelet"}),
    "window_s": (14.0, {"method": "mwcs"}),
    "step_s": (9.0, {"method": "mwcs"}),
    "smooth_bins": (4, {"method": "mwcs"}),
    "least_coherence": (0.99, {"method": "mwcs"}),
    "most_error_s": (0.003, {"method": "mwcs"}),
    "most_delay_s": (0.02, {"method": "mwcs"}),
    "through_origin": (True, {"method": "mwcs"}),
    "least_coefficient": (0.999, {}),
    "least_windows": (1000, {}),
    "pairs": (["XX.M00-XX.M01"], {}),
    "distance_km": ([0.0, 25.0], {}),
    "where": ("n_windows > 0 and distance_km < 25", {}),
}  # fmt: skip


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    """Three stations with places and two components, eight days, and a further band."""
    folder = tmp_path_factory.mktemp("placed")
    codes = write_changing(folder / "sds", 3, 8, 2.0)
    for path in list((folder / "sds").rglob("*BHZ.D.*")):  # the same ground motion, and noise, as another component
        north = obspy.read(str(path))
        for one in north:
            one.stats.channel = "BHN"
            own = np.random.default_rng(int(path.name[-3:])).standard_normal(len(one.data)) * one.data.std() / 3
            one.data = (one.data + own).astype(np.int32)
        target = path.parent.with_name("BHN.D") / path.name.replace("BHZ", "BHN")
        target.parent.mkdir(exist_ok=True)
        north.write(str(target), format="MSEED")
    rows = [f"XX,{code},40.0,{-100 + 0.2 * k}" for k, code in enumerate(codes)]
    (folder / "stations.csv").write_text("\n".join(["network,station,latitude,longitude", *rows, ""]))
    plain = {name: dict(keys) for name, keys in SETTINGS.items()}
    plain["data"]["source"] = f"sds:{folder / 'sds'}"
    plain["correlate"]["components"] = ["ZZ", "NN"]
    plain["bands"] = [{"name": "low", "band_hz": [0.1, 0.3]}]
    assert run_campaign(folder / "stations.csv", folder / "c.xcorr", build(plain)).exit_code == 0
    return folder / "c.xcorr"


def test_every_key_changes_what_is_measured(placed):
    assert set(KEYS) == {field.name for field in dataclasses.fields(Monitor)}
    tables = []
    for key, (value, others) in KEYS.items():
        without = {**BASE, **others, "name": f"without_{key}"}
        tables += [without, {**without, "name": f"with_{key}", key: value}]
    monitor(placed, (), {"monitor": tables})
    with h5py.File(placed / NAME) as file:

        def of(name):
            return {
                f"{pair}/{field}": data[...].tobytes()
                for pair, group in file[name].items()
                for field, data in group.items()
                if field not in ("reference", "shards")
            }

        for key, (value, _) in KEYS.items():
            mine, other = of(value if key == "name" else f"with_{key}"), of(f"without_{key}")
            assert (mine == other) == (key == "name"), key
        pair = "ZZ/n_windows"
        for key in ("pairs", "distance_km", "where"):
            assert np.frombuffer(of(f"with_{key}")[pair], "i4").astype(bool).mean() < 0.9, key
