"""An element that does something awful: on every mapping the run ends soon, says which it was, and leaves nothing."""

import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import pytest
from conftest import ROOT
from processes import marked, nobodys
from test_storm import tasks

LIMIT_S, STORM_LIMIT_S = 5.0, 30.0
MAPPINGS = [("sequential", 1), *((m, n) for m in ("threads", "processes", "mpi", "dask") for n in (1, 2, 3, 5))]
PHASES = ("init", "preprocess", "process", "postprocess")
RAISED = (
    "SystemExit SystemExit-text KeyboardInterrupt GeneratorExit CancelledError StopIteration MemoryError Own Nasty"
).split()
ENDS = "exit-0 exit-3 sys-exit SIGSEGV SIGABRT SIGKILL SIGTERM recursion".split()
ITEMS = "stubborn trap generator gigabyte".split()
LEFT = "thread fork program".split()
WAYS = [
    *((way, when) for way in RAISED for when in PHASES),
    *((way, "process") for way in (*ENDS, *ITEMS, *LEFT, "printed")),
]
HARMLESS = {"gigabyte", *LEFT}  # all outputs are there
BY_REFERENCE = {"stubborn", "trap", "generator"}  # items that only stay where they are
OWN_PROCESS = {"SIGKILL", "SIGTERM"}  # which end the process they are sent to, and nobody can say more


@pytest.fixture
def temporary():
    """A folder of its own for temporary files, with a short name."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def run(tmp_path, temporary, mapping, workers, way, when):
    mark = uuid.uuid4().hex
    moment = tmp_path / "moment"
    environment = {
        **os.environ,
        "AWFUL_WAY": way,
        "AWFUL_WHEN": when,
        "AWFUL_TIME": str(moment),
        "XCORR_TEST_MARK": mark,
        "TMPDIR": str(temporary),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "tests"), os.environ.get("PYTHONPATH")])),
    }
    shm = set(os.listdir("/dev/shm"))
    command = ["xcorr", "workflow", "run", str(ROOT / "tests" / "awful_program.py:graph")]
    program = [str(Path(sys.executable).with_name(command[0])), *command[1:], "-m", mapping, "-n", str(workers)]
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        process = subprocess.Popen(program, env=environment, stdout=out, stderr=err, cwd=tmp_path)
        code = process.wait(60)
    ended = time.time()
    text = (tmp_path / "err").read_text()
    assert ended - float(moment.read_text()) < (STORM_LIMIT_S if mapping == "storm" else LIMIT_S), text
    while marked(mark) and time.time() < ended + 1.0:
        time.sleep(0.05)
    assert not marked(mark), "processes are left"
    new = set(os.listdir("/dev/shm")) - shm  # other tests, beside this one, have something there too
    while nobodys(new) and time.time() < ended + 2.0:
        time.sleep(0.05)
    assert not nobodys(new)
    assert not list(temporary.iterdir())
    return code, text, (tmp_path / "out").read_text()


def check(tmp_path, temporary, mapping, workers, way, when):
    code, text, output = run(tmp_path, temporary, mapping, workers, way, when)
    here = mapping in ("sequential", "threads")
    if way in HARMLESS or (way in BY_REFERENCE and (here or workers == 1)):
        assert "Last.output: [6]" in output
        assert (code == 0) == (way != "thread" or mapping != "sequential"), text
        if way in LEFT and (way, mapping) != ("thread", "threads"):  # what a daemon thread starts is one
            assert f"elements have left {'threads' if way == 'thread' else 'processes'} running" in text
        return
    assert code != 0, text
    assert "Last.output" not in output
    if not (here and way in OWN_PROCESS):
        names = ("Last",) if way == "trap" else ("Awful", "awful_program.py")  # it falls shut where it is unpickled
        assert any(name in text for name in names), text


@pytest.mark.parametrize(
    ("mapping", "workers", "way", "when"),
    [
        ("sequential", 1, "SystemExit", "process"),
        ("sequential", 1, "exit-0", "process"),
        ("threads", 2, "KeyboardInterrupt", "preprocess"),
        ("threads", 2, "fork", "process"),
        ("processes", 2, "exit-0", "process"),
        ("processes", 2, "fork", "process"),
        ("mpi", 2, "SystemExit", "postprocess"),
        ("mpi", 2, "exit-0", "process"),
        ("dask", 2, "SystemExit", "postprocess"),
        ("dask", 2, "fork", "process"),
    ],
)
def test_some_awful_ways(tmp_path, temporary, mapping, workers, way, when):
    check(tmp_path, temporary, mapping, workers, way, when)


@pytest.fixture(scope="module")
def cluster():
    """A Storm cluster that every run finds."""
    from xcorr.mappings import storm_cluster

    already = storm_cluster.status()
    storm_cluster.up()
    yield
    if already is None:
        storm_cluster.down()


@pytest.mark.slow
@pytest.mark.parametrize(("way", "when"), WAYS)
def test_every_awful_way_on_storm(cluster, tmp_path, temporary, way, when):
    check(tmp_path, temporary, "storm", 2, way, when)
    until = time.time() + 10
    while (left := tasks()) and time.time() < until:
        time.sleep(0.1)
    assert left == []


@pytest.mark.slow
@pytest.mark.parametrize(("mapping", "workers"), MAPPINGS)
@pytest.mark.parametrize(("way", "when"), WAYS)
def test_every_awful_way(tmp_path, temporary, mapping, workers, way, when):
    check(tmp_path, temporary, mapping, workers, way, when)
