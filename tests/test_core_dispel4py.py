"""dispel4py programs, written as its documentation shows, after changing only the imports."""

from collections import defaultdict

import pytest

from xcorr.core import (
    CompositePE,
    ConsumerPE,
    GenericPE,
    IterativePE,
    ProducerPE,
    WorkflowGraph,
    create_iterative_chain,
)
from xcorr.mappings import process_and_return

TEXT = "a rose is a rose is a rose".split()


class IntegerProducer(ProducerPE):
    def __init__(self, start, limit):
        ProducerPE.__init__(self)
        self.start = start
        self.limit = limit

    def _process(self):
        for i in range(self.start, self.limit):
            self.write(ProducerPE.OUTPUT_NAME, i)


class CountingProducer(GenericPE):
    """One number per iteration on each output; the counter is made in the constructor."""

    def __init__(self, numOutputs=1):
        GenericPE.__init__(self)
        names = ["output"] if numOutputs == 1 else [f"output{i}" for i in range(numOutputs)]
        for name in names:
            self._add_output(name, tuple_type=["number"])
        self.counter = 0
        self.outputnames = list(self.outputconnections.keys())

    def _process(self, inputs):
        self.counter += 1
        return dict.fromkeys(self.outputnames, self.counter)


class OneInOneOut(GenericPE):
    def __init__(self):
        GenericPE.__init__(self)
        self._add_input("input")
        self._add_output("output")

    def process(self, inputs):
        return {"output": inputs["input"]}


class OneInOneOutWriter(OneInOneOut):
    def process(self, inputs):
        self.write("output", inputs["input"])


class TwoInOneOut(GenericPE):
    def __init__(self):
        GenericPE.__init__(self)
        self._add_input("input0")
        self._add_input("input1")
        self._add_output("output", tuple_type=["result"])

    def process(self, inputs):
        result = ""
        for name in self.inputconnections:
            if name in inputs:
                result += str(inputs[name])
        if result:
            return {"output": result}
        return None


class Divide(IterativePE):
    def __init__(self, divisor):
        IterativePE.__init__(self)
        self.divisor = divisor

    def _process(self, data):
        return data if data % self.divisor else None


class WordCounter(GenericPE):
    def __init__(self):
        GenericPE.__init__(self)
        self._add_input("input", grouping=[0])
        self._add_output("output", tuple_type=["word", "count"])
        self.mywords = defaultdict(int)

    def _process(self, inputs):
        word = inputs["input"][0]
        self.mywords[word] += 1
        return {"output": [word, self.mywords[word]]}


class Words(ProducerPE):
    def _process(self, inputs):
        for word in TEXT:
            self.write("output", [word])


def test_pipeline_of_five_iterations():
    prod, cons1, cons2 = CountingProducer(), OneInOneOut(), OneInOneOut()
    graph = WorkflowGraph()
    graph.connect(prod, "output", cons1, "input")
    graph.connect(cons1, "output", cons2, "input")
    assert process_and_return(graph, inputs={prod: 5}) == {cons2.id: {"output": [1, 2, 3, 4, 5]}}
    assert process_and_return(graph, inputs={prod.id: 2}) == {cons2.id: {"output": [1, 2]}}


def test_tutorial_divide():
    producer, divide = IntegerProducer(2, 20), Divide(3)
    graph = WorkflowGraph()
    graph.connect(producer, "output", divide, "input")
    expected = [i for i in range(2, 20) if i % 3]
    assert process_and_return(graph) == {"Divide": {"output": expected}}


def test_the_same_class_several_times_with_names():
    producer, divide2, divide3 = IntegerProducer(2, 30), Divide(2), Divide(3)
    divide2.name, divide3.name = "Div(2)_", "Div(3)_"
    graph = WorkflowGraph()
    graph.connect(producer, "output", divide2, "input")
    graph.connect(producer, "output", divide3, "input")
    results = process_and_return(graph, {producer: 1})
    assert results == {
        "Div(2)_": {"output": [i for i in range(2, 30) if i % 2]},
        "Div(3)_": {"output": [i for i in range(2, 30) if i % 3]},
    }


@pytest.mark.parametrize("instances", [1, 3])
def test_word_count_group_by(instances):
    words, counter = Words(), WordCounter()
    words.numprocesses = 1
    counter.numprocesses = instances
    graph = WorkflowGraph()
    graph.connect(words, "output", counter, "input")
    counts = process_and_return(graph)["WordCounter"]["output"]
    assert max(c for w, c in counts if w == "rose") == 3
    assert sorted(map(tuple, counts)) == [("a", 1), ("a", 2), ("a", 3), ("is", 1), ("is", 2)] + [
        ("rose", i) for i in (1, 2, 3)
    ]


def test_split_merge():
    graph = WorkflowGraph()
    prod, cons1, cons2, last = CountingProducer(2), OneInOneOut(), OneInOneOutWriter(), TwoInOneOut()
    graph.connect(prod, "output0", cons1, "input")
    graph.connect(prod, "output1", cons2, "input")
    graph.connect(cons1, "output", last, "input0")
    graph.connect(cons2, "output", last, "input1")
    assert process_and_return(graph, {prod: 1}) == {last.id: {"output": ["1", "1"]}}


def test_one_to_all_and_all_to_one():
    graph = WorkflowGraph()
    prod, cons1, cons2 = CountingProducer(), OneInOneOut(), OneInOneOut()
    cons1.numprocesses = 5
    cons1.inputconnections["input"]["grouping"] = "all"
    cons2.numprocesses = 5
    graph.connect(prod, "output", cons1, "input")
    cons2.inputconnections["input"]["grouping"] = "global"
    graph.connect(cons1, "output", cons2, "input")
    assert process_and_return(graph, {prod: 2}) == {cons2.id: {"output": [1] * 5 + [2] * 5}}


