"""xcorr as a library: the main job as one call, presets and demo, parameters that check their values."""

import subprocess
import sys
import tomllib
from importlib.metadata import version

import numpy as np
import pytest
from archives import SETTINGS, settings, station_list, write
from conftest import ROOT

import xcorr
from xcorr.campaign.main_job import NothingUsed, SomeFailed
from xcorr.pes.correlating.correlate import CorrelateStrips
from xcorr.pes.parameters import ParameterError
from xcorr.pes.preparing.condition import Conditioning
from xcorr.pes.preparing.estimator import Estimator
from xcorr.pes.preparing.normalize import Normalization
from xcorr.pes.preparing.prepare import ConditionStation
from xcorr.pes.preparing.whiten import Whitening
from xcorr.pes.preparing.windows import Windowing
from xcorr.pes.reading.read import ReadStation
from xcorr.pes.stacking.methods import Stacking
from xcorr.results import figures
from xcorr.results.compare import differences
from xcorr.settings import SettingsError
from xcorr.settings.toml import load


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("python")
    for code in ("AAA", "BBB"):
        write(folder / "sds", code)
    return folder


def given(**sections):
    plain = {name: dict(keys) for name, keys in SETTINGS.items()}
    for name, keys in sections.items():
        plain.setdefault(name, {}).update(keys)
    return plain


