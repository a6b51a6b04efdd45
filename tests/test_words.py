"""Whatever is absent, unusable, rejected or failed has its reason on the screen, in report.json and in report.html."""

import html
import itertools
import json
import re

import numpy as np
import obspy
import pytest
import test_metadata_by_time as about
from archives import SETTINGS, START, sds_path, station_list, trace, waveform, write
from obspy.io.sac import SACTrace

from xcorr.pes.preparing import orient, prepare
from xcorr.pes.preparing.windows import REASONS
from xcorr.pes.reading import read
from xcorr.settings import Settings

CODES = ("AAA", "BBB", "CCC")
NAMES = {
    f"{module.__name__.rpartition('.')[2]}.{name}": text
    for module in (read, orient, prepare)
    for name, text in vars(module).items()
    if name.isupper() and isinstance(text, str)
}


def options(**more):
    """The settings of the archives as options of the command line."""
    plain = {**{f"{s}.{k}": v for s, keys in SETTINGS.items() for k, v in keys.items()}, **more}
    return [f"--set={k}={repr(v) if isinstance(v, str) else json.dumps(v)}" for k, v in plain.items()]


@pytest.fixture
def archive(tmp_path):
    for code in CODES:
        write(tmp_path / "sds", code)
    return tmp_path / "sds"


def said(invoke, tmp_path, source, *codes, command="run", **more):
    """Run; return the exit code and what the screen and both reports say."""
    folder = tmp_path / "x.xcorr"
    output = [] if command == "doctor" else ["-o", folder]
    listed = station_list(tmp_path, *(codes or CODES))
    done = invoke(command, listed, "--source", source, *output, *options(**more))
    texts = [done.output]
    if (folder / "report.json").exists():
        texts.append((folder / "report.json").read_text())
        json.loads(texts[-1])
        texts.append(html.unescape((folder / "report.html").read_text()))
    return done.exit_code, texts


def shows(texts, *words, name="XX.AAA"):
    for text in texts:
        plain = text.replace("\\\\", "\\").replace('\\"', '"')
        for word in words:
            assert word in plain
        assert name in plain
    assert len(texts) == 3
    assert max(map(len, texts[0].splitlines())) < 700


# -- reasons of channels -------------------------------------------------------------------------------------------


def spoil_constant(archive):
    write(archive, "AAA", np.full(72_000, 42, np.int32))


def spoil_too_short(archive):
    whole = trace("AAA", waveform(1))
    pieces = [whole.slice(START + k, START + k + 30) for k in range(0, 7200, 60)]
    obspy.Stream(pieces).write(str(sds_path(archive, "AAA")), format="MSEED")


def spoil_rate(archive):
    write(archive, "AAA", waveform(1, rate=1.0), rate=1.0)


def spoil_overlap(archive):
    first, second = trace("AAA", waveform(1)), trace("AAA", waveform(2))
    obspy.Stream([first, second]).write(str(sds_path(archive, "AAA")), format="MSEED")


def spoil_zeros(archive):
    write(archive, "AAA", np.zeros(72_000, np.int32))


def spoil_file(archive):
    sds_path(archive, "AAA").write_bytes(b"\0garbage" * 1000)


SPOILED = {
    "read.CONSTANT": (spoil_constant, "unusable", 0),
    "read.TOO_SHORT": (spoil_too_short, "unusable", 0),
    "read.TOO_LOW": (spoil_rate, "unusable", 0),
    "read.DISPUTED": (spoil_overlap, "unusable", 0),
    "read.NOTHING_VALID": (spoil_zeros, "unusable", 0),
}
ELSEWHERE = {
    "read.NO_FILE": "test_a_component_that_others_have",
    "prepare.TOO_SHORT": "test_epochs_that_leave_short_pieces",
    "read.NO_SAMPLES": "test_a_source_that_gives_no_samples",
    "orient.UNKNOWN": "test_a_direction_that_is_not_known",
    "orient.NOTHING_IN_COMMON": "test_channels_without_a_sample_in_common",
}


