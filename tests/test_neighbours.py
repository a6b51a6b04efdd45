"""Other programs that use a campaign while it runs: readers of its databases, of its results, and its lock."""

import contextlib
import fcntl
import os
import subprocess
import sys

import pytest
from archives import settings, station_list, write

from xcorr import results
from xcorr.campaign.compact import compact
from xcorr.campaign.run import run_campaign
from xcorr.store import sqlite_files
from xcorr.store.ledger_reader import LedgerReader
from xcorr.store.lock import CampaignLock, Locked, holder, is_running
from xcorr.store.sqlite_files import DatabaseBusy
from xcorr.store.verify import problems

CODES = ("AAA", "BBB", "CCC")
READER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN")
database.execute("SELECT * FROM sqlite_master").fetchone()
table = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchone()[0]
database.execute(f"SELECT * FROM {table}").fetchone()
print("reading", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def made(tmp_path):
    for code in CODES:
        write(tmp_path / "sds", code)
    return tmp_path, station_list(tmp_path, *CODES)


def hours(folder, count):
    return settings(folder / "sds", data={"start": "2024-03-01", "end": f"2024-03-01T{count:02d}:00:00"})


@contextlib.contextmanager
def reader(path):
    """A program that has begun to read a database, and does not end its transaction."""
    command = [sys.executable, "-c", READER, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout.readline() == "reading\n"
        yield
        program.stdin.close()


@pytest.mark.parametrize("name", ["ledger.sqlite", "provenance/store.sqlite"])
def test_a_reader_with_an_open_transaction_ends_no_run(made, name):
    folder, stations = made
    run_campaign(stations, folder / "x.xcorr", hours(folder, 1))
    with reader(folder / "x.xcorr" / name):
        finished = run_campaign(stations, folder / "x.xcorr", hours(folder, 2))
        assert finished.report["chunks"] == 2
    assert list(problems(folder / "x.xcorr")) == []
    run_campaign(stations, folder / "x.xcorr", hours(folder, 2))
    left = sorted(p.name for p in (folder / "x.xcorr").rglob("*.sqlite*"))
    assert left == ["ledger.sqlite", "store.sqlite"], "single files, which a read-only folder can hold"


def test_a_campaign_in_a_folder_that_nobody_can_write_is_read(made, monkeypatch):
    folder, stations = made
    run_campaign(stations, folder / "x.xcorr", hours(folder, 1))
    monkeypatch.setattr(os, "access", lambda *_: False)  # tests may run as root, who can write everywhere
    with contextlib.closing(sqlite_files.open_to_read(folder / "x.xcorr" / "ledger.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM shard").fetchone() == (1,)
        assert sorted(p.name for p in (folder / "x.xcorr").glob("ledger*")) == ["ledger.sqlite"]
    assert list(problems(folder / "x.xcorr")) == []


def test_where_readers_can_stop_a_run_the_message_says_who(made, monkeypatch):
    folder, stations = made
    monkeypatch.setattr(sqlite_files, "_is_local", lambda _: False)
    monkeypatch.setattr(sqlite_files, "WAIT_S", 0.2)
    run_campaign(stations, folder / "x.xcorr", hours(folder, 1))
    said = "another program reads it .* end that program, and run again"
    with reader(folder / "x.xcorr" / "ledger.sqlite"), pytest.raises(DatabaseBusy, match=said):
        run_campaign(stations, folder / "x.xcorr", hours(folder, 2))
    finished = run_campaign(stations, folder / "x.xcorr", hours(folder, 2))
    assert finished.report["chunks"] == 2
    assert list(problems(folder / "x.xcorr")) == []


def test_the_kind_of_file_system_is_found(tmp_path):
    assert sqlite_files._is_local(tmp_path) in (True, False)
    assert sqlite_files._is_local("/dev/shm") is True
    assert sqlite_files._is_local("/proc") is False


def test_open_results_are_read_while_they_are_replaced(made):
    folder, stations = made
    run_campaign(stations, folder / "x.xcorr", hours(folder, 1))
    with results.open(folder / "x.xcorr") as found:
        stack, series = found.gather().tobytes(), found.get("XX.AAA", "XX.BBB", stack=None).to_numpy().tobytes()
        run_campaign(stations, folder / "x.xcorr", hours(folder, 2))
        assert found.gather().tobytes() == stack
        assert found.get("XX.AAA", "XX.BBB", stack=None).to_numpy().tobytes() == series
        compact(folder / "x.xcorr")
        with pytest.raises(results.ResultsError, match="open the results again if a run or xcorr compact has changed"):
            found.get("XX.AAA", "XX.BBB", stack=None)
    with results.open(folder / "x.xcorr") as found:
        assert found.get("XX.AAA", "XX.BBB", stack=None).to_numpy()[:1].tobytes() == series


@pytest.mark.parametrize("rubbish", [b"", b"5", b"null", b"[1]", b"\xff\xfe", b'{"host": 1}', b"{"])
def test_rubbish_in_a_lock_is_no_owner(made, rubbish):
    folder, stations = made
    run_campaign(stations, folder / "x.xcorr", hours(folder, 1))
    (folder / "x.xcorr" / "lock").write_bytes(rubbish)
    assert holder(folder / "x.xcorr") is None
    assert not is_running(folder / "x.xcorr")
    run_campaign(stations, folder / "x.xcorr", hours(folder, 2))


def test_a_lock_whose_file_vanished_still_holds(made):
    folder, stations = made
    run_campaign(stations, folder / "x.xcorr", hours(folder, 1))
    with CampaignLock(folder / "x.xcorr"):
        (folder / "x.xcorr" / "lock").unlink()
        assert is_running(folder / "x.xcorr")
        with pytest.raises(Locked, match="is in use by process"):
            run_campaign(stations, folder / "x.xcorr", hours(folder, 2))
    run_campaign(stations, folder / "x.xcorr", hours(folder, 2))


def test_a_lock_that_is_a_pipe_stops_nobody(made):
    folder, stations = made
    run_campaign(stations, folder / "x.xcorr", hours(folder, 1))
    (folder / "x.xcorr" / "lock").unlink()
    os.mkfifo(folder / "x.xcorr" / "lock")
    assert holder(folder / "x.xcorr") is None
    assert not is_running(folder / "x.xcorr")
    with pytest.raises(Locked, match="a lock is a plain file: remove it"):
        run_campaign(stations, folder / "x.xcorr", hours(folder, 2))


def test_where_folders_cannot_be_locked_the_file_is_enough(made, monkeypatch):
    folder, stations = made
    run_campaign(stations, folder / "x.xcorr", hours(folder, 1))
    lock = fcntl.flock

    def on_a_network(file, how):
        if os.path.isdir(os.readlink(f"/proc/self/fd/{file}")):
            raise OSError(9, "Bad file descriptor")
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", on_a_network)
    with CampaignLock(folder / "x.xcorr"), pytest.raises(Locked, match=f"in use by process {os.getpid()}"):
        run_campaign(stations, folder / "x.xcorr", hours(folder, 2))
    with contextlib.closing(LedgerReader(folder / "x.xcorr")) as ledger:
        assert len(ledger.shards()) == 1
