"""From list and archive to work: channels, preferences, chunks, midnight, metadata; settings reach the elements."""

import copy
import dataclasses

import numpy as np
import obspy
import pytest
from archives import START, sds_path, settings, station_list, trace, waveform, write
from conftest import ROOT, accounts_of

from xcorr import results
from xcorr.campaign import workflows
from xcorr.campaign.forecast import chunks_at_once
from xcorr.campaign.run import run_campaign
from xcorr.network.survey import survey_list
from xcorr.settings.recipe import Recipe
from xcorr.settings.toml import build, load


def run(root, tmp_path, name="out", text=None, codes=("AAA", "BBB"), **sections):
    where = station_list(tmp_path, *codes)
    if text is not None:
        where.write_text(text)
    return run_campaign(where, tmp_path / f"{name}.xcorr", settings(root, **sections))


def accounts(finished, slot):
    return [a for a in accounts_of(finished.folder) if a["slot"] == slot]


@pytest.fixture
def three(tmp_path):
    """An archive of two stations with three components each."""
    root = tmp_path / "sds"
    for s, code in enumerate(("AAA", "BBB")):
        for c, letter in enumerate("ZNE"):
            write(root, code, waveform(10 * s + c), channel=f"BH{letter}")
    return root


def test_lines_for_further_channels_add_to_a_station(three, tmp_path):
    text = "".join(f"XX.{s}..BH{c}\n" for s in ("AAA", "BBB") for c in "ZNE") + "XX.AAA..BHZ\n"
    finished = run(three, tmp_path, text=text, correlate={"components": ["all"]})
    assert [r["status"] for r in finished.report["requested"]] == ["used"] * 6 + ["repeated"]
    with results.open(finished.folder) as found:
        assert len(found.components) == 9
        assert all(np.isfinite(found.gather(c)).all() for c in found.components)
        reverse = found.get("XX.BBB", "XX.AAA", "NZ")
        np.testing.assert_array_equal(reverse.values, found.get("XX.AAA", "XX.BBB", "ZN").values[::-1])