@pytest.mark.parametrize("name", SPOILED)
def test_reasons_of_channels(archive, tmp_path, invoke, name):
    spoil, kind, code = SPOILED[name]
    spoil(archive)
    found, texts = said(invoke, tmp_path, f"sds:{archive}")
    assert found == code
    fixed = max(re.split(r"\{[^}]*\}", NAMES[name]), key=len).strip()
    shows(texts, kind, fixed, name="XX.AAA.Z")


def test_every_reason_of_reading_is_shown_by_a_test():
    assert NAMES.keys() == SPOILED.keys() | ELSEWHERE.keys()
    for test in ELSEWHERE.values():
        assert test in globals()


def test_a_component_that_others_have(archive, tmp_path, invoke):
    for code in ("BBB", "CCC"):
        write(archive, code, channel="BHN")
    code, texts = said(invoke, tmp_path, f"sds:{archive}", **{"correlate.components": ["ZZ", "NN"]})
    assert code == 0
    shows(texts, "absent", read.NO_FILE, name="XX.AAA.N")


def test_a_source_that_gives_no_samples(archive, tmp_path, invoke):
    """The day before runs over by a few samples, and has no file of its own."""
    write(archive, "AAA", waveform(1)[:36_005])
    shows(said(invoke, tmp_path, f"sds:{archive}")[1], "absent", read.NO_SAMPLES, name="XX.AAA.Z")


def test_a_direction_that_is_not_known(archive, tmp_path, invoke):
    for code in CODES:
        for channel in ("BH1", "BH2"):
            write(archive, code, channel=channel)
    code, texts = said(invoke, tmp_path, f"sds:{archive}", **{"correlate.components": ["ZZ", "NN"]})
    assert code == 3
    shows(texts, "the direction of XX.AAA..BH1 is not known: set data.metadata")


def test_channels_without_a_sample_in_common(tmp_path, invoke):
    """One horizontal has the first half of an hour, the other one the second half."""
    (tmp_path / "f").mkdir()
    for code in CODES:
        for name, azimuth, first in (("BHN", 40.0, 0), ("BHE", 130.0, 18_000)):
            data = waveform(sum(map(ord, code))).astype("f4")[first : first + 18_000] if code == "AAA" else waveform(2)
            made = SACTrace.from_obspy_trace(trace(code, data.astype("f4"), channel=name, start=START + first / 10))
            made.cmpaz, made.cmpinc = azimuth, 90.0
            made.write(str(tmp_path / "f" / f"{code}{name}.sac"))
    code, texts = said(invoke, tmp_path, f"files:{tmp_path / 'f'}", **{"correlate.components": ["NN"]})
    assert code == 3
    shows(texts, orient.NOTHING_IN_COMMON, name="XX.AAA.N")


def test_epochs_that_leave_short_pieces(archive, tmp_path, invoke):
    """A new epoch every 30 s, when 20 s at both ends of a piece are tapered."""
    starts = [START + 30 * k for k in range(-1, 241)]
    epochs = [about.channel("BHZ", 0.0, -90.0, start=a, end=b) for a, b in itertools.pairwise(starts)]
    whole = (about.station(code, [about.channel("BHZ", 0.0, -90.0)]) for code in ("BBB", "CCC"))
    xml = about.stationxml(tmp_path, about.station("AAA", epochs), *whole)
    more = {"data.metadata": xml, "condition.response": "velocity"}
    code, texts = said(invoke, tmp_path, f"sds:{archive}", **more)
    assert code == 0
    shows(texts, "unusable", prepare.TOO_SHORT.format(20), name="XX.AAA.Z")


