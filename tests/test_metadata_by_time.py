"""Directions, responses and coordinates are those of the time of the data, and what changed between runs is told."""

import json
import shutil

import numpy as np
import pytest
from archives import START, settings, station_list, trace, write
from conftest import accounts_of
from obspy import UTCDateTime
from obspy.core.inventory import Channel, Inventory, Network, Response, Site, Station
from obspy.io.sac import SACTrace

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.settings import SettingsError
from xcorr.store.folder import CampaignError

SECONDS, RATE = 7200, 10.0
HALF = START + SECONDS / 2
NE = {"components": ["NN", "EE", "NE", "EN"], "max_lag_s": 30.0, "block": 8}


def noise(seed):
    return np.random.default_rng(seed).standard_normal(int(SECONDS * RATE) + 100)


def fields(code):
    """North and east of a station: BBB hears 3 s later what AAA hears, and a little noise of its own."""
    late = {"AAA": 0, "BBB": 30}[code]
    own = np.random.default_rng(sum(map(ord, code))).standard_normal((2, int(SECONDS * RATE)))
    n, e = (noise(seed)[100 - late : 100 - late + int(SECONDS * RATE)] for seed in (11, 12))
    return 300 * (n + 0.3 * own[0]), 300 * (e + 0.3 * own[1])


def turned(n, e, azimuth):
    """What channels at an azimuth and 90 degrees clockwise of it record."""
    a = np.deg2rad(azimuth)
    return n * np.cos(a) + e * np.sin(a), -n * np.sin(a) + e * np.cos(a)


def channel(code, azimuth, dip=0.0, start=None, end=None, gain=1.0, rate=RATE):
    response = Response.from_paz([0j], [-1 + 1j, -1 - 1j], gain, input_units="M/S", output_units="COUNTS")
    where = {"latitude": 40.0, "longitude": -100.0, "elevation": 0.0, "depth": 0.0, "location_code": ""}
    times = {"start_date": start, "end_date": end}
    return Channel(code, azimuth=azimuth, dip=dip, sample_rate=rate, response=response, **where, **times)


def station(code, channels=(), latitude=40.0, start=None, end=None):
    return Station(code, latitude, -100.0, 0.0, channels=list(channels), site=Site("x"), start_date=start, end_date=end)


def stationxml(folder, *stations):
    path = folder / "about.xml"
    Inventory(networks=[Network("XX", stations=list(stations))], source="x").write(str(path), format="STATIONXML")
    return str(path)


def straight(code):
    return station(code, [channel("BHN", 0.0), channel("BHE", 90.0)], 40.1)


def write_both(root, code, one, two, names=("BHN", "BHE")):
    for data, name in zip((one, two), names, strict=True):
        write(root, code, np.round(data).astype(np.int32), channel=name)


def correlated(tmp_path, name="x", source=None, refresh=False, refresh_metadata=False, **sections):
    sections = {"correlate": NE, **sections}
    sections["data"] = {"source": source or f"sds:{tmp_path / 'sds'}", **sections.get("data", {})}
    how = settings("unused", **sections)
    return run_campaign(
        station_list(tmp_path, "AAA", "BBB"),
        tmp_path / f"{name}.xcorr",
        how,
        refresh=refresh,
        refresh_metadata=refresh_metadata,
    )


def amplitudes(finished):
    with results.open(finished.folder) as found:
        return {
            pair: float(np.abs(found.get("XX.AAA", "XX.BBB", pair).to_numpy()).max())
            for pair in ("NN", "EE", "NE", "EN")
        }


def is_right(found):
    straight = min(found["NN"], found["EE"])
    return straight > 5 * max(found["NE"], found["EN"])


@pytest.fixture
def as_it_is(tmp_path):
    """An archive whose channels point north and east."""
    for code in ("AAA", "BBB"):
        write_both(tmp_path / "sds", code, *fields(code))
    return tmp_path


