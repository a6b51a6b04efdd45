"""The same workflow on every mapping: same outputs, same bits, bounded memory."""

import collections
import logging
import os
import pickle
import socket
import subprocess
import sys
import time
from pathlib import Path

import elements as e
import numpy as np
import pytest
import strategies
from conftest import ROOT
from elements import chain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xcorr.core import aggregate, installed, make_plan
from xcorr.core.testing import ListSink, ListSource, ScriptedFailure, Slow, check_element
from xcorr.mappings import run
from xcorr.mappings.arena import create_memory_file
from xcorr.mappings.sockets import WAIT_S, Peer, SocketTransport

PARALLEL = ("threads", "processes", "mpi", "dask")
ALL = ("sequential", *PARALLEL)


def multiset(results):
    return {k: {p: collections.Counter(map(repr, v)) for p, v in ports.items()} for k, ports in results.items()}


def compare_everywhere(description, items, workers, thousands):
    graph = strategies.build(description, items, thousands)
    expected = multiset(run(graph).results)
    for mapping in PARALLEL:
        assert multiset(run(graph, mapping=mapping, workers=workers).results) == expected, mapping


LIMITS = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True, "database": None}


@settings(max_examples=6, **LIMITS)
@given(strategies.layers(), st.integers(0, 40), st.integers(1, 5), st.booleans())
def test_random_graphs_give_the_same_multiset_everywhere(description, items, workers, thousands):
    compare_everywhere(description, items, workers, thousands and items < 4)


@pytest.mark.slow
@settings(max_examples=200, **LIMITS)
@given(strategies.layers(), st.integers(0, 60), st.integers(1, 5), st.booleans())
def test_200_random_graphs_give_the_same_multiset_everywhere(description, items, workers, thousands):
    compare_everywhere(description, items, workers, thousands and items < 6)


@pytest.mark.parametrize("mapping", PARALLEL)
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_order_is_kept_between_two_instances(mapping, workers):
    results = run(chain(ListSource(range(3000)), ListSink()), mapping=mapping, workers=workers).results
    assert results == {"ListSink": {"output": [list(range(3000))]}}


@pytest.mark.parametrize("mapping", PARALLEL)
def test_arrays_arrive_as_they_were(mapping):
    rng = np.random.default_rng(1)
    items = [
        rng.standard_normal((300, 500)),
        np.asfortranarray(rng.standard_normal((200, 300))),
        rng.standard_normal((400, 400))[::2, ::3],
        rng.integers(0, 9, 50).astype(np.int8),
        {"a": rng.standard_normal(100_000).astype(np.complex64), "b": ["text", None, (1, 2.5)]},
        np.zeros(0),
        b"x" * 200_000,
    ]
    source, sink = ListSource(items), ListSink()
    source.worker, sink.worker = 0, 1
    ((got,),) = (p["output"] for p in run(chain(source, sink), mapping=mapping, workers=2).results.values())
    for a, b in zip(got, items, strict=True):
        if isinstance(b, dict):
            assert a["a"].tobytes() == b["a"].tobytes()
            assert a["b"] == b["b"]
        elif isinstance(b, bytes):
            assert a == b
        else:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
            a[...] = 0  # what arrives is the receiver's own


@pytest.mark.parametrize("mapping", PARALLEL)
def test_all_workers_work(mapping):
    outcome = run(chain(ListSource(range(60)), Slow(0.01), ListSink()), mapping=mapping, workers=3)
    done = [s.received for s in outcome.statistics if s.element == "Slow"]
    assert sum(done) == 60
    assert min(done) >= 12


def test_a_worker_that_waits_for_others_hears_its_coordinator():
    mine, theirs = socket.socketpair()
    reading, writing = os.pipe()
    arenas = [create_memory_file(1 << 20) for _ in range(2)]
    with mine, theirs:
        transport = SocketTransport(0, [Peer(1, mine, arenas[1])], arenas[0])
        transport.wake_for(reading)
        os.write(writing, b"stop")
        begin = time.monotonic()
        assert transport.receive(block=True) == []
        assert time.monotonic() - begin < WAIT_S / 2
    for descriptor in (reading, writing):
        os.close(descriptor)


@pytest.mark.parametrize("mapping", PARALLEL)
def test_workers_end_together_where_the_source_knows_its_end(mapping):
    done = run(chain(e.Countdown(60), e.Stamped(0.02)), mapping=mapping, workers=2).results["Stamped"]["output"]
    last = [max(at for worker, at in done if worker == k) for k in (0, 1)]
    assert len(done) == 60
    assert abs(last[0] - last[1]) < 0.15  # 16 items are 0.32 s


@pytest.mark.parametrize("mapping", ALL)
def test_instances_of_one_process_and_run_have_something_in_common(mapping):
    graph = chain(ListSource([(key,) for key in range(8)]), e.Acquainted(2))
    for _ in range(2):  # a run does not see what another left
        known = run(graph, mapping=mapping, workers=2).results["Acquainted"]["output"]
        assert sorted(known) == ([[0], [1]] if mapping in ("processes", "mpi", "dask") else [[0, 1], [0, 1]])