@pytest.mark.parametrize("command", ["run", "plan", "doctor"])
def test_an_epoch_without_a_response(archive, tmp_path, invoke, command):
    whole = (about.station(code, [about.channel("BHZ", 0.0, -90.0)]) for code in ("BBB", "CCC"))
    more = {"data.metadata": about.stationxml(tmp_path, *whole), "condition.response": "velocity"}
    code, texts = said(invoke, tmp_path, f"sds:{archive}", command=command, **more)
    assert code == {"run": 3, "plan": 0, "doctor": 0}[command]
    assert "1 channel(s) have no response, so that they will fail" in texts[0]
    assert "the station metadata lack XX.AAA..BHZ" in texts[0]
    if command == "run":
        shows(texts, "failed", "the station metadata lack XX.AAA..BHZ", name="XX.AAA.Z")


def test_an_element_that_fails(archive, tmp_path, invoke, monkeypatch):
    """What nobody has thought of is named by the element and the error."""

    def impossible(*_):
        raise ZeroDivisionError("of a test")

    monkeypatch.setattr("xcorr.pes.preparing.prepare.spans_of", impossible)
    code, texts = said(invoke, tmp_path, f"sds:{archive}")
    assert code == 1
    shows(texts, "failed", "ConditionStation failed: ZeroDivisionError: of a test")


def gaps(archive):
    whole = trace("AAA", waveform(1))
    pieces = [whole.slice(START + k, START + k + 400) for k in range(0, 7200, 600)]
    obspy.Stream(pieces).write(str(sds_path(archive, "AAA")), format="MSEED")


def holes(archive):
    data = waveform(1).astype(np.float32)
    data[3000::6000] = np.nan
    write(archive, "AAA", data)


def flat(archive):
    write(archive, "AAA", np.clip(waveform(1), -50, 50).astype(np.int32))


REJECTED = {
    "coverage": (gaps, {}),
    "non-finite": (holes, {"window.min_coverage": 0.5}),
    "max_over_std": (None, {"quality.max_over_std": 0.01}),
    "kurtosis": (None, {"quality.kurtosis": 0.01}),
    "sta_lta": (None, {"quality.sta_lta": 0.01, "quality.sta_s": 5.0, "quality.lta_s": 60.0}),
    "dead": (None, {"quality.dead": 100.0}),
    "clipped": (flat, {"quality.clipped": 0.001}),
    "catalogue": (None, {"quality.catalogue": "events.csv", "quality.catalogue_after_s": 9000.0}),
}


@pytest.mark.parametrize("reason", REJECTED)
def test_reasons_of_rejected_windows(archive, tmp_path, invoke, monkeypatch, reason):
    spoil, more = REJECTED[reason]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "events.csv").write_text("time,magnitude\n2024-02-29T23:59:00,8\n")
    if spoil:
        spoil(archive)
    _, texts = said(invoke, tmp_path, f"sds:{archive}", **more)
    shows(texts, "rejected", f"no window is used (6 {reason})", name="XX.AAA.Z")


def test_every_reason_of_windows_is_shown_by_a_test():
    assert {*REJECTED, "used"} == set(REASONS)


def test_damage_is_named_in_a_line(archive, tmp_path, invoke):
    spoil_file(archive)
    code, texts = said(invoke, tmp_path, f"sds:{archive}")
    assert code == 3
    shows(texts, "failed", "XX.AAA..BHZ.D.2024.061: UnknownFormat", name="XX.AAA.Z")


def test_equal_reasons_are_counted(archive, tmp_path, invoke):
    for code in CODES:
        write(archive, code, np.full(72_000, ord(code[0]), np.int32))
    code, texts = said(invoke, tmp_path, f"sds:{archive}")
    assert code == 1
    assert "unusable   XX.AAA.Z and 2 more channels, 6 chunks: constant trace" in texts[0]
    shows(texts, "constant trace")


