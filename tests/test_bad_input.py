"""Bad input costs at most that input, with a clear reason; everything else keeps its bits."""

import contextlib
import json
import os

import h5py
import numpy as np
import pytest
from archives import START, sds_path, settings, station_list, trace, waveform, write
from conftest import accounts_of
from obspy.io.sac import SACTrace

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.results.export import export

CODES = ("AAA", "BBB", "CCC", "DDD")


@pytest.fixture
def archive(tmp_path):
    root = tmp_path / "sds"
    for code in CODES:
        write(root, code)
    return root


def run(archive, tmp_path, codes=CODES, name="out", **sections):
    return run_campaign(station_list(tmp_path, *codes), tmp_path / f"{name}.xcorr", settings(archive, **sections))


def accounts(finished, code):
    return [a for a in accounts_of(finished.folder) if a["slot"] == f"XX.{code}.Z"]


def others_unchanged(clean, spoiled):
    """Pairs without BBB are the same to the bit."""
    with results.open(clean.folder) as a, results.open(spoiled.folder) as b:
        for one, two in (("AAA", "CCC"), ("AAA", "DDD"), ("CCC", "DDD")):
            x, y = (r.get(f"XX.{one}", f"XX.{two}", stack=None).values for r in (a, b))
            assert np.isfinite(x).all()
            assert x.tobytes() == y.tobytes()


def truncated(path):
    path.write_bytes(path.read_bytes()[:-700])


def cut_in_the_middle(path):
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2 + 100])


def garbage(path):
    path.write_bytes(np.random.default_rng(1).bytes(5000))


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("this is no waveform\n" * 50)


def flipped(path):
    raw = bytearray(path.read_bytes())
    raw[4096 + 70 : 4096 + 200] = bytes(130)
    path.write_bytes(bytes(raw))


@pytest.mark.parametrize("spoil", [garbage, empty, text])
def test_unreadable_files_fail_their_slot_with_the_reason(archive, tmp_path, spoil):
    clean = run(archive, tmp_path, name="clean")
    spoil(sds_path(archive, "BBB"))
    spoiled = run(archive, tmp_path)
    assert (clean.exit_code, spoiled.exit_code) == (0, 3)
    assert [a["status"] for a in accounts(spoiled, "BBB")] == ["failed", "failed"]
    assert all("XX.BBB..BHZ.D.2024.061" in a["reason"] for a in accounts(spoiled, "BBB"))
    assert any("XX.BBB.Z" in e for e in spoiled.report["errors"])
    others_unchanged(clean, spoiled)


def test_a_damaged_record_costs_itself(archive, tmp_path):
    clean = run(archive, tmp_path, name="clean")
    flipped(sds_path(archive, "BBB"))
    spoiled = run(archive, tmp_path)
    assert spoiled.exit_code == 3
    assert [a["status"] for a in accounts(spoiled, "BBB")] == ["used", "used"]
    assert "XX.BBB..BHZ.D.2024.061: 1 of " in accounts(spoiled, "BBB")[0]["reason"]
    assert 0 < accounts(spoiled, "BBB")[0]["gap_s"] < 1000
    others_unchanged(clean, spoiled)


@pytest.mark.parametrize("spoil", [truncated, cut_in_the_middle])
def test_damaged_files_give_what_they_still_hold(archive, tmp_path, spoil):
    clean = run(archive, tmp_path, name="clean")
    spoil(sds_path(archive, "BBB"))
    spoiled = run(archive, tmp_path)
    first, last = accounts(spoiled, "BBB")
    assert first["status"] == "used"
    assert first["gap_s"] + last["gap_s"] > 0
    assert first["windows"]["used"] >= 5
    others_unchanged(clean, spoiled)


