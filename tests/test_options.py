"""Every setting changes the result as its formula says: each case against the plain chain in plain.py."""

import ast
import dataclasses
import functools
from pathlib import Path

import numpy as np
import obspy
import plain
import pytest

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.core import installed
from xcorr.settings.tables import Dispersion, Monitor
from xcorr.settings.toml import KINDS, build

START = obspy.UTCDateTime(2024, 3, 1)
CHUNK_S, CHUNKS, RATE = 1200, 2, plain.RATE
STATIONS = {"XX.A": (40.0, 5.0), "XX.B": (40.1, 5.0), "YY.C": (40.1, 5.2)}
BASE = {
    "data": {"chunk_s": CHUNK_S, "channels": ["BH?"], "start": "2024-03-01", "end": "2024-03-01T00:40:00"},
    "condition": {"rate_hz": RATE, "band_hz": [0.1, 1.0], "edge_s": 30.0, "corners": 2},
    "window": {"length_s": 150.0, "step_s": 150.0, "min_coverage": 0.6},
    "normalize": {"method": "none"},
    "whiten": {"method": "none", "taper_hz": 0.05},
    "correlate": {"max_lag_s": 15.0, "block": 8},
}
THREE = {"correlate.components": ["ZZ", "ZN", "EE"]}
CASES = [
    {"condition.rate_hz": 2.0, "condition.band_hz": [0.1, 0.7]},
    {"condition.band_hz": [0.2, 0.8]},
    {"condition.corners": 4},
    {"condition.edge_s": 12.0},
    {"condition.max_gap_s": 2.0},
    {"condition.zeros_are_gaps_s": 10.0},
    {"window.length_s": 200.0},
    {"window.step_s": 75.0},
    {"window.min_coverage": 0.95},
    {"quality.max_over_std": 5.0},
    {"quality.kurtosis": 3.5},
    {"quality.sta_lta": 3.0, "quality.sta_s": 8.0, "quality.lta_s": 150.0},
    {"quality.sta_lta": 3.0, "quality.sta_s": 16.0, "quality.lta_s": 150.0},
    {"quality.sta_lta": 3.0, "quality.sta_s": 8.0, "quality.lta_s": 80.0},
    {"quality.dead": 0.8},
    {"quality.clipped": 0.05},
    {"quality.catalogue": "events.csv", "quality.catalogue_after_s": 200.0},
    {"quality.catalogue": "events.csv", "quality.catalogue_after_s": 200.0, "quality.catalogue_magnitude": 4.0},
    {"quality.catalogue": "events.csv", "quality.catalogue_after_s": 500.0},
    {"normalize.method": "one-bit"},
    {"normalize.method": "one-bit", "normalize.per": "station", **THREE},
    {"normalize.method": "running-absolute-mean"},
    {"normalize.method": "running-absolute-mean", "normalize.window_s": 20.25},
    {"normalize.method": "running-absolute-mean", "normalize.per": "station", **THREE},
    {"normalize.method": "running-absolute-mean", "normalize.band_hz": [0.1, 0.3]},
    {"normalize.method": "clip"},
    {"normalize.method": "clip", "normalize.clip_n": 1.5},
    {"normalize.method": "clip", "normalize.clip_n": 1.5, "normalize.per": "station", **THREE},
    {"normalize.method": "mute"},
    {"normalize.method": "mute", "normalize.mute_factor": 1.5},
    {"normalize.method": "mute", "normalize.mute_factor": 1.5, "normalize.per": "station", **THREE},
    {"normalize.method": "envelope"},
    {"normalize.method": "gain", "normalize.window_s": 12.25},
    {"whiten.method": "phase"},
    {"whiten.method": "phase", "whiten.band_hz": [0.15, 0.6]},
    {"whiten.method": "phase", "whiten.taper_hz": 0.0},
    {"whiten.method": "phase", "whiten.per": "station", **THREE},
    {"whiten.method": "running-mean"},
    {"whiten.method": "running-mean", "whiten.smooth_hz": 0.1},
    {"whiten.method": "running-mean", "whiten.per": "station", **THREE},
    {"correlate.method": "coherency"},
    {"correlate.method": "coherency", "correlate.smooth_hz": 0.1},
    {"correlate.method": "deconvolution"},
    {"correlate.method": "deconvolution", "correlate.water_level": 0.3},
    {"correlate.method": "phase"},
    {"correlate.max_lag_s": 20.0},
    {"correlate.components": ["ZN", "NZ", "NN"]},
    {"correlate.block": 16},
    {"correlate.autocorrelations": True},
    {"correlate.autocorrelations": True, "whiten.method": "phase"},
    {"correlate.autocorrelations": True, "whiten.method": "phase", "correlate.whiten_autocorrelations": True},
    {"correlate.autocorrelations": True, "correlate.amplitude": "energy"},
    {"correlate.amplitude": "energy"},
    {"correlate.amplitude": "energy", "whiten.method": "running-mean"},
    {"correlate.amplitude": "peak"},
    {"stack.substack_s": 300},
    {"stack.substack_s": 300, "whiten.method": "phase", "correlate.autocorrelations": True},
    {"data.chunk_s": 600},
]  # fmt: skip
SAME = ("correlate.block",)  # changes how, not what
ELSEWHERE = {
    "run.memory": ("test_plan.py", "test_memory_decides_how_many_chunks_are_open"),
    "run.fft": ("test_fft.py", "test_the_library_is_part_of_a_campaign"),
    "run.arrays": ("test_seams.py", "test_products_and_lags_by_another_package"),
    "run.dask.scheduler": ("test_dask.py", "test_the_demo_has_the_same_bits"),
    "run.dask.wait_s": ("test_dask.py", "test_fewer_threads_than_asked_for_are_said"),
    "run.storm.keys": ("test_storm.py", "test_relative_paths_mean_the_callers_folder"),
    "run.storm.nimbus": ("test_storm.py", "test_the_demo_has_the_same_bits_and_lineage"),
    "provenance.level": ("test_provenance.py", "test_no_level_changes_a_result"),
    **{
        f"keep.{key}": ("test_provenance.py", test)
        for key, test in (
            ("element", "test_a_rule_keeps_exactly_what_it_says"),
            ("port", "test_a_wrong_rule_is_an_error_before_the_start"),
            ("condition", "test_a_rule_keeps_exactly_what_it_says"),
            ("folder", "test_a_rule_keeps_exactly_what_it_says"),
        )
    },
    **{
        f"monitor.{field.name}": ("test_monitor_campaign.py", "test_every_key_changes_what_is_measured")
        for field in dataclasses.fields(Monitor)
    },
    **{
        f"dispersion.{field.name}": ("test_dispersion_campaign.py", "test_every_key_changes_what_is_measured")
        for field in dataclasses.fields(Dispersion)
    },
    **{
        f"insert.{key}": ("test_seams.py", "test_an_element_of_ones_own_in_the_main_job")
        for key in ("element", "after", "parameters")
    },
    "stack.keep_series": (
        "test_campaign.py",
        "test_series_that_are_not_kept",
    ),  # settings that other tests exercise: file and test
    "stack.compression": ("test_smaller.py", "test_compression_alone_changes_no_bit"),
    "stack.series_bits": ("test_smaller.py", "test_series_are_rounded_and_take_half_of_the_bytes"),
    "data.files.trust": ("test_choices.py", "test_which_counts_where_they_disagree"),
    "data.sensors": ("test_choices.py", "test_two_locations_are_two_sensors"),
    "data.prefer": ("test_choices.py", "test_the_sensor_with_most_data"),
    "correlate.autocorrelation_components": (
        "test_choices.py",
        "test_autocorrelations_have_component_pairs_of_their_own",
    ),
    "data.sds.trust": ("test_one_bad_thing.py", "test_a_name_with_another_location_than_the_headers"),
    "data.drift": ("test_clocks.py", "test_the_lag_of_a_drifting_station_is_right"),
    "data.moved_m": ("test_metadata_by_time.py", "test_a_station_that_was_moved_a_little_has_the_place_of_most_data"),
    **{
        f"data.s3.{key}": ("test_s3.py", test)
        for key, test in (
            *((key, "test_how_requests_are_sent") for key in ("endpoint", "region", "access", "at_once")),
            *((key, "test_one_object_that_cannot_be_had") for key in ("retries", "timeout_s")),
            ("spill", "test_the_last_record_of_the_day_before"),
        )
    },
    "data.fdsn.timeout_s": ("test_fdsn.py", "test_a_service_that_sends_too_slowly_costs_itself"),
    "data.fdsn.retries": ("test_fdsn.py", "test_a_service_that_dies_costs_what_it_did_not_give"),
    "data.fdsn.requests_per_s": ("test_fdsn.py", "test_requests_keep_the_rate"),
    "data.source": ("test_bad_input.py", "test_folder_of_files_with_any_names_and_sac_coordinates"),
    "data.metadata": ("test_survey.py", "test_the_response_of_each_epoch_is_removed"),
    "data.channels": ("test_survey.py", "test_an_unreadable_preferred_channel_is_reported_though_another_serves"),
    "data.locations": ("test_science.py", "test_locations_in_order_of_preference"),
    "data.start": ("test_survey.py", "test_chunks_exist_only_where_wanted_data_do"),
    "data.end": ("test_survey.py", "test_chunks_exist_only_where_wanted_data_do"),
    "condition.response": ("test_survey.py", "test_the_response_of_each_epoch_is_removed"),
    "condition.water_level_db": ("test_survey.py", "test_the_water_level_is_in_decibels_below_the_largest_response"),
    "correlate.pairs": ("test_science.py", "test_selection_of_pairs"),
    "correlate.distance_km": ("test_science.py", "test_selection_of_pairs"),
    "correlate.azimuth_deg": ("test_science.py", "test_selection_of_pairs"),
    "correlate.networks": ("test_science.py", "test_selection_of_pairs"),
    "stack.components": ("test_after_the_run.py", "test_a_setting_adds_them_to_a_campaign_that_is_there"),
    "stack.methods": ("test_pes_stacking.py", "test_every_stack_and_its_parameters_reach_the_results"),
    "stack.pws_power": ("test_pes_stacking.py", "test_every_stack_and_its_parameters_reach_the_results"),
    "stack.pws_timegate_s": ("test_pes_stacking.py", "test_every_stack_and_its_parameters_reach_the_results"),
    "stack.tf_pws_power": ("test_pes_stacking.py", "test_every_stack_and_its_parameters_reach_the_results"),
    "stack.nroot_order": ("test_pes_stacking.py", "test_every_stack_and_its_parameters_reach_the_results"),
    "stack.selective_threshold": ("test_pes_stacking.py", "test_every_stack_and_its_parameters_reach_the_results"),
    "stack.acf_power": ("test_pes_stacking.py", "test_every_stack_and_its_parameters_reach_the_results"),
    "bands.name": ("test_science.py", "test_two_bands_from_one_pass_are_two_runs"),
    "bands.band_hz": ("test_science.py", "test_two_bands_from_one_pass_are_two_runs"),
    "run.mapping": ("test_bits.py", "test_demo"),
    "run.workers": ("test_bits.py", "test_demo"),
    "run.open_chunks": ("test_survey.py", "test_every_setting_reaches_its_element"),
}


