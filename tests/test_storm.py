"""Apache Storm, for real: several JVMs on this machine, and the protocol's Python side against a scripted peer."""

import base64
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections import Counter
from multiprocessing.connection import Listener
from pathlib import Path

import numpy as np
import pytest
import strategies
from archives import SETTINGS, station_list, weekly, write
from conftest import ROOT
from elements import chain
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as how
from hypothesis import strategies as st
from interruptions import killed_in_the_middle
from test_provenance import lineages

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.core import ElementError, WorkflowGraph, make_plan
from xcorr.core.message import WorkerDied
from xcorr.core.testing import ListSink, ListSource, ScriptedFailure, Slow
from xcorr.mappings import run
from xcorr.mappings.storm_topology import key_of, placed
from xcorr.mappings.work import pack
from xcorr.results.compare import differences
from xcorr.settings.toml import build, load

REQUIRED = ("java", "mvn")
MISSING = [program for program in REQUIRED if shutil.which(program) is None]
needs_storm = pytest.mark.skipif(bool(MISSING) and "CI" not in os.environ, reason=f"Storm needs {', '.join(MISSING)}")


@pytest.fixture(scope="module")
def cluster():
    from xcorr.mappings.storm_cluster import Cluster

    running = Cluster()
    yield running
    sessions = json.loads((running.folder / "cluster.json").read_text())["sessions"]
    running.stop()
    assert not running.folder.exists()
    deadline = time.monotonic() + 5  # for whoever inherits what has ended to take note
    while (left := _of_sessions(sessions)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def _of_sessions(sessions):
    return [p for p in Path("/proc").iterdir() if p.name.isdigit() and _session(p) in sessions]


def _session(process):
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[3])
    except OSError:
        return -1


@pytest.fixture
def storm(cluster):
    """Run a graph on the cluster; afterwards nothing of the run is left."""

    def call(graph, inputs=None, workers=2):
        return run(graph, inputs, "storm", workers, options={"nimbus": cluster.nimbus})

    before = set(Path("/dev/shm").glob("xcorr-*"))  # of other runs on this machine
    yield call
    assert tasks() == []
    assert set(Path("/dev/shm").glob("xcorr-*")) <= before