def test_several_producers():
    graph = WorkflowGraph()
    first, second, merge = IntegerProducer(0, 3), IntegerProducer(10, 13), OneInOneOut()
    graph.connect(first, "output", merge, "input")
    graph.connect(second, "output", merge, "input")
    assert sorted(process_and_return(graph)["OneInOneOut"]["output"]) == [0, 1, 2, 10, 11, 12]


def test_unconnected_pipelines():
    graph = WorkflowGraph()
    for _ in range(2):
        graph.connect(CountingProducer(), "output", OneInOneOut(), "input")
    results = process_and_return(graph)
    assert results == {"OneInOneOut": {"output": [1]}, "OneInOneOut1": {"output": [1]}}


def test_iterative_chain_with_parameters_and_local_functions():
    def add(a, b):
        return a + b

    def mult(a, b):
        return a * b

    def is_odd(a):
        return a % 2 == 1

    chain = create_iterative_chain([(add, {"b": 1}), (mult, {"b": 3}), is_odd])
    prod = CountingProducer()
    graph = WorkflowGraph()
    graph.connect(prod, "output", chain, "input")
    graph.flatten()
    assert process_and_return(graph, {prod: 2}) == {"PE_is_odd": {"output": [False, True]}}


def test_iterative_chain_with_an_element_class_of_ones_own():
    class Indexed(IterativePE):
        def __init__(self, compute_fn, params=None):
            IterativePE.__init__(self)
            self.compute_fn = compute_fn
            self.params = params or {}

        def _process(self, data):
            return [data[0], self.compute_fn(data[1], **self.params)]

    class Pairs(ProducerPE):
        def _process(self):
            for i in range(3):
                self.write("output", [i, 10 * i])

    graph = WorkflowGraph()
    graph.connect(Pairs(), "output", create_iterative_chain([abs, (round, {"ndigits": 0})], Indexed), "input")
    assert process_and_return(graph) == {"PE_round": {"output": [[0, 0], [1, 10], [2, 20]]}}


def test_composite_with_create_function_and_parameters():
    cons1, cons2 = OneInOneOut(), OneInOneOut()

    def create_graph(graph, connections):
        for _ in range(connections):
            graph.connect(cons1, "output", cons2, "input")

    composite = CompositePE(create_graph, {"connections": 2})
    composite._map_input("comp_input", cons1, "input")
    composite._map_output("comp_output", cons2, "output")
    prod, cons = CountingProducer(), OneInOneOut()
    graph = WorkflowGraph()
    graph.connect(prod, "output", composite, "comp_input")
    graph.connect(composite, "comp_output", cons, "input")
    graph.flatten()
    expected = [i for i in range(1, 11) for _ in range(2)]
    assert process_and_return(graph, {prod: 10}) == {cons.id: {"output": expected}}


def test_sieve_of_eratosthenes():
    class Sieve(GenericPE):
        def __init__(self):
            GenericPE.__init__(self)
            self._add_input("input")
            self._add_output("prime")
            self._add_output("output")
            self.divisor = None

        def _process(self, inputs):
            number = inputs["input"]
            if not self.divisor:
                self.divisor = number
                return {"prime": number}
            if number % self.divisor:
                return {"output": number}
            return None

    graph = WorkflowGraph()
    prev, primes = IntegerProducer(2, 230), OneInOneOut()
    for _ in range(50):
        divide = Sieve()
        graph.connect(prev, "output", divide, "input")
        prev = divide
        graph.connect(divide, "prime", primes, "input")
    found = process_and_return(graph)["OneInOneOut"]["output"]
    assert sorted(found) == [n for n in range(2, 230) if all(n % d for d in range(2, n))]


def test_consumer_prints(capsys):
    class PrintDataConsumer(ConsumerPE):
        def _process(self, data):
            print(data)

    graph = WorkflowGraph()
    prod = CountingProducer()
    graph.connect(prod, "output", PrintDataConsumer(), "input")
    assert process_and_return(graph, {prod: 3}) == {}
    assert capsys.readouterr().out == "1\n2\n3\n"


def test_types_of_ports():
    element = OneInOneOut()
    element._add_output("output", tuple_type=["integer"])
    element.setInputTypes({"input": ["number"]})
    assert element.getOutputTypes() == {"output": ["integer"]}
    element._add_output("output2")
    with pytest.raises(ValueError, match="declares no type"):
        element.getOutputTypes()


def test_types_are_propagated():
    class Passing(OneInOneOut):
        def setInputTypes(self, types):
            self.inputconnections["input"]["type"] = types["input"]
            self.outputconnections["output"]["type"] = types["input"]

    prod, first, second = CountingProducer(), Passing(), Passing()
    composite = CompositePE()
    composite.add(first)
    composite._map_input("in", first, "input")
    composite._map_output("out", first, "output")
    graph = WorkflowGraph()
    graph.connect(composite, "out", second, "input")
    graph.connect(prod, "output", composite, "in")
    graph.propagate_types()
    assert second.inputconnections["input"]["type"] == prod.outputconnections["output"]["type"] == ["number"]
    graph.connect(IntegerProducer(0, 1), "output", Passing(), "input")
    with pytest.raises(ValueError, match="IntegerProducer: output 'output' declares no type"):
        graph.propagate_types()


def test_log_names_the_element(caplog):
    class Talking(IterativePE):
        def _process(self, data):
            self.log(f"got {data}")

    graph = WorkflowGraph()
    graph.connect(IntegerProducer(0, 1), "output", Talking(), "input")
    with caplog.at_level("INFO", "xcorr.workflow"):
        process_and_return(graph)
    assert "Talking: got 0" in caplog.text
