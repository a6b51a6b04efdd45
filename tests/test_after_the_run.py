"""After the run: R and T from stored Z, N and E, exports of a selection and of series, files that open in xarray."""

import itertools
import warnings

import numpy as np
import obspy
import pytest
from archives import START, settings, waveform, write

import xcorr.results
from xcorr.campaign.run import run_campaign
from xcorr.campaign.stack import restack
from xcorr.results import ResultsError, figures
from xcorr.results.compare import differences
from xcorr.settings import SettingsError

LIST = "network,station,latitude,longitude\nXX,AAA,46.0,8.0\nXX,BBB,46.3,8.2\nXX,CCC,45.9,8.6\n"
PAIRS = list(itertools.combinations(("XX.AAA", "XX.BBB", "XX.CCC"), 2))
EVERY = ["all"]
TURNED = ["RR", "RT", "TR", "TT", "ZR", "RZ"]
METHODS = ["linear", "pws", "robust"]
SAME = {"normalize": {"per": "station"}, "whiten": {"per": "station"}}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = tmp_path_factory.mktemp("after")
    for code in ("AAA", "BBB", "CCC"):
        for k, letter in enumerate("ZNE"):
            write(root / "sds", code, waveform(sum(map(ord, code)) + 50 * k), channel=f"BH{letter}")
    (root / "list.csv").write_text(LIST)
    return root


def campaign(archive, folder, components=EVERY, **sections):
    stack = {"methods": METHODS, "substack_s": 1200, **sections.pop("stack", {})}
    how = settings(
        archive / "sds",
        **{**SAME, **sections},
        stack=stack,
        correlate={"components": components},
    )
    return run_campaign(archive / "list.csv", folder, how)


@pytest.fixture(scope="module")
def stored(archive, tmp_path_factory):
    return campaign(archive, tmp_path_factory.mktemp("stored") / "x.xcorr").folder


@pytest.fixture(scope="module")
def beforehand(archive, tmp_path_factory):
    nine = [a + b for a in "ZNE" for b in "ZNE"]
    return campaign(archive, tmp_path_factory.mktemp("before") / "x.xcorr", [*nine, *TURNED]).folder


def close(got, expected):
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