class TestRun:
    def test_it_does_what_the_command_does(self, root, tmp_path, invoke):
        stations = station_list(tmp_path, "AAA", "BBB")
        with xcorr.run(stations, source=f"sds:{root / 'sds'}", **given()) as found:
            assert found.path == tmp_path / "stations.xcorr" / "xcorr.h5"
            assert found.report["windows"]["used"] == 24
            assert found.get("XX.AAA", "XX.BBB").attrs["n_windows"] == 12
        options = [
            f"--set={s}.{k}={v!r}" for s, keys in SETTINGS.items() for k, v in keys.items() if k not in ("start", "end")
        ]
        times = [f"--{k}={SETTINGS['data'][k]}" for k in ("start", "end")]
        source = ("--source", f"sds:{root / 'sds'}")
        done = invoke("run", stations, *source, *options, *times, "-o", tmp_path / "b.xcorr")
        assert done.exit_code == 0, done.output
        assert list(differences(found.path, tmp_path / "b.xcorr")) == []

    def test_stations_as_lines(self, root, tmp_path):
        with xcorr.run(["XX.AAA", "XX BBB"], tmp_path / "x.xcorr", source=f"sds:{root / 'sds'}", **given()) as found:
            assert found.stations["id"].tolist() == ["XX.AAA", "XX.BBB"]
        with pytest.raises(SettingsError, match="output is needed"):
            xcorr.run(["XX AAA"], source="sds:x")

    @pytest.mark.parametrize("how", ["beside", "file", "object", "object and more"])
    def test_where_settings_come_from(self, root, tmp_path, how):
        stations, out = station_list(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr"
        text = f'[data]\nsource = "sds:{root / "sds"}"\nchannels = ["BH?"]\n[correlate]\nmax_lag_s = 40.0\n'
        more = {"condition": {"band_hz": (0.1, 1.0)}}
        if how.startswith("object"):
            whole = settings(root / "sds", correlate={"max_lag_s": 40.0})
            with xcorr.run(stations, out, whole, **(more if "more" in how else {})) as found:
                assert found.lags_s[-1] == 40.0
            return
        path = tmp_path / ("xcorr.toml" if how == "beside" else "other.toml")
        path.write_text(text)
        with xcorr.run(stations, out, None if how == "beside" else path, **more) as found:
            assert found.lags_s[-1] == 40.0
            assert found.settings.condition.band_hz == (0.1, 1.0)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"sorce": "sds:x"}, "unknown setting 'sorce' .did you mean 'source'"),
            ({"rate_hz": 1.0}, r"unknown setting 'rate_hz'; write condition={'rate_hz': ...}"),
            ({"condition": {"rate": 1.0}}, "unknown setting condition.rate"),
            ({"condition": 4.0}, "is a section, not a key"),
            ({"normalize": {"method": "onebit"}}, "did you mean 'one-bit'"),
        ],
    )
    def test_wrong_settings(self, tmp_path, wrong, message):
        with pytest.raises(SettingsError, match=message):
            xcorr.run(station_list(tmp_path, "AAA"), **{"source": "sds:x", **wrong})
        assert not (tmp_path / "stations.xcorr").exists()

    def test_failed_inputs_are_a_warning(self, root, tmp_path):
        write(tmp_path / "sds", "AAA")
        write(tmp_path / "sds", "BBB")
        write(tmp_path / "sds", "CCC").write_bytes(b"\x00garbage" * 1000)
        stations = station_list(tmp_path, "AAA", "BBB", "CCC")
        with pytest.warns(SomeFailed, match=r"some inputs failed: .*CCC.*\.report of the results names them") as caught:
            found = xcorr.run(stations, source=f"sds:{tmp_path / 'sds'}", **given())
        assert caught[0].filename == __file__, "it points at the caller"
        assert "CCC" in found.report["errors"][0]
        assert "failed" in repr(found)
        found.close()

    def test_nothing_that_can_be_used(self, tmp_path):
        for code in ("AAA", "BBB"):
            write(tmp_path / "sds", code, np.zeros(72_000, np.int32))
        with pytest.raises(NothingUsed, match="no pair has data; .*report.json says why\n.*nothing but zeros"):
            xcorr.run(station_list(tmp_path, "AAA", "BBB"), source=f"sds:{tmp_path / 'sds'}", **given())

    def test_a_second_call_computes_nothing(self, root, tmp_path):
        how = {"source": f"sds:{root / 'sds'}", **given()}
        stations = station_list(tmp_path, "AAA", "BBB")
        for kept in (0, 2):
            with xcorr.run(stations, **how) as found:
                assert found.report["shards_kept"] == kept

    @pytest.mark.parametrize("mapping", ["processes", "threads"])
    def test_a_script_without_a_guard(self, root, tmp_path, mapping):
        station_list(tmp_path, "AAA", "BBB")
        text = f"""
import xcorr
print("begun")
with xcorr.run("stations.txt", source="sds:{root / "sds"}", mapping="{mapping}", workers=2, **{given()!r}) as found:
    print(found.report["windows"]["used"], "windows")
"""
        (tmp_path / "script.py").write_text(text)
        done = subprocess.run(
            [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.stdout.splitlines() == ["begun", "24 windows"], done.stderr


class TestPublicFace:
    def test_version(self):
        assert xcorr.__version__ == version("xcorr")
        done = subprocess.run([sys.executable, "-m", "xcorr", "--version"], capture_output=True, text=True, check=True)
        assert version("xcorr") in done.stdout

    def test_what_there_is(self):
        for name in xcorr.__all__:
            assert getattr(xcorr, name) is not None
        with pytest.raises(AttributeError, match="no attribute 'rum'"):
            _ = xcorr.rum

    def test_figures_of_results(self, root, tmp_path):
        with xcorr.run(["XX AAA", "XX BBB"], tmp_path / "x.xcorr", source=f"sds:{root / 'sds'}", **given()) as found:
            figure = figures.record_section(found)
            figures.save(figure, tmp_path / "x.png")
        assert (tmp_path / "x.png").stat().st_size > 5000


class TestParameters:
    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Normalization("onebit"), r"Normalization: method = 'onebit'.*\(did you mean 'one-bit'\?\)"),
            (lambda: Normalization("clip", clip_n=-1), "clip_n = -1: must be a number of at least 0"),
            (lambda: Normalization(per="both"), "per = 'both': must be one of channel, station"),
            (lambda: Normalization(band_hz=(1.0, 0.1)), "band_hz = .*0 < f1 < f2"),
            (lambda: Whitening("phases"), r"did you mean 'phase'"),
            (lambda: Whitening(smooth_hz=float("nan")), "smooth_hz = nan"),
            (lambda: Windowing(0, 10), "length = 0: must be a number of at least 1"),
            (lambda: Windowing(10, 10, kurtosis="3"), "kurtosis = '3'"),
            (lambda: Conditioning(4.0, (0.05, 3.0), 4, 40.0), r"0 < f1 < f2 < 2 \(Hz\)"),
            (lambda: Conditioning(0.0, (0.05, 3.0), 4, 40.0), "rate_hz = 0.0: must be a number above 0"),
            (lambda: Conditioning(4.0, 1.0, 4, 40.0), "band_hz = 1.0"),
            (lambda: Estimator("coherence"), "did you mean 'coherency'"),
            (lambda: Estimator(amplitude="peaks"), "did you mean 'peak'"),
            (lambda: Stacking(-1.0), "rate_hz = -1.0"),
            (lambda: Stacking(1.0, nroot_order=0.5), "nroot_order = 0.5"),
            (lambda: ReadStation("sds:x", 1.0, 20.0, drift="ignore"), "drift = 'ignore'"),
            (lambda: ReadStation("sds:x", 1.0, 20.0, prefer="best"), "prefer = 'best'"),
            (
                lambda: ConditionStation(Conditioning(4.0, (0.05, 1.0), 4, 40.0), Windowing(10, 10), "vel"),
                "response = 'vel': must be one of none, displacement, velocity",
            ),
        ],
    )
    def test_values_that_cannot_be(self, make, message):
        with pytest.raises(ParameterError, match=message):
            make()

    def test_values_that_can_be(self):
        assert Normalization("mute", np.float64(3.0), clip_n=0).window_s == 3.0
        assert Stacking(1.0, selective_threshold=-0.5).selective_threshold == -0.5
        assert CorrelateStrips is not None


