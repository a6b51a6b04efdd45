"""The same workflow on every mapping: same outputs, same bits, bounded memory."""

import collections
import os
import socket
import subprocess
import sys
import time

import elements as e
import numpy as np
import pytest
import strategies
from conftest import ROOT
from elements import chain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xcorr.core import aggregate, registry
from xcorr.core.testing import ListSink, ListSource, ScriptedFailure, Slow, check_element
from xcorr.mappings import run
from xcorr.mappings.arena import create_memory_file
from xcorr.mappings.sockets import WAIT_S, SocketTransport

PARALLEL = ("threads", "processes", "mpi")
ALL = ("sequential", *PARALLEL)


def multiset(results):
    return {k: {p: collections.Counter(map(repr, v)) for p, v in ports.items()} for k, ports in results.items()}


def compare_everywhere(description, items, workers, thousands):
    graph = strategies.build(description, items, thousands)
    expected = multiset(run(graph).results)
    for mapping in PARALLEL:
        assert multiset(run(graph, mapping=mapping, workers=workers).results) == expected, mapping


LIMITS = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True, "database": None}


@settings(max_examples=30, **LIMITS)
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
        transport = SocketTransport(0, [(1, mine, arenas[1])], arenas[0])
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
        assert sorted(known) == ([[0], [1]] if mapping in ("processes", "mpi") else [[0, 1], [0, 1]])


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

    names = registry.names("elements")
    assert len(names) >= 10
    for name in names:
        made = registry.load("elements", name)
        required = [p for p in inspect.signature(made).parameters.values() if p.default is p.empty]
        check_element(made(*[None] * len(required)))
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
