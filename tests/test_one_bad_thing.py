"""What archives really hold: names and headers that disagree, clocks that were not set, files that nobody may read."""

import gzip
import io
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import obspy
import pytest
from archives import SETTINGS, START, sds_path, settings, station_list, trace, waveform, write
from conftest import accounts_of
from obspy.io.sac import SACTrace

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.results.compare import differences

CODES = ("AAA", "BBB")
NOBODY = 65_534
OPTIONS = [
    f"--set={section}.{key}={value!r}".replace("(", "[").replace(")", "]")
    for section, keys in SETTINGS.items()
    for key, value in keys.items()
    if key not in ("start", "end")
]


@pytest.fixture
def archive(tmp_path):
    for code in CODES:
        write(tmp_path / "sds", code)
    return tmp_path / "sds"


def run(tmp_path, source, name="x", codes=CODES, **sections):
    how = settings("unused", **{"data": {"source": source, **sections.pop("data", {})}, **sections})
    return run_campaign(station_list(tmp_path, *codes), tmp_path / f"{name}.xcorr", how)


def account(finished, code="AAA", chunk=0):
    return next(a for a in accounts_of(finished.folder) if a["slot"] == f"XX.{code}.Z" and a["chunk"] == chunk)


def peak(finished):
    with results.open(finished.folder) as found:
        return found.get("XX.AAA", "XX.BBB").to_numpy()


def command(tmp_path, source, *more, codes=CODES, as_nobody=False):
    """Run the command line in a process of its own, perhaps as a user who may not read everything."""
    listed = station_list(tmp_path, *codes)
    line = [sys.executable, "-m", "xcorr", "run", listed, "--source", source, "-o", tmp_path / "out.xcorr"]
    line += [*OPTIONS, *more, "--set=data.start='2024-03-01'", "--set=data.end='2024-03-01T02:00:00'"]
    if as_nobody and os.getuid() == 0:
        line = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *line]
        for folder in (tmp_path, *tmp_path.parents):
            if folder == Path(tempfile.gettempdir()):
                break
            folder.chmod(0o777)
    home = {**os.environ, "HOME": str(tmp_path)}
    return subprocess.run(line, capture_output=True, text=True, env=home, cwd=tmp_path, timeout=120)


# -- names and headers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("trust", ["refuse", "header", "name"])
@pytest.mark.parametrize("name", ["XX.AAA.00.BHZ", "XX.AAA..BHZ"])
def test_a_name_with_another_location_than_the_headers(archive, tmp_path, trust, name):
    known = peak(run(tmp_path, f"sds:{archive}", "known"))
    path = sds_path(archive, "AAA")
    path.rename(path.with_name(path.name.replace("XX.AAA..BHZ", name)))
    if name == "XX.AAA..BHZ":  # the header has it
        made = trace("AAA", waveform(sum(map(ord, "AAA"))))
        made.stats.location = "00"
        made.write(str(path), format="MSEED")
    finished = run(tmp_path, f"sds:{archive}", trust, data={"sds.trust": trust})
    found = account(finished)
    if trust == "refuse":
        assert (found["status"], finished.exit_code) == ("failed", 1)
        assert "its headers say XX.AAA" in found["reason"]
        assert 'data.sds.trust = "header" or "name"' in found["reason"]
        again = run(tmp_path, f"sds:{archive}", trust, data={"sds.trust": "name"})  # not frozen, and tried again
        assert again.exit_code == 0
        return
    assert (found["status"], finished.exit_code) == ("used", 0)
    other = {"XX.AAA.00.BHZ", "XX.AAA..BHZ"} - {name}
    assert {found["seed_id"]} == ({name} if trust == "name" else other)
    assert (peak(finished) == known).all()


def write_days(root, code, shift_s, days=3, per_file=1):
    """Day files that begin some time after midnight, or hold several days each."""
    data = waveform(sum(map(ord, code)), seconds=86_400 * days, rate=2.0)
    for k in range(0, days, per_file):
        part = data[k * 172_800 : (k + per_file) * 172_800]
        made = trace(code, part, rate=2.0, start=START + k * 86_400 + shift_s)
        made.write(str(sds_path(root, code, day=61 + k)), format="MSEED")


