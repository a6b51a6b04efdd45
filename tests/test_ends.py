"""Odd ends: what an element may do besides failing, and who may ask a run to end."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

MAPPINGS = ("sequential", "threads", "processes", "mpi", "dask")
PROGRAM = """
import io, multiprocessing, os, subprocess, sys
import numpy as np
from xcorr.core import IterativePE, WorkflowGraph
from xcorr.core.testing import ListSink, ListSource


class LoadRaises:
    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        return fail, (self.error,)


class Shy:
    def __repr__(self):
        raise SystemExit("repr")


def fail(error):
    raise error


def double(x):
    return 2 * x


class Odd(IterativePE):
    worker = 0

    def _process(self, item):
        way = os.environ["WAY"]
        if way == "random":
            return float(np.random.rand())
        if item != 3:
            return item
        if way == "unreadable":
            return LoadRaises(SystemExit(0))
        if way == "closed":
            sys.stdout.close()
            raise ValueError("told to fail")
        if way == "fork":
            os.fork()
        if way == "detached":
            subprocess.Popen(["sleep", "40"], start_new_session=True)
        if way == "replaced":
            sys.stdout = io.StringIO()
        if way == "shy":
            return Shy()
        if way == "pool":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                return pool.map(double, [item])[0]
        if way == "huge":
            return 10**5000
        return item


class Everywhere(Odd):
    worker = None
    stateless = True


class Pass(IterativePE):
    worker = 1

    def _process(self, item):
        if os.environ["WAY"] == "shy" and type(item) is Shy:
            raise ValueError("cannot take this")
        return item


graph = WorkflowGraph()
graph.connect(ListSource(list(range(6))), "output", Odd(), "input")
passed = WorkflowGraph()
odd = Odd()
passed.connect(ListSource(list(range(6))), "output", odd, "input")
passed.connect(odd, "output", Pass(), "input")
everywhere = WorkflowGraph()
everywhere.connect(ListSource(list(range(16))), "output", Everywhere(), "input")
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    path = tmp_path_factory.mktemp("odd") / "odd_elements.py"
    path.write_text(PROGRAM)
    return path


def call(odd, way, mapping, graph="graph", timeout=30):
    command = [sys.executable, "-m", "xcorr", "workflow", "run", f"{odd}:{graph}", "-m", mapping, "-n", "2"]
    begun = time.monotonic()
    with (odd.parent / "out").open("w+") as out, (odd.parent / "err").open("w+") as err:  # pipes would wait for others
        done = subprocess.run(command, env={**os.environ, "WAY": way}, stdout=out, stderr=err, timeout=timeout)
        seconds = time.monotonic() - begun
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, done.returncode, out.read(), err.read()), seconds


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_random_numbers_are_independent(odd, mapping):
    """A server that has imported numpy.random has seeded it: workers forked from it would all draw the same."""
    script = odd.with_name(f"draw_{mapping}.py")
    script.write_text(
        "import odd_elements as o\nfrom xcorr.mappings import run\n"
        f"if __name__ == '__main__':\n    found = run(o.everywhere, mapping={mapping!r}, workers=2)\n"
        "    numbers = found.results['Everywhere']['output']\n    assert len(set(numbers)) == 16, numbers\n"
    )
    subprocess.run([sys.executable, script], env={**os.environ, "WAY": "random"}, check=True, timeout=60)


@pytest.mark.parametrize("mapping", ["processes", "mpi", "dask"])
def test_results_that_cannot_be_read_are_an_error(odd, mapping):
    done, seconds = call(odd, "unreadable", mapping)
    assert done.returncode == 1
    assert "cannot be read here: SystemExit" in done.stderr
    assert seconds < 10


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_a_failure_is_told_without_standard_output(odd, mapping):
    done, seconds = call(odd, "closed", mapping)
    assert done.returncode != 0
    assert "told to fail" in done.stderr
    assert seconds < 10


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_a_fork_that_comes_back_does_nothing_twice(odd, mapping):
    done, seconds = call(odd, "fork", mapping, "passed")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Pass.output: [0, 1, 2, 3, 4, 5]\n"
    assert "'Odd' has forked, and its child came back into the run" in done.stderr
    assert seconds < 10


