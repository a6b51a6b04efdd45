"""Correlations of other programs become campaigns: with known delays at their lags, signs and times."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import obspy
import pytest
from archives import settings, station_list
from conftest import ROOT
from foreign_files import DELAYS, INDEX, pulses, write_msnoise, write_noisepy, write_yam
from interruptions import interrupt

from xcorr import results
from xcorr.campaign.imported import import_campaign
from xcorr.campaign.merge import merge
from xcorr.campaign.merge_parts import MergeError
from xcorr.campaign.run import run_campaign
from xcorr.core import XcorrError
from xcorr.imports.foreign import ForeignError
from xcorr.imports.h5 import H5
from xcorr.pes.storing.write_shards import WriteShards
from xcorr.store.folder import CampaignError
from xcorr.store.verify import problems

SCRIPTS = ROOT / "tests" / "foreign"
PACKAGES = {  # Python, and what is installed
    "noisepy": ("3.10", ["noisepy-seis==0.9.93"]),
    "msnoise": (
        "3.9",
        ["msnoise==1.6.5", "sqlalchemy<2", "numpy<1.24", "scipy<1.11", "pandas<1.6", "setuptools<70", "obspy",
         "flask<2.3", "flask-admin<1.6", "wtforms<3", "werkzeug<2.3", "click<8.1", "tables", "pymysql"],
    ),
    "yam": ("3.11", ["setuptools<70", "yam==0.7.3", "obspyh5==0.6.0"]),
}  # fmt: skip


def require_delays(folder, pieces=None):
    """The peak of every pair is at its delay, also of every piece."""
    with results.open(folder) as found:
        for (first, second), delay in DELAYS.items():
            stack = found.get(first, second)
            assert found.lags_s[stack.values.argmax()] == delay
            series = found.get(first, second, stack=None)
            there = series.values[series.n_windows.values > 0]
            assert len(there) == (pieces or len(there))
            at = found.lags_s[there.argmax(axis=1)]
            assert np.median(at) == delay
        assert list(problems(Path(folder))) == []


# -- files of the released packages ---------------------------------------------------------------------------


def python_of(version):
    """Return a Python of a version, of those that pyenv or the system have; None without one."""
    places = [*Path.home().glob(f".pyenv/versions/{version}.*/bin/python"), shutil.which(f"python{version}")]
    return next((str(p) for p in places if p), None)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return what a script of a package has made, in an environment of its own."""

    def make(name, target):
        version, packages = PACKAGES[name]
        python = python_of(version)
        if python is None:
            pytest.skip(f"{name} needs Python {version}")
        place = tmp_path_factory.mktemp(name)
        subprocess.run([python, "-m", "venv", place / "env"], check=True)
        pip = [place / "env" / "bin" / "pip", "install", "--quiet", "--prefer-binary", *packages]
        installed = subprocess.run(pip, capture_output=True, text=True)
        if installed.returncode:
            pytest.skip(f"{name} does not install here: {installed.stderr[-300:]}")
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPTS)}
        command = [place / "env" / "bin" / "python", SCRIPTS / f"make_{name}.py", place / target]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, cwd=place)
        assert done.returncode == 0, done.stderr[-2000:]
        return place / target

    return make


@pytest.mark.slow
def test_noisepys_own_files(made, tmp_path):
    place = made("noisepy", ".")
    pieces = {"whole": 2, "substacks": 184, "stacks": 1}
    for kind in ("asdf", "zarr"):
        for name, count in pieces.items():
            out = tmp_path / f"{kind}-{name}"
            done = import_campaign("noisepy", place / f"{kind}-{name}", out)
            assert done.pairs == 6
            assert "NoisePy's lags are late by one sample" in done.notes[0]
            require_delays(out, count)
            with results.open(out) as found:
                assert found.lags_s[-1] == 29.75
                assert str(found.pieces[0, 0])[:16] == "2019-01-01T00:00"
                assert found.get("CI.AAA", "CI.BBB").attrs["distance_m"] == pytest.approx(11094, abs=2)
                windows = {"whole": 184, "substacks": 184, "stacks": 7}[name]
                assert found.get("CI.AAA", "CI.BBB").attrs["n_windows"] == windows
        with results.open(tmp_path / "asdf-whole") as a, results.open(tmp_path / f"{kind}-whole") as b:
            np.testing.assert_array_equal(a.gather(), b.gather())