@pytest.mark.parametrize("mapping", ALL)
def test_what_moved_is_counted(mapping):
    source, sink = ListSource([np.zeros(10_000)] * 20), ListSink()
    source.worker, sink.worker = 0, 1
    outcome = run(chain(source, sink), mapping=mapping, workers=2)
    moved = [w.moved.get("ListSource -> ListSink", (0, 0)) for w in outcome.workers]
    if mapping == "sequential":
        assert moved == [(0, 0)]
    else:
        assert moved[0][0] == 20
        assert moved[0][1] >= 20 * 80_000
        assert moved[1] == (0, 0)
    assert sum(w.cpu_seconds for w in outcome.workers) > 0


@pytest.mark.parametrize("mapping", ALL)
def test_retry_and_skip_are_counted(mapping):
    retried = run(
        chain(ListSource(range(10)), ScriptedFailure(at=[3], times=2, on_error="retry(2)"), ListSink()),
        mapping=mapping,
        workers=2,
    )
    assert sorted(retried.results["ListSink"]["output"][0]) == list(range(10))
    assert sum(s.retried for s in retried.statistics) == 2
    skipped = run(
        chain(ListSource(range(10)), ScriptedFailure(at=[3, 4], on_error="skip"), ListSink()),
        mapping=mapping,
        workers=2,
    )
    assert sorted(skipped.results["ListSink"]["output"][0]) == [0, 1, 2, 5, 6, 7, 8, 9]
    assert sum(s.skipped for s in skipped.statistics) == 2


@pytest.mark.parametrize("mapping", PARALLEL)
@pytest.mark.parametrize("workers", [1, 4])
def test_parallel_aggregates(mapping, workers):
    counts = aggregate.CountPE()
    counts.numprocesses = 3
    composite = aggregate.parallel_aggregate(counts, aggregate.SumPE())
    results = run(chain(ListSource([(i,) for i in range(100)]), composite), mapping=mapping, workers=workers).results
    assert results == {"SumPE": {"output": [[100]]}}


HASH_PROGRAM = """
import elements as e
from xcorr.core import WorkflowGraph
from xcorr.core.testing import ListSource
from xcorr.mappings import run
import sys
if __name__ == "__main__":
    graph = WorkflowGraph()
    graph.connect(ListSource([(f"word{i}", i) for i in range(40)]), "output", e.Here(3), "input")
    print(sorted(run(graph, mapping=sys.argv[1], workers=2).results["Here"]["output"]))
"""


@pytest.mark.parametrize("mapping", ALL)
def test_group_by_goes_to_the_same_instance_for_every_hash_seed(mapping, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(HASH_PROGRAM)

    def output(seed, how):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT / "tests")}
        command = [sys.executable, str(script), how]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    assert len({output(seed, mapping) for seed in ("0", "1", "random")} | {output("2", "sequential")}) == 1


def test_every_registered_element_holds_the_contract():
    import inspect

    names = installed.names("elements")
    assert len(names) >= 10
    for name in names:
        made = installed.load("elements", name)
        required = [p for p in inspect.signature(made).parameters.values() if p.default is p.empty]
        check_element(made(*[0.0 if p.annotation in (float, "float") else None for p in required]))
    for element in (ListSource([1]), ListSink(), ScriptedFailure(), Slow(0), e.ByKeys()):
        check_element(element)


def test_the_contract_finds_what_is_wrong():
    class Nested(ListSink):
        pass

    with pytest.raises(AttributeError, match="Nested"):
        check_element(Nested())
    nameless = ListSink()
    nameless.inputconnections["input"]["name"] = "other"
    with pytest.raises(AssertionError, match="calls itself 'other'"):
        check_element(nameless)


@pytest.mark.parametrize("mapping", ALL)
def test_a_counter_in_an_element_counts_the_same_everywhere(mapping):
    counted = run(chain(ListSource("abc"), e.Counter(), ListSink()), mapping=mapping, workers=2).results
    assert counted == {"ListSink": {"output": [[1, 2, 3]]}}


@pytest.mark.parametrize("mapping", ALL)
@pytest.mark.parametrize("level", ["INFO", "WARNING"])
def test_what_elements_log_is_heard_where_the_run_was_called(caplog, mapping, level):
    caplog.set_level(level)
    caplog.set_level(level, "xcorr")
    caplog.handler.setLevel("DEBUG")
    logging.getLogger("elements.quiet").setLevel("ERROR")
    logging.getLogger("elements.loud").setLevel("DEBUG")
    run(chain(ListSource([1]), e.Talking()), mapping=mapping, workers=2)
    heard = {(r.name, r.getMessage()) for r in caplog.records if r.name.startswith(("xcorr.workflow", "elements"))}
    expected = {("elements.loud", "debug 1"), ("elements", "warning 1: KeyError")}
    assert heard == expected | ({("xcorr.workflow", "Talking: got 1")} if level == "INFO" else set())