class TestPresetsAndDemo:
    @pytest.mark.parametrize("name", ["monitoring", "tomography", "verce"])
    def test_a_preset_is_written_as_it_is(self, tmp_path, invoke, name):
        done = invoke("init", tmp_path / "x", "--preset", name)
        assert done.exit_code == 0, done.output
        given = tomllib.loads((ROOT / "configs" / f"{name}.toml").read_text())
        written = load(tmp_path / "x" / "xcorr.toml")
        for section, keys in given.items():
            if isinstance(keys, list):
                assert [
                    {key: table[key] for key in mine} for table, mine in zip(written[section], keys, strict=True)
                ] == keys
                continue
            for key, value in keys.items():
                assert written[section].get(key, value) == value, f"{section}.{key}"
        first = (ROOT / "configs" / f"{name}.toml").read_text().splitlines()[0]
        assert (tmp_path / "x" / "xcorr.toml").read_text().startswith(first)
        assert invoke("init", tmp_path / "x", "--preset", name).exit_code == 1, "never overwritten"

    def test_an_unknown_preset(self, tmp_path, invoke):
        done = invoke("init", tmp_path / "x", "--preset", "tomografy")
        assert done.exit_code != 0
        assert "did you mean 'tomography'?); there are monitoring, tomography, verce" in done.output
        assert not (tmp_path / "x").exists()

    def test_the_demo(self, tmp_path, invoke, demo):
        done = invoke("demo", tmp_path / "x")
        assert done.exit_code == 0, done.output
        assert (tmp_path / "x" / "section.png").stat().st_size > 10_000
        assert list(differences(tmp_path / "x" / "stations.xcorr", demo)) == []
        again = invoke("demo", tmp_path / "x")
        assert again.exit_code == 0, again.output
        assert "4 of them kept" in again.output
        (tmp_path / "y").mkdir()
        (tmp_path / "y" / "mine").touch()
        refused = invoke("demo", tmp_path / "y")
        assert refused.exit_code == 1
        assert "is not empty" in refused.output
        assert [p.name for p in (tmp_path / "y").iterdir()] == ["mine"]