def test_non_finite_samples_cost_their_windows(archive, tmp_path):
    clean = run(archive, tmp_path, name="clean")
    data = waveform(sum(map(ord, "BBB"))).astype(np.float32)
    data[10_000:10_020] = np.nan
    data[50_000] = np.inf
    write(archive, "BBB", data)
    spoiled = run(archive, tmp_path)
    assert spoiled.exit_code == 0
    assert [a["windows"] for a in accounts(spoiled, "BBB")] == [{"used": 5, "non-finite": 1}] * 2
    with results.open(spoiled.folder) as found:
        assert np.isfinite(found.gather()).all()
    others_unchanged(clean, spoiled)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (np.full(72_000, 42, np.int32), "constant trace"),
        (np.zeros(72_000, np.int32), "nothing but zeros for 3600 s, which are gaps (condition.zeros_are_gaps_s)"),
        (np.full(72_000, np.nan, np.float32), "nothing but samples that are not finite"),
    ],
)
def test_traces_without_signal_are_unusable(archive, tmp_path, data, reason):
    clean = run(archive, tmp_path, name="clean")
    write(archive, "BBB", data)
    spoiled = run(archive, tmp_path)
    assert spoiled.exit_code == 0
    assert [(a["status"], a["reason"]) for a in accounts(spoiled, "BBB")] == [("unusable", reason)] * 2
    with results.open(spoiled.folder) as found:
        assert found.get("XX.AAA", "XX.BBB").attrs["n_windows"] == 0
        assert np.isnan(found.get("XX.AAA", "XX.BBB").values).all()
    others_unchanged(clean, spoiled)


def test_a_day_without_data_is_absent(archive, tmp_path):
    write(archive, "BBB", waveform(1)[:72_00], start=START + 10 * 3600)
    finished = run(archive, tmp_path)
    assert finished.exit_code == 0
    assert [a["status"] for a in accounts(finished, "BBB")] == ["absent", "absent"]


@pytest.mark.parametrize(("rate", "status", "words"), [(40.0137, "used", ""), (1.0, "unusable", "too low")])
def test_odd_rates_and_low_rates(archive, tmp_path, rate, status, words):
    clean = run(archive, tmp_path, name="clean")
    write(archive, "BBB", waveform(1, rate=rate), rate=rate)
    spoiled = run(archive, tmp_path)
    assert [a["status"] for a in accounts(spoiled, "BBB")] == [status] * 2
    assert all(words in a["reason"] for a in accounts(spoiled, "BBB"))
    others_unchanged(clean, spoiled)


def test_another_channel_takes_over_where_the_first_is_useless(archive, tmp_path):
    write(archive, "BBB", np.zeros(72_000, np.int32), channel="HHZ")
    finished = run(archive, tmp_path, data={"channels": ["HH?", "BH?"]})
    assert finished.exit_code == 0
    assert {a["seed_id"] for a in accounts(finished, "BBB")} == {"XX.BBB..BHZ"}


def test_a_missing_component_is_absent(archive, tmp_path):
    finished = run(archive, tmp_path, correlate={"components": ["ZZ", "ZN"]})
    north = [a for a in accounts_of(finished.folder) if a["slot"] == "XX.AAA.N"]
    assert [a["status"] for a in north] == ["absent", "absent"]
    with results.open(finished.folder) as found:
        assert np.isfinite(found.gather("ZZ")).all()
        assert np.isnan(found.gather("ZN")).all()


def test_station_metadata_that_lack_a_station(archive, tmp_path):
    import obspy
    from conftest import ROOT

    inventory = obspy.read_inventory(str(ROOT / "data" / "demo" / "stations.xml"))
    del inventory[0].stations[3:]
    for station, code in zip(inventory[0], ("AAA", "CCC", "DDD"), strict=True):
        station.code = code
    inventory.write(str(tmp_path / "meta.xml"), format="STATIONXML")
    where = {"metadata": str(tmp_path / "meta.xml")}
    plain = run(archive, tmp_path, name="plain", data=where)
    assert plain.exit_code == 0
    with results.open(plain.folder) as found:
        assert np.isnan(found.get("XX.AAA", "XX.BBB").attrs["distance_m"])
        assert found.get("XX.AAA", "XX.CCC").attrs["distance_m"] > 0
    removed = run(archive, tmp_path, name="removed", data=where, condition={"response": "velocity"})
    assert removed.exit_code == 3
    assert {a["reason"] for a in accounts(removed, "BBB")} == {"the station metadata lack XX.BBB..BHZ"}
    assert {a["status"] for a in accounts(removed, "AAA")} == {"used"}