UNGUARDED = """
import elements as e
from xcorr.core.testing import ListSink, ListSource
from xcorr.mappings import run
import sys
print(run(e.chain(ListSource([(1, 1)]), e.Affine(3), ListSink()), mapping=sys.argv[1], workers=2).results)
"""


@pytest.mark.parametrize("mapping", ["processes", "mpi", "dask"])
def test_a_script_without_its_guard_is_told_so_in_one_line(tmp_path, mapping):
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(script), mapping]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "put the call below `if __name__ == '__main__':`" in line


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2)
import elements as e
from xcorr.core.testing import ListSource, ListSink
from xcorr.mappings import run
if __name__ == "__main__":
    count = int(sys.argv[2])
    graph = e.chain(ListSource([(k, k) for k in range(500)]), e.Affine(3), ListSink())
    outcome = run(graph, mapping="processes", workers=count)
    print(len(outcome.results["ListSink"]["output"][0]), len(outcome.workers))
"""


def limited(tmp_path, files, workers):
    script = tmp_path / "script.py"
    script.write_text(LIMITED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(script), str(files), str(workers)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("workers", [24, pytest.param(64, marks=pytest.mark.slow)])
def test_many_workers_with_the_usual_limit_of_open_files(tmp_path, workers):
    done = limited(tmp_path, 1024, workers)
    assert done.stdout == f"500 {workers}\n", done.stderr


def test_too_few_open_files_are_refused_with_the_cure(tmp_path):
    done = limited(tmp_path, 128, 24)
    assert done.returncode == 1
    assert "the system allows 128: choose fewer workers with -n, or let it have more (ulimit -n" in done.stderr


@pytest.mark.parametrize("mapping", ["processes", "mpi", "dask"])
def test_a_long_tmpdir_is_no_hindrance(tmp_path, mapping):
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    flow = tmp_path / "flow.py"
    flow.write_text(
        "import sys; sys.path.append({!r})\nimport elements as e\n"
        "from xcorr.core.testing import ListSink, ListSource\n"
        "graph = e.chain(ListSource([(1, 2)]), e.Affine(3), ListSink())\n".format(str(ROOT / "tests"))
    )
    program = str(Path(sys.executable).with_name("xcorr"))
    command = [program, "workflow", "run", str(flow), "-m", mapping, "-n", "2"]
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ListSink.output: [[(4, 9)]]\n"), done.stderr
    assert list(folder.iterdir()) == []


def test_a_worker_gets_only_what_runs_there():
    source, sink = ListSource([bytes(100)] * 1000), ListSink()
    source.worker, sink.worker = 0, 1
    plan = make_plan(chain(source, sink), 2)
    sizes = [len(pickle.dumps(plan.for_worker(k))) for k in range(2)]
    assert sizes[1] < 2000 < sizes[0]
    assert plan.for_worker(1).names_on(1) == "ListSink"


@pytest.mark.slow
def test_500_runs_on_mpi_end_well_under_load(tmp_path):
    flow = tmp_path / "flow.py"
    flow.write_text(
        "from xcorr.core.testing import ListSource, Slow\nfrom xcorr.core import WorkflowGraph\n"
        "graph = WorkflowGraph()\ngraph.connect(ListSource(range(5)), 'output', Slow(0.0), 'input')\n"
    )
    load = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    program = str(Path(sys.executable).with_name("xcorr"))
    try:
        for k in range(500):
            workers = str((2, 4, 3, 2)[k % 4])
            command = [program, "workflow", "run", str(flow), "-m", "mpi", "-n", workers]
            begin = time.monotonic()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"run {k}: {done.stderr}"
            assert "Slow.output" in done.stdout
            assert "BAD TERMINATION" not in done.stdout + done.stderr, f"run {k}"
            assert time.monotonic() - begin < 15
    finally:
        for process in load:
            process.kill()
            process.wait()


def test_workers_find_the_modules_of_a_script_imported(tmp_path):
    """The server imports them once, for all workers: else each run would wait for every worker to do so."""
    (tmp_path / "noted.py").write_text(
        "import os\nfrom xcorr.core import IterativePE\nopen('imported', 'a').write(f'{os.getpid()}\\n')\n"
        "class Same(IterativePE):\n    stateless = True\n    def _process(self, data):\n        return data\n"
    )
    (tmp_path / "script.py").write_text(
        "from noted import Same\nfrom xcorr.core import WorkflowGraph\nfrom xcorr.core.testing import ListSource\n"
        "from xcorr.mappings import run\nif __name__ == '__main__':\n    graph = WorkflowGraph()\n"
        "    graph.connect(ListSource(list(range(40))), 'output', Same(), 'input')\n"
        "    for _ in range(2):\n        run(graph, mapping='processes', workers=4)\n"
    )
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, check=True, timeout=60)
    assert len((tmp_path / "imported").read_text().split()) == 2, "this script and the server"
