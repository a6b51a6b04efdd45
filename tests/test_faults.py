"""Faults on every mapping: the run ends within seconds, says why, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from conftest import ROOT
from processes import marked, nobodys

ALL = ("sequential", "threads", "processes", "mpi", "dask")
OTHER_PROCESSES = ("processes", "mpi", "dask")
LIMIT_S = 5.0


class Program:
    """A fault program under way, marked so that all its processes can be found."""

    def __init__(self, folder, *arguments):
        self.folder, self.mark = folder, uuid.uuid4().hex
        environment = {**os.environ, "XCORR_TEST_MARK": self.mark, "PYTHONPATH": str(ROOT / "tests")}
        self.shm = set(os.listdir("/dev/shm"))
        with (folder / "stderr").open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "tests" / "fault_program.py"), *arguments],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def family(self):
        """The processes that carry the mark."""
        return marked(self.mark)

    def wait_for_workers(self, count):
        self.process.stdout.readline()
        until = time.time() + 20
        while len(self.family()) < count and time.time() < until:
            time.sleep(0.05)
        time.sleep(1.0)
        assert self.process.poll() is None, (self.folder / "stderr").read_text()

    def end(self, fault_time=None):
        """Wait for the end, check that nothing is left; return exit code and error text."""
        code = self.process.wait(40)
        ended = time.time()
        noted = self.folder / "fault.time"
        fault_time = fault_time or float(noted.read_text())
        assert ended - fault_time < LIMIT_S
        while self.family() and time.time() < fault_time + LIMIT_S:
            time.sleep(0.05)
        assert not self.family(), "processes are left"
        assert not nobodys(set(os.listdir("/dev/shm")) - self.shm)
        with self.process.stdout as output:
            assert "finished" not in output.read()
        return code, (self.folder / "stderr").read_text()


@pytest.mark.parametrize("mapping", ALL)
@pytest.mark.parametrize("fault", ["preprocess", "process", "postprocess", "source", "sink"])
def test_an_exception_ends_the_run_with_its_traceback(tmp_path, mapping, fault):
    code, text = Program(tmp_path, mapping, fault).end()
    assert code == 1
    assert "ElementError" in text
    assert f"ValueError: told to fail in {'a ' if fault in ('source', 'sink') else ''}{fault}" in text
    assert "raise ValueError" in text or "fault_program.py" in text


@pytest.mark.parametrize("mapping", OTHER_PROCESSES)
def test_a_killed_worker_ends_the_run(tmp_path, mapping):
    code, text = Program(tmp_path, mapping, "kill-worker").end()
    assert code == 1
    assert "WorkerDied" in text
    assert "SIGKILL" in text or "before it had finished" in text


@pytest.mark.parametrize("mapping", OTHER_PROCESSES)
def test_a_worker_killed_from_outside_ends_the_run(tmp_path, mapping):
    program = Program(tmp_path, mapping, "long")
    program.wait_for_workers(3)
    names = (b"forkserver", b"mpi_rank", b"dask_server")
    workers = [p for p in program.family() if any(name in cmdline(p) for name in names)]
    workers = [p for p in workers if b"mpiexec" not in cmdline(p) and b"hydra" not in cmdline(p)]
    assert len(workers) >= 2
    os.kill(workers[-1], signal.SIGKILL)
    code, text = program.end(time.time())
    assert code == 1
    assert "WorkerDied" in text


def cmdline(process):
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("mapping", ALL)
def test_killing_the_parent_takes_everything_with_it(tmp_path, mapping):
    program = Program(tmp_path, mapping, "long")
    program.wait_for_workers(3 if mapping in OTHER_PROCESSES else 1)
    program.process.kill()
    code, _ = program.end(time.time())
    assert code == -signal.SIGKILL


@pytest.mark.parametrize("mapping", ALL)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_ends_cleanly(tmp_path, mapping, how):
    program = Program(tmp_path, mapping, "long")
    program.wait_for_workers(3 if mapping in OTHER_PROCESSES else 1)
    program.process.send_signal(how)
    code, text = program.end(time.time())
    assert code != 0
    if how == signal.SIGINT:
        assert "KeyboardInterrupt" in text


@pytest.mark.parametrize("mapping", OTHER_PROCESSES)
def test_an_item_that_cannot_be_pickled_names_the_element(tmp_path, mapping):
    code, text = Program(tmp_path, mapping, "unpicklable").end()
    assert code == 1
    assert "element 'NotingUnpicklable'" in text
    assert "pickle" in text.lower()


@pytest.mark.parametrize("mapping", OTHER_PROCESSES)
def test_a_module_that_cannot_be_imported_in_the_worker(tmp_path, mapping):
    code, text = Program(tmp_path, mapping, "import").end()
    assert code == 1
    assert "no_such_module_in_the_worker" in text


def test_an_element_that_cannot_be_sent_is_named_before_anything_starts():
    from xcorr.core import IterativePE, WorkflowGraph, XcorrError
    from xcorr.core.testing import ListSource
    from xcorr.mappings import run

    class Local(IterativePE):
        def _process(self, item):
            return item

    graph = WorkflowGraph()
    graph.connect(ListSource([1]), "output", Local(), "input")
    for mapping in OTHER_PROCESSES:
        with pytest.raises(XcorrError, match="element 'Local' cannot be sent to another process.*top of a module"):
            run(graph, mapping=mapping, workers=2)


MEMORY_PROGRAM = """
import sys
import elements as e
from xcorr.core import WorkflowGraph
from xcorr.mappings import run
if __name__ == "__main__":
    graph = WorkflowGraph()
    source = e.Arrays(int(sys.argv[2]), 1_000_000)
    source.worker = 0
    graph.connect(source, "output", e.SlowSum(0.001), "input")
    count = int(sys.argv[2])
    (total,) = run(graph, mapping=sys.argv[1], workers=2).results["SlowSum"]["output"]
    assert total == count * (count - 1) / 2
"""


def peak_memory(tmp_path, mapping, items):
    """Largest proportional set size of all processes together, in bytes."""
    script = tmp_path / "program.py"
    script.write_text(MEMORY_PROGRAM)
    mark = uuid.uuid4().hex
    environment = {**os.environ, "XCORR_TEST_MARK": mark, "PYTHONPATH": str(ROOT / "tests")}
    process = subprocess.Popen([sys.executable, str(script), mapping, str(items)], env=environment)
    peak = 0
    while process.poll() is None:
        total = 0
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if mark.encode() in (entry / "environ").read_bytes():
                        rollup = (entry / "smaps_rollup").read_text()
                        total += 1024 * int(rollup.split("Pss:")[1].split()[0])
                except (OSError, IndexError):
                    continue
        peak = max(peak, total)
        time.sleep(0.05)
    assert process.returncode == 0
    return peak


@pytest.mark.parametrize(
    "mapping",
    [*(pytest.param(m, marks=pytest.mark.slow) for m in ("sequential", "dask")), "threads", "processes", "mpi"],
)
@pytest.mark.parametrize("items", [1500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_slow_consumer_holds_memory(tmp_path, mapping, items):
    idle = peak_memory(tmp_path, mapping, 3)
    assert peak_memory(tmp_path, mapping, items) - idle < 300e6
