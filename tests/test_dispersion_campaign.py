"""Dispersion of whole campaigns: known media, all mappings, interrupted, damaged, exported, drawn."""

import csv
import dataclasses
import json
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
from interruptions import cut_and_alter, interrupt, killed_and_repeated
from matplotlib.figure import Figure
from surface_waves import FIELD_SETTINGS, group_velocity, love_velocity, phase_velocity, write_field

from xcorr import results
from xcorr.campaign import dispersion as module
from xcorr.campaign.dispersion import dispersion
from xcorr.campaign.run import run_campaign
from xcorr.campaign.stack import restack
from xcorr.pes.dispersion import flags
from xcorr.pes.dispersion.dispersion_file import NAME, PARTS
from xcorr.results import figures
from xcorr.results.errors import ResultsError
from xcorr.results.velocity_maps import map_of
from xcorr.settings import SettingsError
from xcorr.settings.tables import Dispersion
from xcorr.settings.toml import build, override
from xcorr.settings.written import to_toml
from xcorr.store.verify import dispersion_behind, problems


@pytest.fixture(scope="module")
def whole(demo, tmp_path_factory):
    """The demo, measured."""
    campaign = tmp_path_factory.mktemp("whole") / "demo.xcorr"
    shutil.copytree(demo, campaign)
    dispersion(campaign)
    return campaign


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """Ten stations with three components in a field of Rayleigh and Love waves, measured."""
    folder = tmp_path_factory.mktemp("field")
    stations = write_field(folder)
    plain = {name: dict(keys) for name, keys in FIELD_SETTINGS.items()}
    plain["data"]["source"] = f"sds:{folder / 'sds'}"
    plain["bands"] = [{"name": "low", "band_hz": [0.1, 0.4]}]
    plain["stack"] = {"methods": ["linear", "pws"]}
    assert run_campaign(stations, folder / "field.xcorr", build(plain)).exit_code == 0
    dispersion(folder / "field.xcorr")
    return folder / "field.xcorr"


def copied(campaign, target):
    shutil.copytree(campaign, target)
    (target / NAME).unlink()
    return target


def write_curve(path, share):
    f = np.linspace(0.1, 0.8, 20)
    velocity = share * phase_velocity(f)
    path.write_text("".join(f"{1 / a},{b}\n" for a, b in zip(f, velocity, strict=True)))


def values(campaign):
    """Every dataset of the file, as bytes."""
    found = {}
    with h5py.File(campaign / NAME) as file:
        file.visititems(lambda name, data: found.update({name: data[...].tobytes()} if hasattr(data, "dtype") else {}))
    return found


# -- known media ---------------------------------------------------------------------------------------------


def test_the_medium_of_the_demo(whole):
    with results.open(whole) as r, r.dispersion as of:
        found = of.get()
    f = 1 / found["period"].values
    off = found["phase_km_s"].values / phase_velocity(f) - 1
    good = found["phase_accepted"].values
    assert good.mean() > 0.25
    assert abs(np.median(off[good])) < 0.005
    assert (np.abs(off[good]) < 0.03).mean() > 0.9
    scatter = (off * phase_velocity(f) / found["phase_error_km_s"].values)[good]
    assert 0.7 < np.median(np.abs(scatter)) / 0.6745 < 1.5
    good = found["group_accepted"].values
    off = found["group_km_s"].values / group_velocity(f) - 1
    assert abs(np.median(off[good])) < 0.015
    assert (np.abs(off[good]) < 0.06).mean() > 0.8
    scatter = (off * group_velocity(f) / found["group_error_km_s"].values)[good]
    assert 1.0 < np.median(np.abs(scatter)) / 0.6745 < 1.6, "1.3 in docs/science/dispersion.md"
    network = found["network_phase_km_s"].values / phase_velocity(f) - 1
    assert np.abs(network).max() < 0.01
    assert np.sqrt(np.mean(network**2)) < 0.003
    rejected = ~found["phase_accepted"].values
    assert ((found["flag"].values & flags.PHASE) != 0)[rejected].all(), "every rejected value has a reason"


