"""The report page and the logs of the workers."""

import base64
import io
import json
import re
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from archives import settings, station_list, write
from conftest import accounts_of
from PIL import Image

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.pes.items import SlotAccount
from xcorr.results.framed import diverging
from xcorr.store import report as reports


@pytest.fixture
def root(tmp_path):
    for code in ("AAA", "BBB"):
        write(tmp_path / "sds", code)
    return tmp_path / "sds"


class Page(HTMLParser):
    """What a page shows: texts, pictures, circles; and whether its tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.images, self.circles = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag == "img":
            self.images.append(Image.open(io.BytesIO(base64.b64decode(found["src"].partition(",")[2]))))
        if tag == "circle":
            self.circles.append(found)
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_says_what_the_report_says(demo):
    page, report = Page((demo / "report.html").read_text()), json.loads((demo / "report.json").read_text())
    text = "\n".join(page.texts)
    assert page.open == [], "every tag is closed"
    assert not re.search(r'(src|href)="(?!data:)', (demo / "report.html").read_text()), "it needs nothing else"
    with results.open(demo) as found:
        assert len(page.circles) == len(found.stations)
        assert len(page.images) == len(found.components) + 1
    filled = [c for c in page.circles if c["fill"] != "none"]
    assert len(filled) == report["stations_used"]
    assert f"{report['windows']['used']:,} used" in text
    assert "XX NONE" in text
    assert report["settings_hash"] in text


def test_availability_has_a_row_per_channel_and_a_column_per_chunk(demo):
    page, report = Page((demo / "report.html").read_text()), json.loads((demo / "report.json").read_text())
    names = sorted({c["slot"] for c in accounts_of(demo)})
    image = np.asarray(page.images[-1])
    assert image.shape[1] == report["chunks"]
    assert image.shape[0] % len(names) == 0
    rows = image[:: image.shape[0] // len(names)]
    for c in accounts_of(demo):
        is_green = rows[names.index(c["slot"]), c["chunk"], 1] > rows[names.index(c["slot"]), c["chunk"], 0]
        assert is_green == bool(c["windows"].get("used"))


def test_colours():
    image = diverging(np.array([[-1.0, 0.0, 1.0, np.nan]], np.float32))
    assert image[0].tolist() == [[55, 55, 255], [255, 255, 255], [255, 55, 55], [232, 232, 232]], "grey: nothing there"


@pytest.mark.parametrize("mapping", ["sequential", "threads", "processes", "mpi", "dask"])
def test_every_worker_has_a_log(root, tmp_path, mapping):
    workers = 1 if mapping == "sequential" else 2
    how = settings(root, run={"mapping": mapping, "workers": workers})
    finished = run_campaign(station_list(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr", how)
    assert finished.exit_code == 0
    logs = sorted((tmp_path / "x.xcorr" / "logs").iterdir())
    assert [p.name for p in logs] == [f"worker-{k}.log" for k in range(workers)]
    texts = [p.read_text() for p in logs]
    assert all(f"worker {k} of {workers}" in text for k, text in enumerate(texts))
    written = [line for text in texts for line in text.splitlines() if "wrote shards/" in line]
    assert len(written) == finished.report["shards"], "each in the log of its own worker, and only there"


def test_the_log_says_why_something_was_dropped_or_the_run_ended(root, tmp_path, monkeypatch):
    from xcorr.pes.preparing.prepare import ConditionStation

    def break_down(self, item):
        raise ZeroDivisionError("a scripted failure")

    monkeypatch.setattr(ConditionStation, "step", break_down)
    run_campaign(station_list(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr", settings(root))
    text = (tmp_path / "x.xcorr" / "logs" / "worker-0.log").read_text()
    assert "WARNING ConditionStation[0] dropped an item" in text
    assert "ZeroDivisionError: a scripted failure" in text
    monkeypatch.setattr("xcorr.pes.correlating.correlate.CorrelateStrips.process", break_down)
    with pytest.raises(Exception, match="scripted"):
        run_campaign(station_list(tmp_path, "AAA", "BBB"), tmp_path / "y.xcorr", settings(root))
    text = (tmp_path / "y.xcorr" / "logs" / "worker-0.log").read_text()
    assert "ERROR ElementError" in text
    assert "Traceback" in text


def test_logs_are_rotated(root, tmp_path, monkeypatch):
    monkeypatch.setattr("xcorr.observers.worker_log.FILE_BYTES", 300)
    for _ in range(6):
        run_campaign(station_list(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr", settings(root), refresh=True)
        for shard in (tmp_path / "x.xcorr" / "shards").iterdir():
            shard.unlink()
    names = sorted(p.name for p in (tmp_path / "x.xcorr" / "logs").iterdir())
    assert names == ["worker-0.log", "worker-0.log.1", "worker-0.log.2", "worker-0.log.3"]


def test_the_report_of_a_large_campaign_lists_only_channels_with_problems(root, tmp_path, monkeypatch):
    (root / "2024" / "XX" / "BBB" / "BHZ.D").mkdir(parents=True, exist_ok=True)
    (bad,) = (root / "2024" / "XX" / "AAA" / "BHZ.D").iterdir()
    bad.write_bytes(bad.read_bytes()[:-700])
    small = run_campaign(station_list(tmp_path, "AAA", "BBB"), tmp_path / "a.xcorr", settings(root)).report
    monkeypatch.setattr(reports, "FEW", 0)
    large = run_campaign(station_list(tmp_path, "AAA", "BBB"), tmp_path / "b.xcorr", settings(root)).report
    assert len(small["channel_chunk"]) == 4
    assert small["channel_chunk_left_out"] == 0
    remarkable = [row for row in small["channel_chunk"] if row["status"] != "used" or row["reason"] or row["note"]]
    assert 0 < len(remarkable) < 4
    without_files = [{k: v for k, v in row.items() if k != "files"} for row in remarkable]
    assert large["channel_chunk"] == without_files
    assert large["channel_chunk_left_out"] == 4 - len(remarkable)
    assert large["reasons"] == small["reasons"]


def test_reasons_of_a_million_accounts_take_little_time_and_room(monkeypatch):
    monkeypatch.setattr(reports, "MOST_REASONS", 50)
    reasons = reports._Reasons()
    start = time.perf_counter()
    for k in range(200_000):
        reasons.add(f"XX.S{k % 3000:04d}.Z", SlotAccount(k % 3000, 0, "absent", f"{k} files are too short"))
    for k in range(1_000):
        word = "".join(chr(97 + int(d)) for d in str(k))
        reasons.add(f"XX.S{k:04d}.Z", SlotAccount(k, 0, "failed", f"{word} is damaged"))
    assert time.perf_counter() - start < 20, "quadratic, this took minutes"
    rows = reasons.rows()
    assert len(rows) <= 52
    assert sum(g["chunks"] for g in rows) == 201_000
    (absent,) = [g for g in rows if g["kind"] == "absent"]
    assert (absent["n_channels"], len(absent["channels"])) == (3000, reports.NAMED)
    assert reports.reason_line(absent) == "XX.S0000.Z and 2999 more channels, 200000 chunks: 0 files are too short"
    assert rows[0]["reason"] == reports.OTHER_REASONS