def test_many_reasons_are_cut_short(tmp_path, invoke):
    codes = [f"S{k:02}" for k in range(30)]
    for k, code in enumerate(codes):
        write(tmp_path / "sds", code)
        sds_path(tmp_path / "sds", code).with_name(f"XX.{code}..BHZ.D.0000.{k:03}").write_bytes(b"x")
    code, texts = said(invoke, tmp_path, f"sds:{tmp_path / 'sds'}", *codes)
    assert code == 3
    assert texts[0].count("\n") < 30
    assert "and 20 more, in report.json" in texts[0]
    assert len(json.loads(texts[1])["errors"]) == 30


# -- what is there instead -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "plan", "doctor"])
def test_channels_of_other_names_are_listed(tmp_path, invoke, command):
    for code in CODES:
        for channel in ("DPZ", "DPN", "DPE"):
            write(tmp_path / "sds", code, channel=channel)
    code, texts = said(invoke, tmp_path, f"sds:{tmp_path / 'sds'}", command=command)
    assert code != 0
    assert "the source has DPE, DPN, DPZ, data.channels = BH?" in texts[0]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"normalize.method": "clip", "normalize.clip_n": 0}, "normalize.clip_n = 0 leaves only zeros"),
        ({"normalize.method": "mute", "normalize.mute_factor": 0}, "normalize.mute_factor = 0 leaves only zeros"),
        ({"stack.methods": ["selective"], "stack.selective_threshold": 2}, "stack.selective_threshold = 2 accepts no"),
        ({"quality.sta_lta": 3, "quality.sta_s": 0}, "needs 0 < sta_s < lta_s (here 600 s)"),
        ({"quality.sta_lta": 3, "quality.sta_s": 900}, "needs 0 < sta_s < lta_s (here 600 s)"),
    ],
)
def test_limits_that_leave_nothing_are_told(archive, tmp_path, invoke, more, reason):
    code, texts = said(invoke, tmp_path, f"sds:{archive}", **more)
    assert code != 0
    assert reason in texts[0]
    assert not (tmp_path / "x.xcorr").exists()


def test_such_limits_are_no_harm_where_nothing_uses_them(archive, tmp_path, invoke):
    more = {"normalize.clip_n": 0, "stack.selective_threshold": 2, "quality.sta_s": 900}
    assert said(invoke, tmp_path, f"sds:{archive}", **more)[0] == 0
    done = invoke("stack", tmp_path / "x.xcorr", "--set", 'stack.methods=["linear", "selective"]')
    assert done.exit_code == 2
    assert "stack.selective_threshold = 2 accepts no piece" in done.output


def test_locations_that_are_not_there_are_told(archive, tmp_path, invoke):
    code, texts = said(invoke, tmp_path, f"sds:{archive}", **{"data.locations": ["00", "10"]})
    assert code != 0
    assert "no location wanted; the source has --, data.locations has 00, 10" in texts[0]


@pytest.mark.parametrize("command", ["run", "plan", "doctor"])
def test_data_of_another_time_are_told(archive, tmp_path, invoke, command):
    more = {"data.start": "2020-01-01", "data.end": "2020-01-02"}
    code, texts = said(invoke, tmp_path, f"sds:{archive}", command=command, **more)
    assert code != 0
    assert "no data in the time wanted; the source has 2024-03-01 to 2024-03-02" in texts[0]


def test_a_line_that_is_absent_names_station_and_line(archive, tmp_path, invoke):
    write(archive, "CCC", channel="HNZ")
    sds_path(archive, "CCC").unlink()
    code, texts = said(invoke, tmp_path, f"sds:{archive}")
    assert code == 0
    assert "absent     XX.CCC (line 3): no channel wanted; the source has HNZ" in texts[0]