# -- directions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("BHN", "BHE"), ("BH1", "BH2")])
@pytest.mark.parametrize("azimuths", [(0.0, 40.0), (40.0, 0.0), (130.0, 220.0)])
def test_a_sensor_that_was_turned_within_a_chunk(tmp_path, names, azimuths):
    half = int(SECONDS * RATE) // 2
    n, e = fields("AAA")
    parts = [turned(n[:half], e[:half], azimuths[0]), turned(n[half:], e[half:], azimuths[1])]
    write_both(tmp_path / "sds", "AAA", *(np.concatenate(p) for p in zip(*parts, strict=True)), names)
    write_both(tmp_path / "sds", "BBB", *fields("BBB"))
    epochs = [
        channel(c, a + more, start=s, end=x)
        for a, s, x in ((azimuths[0], START - 1000, HALF), (azimuths[1], HALF, None))
        for c, more in zip(names, (0.0, 90.0), strict=True)
    ]
    xml = stationxml(tmp_path, station("AAA", epochs), straight("BBB"))
    wrong = amplitudes(correlated(tmp_path, "wrong")) if names[0] == "BHN" else {"NN": 0, "EE": 0, "NE": 1, "EN": 1}
    finished = correlated(tmp_path, data={"metadata": xml, "chunk_s": 7200})
    assert finished.exit_code == 0
    assert is_right(amplitudes(finished))
    assert wrong["NN"] < 0.9 * amplitudes(finished)["NN"]
    used = [a["windows"]["used"] for a in accounts_of(finished.folder)]
    assert used == [12] * 4
    assert [a["gaps"] for a in accounts_of(finished.folder)] == [0] * 4


@pytest.mark.parametrize("azimuth", [40.0, 200.0])
def test_sac_headers_give_directions_and_coordinates(tmp_path, azimuth):
    (tmp_path / "f").mkdir()
    for code, at in (("AAA", azimuth), ("BBB", 0.0)):
        for data, name, more in zip(turned(*fields(code), at), ("BHN", "BHE"), (0, 90), strict=True):
            made = SACTrace.from_obspy_trace(trace(code, data.astype("f4"), channel=name))
            made.cmpaz, made.cmpinc, made.stla, made.stlo = at + more, 90.0, 40.0 + (code == "BBB"), -100.0
            made.write(str(tmp_path / "f" / f"{code}{name}.sac"))
    finished = correlated(tmp_path, source=f"files:{tmp_path / 'f'}")
    assert is_right(amplitudes(finished))
    only = correlated(tmp_path, "only", f"files:{tmp_path / 'f'}", correlate={**NE, "components": ["NN"]})
    with results.open(only.folder) as alone, results.open(finished.folder) as all_of_them:
        assert alone.pairs["distance_m"][0] == pytest.approx(111_000, rel=0.01)
        one, other = (r.get("XX.AAA", "XX.BBB", "NN").to_numpy() for r in (alone, all_of_them))
        assert (one == other).all()


@pytest.mark.parametrize(
    ("azimuth", "dip", "sign"), [(None, 90.0, -1), (0.0, 90.0, -1), (None, -90.0, 1), (17.0, -90.0, 1)]
)
@pytest.mark.parametrize("name", ["BHZ", "BH3"])
def test_a_vertical_needs_no_azimuth(tmp_path, azimuth, dip, sign, name):
    for code in ("AAA", "BBB"):
        write(
            tmp_path / "sds", code, np.round(fields(code)[0]).astype(np.int32), channel=name if code == "AAA" else "BHZ"
        )
    xml = stationxml(
        tmp_path, station("AAA", [channel(name, azimuth, dip)]), station("BBB", [channel("BHZ", 0.0, -90.0)])
    )
    finished = correlated(
        tmp_path, data={"metadata": xml}, correlate={"components": ["ZZ"], "max_lag_s": 30.0, "block": 8}
    )
    with results.open(finished.folder) as found:
        values = found.get("XX.AAA", "XX.BBB", "ZZ").to_numpy()
    assert np.sign(values[np.abs(values).argmax()]) == sign