def test_empty_file_of_metadata(archive, tmp_path, invoke):
    (tmp_path / "meta.xml").write_text("<xml/>")
    result = invoke(
        "run", station_list(tmp_path, *CODES), "--source", f"sds:{archive}", "--metadata", tmp_path / "meta.xml"
    )
    assert result.exit_code == 2
    assert "meta.xml' is not readable as station metadata" in result.output


# -- the command line ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--set", "condition.rate_h=1"], "unknown setting condition.rate_h (did you mean 'condition.rate_hz'?)"),
        (["--start", "2024-03-02", "--end", "2024-03-01"], "data.end = '2024-03-01': the end is not after the start"),
        (["--start", "yesterday"], "data.start = 'yesterday': must be a time"),
        (["--source", "sds:/nowhere"], "there is no folder '/nowhere'"),
        (["--source", "files:/nowhere/*.sac"], "there is no file at '/nowhere/*.sac'"),
        (["--source", "ftp:x"], "is not known; use fdsn:URL, files:DIR_OR_GLOB"),
        (["-m", "sequentiall"], "did you mean 'sequential'"),
        (["--metadata", "/nowhere.xml"], "there is no file at '/nowhere.xml'"),
    ],
)
def test_wrong_usage_is_code_2_with_a_message_and_nothing_written(archive, tmp_path, invoke, extra, message):
    where = station_list(tmp_path, *CODES)
    arguments = ["--source", f"sds:{archive}", "--set", "data.channels=['BH?']", *extra]
    result = invoke("run", where, *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "stations.xcorr" / "xcorr.h5").exists()


def test_empty_list_and_bad_line(archive, tmp_path, invoke):
    path = tmp_path / "list.txt"
    path.write_text("# nothing\n")
    result = invoke("run", path, "--source", f"sds:{archive}")
    assert (result.exit_code, "holds no station" in result.output) == (2, True)
    path.write_text("XX AAA\nXX AAA BHZ 00 7\n")
    result = invoke("run", path, "--source", f"sds:{archive}")
    assert result.exit_code == 2
    assert f"{path}, line 2: 'XX AAA BHZ 00 7'" in result.output


def test_no_source_says_how_to_give_one(tmp_path, invoke):
    result = invoke("run", station_list(tmp_path, "AAA"))
    assert (result.exit_code, "--source sds:DIR" in result.output) == (2, True)


def test_unknown_stations_are_absent_and_all_unknown_is_code_1(archive, tmp_path, invoke):
    finished = run(archive, tmp_path, codes=("AAA", "NOPE", "BBB", "AAA"))
    status = [(r["status"], r["reason"]) for r in finished.report["requested"]]
    assert status == [
        ("used", ""),
        ("absent", "no such station in the source, which has XX.AAA, XX.BBB"),
        ("used", ""),
        ("repeated", "already asked for on line 1"),
    ]
    assert finished.exit_code == 0
    nobody = station_list(tmp_path, "NOPE", "NADA")
    result = invoke("run", nobody, "--source", f"sds:{archive}", "-o", tmp_path / "x.xcorr")
    assert result.exit_code == 1
    assert "0 of 2 lines of the list have data" in result.output


def test_one_station_has_no_pair(archive, tmp_path, invoke):
    result = invoke(
        "run", station_list(tmp_path, "AAA", "NOPE"), "--source", f"sds:{archive}", "--set", "data.channels=['BH?']"
    )
    assert result.exit_code == 1
    assert "1 of 2 lines of the list have data" in result.output
    assert "XX NOPE: no such station in the source, which has XX.AAA" in result.output