class TestRotation:
    @pytest.mark.parametrize("stack", [*METHODS, None])
    @pytest.mark.parametrize("components", TURNED)
    def test_get(self, stored, beforehand, stack, components):
        with xcorr.results.open(stored) as a, xcorr.results.open(beforehand) as b:
            assert components not in a.components
            assert components in b.components
            for first, second in PAIRS + [pair[::-1] for pair in PAIRS]:
                got, expected = (r.get(first, second, components, stack) for r in (a, b))
                close(got.values, expected.values)
                if stack is None:
                    assert got["n_windows"].values.tolist() == expected["n_windows"].values.tolist()
                    continue
                close(got["std_error"].values, expected["std_error"].values)
                for name in ("n_windows", "distance_m", "azimuth_deg", "units"):
                    assert got.attrs[name] == expected.attrs[name], name
                for name in ("snr", "symmetry"):
                    assert got.attrs[name] == pytest.approx(expected.attrs[name], rel=1e-3), name

    @pytest.mark.parametrize("stack", METHODS)
    def test_gather_in_any_order(self, stored, beforehand, stack):
        with xcorr.results.open(stored) as a, xcorr.results.open(beforehand) as b:
            close(a.gather("RT", stack), b.gather("RT", stack))
            close(a.gather("RT", stack, rows=[2, 0, 2]), b.gather("RT", stack)[[2, 0, 2]])
            assert np.array_equal(a.gather("ZN", stack, rows=[2, 1]), a.gather("ZN", stack)[[2, 1]])

    def test_numbers(self, stored, beforehand):
        with xcorr.results.open(stored) as a, xcorr.results.open(beforehand) as b:
            for name in ("snr", "symmetry", "n_windows"):
                np.testing.assert_allclose(a.numbers(name, "RT"), b.numbers(name, "RT"), rtol=1e-3)
            assert len(figures.matrix(a, "TT").axes) == 2

    def test_gather_reads_series_in_parts(self, stored, beforehand, monkeypatch):
        from xcorr.results import series

        monkeypatch.setattr(series, "BLOCK_BYTES", 1)
        with xcorr.results.open(stored) as a, xcorr.results.open(beforehand) as b:
            close(a.gather("TT", "pws"), b.gather("TT", "pws"))

    def test_trace(self, stored, beforehand):
        with xcorr.results.open(stored) as a, xcorr.results.open(beforehand) as b:
            got, expected = (r.trace("XX.BBB", "XX.AAA", "RT") for r in (a, b))
            close(got.data, expected.data)
            assert got.stats.channel == "RT"

    def test_figures(self, stored, beforehand):
        def lines(folder):
            with xcorr.results.open(folder) as found:
                section = figures.record_section(found, "TT", stack="pws")
                one = figures.pair(found, *PAIRS[0], "TT", stack="robust")
                return [line.get_ydata() for f in (section, one) for axes in f.axes for line in axes.get_lines()]

        for got, expected in zip(lines(stored), lines(beforehand), strict=True):
            close(got, expected)

    @pytest.mark.parametrize("kind", ["netcdf", "csv"])
    def test_export(self, stored, beforehand, tmp_path, invoke, kind):
        for name, folder in (("a", stored), ("b", beforehand)):
            done = invoke("export", folder, "--format", kind, "--components", "RR,RT", "-o", tmp_path / name)
            assert "wrote 6 correlations" in done.output, done.output
        if kind == "netcdf":
            import xarray

            a, b = (xarray.open_dataset(tmp_path / name) for name in "ab")
            close(a["correlation"].values, b["correlation"].values)
            assert a["components"].values.tolist() == ["RR", "RT"] * 3
            return
        a, b = (np.genfromtxt(tmp_path / n, delimiter=",", skip_header=1)[:, 9:].astype(float) for n in "ab")
        close(a, b)

    def test_stack(self, archive, beforehand, tmp_path, invoke):
        folder = campaign(archive, tmp_path / "x.xcorr").folder
        done = invoke("stack", folder, "--components", ",".join(TURNED))
        assert done.exit_code == 0, done.output
        with xcorr.results.open(folder) as a, xcorr.results.open(beforehand) as b:
            assert a.components == b.components
        assert [d for d in differences(folder, beforehand) if not d.startswith(("created", "shards"))] == []

    def test_stacks_made_afterwards_stay_and_grow(self, archive, tmp_path, monkeypatch):
        from xcorr.pes.stacking import sums

        monkeypatch.setattr(sums, "ENOUGH_PIECES", 1)
        folder = tmp_path / "x.xcorr"
        short = {"data": {"end": "2024-03-01T01:00:00"}}
        campaign(archive, folder, **short)
        restack(folder, ['stack.components=["RR"]', f"stack.methods={METHODS}"])
        campaign(archive, folder)
        campaign(archive, tmp_path / "b.xcorr", stack={"components": ["RR"]})
        with xcorr.results.open(folder) as a, xcorr.results.open(tmp_path / "b.xcorr") as b:
            assert "RR" in a.components
            assert len(a.pieces) == 6
            np.testing.assert_array_equal(a.gather("RR"), b.gather("RR"))
        (folder / "xcorr.h5").write_bytes(b"rotten")
        campaign(archive, folder)
        with xcorr.results.open(folder) as a, xcorr.results.open(tmp_path / "b.xcorr") as b:
            np.testing.assert_array_equal(a.gather("RR"), b.gather("RR"))

    def test_a_setting_adds_them_to_a_campaign_that_is_there(self, archive, tmp_path):
        folder = campaign(archive, tmp_path / "x.xcorr").folder
        again = campaign(archive, folder, stack={"components": ["TT"]})
        assert again.report["shards_kept"] == 2
        with xcorr.results.open(folder) as found:
            assert "TT" in found.components
            assert found.stacks == sorted(METHODS)

    def test_refused_where_weights_differ(self, archive, tmp_path, invoke):
        folder = campaign(archive, tmp_path / "x.xcorr", normalize={}, whiten={}).folder
        reason = 'normalize.per = "channel" gives N and E of a station different weights'
        with xcorr.results.open(folder) as found:
            for call in (
                lambda **how: found.get(*PAIRS[0], "RR", **how),
                lambda **how: found.get(*PAIRS[0], "RR", None, **how),
                lambda **how: found.gather("RR", **how),
                lambda **how: found.trace(*PAIRS[0], "RR", **how),
                lambda **how: figures.record_section(found, "RR", **how),
            ):
                with pytest.raises(ResultsError, match=reason):
                    call()
                assert call(insist=True) is not None
            assert found.get(*PAIRS[0], "NN") is not None, "nothing is turned"
        for command in (("plot", "-o", tmp_path / "x.png"), ("export", "--format", "csv", "-o", tmp_path / "x.csv")):
            line = [command[0], folder, "--components", "RR", *command[1:]]
            refused = invoke(*line)
            assert refused.exit_code == 1
            assert reason in refused.output
            assert invoke(*line, "--insist").exit_code == 0
        with pytest.raises(SettingsError, match=reason):
            restack(folder, ['stack.components=["RR"]'])
        restack(folder, ['stack.components=["RR"]'], insist=True)
        with xcorr.results.open(folder) as found:
            assert found.get(*PAIRS[0], "RR").attrs["n_windows"] > 0, "they are stored now"
        restack(folder, ['stack.methods=["linear"]'])  # what one has insisted on is not asked again
        with xcorr.results.open(folder) as found:
            assert "RR" in found.components

    @pytest.mark.parametrize(
        ("how", "reason"),
        [
            ({"amplitude": "peak"}, 'correlate.amplitude = "peak" scales'),
            ({"method": "coherency"}, 'correlate.method = "coherency" scales'),
        ],
    )
    def test_refused_where_components_are_scaled(self, how, reason):
        from xcorr.settings.toml import build

        (text,) = build(
            {"correlate": how, "normalize": {"method": "none"}, "whiten": {"method": "none"}}
        ).rotation_doubts
        assert reason in text

    def test_without_series_linear_stacks_are_turned(self, archive, beforehand, tmp_path):
        folder = campaign(archive, tmp_path / "x.xcorr", stack={"keep_series": False}).folder
        with xcorr.results.open(folder) as a, xcorr.results.open(beforehand) as b:
            got, expected = (r.get(*PAIRS[1], "RT") for r in (a, b))
            close(got.values, expected.values)
            assert got.attrs["n_windows"] == expected.attrs["n_windows"]
            assert np.isnan(got["std_error"].values).all(), "not known"
            with pytest.raises(ResultsError, match="stack 'pws' of RT cannot be made: the series were not kept"):
                a.get(*PAIRS[1], "RT", "pws")
            with pytest.raises(ResultsError, match="series were not kept"):
                a.get(*PAIRS[1], "RT", None)

    def test_without_series_different_windows_are_refused(self, archive, tmp_path):
        for path in (archive / "sds").rglob("*.D.2024.061"):
            target = tmp_path / "sds" / path.relative_to(archive / "sds")
            target.parent.mkdir(parents=True, exist_ok=True)
            stream = obspy.read(str(path))
            if "AAA..BHN" in path.name:
                stream.trim(endtime=START + 3600)
            stream.write(str(target), format="MSEED")
        how = settings(tmp_path / "sds", **SAME, correlate={"components": EVERY}, stack={"keep_series": False})
        run_campaign(archive / "list.csv", tmp_path / "x.xcorr", how)
        with xcorr.results.open(tmp_path / "x.xcorr") as found:
            with pytest.raises(ResultsError, match="1 pair.s. cannot be made: their components have different windows"):
                found.get(*PAIRS[0], "TT")
            assert found.get(*PAIRS[2], "TT").attrs["n_windows"] > 0

    @pytest.mark.parametrize("components", ["RX", "R", "ZZZ", "", "HH"])
    def test_components_that_cannot_be(self, stored, components):
        with xcorr.results.open(stored) as found, pytest.raises(ResultsError, match="no components .*there are EE"):
            found.get(*PAIRS[0], components)

    def test_unknown_azimuths_have_no_rotation(self, archive, tmp_path):
        (archive / "bare.txt").write_text("XX AAA\nXX BBB\n")
        how = settings(archive / "sds", **SAME, correlate={"components": EVERY})
        run_campaign(archive / "bare.txt", tmp_path / "x.xcorr", how)
        with xcorr.results.open(tmp_path / "x.xcorr") as found:
            got = found.get(*PAIRS[0], "RR")
            assert np.isnan(got.values).all()
            assert got.attrs["n_windows"] == 0