@pytest.mark.slow
def test_msnoises_own_files(made, tmp_path):
    project = made("msnoise", "project")
    import_campaign("msnoise", project, tmp_path / "all")
    require_delays(tmp_path / "all", 96)
    with results.open(tmp_path / "all") as found:
        assert found.settings.condition.band_hz == (0.05, 1.5)
        assert found.get("CI.AAA", "CI.BBB").attrs["n_windows"] == 96
    shutil.rmtree(project / "CROSS_CORRELATIONS")
    import_campaign("msnoise", project, tmp_path / "days")
    require_delays(tmp_path / "days", 2)
    for file in (project / "STACKS").rglob("*.MSEED"):
        file.unlink()
    import_campaign("msnoise", project, tmp_path / "sac")
    with results.open(tmp_path / "days") as a, results.open(tmp_path / "sac") as b:
        np.testing.assert_array_equal(a.gather(), b.gather())
    shutil.rmtree(project / "STACKS" / "01" / "001_DAYS")
    done = import_campaign("msnoise", project, tmp_path / "reference")
    require_delays(tmp_path / "reference", 1)
    assert any("reference stacks are taken" in note for note in done.notes)


@pytest.mark.slow
def test_yams_own_files(made, tmp_path):
    import_campaign("h5", made("yam", "c.h5"), tmp_path / "x")
    require_delays(tmp_path / "x", 4)


# -- small files in the same layouts --------------------------------------------------------------------------


@pytest.fixture
def noisepy(tmp_path):
    return write_noisepy(tmp_path / "ccf")


@pytest.fixture
def msnoise(tmp_path):
    return write_msnoise(tmp_path / "project")


@pytest.fixture
def yam(tmp_path):
    return write_yam(tmp_path / "c.h5")


def test_noisepy(noisepy, tmp_path, invoke):
    done = invoke("import", "noisepy", noisepy, "-o", tmp_path / "x", "--set", "condition.band_hz=[0.1,1.0]")
    assert done.exit_code == 0, done.output
    assert "3 stations, 3 pairs with data, 2 piece(s)" in done.output
    assert "note: NoisePy's lags are late by one sample" in done.output
    assert "components Z1 are left out" in done.output
    require_delays(tmp_path / "x", 2)
    with results.open(tmp_path / "x") as found:
        assert found.get("CI.AAA", "CI.BBB", stack=None).n_windows.values.tolist() == [10, 11]
        assert found.settings.condition.band_hz == (0.1, 1.0)
    info = invoke("info", tmp_path / "x").output
    assert f"from NoisePy, {noisepy}: NoisePy's lags" in info


def test_msnoise(msnoise, tmp_path, invoke):
    refused = invoke("import", "msnoise", msnoise, "-o", tmp_path / "x")
    assert refused.exit_code == 1
    assert "has the filters 01, 02; choose one with --choice" in refused.output
    assert not (tmp_path / "x").exists()
    assert invoke("import", "msnoise", msnoise, "-o", tmp_path / "x", "--choice", "02").exit_code == 0
    require_delays(tmp_path / "x", 4)
    with results.open(tmp_path / "x") as found:
        assert found.settings.condition.band_hz == (0.5, 1.5)
        assert len(found.pieces) == 48
        windows = found.get("CI.AAA", "CI.BBB", stack=None).n_windows
        assert np.flatnonzero(windows).tolist() == [6, 7, 8, 9]  # from 3:00 to 5:00


def test_h5(yam, tmp_path, invoke):
    refused = invoke("import", "h5", yam, "-o", tmp_path / "x")
    assert "has the groups c1, c1_s1d; choose one with --choice" in refused.output
    assert invoke("import", "h5", yam, "-o", tmp_path / "x", "--choice", "c1").exit_code == 0
    require_delays(tmp_path / "x", 3)