# -- coordinates -------------------------------------------------------------------------------------------------


def days(tmp_path):
    for code in ("AAA", "BBB"):
        for day in (63, 62, 61):
            start = START + 86_400 * (day - 61)
            data = np.random.default_rng([day, *map(ord, code)]).integers(-300, 300, 86_400).astype(np.int32)
            path = write(tmp_path / "sds", code, data, rate=1.0, start=start)
            shutil.move(path, path.with_name(path.name.replace(".061", f".{day:03d}")))


DAYS = {
    "data": {"start": None, "end": None, "chunk_s": 86_400},
    "condition": {"rate_hz": 1.0, "band_hz": [0.1, 0.4]},
    "correlate": {"components": ["ZZ"], "max_lag_s": 30.0, "block": 8},
}


def with_days(tmp_path, name="x", metadata=None, **how):
    data = {**DAYS["data"], **({"metadata": metadata} if metadata else {}), **how.pop("data", {})}
    return correlated(tmp_path, name, **{**DAYS, "data": data, **how})


@pytest.mark.parametrize("from_list", [False, True])
def test_a_station_that_was_moved_far_is_two(tmp_path, from_list):
    days(tmp_path)
    moved = START + 86_400 * 1.5
    if from_list:
        lines = ["#Network|Station|Latitude|Longitude|Elevation|SiteName|StartTime|EndTime"]
        lines += [f"XX|AAA|40.0|-100.0|0|x|2010-01-01T00:00:00|{moved}", f"XX|AAA|40.1|-100.0|0|x|{moved}|"]
        (tmp_path / "list.txt").write_text("\n".join([*lines, "XX|BBB|41.0|-100.0|0|x|2010-01-01T00:00:00|"]))
        how = settings("unused", **{**DAYS, "data": {**DAYS["data"], "source": f"sds:{tmp_path / 'sds'}"}})
        finished = run_campaign(tmp_path / "list.txt", tmp_path / "x.xcorr", how)
    else:
        epochs = station("AAA", latitude=40.0, end=moved), station("AAA", latitude=40.1, start=moved)
        finished = with_days(tmp_path, metadata=stationxml(tmp_path, *epochs, station("BBB", latitude=41.0)))
    assert finished.exit_code == 0
    assert any("XX.AAA was moved by 11104 m on 2024-03-02" in w for w in finished.report["warnings"])
    with results.open(finished.folder) as found:
        pairs = found.pairs
        assert list(zip(pairs["station_1"], pairs["station_2"], strict=True)) == [
            ("XX.AAA", "XX.BBB"),
            ("XX.AAA@2", "XX.BBB"),
        ]
        assert pairs["distance_m"].to_numpy() == pytest.approx([111_044, 99_940], abs=50)
        assert found.get("XX.AAA", "XX.BBB", "ZZ", None).n_windows.to_numpy().tolist() == [144, 72, 0]
        assert found.get("XX.AAA@2", "XX.BBB", "ZZ", None).n_windows.to_numpy().tolist() == [0, 72, 144]


def test_a_station_that_was_moved_a_little_has_the_place_of_most_data(tmp_path):
    days(tmp_path)
    moved = START + 86_400
    epochs = station("AAA", latitude=40.0, end=moved), station("AAA", latitude=40.0005, start=moved)
    xml = stationxml(tmp_path, *epochs, station("BBB", latitude=41.0))
    finished = with_days(tmp_path, metadata=xml)
    assert any(
        "by 56 m on 2024-03-02; the place with most data counts for all" in w for w in finished.report["warnings"]
    )
    with results.open(finished.folder) as found:
        assert found.stations["latitude"].tolist() == [40.0005, 41.0]
    apart = with_days(tmp_path, "apart", metadata=xml, data={"moved_m": 10.0})
    assert apart.report["pairs"] == 2