class TestSelections:
    def test_pairs_by_name_distance_and_azimuth(self, stored):
        with xcorr.results.open(stored) as found:
            table = found.pairs
            assert found.select(pairs=["XX.BBB-XX.A*"]).index.tolist() == [0]
            assert found.select(pairs=["XX.C*-XX.*"]).index.tolist() == [1, 2]
            far = table.index[table["distance_m"] > 45_000].tolist()
            assert found.select(distance_km=(45, 1000)).index.tolist() == far
            assert found.select(distance_km=(45, 1000), pairs=["XX.A*-XX.*"]).index.tolist() == [
                r for r in far if r < 2
            ]
            with pytest.raises(ResultsError, match="'XX.AAA' names no pair"):
                found.select(pairs=["XX.AAA"])

    def test_export_of_a_selection(self, stored, tmp_path, invoke):
        target = tmp_path / "x"
        done = invoke(
            "export", stored, "--format", "sac", "-o", target, "--pairs", "XX.A*-XX.*", "--components", "ZZ,NN"
        )
        assert done.exit_code == 0, done.output
        files = sorted(p.name for p in target.rglob("*.sac"))
        assert files == [f"XX.AAA_XX.{b}_{c}.sac" for b in ("BBB", "CCC") for c in ("NN", "ZZ")]

    def test_export_of_one_pair(self, stored, tmp_path, invoke):
        done = invoke("export", stored, "--format", "sac", "-o", tmp_path / "x", "--pair", "XX.CCC", "XX.AAA")
        assert "wrote 9 correlations" in done.output
        refused = invoke("export", stored, "--format", "sac", "-o", tmp_path / "y", "--pair", "XX.AAA", "XX.BBC")
        assert refused.exit_code == 1
        assert "no station 'XX.BBC'" in refused.output
        assert "did you mean 'XX.BBB'" in refused.output
        assert not (tmp_path / "y").exists()

    def test_a_selection_without_pairs(self, stored, tmp_path, invoke):
        refused = invoke("export", stored, "--format", "csv", "-o", tmp_path / "y", "--distance", 1, 2)
        assert refused.exit_code == 1
        assert "among those selected" in refused.output

    def test_names_that_would_be_the_same_are_not_lost(self, tmp_path, invoke):
        for code, location in (("AA", "00"), ("AA_00", ""), ("B-C", "")):
            path = write(tmp_path / "sds", code, waveform(len(code)))
            (trace,) = obspy.read(str(path))
            trace.stats.location = location
            trace.write(str(path.with_name(f"XX.{code}.{location}.BHZ.D.2024.061")), format="MSEED")
            if location:
                path.unlink()
        (tmp_path / "list.txt").write_text("XX AA\nXX AA_00\nXX B-C\n")
        run_campaign(
            tmp_path / "list.txt", tmp_path / "x.xcorr", settings(tmp_path / "sds", data={"sensors": "location"})
        )
        for kind in ("sac", "mseed"):
            assert invoke("export", tmp_path / "x.xcorr", "--format", kind, "-o", tmp_path / kind).exit_code == 0
            assert len(list((tmp_path / kind).rglob(f"*.{kind}"))) == 3
        refused = invoke("export", tmp_path / "x.xcorr", "--format", "asdf", "-o", tmp_path / "x.h5")
        assert refused.exit_code == 1
        assert "two pairs would have the name 'XX_AA_00/XX_B_C/ZZ'" in refused.output
        with xcorr.results.open(tmp_path / "x.xcorr") as found:
            assert len(found.select(pairs=["XX.B-C-XX.AA:00"])) == 1