@pytest.mark.parametrize("options", [[], ["--series"], ["--reverse"]])
def test_what_is_exported_comes_back(demo, tmp_path, invoke, options):
    series = options == ["--series"]
    assert invoke("export", demo, "--format", "sac", "-o", tmp_path / "sac", *options).exit_code == 0
    done = import_campaign("sac", tmp_path / "sac", tmp_path / "x")
    with results.open(demo) as a, results.open(tmp_path / "x") as b:
        assert done.pairs == 78  # those with data
        for first, second in a.pairs[["station_1", "station_2"]].itertuples(index=False):
            if not int(a.get(first, second).attrs["n_windows"]):
                continue
            one, two = (r.get(first, second, stack=None if series else "linear") for r in (a, b))
            if series:
                two = two.sel(time=one.time)
                np.testing.assert_array_equal(two.n_windows, one.n_windows)
            np.testing.assert_array_equal(two.values, one.values)
            assert two.attrs["distance_m"] == pytest.approx(one.attrs["distance_m"], abs=1.0)
            assert b.station_numbers[first] < b.station_numbers[second]
        np.testing.assert_array_equal(a.lags_s, b.lags_s)


# -- what then works, and what is refused ---------------------------------------------------------------------


def test_an_imported_campaign_is_a_campaign(noisepy, tmp_path, invoke):
    folder = tmp_path / "x"
    import_campaign("noisepy", noisepy, folder, ["condition.band_hz=[0.1,1.0]"])
    for command in (
        ["status", folder], ["verify", folder],
        ["plot", folder, "--pair", "CI.AAA", "CI.BBB", "-o", tmp_path / "a.png"],
        ["stack", folder, "--set", 'stack.methods=["linear","pws"]'], ["compact", folder], ["pack", folder],
        ["export", folder, "--format", "netcdf", "-o", tmp_path / "a.nc"],
        ["monitor", folder, "--set", "monitor.coda.lag_s=[5,25]"],
        ["prov", "query", folder, "--made", "CI.AAA-CI.BBB"],
    ):  # fmt: skip
        done = invoke(*command)
        assert done.exit_code == 0, (command, done.output)
    require_delays(folder, 2)
    report = json.loads((folder / "report.json").read_text())
    assert report["imported"]["program"] == "NoisePy"


def test_it_is_not_continued_by_a_run(noisepy, tmp_path):
    import_campaign("noisepy", noisepy, tmp_path / "x")
    (tmp_path / "sds").mkdir()
    with pytest.raises(CampaignError):
        run_campaign(station_list(tmp_path, "AAA", "BBB"), tmp_path / "x", settings(tmp_path / "sds"))


def test_campaigns_of_one_program_merge(noisepy, tmp_path):
    for k, file in enumerate(sorted(noisepy.iterdir())):
        (tmp_path / str(k)).mkdir()
        shutil.copy(file, tmp_path / str(k))
        import_campaign("noisepy", tmp_path / str(k), tmp_path / f"{k}.xcorr")
    merge([tmp_path / "0.xcorr", tmp_path / "1.xcorr"], tmp_path / "m.xcorr")
    require_delays(tmp_path / "m.xcorr", 2)


def test_own_and_imported_campaigns_do_not_merge(demo, noisepy, tmp_path):
    import_campaign("noisepy", noisepy, tmp_path / "x")
    with pytest.raises(MergeError, match="one was imported from another program"):
        merge([demo, tmp_path / "x"], tmp_path / "m")


def test_an_interrupted_import_goes_on(noisepy, tmp_path):
    interrupt(lambda: import_campaign("noisepy", noisepy, tmp_path / "x"), WriteShards, 5)
    import_campaign("noisepy", noisepy, tmp_path / "x")
    require_delays(tmp_path / "x", 2)
    with pytest.raises(CampaignError, match="was made of other data"):
        import_campaign("noisepy", noisepy.parent / "ccf" / next(noisepy.iterdir()).name, tmp_path / "x")


