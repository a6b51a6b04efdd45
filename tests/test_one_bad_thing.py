"""What archives really hold: names and headers that disagree, clocks that were not set, files that nobody may read."""

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import obspy
import pytest
from archives import SETTINGS, START, sds_path, settings, station_list, trace, waveform, write
from conftest import accounts_of
from obspy.io.sac import SACTrace

from xcorr import results
from xcorr.campaign.run import run_campaign

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
        ({"nzyear": 2004, "nzjday": 199}, "1024 weeks from the other data"),
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
        assert command(tmp_path, f"{kind}:{archive}").returncode == 0


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
