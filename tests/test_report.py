"""The report page and the logs of the workers."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from archives import settings, station_list, write
from conftest import accounts_of
from PIL import Image

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.results.report_page import _diverging


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
    image = _diverging(np.array([[-1.0, 0.0, 1.0, np.nan]], np.float32))
    assert image[0].tolist() == [[55, 55, 255], [255, 255, 255], [255, 55, 55], [255, 255, 255]]


@pytest.mark.parametrize("mapping", ["sequential", "threads", "processes", "mpi"])
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