@functools.cache
def recordings():
    """Raw traces with everything the options are about: gaps, zeros, spikes, a loud and a faint time, clipping."""
    rng = np.random.default_rng(7)
    size = round(CHUNK_S * CHUNKS * RATE)
    common = rng.standard_normal((3, size + 100))
    raw = {}
    for k, name in enumerate(STATIONS):
        raw[name] = {}
        for c, letter in enumerate("ZNE"):
            x = 300 * (common[c, 7 * k : 7 * k + size] + 0.5 * common[0, 100 - k : 100 - k + size]) * (1 + c)
            x += 200 * rng.standard_normal(size)
            x[2500:3000] *= 3  # an event
            x[5500:6200] *= 0.2
            raw[name][letter] = np.round(x)
    a, b, c = raw.values()
    for letter in "ZNE":
        a[letter][6500:6506] = np.nan
        b[letter][8000:8060] = 0.0
        c[letter][1300:1320] += 8000
        high = np.quantile(c[letter][3800:4200], 0.75)
        c[letter][3800:4200] = np.clip(c[letter][3800:4200], None, high)
    for letter in "ZNE":  # flat runs at the largest value
        b[letter][7000:7090] = np.nanmax(b[letter]) + 1
    return raw


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("options")
    for name, parts in recordings().items():
        network, code = name.split(".")
        for letter, x in parts.items():
            header = {"network": network, "station": code, "channel": f"BH{letter}", "sampling_rate": RATE}
            traces = [
                obspy.Trace(x[i:j].astype(np.int32), {**header, "starttime": START + i / RATE})
                for i, j in plain.runs(~np.isnan(x))
            ]
            obspy.Stream(traces).write(str(folder / f"{name}.{letter}.mseed"), format="MSEED")
    lines = [f"{name.replace('.', ',')},{lat},{lon}" for name, (lat, lon) in STATIONS.items()]
    (folder / "stations.csv").write_text("\n".join(["network,station,latitude,longitude", *lines]) + "\n")
    events = ["time,magnitude", "2024-03-01T00:05:00,6.1", "2024-03-01T00:30:00,4.5"]
    (folder / "events.csv").write_text("\n".join(events) + "\n")
    return folder