def test_one_station_is_enough_for_autocorrelations(archive, tmp_path):
    finished = run(archive, tmp_path, codes=("AAA",), correlate={"autocorrelations": True})
    assert (finished.exit_code, finished.report["pairs_with_data"]) == (0, 1)
    with results.open(finished.folder) as found:
        values = found.get("XX.AAA", "XX.AAA").to_numpy()
    assert np.abs(values).argmax() == len(values) // 2


def test_blank_locations_may_be_written_as_dashes(archive, tmp_path):
    finished = run(archive, tmp_path, data={"locations": ["--"]})
    assert finished.exit_code == 0


def test_unwritable_output(archive, tmp_path, invoke):
    (tmp_path / "file").write_text("not a folder")
    where = station_list(tmp_path, *CODES)
    common = ("--source", f"sds:{archive}", "--set", "data.channels=['BH?']")
    result = invoke("run", where, *common, "-o", tmp_path / "file" / "out.xcorr")
    assert result.exit_code == 1
    assert "cannot write the campaign folder" in result.output
    result = invoke("run", where, *common, "-o", "/proc/xcorr")
    assert result.exit_code == 1
    assert "cannot write the campaign folder" in result.output


def test_another_settings_same_folder_is_refused(archive, tmp_path, invoke):
    run(archive, tmp_path)
    from xcorr.store.folder import CampaignError

    with pytest.raises(CampaignError, match="other settings"):
        run(archive, tmp_path, correlate={"max_lag_s": 20.0})


def test_nothing_in_common_is_code_1(tmp_path):
    root = tmp_path / "sds"
    write(root, "AAA", waveform(1)[:36_000])
    write(root, "BBB", waveform(2)[36_000:], start=START + 3600)
    finished = run(root, tmp_path, codes=("AAA", "BBB"))
    assert finished.exit_code == 1
    assert finished.report["pairs_with_data"] == 0


# -- folders of files ----------------------------------------------------------------------------------------


def test_folder_of_files_with_any_names_and_sac_coordinates(tmp_path, invoke):
    folder = tmp_path / "waves" / "deep"
    folder.mkdir(parents=True)
    for number, code in enumerate(("AAA", "BBB")):
        made = trace(code, waveform(number).astype(np.float32))
        made.stats.sac = {"stla": 46.0 + 0.1 * number, "stlo": 8.0, "stel": 100.0}
        made.write(str(folder / f"whatever {number}"), format="SAC")
    trace("CCC", waveform(3)).write(str(folder / "x.bin"), format="MSEED")
    (folder / "README").write_text("notes\n")
    (folder / "broken.mseed").write_bytes(np.random.default_rng(1).bytes(3000))
    where = station_list(tmp_path, "AAA", "BBB", "CCC")
    out = tmp_path / "out.xcorr"
    result = invoke(
        "run", where, "--source", f"files:{tmp_path}/waves", "-o", out, "--json",
        "--set", "data.channels=['BH?']", "--set", "data.chunk_s=3600", "--set", "window.length_s=600",
        "--set", "window.step_s=600", "--set", "correlate.max_lag_s=30", "--set", "condition.band_hz=[0.1,1.0]",
    )  # fmt: skip
    assert result.exit_code == 3
    report = json.loads(result.output.splitlines()[-1])
    assert report["pairs_with_data"] == 3
    assert [os.path.basename(f) for f in report["ignored_files"]] == ["README"]
    (error,) = report["errors"]
    assert "broken.mseed" in error
    with results.open(out) as found:
        assert found.get("XX.AAA", "XX.BBB").attrs["distance_m"] == pytest.approx(11_116, abs=5)
        assert np.isnan(found.get("XX.AAA", "XX.CCC").attrs["distance_m"])