def tasks(part=""):
    """Return the processes of this machine that are components of a topology."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_text().split("\0") if process.name.isdigit() else []
        except OSError:
            continue
        if len(command) > 2 and command[1].endswith("xcorr-storm-worker") and part in command[2]:
            found.append(int(process.name))
    return found


def multiset(outcome):
    return Counter(
        (element, port, repr(item))
        for element, ports in outcome.results.items()
        for port, items in ports.items()
        for item in items
    )


# -- the protocol, without Java ------------------------------------------------------------------------------


class Peer:
    """What Storm's JVM is to a component: its pipes, and a coordinator for the task."""

    def __init__(self, folder, components, task, conf=None):
        self.key = os.urandom(8)
        self.listener = Listener(("127.0.0.1", 0), authkey=self.key)
        host, port = self.listener.address
        (folder / "pids").mkdir()
        (folder / "key").write_bytes(self.key)
        program = Path(sys.executable).with_name("xcorr-storm-worker")
        self.process = subprocess.Popen(
            [program, components[task]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        conf = {"xcorr.coordinator": f"{host}:{port}", "xcorr.key_file": str(folder / "key"), **(conf or {})}
        conf |= {"xcorr.memory": str(folder / "memory"), "xcorr.nimbus": "127.0.0.1:1", "xcorr.name": "none"}
        context = {"taskid": task, "task->component": {str(k): v for k, v in components.items()}}
        self.tell({"conf": conf, "pidDir": str(folder / "pids"), "context": context})
        assert self.hear() == {"pid": self.process.pid}
        assert (folder / "pids" / str(self.process.pid)).exists()

    def tell(self, message):
        self.process.stdin.write(json.dumps(message).encode() + b"\nend\n")
        self.process.stdin.flush()

    def hear(self):
        lines = []
        while (line := self.process.stdout.readline()) != b"end\n":
            assert line, self.process.stderr.read().decode()
            lines.append(line)
        return json.loads(b"".join(lines))

    def hear_until(self, wanted):
        """Return the messages up to and with the first that is wanted."""
        heard = [self.hear()]
        while not wanted(heard[-1]):
            heard.append(self.hear())
        return heard

    def join(self, plan, stages, worker):
        """Be the coordinator: take the task's greeting, send it the plan; return the connection."""
        connection = self.listener.accept()
        name, place, host, process = connection.recv()
        assert process == self.process.pid
        connection.send((worker, dict.fromkeys(range(plan.workers), host), stages))
        pack(plan, (), worker).send(connection)
        return connection, name, place

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(10) == 0
        for pipe in (self.process.stdout, self.process.stderr):
            pipe.close()
        self.listener.close()


def tuple_of(fields, stream, identity="1"):
    return {"id": identity, "comp": "x", "stream": stream, "task": 9, "tuple": fields}


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_heartbeats_are_answered_while_an_element_computes(tmp_path, seconds):
    plan, stages = placed(make_plan(chain(ListSource([1]), Slow(float(seconds)), ListSink())))
    names = [s.name for s in stages]
    peer = Peer(tmp_path, {4: names[0], 5: names[1], 6: names[2]}, task=5)
    connection, name, place = peer.join(plan, stages, worker=1)
    assert (name, place) == (names[1], 0)
    peer.tell(tuple_of(["begin"], "begin"))
    assert peer.hear() == {"command": "ack", "id": "1"}
    peer.hear_until(lambda m: m.get("stream") == names[2])
    for number, stage in ((0, 0), (2, 2)):  # its neighbours answer
        peer.tell(tuple_of(["0", f"pong {number}"], names[1], f"pong{stage}"))
    frame = _frame(0, 0, [(0, 0, 1, 1, 0, "input", "an item")])  # kind, sender, number, node, instance, ...
    peer.tell(tuple_of(["0", *frame], names[1], "item"))
    begin, answered = time.monotonic(), 0
    while time.monotonic() - begin < seconds - 0.5:
        peer.tell(tuple_of([], "__heartbeat", "hb"))
        before = time.monotonic()
        peer.hear_until(lambda m: m == {"command": "sync"})
        assert time.monotonic() - before < 1.0
        answered += 1
        time.sleep(0.2)
    assert answered >= 2 * seconds
    out = peer.hear_until(lambda m: m.get("stream") == names[2] and "frame" in m["tuple"][1])[-1]
    assert _items(out["tuple"][1]) == ["an item"]
    connection.send("stop")
    peer.end()


def _frame(sender, number, messages):
    """Return the words of a frame as another task would send it."""
    data = pickle.dumps((False, [(pickle.dumps(m, 5), []) for m in messages]), 5)
    return [f"frame {sender} {number} 0 1 {base64.urlsafe_b64encode(data).decode()}"]


def _items(text):
    _, bodies = pickle.loads(base64.urlsafe_b64decode(text.split(" ")[5]))
    return [m[6] for m in (pickle.loads(body) for body, _ in bodies) if m[0] == 0]


def begun_sink(folder):
    """Return the peer of a task that has begun, the second of two, its coordinator's connection, and their names."""
    plan, stages = placed(make_plan(chain(ListSource([1]), ListSink())))
    names = [s.name for s in stages]
    peer = Peer(folder, {4: names[0], 5: names[1]}, task=5)
    connection, *_ = peer.join(plan, stages, worker=1)
    peer.tell(tuple_of(["begin"], "begin"))
    return peer, connection, names


def test_frames_that_come_twice_or_in_another_order_change_nothing(tmp_path):
    peer, connection, names = begun_sink(tmp_path)
    peer.tell(tuple_of(["0", "pong 0"], names[1], "2"))
    items = [_frame(0, k, [(0, 0, k + 1, 1, 0, "input", f"item {k}")])[0] for k in range(4)]
    end = _frame(0, 4, [(1, 0, 0, 1, 0, "", None)])[0]
    for k, text in enumerate([items[1], items[0], items[0], items[3], items[1], items[2], items[3], end, end]):
        peer.tell(tuple_of(["0", text], names[1], str(10 + k)))
    while (report := connection.recv()).results is None:
        assert report.failure is None
    assert report.results == {"ListSink": {"output": [[f"item {k}" for k in range(4)]]}}
    connection.send("stop")
    peer.end()


@pytest.fixture
def hearing(tmp_path, monkeypatch):
    """The transport of task 1, and where Storm puts its tuples; a frame is lost when it is 0.05 s late."""
    import queue

    from xcorr.mappings import storm_transport

    class Channel:
        tuples = queue.SimpleQueue()

    monkeypatch.setattr(storm_transport, "LOST_S", 0.05)
    _, stages = placed(make_plan(chain(ListSource([1]), ListSink())))
    return storm_transport.StormTransport(Channel(), 1, stages, {0: "a", 1: "a"}, tmp_path), Channel.tuples


@pytest.mark.parametrize("order", [[0, 0, 1], [1, 1, 0], [0, 1, 0, 1], [1, 0, 0]])
def test_a_repeated_frame_is_dropped_and_none_is_missed_for_it(hearing, order):
    transport, tuples = hearing
    frames = [_frame(0, k, [(0, 0, k + 1, 1, 0, "input", f"item {k}")])[0] for k in range(2)]
    for k in order:
        tuples.put(["0", frames[k]])
    assert [m[6] for m in transport.receive(False)] == ["item 0", "item 1"]
    time.sleep(0.1)
    assert transport.receive(False) == [], "a repetition is nothing that others would have to be waited for"
    assert not transport.early
    assert not transport.parts


def test_a_lost_frame_is_an_error(hearing):
    transport, tuples = hearing
    tuples.put(["0", _frame(0, 1, [(1, 0, 0, 1, 0, "", None)])[0]])
    assert transport.receive(False) == []
    time.sleep(0.1)
    with pytest.raises(WorkerDied, match="lost tuples"):
        transport.receive(False)


def test_what_an_element_prints_does_not_reach_the_pipe(tmp_path):
    peer = Peer(tmp_path, {4: "driver"}, task=4)
    peer.tell({"command": "activate"})
    assert peer.hear() == {"command": "sync"}
    peer.tell({"command": "next"})
    begin = {"command": "emit", "anchors": [], "stream": "begin", "tuple": ["begin"], "need_task_ids": False}
    assert [peer.hear(), peer.hear()] == [begin, {"command": "sync"}]
    peer.end()
    code = "from xcorr.mappings.multilang import take_standard_streams as t; import os\n"
    code += "_, out = t(); print('noise'); os.write(1, b'more'); out.write(b'signal'); out.flush()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, stdin=subprocess.DEVNULL)
    assert (done.stdout, b"noise" in done.stderr, b"more" in done.stderr) == (b"signal", True, True)


def test_keys_send_to_every_task():
    for tasks_of_bolt in (1, 2, 3, 7, 64, 1000):
        places = [(31 + ord(key_of(k, tasks_of_bolt))) % tasks_of_bolt for k in range(tasks_of_bolt)]
        assert places == list(range(tasks_of_bolt))
        assert all(key_of(k, tasks_of_bolt).isprintable() for k in range(min(tasks_of_bolt, 64)))


# -- a real cluster ------------------------------------------------------------------------------------------


def graphs(descriptions, items):
    """Return one workflow of several random graphs: a topology takes seconds to begin."""
    whole = WorkflowGraph()
    for description in descriptions:
        part = strategies.build(description, items)
        for node in part.nodes:
            whole.add(node)
        for edge in part.edges:
            whole.connect(*edge)
    return whole


@needs_storm
@pytest.mark.slow
def test_relative_paths_mean_the_callers_folder(cluster, tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    for code in ("AAA", "BBB"):
        write(tmp_path / "archive", code)
    station_list(tmp_path, "AAA", "BBB")
    (tmp_path / "keys").mkdir()
    chosen = {**SETTINGS, "run": {"storm.nimbus": cluster.nimbus, "storm.keys": "keys"}}
    options = [f"--set={s}.{k}={v!r}" for s, keys in chosen.items() for k, v in keys.items()]
    done = invoke("run", "stations.txt", "--source", "sds:archive", "-m", "storm", "-n", "2", *options)
    assert done.exit_code == 0, done.output
    assert list((tmp_path / "keys").iterdir()) == []
    done = invoke("run", "stations.txt", "--source", "sds:archive", "-o", "alone.xcorr", *options)
    assert list(differences(tmp_path / "alone.xcorr", tmp_path / "stations.xcorr")) == []


@needs_storm
@pytest.mark.parametrize(
    ("count", "workers"), [pytest.param(1, 2, marks=pytest.mark.slow), pytest.param(8, 3, marks=pytest.mark.slow)]
)
def test_random_graphs_give_what_sequential_gives(storm, count, workers):
    done = []

    @seed(4)
    @how(max_examples=count, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=HealthCheck)
    @given(st.lists(strategies.layers(), min_size=4, max_size=4), st.integers(0, 60))
    def check(descriptions, items):
        assert multiset(storm(graphs(descriptions, items), workers=workers)) == multiset(
            run(graphs(descriptions, items))
        )
        done.append(items)

    check()
    assert len(done) >= count


@needs_storm
@pytest.mark.slow
def test_arrays_of_any_size_arrive_as_they_were(storm):
    rng = np.random.default_rng(1)
    items = [rng.standard_normal(n) for n in (1, 5000, 1_000_000)] * 10 + [np.asfortranarray(np.eye(300))]
    ((got,),) = (p["output"] for p in storm(chain(ListSource(items), ListSink())).results.values())
    assert [g.tobytes() for g in got] == [i.tobytes() for i in items]


@needs_storm
def test_the_demo_has_the_same_bits_and_lineage(cluster, storm, demo, tmp_path):
    configs = ROOT / "configs" / "demo"
    plain = load(configs / "xcorr.toml")
    plain["run"] = {"mapping": "storm", "workers": 2, "storm": {"nimbus": cluster.nimbus}}
    finished = run_campaign(configs / "stations.txt", tmp_path / "x.xcorr", build(plain))
    assert finished.exit_code == 0
    assert list(differences(demo, tmp_path / "x.xcorr")) == []
    assert lineages(tmp_path / "x.xcorr") == lineages(demo)
    assert sum(finished.report["workers"]["bytes_moved"].values()) > 0


@needs_storm
@pytest.mark.slow
def test_an_exception_ends_the_run_with_its_traceback(cluster, storm, tmp_path):
    with pytest.raises(ElementError, match="scripted failure at 7") as caught:
        storm(chain(ListSource(range(20)), ScriptedFailure(at=[7]), ListSink()))
    assert "Traceback" in caught.value.traceback_text
    (tmp_path / "faulty.py").write_text(
        "from xcorr.core import WorkflowGraph\nfrom xcorr.core.testing import ListSource, ScriptedFailure\n"
        "graph = WorkflowGraph()\ngraph.connect(ListSource(range(9)), 'output', ScriptedFailure(at=[5]), 'input')\n"
    )
    begin = time.monotonic()
    command = [Path(sys.executable).with_name("xcorr"), "workflow", "run", tmp_path / "faulty.py", "-m", "storm"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    (tmp_path / "xcorr" / "storm-cluster").mkdir(parents=True)
    shutil.copy(cluster.folder / "cluster.json", tmp_path / "xcorr" / "storm-cluster")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert time.monotonic() - begin < 30
    assert done.returncode == 1
    assert "ScriptedError: scripted failure at 5" in done.stderr
    assert "Traceback" in done.stderr


@needs_storm
@pytest.mark.parametrize(
    "victim",
    [pytest.param(v, marks=pytest.mark.slow) for v in ("the supervisor", "a component", "a worker JVM")],
)
def test_a_kill_costs_nothing(cluster, storm, weeks, tmp_path, victim, caplog):
    folder = tmp_path / "x.xcorr"
    how_to_run = weekly(weeks, run={"mapping": "storm", "workers": 2, "storm.nimbus": cluster.nimbus})

    def process():
        if victim == "a component":
            return tasks("CorrelateStrips")[0]
        if victim == "a worker JVM":
            return _parent(tasks("CorrelateStrips")[0])
        return next(
            p for p in json.loads((cluster.folder / "cluster.json").read_text())["sessions"] if _is_supervisor(p)
        )

    finished, stored = killed_in_the_middle(
        folder, 12, process, lambda: run_campaign(weeks / "stations.txt", folder, how_to_run)
    )
    assert finished.exit_code == 0
    assert list(differences(weeks / "whole.xcorr", folder)) == []
    assert ("going on with what is stored" in caplog.text) == (victim != "the supervisor")
    if victim != "the supervisor":
        assert finished.report["shards_kept"] >= stored


def _parent(process):
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def _is_supervisor(process):
    command = Path(f"/proc/{process}/cmdline")
    return command.exists() and b"daemon.supervisor.Supervisor" in command.read_bytes()


@needs_storm
@pytest.mark.slow
def test_kansas_week_has_the_same_bits(cluster, storm, real_data, tmp_path):
    (tmp_path / "stations.txt").write_text("KS A7K2\nKS B4Q8\nKS C9M3\nKS D2X6\n")
    plain = {
        "data": {"source": f"files:{real_data}/kansas-3c-1hz", "start": "2022-05-17", "end": "2022-05-24"},
        "condition": {"rate_hz": 1.0, "band_hz": [0.05, 0.4]},
        "correlate": {"components": "all", "block": 8},
    }
    same(tmp_path, plain, cluster)


@needs_storm
@pytest.mark.slow
def test_150_stations_have_the_same_bits(cluster, storm, tmp_path):
    program = ROOT / "benchmarks" / "synthetic.py"
    subprocess.run([sys.executable, program, tmp_path / "n150", "--stations", "150"], check=True)
    shutil.copy(tmp_path / "n150" / "stations.csv", tmp_path / "stations.txt")
    same(tmp_path, {"data": {"source": f"sds:{tmp_path}/n150/sds"}}, cluster)


def same(folder, plain, cluster):
    run_campaign(folder / "stations.txt", folder / "one.xcorr", build(plain))
    plain["run"] = {"mapping": "storm", "workers": 2, "storm": {"nimbus": cluster.nimbus}}
    finished = run_campaign(folder / "stations.txt", folder / "storm.xcorr", build(plain))
    assert finished.exit_code == 0
    assert list(differences(folder / "one.xcorr", folder / "storm.xcorr")) == []
    with results.open(folder / "storm.xcorr") as found:
        assert np.isfinite(found.gather(found.components[0])).any()


@needs_storm
@pytest.mark.slow
def test_up_status_down(tmp_path, monkeypatch, invoke):
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xcorr"
    (tmp_path / "xcorr").mkdir()
    for jars in home.glob("storm-[0-9]*"):
        (tmp_path / "xcorr" / jars.name).symlink_to(jars)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert invoke("storm", "status").exit_code == 1
    assert "Nimbus at localhost:" in invoke("storm", "up").output
    assert "1 supervisor(s), 8 free slot(s)" in invoke("storm", "status").output
    assert "ended" in invoke("storm", "down").output
    assert invoke("storm", "status").exit_code == 1
    assert "was not up" in invoke("storm", "down").output


@pytest.mark.parametrize(
    ("nimbus", "message"), [("localhost", "write host:port"), ("localhost:1", "Nimbus at localhost:1")]
)
def test_a_cluster_that_is_not_there(nimbus, message):
    from xcorr.mappings.storm_nimbus import StormError

    with pytest.raises(StormError, match=message):
        run(chain(ListSource([1]), ListSink()), mapping="storm", options={"nimbus": nimbus})