@pytest.mark.parametrize(("shift_s", "per_file"), [(-8 * 3600, 1), (9 * 3600, 1), (0, 3), (-86_400, 1)])
@pytest.mark.parametrize("trust", ["refuse", "header"])
def test_days_that_are_not_those_of_names(tmp_path, shift_s, per_file, trust):
    """Local midnight, several days in a file, another day: named, or used for what they hold."""
    for code in CODES:
        write_days(tmp_path / "sds", code, shift_s, per_file=per_file)
    whole = {"chunk_s": 86_400, "start": "2024-03-02", "end": "2024-03-03", "sds.trust": trust}
    how = {"data": whole, "condition": {"rate_hz": 1.0, "band_hz": [0.1, 0.4]}}
    finished = run(tmp_path, f"sds:{tmp_path / 'sds'}", **how)
    found = account(finished)
    if trust == "header":
        assert (finished.exit_code, found["gap_s"]) == (0, 0.0)
        assert found["windows"] == {"used": 144}
    elif per_file == 3:  # the file of the day before has the next day, too
        assert (found["status"], finished.exit_code) == ("used", 0)
        how["data"]["start"] = "2024-03-01"
        again = run(tmp_path, f"sds:{tmp_path / 'sds'}", "first", **how)
        assert any("outside its name's 2024-03-01" in e for e in again.report["errors"])
    else:
        assert finished.exit_code in (1, 3)
        assert any("outside its name's" in e and 'data.sds.trust = "header"' in e for e in finished.report["errors"])


# -- clocks that were not set ------------------------------------------------------------------------------------


def write_sac(folder, code, **words):
    folder.mkdir(exist_ok=True)
    made = SACTrace.from_obspy_trace(trace(code, waveform(sum(map(ord, code))).astype("f4")))
    for name, value in words.items():
        setattr(made, name, value)
    path = folder / f"{code}.sac"
    made.write(str(path))
    return path


NO_DATE = dict.fromkeys(("nzyear", "nzjday", "nzhour", "nzmin", "nzsec", "nzmsec"), -12345)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (NO_DATE, "its clock was not set, or its header has no date"),
        ({"nzyear": 1970, "nzjday": 1}, "its clock was not set"),
        ({"nzyear": 2004, "nzjday": 199}, "1024 weeks before the other data"),
        ({"nzyear": 2043, "nzjday": 287}, "in the future"),
        ({"delta": 1e30}, "its sampling rate is 1e-30 Hz"),
        ({"delta": 1e4}, "its rate of 0.0001 Hz is too low"),
        ({"delta": 8.64e6}, "its sampling rate is"),
        ({"delta": 10.0}, "its rate of 0.1 Hz is too low"),
        ({"delta": 30_000.0}, "its rate of"),
    ],
)
def test_impossible_times_are_refused_and_stretch_nothing(tmp_path, words, reason):
    write_sac(tmp_path / "f", "BBB")
    write_sac(tmp_path / "f", "CCC")
    path = write_sac(tmp_path / "f", "AAA", **{k: v for k, v in words.items() if k != "delta"})
    if "delta" in words:
        content = bytearray(path.read_bytes())
        content[:4] = np.float32(words["delta"]).tobytes()
        path.write_bytes(bytes(content))
    finished = run(tmp_path, f"files:{tmp_path / 'f'}", codes=("AAA", "BBB", "CCC"), data={"start": None, "end": None})
    assert finished.report["chunks"] == 2
    assert account(finished)["status"] != "used"
    assert reason in account(finished)["reason"]
    assert any(reason in g["reason"] for g in finished.report["reasons"])
    assert finished.report["pairs_with_data"] == 1


def test_a_campaign_of_two_ages_is_no_rollover(tmp_path):
    """Data that somebody asks for by time are used, whatever their date."""
    write_sac(tmp_path / "f", "BBB")
    write_sac(tmp_path / "f", "AAA", nzyear=2004, nzjday=199)
    finished = run(tmp_path, f"files:{tmp_path / 'f'}", data={"start": "2004-07-01", "end": "2024-04-01"})
    assert {a["status"] for a in accounts_of(finished.folder)} == {"used", "absent"}
    assert finished.report["chunks"] == 4