class TestSeriesReadBack:
    def export(self, invoke, folder, tmp_path, kind):
        target = tmp_path / f"x.{kind}"
        done = invoke(
            "export", folder, "--format", kind, "-o", target, "--series", "--pair", *PAIRS[1], "--components", "ZZ"
        )
        assert done.exit_code == 0, done.output
        with xcorr.results.open(folder) as found:
            return target, found.get(*PAIRS[1], "ZZ", None)

    @pytest.mark.parametrize("kind", ["sac", "mseed"])
    def test_obspy(self, stored, tmp_path, invoke, kind):
        target, series = self.export(invoke, stored, tmp_path, kind)
        files = sorted(target.rglob(f"*.{kind}"))
        assert [p.stem.rpartition("_")[2] for p in files] == [
            (START + 1200 * k).strftime("%Y%m%dT%H%M%S") for k in range(6)
        ]
        for path, piece in zip(files, series, strict=True):
            (trace,) = obspy.read(str(path))
            np.testing.assert_array_equal(trace.data, piece.values)
            lag = trace.stats.sac["b"] if kind == "sac" else float(trace.stats.starttime)
            assert lag == series["lag_s"].values[0]
            if kind == "sac":
                assert trace.stats.sac["user0"] == piece["n_windows"]

    @pytest.mark.parametrize("kind", ["netcdf", "zarr"])
    def test_xarray(self, stored, tmp_path, invoke, kind):
        import xarray

        target, series = self.export(invoke, stored, tmp_path, kind)
        found = xarray.open_dataset(target, engine="h5netcdf" if kind == "netcdf" else "zarr")
        assert found["correlation"].dims == ("pair", "time", "lag_s")
        np.testing.assert_array_equal(found["correlation"].values[0], series.values)
        np.testing.assert_array_equal(found["time"].values, series["time"].values)
        np.testing.assert_array_equal(found["windows"].values[0], series["n_windows"].values)
        assert found.attrs["Conventions"] == "CF-1.11"
        assert "[condition]" in found.attrs["settings"]
        assert found.attrs["software"].startswith("xcorr ")
        assert found["lag_s"].attrs["units"] == "s"
        assert found["distance_m"].attrs["units"] == "m"
        assert found["correlation"].attrs["units"] == "1"

    def test_asdf(self, stored, tmp_path, invoke):
        import pyasdf

        target, series = self.export(invoke, stored, tmp_path, "asdf")
        with pyasdf.ASDFDataSet(str(target), mode="r", mpi=False) as file:
            data = file.auxiliary_data.CrossCorrelation.XX_AAA.XX_CCC.ZZ
            np.testing.assert_array_equal(data.data[...], series.values)
            assert data.parameters["starts_ns"].split() == [str(t) for t in series["time"].values.astype("i8")]

    def test_csv(self, stored, tmp_path, invoke):
        import pandas

        target, series = self.export(invoke, stored, tmp_path, "csv")
        table = pandas.read_csv(target)
        assert table["time"].tolist() == [str(t)[:19] for t in series["time"].values]
        np.testing.assert_array_equal(table.iloc[:, 9:].to_numpy(np.float32), series.values)

    def test_series_and_stack_exclude_each_other(self, stored, tmp_path, invoke):
        refused = invoke("export", stored, "--format", "csv", "-o", tmp_path / "x", "--series", "--stack", "pws")
        assert refused.exit_code == 2


