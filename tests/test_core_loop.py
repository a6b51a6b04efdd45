"""The execution loop on the sequential mapping: order of events, end of stream, errors, policies, observers."""

import gc
import threading
import time
import weakref

import pytest
from elements import chain

from xcorr.core import (
    ConsumerPE,
    ElementError,
    GenericPE,
    IterativePE,
    MultiKey,
    Observer,
    ProducerPE,
    SimpleFunctionPE,
    XcorrError,
)
from xcorr.core.errors import RegistryError
from xcorr.core.testing import ListSource, Slow
from xcorr.mappings import process_and_return, run


class Numbers(ProducerPE):
    def __init__(self, count):
        super().__init__()
        self.count = count

    def _process(self):
        for i in range(self.count):
            self.write("output", i)


class Pass(IterativePE):
    def _process(self, data):
        return data


class Journal(GenericPE):
    """Writes what the engine calls, in order."""

    def __init__(self, numprocesses=1, grouping=None):
        super().__init__(numprocesses)
        self._add_input("input", grouping=grouping)
        self._add_output("output")

    def preprocess(self):
        self.events = ["preprocess"]

    def process(self, inputs):
        assert list(inputs) == ["input"]
        self.events.append(inputs["input"])

    def postprocess(self):
        self.write("output", [*self.events, "postprocess"])


def test_events_in_order():
    results = process_and_return(chain(Numbers(3), Pass(), Journal()))
    assert results == {"Journal": {"output": [["preprocess", 0, 1, 2, "postprocess"]]}}


def test_what_postprocess_writes_is_processed_before_the_next_ends():
    results = process_and_return(chain(Numbers(2), Journal(), Journal(), Journal()))
    first = ["preprocess", 0, 1, "postprocess"]
    second = ["preprocess", first, "postprocess"]
    assert results == {"Journal2": {"output": [["preprocess", second, "postprocess"]]}}


def test_running_does_not_touch_the_elements_and_can_be_repeated():
    class Counting(Pass):
        stateless = False

        def __init__(self):
            super().__init__()
            self.seen = 0

        def _process(self, data):
            self.seen += 1
            return self.seen

    element = Counting()
    graph = chain(Numbers(2), element)
    assert process_and_return(graph) == process_and_return(graph) == {"Counting": {"output": [1, 2]}}
    assert element.seen == 0


def test_streams_without_keeping_items():
    alive = weakref.WeakSet()

    class Item:
        pass

    class Items(ProducerPE):
        def _process(self):
            for _ in range(100):
                item = Item()
                alive.add(item)
                self.write("output", item)
                del item
                gc.collect(0)
                assert len(alive) <= 1

    class Sink(ConsumerPE):
        def _process(self, data):
            assert data is not None

    outcome = run(chain(Items(), Pass(), Pass(), Sink()))
    assert [s.received for s in outcome.statistics] == [1, 100, 100, 100]


def test_deep_graphs_do_not_exhaust_the_stack():
    results = process_and_return(chain(Numbers(50), *[Pass() for _ in range(400)]))
    assert results == {"Pass399": {"output": list(range(50))}}


def test_groupings_reach_the_right_instances():
    def of(grouping, items=range(6)):
        graph = chain(Numbers(len(items)), Journal(3, grouping))
        return [e[1:-1] for e in process_and_return(graph)["Journal"]["output"]]

    assert of(None) == [[0, 3], [1, 4], [2, 5]]
    assert of("all") == [list(range(6))] * 3
    assert of("global") == [list(range(6)), [], []]


def test_shuffle_by_content_where_order_depends_on_timing():
    class Unordered(Pass):
        pass

    results = process_and_return(chain(Numbers(30), Unordered(), Journal(3)))["Journal"]["output"]
    assert [e[1:-1] for e in results] == [list(range(k, 30, 3)) for k in range(3)]


def test_multi_key_delivers_once_to_each_owner():
    class Keys(ProducerPE):
        def _process(self):
            for keys in ((0, 3), (1,), (0, 1, 2, 4), ()):
                self.write("output", {"keys": keys})

    class Owner(Journal):
        def __init__(self):
            super().__init__(3, MultiKey("keys"))

        def process(self, inputs):
            assert any(self.owns(k) for k in inputs["input"]["keys"])
            super().process(inputs)

    got = [[i["keys"] for i in e[1:-1]] for e in process_and_return(chain(Keys(), Owner()))["Owner"]["output"]]
    assert got == [[(0, 3), (0, 1, 2, 4)], [(1,), (0, 1, 2, 4)], [(0, 1, 2, 4)]]