# -- files and folders -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["files", "sds"])
@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_one_may_not_read_costs_itself(archive, tmp_path, kind, what):
    write(archive, "CCC")
    place = sds_path(archive, "AAA") if what == "file" else sds_path(archive, "AAA").parent
    place.chmod(0)
    try:
        done = command(tmp_path, f"{kind}:{archive}", codes=(*CODES, "CCC"), as_nobody=True)
    finally:
        place.chmod(0o755)
    assert done.returncode == 3, done.stderr
    assert "XX.AAA" in done.stdout
    assert "ermission" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["XX.AAA..BHZ.D.0000.001", "XX.AAA..BHZ.D.2024.400", "XX.AAA..BHZ.D.2024.000"])
def test_names_with_impossible_days_cost_themselves(archive, tmp_path, name):
    sds_path(archive, "AAA").with_name(name).write_bytes(b"x")
    finished = run(tmp_path, f"sds:{archive}")
    assert finished.exit_code == 3
    assert any(name in e and "its name has the" in e for e in finished.report["errors"])
    assert account(finished)["status"] == "used"


@pytest.mark.parametrize("folder", ["data [raw]", "a*b", "what?", "[ab]"])
@pytest.mark.parametrize("glob", ["", "/*.mseed", "/**"])
def test_names_that_look_like_patterns(tmp_path, folder, glob):
    place = tmp_path / folder
    place.mkdir()
    for code in CODES:
        trace(code, waveform(sum(map(ord, code)))).write(str(place / f"{code}.mseed"), format="MSEED")
    write_sac(place, "AAA")  # the same, read by ObsPy
    finished = run(tmp_path, f"files:{place}{glob}")
    assert (finished.exit_code, finished.report["pairs_with_data"]) == (0, 1)


def test_names_that_are_not_utf8(tmp_path):
    place = os.fsencode(tmp_path / "f") + b"\xff\xfe"
    os.mkdir(place)
    for code in CODES:
        trace(code, waveform(sum(map(ord, code)))).write(str(tmp_path / code), format="MSEED")
        os.rename(tmp_path / code, place + b"/" + code.encode() + b"\xe9.mseed")
    with open(place + b"/bad\xe9", "wb") as file:
        file.write(b"\0\1\2garbage" * 100)
    done = command(tmp_path, f"files:{tmp_path}/f*")
    assert done.returncode == 3, done.stderr
    assert "bad\\xe9" in done.stdout
    assert "1 with data" in done.stdout
    page = (tmp_path / "out.xcorr" / "report.html").read_text()
    assert "bad\\xe9" in page


def test_a_pipe_among_the_files_holds_nobody_up(archive, tmp_path):
    os.mkfifo(sds_path(archive, "AAA", day=62))
    os.mkfifo(archive / "pipe")
    for kind in ("sds", "files"):
        shutil.rmtree(tmp_path / "out.xcorr", ignore_errors=True)
        done = command(tmp_path, f"{kind}:{archive}")
        assert done.returncode == 3
        assert "a pipe, a socket or a device" in done.stdout


@pytest.mark.parametrize("kind", ["sds", "files"])
def test_a_link_to_a_disk_that_is_not_there_is_told(archive, tmp_path, kind):
    write(archive, "CCC")
    codes = (*CODES, "CCC")
    file, disk = sds_path(archive, "AAA"), tmp_path / "disk"
    file.rename(disk)
    file.symlink_to(tmp_path / "gone")
    finished = run(tmp_path, f"{kind}:{archive}", codes=codes)
    assert finished.exit_code == 3
    assert any("gone" in line or file.name in line for line in finished.report["errors"])
    file.unlink()
    file.symlink_to(disk)
    if kind == "sds":  # by its name, the link stands for a day's data: what failed is tried again
        finished = run(tmp_path, f"{kind}:{archive}", codes=codes)
        assert (finished.exit_code, account(finished)["status"]) == (0, "used")