def test_rayleigh_and_love_waves(field):
    """Each component pair has the velocity of its wave, which is 10 % apart from the other."""
    with results.open(field) as r, r.dispersion as of:
        assert of.components() == ["RR", "TT", "ZZ"]
        for components, velocity in (("ZZ", phase_velocity), ("RR", phase_velocity), ("TT", love_velocity)):
            found = of.get("waves", components)
            f = 1 / found["period"].values
            good = found["phase_accepted"].values & (found["wavelengths"].values > 2)
            off = found["phase_km_s"].values / velocity(f) - 1
            assert good.sum() > 150, components
            assert abs(np.median(off[good])) < 0.01, components
            assert (np.abs(off[good]) < 0.05).mean() > 0.9, components
            network = found["network_phase_km_s"].values / velocity(f) - 1
            assert np.median(np.abs(network)) < 0.01, components


def test_of_another_stack_and_band(field, tmp_path):
    campaign = tmp_path / "c.xcorr"
    shutil.copytree(field, campaign)
    before = values(campaign)
    done = dispersion(
        campaign, ["dispersion.low.band='low'", "dispersion.low.stack='pws'", "dispersion.low.components=['ZZ']"]
    )
    assert done.tables == 1
    after = values(campaign)
    assert {name: data for name, data in after.items() if not name.startswith("low/")} == before, "the others are kept"
    with results.open(campaign) as r, r.dispersion as of:
        assert of.names == ["waves", "low"], "in the order of the settings"
        found = of.get("low")
        assert found["period"].values[0] > 2.4
        assert of.settings("low").stack == "pws"
        f = 1 / found["period"].values
        good = found["phase_accepted"].values
        assert abs(np.median((found["phase_km_s"].values / phase_velocity(f) - 1)[good])) < 0.02