def test_the_place_is_that_of_the_data_and_not_the_latest(tmp_path):
    days(tmp_path)
    later = START + 86_400 * 300
    epochs = station("AAA", latitude=40.0, end=later), station("AAA", latitude=45.0, start=later)
    finished = with_days(tmp_path, metadata=stationxml(tmp_path, *epochs, station("BBB", latitude=41.0)))
    with results.open(finished.folder) as found:
        assert found.stations["latitude"].tolist() == [40.0, 41.0]
    assert not finished.report["warnings"]


def test_a_campaign_of_one_place_stays_one_when_the_metadata_learn_of_an_earlier_one(tmp_path):
    days(tmp_path)
    with_days(tmp_path, metadata=stationxml(tmp_path, station("AAA", latitude=40.1), station("BBB", latitude=41.0)))
    moved = START + 86_400
    epochs = station("AAA", latitude=40.0, end=moved), station("AAA", latitude=40.1, start=moved)
    finished = with_days(tmp_path, metadata=stationxml(tmp_path, *epochs, station("BBB", latitude=41.0)))
    assert finished.report["pairs"] == 1
    assert any("XX.AAA was moved" in w for w in finished.report["warnings"])


@pytest.mark.parametrize("components", [["ZZ"], ["NN", "RR", "TT"]])
def test_corrected_coordinates_are_told_and_taken_when_asked(as_it_is, tmp_path, components):
    if components == ["ZZ"]:
        for code in ("AAA", "BBB"):
            write(tmp_path / "sds", code)
    correlate = {"components": components, "max_lag_s": 30.0, "block": 8}
    per = {"normalize": {"per": "station"}, "whiten": {"per": "station"}}

    def at(latitude, name="x", **how):
        about = [channel("BHN", 0.0), channel("BHE", 90.0)]
        xml = stationxml(tmp_path, station("AAA", about, latitude), station("BBB", about, 41.0))
        return correlated(tmp_path, name, data={"metadata": xml}, correlate=correlate, **per, **how)

    at(40.0)
    shards = {p.name: p.read_bytes() for p in (tmp_path / "x.xcorr" / "shards").iterdir()}
    told = at(42.0)
    assert any("XX.AAA: its coordinates are 222" in w and "--refresh-metadata" in w for w in told.report["warnings"])
    with results.open(told.folder) as found:
        assert found.pairs["azimuth_deg"][0] == pytest.approx(0)
    taken = at(42.0, refresh_metadata=True)
    new = at(42.0, "new")
    assert {p.name: p.read_bytes() for p in (tmp_path / "x.xcorr" / "shards").iterdir()} == shards
    assert not any("coordinates" in w for w in taken.report["warnings"])
    with results.open(taken.folder) as found, results.open(new.folder) as known:
        assert found.pairs["azimuth_deg"][0] == pytest.approx(180)
        assert found.stations.equals(known.stations)
        for pair in components:
            one, other = (r.get("XX.AAA", "XX.BBB", pair).to_numpy() for r in (found, known))
            assert (one == other).all()
    assert not at(42.0).report["warnings"]


def test_a_run_that_is_killed_while_it_takes_new_coordinates_is_finished_by_the_next(as_it_is, tmp_path, monkeypatch):
    def at(latitude, **how):
        about = [channel("BHN", 0.0), channel("BHE", 90.0)]
        xml = stationxml(tmp_path, station("AAA", about, latitude), station("BBB", about, 41.0))
        return correlated(tmp_path, data={"metadata": xml}, **how)

    at(40.0)

    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("xcorr.campaign.run.stack_campaign", die)
        with pytest.raises(KeyboardInterrupt):
            at(42.0, refresh_metadata=True)
    with results.open(at(42.0).folder) as found:
        assert found.pairs["azimuth_deg"][0] == pytest.approx(180)


def test_coordinates_cannot_be_taken_without_series(as_it_is, tmp_path):
    def at(latitude, **how):
        about = [channel("BHN", 0.0), channel("BHE", 90.0)]
        xml = stationxml(tmp_path, station("AAA", about, latitude), station("BBB", about, 41.0))
        return correlated(tmp_path, data={"metadata": xml}, stack={"keep_series": False}, **how)

    at(40.0)
    with pytest.raises(CampaignError, match="the series were not kept"):
        at(42.0, refresh_metadata=True)
    with results.open(at(40.0).folder) as found:
        assert found.pairs["azimuth_deg"][0] == pytest.approx(0)