def test_what_a_cut_file_lacks_has_failed_and_is_tried_again(archive, tmp_path):
    whole = run(tmp_path, f"sds:{archive}", name="whole")
    file = sds_path(archive, "AAA")
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 8 + 100])
    finished = run(tmp_path, f"sds:{archive}")
    assert finished.exit_code == 3
    assert account(finished, chunk=1)["status"] == "failed"
    file.write_bytes(content)
    finished = run(tmp_path, f"sds:{archive}")
    assert finished.exit_code == 0
    assert list(differences(whole.folder, finished.folder)) == []


def test_a_pickled_stream_with_masked_integers(tmp_path):
    (tmp_path / "f").mkdir()
    whole = trace("AAA", waveform(sum(map(ord, "AAA"))))
    parts = obspy.Stream([whole.slice(endtime=START + 3000), whole.slice(starttime=START + 3600)])
    (tmp_path / "f" / "a.pkl").write_bytes(pickle.dumps(parts.merge()))
    trace("BBB", waveform(1)).write(str(tmp_path / "f" / "b.mseed"), format="MSEED")
    finished = run(tmp_path, f"files:{tmp_path / 'f'}")
    assert (finished.exit_code, account(finished)["status"]) == (0, "used")
    assert account(finished)["gap_s"] == pytest.approx(599.9, abs=0.2)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("masked", [True, False])
def test_pickled_streams_of_every_protocol(tmp_path, protocol, masked):
    from xcorr.pes.reading.waveform_file import read_waveforms

    made = obspy.Stream([trace("AAA", waveform(1))])
    if masked:
        made[0].data = np.ma.masked_less(made[0].data, 0)
    (tmp_path / "a").write_bytes(pickle.dumps(made, protocol))
    (found,), wrong, _ = read_waveforms(str(tmp_path / "a"))
    assert not wrong
    good = ~np.isnan(found.data) if masked else slice(None)
    assert (found.data[good] == np.asarray(made[0].data)[good]).all()


# -- overlaps, neighbours ------------------------------------------------------------------------------------------


def test_versions_of_a_day_that_disagree_are_named(archive, tmp_path):
    first = trace("AAA", waveform(sum(map(ord, "AAA"))))
    second = first.copy()
    second.data = second.data + 1
    obspy.Stream([first, second]).write(str(sds_path(archive, "AAA")), format="MSEED")
    finished = run(tmp_path, f"sds:{archive}")
    assert account(finished)["status"] == "unusable"
    assert account(finished)["reason"].startswith("overlapping data disagree over 3600 s")
    second.trim(START + 1000, START + 1500)
    obspy.Stream([first, second]).write(str(sds_path(archive, "AAA")), format="MSEED")
    part = run(tmp_path, f"sds:{archive}", "part")
    assert account(part)["note"].startswith("overlapping data disagree over 500")


@pytest.mark.parametrize("more", [0, 1, 5])
def test_a_day_without_a_file_is_absent_after_a_day_that_runs_over(tmp_path, more):
    """The file of a day may end with some samples of the next day, which are no data of that day."""
    for code in CODES:
        data = waveform(sum(map(ord, code)), seconds=2 * 86_400, rate=2.0)
        write(tmp_path / "sds", code, data[: 172_800 + more], rate=2.0)
    path = sds_path(tmp_path / "sds", "BBB", day=62)
    trace("BBB", data[172_800:], rate=2.0, start=START + 86_400).write(str(path), format="MSEED")
    how = {
        "data": {"chunk_s": 86_400, "start": None, "end": None},
        "condition": {"rate_hz": 1.0, "band_hz": [0.1, 0.4]},
    }
    finished = run(tmp_path, f"sds:{tmp_path / 'sds'}", **how)
    assert [account(finished, "AAA", k)["status"] for k in (0, 1)] == ["used", "absent"]
    assert finished.exit_code == 0


@pytest.mark.parametrize("line", [". AAA", "-- AAA", ".AAA", ".AAA..BHZ", "--.AAA.--.BHZ"])
def test_a_blank_network(tmp_path, line):
    for code in CODES:
        write_sac(tmp_path / "f", code, knetwk=None)
    (tmp_path / "stations.txt").write_text(f"{line}\n{line.replace('AAA', 'BBB')}\n")
    how = settings("unused", data={"source": f"files:{tmp_path / 'f'}"})
    finished = run_campaign(tmp_path / "stations.txt", tmp_path / "x.xcorr", how)
    assert (finished.exit_code, finished.report["pairs_with_data"]) == (0, 1)