# -- before the run --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "plan", "doctor"])
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"correlate.components": ["ZZ", "RR"]}, "need coordinates, and XX.AAA, XX.BBB, XX.CCC have none"),
        ({"condition.band_hz": [0.01, 1.0]}, "correlate.max_lag_s = 30 is too short for periods up to 100 s"),
        ({"condition.band_hz": [0.002, 1.0], "correlate.max_lag_s": 550.0}, "window.length_s = 600 is too short for"),
        ({"whiten.taper_hz": 0.6}, "whiten.taper_hz = 0.6: two flanks are wider than the band from 0.1 to 1 Hz"),
    ],
)
def test_what_a_run_refuses_is_seen_before(archive, tmp_path, invoke, command, more, words):
    for code in CODES:
        for channel in ("BHN", "BHE"):
            write(archive, code, channel=channel)
    code, texts = said(invoke, tmp_path, f"sds:{archive}", command=command, **more)
    assert code != 0
    assert words in texts[0]
    assert not (tmp_path / "x.xcorr").exists()


@pytest.mark.parametrize("command", ["run", "plan", "doctor"])
def test_components_that_no_station_has(archive, tmp_path, invoke, command):
    code, texts = said(invoke, tmp_path, f"sds:{archive}", command=command, **{"correlate.components": ["ZZ", "NN"]})
    assert code == 0
    assert "no station has a channel for N (there are BHZ)" in texts[0]


@pytest.mark.parametrize("command", ["run", "plan", "doctor"])
def test_weights_of_single_channels_are_warned_of_with_rotation(tmp_path, invoke, command):
    (tmp_path / "f").mkdir()
    for k, code in enumerate(CODES):
        for channel in ("BHN", "BHE"):
            made = SACTrace.from_obspy_trace(trace(code, waveform(k).astype("f4"), channel=channel))
            made.stla, made.stlo = 40.0 + k, -100.0
            made.write(str(tmp_path / "f" / f"{code}{channel}"))
    code, texts = said(invoke, tmp_path, f"files:{tmp_path / 'f'}", command=command, **{"correlate.components": ["RR"]})
    assert code == 0
    for section in ("normalize", "whiten"):
        assert f'{section}.per = "channel" gives N and E of a station different weights' in texts[0]


def slow_archive(tmp_path):
    for code in CODES:
        write(tmp_path / "sds", code, waveform(sum(map(ord, code)), 86_400, 1.0), rate=1.0, channel="LHZ")
    return f"sds:{tmp_path / 'sds'}"


@pytest.mark.parametrize("command", ["run", "plan", "doctor"])
def test_an_empty_run_of_1_hz_data_says_why_in_one_line(tmp_path, invoke, command):
    source, listed = slow_archive(tmp_path), station_list(tmp_path, *CODES)
    output = [] if command == "doctor" else ["-o", tmp_path / "x.xcorr"]
    done = invoke(command, listed, "--source", source, *output)
    assert done.exit_code != 0
    (line,) = [line for line in done.output.splitlines() if "too low" in line]
    assert "LHZ 1 Hz: too low for condition.band_hz = [0.05, 1.0], which needs more than 2 Hz" in line
    low = ["--set=condition.rate_hz=1", "--set=condition.band_hz=[0.05,0.4]"]
    assert invoke("run", listed, "--source", source, "-o", tmp_path / "x.xcorr", *low).exit_code == 0


def test_a_run_that_produced_nothing_freezes_no_settings(tmp_path, invoke):
    """The rates are only known while reading: the first files are fast, the others, of the day wanted, are not."""
    for code in CODES:
        write(tmp_path / "sds", code, np.full(86_400, 7, np.int32), rate=1.0, channel="LHZ")
    listed, folder = station_list(tmp_path, *CODES), tmp_path / "x.xcorr"
    base = ["run", listed, "--source", f"sds:{tmp_path / 'sds'}", "-o", folder, "--set=condition.rate_hz=1"]
    (folder / "mine").mkdir(parents=True)
    for own in ("mine.h5", "mine/other.h5", "ledger.txt"):
        (folder / own).write_bytes(b"mine")
    first = invoke(*base, "--set=condition.band_hz=[0.05,0.4]", "--set=whiten.taper_hz=0.03")
    assert first.exit_code == 1
    assert "constant trace" in first.output
    slow_archive(tmp_path)
    second = invoke(*base, "--set=condition.band_hz=[0.1,0.4]", "--refresh")
    assert second.exit_code == 0, second.output
    assert invoke("verify", folder).exit_code == 0
    assert all((folder / own).read_bytes() == b"mine" for own in ("mine.h5", "mine/other.h5", "ledger.txt"))
    assert 'taper_hz = "auto"' in (folder / "campaign.toml").read_text()
    third = invoke(*base, "--set=condition.band_hz=[0.05,0.4]")
    assert third.exit_code == 1
    assert "holds a campaign with other settings" in third.output