def test_chunks_exist_only_where_wanted_data_do(three, tmp_path):
    late = START + 20 * 86_400
    for channel in ("LOG", "BHZ"):
        folder = sds_path(three, "CCC", channel)
        trace("CCC", waveform(1)[:6000], channel=channel, start=late).write(
            str(folder).replace(".061", ".081"), format="MSEED"
        )
    open_end = {"end": None, "start": None}
    finished = run(three, tmp_path, data=open_end)
    assert finished.report["chunks"] == 24
    with_ccc = survey_list(station_list(tmp_path, "AAA", "BBB", "CCC"), settings(three, data=open_end))
    days = {c.start_ns // (86_400 * 10**9) for c in with_ccc.chunks}
    assert len(days) == 3
    pattern = station_list(tmp_path, "AAA")
    pattern.write_text("XX.?AA\nXX.B*\n")
    assert [s.name for s in survey_list(pattern, settings(three)).stations] == ["XX.AAA", "XX.BBB"]


def test_the_record_that_runs_over_midnight_is_found_in_the_day_before(tmp_path):
    root = tmp_path / "sds"
    for code in ("AAA", "BBB"):
        data = waveform(sum(map(ord, code)))
        trace(code, data, start=START - 600).write(str(sds_path(root, code, day=60)), format="MSEED")
    finished = run(root, tmp_path, data={"end": "2024-03-01T01:00:00"})
    assert [a["status"] for a in accounts(finished, "XX.AAA.Z")] == ["used"]
    assert accounts(finished, "XX.AAA.Z")[0]["samples"] == 36_000


def test_gaps_between_neighbouring_files_are_closed(three, tmp_path):
    whole = run(three, tmp_path, name="whole")
    data = waveform(0)
    path = sds_path(three, "AAA")
    path.unlink()
    first, second = trace("AAA", data[:40_000]), trace("AAA", data[40_000:], start=START + 4000)
    first.write(str(path), format="MSEED")
    with path.open("ab") as file:
        second.write(file, format="MSEED")
    split = run(three, tmp_path, name="split")
    with results.open(whole.folder) as a, results.open(split.folder) as b:
        assert a.gather().tobytes() == b.gather().tobytes()


def test_an_unreadable_preferred_channel_is_reported_though_another_serves(three, tmp_path):
    (sds_path(three, "AAA", "HHZ")).write_bytes(np.random.default_rng(3).bytes(4000))
    finished = run(three, tmp_path, data={"channels": ["HH?", "BH?"]})
    assert finished.exit_code == 3
    first = accounts(finished, "XX.AAA.Z")[0]
    assert (first["status"], first["seed_id"]) == ("used", "XX.AAA..BHZ")
    assert "XX.AAA..HHZ" in first["reason"]


@pytest.mark.parametrize("kind", ["constant", "short"])
def test_a_useless_preferred_channel_gives_way(three, tmp_path, kind):
    data = np.full(72_000, 7, np.int32) if kind == "constant" else waveform(5)[:300]
    write(three, "AAA", data, channel="HHZ")
    finished = run(three, tmp_path, data={"channels": ["HH?", "BH?"]})
    assert finished.exit_code == 0
    assert {a["seed_id"] for a in accounts(finished, "XX.AAA.Z")} == {"XX.AAA..BHZ"}


def test_a_small_bad_piece_costs_itself_alone(three, tmp_path):
    clean = run(three, tmp_path, name="clean")
    path = sds_path(three, "AAA")
    with path.open("ab") as file:
        trace("AAA", waveform(7)[:20], rate=9.97, start=START + 7300).write(file, format="MSEED")
        trace("AAA", waveform(7)[:20], rate=1.0, start=START + 7300).write(file, format="MSEED")
    spoiled = run(three, tmp_path, data={"end": "2024-03-01T03:00:00"}, name="spoiled")
    assert accounts(spoiled, "XX.AAA.Z")[0]["windows"]["used"] == 6
    with results.open(clean.folder) as a, results.open(spoiled.folder) as b:
        one, two = (r.get("XX.AAA", "XX.BBB", stack=None).values[:2] for r in (a, b))
        assert one.tobytes() == two.tobytes()


def epochs(tmp_path, gains, change_s):
    """StationXML in which BHZ of AAA changes its gain at a time."""
    inventory = obspy.read_inventory(str(ROOT / "data" / "demo" / "stations.xml"))
    del inventory[0].stations[2:]
    for station, code in zip(inventory[0], ("AAA", "BBB"), strict=True):
        station.code = code
    first = inventory[0][0].channels[0]
    second = copy.deepcopy(first)
    first.end_date = second.start_date = START + change_s
    for channel, gain in zip((first, second), gains, strict=True):
        channel.response.response_stages[0].stage_gain *= gain
        channel.response.instrument_sensitivity.value *= gain
    inventory[0][0].channels = [first, second]
    path = tmp_path / "epochs.xml"
    inventory.write(str(path), format="STATIONXML")
    return str(path)


def test_the_response_of_each_epoch_is_removed(three, tmp_path):
    """Gain and counts change together within a chunk: the ground motion, and so the correlation, does not."""
    how = {"condition": {"response": "velocity"}, "normalize": {"method": "none"}, "whiten": {"method": "none"}}
    plain = {"metadata": epochs(tmp_path, (1.0, 1.0), 2000)}
    steady = run(three, tmp_path, name="steady", data=plain, **how)
    data = waveform(0)
    data[20_000:] *= 10
    write(three, "AAA", data)
    changed = run(three, tmp_path, name="changed", data={"metadata": epochs(tmp_path, (1.0, 10.0), 2000)}, **how)
    assert changed.exit_code == 0
    with results.open(steady.folder) as a, results.open(changed.folder) as b:
        one, two = a.gather(), b.gather()
        assert np.abs(one - two).max() < 1e-4 * np.abs(one).max()


def test_one_impossible_response_costs_its_channel_alone(three, tmp_path):
    inventory = obspy.read_inventory(epochs(tmp_path, (1.0, 1.0), 2000))
    for station in inventory[0]:
        base = station.channels[0]
        base.end_date = None
        station.channels = [base]
        for letter in "NE":
            twin = copy.deepcopy(base)
            twin.code = f"BH{letter}"
            if (station.code, letter) == ("AAA", "N"):
                twin.response.response_stages[0].stage_gain = 0
            station.channels.append(twin)
    inventory.write(str(tmp_path / "meta.xml"), format="STATIONXML")
    finished = run(
        three,
        tmp_path,
        data={"metadata": str(tmp_path / "meta.xml")},
        condition={"response": "velocity"},
        correlate={"components": ["ZZ", "ZN"]},
    )
    assert finished.exit_code == 3
    assert {a["status"] for a in accounts(finished, "XX.AAA.N")} == {"failed"}
    assert {a["status"] for a in accounts(finished, "XX.AAA.Z")} == {"used"}


def test_the_water_level_is_in_decibels_below_the_largest_response():
    from xcorr.pes.reading.metadata import inverse_response

    class Response:
        def get_evalresp_response_for_frequencies(self, f, output):
            return np.where(f < 1e-9, 0, 100.0 * np.minimum(f, 1.0) * np.exp(1j * f)).astype(complex)

    inverse = inverse_response(Response(), 4.0, 2.0, "velocity", 40.0)
    f = np.array([0.0, 1e-4, 0.005, 0.05, 1.0, 2.0])
    expected = np.array([0, 1.0, 1.0, 0.2, 0.01, 0.01])  # |R| never below 100 / 10^(40/20) = 1
    np.testing.assert_allclose(np.abs(inverse(f)), expected, rtol=1e-3)
    np.testing.assert_allclose(np.angle(inverse(f[1:])), -f[1:], atol=1e-3)


def test_shared_weights_share_rejected_windows(three, tmp_path):
    data = waveform(1).copy()
    data[10_000] = 10_000_000
    write(three, "AAA", data, channel="BHN")
    alone = run(three, tmp_path, name="alone", correlate={"components": ["ZZ", "NN"]})
    shared = run(three, tmp_path, name="shared", correlate={"components": ["ZZ", "NN"]}, whiten={"per": "station"})
    assert [accounts(r, "XX.AAA.Z")[0]["windows"]["used"] for r in (alone, shared)] == [6, 5]
    assert [accounts(r, "XX.AAA.N")[0]["windows"]["max_over_std"] for r in (alone, shared)] == [1, 1]


def test_coordinates_come_from_the_list_before_the_metadata(three, tmp_path):
    text = "network,station,latitude,longitude\nXX,AAA,10.0,20.0\nXX,BBB,,\n"
    finished = run(three, tmp_path, text=text, data={"metadata": epochs(tmp_path, (1, 1), 100)})
    with results.open(finished.folder) as found:
        assert found.stations["latitude"].tolist()[0] == 10.0
        assert found.stations["latitude"].tolist()[1] == pytest.approx(46, abs=1)


def test_a_component_that_is_absent_does_not_weaken_shared_weights(rng):
    from xcorr.pes.preparing import normalize, whiten

    base = rng.standard_normal((1, 1200)).astype(np.float32)
    pair = np.concatenate([base, 0 * base])
    mask = np.array([[True] * 1200, [False] * 1200])
    shared = normalize.running_absolute_mean(pair, mask, 4.0, 10.0, "station")
    np.testing.assert_allclose(shared[:1], normalize.running_absolute_mean(base, mask[:1], 4.0, 10.0), rtol=1e-6)
    grid = whiten.spectral_grid(1200, 100, 4.0, (0.1, 1.0))
    spectra, ones = whiten.window_spectra(pair[:, None], grid), np.ones(grid.bins, np.float32)
    for method in ("phase", "running-mean"):
        both = whiten.whiten(spectra, whiten.Whitening(method, 0.02, "station"), grid, ones)
        np.testing.assert_allclose(
            both[:1], whiten.whiten(spectra[:1], whiten.Whitening(method), grid, ones), rtol=1e-5
        )


def test_the_floor_of_the_running_mean(rng):
    from xcorr.pes.preparing import whiten

    grid = whiten.spectral_grid(1200, 100, 4.0, (0.1, 1.0))
    spectra = np.full((1, 1, grid.bins), 1e-9, np.complex64)
    spectra[0, 0, : grid.bins // 2] = 1.0
    white = whiten.whiten(spectra, whiten.Whitening("running-mean", grid.step_hz), grid, np.ones(grid.bins, np.float32))
    mean = np.abs(spectra[0, 0]).mean()
    np.testing.assert_allclose(np.abs(white[0, 0, -1]), 1e-9 / (1e-3 * mean), rtol=1e-4)


def test_a_line_is_removed_before_the_taper():
    from fractions import Fraction

    from xcorr.pes.items import Segment
    from xcorr.pes.preparing.condition import Conditioning, condition

    ramp = Segment(0, Fraction(4), 1e6 + 50.0 * np.arange(8000))
    data, _ = condition([ramp], 0, 8000, Conditioning(4.0, (0.1, 1.0), 4, 20.0))
    assert np.abs(data).max() < 1e-3


def test_settings_of_the_command_line_complete_those_of_a_file(three, tmp_path, invoke):
    (tmp_path / "c.toml").write_text(
        '[condition]\nresponse = "velocity"\nband_hz = [0.1, 1.0]\n[data]\nchannels = ["BH?"]\nchunk_s = 3600\n'
        "[window]\nlength_s = 600\nstep_s = 600\n[correlate]\nmax_lag_s = 30\n"
    )
    meta = epochs(tmp_path, (1, 1), 100)
    where = station_list(tmp_path, "AAA", "BBB")
    common = ("run", where, "-c", tmp_path / "c.toml", "--source", f"sds:{three}")
    assert "needs the responses" in invoke(*common).output
    assert invoke(*common, "--metadata", meta).exit_code == 0


def test_campaign_settings_can_be_used_again(three, tmp_path, invoke, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finished = run(three, tmp_path)
    again = build(load(finished.folder / "campaign.toml"))
    assert again.hash() == settings(three).hash()
    assert again.data.source == f"sds:{three}"
    assert "# kernel: " in (finished.folder / "campaign.toml").read_text()


def test_results_beside_the_files_are_not_read_as_waveforms(tmp_path, invoke):
    for number, code in enumerate(("AAA", "BBB")):
        trace(code, waveform(number)).write(str(tmp_path / f"{code}.mseed"), format="MSEED")
    where = station_list(tmp_path, "AAA", "BBB")
    arguments = ("run", where, "--source", f"files:{tmp_path}", "--set", "data.channels=['BH?']")
    assert [invoke(*arguments).exit_code for _ in range(2)] == [0, 0]


def test_azimuths_go_clockwise_through_north(demo):
    with results.open(demo) as found:
        azimuth = found.pairs["azimuth_deg"]
        north = found.select(azimuth_deg=(300, 60))["azimuth_deg"]
        assert sorted(north) == sorted(azimuth[(azimuth >= 300) | (azimuth <= 60)])
        assert 0 < len(north) < len(azimuth)
        assert len(found.select(azimuth_deg=(0, 360))) == len(azimuth)


def test_overlaps_after_a_dispute_are_compared_in_the_right_place():
    from fractions import Fraction

    from xcorr.pes.items import Segment
    from xcorr.pes.reading.segments import clean
    from xcorr.pes.reading.waveform import NS

    values = np.arange(100)
    a = Segment(0, Fraction(1), values[:10] + 1000)
    b = Segment(5 * NS, Fraction(1), values[5:100])
    for stop in (60, 100):
        c = Segment(6 * NS, Fraction(1), values[6:stop])
        found = clean([a, b, c], 0, 100 * NS)
        assert [(s.start_ns // NS, len(s.data)) for s in found.segments] == [(0, 5), (10, 90)]


SETTINGS = {
    "condition": {"rate_hz": 5.0, "band_hz": [0.11, 1.3], "corners": 3, "edge_s": 17.0, "water_level_db": 41.0,
                  "max_gap_s": 1.5, "zeros_are_gaps_s": 33.0},
    "window": {"length_s": 300.0, "step_s": 150.0, "min_coverage": 0.77},
    "quality": {"max_over_std": 6.5},
    "normalize": {"method": "running-absolute-mean", "window_s": 4.2, "per": "station"},
    "whiten": {"method": "running-mean", "band_hz": [0.2, 1.1], "taper_hz": 0.033, "smooth_hz": 0.044,
               "per": "station"},
    "correlate": {"max_lag_s": 21.0, "components": ["ZN"], "block": 16},
    "run": {"open_chunks": 3, "fft": "fftw"},
}  # fmt: skip


def test_every_setting_reaches_its_element(three, tmp_path):
    made = settings(three, **SETTINGS)
    found = survey_list(station_list(tmp_path, "AAA", "BBB"), made)
    recipe = Recipe(made)
    at_once = chunks_at_once(recipe, found, 1, 5)
    graph = workflows.correlation_workflow(recipe, found, found.generations[0], found.chunks, at_once, tmp_path, {})
    e = {type(x).__name__: x for x in graph.elements()}
    assert e["StationSource"].open_groups == 3
    read = e["ReadStation"]
    assert (read.highest_hz, read.edge_s, read.max_gap_s, read.zeros_are_gaps_s) == (1.3, 17.0, 1.5, 33.0)
    how = e["ConditionStation"]
    assert dataclasses.astuple(how.conditioning) == (5.0, (0.11, 1.3), 3, 17.0)
    assert dataclasses.astuple(how.windowing)[:4] == (1500, 750, 0.77, 6.5)
    assert (how.response, how.water_level_db, how.shared) == ("none", 41.0, True)
    norm = e["NormalizeStation"].how
    assert (norm.method, norm.window_s, norm.per) == ("running-absolute-mean", 4.2, "station")
    t = e["TransformStation"]
    (band,) = t.bands
    how = t.whitening
    assert (how.method, how.smooth_hz, how.per) == ("running-mean", 0.044, "station")
    assert (band.band_hz, band.taper_hz, band.grid.fft) == ((0.2, 1.1), 0.033, "fftw")
    assert (t.window_step, band.grid.length, band.grid.lags, band.grid.rate_hz) == (750, 1500, 105, 5.0)
    c = e["CorrelateStrips"]
    assert (c.layout.block, c.layout.components, c.layout.pairs) == (16, ("Z", "N"), ("ZN",))
    assert not c.estimator.unbiased
    assert c.windows == 23