def test_new_coordinates_that_would_change_the_pairs_are_refused(tmp_path):
    days(tmp_path)

    def at(latitude, **how):
        xml = stationxml(tmp_path, station("AAA", latitude=latitude), station("BBB", latitude=41.0))
        near = {**DAYS["correlate"], "distance_km": [0.0, 150.0], "autocorrelations": True}
        return with_days(tmp_path, metadata=xml, correlate=near, **how)

    at(40.0)
    with pytest.raises(SettingsError, match="--refresh-metadata: with the new coordinates other pairs pass"):
        at(30.0, refresh_metadata=True)
    assert at(40.0).exit_code == 0


# -- what changed between runs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["gain", "direction"])
def test_metadata_that_changed_are_never_mixed_without_a_word(as_it_is, tmp_path, what):
    def about(gain, azimuth):
        epochs = [channel("BHN", azimuth, gain=gain), channel("BHE", azimuth + 90.0, gain=gain)]
        return stationxml(tmp_path, station("AAA", epochs), straight("BBB"))

    condition = {"rate_hz": 4.0, "band_hz": [0.1, 1.0], "response": "velocity" if what == "gain" else "none"}
    plain = {"normalize": {"method": "none"}, "whiten": {"method": "none"}}
    before = correlated(tmp_path, data={"metadata": about(1e3, 0.0)}, condition=condition, **plain)
    old = amplitudes(before)
    xml = about(2e3, 0.0) if what == "gain" else about(1e3, 180.0)
    told = correlated(tmp_path, data={"metadata": xml}, condition=condition, **plain)
    assert told.exit_code == 3
    (error,) = told.report["errors"]
    assert "have another response or direction in the station metadata" in error
    assert "--refresh" in error
    assert "XX.AAA" in error
    assert amplitudes(told) == old
    again = correlated(tmp_path, data={"metadata": xml}, condition=condition, refresh=True, **plain)
    assert again.exit_code == 0
    assert amplitudes(again)["NN"] == pytest.approx(old["NN"] / (2 if what == "gain" else 1), rel=0.01)
    assert correlated(tmp_path, data={"metadata": xml}, condition=condition, **plain).exit_code == 0


def test_metadata_written_in_another_way_are_the_same(as_it_is, tmp_path):
    """Another order, another station and another digit of a gain are no change."""
    first = correlated(tmp_path, data={"metadata": stationxml(tmp_path, straight("AAA"), straight("BBB"))})
    assert first.exit_code == 0
    xml = stationxml(tmp_path, station("CCC"), straight("BBB"), straight("AAA"))
    assert correlated(tmp_path, data={"metadata": xml}).exit_code == 0


def test_another_rate_in_the_metadata_is_told(as_it_is, tmp_path):
    about = [channel("BHN", 0.0, rate=20.0), channel("BHE", 90.0)]
    finished = correlated(tmp_path, data={"metadata": stationxml(tmp_path, station("AAA", about), straight("BBB"))})
    assert any("XX.AAA..BHN has 10 Hz, and 20 Hz in the station metadata" in w for w in finished.report["warnings"])
    assert json.loads((finished.folder / "report.json").read_text())["warnings"] == finished.report["warnings"]


def test_epochs_that_do_not_cover_the_data_are_told(as_it_is, tmp_path):
    late = UTCDateTime(2030, 1, 1)
    about = [channel("BHN", 40.0, start=late), channel("BHE", 130.0, start=late)]
    finished = correlated(tmp_path, data={"metadata": stationxml(tmp_path, station("AAA", about), straight("BBB"))})
    assert any("do not give the direction of XX.AAA..BHE, XX.AAA..BHN" in w for w in finished.report["warnings"])
    assert is_right(amplitudes(finished))