class Broken(IterativePE):
    def __init__(self, phase="process", on_error="fail"):
        super().__init__()
        self.phase = phase
        self.on_error = on_error

    def preprocess(self):
        if self.phase == "preprocess":
            raise ValueError("told to break")

    def _process(self, data):
        if self.phase == "process" and data == 3:
            raise ValueError("told to break")
        return data

    def postprocess(self):
        if self.phase == "postprocess":
            raise ValueError("told to break")


@pytest.mark.parametrize("phase", ["preprocess", "process", "postprocess"])
def test_an_error_ends_the_run_and_says_where(phase):
    with pytest.raises(
        ElementError, match=f"element 'Broken' .instance 0 of 1. failed in {phase}.*told to break"
    ) as caught:
        run(chain(Numbers(5), Broken(phase), Pass()))
    assert "told to break" in caught.value.traceback_text
    assert 'raise ValueError("told to break")' in caught.value.traceback_text
    assert caught.value.item == ("{'input': 3}" if phase == "process" else "")
    assert isinstance(caught.value.__cause__, ValueError)
    assert isinstance(caught.value, XcorrError | RuntimeError)


def test_no_element_can_swallow_what_fails_downstream():
    class Careless(ProducerPE):
        def _process(self):
            for i in range(5):
                try:
                    self.write("output", i)
                except:  # noqa: E722
                    continue

    with pytest.raises(ElementError, match="'Broken'"):
        run(chain(Careless(), Broken()))


def test_unknown_output_is_an_error_with_the_nearest_name():
    class Typo(ProducerPE):
        def _process(self):
            self.write("outptu", 1)

    with pytest.raises(ElementError, match="output 'outptu' .did you mean 'output'"):
        run(chain(Typo(), Pass()))


def test_skip_drops_counts_and_replaces():
    class Replacing(Broken):
        def skipped(self, inputs, error):
            return {"output": f"lost {inputs['input']}: {error}"}

    plain = run(chain(Numbers(5), Broken(on_error="skip")))
    assert plain.results == {"Broken": {"output": [0, 1, 2, 4]}}
    assert plain.statistics[1].skipped == 1
    replaced = run(chain(Numbers(5), Replacing(on_error="skip")))
    assert replaced.results == {"Replacing": {"output": [0, 1, 2, "lost 3: told to break", 4]}}


def test_retry_repeats_without_repeating_outputs():
    class Flaky(Pass):
        on_error = "retry(2)"

        def __init__(self, failures):
            super().__init__()
            self.failures = failures

        def _process(self, data):
            self.write("output", f"before {data}")
            if data == 1 and self.failures:
                self.failures -= 1
                raise OSError("again")
            return data

    outcome = run(chain(Numbers(2), Flaky(2)))
    assert outcome.results["Flaky"]["output"] == ["before 0", 0, "before 1", 1]
    assert outcome.statistics[1].retried == 2
    with pytest.raises(ElementError, match="again"):
        run(chain(Numbers(2), Flaky(3)))


def test_observers_see_everything_and_change_nothing():
    seen = []

    class Watch(Observer):
        def started(self, plan, worker):
            seen.append(("started", len(plan.nodes), worker))

        def invoked(self, statistics, inputs, origin):
            seen.append(("invoked", statistics.element, inputs, origin))

        def wrote(self, statistics, port, item):
            seen.append(("wrote", statistics.element, port, item))
            return f"{statistics.element} {item}"

        def processed(self, statistics):
            seen.append(("processed", statistics.element))

        def skipped(self, statistics, inputs, error):
            seen.append(("skipped", statistics.element, inputs))

        def ended(self, statistics):
            seen.append(("ended", [s.received for s in statistics]))

    graph = chain(Numbers(4), Broken(on_error="skip"))
    assert run(graph, observers=[Watch()]).results == run(graph).results
    assert seen[:6] == [
        ("started", 2, 0),
        ("invoked", "Numbers", {}, ""),
        ("wrote", "Numbers", "output", 0),
        ("invoked", "Broken", {"input": 0}, "Numbers 0"),
        ("wrote", "Broken", "output", 0),
        ("processed", "Broken"),
    ]
    assert seen.count(("processed", "Broken")) == 4
    assert ("skipped", "Broken", {"input": 3}) in seen
    assert seen[-1] == ("ended", [1, 4])


class Raising(IterativePE):
    """Raises in a phase, whatever it is given."""

    def __init__(self, error, phase="process", on_error="fail"):
        super().__init__()
        self.error, self.phase, self.on_error = error, phase, on_error

    def preprocess(self):
        self.act("preprocess")

    def _process(self, data):
        self.act("process")
        return data

    def postprocess(self):
        self.act("postprocess")

    def act(self, phase):
        if phase == self.phase:
            raise self.error

    def __deepcopy__(self, memo):
        return Raising(self.error, self.phase, self.on_error)