def sac(path, b=-2.0, npts=17, delta=0.25, **header):
    time = {"nzyear": 1970, "nzjday": 1, "nzhour": 0, "nzmin": 0, "nzsec": 0, "nzmsec": 0}
    start = obspy.UTCDateTime(b)
    about = {"delta": delta, "starttime": start, "sac": {"b": b, **time, **header}}
    trace = obspy.Trace(np.ones(npts, np.float32), about)
    path.parent.mkdir(exist_ok=True)
    trace.write(str(path), format="SAC")


def test_sac_files_named_by_others(tmp_path):
    """Without headers: stations, components and time are those of the name; lags need not be symmetric."""
    for day in (1, 2, 3):
        sac(tmp_path / "sac" / f"XX.A_XX.B_ZN_2024-03-0{day}.sac", b=-2.0, npts=20)
    import_campaign("sac", tmp_path / "sac", tmp_path / "x")
    sac(tmp_path / "centred" / "XX.A_XX.B_ZN.sac", b=0.0)
    import_campaign("sac", tmp_path / "centred", tmp_path / "y", choice="centre")
    with results.open(tmp_path / "y") as found:
        assert found.lags_s.tolist() == (np.arange(-8, 9) / 4).tolist()
    with results.open(tmp_path / "x") as found:
        assert found.components == ["ZN"]
        assert len(found.pieces) == 3
        assert found.lags_s.tolist() == (np.arange(-8, 9) / 4).tolist()


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({}, "there are no files that end in .sac"),
        ({"a.sac": {}}, "a.sac: names no two stations"),
        ({"XX.A_XX.B_ZZ.sac": {"b": 3.0}}, "no sample within has lag zero"),
        ({"XX.A_XX.B_ZZ.sac": {"b": -2.1}}, "no sample within has lag zero"),
        ({"XX.A_XX.B_ZZ.sac": {}, "XX.A_XX.C_ZZ.sac": {"b": -3.0, "npts": 25}}, "has lags to 3 s .* import them apart"),
        ({"XX.A_XX.B_ZZ.sac": {}, "XX.B_XX.A_ZZ.sac": {}}, "two correlations of the same time"),
        ({"XX.A_XX.B_ZZ.sac": {"b": 0.0}}, "--choice centre, if it is in the middle"),
        ({"XX.A_XX.B_RT.sac": {}}, "has no correlations of Z, N, E or H"),
    ],
)
def test_files_that_cannot_be_imported_are_named(tmp_path, files, match):
    (tmp_path / "sac").mkdir()
    for name, header in files.items():
        sac(tmp_path / "sac" / name, **header)
    with pytest.raises(ForeignError, match=match):
        import_campaign("sac", tmp_path / "sac", tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("kind", ["noisepy", "msnoise", "h5", "sac"])
def test_garbage_is_named(tmp_path, kind):
    (tmp_path / "in").mkdir()
    for name in ("a.h5", "a.sac", "msnoise.sqlite"):
        (tmp_path / "in" / name).write_bytes(b"garbage" * 100)
    path = tmp_path / "in" / "a.h5" if kind == "h5" else tmp_path / "in"
    with pytest.raises(ForeignError, match=str(tmp_path / "in")):
        import_campaign(kind, path, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_coordinates_from_stationxml(yam, tmp_path):
    from obspy.core.inventory import Inventory, Network, Station

    stations = [Station(code, 35.0 + k / 10, -117.0, 0.0) for k, code in enumerate(("AAA", "BBB", "CCC"))]
    Inventory([Network("CI", stations)]).write(str(tmp_path / "s.xml"), "STATIONXML")
    import_campaign("h5", yam, tmp_path / "x", choice="c1", metadata=str(tmp_path / "s.xml"))
    with results.open(tmp_path / "x") as found:
        assert found.get("CI.AAA", "CI.BBB").attrs["distance_m"] == pytest.approx(11094, abs=2)


def test_the_command_line_names_the_kinds(invoke):
    done = invoke("import", "matlab", ".", "-o", "x")
    assert done.exit_code == 2
    for name in ("h5", "msnoise", "noisepy", "sac"):
        assert name in done.output


def test_pairs_in_any_order(tmp_path):
    """A-B, B-C and C-A: one pair is turned, and its components with it."""
    for first, second in (("A", "B"), ("B", "C"), ("C", "A")):
        sac(tmp_path / "sac" / f"XX.{first}_XX.{second}_ZN.sac")
    import_campaign("sac", tmp_path / "sac", tmp_path / "x")
    with results.open(tmp_path / "x") as found:
        assert found.components == ["NZ", "ZN"]
        for first, second in (("A", "B"), ("B", "C"), ("C", "A")):
            assert found.get(f"XX.{first}", f"XX.{second}", "ZN").attrs["n_windows"] == 1


def test_other_files_are_not_mixed_in(yam, tmp_path):
    interrupt(lambda: import_campaign("h5", yam, tmp_path / "x", choice="c1"), WriteShards, 4)
    with pytest.raises(CampaignError, match="was made of other data"):
        import_campaign("h5", yam, tmp_path / "x", choice="c1_s1d")
    sac(tmp_path / "sac" / "XX.B_XX.C_ZZ.sac")
    import_campaign("sac", tmp_path / "sac", tmp_path / "y")
    sac(tmp_path / "sac" / "XX.A_XX.B_ZZ.sac")
    with pytest.raises(CampaignError, match="was made of other data"):
        import_campaign("sac", tmp_path / "sac", tmp_path / "y")
    with pytest.raises(CampaignError, match="lies in .*/sac, which is not changed"):
        import_campaign("sac", tmp_path / "sac", tmp_path / "sac" / "x")


@pytest.mark.parametrize(
    "text", ["correlate.max_lag_s=99", 'correlate.components=["NN"]', "stack.substack_s=60", 'data.source="sds:x"']
)
def test_settings_that_the_files_say_are_refused(noisepy, tmp_path, text):
    with pytest.raises(ForeignError, match="--set .*: the files say what was made; only condition.band_hz"):
        import_campaign("noisepy", noisepy, tmp_path / "x", [text])
    assert not (tmp_path / "x").exists()


def test_pieces_are_read_once(tmp_path, monkeypatch):
    """Of a file with pieces of many days, each chunk reads its own."""

    with h5py.File(tmp_path / "c.h5", "w") as file:
        file.attrs.update({"file_format": "obspyh5", "index": INDEX})
        for k in range(240):
            time = f"2019-01-{1 + k // 24:02d}T{k % 24:02d}:00:00.000000Z"
            data = file.create_dataset(f"c/CI.A-CI.B/{time[:16]}", data=pulses(1.0))
            data.attrs.update({"network1": "CI", "station1": "A", "channel1": "BHZ", "delta": 0.25, "starttime": time})
            data.attrs.update({"network2": "CI", "station2": "B", "channel2": "BHZ"})
    counts, real = [], H5.read
    monkeypatch.setattr(H5, "read", lambda self, key, which: counts.append(len(which)) or real(self, key, which))
    import_campaign("h5", tmp_path / "c.h5", tmp_path / "x")
    assert counts == [24] * 10
    with results.open(tmp_path / "x") as found:
        assert len(found.pieces) == 240
        assert (found.get("CI.A", "CI.B", stack=None).n_windows == 1).all()


@pytest.mark.parametrize("rate", [0.3, 0.7, 1 / 3, 12.5])
def test_rates_that_float32_does_not_hold(tmp_path, rate):
    sac(tmp_path / "sac" / "XX.A_XX.B_ZZ.sac", b=-8 / rate, delta=1 / rate)
    import_campaign("sac", tmp_path / "sac", tmp_path / "x")
    with results.open(tmp_path / "x") as found:
        assert found.settings.condition.rate_hz == pytest.approx(rate, rel=1e-12)


def test_days_with_gaps_are_days(tmp_path):
    for day in (1, 3, 8):
        sac(tmp_path / "sac" / f"XX.A_XX.B_ZZ_2024030{day}T000000.sac")
    import_campaign("sac", tmp_path / "sac", tmp_path / "x")
    with results.open(tmp_path / "x") as found:
        assert [str(start)[:10] for start, _ in found.pieces] == ["2024-03-01", "2024-03-03", "2024-03-08"]
        assert found.settings.data.chunk_s == 86_400


def test_a_piece_that_begins_a_little_late_is_on_the_grid(tmp_path):
    for hour, second in ((0, 0), (1, 0), (2, 20), (5, 0)):
        sac(tmp_path / "sac" / f"XX.A_XX.B_ZZ_20240301T{hour:02d}00{second:02d}.sac")
    made = import_campaign("sac", tmp_path / "sac", tmp_path / "x")
    assert "no file says how long the pieces are: 3600 s are assumed, from when they begin" in made.notes
    with results.open(tmp_path / "x") as found:
        assert found.settings.data.chunk_s == 86_400
        windows = found.get("XX.A", "XX.B", stack=None).n_windows
        assert np.flatnonzero(windows).tolist() == [0, 1, 2, 5]


def about_noisepy(hours, **more):
    places = {"latS": 35.0, "lonS": -117.0, "latR": 35.1, "lonR": -117.0}
    times = [1546300800.0 + 3600 * hour for hour in hours]
    return {"dt": 0.25, "substack": True, "time": times, "ngood": [2 + h for h in hours], **places, **more}


SPAN = "2019_01_01_00_00_00T2019_01_02_00_00_00"


def test_substacks_of_noisepy_that_channels_lack(tmp_path):
    """As NoisePy writes Zarr: an array has the most substacks of any channel pair, and NaN where another lacks them."""
    zarr = pytest.importorskip("zarr")
    root, hours = tmp_path / "zarr", {"BHZ": [0, 1, 4], "BHN": [4]}
    array = root / "CI.AAA" / "CI.BBB" / SPAN
    data = np.full((2, 3, 241), np.nan, np.float32)
    for k, at in enumerate(hours.values()):
        data[k, : len(at)] = pulses(5.0, 1)
    zarr.open_group(root, mode="w", zarr_format=2)
    zarr.save_array(array, data, zarr_format=2)
    about = [["BHZ", "00", channel, "00", about_noisepy(at)] for channel, at in hours.items()]
    (array / ".zattrs").write_text(json.dumps({"metadata": about}))
    import_campaign("noisepy", root, tmp_path / "x")
    with results.open(tmp_path / "x") as found:
        assert found.settings.stack.substack_s == 3600
        for components, at in zip(("ZZ", "ZN"), hours.values(), strict=True):
            got = found.get("CI.AAA", "CI.BBB", components, stack=None)
            assert {int(h): int(got.n_windows[h]) for h in np.flatnonzero(got.n_windows)} == {h: 2 + h for h in at}
            assert np.isfinite(got.data[at]).all()


def test_a_single_substack_of_noisepy_is_where_it_is_in_time(tmp_path):
    (tmp_path / "asdf").mkdir()
    with h5py.File(tmp_path / "asdf" / f"{SPAN}.h5", "w") as file:
        for second, hours in (("CI.BBB", [4]), ("CI.CCC", [0, 1])):
            data = np.tile(pulses(5.0, 1), (len(hours), 1))
            file.create_dataset(f"AuxiliaryData/CI.AAA_{second}/bhz_00_bhz_00", data=data)
            file[f"AuxiliaryData/CI.AAA_{second}/bhz_00_bhz_00"].attrs.update(about_noisepy(hours))
    import_campaign("noisepy", tmp_path / "asdf", tmp_path / "x")
    with results.open(tmp_path / "x") as found:
        assert np.flatnonzero(found.get("CI.AAA", "CI.BBB", stack=None).n_windows).tolist() == [4]


def test_single_substacks_of_noisepy_are_of_their_timespans(tmp_path):
    """Where no pair has two, nothing tells how long they are: each stands for its timespan."""
    (tmp_path / "asdf").mkdir()
    spans = SPAN, "2019_01_02_00_00_00T2019_01_03_00_00_00"
    for span, hours in zip(spans, ([2], [29]), strict=True):
        with h5py.File(tmp_path / "asdf" / f"{span}.h5", "w") as file:
            file["AuxiliaryData/CI.AAA_CI.BBB/bhz_00_bhz_00"] = pulses(5.0, 1)[None]
            file["AuxiliaryData/CI.AAA_CI.BBB/bhz_00_bhz_00"].attrs.update(about_noisepy(hours))
    import_campaign("noisepy", tmp_path / "asdf", tmp_path / "x")
    with results.open(tmp_path / "x") as found:
        assert [str(start)[:16] for start, _ in found.pieces] == ["2019-01-01T00:00", "2019-01-02T00:00"]


@pytest.mark.parametrize("late", [0, 1, 5, 23])
def test_any_piece_may_begin_a_little_late(tmp_path, late):
    for k in range(24):
        minute, second = divmod(k * 30 * 60 + 10 * (k == late), 60)
        clock = f"{minute // 60:02d}{minute % 60:02d}{second:02d}"
        sac(tmp_path / "sac" / f"XX.A_XX.B_ZZ_20240301T{clock}.sac")
    import_campaign("sac", tmp_path / "sac", tmp_path / "x")
    with results.open(tmp_path / "x") as found:
        assert found.settings.stack.substack_s == 1800
        assert np.flatnonzero(found.get("XX.A", "XX.B", stack=None).n_windows).tolist() == list(range(24))


def test_files_that_change_while_they_are_imported_are_refused(yam, tmp_path, monkeypatch):
    real = H5.read

    def changing(self, key, which):
        self.path.touch()
        return real(self, key, which)

    monkeypatch.setattr(H5, "read", changing)
    with pytest.raises(CampaignError, match="has changed meanwhile, so that it is of both"):
        import_campaign("h5", yam, tmp_path / "x", choice="c1")


def _break(path, name, value):
    with h5py.File(path, "a") as file:
        one = next(one for one in _datasets(file) if "bh1" not in one.name)
        one.attrs[name] = value


def _datasets(group):
    for item in group.values():
        yield from _datasets(item) if hasattr(item, "values") else [item]


@pytest.mark.parametrize(("name", "value"), [("dt", 0.0), ("latS", "abc"), ("ngood", np.nan)])
def test_damaged_headers_of_noisepy_are_named(noisepy, tmp_path, name, value):
    _break(sorted(noisepy.iterdir())[0], name, value)
    with pytest.raises(XcorrError, match=str(noisepy) if name != "ngood" else "numbers of windows"):
        import_campaign("noisepy", noisepy, tmp_path / "x")


@pytest.mark.parametrize(
    ("name", "value"), [("starttime", "soon"), ("delta", 0.0), ("station1", "Ü"), ("station1", "")]
)
def test_damaged_headers_of_yam_are_named(yam, tmp_path, name, value):
    _break(yam, name, value)
    with pytest.raises(ForeignError, match=str(yam)):
        import_campaign("h5", yam, tmp_path / "x", choice="c1")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("header", [{"user0": float("nan")}, {"user0": 1e30}])
def test_damaged_headers_of_sac_are_named(tmp_path, header):
    sac(tmp_path / "sac" / "XX.A_XX.B_ZZ_20240230.sac", **header)
    with pytest.raises(ForeignError, match="XX.A_XX.B_ZZ_20240230.sac.*numbers of windows"):
        import_campaign("sac", tmp_path / "sac", tmp_path / "x")


def test_other_files_of_obspyh5_are_refused(yam, tmp_path):
    with h5py.File(yam, "a") as file:
        file.attrs["index"] = "waveforms/{network}.{station}/{location}.{channel}"
    with pytest.raises(ForeignError, match="of other programs, the sign of the lag is not known"):
        import_campaign("h5", yam, tmp_path / "x", choice="c1")
    (yam.parent / "folder").mkdir()
    with pytest.raises(ForeignError, match="is a folder; name a file"):
        import_campaign("h5", yam.parent / "folder", tmp_path / "x")