def settings_of(archive, case):
    sections = {section: dict(keys) for section, keys in BASE.items()}
    sections["data"]["source"] = f"files:{archive}/*.mseed"
    for name, value in case.items():
        section, key = name.split(".")
        sections.setdefault(section, {})[key] = str(archive / value) if key == "catalogue" else value
    return build(sections)


def expected_of(settings):
    events = ()
    if settings.quality.catalogue:
        times = [(300.0, 6.1), (1800.0, 4.5)]
        after = settings.quality.catalogue_after_s
        events = [(t, t + after) for t, m in times if m >= settings.quality.catalogue_magnitude]
    return plain.series(recordings(), settings, events=events)


def found_in(folder, settings):
    names = list(STATIONS)
    with results.open(folder) as found:
        series = {}
        for (i, a), (j, b) in ((x, y) for x in enumerate(names) for y in enumerate(names) if x <= y):
            if i == j and not settings.correlate.autocorrelations:
                continue
            for pair in settings.component_pairs:
                got = found.get(a, b, pair, stack=None)
                series[i, j, pair] = got.values, got.coords["n_windows"].values
        return series


@pytest.mark.parametrize("case", [{}, *CASES], ids=lambda c: ",".join(f"{k}={v}" for k, v in c.items()) or "base")
def test_option(archive, tmp_path, case):
    settings = settings_of(archive, case)
    finished = run_campaign(archive / "stations.csv", tmp_path / "x.xcorr", settings)
    assert finished.exit_code == 0, finished.report["errors"]
    got, expected = found_in(tmp_path / "x.xcorr", settings), expected_of(settings)
    assert got.keys() == expected.keys()
    for key, (values, n) in expected.items():
        np.testing.assert_array_equal(got[key][1], n, err_msg=str(key))
        assert np.array_equal(np.isnan(got[key][0]), np.isnan(values)), key
        scale = np.nanmax(np.abs(values))
        tolerance = AT_A_LIMIT if case.get("normalize.method") == "mute" else TOLERANCE
        np.testing.assert_allclose(got[key][0], values, atol=tolerance * scale, rtol=0, err_msg=str(key))


