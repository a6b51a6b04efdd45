"""What is shown while a run is under way, and what of it is in the report."""

import io
import json

import pytest
from conftest import ROOT

from xcorr.core.observe import InstanceStatistics, WorkerStatistics
from xcorr.observers.progress import Progress, summarize


def workers(done, seconds=10.0):
    first = [
        InstanceStatistics("Read", 0, 0, received=done, unit="windows", units=24.0 * done),
        InstanceStatistics("Write", 0, 0, received=1),
    ]
    second = [InstanceStatistics("Read", 1, 1, received=done, unit="windows", units=24.0 * done)]
    return [
        WorkerStatistics(0, first, seconds, 8.0, {"Read -> Write": (3, 5_000_000)}),
        WorkerStatistics(1, second, seconds, 5.0, {"Read -> Write": (1, 1_000_000)}),
    ]


def shown(style, *states):
    stream = io.StringIO()
    progress = Progress({"Read": 40}, style, stream)
    for done, finished in states:
        progress.progress(workers(done), finished)
    return stream.getvalue()


def test_numbers_of_all_workers_together():
    found = summarize(workers(5))
    assert found["items"] == {"Read": 10, "Write": 1}
    assert found["bytes_moved"] == {"Read -> Write": 6_000_000}
    assert found["cpu_seconds"] == {"0": 8.0, "1": 5.0}


def test_events():
    events = [json.loads(line) for line in shown("json", (5, False), (20, True)).splitlines()]
    assert [e["event"] for e in events] == ["progress", "finished"]
    assert events[0]["windows_per_s"] == 24.0
    assert events[0]["seconds_left"] == 30.0
    assert events[1]["seconds_left"] == 0.0


def test_bars_are_drawn_over_each_other():
    text = shown("bar", (5, False), (20, True))
    assert "Read               [######                  ] 10/40" in text
    assert "Read -> Write: 6.0 MB" in text
    assert "worker 0: 80%, 1: 50%" in text
    assert "\x1b[3F" in text


def test_a_line_a_minute(monkeypatch):
    clock = iter([0.0, 1.0, 30.0, 61.0, 62.0, 122.0])
    monkeypatch.setattr("xcorr.observers.progress.time.perf_counter", lambda: next(clock))
    lines = shown("line", *[(5, False)] * 4, (20, True)).splitlines()
    assert lines == ["10 s: Read 10/40; 6 MB moved; 24 windows per s, 30 seconds left"]


@pytest.mark.parametrize("mapping", ["sequential", "threads", "processes", "mpi", "dask"])
def test_a_run_ends_with_a_summary_and_events(tmp_path, invoke, mapping, capfd):
    where = ROOT / "configs" / "demo" / "stations.txt"
    result = invoke("run", where, "-o", tmp_path / "out.xcorr", "-m", mapping, "-n", 2, "--json")
    assert result.exit_code == 0
    events = [json.loads(line) for line in result.output.splitlines() if line.startswith("{")]
    assert events[-1]["event"] == "summary"
    assert events[-2]["event"] == "finished"
    assert events[-2]["items"]["ReadStation"] == 56
    assert events[-1]["pairs_with_data"] == 78
    seconds = max(events[-2]["seconds"], 1e-3)
    assert events[-2]["windows_per_s"] == pytest.approx(312 / seconds, rel=0.01), "52 slots, six windows each"
    assert events[-2]["pairs_per_s"] == pytest.approx(4 * 78 / seconds, rel=0.01), "rows that have data, of four chunks"
    report = json.loads((tmp_path / "out.xcorr" / "report.json").read_text())
    assert report["workers"]["items"]["TransformStation"] == 56
    assert len(report["workers"]["cpu_seconds"]) == (1 if mapping == "sequential" else 2)
    moved = sum(report["workers"]["bytes_moved"].values())
    assert (moved == 0) == (mapping == "sequential")


# -- published -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mapping", ["sequential", "processes"])
def test_a_run_publishes_how_far_it_has_come(tmp_path, monkeypatch, invoke, mapping):
    from xcorr.campaign.run import run_campaign
    from xcorr.observers import published
    from xcorr.settings.toml import build, load
    from xcorr.store.verify import state

    seen = []
    real = published.Published.write

    def write(self, what, **more):
        real(self, what, **more)
        seen.append(published.read_progress(self.path.parent))

    monkeypatch.setattr(published.Published, "write", write)
    plain = load(ROOT / "configs" / "demo" / "xcorr.toml")
    plain["run"] = {"mapping": mapping, "workers": 2}
    run_campaign(ROOT / "configs" / "demo" / "stations.txt", tmp_path / "x.xcorr", build(plain))
    assert [one["state"] for one in seen][-2:] == ["running", "done"]
    assert {one["phase"] for one in seen} >= {"correlating", "stacking"}
    last = [one for one in seen if one["phase"] == "correlating"][-1]
    assert last["items"]["ReadStation"] == last["expected"]["ReadStation"] == 56
    assert (last["shards"], last["shards_expected"], last["failed"]) == (4, 4, 0)
    assert last["seconds_left"] == 0
    found = state(tmp_path / "x.xcorr")
    assert found["progress"]["state"] == "done"
    assert (found["shards"], found["failed"]) == (4, 0)


def test_how_a_run_ended_is_published(tmp_path, monkeypatch):
    from xcorr.campaign import run as module
    from xcorr.observers.published import read_progress
    from xcorr.settings.toml import build, load
    from xcorr.store.verify import running

    settings = build(load(ROOT / "configs" / "demo" / "xcorr.toml"))
    monkeypatch.setattr(module, "make_report", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        module.run_campaign(ROOT / "configs" / "demo" / "stations.txt", tmp_path / "x.xcorr", settings)
    assert read_progress(tmp_path / "x.xcorr")["state"] == "ZeroDivisionError: division by zero"
    text = (tmp_path / "x.xcorr" / "progress.json").read_text()
    (tmp_path / "x.xcorr" / "progress.json").write_text(text.replace("ZeroDivisionError: division by zero", "running"))
    assert running(tmp_path / "x.xcorr")["progress"]["state"] == "stopped", "killed: it could not say so"
    (tmp_path / "x.xcorr" / "progress.json").write_text("{")
    assert read_progress(tmp_path / "x.xcorr") == {}


def test_progress_that_cannot_be_written_costs_no_run(tmp_path, caplog):
    from xcorr.campaign.run import run_campaign
    from xcorr.settings.toml import build, load

    folder = tmp_path / "x.xcorr"
    (folder / "progress.json").mkdir(parents=True)
    settings = build(load(ROOT / "configs" / "demo" / "xcorr.toml"))
    assert run_campaign(ROOT / "configs" / "demo" / "stations.txt", folder, settings).exit_code == 0
    warnings = [r for r in caplog.records if "xcorr status lacks it" in r.message]
    assert len(warnings) == 1
    assert not list(folder.glob(".*.part"))
