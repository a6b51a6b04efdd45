"""Input that nobody means, and that costs nothing: refused before work, with a reason, and nothing is left behind."""

import io
import json
import os
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from xcorr.campaign import calibration
from xcorr.observers.progress import Progress
from xcorr.pes.reading.places import files_at
from xcorr.pes.reading.sds import Sds, SdsOptions
from xcorr.pes.reading.source import Wanted
from xcorr.settings import Settings
from xcorr.store.verify import problems

STATIONS = ROOT / "configs" / "demo" / "stations.txt"
DEEP = "[" * 5000 + "]" * 5000


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--set", "stack.methods=[]"], "must name at least one method"),
        (["--set", "correlate.block=1000000"], "must be at most 4096"),
        (["--set", f"data.chunk_s={2**63}"], "must be at most"),
        (["--set", f"data.chunk_s={2**63 - 1}"], "must be at most"),
        (["--set", "condition.rate_hz=1e9"], "must be at most"),
        (["--set", "condition.corners=100000"], "must be at most 20"),
        (["--set", "stack.pws_power=1e308"], "must be at most 100"),
        (["--set", "correlate.distance_km=[0,1e300]"], "must be at most"),
        (["--set", "run.open_chunks=99999999999999999999"], "must be at most"),
        (["-m", "threads", "-n", "1000000"], "must be at most 100000"),
        pytest.param(["--set", "condition.rate_hz=1e6"], "GB of memory for one chunk", marks=pytest.mark.slow),
        (["--set", f"data.channels={DEEP}"], "nested too deeply"),
        (["--set", f"data.channels={'[' * 300}{']' * 300}"], "must be text"),
        (["--memory", "²GB"], "is not a size"),
        (["--memory", "4 gigabytes"], "is not a size"),
        (["--source", "files:/proc/self"], "there is no file at"),
        (["--metadata", "/**"], "stands for more than 50000 files"),
        (["--metadata", "/dev/zero"], "there is no file at"),
        (["--set", "quality.catalogue=/dev/zero"], "is no file"),
    ],
)
def test_refused_before_work(tmp_path, invoke, options, said, monkeypatch):
    monkeypatch.setattr("xcorr.pes.reading.metadata.MOST_FILES", 500 if "/**" in options else 50_000)
    said = said.replace("50000", "500") if "/**" in options else said
    start = time.perf_counter()
    result = invoke("run", STATIONS, "-o", tmp_path / "x.xcorr", *options)
    assert result.exit_code == 2, result.output
    assert said in result.output
    assert len(result.output) < 2000
    assert not (tmp_path / "x.xcorr").exists()
    assert time.perf_counter() - start < 60


def test_deep_nesting_in_files(tmp_path, invoke):
    (tmp_path / "deep.toml").write_text(f"x = {DEEP}\n")
    (tmp_path / "dots.toml").write_text(".".join("a" * 3000) + " = 1\n")
    for name in ("deep.toml", "dots.toml"):
        result = invoke("run", STATIONS, "-o", tmp_path / "x.xcorr", "-c", tmp_path / name)
        assert result.exit_code == 2
        assert name in result.output
    result = invoke("workflow", "run", tmp_path / "deep.toml")
    assert result.exit_code == 2


def test_a_folder_whose_name_is_no_text(tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), b"bad\xff.xcorr")
    command = [sys.executable, "-m", "xcorr", "run", STATIONS, "-o", folder]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 1
    assert b"is not valid UTF-8; choose another folder with -o" in done.stderr
    assert not os.path.exists(folder)


def test_a_campaign_whose_settings_are_a_pipe(tmp_path, invoke):
    os.mkfifo(tmp_path / "campaign.toml")
    for command in ("status", "verify"):
        result = invoke(command, tmp_path)
        assert result.exit_code == 1
        assert "there is no campaign in" in result.output


def test_links_in_a_circle_end(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "x.xml").touch()
    (tmp_path / "a" / "b" / "y.txt").touch()
    os.mkfifo(tmp_path / "a" / "pipe.xml")
    assert files_at(f"{tmp_path}/**/*.xml") == [str(tmp_path / "a" / "x.xml")]
    assert len(files_at(f"{tmp_path}/**")) == 2
    assert files_at(str(tmp_path / "a")) == files_at(f"{tmp_path}/a/**")
    assert files_at(f"{tmp_path}/*/x.*") == [str(tmp_path / "a" / "x.xml")]


def test_a_link_that_leads_nowhere_takes_nothing_with_it(tmp_path):
    """Of a folder with a link in a circle, the other files are read, by every way to look for them."""
    folder = tmp_path / "2024" / "XX" / "AAA" / "BHZ.D"
    folder.mkdir(parents=True)
    names = [f"XX.AAA..BHZ.D.2024.00{day}" for day in (1, 2)]
    for name in names:
        (folder / name).write_bytes(b"")
    circles = [folder / "circle", folder.parent / "circle", tmp_path / "circle"]
    for circle in circles:
        circle.symlink_to(circle)
    unreadable = {}
    assert [path.rpartition("/")[2] for path in files_at(str(tmp_path), unreadable=unreadable)] == names
    assert set(unreadable) == {str(circle) for circle in circles}
    index = Sds(str(tmp_path), SdsOptions()).index(Wanted((("*", "*"),)))
    assert [c.path.rpartition("/")[2] for c in index.coverages["XX", "AAA"]] == names
    assert set(index.unreadable) == {str(circle) for circle in circles}


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "5", "null", '{"key": 3}', '{"key": {"start_s": "x"}}', "\ud83d", DEEP]
)
def test_a_damaged_calibration_cache_is_measured_again(tmp_path, monkeypatch, text):
    costs = calibration.MeasuredCosts(*[0.5] * 5)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(calibration, "calibrate", lambda *_: costs)
    cache = tmp_path / "xcorr" / "calibration.json"
    cache.parent.mkdir()
    cache.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert calibration.calibrated(Settings(), tmp_path) == costs
    monkeypatch.setattr(calibration, "calibrate", lambda *_: 1 / 0)
    assert calibration.calibrated(Settings(), tmp_path) == costs, "from the cache"
    known = json.loads(cache.read_text())
    known[next(iter(known))]["pair_s"] = "much"
    cache.write_text(json.dumps(known))
    with pytest.raises(ZeroDivisionError):
        calibration.calibrated(Settings(), tmp_path)


def test_progress_that_nobody_reads_any_more_ends_no_run(tmp_path):
    shown = Progress({}, "json", stream=io.StringIO())
    shown.stream.close()
    shown.progress([], False)
    shown.progress([], True)
    command = f"{sys.executable} -m xcorr run {STATIONS} -o x.xcorr --json 2>&1 | true"
    subprocess.run(command, shell=True, cwd=tmp_path, timeout=120)
    assert list(problems(tmp_path / "x.xcorr")) == []