AT_A_LIMIT = 1.5e-2  # a few samples within TOLERANCE of the limit fall on its other side
TOLERANCE = 2e-3  # conditioning: an FFT filter over the padded segment against a recursive one; the rest is 1e-5


@pytest.mark.parametrize("case", CASES, ids=lambda c: ",".join(f"{k}={v}" for k, v in c.items()))
def test_the_case_can_tell_its_option(archive, case):
    """What is expected with the option must differ from what is expected without its last key."""
    if set(case) <= set(SAME):
        return
    last = [k for k in case if k not in THREE or len(case) == 1][-1]
    without = {k: v for k, v in case.items() if k != last}
    if last == "quality.sta_lta" or "quality.sta_lta" in without:
        without = {k: v for k, v in case.items() if not k.startswith("quality.")}
    if "catalogue" in last:
        without = {k: v for k, v in case.items() if k == "quality.catalogue"} if last != "quality.catalogue" else {}
    if last == "correlate.method" or "condition.rate_hz" in case:
        without = {}
    mine, other = (expected_of(settings_of(archive, c)) for c in (case, without))
    common = [k for k in mine if k in other]
    different = mine.keys() != other.keys() or any(
        mine[k][0].shape != other[k][0].shape
        or not np.allclose(mine[k][0], other[k][0], atol=5 * TOLERANCE * np.nanmax(np.abs(mine[k][0])), equal_nan=True)
        for k in common
    )
    assert different, f"{case} gives what {without} gives"


def test_every_setting_is_exercised():
    every = {f"{s}.{f.name}" for s, kind in KINDS.items() for f in dataclasses.fields(kind) if f.name != "options"}
    for section, kind in (("data", "sources"), ("run", "mappings")):
        for name in installed.names(kind):
            declared = dataclasses.fields(installed.load(kind, name).Options)
            every |= {f"{section}.{name}.{f.name}" for f in declared}
    cases = {key for case in CASES for key in case}
    assert every - cases - ELSEWHERE.keys() == set(), "settings that no test exercises"
    assert (cases | ELSEWHERE.keys()) - every == set(), "settings that do not exist"
    folder = Path(__file__).parent
    for file, test in set(ELSEWHERE.values()):
        tree = ast.parse((folder / file).read_text())
        assert test in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}, f"{file} has no {test}"