@pytest.mark.parametrize("mapping", [pytest.param(m, marks=pytest.mark.slow) if m == "mpi" else m for m in MAPPINGS])
def test_nobody_waits_for_a_detached_process(odd, mapping):
    done, seconds = call(odd, "detached", mapping)
    subprocess.run(["pkill", "-f", "^sleep 40$"], check=False)
    assert done.returncode == 0, done.stderr
    assert "Odd.output: [0, 1, 2, 3, 4, 5]" in done.stdout
    assert seconds < 10


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_results_are_printed_whatever_standard_output_is_meanwhile(odd, mapping):
    done, _ = call(odd, "replaced", mapping)
    assert done.stdout == "Odd.output: [0, 1, 2, 3, 4, 5]\n"


@pytest.mark.parametrize("mapping", ["sequential", "threads"])
def test_an_item_that_cannot_be_shown_hides_no_failure(odd, mapping):
    done, _ = call(odd, "shy", mapping, "passed")
    assert done.returncode == 1
    assert "element 'Pass'" in done.stderr
    assert "cannot take this" in done.stderr


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_an_element_may_have_a_pool(odd, mapping):
    done, _ = call(odd, "pool", mapping)
    assert done.stdout == "Odd.output: [0, 1, 2, 6, 4, 5]\n", done.stderr


def test_a_result_that_has_no_text(odd):
    done, _ = call(odd, "huge", "sequential")
    assert done.returncode == 0
    assert "6 item(s), which cannot be shown: ValueError" in done.stdout


@pytest.mark.parametrize("text", [b"\xff\xfe", b"[" * 100_000])
def test_input_that_is_no_json(odd, tmp_path, text):
    (tmp_path / "input.json").write_bytes(text)
    command = [sys.executable, "-m", "xcorr", "workflow", "run", f"{odd}:graph", "-f", tmp_path / "input.json"]
    done = subprocess.run(command, env={**os.environ, "WAY": ""}, capture_output=True, text=True)
    assert done.returncode == 2
    assert "the input is not" in done.stderr
    assert "Traceback" not in done.stderr


def campaign(tmp_path, mapping):
    where = ROOT / "configs" / "demo" / "stations.txt"
    command = [sys.executable, "-m", "xcorr", "run", where, "-o", tmp_path / "x.xcorr"]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "short")}
    (tmp_path / "short").mkdir(exist_ok=True)
    return subprocess.Popen(
        [*map(str, command), "-m", mapping, "-n", "2"], env=environment, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def told_to_end(tmp_path, mapping, send):
    """Return the exit code and the words of a run that was told to end before it had ended by itself."""
    rng = random.Random(0)
    for _ in range(10):
        shutil.rmtree(tmp_path / "x.xcorr", ignore_errors=True)
        process = campaign(tmp_path, mapping)
        time.sleep(rng.uniform(0.3, 1.0))
        send(process)
        _, said = process.communicate(timeout=20)
        assert "Traceback" not in said
        assert "Fatal" not in said
        assert "before it had finished" not in said
        assert list((tmp_path / "short").iterdir()) == []
        if process.returncode:
            return process.returncode, said
    raise AssertionError("every run came to its end")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
@pytest.mark.parametrize("mapping", ["sequential", "threads", "processes"])
def test_a_signal_to_all_processes_is_one_to_the_run(tmp_path, mapping, number):
    """A terminal sends Ctrl-C to all of them; ``timeout`` and batch systems send SIGTERM."""
    for _ in range(2):
        code, said = told_to_end(tmp_path, mapping, lambda process: os.killpg(process.pid, number))
        assert code == 128 + number, said
        assert "interrupted" in said


@pytest.mark.parametrize(
    ("mapping", "number"), [("sequential", signal.SIGHUP), *((mapping, signal.SIGTERM) for mapping in MAPPINGS)]
)
def test_a_run_that_is_told_to_end_says_what_is_kept(tmp_path, mapping, number):
    code, said = told_to_end(tmp_path, mapping, lambda process: process.send_signal(number))
    assert code == 128 + number, said
    assert "interrupted" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_after_the_work_changes_nothing(number):
    """It comes while Python ends, when the system's own handling of signals is back: the process would be killed."""
    code = "import sys; from xcorr.__main__ import main; sys.argv = ['xcorr', '--version']; main()"
    for k in range(12):
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline().startswith("xcorr, version")
            time.sleep(0.002 * k)
            process.send_signal(number)
            assert (process.wait(60), process.stderr.read()) == (0, "")


def test_what_a_lock_points_to_is_not_written(tmp_path, demo):
    from xcorr.store.lock import CampaignLock, Locked

    (tmp_path / "precious").write_text("mine")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(Locked, match="a lock is a plain file: remove it"), CampaignLock(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "mine"