class TestXarray:
    def check(self, path, pieces=6):
        import xarray

        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a dimension without a name is a warning
            with xarray.open_dataset(path, engine="h5netcdf") as root:
                assert set(root.dims) == {"pair", "time", "lags_s", "station", "slot", "shard"}
                assert root["pair"].values.tolist() == ["-".join(pair) for pair in PAIRS]
                assert root["time"].values[0] == np.datetime64("2024-03-01")
                assert len(root["time"]) == pieces
                assert root["lags_s"].attrs["units"] == "s"
                assert root["distance_m"].dims == ("pair",)
            with xarray.open_datatree(path, engine="h5netcdf") as tree, xcorr.results.open(path) as found:
                mean = tree["stacks/linear/ZZ"].to_dataset()["mean"]
                assert mean.dims == ("pair", "lags_s")
                got = mean.sel(pair="XX.AAA-XX.CCC")
                np.testing.assert_array_equal(got.values, found.get(*PAIRS[1]).values)
                np.testing.assert_array_equal(got["lags_s"].values, found.lags_s)
                series = tree["series"].to_dataset()["ZZ"]
                assert series.dims == ("time", "pair", "lags_s")
                of_pair = found.get(*PAIRS[1], "ZZ", None)
                np.testing.assert_array_equal(series.sel(pair="XX.AAA-XX.CCC").values, of_pair.values)
                assert tree["stacks/pws/ZZ"].to_dataset()["n_windows"].dims == ("pair",)

    def test_results(self, stored):
        self.check(stored / "xcorr.h5")

    def test_packed_results(self, archive, tmp_path, invoke):
        folder = campaign(archive, tmp_path / "x.xcorr").folder
        assert invoke("pack", folder).exit_code == 0
        self.check(folder / "xcorr.h5")
        assert invoke("verify", folder).exit_code == 0
        with xcorr.results.open(folder) as found:
            assert found.get(*PAIRS[0], "RT", "pws").attrs["n_windows"] > 0, "made of packed series"

    def test_one_piece_and_no_series(self, archive, tmp_path):
        import xarray

        short = {"data": {"end": "2024-03-01T01:00:00"}, "stack": {"substack_s": None, "keep_series": False}}
        folder = campaign(archive, tmp_path / "x.xcorr", **short).folder
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with xarray.open_datatree(folder / "xcorr.h5", engine="h5netcdf") as tree:
                assert tree["stacks/linear/ZZ"].to_dataset()["mean"].dims == ("pair", "lags_s")

    def test_netcdf_of_stacks(self, stored, tmp_path, invoke):
        import xarray

        assert invoke("export", stored, "--format", "netcdf", "-o", tmp_path / "x.nc").exit_code == 0
        found = xarray.open_dataset(tmp_path / "x.nc")
        assert found["correlation"].dims == ("pair", "lag_s")
        assert {"settings", "software", "created", "Conventions", "lag_convention"} <= set(found.attrs)