def test_settings_beside_the_list_are_used(archive, tmp_path, invoke):
    where = station_list(tmp_path, *CODES)
    (tmp_path / "xcorr.toml").write_text(
        '[data]\nsource = "sds:sds"\nchannels = ["BH?"]\nchunk_s = 3600\nend = 2024-03-01T02:00:00\n'
        "[window]\nlength_s = 600\nstep_s = 600\n[correlate]\nmax_lag_s = 25\n"
    )
    result = invoke("run", where)
    assert result.exit_code == 0, result.output
    with h5py.File(tmp_path / "stations.xcorr" / "xcorr.h5") as file:
        assert file["lags_s"][-1] == 25


def sac_files(folder, *codes):
    """A folder of SAC files whose headers have these codes of network and station."""
    folder.mkdir()
    for number, (network, station) in enumerate(codes):
        time = {"nzyear": 2024, "nzjday": 61, "nzhour": 0, "nzmin": 0, "nzsec": 0, "nzmsec": 0, "b": 0.0, "delta": 0.1}
        data = waveform(number).astype(np.float32)
        sac = SACTrace(data=data, knetwk=network, kstnm=station, kcmpnm="BHZ", **time)
        sac.write(str(folder / f"{number}.sac"))
    return settings(folder, data={"source": f"files:{folder}"})


def test_codes_that_lead_out_of_a_folder_are_refused(tmp_path):
    how = sac_files(tmp_path / "any", ("XX", "./../.."), ("XX", "A/B"), ("XX", "GOOD"), ("XX", "ALSOGOOD"))
    (tmp_path / "stations.txt").write_text("XX *\n")
    finished = run_campaign(tmp_path / "stations.txt", tmp_path / "x.xcorr", how)
    assert finished.report["stations_used"] == 2
    assert sum("is not a code" in line for line in finished.report["errors"]) == 2
    with results.open(tmp_path / "x.xcorr") as found:
        assert list(found.stations["id"]) == ["XX.ALSOGOOD", "XX.GOOD"]


def test_exports_of_an_older_campaign_stay_in_their_folder(tmp_path):
    """Version 0.1.0 took any code."""
    how = sac_files(tmp_path / "any", ("XX", "AAAAAAAA"), ("XX", "BBBBBBBB"))
    (tmp_path / "stations.txt").write_text("XX *\n")
    run_campaign(tmp_path / "stations.txt", tmp_path / "x.xcorr", how)
    with h5py.File(tmp_path / "x.xcorr" / "xcorr.h5", "r+") as file:
        table = file["stations"][...]
        table["id"][0], table["station"][0] = b"XX./../../A", b"/../../A"
        file["stations"][...] = table
    deep = tmp_path / "deep"
    deep.mkdir()
    with results.open(tmp_path / "x.xcorr") as found:
        for kind in ("sac", "mseed"):
            with contextlib.suppress(ValueError):  # obspy.Trace may refuse the code
                export(found, deep / kind, kind)
    assert {p.name for p in tmp_path.iterdir()} == {"any", "deep", "stations.txt", "x.xcorr"}


def test_identifiers_of_eight_and_eight_characters(tmp_path):
    """As in FDSN source identifiers."""
    how = sac_files(tmp_path / "any", ("NETWORK8", "ABCDEFGH"), ("NETWORK8", "ABCDEFGI"))
    (tmp_path / "stations.txt").write_text("NETWORK8.*\n")
    run_campaign(tmp_path / "stations.txt", tmp_path / "x.xcorr", how)
    with results.open(tmp_path / "x.xcorr") as found:
        assert list(found.stations["id"]) == ["NETWORK8.ABCDEFGH", "NETWORK8.ABCDEFGI"]
        assert found.dataset("slots")["id"].tolist() == [b"NETWORK8.ABCDEFGH.Z", b"NETWORK8.ABCDEFGI.Z"]
        assert found.get("NETWORK8.ABCDEFGH", "NETWORK8.ABCDEFGI").n_windows > 0
