"""Directions, responses and coordinates are those of the time of the data, and what changed between runs is told."""

import json
import shutil

import numpy as np
import pytest
from archives import START, sds_path, settings, station_list, trace, write
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
    assert (
        "by 56 m on 2024-03-02; one place counts for all of its data, with the latitude 40.0005"
        in finished.report["warnings"][0]
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


def windows(finished):
    """Windows by chunk of every station that has some."""
    found = {}
    for a in accounts_of(finished.folder):
        found.setdefault(a["slot"], []).append(a["windows"].get("used", 0))
    return found


def moved(at, before=40.0, after=40.1):
    return (
        station("AAA", latitude=before, end=at),
        station("AAA", latitude=after, start=at),
        station("BBB", latitude=41.0),
    )


@pytest.mark.parametrize("one_place", [40.0, 40.1])
def test_a_move_that_the_metadata_learn_of_later_is_told_and_repaired(tmp_path, one_place):
    days(tmp_path)
    with_days(
        tmp_path, metadata=stationxml(tmp_path, station("AAA", latitude=one_place), station("BBB", latitude=41.0))
    )
    xml = stationxml(tmp_path, *moved(START + 86_400))
    told = with_days(tmp_path, metadata=xml)
    assert told.exit_code == 3
    assert any("were correlated with other station metadata" in e for e in told.report["errors"])
    repaired = with_days(tmp_path, metadata=xml, refresh=True)
    first = one_place == 40.0  # the place that the campaign has keeps its name
    assert repaired.exit_code == 0
    assert windows(repaired)["XX.AAA.Z"] == ([144, 0, 0] if first else [0, 144, 144])
    assert windows(repaired)["XX.AAA@2.Z"] == ([0, 144, 144] if first else [144, 0, 0])
    with results.open(repaired.folder) as found:
        assert found.stations["latitude"].tolist() == [one_place, 41.0, 40.1 if first else 40.0]
        counts = found.get("XX.AAA", "XX.BBB", "ZZ", None).n_windows.to_numpy().tolist()
        assert counts == windows(repaired)["XX.AAA.Z"]
    assert with_days(tmp_path, metadata=xml).exit_code == 0


def test_a_move_whose_time_is_corrected_within_a_chunk(tmp_path):
    days(tmp_path)
    for hour in (6, 18):
        xml = stationxml(tmp_path, *moved(START + 86_400 + hour * 3600))
        finished = with_days(tmp_path, metadata=xml, refresh=True)
        assert finished.exit_code == 0
        assert windows(finished)["XX.AAA.Z"] == [144, 6 * hour, 0]
        assert windows(finished)["XX.AAA@2.Z"] == [0, 6 * (24 - hour), 144]


def test_places_keep_their_names_whatever_data_come_late(tmp_path):
    """Data of the middle one of three places come last, and other data are asked for first."""
    days(tmp_path)
    epochs = [
        station("AAA", latitude=40.0 + k / 10, start=START + 86_400 * k, end=START + 86_400 * (k + 1)) for k in range(3)
    ]
    xml = stationxml(tmp_path, *epochs, station("BBB", latitude=41.0))
    for start, end in (("2024-03-03", "2024-03-04"), ("2024-03-01", "2024-03-02"), (None, None)):
        finished = with_days(tmp_path, metadata=xml, data={"start": start, "end": end})
        assert finished.exit_code == 0
    with results.open(finished.folder) as found:
        places = dict(zip(found.stations["id"], found.stations["latitude"], strict=True))
    assert places == {"XX.AAA": 40.0, "XX.AAA@2": 40.1, "XX.AAA@3": 40.2, "XX.BBB": 41.0}
    used = {name: np.flatnonzero(n).tolist() for name, n in windows(finished).items()}
    assert used == {"XX.AAA.Z": [0], "XX.AAA@2.Z": [1], "XX.AAA@3.Z": [2], "XX.BBB.Z": [0, 1, 2]}
    assert finished.report["pairs"] == 3


def test_ends_in_the_year_2599_stand_for_none(tmp_path):
    days(tmp_path)
    lines = [
        f"XX|AAA|40.0|-100.0|0|x|2010-01-01T00:00:00|{START + 86_400}",
        f"XX|AAA|40.5|-100.0|0|x|{START + 86_400}|2599-12-31T23:59:59",
        "XX|BBB|41.0|-100.0|0|x|2010-01-01T00:00:00|2599-12-31T23:59:59",
    ]
    (tmp_path / "list.txt").write_text(
        "\n".join(["#Network|Station|Latitude|Longitude|Elevation|SiteName|StartTime|EndTime", *lines])
    )
    how = settings("unused", **{**DAYS, "data": {**DAYS["data"], "source": f"sds:{tmp_path / 'sds'}"}})
    finished = run_campaign(tmp_path / "list.txt", tmp_path / "x.xcorr", how)
    assert windows(finished)["XX.AAA@2.Z"] == [0, 144, 144]
    assert not any("no epoch" in w for w in finished.report["warnings"])


@pytest.mark.parametrize("lines", [["XX,AAA,40,-100", "XX,AAA,40.5,-100"], ["XX,AAA,40,-100", "XX,AAA,40,-100"]])
def test_lines_of_one_station_without_times_are_no_move(tmp_path, lines):
    days(tmp_path)
    (tmp_path / "list.csv").write_text("\n".join(["network,station,latitude,longitude", *lines, "XX,BBB,41,-100"]))
    how = settings("unused", **{**DAYS, "data": {**DAYS["data"], "source": f"sds:{tmp_path / 'sds'}"}})
    finished = run_campaign(tmp_path / "list.csv", tmp_path / "x.xcorr", how)
    assert (finished.report["pairs"], finished.report["warnings"]) == (1, [])
    again = run_campaign(tmp_path / "list.csv", tmp_path / "x.xcorr", how)
    assert (again.exit_code, again.report["warnings"]) == (0, []), "no elevation is no change"


def test_pairs_that_are_named_are_those_of_all_places(tmp_path):
    days(tmp_path)
    named = {**DAYS["correlate"], "pairs": ["XX.AAA-XX.BBB"]}
    finished = with_days(tmp_path, metadata=stationxml(tmp_path, *moved(START + 86_400)), correlate=named)
    assert finished.report["pairs"] == 2


def test_sac_headers_with_another_place_are_a_move(tmp_path):
    (tmp_path / "f").mkdir()
    for code, place in (("AAA", 40.0), ("BBB", 41.0)):
        for k in (0, 1):
            data = np.random.default_rng([k, *map(ord, code)]).standard_normal(36_000).astype("f4")
            made = SACTrace.from_obspy_trace(trace(code, data, start=START + 3600 * k))
            made.stla, made.stlo = place + k * (code == "AAA"), -100.0
            made.write(str(tmp_path / "f" / f"{code}{k}"))
    zz = {"components": ["ZZ"], "max_lag_s": 30.0, "block": 8}
    finished = correlated(tmp_path, source=f"files:{tmp_path / 'f'}", correlate=zz)
    assert [(n[3:-2], np.flatnonzero(w).tolist()) for n, w in windows(finished).items()] == [
        ("AAA", [0]), ("AAA@2", [1]), ("BBB", [0, 1])
    ]  # fmt: skip


@pytest.mark.parametrize("substack_s", [300, 3600])
def test_new_azimuths_reach_stacks_that_have_running_sums(as_it_is, tmp_path, substack_s):
    def at(latitude, longitude, name="x", **how):
        about = [channel("BHN", 0.0), channel("BHE", 90.0)]
        other = station("BBB", about, 41.0)
        mine = station("AAA", about, latitude)
        mine.longitude = longitude
        xml = stationxml(tmp_path, mine, other)
        per = {"normalize": {"per": "station"}, "whiten": {"per": "station"}}
        window = {"length_s": 300.0, "step_s": 300.0}
        rt = {"components": ["RR", "TT"], "max_lag_s": 30.0, "block": 8}
        stack = {"substack_s": substack_s}
        return correlated(
            tmp_path, name, data={"metadata": xml}, correlate=rt, stack=stack, window=window, **per, **how
        )

    at(40.0, -100.0)
    taken, new = at(41.0, -101.0, refresh_metadata=True), at(41.0, -101.0, "new")
    with results.open(taken.folder) as found, results.open(new.folder) as known:
        for pair in ("RR", "TT"):
            one, other = (r.get("XX.AAA", "XX.BBB", pair).to_numpy() for r in (found, known))
            assert (one == other).all()


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
    assert "were correlated with other station metadata" in error
    assert "--refresh" in error
    assert "XX.AAA" in error
    assert amplitudes(told) == old
    again = correlated(tmp_path, data={"metadata": xml}, condition=condition, refresh=True, **plain)
    assert again.exit_code == 0
    assert amplitudes(again)["NN"] == pytest.approx(old["NN"] / (2 if what == "gain" else 1), rel=0.01)
    assert correlated(tmp_path, data={"metadata": xml}, condition=condition, **plain).exit_code == 0


def test_metadata_that_come_later_are_compared_with_names(as_it_is, tmp_path):
    """The first run has none, so that the names gave the directions; another direction is told, the same is not."""
    assert correlated(tmp_path).exit_code == 0
    assert (
        correlated(tmp_path, data={"metadata": stationxml(tmp_path, straight("AAA"), straight("BBB"))}).exit_code == 0
    )
    about = [channel("BHN", 180.0), channel("BHE", 270.0)]
    xml = stationxml(tmp_path, station("AAA", about), straight("BBB"))
    assert correlated(tmp_path, data={"metadata": xml}).exit_code == 3
    assert correlated(tmp_path, data={"metadata": xml}, refresh=True).exit_code == 0
    assert correlated(tmp_path).exit_code == 3, "without the metadata, the names would count again"


@pytest.mark.parametrize("what", ["gain", "direction"])
def test_a_correction_of_a_channel_that_only_helps_is_told(as_it_is, tmp_path, what):
    """N is made of two channels that point elsewhere; E is not asked for."""

    def about(azimuth, gain):
        return stationxml(
            tmp_path, station("AAA", [channel("BHN", 40.0), channel("BHE", azimuth, gain=gain)]), straight("BBB")
        )

    how = {"correlate": {**NE, "components": ["NN"]}}
    how["condition"] = {"rate_hz": 4.0, "band_hz": [0.1, 1.0], "response": "velocity"}
    assert correlated(tmp_path, data={"metadata": about(130.0, 1.0)}, **how).exit_code == 0
    xml = about(110.0, 1.0) if what == "direction" else about(130.0, 5.0)
    assert correlated(tmp_path, data={"metadata": xml}, **how).exit_code == 3
    repaired = correlated(tmp_path, data={"metadata": xml}, refresh=True, **how)
    new = correlated(tmp_path, "new", data={"metadata": xml}, **how)
    with results.open(repaired.folder) as found, results.open(new.folder) as known:
        one, other = (r.get("XX.AAA", "XX.BBB", "NN").to_numpy() for r in (found, known))
    assert (one == other).all()


def test_a_correction_counts_although_it_costs_a_window(as_it_is, tmp_path):
    condition = {"rate_hz": 4.0, "band_hz": [0.1, 1.0], "response": "velocity"}
    plain = {
        "normalize": {"method": "none"},
        "whiten": {"method": "none"},
        "window": {"length_s": 120.0, "step_s": 120.0},
    }

    def at(*epochs, name="x", **how):
        xml = stationxml(tmp_path, station("AAA", epochs), straight("BBB"))
        return correlated(
            tmp_path,
            name,
            data={"metadata": xml},
            condition=condition,
            correlate={**NE, "components": ["NN"]},
            **plain,
            **how,
        )

    at(channel("BHN", 0.0, gain=1e3))
    cut = START + 300
    epochs = channel("BHN", 0.0, gain=1e3, end=cut), channel("BHN", 0.0, gain=4e3, start=cut)
    repaired, new = at(*epochs, refresh=True), at(*epochs, name="new")
    assert (repaired.exit_code, repaired.report["stale"]) == (0, [])
    with results.open(repaired.folder) as found, results.open(new.folder) as known:
        one, other = (r.get("XX.AAA", "XX.BBB", "NN", None).to_numpy() for r in (found, known))
    assert (one == other).all()


def test_a_gap_between_epochs_costs_its_own_samples(as_it_is, tmp_path):
    """No response is known for half an hour: neither that before nor that after it is used there."""
    first, last = START + 1800, START + 3600
    epochs = [channel("BHN", 0.0, end=first), channel("BHN", 0.0, start=last)]
    condition = {"rate_hz": 4.0, "band_hz": [0.1, 1.0], "response": "velocity"}
    xml = stationxml(tmp_path, station("AAA", epochs), straight("BBB"))
    nn = {**NE, "components": ["NN"]}
    finished = correlated(tmp_path, data={"metadata": xml}, condition=condition, correlate=nn)
    account = next(a for a in accounts_of(finished.folder) if a["slot"] == "XX.AAA.N")
    assert finished.exit_code == 3
    assert account["windows"] == {"used": 3, "coverage": 3}
    assert "no epoch of XX.AAA..BHN at 2024-03-01T00:30:00" in account["reason"]
    plain = correlated(tmp_path, "plain", data={"metadata": xml}, correlate=nn)
    account = next(a for a in accounts_of(plain.folder) if a["slot"] == "XX.AAA.N")
    assert (plain.exit_code, account["windows"]) == (0, {"used": 6})


def test_the_direction_after_the_last_epoch_is_that_of_the_name_and_told(as_it_is, tmp_path):
    end = START + 1800
    epochs = [channel("BHN", 180.0, end=end), channel("BHE", 270.0, end=end)]
    xml = stationxml(tmp_path, station("AAA", epochs), straight("BBB"))
    finished = correlated(tmp_path, data={"metadata": xml}, stack={"substack_s": 1800})
    notes = {a["slot"]: a["note"] for a in accounts_of(finished.folder) if a["chunk"] == 0}
    assert "no epoch of it at some of its times" in notes["XX.AAA.N"]
    with results.open(finished.folder) as found:
        pieces = found.get("XX.AAA", "XX.BBB", "NN", None).to_numpy()
        signs = [float(np.sign(p[np.abs(p).argmax()])) for p in pieces]
    assert signs == [-1.0, 1.0, 1.0, 1.0]


def test_sensors_of_two_locations_are_not_combined(tmp_path):
    """Location 00 has only BH1, location 10 both, with twenty times the gain."""
    for code in ("AAA", "BBB"):
        one, two = turned(*fields(code), 40.0)
        for data, name, location in ((one, "BH1", "00"), (20 * one, "BH1", "10"), (20 * two, "BH2", "10")):
            made = trace(code, np.round(data).astype(np.int32), channel=name)
            made.stats.location = location
            path = sds_path(tmp_path / "sds", code, name)
            made.write(str(path.with_name(path.name.replace("..", f".{location}."))), format="MSEED")
    about = []
    for name, azimuth, location in (("BH1", 40.0, "00"), ("BH1", 40.0, "10"), ("BH2", 130.0, "10")):
        about.append(channel(name, azimuth))
        about[-1].location_code = location
    xml = stationxml(tmp_path, station("AAA", about), station("BBB", about))
    mixed = correlated(tmp_path, data={"metadata": xml, "locations": ["00", "10"]})
    account = next(a for a in accounts_of(mixed.folder) if a["slot"] == "XX.AAA.N")
    assert account["status"] == "failed"
    assert "the directions of the channels with data do not give N" in account["reason"]
    assert is_right(amplitudes(correlated(tmp_path, "ten", data={"metadata": xml, "locations": ["10"]})))


def test_a_sensor_that_is_exchanged_divides_the_chunk(as_it_is, tmp_path):
    """The counts step by two million at the exchange, which would ring through both parts."""
    for name, k in (("BHN", 0), ("BHE", 1)):
        data = fields("AAA")[k]
        data[36_000:] = 50 * data[36_000:] + 2e6
        write(tmp_path / "sds", "AAA", np.round(data).astype(np.int32), channel=name)
    epochs = [
        channel(c, a, gain=g, start=s, end=e)
        for c, a in (("BHN", 0.0), ("BHE", 90.0))
        for g, s, e in ((1.0, None, HALF), (50.0, HALF, None))
    ]
    xml = stationxml(tmp_path, station("AAA", epochs), straight("BBB"))
    finished = correlated(
        tmp_path, data={"metadata": xml, "chunk_s": 7200}, quality={"max_over_std": 0.0}, stack={"substack_s": 600}
    )
    with results.open(finished.folder) as found:
        peaks = np.abs(found.get("XX.AAA", "XX.BBB", "NN", None).to_numpy()).max(axis=1)
    assert peaks.min() > 0.8 * peaks.max()


def test_less_time_of_a_chunk_that_is_done_is_no_other_metadata(as_it_is, tmp_path):
    xml = stationxml(tmp_path, straight("AAA"), straight("BBB"))
    assert correlated(tmp_path, data={"metadata": xml}).exit_code == 0
    for more in ({"end": "2024-03-01T00:30:00"}, {"start": "2024-03-01T00:10:00"}):
        finished = correlated(tmp_path, data={"metadata": xml, **more})
        assert (finished.exit_code, finished.report["errors"]) == (0, [])


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