class TestTrace:
    def test_a_sac_file_has_the_lag_right(self, stored, tmp_path):
        with xcorr.results.open(stored) as found:
            trace, expected = found.trace(*PAIRS[1]), found.get(*PAIRS[1])
            trace.write(str(tmp_path / "x.sac"), format="SAC")
            (read,) = obspy.read(str(tmp_path / "x.sac"))
            sac = read.stats.sac
            assert sac["b"] == found.lags_s[0]
            assert sac["e"] == pytest.approx(found.lags_s[-1])
            assert sac["o"] == 0
            peak = int(np.abs(read.data).argmax())
            lag = float(expected["lag_s"][np.abs(expected.values).argmax()])
            assert sac["b"] + peak * sac["delta"] == pytest.approx(lag)
            assert sac["dist"] == pytest.approx(expected.attrs["distance_m"] / 1000)
            assert (sac["evla"], sac["stla"]) == pytest.approx((46.0, 45.9))
            assert sac["kevnm"].strip() == "XX.AAA"
            assert trace.stats.xcorr["n_windows"] == expected.attrs["n_windows"]

    def test_what_the_results_are(self, stored):
        with xcorr.results.open(stored) as found:
            text, page = repr(found), found._repr_html_()
            for word in ("3", "EE, EN", "linear, pws, robust", "2024-03-01T00:00:00", "-30 to 30 s"):
                assert word in text
                assert word in page
        assert repr(found) == f"<xcorr.Results '{stored / 'xcorr.h5'}', closed>"
