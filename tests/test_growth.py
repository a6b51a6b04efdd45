"""Campaigns grow: new hours and stations cost what they cost alone, and give the bits of one run over everything."""

import contextlib
import os
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
from archives import settings, station_list, waveform, write

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.campaign.stack import restack
from xcorr.pes.stacking.sums_file import SUMS
from xcorr.pes.storing.open_shards import OpenShards
from xcorr.results.compare import differences
from xcorr.store.folder import CampaignError
from xcorr.store.ledger_reader import LedgerError
from xcorr.store.verify import problems

HOURS = 12
NINE = {"components": ["ZZ", "RR", "TT", "RT"]}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Three components of four stations for twelve hours; the east component of one has a gap of two hours."""
    root = tmp_path_factory.mktemp("growing") / "sds"
    for k, code in enumerate(("AAA", "BBB", "CCC", "DDD")):
        for j, letter in enumerate("ZNE"):
            data = waveform(10 * k + j, seconds=HOURS * 3600, rate=2.0)
            if (code, letter) == ("BBB", "E"):
                data[4 * 7200 : 6 * 7200] = 0
            write(root, code, data, 2.0, f"BH{letter}")
    return root


def hours(archive, last, first=0, minutes=0, **sections):
    """The settings for some hours: hourly chunks, stacks of which sums are kept from the eighth on."""
    data = {"start": f"2024-03-01T{first:02d}:00:00", "end": f"2024-03-01T{last:02d}:{minutes:02d}:00"}
    return settings(
        archive,
        data=data,
        condition={"rate_hz": 2.0, "band_hz": [0.1, 0.5]},
        provenance={"level": "run"},
        **sections,
    )


def listed(folder, *codes):
    path = station_list(folder, *codes)
    at = {"AAA": "10,20", "BBB": "10.3,20.1", "CCC": "10.1,20.4", "DDD": "10.2,20.6"}
    head = "network,station,latitude,longitude\n"
    path.write_text(head + "".join(f"XX,{c},{at[c]}\n" for c in codes))
    return path


def grown(archive, folder, steps, **sections):
    """Run a campaign step by step; return the last run."""
    for last, codes in steps:
        finished = run_campaign(listed(folder, *codes), folder / "grown.xcorr", hours(archive, last, **sections))
    return finished


@pytest.mark.parametrize("substack_s", [None, pytest.param(1200, marks=pytest.mark.slow)])
def test_a_campaign_that_grows_has_the_bits_of_one_run(archive, tmp_path, substack_s):
    three, how = ("AAA", "BBB", "CCC"), {"correlate": NINE, "stack": {"substack_s": substack_s}}
    steps = [(2, three), (9, three), (10, three), (11, (*three, "DDD")), (HOURS, (*three, "DDD"))]
    grown(archive, tmp_path, steps, **how)
    (tmp_path / "once").mkdir()
    run_campaign(listed(tmp_path, *three), tmp_path / "once.xcorr", hours(archive, 1, **how))
    run_campaign(listed(tmp_path, *three, "DDD"), tmp_path / "once.xcorr", hours(archive, HOURS, **how))
    assert list(differences(tmp_path / "grown.xcorr", tmp_path / "once.xcorr")) == []
    assert list(problems(tmp_path / "grown.xcorr")) == []


def test_only_new_shards_are_read(archive, tmp_path, monkeypatch):
    codes = ("AAA", "BBB", "CCC")
    grown(archive, tmp_path, [(10, codes)])
    opened = []
    found = OpenShards.__getitem__
    monkeypatch.setattr(OpenShards, "__getitem__", lambda self, path: opened.append(path) or found(self, path))
    grown(archive, tmp_path, [(HOURS, codes)])
    assert {name[15:24] for name in opened} == {"T100000_0", "T110000_0"}
    opened.clear()
    before = (tmp_path / "grown.xcorr" / "xcorr.h5").stat().st_mtime_ns
    grown(archive, tmp_path, [(HOURS, codes)])
    assert opened == []
    assert (tmp_path / "grown.xcorr" / "xcorr.h5").stat().st_mtime_ns == before, "nothing is new, nothing is written"


def test_other_stacks_stay_and_are_said_to_be_behind(archive, tmp_path):
    codes = ("AAA", "BBB", "CCC")
    first = grown(archive, tmp_path, [(9, codes)], stack={"methods": ["linear", "pws"]})
    assert first.report["behind"] == []
    with results.open(tmp_path / "grown.xcorr") as found:
        old, counted = found.gather(stack="pws"), found.get("XX.AAA", "XX.BBB", stack="pws").n_windows
    more = grown(archive, tmp_path, [(11, (*codes, "DDD"))], stack={"methods": ["linear", "pws"]})
    assert more.report["behind"] == ["pws: stacked from 9 of 11 pieces"]
    with results.open(tmp_path / "grown.xcorr") as found:
        now = found.gather(stack="pws")
        assert now[:3].tobytes() == old.tobytes()
        assert np.isnan(now[3:]).all(), "pairs that it does not have yet"
        assert found.get("XX.AAA", "XX.BBB", stack="pws").n_windows == counted
        assert found.get("XX.AAA", "XX.BBB").n_windows > counted
    assert list(problems(tmp_path / "grown.xcorr")) == []
    restack(tmp_path / "grown.xcorr")
    run_campaign(listed(tmp_path, *codes), tmp_path / "once.xcorr", hours(archive, 9))
    both = hours(archive, 11, stack={"methods": ["linear", "pws"]})
    run_campaign(listed(tmp_path, *codes, "DDD"), tmp_path / "once.xcorr", both)
    assert list(differences(tmp_path / "grown.xcorr", tmp_path / "once.xcorr")) == []


def test_pairs_are_counted_whatever_the_stacks_that_are_behind_have(archive, tmp_path):
    """The stack ``acf`` comes first in the file, and lacks the pairs of the new station."""
    codes, both = ("AAA", "BBB", "CCC"), {"stack": {"methods": ["linear", "acf"]}}
    grown(archive, tmp_path, [(3, codes)], **both)
    finished = grown(archive, tmp_path, [(3, (*codes, "DDD"))], **both)
    assert finished.report["behind"][0].startswith("acf: stacked before some of the pieces were made again, or pairs")
    assert finished.report["pairs_with_data"] == 6
    assert "ZZ, linear stack: 6 of 6 pairs" in (tmp_path / "grown.xcorr" / "report.html").read_text()


def test_a_run_never_drops_stacks_that_xcorr_stack_made(archive, tmp_path):
    codes = ("AAA", "BBB", "CCC")
    grown(archive, tmp_path, [(9, codes)])
    restack(tmp_path / "grown.xcorr", ["stack.methods=['linear', 'nroot']", "stack.nroot_order=3"])
    with results.open(tmp_path / "grown.xcorr") as found:
        made = found.gather(stack="nroot")
    for last in (9, 10):
        grown(archive, tmp_path, [(last, codes)])
        with results.open(tmp_path / "grown.xcorr") as found:
            assert found.stacks == ["linear", "nroot"]
            assert found.gather(stack="nroot").tobytes() == made.tobytes()


def test_without_series_new_hours_and_stations_can_be_added(archive, tmp_path):
    lean, codes = {"stack": {"keep_series": False, "methods": ["linear", "pws"]}}, ("AAA", "BBB", "CCC")
    steps = [(1, codes), (3, codes), (10, codes), (HOURS, (*codes, "DDD"))]
    finished = grown(archive, tmp_path, steps, **lean)
    assert finished.report["behind"] == ["pws: stacked from 1 of 12 pieces"]
    assert list((tmp_path / "grown.xcorr" / "shards").iterdir()) == []
    run_campaign(listed(tmp_path, *codes), tmp_path / "once.xcorr", hours(archive, 2))
    run_campaign(listed(tmp_path, *codes, "DDD"), tmp_path / "once.xcorr", hours(archive, HOURS))
    with results.open(tmp_path / "grown.xcorr") as found, results.open(tmp_path / "once.xcorr") as expected:
        assert found.gather().tobytes() == expected.gather().tobytes()
    assert list(problems(tmp_path / "grown.xcorr")) == []


def test_without_series_earlier_hours_come_last(archive, tmp_path):
    lean, codes = {"stack": {"keep_series": False}}, ("AAA", "BBB")
    run_campaign(listed(tmp_path, *codes), tmp_path / "x.xcorr", hours(archive, 5, first=3, **lean))
    run_campaign(listed(tmp_path, *codes), tmp_path / "x.xcorr", hours(archive, 5, first=0, **lean))
    run_campaign(listed(tmp_path, *codes), tmp_path / "once.xcorr", hours(archive, 5))
    with results.open(tmp_path / "x.xcorr") as found, results.open(tmp_path / "once.xcorr") as expected:
        np.testing.assert_allclose(found.gather(), expected.gather(), rtol=1e-6, atol=1e-9)
        assert found.dataset("stacks/linear/ZZ/n_windows").tolist() == [30]


def test_without_series_and_linear_stacks_new_hours_are_in_the_sums(archive, tmp_path):
    codes, folder = ("AAA", "BBB"), tmp_path / "x.xcorr"
    only = {"stack": {"keep_series": False, "methods": ["pws"]}}
    run_campaign(listed(tmp_path, *codes), folder, hours(archive, 3, **only))
    grown_on = run_campaign(listed(tmp_path, *codes), folder, hours(archive, 5, **only))
    assert grown_on.report["behind"] == ["pws: stacked from 3 of 5 pieces"]
    run_campaign(listed(tmp_path, *codes), folder, hours(archive, 6, stack={"keep_series": False}))
    run_campaign(listed(tmp_path, *codes), tmp_path / "once.xcorr", hours(archive, 6))
    with results.open(folder) as found, results.open(tmp_path / "once.xcorr") as expected:
        assert found.stacks == ["linear", "pws"]
        assert found.gather().tobytes() == expected.gather().tobytes()


def test_without_series_and_ledger_nothing_is_begun_anew(archive, tmp_path):
    lean, codes, folder = {"stack": {"keep_series": False}}, ("AAA", "BBB"), tmp_path / "x.xcorr"
    run_campaign(listed(tmp_path, *codes), folder, hours(archive, 3, **lean))
    before = (folder / "xcorr.h5").read_bytes()
    (folder / "ledger.sqlite").unlink()
    with pytest.raises(LedgerError, match=r"ledger\.sqlite is missing, and there are no shards to restore it from"):
        run_campaign(listed(tmp_path, *codes), folder, hours(archive, 3, **lean))
    assert (folder / "xcorr.h5").read_bytes() == before


def test_sums_that_are_missing_are_named_and_made_again(archive, tmp_path):
    codes = ("AAA", "BBB", "CCC")
    grown(archive, tmp_path, [(9, codes)])
    (tmp_path / "grown.xcorr" / SUMS).unlink()
    assert list(problems(tmp_path / "grown.xcorr")) == ["sums.h5: missing"]
    grown(archive, tmp_path, [(9, codes)])
    assert list(problems(tmp_path / "grown.xcorr")) == []
    assert (tmp_path / "grown.xcorr" / SUMS).exists()


def test_stacks_of_damaged_results_are_all_made_again(archive, tmp_path):
    codes = ("AAA", "BBB", "CCC")
    grown(archive, tmp_path, [(9, codes)])
    restack(tmp_path / "grown.xcorr", ["stack.methods=['linear', 'nroot']"])
    with results.open(tmp_path / "grown.xcorr") as found:
        made = found.gather(stack="nroot")
    path = tmp_path / "grown.xcorr" / "xcorr.h5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    grown(archive, tmp_path, [(9, codes)])
    with results.open(tmp_path / "grown.xcorr") as found:
        assert found.gather(stack="nroot").tobytes() == made.tobytes()
    assert list(problems(tmp_path / "grown.xcorr")) == []


def test_without_series_and_sums_nothing_is_added_and_nothing_lost(archive, tmp_path):
    lean, codes, folder = {"stack": {"keep_series": False}}, ("AAA", "BBB"), tmp_path / "x.xcorr"
    run_campaign(listed(tmp_path, *codes), folder, hours(archive, 3, **lean))
    before, sums = (folder / "xcorr.h5").read_bytes(), (folder / SUMS).read_bytes()
    (folder / SUMS).unlink()
    with pytest.raises(CampaignError, match=r"sums\.h5, to which new data are added, is missing or damaged"):
        run_campaign(listed(tmp_path, *codes), folder, hours(archive, 5, **lean))
    assert (folder / "xcorr.h5").read_bytes() == before
    run_campaign(listed(tmp_path, *codes), folder, hours(archive, 3, **lean))  # with nothing new all is well
    (folder / SUMS).write_bytes(sums)
    run_campaign(listed(tmp_path, *codes), folder, hours(archive, 5, **lean))
    assert (folder / "xcorr.h5").read_bytes() != before


def test_without_series_what_cannot_be_recomputed_is_said(archive, tmp_path):
    lean = {"stack": {"keep_series": False}}
    run_campaign(listed(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr", hours(archive, 2, minutes=30, **lean))
    more = run_campaign(listed(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr", hours(archive, 4, **lean))
    assert any("1 shard(s) should be recomputed" in text for text in more.report["warnings"])
    assert more.report["chunks"] == 4


def test_sums_that_rot_are_made_again(archive, tmp_path):
    codes = ("AAA", "BBB", "CCC")
    grown(archive, tmp_path, [(10, codes)])
    path = tmp_path / "grown.xcorr" / SUMS
    data, status = bytearray(path.read_bytes()), path.stat()
    with h5py.File(path) as file:
        data[file["ZZ/weighted"].id.get_chunk_info(0).byte_offset + 100] ^= 4
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # nobody can see it by size and time
    assert any(line.startswith("sums.h5: damaged") for line in problems(path.parent))
    grown(archive, tmp_path, [(HOURS, codes)])
    run_campaign(listed(tmp_path, *codes), tmp_path / "once.xcorr", hours(archive, HOURS))
    assert list(differences(tmp_path / "grown.xcorr", tmp_path / "once.xcorr")) == []
    assert list(problems(path.parent)) == []


def test_a_pass_that_is_cut_between_sums_and_results_goes_on(archive, tmp_path, monkeypatch):
    codes = ("AAA", "BBB", "CCC")
    for name, keep in (("kept", True), ("lean", False)):
        folder, how = tmp_path / f"{name}.xcorr", {"stack": {"keep_series": keep, "methods": ["linear", "pws"]}}
        run_campaign(listed(tmp_path, *codes), folder, hours(archive, 9, **how))
        old = (folder / "xcorr.h5").read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr("xcorr.campaign.finish.settle_all", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                run_campaign(listed(tmp_path, *codes), folder, hours(archive, 11, **how))
        (folder / "xcorr.h5").write_bytes(old)  # as if it had not come to the second file
        finished = run_campaign(listed(tmp_path, *codes), folder, hours(archive, HOURS, **how))
        assert finished.report["behind"] == ["pws: stacked from 9 of 12 pieces"]
        assert list(problems(folder)) == []
        run_campaign(listed(tmp_path, *codes), tmp_path / f"once-{name}.xcorr", hours(archive, HOURS))
        with results.open(folder) as found, results.open(tmp_path / f"once-{name}.xcorr") as expected:
            assert found.gather().tobytes() == expected.gather().tobytes()


def program(folder, name, archive, operation):
    """The command for one step in the life of a campaign."""
    if operation[0] == "run":
        _, last, codes, mapping = operation
        listed(folder, *codes)
        options = ["--source", f"sds:{archive}", "--start", "2024-03-01", "--end", f"2024-03-01T{last:02d}:00:00"]
        plain = ["data.channels=['BH?']", "data.chunk_s=3600", "condition.rate_hz=2", "condition.band_hz=[0.1,0.5]"]
        plain += ["window.length_s=600", "window.step_s=600", "correlate.max_lag_s=30", "correlate.block=8"]
        plain += ["correlate.components=['ZZ','RT']", "stack.methods=['linear','nroot']"]
        options += [word for each in plain for word in ("--set", each)]
        words = ["run", "stations.txt", "-o", name, *options, "-m", mapping, "-n", "2"]
    else:
        words = [operation[0], name]
    return [sys.executable, "-m", "xcorr", *words]


@pytest.mark.slow
@pytest.mark.parametrize("mapping", ["sequential", "threads", "processes", "mpi", "dask"])
def test_kills_while_days_and_stations_are_added_and_shards_compacted(archive, tmp_path, mapping):
    three, four = ("AAA", "BBB", "CCC"), ("AAA", "BBB", "CCC", "DDD")
    life = [("run", 2, three), ("run", 5, three), ("compact",), ("run", 9, four), ("stack",), ("run", 11, four)]
    life += [("compact",), ("run", HOURS, four), ("stack",)]
    rng, kills = np.random.default_rng(3), 0
    for operation in life:
        whole = program(tmp_path, "whole.xcorr", archive, (*operation, "sequential"))
        assert subprocess.run(whole, cwd=tmp_path, capture_output=True).returncode == 0
    for operation in life:
        command = program(tmp_path, "killed.xcorr", archive, (*operation, mapping))
        for _ in range(3):
            with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  start_new_session=True) as running:  # fmt: skip
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.wait(float(rng.uniform(0.3, 2.0)))
                kills += running.poll() is None
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(running.pid, signal.SIGKILL)
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert kills >= 15
    assert list(differences(tmp_path / "killed.xcorr", tmp_path / "whole.xcorr")) == []
    assert list(problems(tmp_path / "killed.xcorr")) == []
    assert [p for p in (tmp_path / "killed.xcorr").rglob("*") if p.name.endswith(".part")] == []
    assert not (tmp_path / "killed.xcorr" / "aside").exists()