# -- defaults that follow the band ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("band", "taper", "smooth"),
    [((0.05, 1.0), 0.01, 0.02), ((0.004, 0.032), 0.0008, 0.0016), ((2.0, 8.0), 0.4, 0.8), ((2.0, 2.5), 0.05, 0.8)],
)
def test_widths_follow_the_band(band, taper, smooth):
    from xcorr.settings.toml import build

    rate = {"rate_hz": 20.0, "band_hz": list(band)}
    how = build({"condition": rate, "window": {"length_s": 7200.0}, "correlate": {"max_lag_s": 600.0}})
    assert how.taper_hz(how.whiten_band_hz) == pytest.approx(taper)
    assert how.smooth_hz(how.whiten) == how.smooth_hz(how.correlate) == pytest.approx(smooth)


def test_the_defaults_of_the_default_band_have_the_identity_of_version_0_1_0():
    assert Settings().hash().startswith("2dbd28b3fa9c9630")
    assert Settings().identity()["whiten"]["taper_hz"] == 0.01


def test_campaigns_with_the_numbers_of_before_go_on(archive, tmp_path, invoke):
    """A campaign of a version whose default was 0.01 Hz goes on with it, although its band would now give 0.02."""
    listed, folder = station_list(tmp_path, *CODES), tmp_path / "x.xcorr"
    base = ["run", listed, "--source", f"sds:{archive}", "-o", folder, *options()]
    assert invoke(*base, "--set=whiten.taper_hz=0.01", "--set=whiten.smooth_hz=0.02").exit_code == 0
    again = invoke(*base)
    assert again.exit_code == 0, again.output
    assert "taper_hz = 0.01" in (folder / "campaign.toml").read_text()
    assert "whiten.taper_hz: 0.01 there, 0.03 now" in invoke(*base, "--set=whiten.taper_hz=0.03").output


def test_files_that_grew_or_came_late_are_told(archive, tmp_path, invoke):
    sds_path(archive, "CCC").unlink()
    write(archive, "BBB", waveform(sum(map(ord, "BBB")))[:60_000])
    assert said(invoke, tmp_path, f"sds:{archive}", "AAA", "BBB")[0] == 0
    write(archive, "BBB")
    code, texts = said(invoke, tmp_path, f"sds:{archive}", "AAA", "BBB")
    assert code == 0
    assert "files of 1 channel(s) in 2 chunk(s) are new or have changed, such as XX.BBB.Z on 2024-03-01" in texts[0]
    listed = station_list(tmp_path, "AAA", "BBB")
    again = invoke("run", listed, "--source", f"sds:{archive}", "-o", tmp_path / "x.xcorr", *options(), "--refresh")
    assert "are new or have changed" not in again.output


def test_progress_fits_any_width(monkeypatch):
    import io

    from xcorr.observers.progress import Progress

    for width in ("20", "40", "200"):
        monkeypatch.setenv("COLUMNS", width)
        out = io.StringIO()
        shown = Progress(dict.fromkeys(("ReadStation", "CorrelateStrips"), 1000), "bar", stream=out)
        shown.progress([], False)
        lines = out.getvalue().replace("\x1b[2K", "").splitlines()
        assert len(lines) == 4
        assert max(map(len, lines)) < int(width)
