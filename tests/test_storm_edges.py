"""What the storm mapping does at its edges, without a cluster."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from multiprocessing import AuthenticationError, Pipe
from multiprocessing.connection import Client

import pytest
from elements import chain
from test_storm import begun_sink, tuple_of

from xcorr.core import make_plan
from xcorr.core.message import Report, WorkerDied
from xcorr.core.observe import WorkerStatistics
from xcorr.core.testing import ListSink, ListSource
from xcorr.mappings import multilang, storm
from xcorr.mappings.door import Door
from xcorr.mappings.hosts import host_id
from xcorr.mappings.work import Packed

KEY = b"key of the run"
over = threading.Event()  # the silent one may go


class NoNimbus:
    """What a run asks of Nimbus at its end."""

    address = "127.0.0.1:1"
    killed = ()

    def kill(self, name):
        self.killed += (name,)


@pytest.fixture
def listener():
    with Door(("127.0.0.1", 0), KEY, backlog=8) as it:
        yield it


@pytest.fixture
def started():
    """Call in threads, which are joined at the end."""
    threads = []

    def start(call, *arguments):
        threads.append(threading.Thread(target=call, args=arguments))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(10)


def two_tasks():
    made = storm._Run(make_plan(chain(ListSource([1]), ListSink()), 2), ())
    made.nimbus = NoNimbus()
    return made


def greet(address, stage, host, process):
    connection = Client(address, authkey=KEY)
    connection.send((stage.name, 0, host, process))
    return connection


def speaks_http(address):
    with socket.create_connection(address) as stranger:
        stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
        stranger.recv(1000)


def has_another_key(address):
    with pytest.raises((AuthenticationError, OSError)):
        Client(address, authkey=b"another")


def leaves_at_once(address):
    socket.create_connection(address).close()


def keeps_silent(address):
    with socket.create_connection(address):
        over.wait(20)


def fourteen_keep_silent(address):
    strangers = [socket.create_connection(address) for _ in range(14)]
    over.wait(20)
    for stranger in strangers:
        stranger.close()


@pytest.mark.parametrize("stranger", [speaks_http, has_another_key, leaves_at_once, keeps_silent, fourteen_keep_silent])
def test_a_stranger_at_the_door_costs_nothing(listener, started, caplog, stranger):
    over.clear()
    this, begin = two_tasks(), time.monotonic()

    def be_a_task(stage):
        time.sleep(0.1)
        with greet(listener.address, stage, "elsewhere", 1) as connection:
            worker, *_ = connection.recv()
            Packed.receive(connection)
            started(stranger, listener.address)  # and once more while the tasks work
            time.sleep(0.2)
            connection.send(Report(worker, WorkerStatistics(worker, []), {}))
            assert connection.recv() == storm.STOP

    started(stranger, listener.address)
    for stage in this.stages:
        started(be_a_task, stage)
    this._accept(listener)
    assert [w.worker for w in this._gather(listener).workers] == [0, 1]
    this._end(failing=False)
    assert time.monotonic() - begin < 4  # a silent one may stay for GREETING_S
    over.set()
    silent = stranger in (keeps_silent, fourteen_keep_silent)
    assert silent or "a connection that is none of this run's workers was refused" in caplog.text


def test_a_door_that_is_closed_leaves_nobody_waiting(listener):
    before = threading.active_count()
    for _ in range(5):
        with Door(("127.0.0.1", 0), KEY, backlog=1) as door:
            socket.create_connection(door.address).close()
    assert threading.active_count() <= before + 1


def test_the_key_is_in_a_file_of_ones_own_and_not_in_the_settings_that_nimbus_shows(listener, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with storm._key_file(None) as (key, path):
        assert path.read_bytes() == key
        assert path.stat().st_mode & 0o077 == 0
        shown = json.dumps(two_tasks()._conf(listener, path))
        assert key.hex() not in shown
        assert str(path) in shown
    assert not path.exists()
    with storm._key_file(str(tmp_path)) as (_, path):  # a folder that is shared with Storm's user
        assert path.parent == tmp_path
        assert path.stat().st_mode & 0o007 == 0
    with (
        pytest.raises(storm.StormError, match="run.storm.keys: .*nowhere.* cannot be written"),
        storm._key_file("nowhere"),
    ):
        pass


def test_a_task_that_begins_again_ends_the_run(listener, started):
    this = two_tasks()
    mine, theirs = Pipe()
    this.reports = {0: mine}
    started(lambda: greet(listener.address, this.stages[0], "elsewhere", 1).close())
    with pytest.raises(WorkerDied, match="started a task again"):
        this._gather(listener)
    mine.close()
    theirs.close()


@pytest.mark.parametrize(
    ("host", "program", "code"),
    [(host_id(), storm.PROGRAM, -signal.SIGKILL), ("elsewhere", storm.PROGRAM, None), (host_id(), "other", None)],
)
def test_only_tasks_on_this_host_are_killed(listener, started, monkeypatch, host, program, code):
    """A process id of another host, or one that has been given to another program, is nothing to us."""
    monkeypatch.setattr(storm, "END_S", 0.2)
    this, calls = two_tasks(), []
    command = [sys.executable, "-c", "print(flush=True); import time; time.sleep(60)", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        started(lambda: calls.extend(greet(listener.address, s, host, process.pid) for s in this.stages))
        this._accept(listener)
        this._end(failing=False)
        if code is None:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.2)
            process.kill()
        else:
            assert process.wait(5) == code
    assert this.nimbus.killed == (this.name,)
    for connection in calls:
        connection.close()


@pytest.fixture
def sink(tmp_path):
    """A task that has begun, and has put something aside for another."""
    peer, connection, names = begun_sink(tmp_path)
    peer.hear_until(lambda m: m.get("stream") == names[0])
    (tmp_path / "memory" / "1-1").write_bytes(b"for another task")
    yield peer, connection, names
    peer.process.kill()
    for pipe in (peer.process.stdin, peer.process.stdout, peer.process.stderr, connection, peer.listener):
        pipe.close()
    peer.process.wait()


@pytest.mark.parametrize(
    ("end", "code", "left"), [("coordinator", 1, False), ("stop", 0, False), ("JVM", 0, True), ("SIGTERM", 0, True)]
)
def test_memory_goes_with_the_run_and_not_with_a_task(sink, tmp_path, end, code, left):
    peer, connection, _ = sink
    if end == "coordinator":
        connection.close()
    elif end == "stop":  # a run that fails: this one has not finished when Storm ends it
        connection.send("stop")
        time.sleep(0.3)
        peer.process.terminate()
    elif end == "JVM":
        peer.process.stdin.close()
    else:
        peer.process.terminate()
    assert peer.process.wait(10) == code
    assert (tmp_path / "memory" / "1-1").exists() == left


def test_a_jvm_that_dies_with_tuples_in_the_pipe_takes_the_task_with_it(sink):
    peer, _, names = sink
    peer.process.send_signal(signal.SIGSTOP)
    peer.tell(tuple_of(["0", "pong 0"], names[1]))
    peer.process.stdout.close()
    peer.process.stdin.close()
    peer.process.send_signal(signal.SIGCONT)
    assert peer.process.wait(5) == 0


def test_a_jvm_that_has_gone_ends_the_task_that_writes_to_it(tmp_path):
    """Whoever notices first: as an error of the task, it would not be gone on from."""
    (inward, to_task), (from_task, outward) = os.pipe(), os.pipe()
    context = {"task->component": {"1": "sink"}, "taskid": 1}
    hello = json.dumps({"conf": {}, "context": context, "pidDir": str(tmp_path)})
    os.write(to_task, hello.encode() + b"\nend\n")
    ended = []
    with os.fdopen(inward, "rb") as reading, os.fdopen(outward, "wb", buffering=0) as writing:
        channel = multilang.Channel(reading, writing)
        channel.listen(lambda: ended.append(threading.current_thread()))
        channel.emit("s", ["1"])
        os.close(from_task)
        with pytest.raises(BrokenPipeError):
            channel.emit("s", ["2"])
        assert ended == [threading.current_thread()]
        os.close(to_task)