# -- what a tester broke -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02cobspy.core.stream\nStream\n0cnumpy.f2py.__main__\nndarray\n.",
        b"\x80\x02cobspy.core.stream\nStream\n0cnumpy.conftest\ndtype\n.",
        b"\x80\x02cobspy.core.stream\nStream\n0c_codecs\nencode\n(X\x01\x00\x00\x00aX\x08\x00\x00\x00punycodetR.",
        b"\x80\x02cobspy.core.stream\nStream\n0cnumpy\nload\n.",
    ],
)
def test_a_pickle_imports_no_other_module_and_costs_itself(tmp_path, content):
    (tmp_path / "f").mkdir()
    for code in CODES:
        trace(code, waveform(sum(map(ord, code)))).write(str(tmp_path / "f" / code), format="MSEED")
    (tmp_path / "f" / "x.pickle").write_bytes(content)
    finished = run(tmp_path, f"files:{tmp_path / 'f'}")
    assert (finished.exit_code, finished.report["pairs_with_data"]) == (3, 1)
    assert any("x.pickle" in e and "is a Python pickle, which could run code" in e for e in finished.report["errors"])
    assert not {"numpy.f2py.__main__", "numpy.conftest"} & sys.modules.keys()


@pytest.mark.parametrize("rate", [128, 120, 75])
def test_sac_files_of_several_chunks_keep_their_times(tmp_path, rate):
    """ObsPy rounds the interval to microseconds: at 128 Hz its times are wrong by 0.2 s after an hour."""
    (tmp_path / "f").mkdir()
    smooth = np.convolve(np.random.default_rng(5).standard_normal(4 * 7300 * 4), np.hanning(9), "same")
    for code, late in (("AAA", 0.0), ("BBB", 3.0)):
        t = np.arange(4 * 7200 * rate // 4) / rate + 50 - late
        made = trace(code, np.interp(t, np.arange(len(smooth)) / 4, smooth).astype("f4"), rate=rate)
        made.write(str(tmp_path / "f" / code), format="SAC")
    finished = run(tmp_path, f"files:{tmp_path / 'f'}", correlate={"max_lag_s": 10.0})
    with results.open(finished.folder) as found:
        pieces = found.get("XX.AAA", "XX.BBB", "ZZ", None)
        peaks = pieces.lag_s.to_numpy()[np.abs(pieces.to_numpy()).argmax(axis=1)]
    assert peaks.tolist() == [3.0, 3.0]


def drifting_records(data, true_times, rate=10.0, count=200):
    """A miniSEED file whose records have their own times."""
    out = io.BytesIO()
    for k in range(0, len(data), count):
        part = trace("BBB", data[k : k + count], rate=rate, start=START + float(true_times[k]))
        part.write(out, format="MSEED", reclen=512, encoding="STEIM2")
    return out.getvalue()


def lags(tmp_path, content, name="XX.BBB..BHZ.D.2024.061"):
    path = sds_path(tmp_path / "sds", "BBB")
    path.with_name(name).write_bytes(content)
    source = f"files:{tmp_path / 'sds'}" if name.endswith(".gz") else f"sds:{tmp_path / 'sds'}"
    finished = run(tmp_path, source, stack={"substack_s": 600})
    with results.open(finished.folder) as found:
        pieces = found.get("XX.AAA", "XX.BBB", "ZZ", None)
    used = pieces.n_windows.to_numpy() > 0
    return finished, pieces.lag_s.to_numpy()[np.abs(pieces.to_numpy()).argmax(axis=1)][used]


def late_field(times):
    smooth = np.convolve(np.random.default_rng(3).standard_normal(7400 * 20), np.hanning(21), "same")
    return (300 * np.interp(times + 100, np.arange(len(smooth)) / 20, smooth)).astype(np.int32)


@pytest.mark.parametrize("kind", ["there and back", "steady, packed", "doubled", "jitter of a sample"])
def test_clocks_are_followed(tmp_path, kind):
    """B hears 3 s later what A hears, and its clock is not what its header says."""
    nominal = np.arange(72_000) / 10
    true = {
        "there and back": nominal + 1.5 * np.sin(np.pi * nominal / 7200),
        "steady, packed": nominal * (1 + 3e-4),
        "doubled": nominal * (1 + 1e-4),
        "jitter of a sample": nominal,
    }[kind]
    write(tmp_path / "sds", "AAA", late_field(nominal))
    said = true + (np.repeat(np.random.default_rng(1).integers(-1, 2, 360), 200) * 0.1 if "jitter" in kind else 0)
    content = drifting_records(late_field(true - 3), said)
    if kind == "doubled":
        content = b"".join(content[k : k + 512] * 2 for k in range(0, len(content), 512))
    name = "x.mseed.gz" if "packed" in kind else "XX.BBB..BHZ.D.2024.061"
    finished, found = lags(tmp_path, gzip.compress(content) if "packed" in kind else content, name)
    assert finished.exit_code == 0
    assert len(found) >= (9 if kind == "there and back" else 12)
    assert np.abs(found - 3.0).max() <= 0.25
    noted = any(g["kind"] == "note" and "ppm" in g["reason"] for g in finished.report["reasons"])
    assert noted == ("jitter" not in kind)


@pytest.mark.parametrize("exponent", [12, 14, 18])
def test_a_record_with_a_damaged_length_hides_none_behind_it(archive, tmp_path, exponent):
    path = sds_path(archive, "BBB")
    made = trace("BBB", waveform(sum(map(ord, "BBB"))))
    made.write(str(path), format="MSEED", reclen=512, encoding="STEIM2")
    content = bytearray(path.read_bytes())
    content[20 * 512 + 54] = exponent
    path.write_bytes(bytes(content))
    finished = run(tmp_path, f"sds:{archive}")
    found = [account(finished, "BBB", k) for k in (0, 1)]
    assert finished.exit_code == 3
    assert sum(a["samples"] for a in found) > 71_000
    words = found[0]["reason"] + found[1]["reason"]
    assert "the next begins after 512" in words or "Incomplete miniSEED record" in words


@pytest.mark.parametrize("kind", ["sds", "files"])
@pytest.mark.parametrize("begin", [b"\0" * 512, b"\xff" * 64, b"some text before it " * 5])
def test_damage_at_the_begin_of_a_file_costs_itself(archive, tmp_path, kind, begin):
    path = sds_path(archive, "BBB")
    content = path.read_bytes()
    path.write_bytes(begin + (content if len(begin) == 512 else content[len(begin) :]))
    finished = run(tmp_path, f"{kind}:{archive}")
    assert account(finished, "BBB", 1)["status"] == "used"
    assert account(finished, "BBB")["samples"] > 30_000


def test_a_file_whose_records_are_all_damaged_is_named(archive, tmp_path):
    content = bytearray(sds_path(archive, "BBB").read_bytes())
    for k in range(0, len(content), 4096):
        content[k + 20 : k + 64] = b"\xee" * 44
    sds_path(archive, "CCC").write_bytes(bytes(content))
    finished = run(tmp_path, f"files:{archive}", codes=(*CODES, "CCC"))
    assert finished.exit_code == 3
    assert any("XX.CCC" in e for e in finished.report["errors"])


def test_a_file_that_also_holds_another_station_is_named(archive, tmp_path):
    own, other = trace("BBB", waveform(1)[:36_000]), trace("BB", waveform(1)[36_000:], start=START + 3600)
    obspy.Stream([own, other]).write(str(sds_path(archive, "BBB")), format="MSEED")
    finished = run(tmp_path, f"sds:{archive}")
    assert finished.exit_code == 3
    assert any('its headers also say XX.BB..BHZ; set data.sds.trust = "header"' in e for e in finished.report["errors"])
    assert account(finished, "BBB")["status"] == "used"


def test_headers_that_are_trusted_count_in_any_folder(archive, tmp_path):
    place = archive / "2024" / "XX" / "OLD" / "BHZ.D"
    place.mkdir(parents=True)
    sds_path(archive, "BBB").rename(place / "whatever")
    assert run(tmp_path, f"sds:{archive}", data={"sds.trust": "header"}).exit_code == 0


def test_many_pieces_of_one_bad_clock_refuse_nobody_else(tmp_path):
    for code in CODES:
        write_sac(tmp_path / "f", code)
    whole = trace("CCC", waveform(1).astype("f4"), start=START - 1024 * 7 * 86_400)
    for k in range(6):
        part = whole.slice(whole.stats.starttime + 1000 * k, whole.stats.starttime + 1000 * k + 900)
        part.write(str(tmp_path / "f" / f"c{k}"), format="SAC")
    finished = run(tmp_path, f"files:{tmp_path / 'f'}", codes=(*CODES, "CCC"), data={"start": None, "end": None})
    assert finished.report["pairs_with_data"] == 1
    assert account(finished)["status"] == account(finished, "BBB")["status"] == "used"
    assert "1024 weeks before" in account(finished, "CCC")["reason"]


def test_the_first_day_of_1970_in_an_archive(tmp_path):
    for code in CODES:
        write(tmp_path / "sds", code)
        old = tmp_path / "sds" / "1970" / "XX" / code / "BHZ.D"
        old.mkdir(parents=True)
        made = trace(code, waveform(1), start=obspy.UTCDateTime(1970, 1, 1))
        made.write(str(old / f"XX.{code}..BHZ.D.1970.001"), format="MSEED")
    finished = run(tmp_path, f"sds:{tmp_path / 'sds'}", data={"start": None, "end": None})
    assert (finished.exit_code, finished.report["chunks"]) == (3, 24)
    assert any("its name's day is 1970-01-01" in e for e in finished.report["errors"])
    asked = run(tmp_path, f"sds:{tmp_path / 'sds'}", "asked", data={"start": "1970-01-01", "end": "1970-01-01T02:00"})
    assert (asked.exit_code, asked.report["pairs_with_data"]) == (0, 1)


def test_spikes_of_both_signs_cost_their_window(archive, tmp_path):
    data = waveform(sum(map(ord, "BBB")))
    data[20_000:20_002] = 2**31 - 1, -(2**31) + 1
    trace("BBB", data).write(str(sds_path(archive, "BBB")), format="MSEED", encoding="INT32")
    finished = run(tmp_path, f"sds:{archive}")
    assert account(finished, "BBB")["status"] == "used"


BAD = {"empty": b"", "gzip": gzip.compress(b"x" * 10_000)[:50], "text": b"TIMESERIES XX_CCC__BHZ_D, 3\n1\n2\n"}
NOTES = {"latin-1": "Messgeräte".encode("latin-1"), "cut": b"a" * 4095 + "é".encode()}


@pytest.mark.parametrize("kind", BAD)
def test_other_bad_files_are_named(archive, tmp_path, kind):
    content = BAD[kind]
    (archive / "bad").write_bytes(content)
    finished = run(tmp_path, f"files:{archive}")
    assert finished.exit_code == 3
    (error,) = finished.report["errors"]
    words = "is empty" if not content else "is a damaged gzip file" if content[0] == 0x1F else "TIMESERIES"
    assert words in error or content.startswith(b"TIME")
    assert run(tmp_path, f"files:{archive}/2024", "good").exit_code == 0


@pytest.mark.parametrize("kind", NOTES)
def test_notes_in_any_encoding_are_ignored(archive, tmp_path, kind):
    (archive / "note.txt").write_bytes(NOTES[kind])
    assert run(tmp_path, f"files:{archive}").exit_code == 0


def test_overlaps_that_disagree_take_no_square_of_time(rng):
    from fractions import Fraction

    from xcorr.pes.items import Segment
    from xcorr.pes.reading.segments import clean

    pieces = [Segment(round(k * 9.97e9), Fraction(10), rng.standard_normal(100)) for k in range(5_000)]
    begin = time.monotonic()
    found = clean(pieces, 0, 10**18)
    assert time.monotonic() - begin < 10
    assert found.disputed_s > 0
