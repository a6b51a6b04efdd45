"""The demo, end to end: what it finds, what it writes, what it says. Reads as the manual."""

import json
import sys

import h5py
import numpy as np
import pytest
from conftest import ROOT, accounts_of
from scipy.special import j0

from xcorr import results

sys.path.insert(0, str(ROOT / "data"))
import make_demo


def test_the_phase_velocity_of_the_medium_comes_out(demo):
    """The isotropic field's coherency is J0(2 pi f r / c) (Aki 1957): fit c(f) over all pairs."""
    found = results.open(demo)
    stacks, distance = found.gather().astype(float), found.pairs["distance_m"].to_numpy() / 1000
    keep = np.isfinite(stacks).all(axis=1)
    stacks, distance = stacks[keep], distance[keep]
    assert keep.sum() == 78
    window = np.exp(-0.5 * (found.lags_s / 20) ** 2)
    velocity = np.linspace(2, 4.5, 501)
    for frequency in (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6):
        spectrum = (stacks * window * np.cos(2 * np.pi * frequency * found.lags_s)).sum(axis=1)
        model = j0(2 * np.pi * frequency * distance[:, None] / velocity)
        fit = (spectrum[:, None] * model).sum(axis=0) / np.sqrt((model**2).sum(axis=0))
        truth = make_demo.phase_velocity_km_s(frequency)
        assert velocity[fit.argmax()] == pytest.approx(truth, rel=0.01)


def test_waves_go_both_ways_at_the_group_velocity(demo):
    found = results.open(demo)
    lag, distance = found.lags_s, found.pairs["distance_m"].to_numpy() / 1000
    stacks = found.gather()
    arrivals = []
    for side in (lag > 0, lag < 0):
        for c, r in zip(stacks, distance, strict=True):
            if np.isfinite(c).all() and 10 < r < 40:
                arrivals.append(r / np.abs(lag[side][np.abs(c[side]).argmax()]))
    assert np.median(arrivals) == pytest.approx(2.75, rel=0.1)  # U = c²/(c - f dc/df): 2.7 km/s at 0.3 Hz


def test_every_line_and_every_slot_is_accounted_for(demo):
    report = json.loads((demo / "report.json").read_text())
    assert [r["status"] for r in report["requested"]] == ["used"] * 14 + ["absent"]
    assert report["requested"][-1]["reason"].startswith("no such station in the source, which has XX.D00")
    assert (report["stations_asked"], report["stations_used"], report["pairs"]) == (15, 13, 91)
    accounts = accounts_of(demo)
    assert len(accounts) == 14 * 4
    dead = [a for a in accounts if a["slot"] == "XX.D13.Z"]
    assert {a["status"] for a in dead} == {"unusable"}
    gap = [a for a in accounts if a["slot"] == "XX.D05.Z"]
    assert [round(a["gap_s"]) for a in gap] == [0, 1500, 0, 0]
    assert [a["windows"]["used"] for a in gap] == [6, 3, 6, 6]
    assert {reason: count for reason, count in report["windows"].items() if count} == {"used": 309, "coverage": 3}
    assert report["errors"] == []


def test_the_file_is_as_documented(demo):
    with h5py.File(demo / "xcorr.h5") as file:
        assert file.attrs["format"] == "xcorr-results"
        assert {"software", "settings_hash", "settings", "lag_convention", "created"} <= set(file.attrs)
        rows, lags, pieces = 91, 481, 4
        assert file["lags_s"].shape == (lags,)
        assert file["lags_s"][240] == 0
        assert file["pairs"].shape == (rows,)
        assert file["stacks/linear/ZZ/mean"].shape == file["stacks/linear/ZZ/std_error"].shape == (rows, lags)
        assert file["stacks/linear/ZZ/mean"].dtype == np.float32
        assert file["stacks/linear/ZZ/mean"].fletcher32
        for name in ("n_windows", "snr", "symmetry"):
            assert file[f"stacks/linear/ZZ/{name}"].shape == (rows,)
        assert file["series/ZZ"].shape == (pieces, rows, lags)
        assert file["series/ZZ"].is_virtual
        assert file["series_n_windows/ZZ"].shape == (pieces, rows)
        dead = np.flatnonzero(file["pairs"]["station_2"][...] == 13)
        assert np.isnan(file["stacks/linear/ZZ/mean"][dead]).all()
        assert (file["stacks/linear/ZZ/n_windows"][dead] == 0).all()
        series, n = file["series/ZZ"][...], file["series_n_windows/ZZ"][...].astype(float)
        alive = file["stacks/linear/ZZ/n_windows"][...] > 0
        mean = np.nansum(series * n[:, :, None], axis=0)[alive] / n.sum(axis=0)[alive, None]
        np.testing.assert_allclose(mean, file["stacks/linear/ZZ/mean"][...][alive], rtol=1e-4, atol=1e-7)
    assert not list(demo.rglob("*.part"))
    assert len(list((demo / "shards").iterdir())) == 4