class Own(BaseException):
    pass


@pytest.mark.parametrize("phase", ["preprocess", "process", "postprocess"])
@pytest.mark.parametrize("on_error", ["fail", "skip", "retry(2)"])
@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt(), GeneratorExit(), Own("own"), StopIteration()])
def test_whatever_an_element_raises_is_its_failure(phase, on_error, error):
    if isinstance(error, StopIteration) and on_error == "skip" and phase == "process":
        return  # an Exception, which is skipped
    for mapping in ("sequential", "threads"):
        with pytest.raises(
            ElementError, match=f"element 'Raising' .* failed in {phase}.*{type(error).__name__}"
        ) as caught:
            run(chain(Numbers(3), Raising(error, phase, on_error), Pass()), mapping=mapping, workers=2)
        assert caught.value.__cause__ is error


def test_an_error_in_skipped_is_that_elements():
    class Clumsy(Broken):
        def skipped(self, inputs, error):
            raise KeyError("in skipped")

    with pytest.raises(ElementError, match="element 'Clumsy' .* failed in skipped on item .*3.*in skipped"):
        run(chain(Numbers(5), Pass(), Clumsy(on_error="skip"), Pass()))


def test_what_skipped_writes_is_sent_and_what_was_written_before_is_not():
    class Writing(Broken):
        def _process(self, data):
            self.write("output", f"try {data}")
            return super()._process(data)

        def skipped(self, inputs, error):
            self.write("output", "instead")

    outputs = run(chain(Numbers(4), Writing(on_error="skip"))).results["Writing"]["output"]
    assert outputs == ["try 0", 0, "try 1", 1, "try 2", 2, "instead"]


@pytest.mark.parametrize("event", ["started", "invoked", "wrote", "processed", "ended"])
def test_an_observer_that_raises_is_named_and_no_element(event):
    def fail(*about):
        raise ValueError("looked too closely")

    watch = type("Watch", (Observer,), {event: lambda self, *about: fail()})()
    for mapping in ("sequential", "threads"):
        with pytest.raises(XcorrError, match=f"observer Watch failed in {event}: ValueError: looked") as caught:
            run(chain(Numbers(3), Pass(), Pass()), mapping=mapping, workers=2, observers=[watch])
        assert not isinstance(caught.value, ElementError)


def test_an_element_that_catches_everything_writes_nothing_after_a_failure():
    written = []

    class Careless(ProducerPE):
        def _process(self):
            for i in range(8):
                try:
                    self.write("output", i)
                except:  # noqa: E722
                    continue

    class Keep(ConsumerPE):
        def _process(self, data):
            written.append(data)

    with pytest.raises(ElementError, match="'Broken'"):
        run(chain(Careless(), Broken(), Keep()))
    assert written == [0, 1, 2]


def test_nothing_is_written_after_a_run_on_threads_has_failed():
    written, entered = [], threading.Event()

    class Late(ProducerPE):
        worker = 0

        def _process(self):
            entered.set()
            time.sleep(4.0)  # longer than the run waits for it
            try:
                self.write("output", "late")
            finally:
                written.append("tried")

    class Keep(ConsumerPE):
        worker = 0

        def _process(self, data):
            written.append(data)

    class Fails(ProducerPE):
        worker = 1

        def _process(self):
            entered.wait()
            raise ValueError("told to fail")

    graph = chain(Late(), Keep())
    graph.add(Fails())
    with pytest.raises(ElementError, match="'Fails'"):
        run(graph, mapping="threads", workers=2)
    until = time.monotonic() + 5
    while not written and time.monotonic() < until:
        time.sleep(0.05)
    assert written == ["tried"]


@pytest.mark.parametrize("mapping", ["sequential", "threads", "processes", "mpi", "dask"])
def test_a_run_within_an_except_block_is_like_any_other(mapping):
    expected = [2 * k for k in range(20)]
    try:
        raise ValueError("being handled")
    except ValueError:
        graph = chain(ListSource(range(20)), SimpleFunctionPE(doubled), Slow(0.01))
        assert sorted(run(graph, mapping=mapping, workers=2).results["Slow"]["output"]) == expected


def doubled(x):
    return 2 * x


def test_unknown_mapping_lists_the_known():
    with pytest.raises(RegistryError, match="no mapping is called 'sequental' .did you mean 'sequential'"):
        run(chain(Numbers(1), Pass()), mapping="sequental")


def test_more_workers_than_one_are_noted(caplog):
    run(chain(Numbers(1), Pass()), workers=3)
    assert "the sequential mapping has one worker; -n 3 is ignored" in caplog.text