# -- bits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mapping", ["threads", "processes", "mpi", pytest.param("dask", marks=pytest.mark.slow)])
def test_all_mappings_give_the_same_bits(field, tmp_path, mapping):
    campaign = copied(field, tmp_path / "c.xcorr")
    command = [sys.executable, "-m", "xcorr", "dispersion", str(campaign), "-m", mapping, "-n", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert values(campaign) == values(field)


def test_what_is_up_to_date_is_not_measured(whole):
    before = (whole / NAME).stat()
    assert dispersion(whole).tables == 0
    assert (whole / NAME).stat() == before
    assert list(problems(whole)) == []
    assert dispersion_behind(whole) == ""


def split(monkeypatch):
    """Let ranges be of two rows."""
    monkeypatch.setattr("xcorr.campaign.dispersion_plan.RANGE_BYTES", 0)
    monkeypatch.setattr("xcorr.campaign.row_requests.chunk_shape", lambda lags, rows: (2, lags))


@pytest.mark.parametrize("writer", [pytest.param("WriteSpectra", marks=pytest.mark.slow), "WriteMarkedDispersion"])
def test_interrupted_and_resumed_is_uninterrupted(demo, tmp_path, monkeypatch, writer):
    split(monkeypatch)
    shutil.copytree(demo, tmp_path / "whole.xcorr")
    dispersion(tmp_path / "whole.xcorr")
    campaign = tmp_path / "c.xcorr"
    shutil.copytree(demo, campaign)
    interrupt(lambda: dispersion(campaign), getattr(module, writer), 4)
    keys = {path.parent.name for path in (campaign / PARTS).rglob("*.npz")}
    of_step = sorted(keys, key=len)[-1 if writer == "WriteSpectra" else 0]
    parts = sorted((campaign / PARTS / of_step).glob("*.npz"))
    assert len(parts) == 4
    cut_and_alter(*parts[1:3])
    done = dispersion(campaign)
    assert done.resumed == (0 if writer == "WriteSpectra" else 2), "a cut and an altered part are made again"
    assert values(campaign) == values(tmp_path / "whole.xcorr")
    assert not (campaign / PARTS).exists()


@pytest.mark.slow
@pytest.mark.parametrize("mapping", ["sequential", "processes"])
def test_killed_at_any_time(field, tmp_path, mapping):
    campaign = copied(field, tmp_path / "c.xcorr")
    command = [sys.executable, "-m", "xcorr", "dispersion", str(campaign), "-m", mapping, "-n", "2"]
    killed_and_repeated(command, (0.5, 0.9, 1.3))
    assert values(campaign) == values(field)
    assert list(problems(campaign)) == []


# -- what changes --------------------------------------------------------------------------------------------


def test_newer_stacks_are_measured_again(field, tmp_path, invoke):
    campaign = tmp_path / "c.xcorr"
    shutil.copytree(field, campaign)
    restack(campaign, ['stack.methods=["linear", "pws"]', "stack.pws_power=1.0"])
    assert dispersion(campaign).tables == 0, "the linear stack is the same"
    with h5py.File(campaign / NAME, "a") as file:
        for pair in file["waves"].values():
            pair.attrs["shards_digest"] = "older"
    assert "older stacks" in dispersion_behind(campaign)
    assert "xcorr dispersion brings it up to date" in invoke("verify", campaign).output


def test_damage_is_told_and_measured_again(whole, tmp_path, invoke):
    campaign = tmp_path / "c.xcorr"
    shutil.copytree(whole, campaign)
    with h5py.File(campaign / NAME) as file:
        at = file["waves/ZZ/phase_km_s"].id.get_chunk_info(0).byte_offset
    data = bytearray((campaign / NAME).read_bytes())
    data[at + 100] ^= 1
    (campaign / NAME).write_bytes(bytes(data))
    assert any("xcorr dispersion measures" in line for line in problems(campaign))
    assert dispersion(campaign).tables == 1
    assert values(campaign) == values(whole)
    assert (campaign / "aside").exists()
    assert "\ndispersion      waves\n" in invoke("info", campaign).output
    (campaign / NAME).unlink()
    assert "dispersion" not in json.loads(invoke("info", campaign, "--json").output)
    assert [line for line in problems(campaign, quick=True) if NAME in line] == [], "it may be removed"
    with pytest.raises(ResultsError, match="xcorr dispersion measures"):
        results.open(campaign).dispersion  # noqa: B018


def test_series_that_were_not_kept(demo, tmp_path):
    """Stacks are enough: errors are then those of the noise."""
    from conftest import ROOT

    from xcorr.settings.toml import load

    plain = override(load(ROOT / "configs/demo/xcorr.toml"), ["stack.keep_series=false"])
    assert run_campaign(ROOT / "configs/demo/stations.txt", tmp_path / "c.xcorr", build(plain)).exit_code == 0
    shutil.copytree(demo, tmp_path / "d.xcorr")
    dispersion(tmp_path / "c.xcorr")
    dispersion(tmp_path / "d.xcorr", ["dispersion.resamples=0"])
    with results.open(tmp_path / "c.xcorr") as a, results.open(tmp_path / "d.xcorr") as b:
        with a.dispersion as of, b.dispersion as other:
            mine, theirs = of.get(), other.get()
        assert np.allclose(mine["phase_km_s"], theirs["phase_km_s"], rtol=1e-4, equal_nan=True)
        assert np.isfinite(mine["phase_error_km_s"].values[mine["phase_accepted"].values]).all()


def test_a_given_curve(whole, tmp_path, invoke):
    campaign = copied(whole, tmp_path / "c.xcorr")
    f = np.linspace(0.1, 0.8, 20)
    (tmp_path / "curve.csv").write_text(
        "".join(f"{1 / a},{b}\n" for a, b in zip(f, 1.01 * phase_velocity(f), strict=True))
    )
    said = invoke("dispersion", campaign, "--set", f"dispersion.curve='{tmp_path / 'curve.csv'}'")
    assert "given" in said.output, said.output
    with results.open(campaign) as r, r.dispersion as of, results.open(whole) as other, other.dispersion as fitted:
        assert of.network().is_given
        a, b = of.get(), fitted.get()
        both = a["phase_accepted"].values & b["phase_accepted"].values
        assert np.median(np.abs(a["phase_km_s"].values / b["phase_km_s"].values - 1)[both]) < 2e-3
    write_curve(tmp_path / "curve.csv", 1.0)
    assert dispersion(campaign).tables == 1, "another curve in the same file"


def test_what_is_not_between_two_places_does_not_count(demo, tmp_path):
    """Autocorrelations, and stations without places or at one place, change nothing of the others."""
    from conftest import ROOT

    from xcorr.settings.toml import load

    config = ROOT / "configs" / "demo" / "xcorr.toml"
    codes = [f"D{k:02d}" for k in range(14)]
    places = {r["id"].decode()[3:]: (r["latitude"], r["longitude"]) for r in results.open(demo).dataset("stations")}
    places["D12"], places["D11"] = ("", ""), places["D10"]
    rows = [f"XX,{code},{places[code][0]},{places[code][1]}" for code in codes]
    (tmp_path / "stations.csv").write_text("\n".join(["network,station,latitude,longitude", *rows, ""]))
    plain = override(load(config), ["correlate.autocorrelations=true"])
    del plain["data"]["metadata"]
    assert run_campaign(tmp_path / "stations.csv", tmp_path / "c.xcorr", build(plain)).exit_code == 0
    shutil.copytree(demo, tmp_path / "d.xcorr")
    dispersion(tmp_path / "c.xcorr")
    dispersion(tmp_path / "d.xcorr")
    some = ["XX.D00-XX.D04", "XX.D02-XX.D08", "XX.D03-XX.D06"]
    with results.open(tmp_path / "d.xcorr") as r, r.dispersion as other:
        theirs = other.get(pairs=some)
    with results.open(tmp_path / "c.xcorr") as r, r.dispersion as of:
        assert int(of.network().spectra.count.sum()) == 66 - 1, "12 stations with places, two of them at one"
        mine = of.get(pairs=some)
        both = mine["phase_accepted"].values & theirs["phase_accepted"].values
        assert both.sum() > 10
        assert np.abs(mine["phase_km_s"].values / theirs["phase_km_s"].values - 1)[both].max() < 0.02
        assert not of.get(pairs=["XX.D10-XX.D11", "XX.D00-XX.D00"])["phase_accepted"].values.any()


def test_lags_that_are_too_short(demo, tmp_path, invoke):
    """Nothing is accepted that the largest lag cuts off, or whose noise nobody can know."""
    from conftest import ROOT

    from xcorr.settings.toml import load

    plain = override(load(ROOT / "configs" / "demo" / "xcorr.toml"), ["correlate.max_lag_s=20.0"])
    assert run_campaign(ROOT / "configs" / "demo" / "stations.txt", tmp_path / "c.xcorr", build(plain)).exit_code == 0
    said = invoke("dispersion", tmp_path / "c.xcorr").output
    assert "no lags to measure the noise" in said
    assert "the largest lag cuts the waves off" in said
    with results.open(tmp_path / "c.xcorr") as r, r.dispersion as of:
        found = of.get()
        assert np.isfinite(found["snr"].values[found["phase_accepted"].values]).all()
        assert found["phase_accepted"].values.mean() < 0.1


def test_given_curves_that_cannot_be(whole, tmp_path, invoke):
    campaign = copied(whole, tmp_path / "c.xcorr")
    path = tmp_path / "curve.csv"
    given = ("dispersion", campaign, "--set", f"dispersion.curve='{path}'")
    for text, words in (
        ("1.4 2.6\n1.41 2.7\n8 3.1\n", "group velocity"), ("0.2 3000\n0.1 3100\n", "none of the periods"),
        ("20 3.1\n30 3.2\n", "none of the periods"), ("3 nan\n", "line 1"), ("3 3\nnan 3\n", "line 2"),
        ("2 2800\n5 3000\n", "velocity_km_s"), ("period velocity\n3 3\nwords\n", "line 3"),
    ):  # fmt: skip
        path.write_text(text)
        refused = invoke(*given)
        assert refused.exit_code == 2, text
        assert words in refused.output, refused.output
    write_curve(path, 1.25)
    path.write_bytes(b"\xef\xbb\xbfperiod;velocity\r\n" + path.read_bytes().replace(b",", b";"))
    assert "it is up to 25 % off that of the spectra, so that no number of cycles is certain" in invoke(*given).output
    with results.open(campaign) as r, r.dispersion as of:
        assert not of.get()["phase_accepted"].values.any()
    path.unlink()
    assert invoke("dispersion", campaign).exit_code == 0, "the curve is in the file"
    refused = invoke("dispersion", campaign, "--set", "dispersion.other.curve='/nowhere'")
    assert "No such file" in refused.output


def test_measurements_of_older_stacks_that_nobody_asks_for(whole, tmp_path, invoke):
    campaign = tmp_path / "c.xcorr"
    shutil.copytree(whole, campaign)
    (tmp_path / "b.toml").write_text('[[dispersion]]\nname = "bbb"\n')
    assert invoke("dispersion", campaign, "-c", tmp_path / "b.toml").exit_code == 0
    with h5py.File(campaign / NAME, "a") as file:
        file["waves/ZZ"].attrs["shards_digest"] = "older"
    assert dispersion_behind(campaign) == "", "xcorr dispersion would not make it again"
    with results.open(campaign) as r, r.dispersion as of:
        assert of.names == ["bbb", "waves"]
    with h5py.File(campaign / NAME, "a") as file:
        file.attrs["version"] = 99
    with pytest.raises(ResultsError, match="newer version"):
        results.open(campaign).dispersion  # noqa: B018
    assert "was written by a newer version of xcorr" in invoke("info", campaign).output


def test_too_few_pairs_for_a_network(demo, tmp_path, invoke):
    campaign = tmp_path / "c.xcorr"
    shutil.copytree(demo, campaign)
    said = invoke("dispersion", campaign, "--set", "dispersion.pairs=['XX.D00-XX.D01', 'XX.D03-XX.D06']")
    assert said.exit_code == 0
    assert "give no curve of the network; give one" in said.output
    with results.open(campaign) as r, r.dispersion as of:
        assert not of.get(pairs=["XX.D00-XX.D01"])["phase_accepted"].values.any()
    assert invoke("plot", campaign, "--dispersion", "waves").exit_code == 0
    assert "no curve" in invoke("plot", campaign, "--frequency-time", "waves", "--pair", "XX.D00", "XX.D01").output
    refused = invoke("export", campaign, "--dispersion", "waves", "--format", "csv", "-o", tmp_path / "x.csv")
    assert "no pair with an accepted velocity" in refused.output


# -- reading, exports, figures -------------------------------------------------------------------------------


def test_results_say_what_was_measured(whole):
    with results.open(whole) as r, r.dispersion as of:
        found = of.get(pairs=["XX.D06-XX.D03"])
        assert found["pair"].values.tolist() == ["XX.D03-XX.D06"]
        pair = r.pairs.query("station_1 == 'XX.D03' and station_2 == 'XX.D06'").iloc[0]
        assert float(found["distance_km"][0]) == pytest.approx(pair["distance_m"] / 1000)
        assert found["phase_km_s"].attrs["units"] == "km/s"
        table = of.table()
        assert len(table) == 78 * 30, "D13 is dead"
        assert set(found.data_vars) >= {
            "phase_km_s",
            "group_error_km_s",
            "flag",
            "phase_accepted",
            "network_phase_km_s",
        }
        assert of.settings() == Dispersion()
        spectra = of.spectra()
        assert spectra.dims == ("distance_km", "frequency_hz")
        assert int(spectra["n_pairs"].sum()) == 78
        assert (np.diff(spectra["distance_km"]) > 0).all()
        assert spectra["distance_km"].values[-1] == pytest.approx(of.get()["distance_km"].values.max(), rel=1e-6)
        network = of.network()
        assert int(network.spectra.count.sum()) == 78
        for wrong, words in (
            ({"name": "wavs"}, "did you mean"), ({"components": "TT"}, "no components"),
            ({"pairs": ["XX.D00-XX.D99"]}, "no pair"), ({"rows": np.array([9999])}, "numbers of pairs"),
        ):  # fmt: skip
            with pytest.raises(ResultsError, match=words):
                of.get(**wrong)


def accepted_of(campaign, components, velocity):
    """What the exports have to hold: (first, second, period) and the value, read from the file by itself."""
    with h5py.File(campaign / NAME) as file:
        group, names = file["waves"][components], file["stations"]["id"].astype(str)
        mask = flags.PHASE if velocity == "phase" else flags.GROUP
        good = (group["flag"][...] & mask) == 0
        table, periods = file["pairs"][...], group["periods_s"][...]
        places = {
            n: (a, b)
            for n, a, b in zip(names, file["stations"]["latitude"], file["stations"]["longitude"], strict=True)
        }
        found = {}
        for row, k in zip(*np.nonzero(good), strict=True):
            first, second = names[table["station_1"][row]], names[table["station_2"][row]]
            found[first, second, round(float(periods[k]), 2)] = float(group[f"{velocity}_km_s"][row, k])
    return found, places


def near(places, latitude, longitude):
    (name,) = [n for n, (a, b) in places.items() if abs(a - latitude) < 1e-5 and abs(b - longitude) < 1e-5]
    return name


def read_dsurftomo(folder):
    """A reader after the source of DSurfTomo's main program: (wave, velocity type, period number) and receivers."""
    found, source = [], None
    for line in (folder / "surfdata.dat").read_text().splitlines():
        words = line.split()
        if words[0] == "#":
            source = (*map(float, words[1:3]), *map(int, words[3:]))
        else:
            found.append((source, *map(float, words)))
    lines = iter((folder / "periods.txt").read_text().splitlines())
    lists = []
    for line in lines:
        count = int(line.split()[0])
        lists.append(list(map(float, next(lines).split())) if count else [])
        assert len(lists[-1]) == count
    return found, lists  # Rayleigh phase, Rayleigh group, Love phase, Love group


def test_dsurftomo(field, tmp_path, invoke):
    target = tmp_path / "out"
    assert invoke("export", field, "--dispersion", "waves", "--format", "dsurftomo", "-o", target).exit_code == 0
    found, lists = read_dsurftomo(target)
    of_list = {(2, 0): 0, (2, 1): 1, (1, 0): 2, (1, 1): 3}
    for components, wave in (("ZZ", 2), ("TT", 1)):
        for velocity, number in (("phase", 0), ("group", 1)):
            expected, places = accepted_of(field, components, velocity)
            mine = {}
            for (latitude, longitude, period, of_wave, of_type), a, b, value in found:
                if (of_wave, of_type) == (wave, number):
                    first, second = near(places, latitude, longitude), near(places, a, b)
                    mine[first, second, round(lists[of_list[wave, number]][period - 1], 2)] = value
            assert mine.keys() == expected.keys()
            assert mine == pytest.approx(expected, abs=1e-4)
    order = [(source[3], source[4], source[2]) for source, *_ in found]
    changes = [a for a, b in zip(order, [None, *order], strict=False) if a != b]
    assert len(changes) == len(set(changes)), "sources of one period follow one another, as its reader needs"


def test_surfatt(field, tmp_path, invoke):
    target = tmp_path / "out"
    assert invoke("export", field, "--dispersion", "waves", "--format", "surfatt", "-o", target).exit_code == 0
    for components, wave in (("ZZ", "rayleigh"), ("TT", "love")):
        for velocity in ("phase", "group"):
            expected, places = accepted_of(field, components, velocity)
            with (target / f"{wave}_{velocity}.csv").open() as file:
                rows = list(csv.DictReader(file))
            mine = {(r["evtname"], r["staname"], round(float(r["period"]), 2)): float(r["vel"]) for r in rows}
            assert mine == pytest.approx(expected, abs=1e-4)
            for r in rows[:20]:
                assert float(r["tt"]) == pytest.approx(float(r["dist"]) / float(r["vel"]), rel=1e-4)
                assert near(places, float(r["evla"]), float(r["evlo"])) == r["evtname"]
                assert near(places, float(r["stla"]), float(r["stlo"])) == r["staname"]


def test_fmst(field, tmp_path, invoke):
    """Read as fm2dss.f90 does: for each source, for each receiver, flag, time and error."""
    target = tmp_path / "out"
    assert (
        invoke(
            "export", field, "--dispersion", "waves", "--format", "fmst", "-o", target, "--components", "TT"
        ).exit_code
        == 0
    )
    with results.open(field) as r:
        pairs = r.pairs
    distance = {
        (a, b): d / 1000 for a, b, d in zip(pairs["station_1"], pairs["station_2"], pairs["distance_m"], strict=True)
    }
    for velocity in ("phase", "group"):
        expected, places = accepted_of(field, "TT", velocity)
        mine = {}
        for folder in target.glob(f"love_TT_{velocity}_*"):
            period = round(float(folder.name.rpartition("_")[2].rstrip("s")), 2)
            ends = []
            for name in ("sources.dat", "receivers.dat"):
                count, *rows = (folder / name).read_text().splitlines()
                assert int(count) == len(rows)
                ends.append([near(places, *map(float, row.split())) for row in rows])
            lines = iter((folder / "otimes.dat").read_text().splitlines())
            for source in ends[0]:
                for receiver in ends[1]:
                    flag, seconds, error = next(lines).split()
                    if flag == "1":
                        mine[source, receiver, period] = distance[source, receiver] / float(seconds)
                        assert 0 < float(error) < float(seconds)
            assert next(lines, None) is None
        assert mine == pytest.approx(expected, rel=1e-3)


def test_tables(field, tmp_path, invoke):
    import xarray

    for kind in ("csv", "netcdf"):
        assert invoke("export", field, "--dispersion", "waves", "--format", kind, "-o", tmp_path / kind).exit_code == 0
    with (tmp_path / "csv").open() as file:
        rows = list(csv.DictReader(file))
    expected, _ = accepted_of(field, "TT", "phase")
    mine = {
        (r["station_1"], r["station_2"], round(float(r["period"]), 2)): float(r["phase_km_s"])
        for r in rows if r["components"] == "TT" and r["phase_accepted"] == "True"
    }  # fmt: skip
    assert mine == pytest.approx(expected, rel=1e-5)
    with results.open(field) as r, r.dispersion as own:
        wanted = own.get("waves", "TT")["phase_km_s"].values
    with xarray.open_dataset(tmp_path / "netcdf", group="TT", engine="h5netcdf") as of:
        assert np.array_equal(of["phase_km_s"].values, wanted, equal_nan=True)
    for wrong, words in (
        (("--dispersion", "waves", "--format", "sac"), "not as 'sac'"),
        (("--dispersion", "waves", "--format", "csv", "--series"), "are of correlations"),
        (("--dispersion", "waves", "--monitor", "x", "--format", "csv"), "give one of"),
        (("--dispersion", "waves", "--format", "csv", "-o", tmp_path / "csv"), "exists already"),
    ):
        refused = invoke("export", field, "-o", tmp_path / "n", *wrong)
        assert refused.exit_code, wrong
        assert words in refused.output, refused.output


def test_figures(field, tmp_path, invoke):
    pair = ("--pair", "XX.F00", "XX.F01")
    for n, given in enumerate((
        ("--dispersion", "waves"), ("--dispersion", "waves", "--components", "TT", "--distance", 10, 40),
        ("--frequency-time", "waves", *pair), ("--frequency-time", "waves", *pair, "--components", "TT"),
        ("--bessel", "waves"),
        ("--histograms", "waves"), ("--histograms", "waves", "--velocity-type", "group"),
        ("--paths", "waves", "--period", 3), ("--histograms", "waves", "--distance", 10, 20),
    )):  # fmt: skip
        said = invoke("plot", field, *given, "-o", tmp_path / f"{n}.png")
        assert said.exit_code == 0, said.output
        assert (tmp_path / f"{n}.png").stat().st_size > 10_000
    with results.open(field) as r:
        page = Figure()
        axes = page.subplots(3)
        drawn = (
            figures.bessel(r, "waves", ax=axes[0]),
            figures.frequency_time(r, "XX.F00", "XX.F01", "waves", ax=axes[1]),
            figures.velocity_paths(r, 3.0, "waves", ax=axes[2]),
        )
    assert all(figure is page for figure in drawn)
    assert all(a.collections for a in axes)
    said = invoke("dispersion", field, "--map", 3, "-o", tmp_path / "map.png")
    assert said.exit_code == 0, said.output
    assert (tmp_path / "map.png").exists()
    for wrong, words in (
        (("--paths", "waves"), "needs --period"), (("--frequency-time", "waves"), "needs --pair"),
        (("--dispersion", "waves", "--map"), "different figures"), (("--bessel", "waves", *pair), "different figures"),
        (("--bessel", "waves,"), "names no measurement"), (("--bessel", "other"), "no measurement"),
        (("--bessel", "waves", "--monitor", "x"), "different figures"),
        (("--paths", "waves", "--period", 300), "were measured"),
        (("--bessel", "waves", "--distance", 1, 2), "all pairs"),
        (("--histograms", "waves", "--period", 3), "--period is of --paths"),
        (("--paths", "waves", "--period", 3, "--velocity", 3), "take --velocity-type"),
    ):  # fmt: skip
        refused = invoke("plot", field, *wrong)
        assert refused.exit_code, wrong
        assert words in refused.output, (wrong, refused.output)


def test_a_first_map(field):
    with results.open(field) as r:
        of = map_of(r, 2.5, components="TT", cell_km=8.0)
        assert of.measurement == "waves"
        seen = of.found.rays > 2
        assert np.median(of.found.velocity_km_s[seen]) == pytest.approx(love_velocity(1 / of.period_s), rel=0.02)
        assert of.paths > 10
        assert len(of.stations_km) <= 10
        with pytest.raises(ResultsError, match="take larger ones"):
            map_of(r, 2.5, cell_km=0.01)


# -- settings ------------------------------------------------------------------------------------------------

KEYS = {  # a value of each key, and what else it needs; both with and without the key are measured
    "name": ("other", {}),
    "components": (["TT"], {"components": ["ZZ"]}),
    "stack": ("pws", {}),
    "band": ("low", {}),
    "periods_s": ([2.0, 3.0, 4.0], {}),
    "velocity_km_s": ([2.0, 4.5], {}),
    "curve": ("curve.txt", {}),
    "least_snr": (30.0, {}),
    "least_wavelengths_phase": (4.0, {}),
    "least_wavelengths_group": (5.0, {}),
    "least_wavelengths_spectrum": (3.0, {}),
    "most_difference": (0.005, {}),
    "resamples": (0, {}),
    "pairs": (["XX.F00-XX.*"], {}),
    "distance_km": ([10.0, 25.0], {}),
    "where": ("distance_km > 20", {}),
}


@pytest.mark.slow
def test_every_key_changes_what_is_measured(field, tmp_path):
    assert set(KEYS) == {f.name for f in dataclasses.fields(Dispersion)}
    campaign = copied(field, tmp_path / "c.xcorr")
    f = np.linspace(0.1, 0.8, 20)
    (tmp_path / "curve.txt").write_text(
        "".join(f"{1 / a} {b}\n" for a, b in zip(f, 1.02 * phase_velocity(f), strict=True))
    )
    tables = []
    for key, (value, others) in KEYS.items():
        value = str(tmp_path / value) if key == "curve" else value
        without = {"components": ["ZZ"], **others, "name": f"without_{key}"}
        tables += [without, {**without, "name": f"with_{key}", key: value}]
    dispersion(campaign, (), {"dispersion": tables})
    with h5py.File(campaign / NAME) as file:

        def of(name):
            return {
                f"{p}/{n}": d[...].tobytes() for p, g in file[name].items() for n, d in g.items() if hasattr(d, "dtype")
            }

        for key, (value, _) in KEYS.items():
            mine, other = of(value if key == "name" else f"with_{key}"), of(f"without_{key}")
            assert (mine == other) == (key == "name"), key


def test_what_cannot_be_measured_is_said(field, tmp_path, invoke):
    campaign = copied(field, tmp_path / "c.xcorr")
    for given, words in (
        ("dispersion.components=['ZR']", "must be of those that are stacked"),
        ("dispersion.components=['ZZ', 'ZZ']", "each once"),
        ("dispersion.stack='robust'", "there are linear, pws"),
        ("dispersion.band='high'", "there are low"),
        ("dispersion.periods_s=[1.0, 2.0, 3.0]", "not in the band"),
        ("dispersion.periods_s=[3.0, 2.0, 2.5]", "rising"),
        ("dispersion.velocity_km_s=[3.0, 2.0]", "slowest < fastest"),
        ("dispersion.curve='/nowhere'", "curve"),
        ("dispersion.pairs=['XX.Q*-XX.*']", "no pair is chosen"),
        ("dispersion.stations.least_snr=3", "name of a table"),
        ("dispersion.a/b.least_snr=3", "names must be"),
        ("dispersion.snr=3", "unknown setting"),
        ("dispersion.least_wavelengths_group=0.1", "at least 1"),
        ("stack.methods=['linear']", "only settings of dispersion and run"),
    ):
        refused = invoke("dispersion", campaign, "--set", given)
        assert refused.exit_code == 2, (given, refused.output)
        assert words in refused.output, (given, refused.output)
    assert not (campaign / NAME).exists()
    (tmp_path / "none.toml").write_text("[condition]\nrate_hz = 1.0\n")
    assert "no [[dispersion]] tables" in invoke("dispersion", campaign, "-c", tmp_path / "none.toml").output
    for period in ("3000", "nan", "-1"):
        assert invoke("dispersion", campaign, "--map", period).exit_code, period


def test_settings_of_dispersion_make_no_other_campaign(field, tmp_path):
    from xcorr.store.folder import frozen_settings

    settings = frozen_settings(field)
    assert settings.dispersion == (Dispersion(),), "what was measured is recorded"
    plain = settings.as_dict()
    without = build({name: value for name, value in plain.items() if name != "dispersion"})
    assert without.hash() == settings.hash()
    assert without.with_those_of(settings).dispersion == settings.dispersion
    import tomllib

    assert build(tomllib.loads(to_toml(plain))) == settings
    with pytest.raises(SettingsError, match="each once"):
        build(override(plain, ["dispersion.components=['ZZ', 'ZZ']"]))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.toml").write_text('[[dispersion]]\ncurve = "curve.txt"\n')
    from xcorr.settings.toml import load

    assert load(tmp_path / "sub" / "x.toml")["dispersion"][0]["curve"] == str(tmp_path / "sub" / "curve.txt")


def test_provenance_names_the_elements(whole):
    import sqlite3

    with sqlite3.connect(whole / "provenance" / "store.sqlite") as store:
        tables = [name for (name,) in store.execute("select name from sqlite_master where type = 'table'")]
        text = " ".join(str(row) for table in tables for row in store.execute(f"select * from {table}"))
    for element in ("SumSpectra", "MeasureDispersion", "WriteDispersion"):
        assert element in text