def test_results_open_as_labelled_arrays_and_traces(demo):
    with results.open(demo / "xcorr.h5") as found:
        stack = found.get("XX.D00", "XX.D01")
        assert stack.dims == ("lag_s",)
        assert stack.attrs["n_windows"] == 24
        assert stack.coords["std_error"].shape == stack.shape
        back = found.get("XX.D01", "XX.D00")
        np.testing.assert_array_equal(back.values, stack.values[::-1])
        assert back.attrs["azimuth_deg"] == stack.attrs["back_azimuth_deg"]
        series = found.get("XX.D00", "XX.D01", stack=None)
        assert series.dims == ("time", "lag_s")
        np.testing.assert_array_equal(series.coords["n_windows"], [6, 6, 6, 6])
        np.testing.assert_array_equal(series.values, h5py.File(demo / "xcorr.h5")["series/ZZ"][:, 0])
        trace = found.trace("XX.D00", "XX.D01")
        assert trace.stats.sampling_rate == 4
        assert trace.stats.starttime.timestamp == -60
        near = found.select(distance_km=(0, 15), azimuth_deg=(0, 180))
        assert 0 < len(near) < 91
        assert near["distance_m"].max() <= 15_000
        d = found.pairs.iloc[0]
        assert (d["station_1"], d["station_2"]) == ("XX.D00", "XX.D01")


def test_distance_and_azimuth_are_those_of_the_stations(demo):
    places = {code: (x, y) for code, x, y, _, _ in make_demo.stations()}
    for _, pair in results.open(demo).pairs.iterrows():
        (x1, y1), (x2, y2) = (places[pair[f"station_{k}"].partition(".")[2]] for k in (1, 2))
        assert pair["distance_m"] == pytest.approx(1000 * np.hypot(x2 - x1, y2 - y1), abs=5)
        azimuth = np.degrees(np.arctan2(x2 - x1, y2 - y1))
        assert (pair["azimuth_deg"] - azimuth + 180) % 360 - 180 == pytest.approx(0, abs=0.6)
        assert (pair["back_azimuth_deg"] - azimuth) % 360 == pytest.approx(180, abs=0.6)


def test_what_is_not_there_is_said(demo, tmp_path):
    with results.open(demo) as found:
        with pytest.raises(results.ResultsError, match=r"no station 'XX\.D1'.*did you mean"):
            found.get("XX.D00", "XX.D1")
        with pytest.raises(results.ResultsError, match="no components 'ZN'.*there are ZZ"):
            found.get("XX.D00", "XX.D01", "ZN")
        with pytest.raises(results.ResultsError, match="no stack 'liner' .did you mean 'linear'"):
            found.get("XX.D00", "XX.D01", stack="liner")
        with pytest.raises(results.ResultsError, match="autocorrelations were not asked for"):
            found.get("XX.D00", "XX.D00")
    with pytest.raises(results.ResultsError, match="no results at"):
        results.open(tmp_path)
    (tmp_path / "xcorr.h5").write_bytes(b"not HDF5")
    with pytest.raises(results.ResultsError, match="cannot be read as HDF5"):
        results.open(tmp_path)


def test_running_again_gives_the_same_bits(demo, tmp_path, invoke):
    configs = ROOT / "configs" / "demo"
    result = invoke("run", configs / "stations.txt", "-o", tmp_path / "again.xcorr")
    assert result.exit_code == 0
    with h5py.File(demo / "xcorr.h5") as one, h5py.File(tmp_path / "again.xcorr" / "xcorr.h5") as two:
        names: list[str] = []
        one.visit(names.append)
        for name in names:
            if isinstance(one[name], h5py.Dataset):
                assert one[name][...].tobytes() == two[name][...].tobytes(), name


def test_the_sample_data_can_be_made_again(tmp_path):
    make_demo.main(tmp_path)
    shipped = ROOT / "data" / "demo"
    files = sorted(p.relative_to(shipped) for p in shipped.rglob("*") if p.is_file())
    assert len(files) == 15
    assert sum((shipped / f).stat().st_size for f in files) < 5e6
    import obspy

    for name in files:
        if name.suffix != ".xml":
            mine, theirs = obspy.read(str(tmp_path / name)), obspy.read(str(shipped / name))
            for a, b in zip(mine, theirs, strict=True):
                assert np.abs(a.data - b.data).max() <= 1  # another machine's libm may round a count differently
