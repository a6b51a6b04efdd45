"""Building graphs: what is refused, names, composites, plans."""

import pytest
from elements import chain

from xcorr.core import (
    BasePE,
    CompositePE,
    ConsumerPE,
    GenericPE,
    GraphError,
    IterativePE,
    MultiKey,
    ProducerPE,
    SimpleFunctionPE,
    WorkflowGraph,
    create_iterative_chain,
    make_plan,
)
from xcorr.core.draw import draw
from xcorr.mappings import process_and_return


class Source(ProducerPE):
    def _process(self):
        return 1


class Pass(IterativePE):
    stateless = True

    def _process(self, data):
        return data


class Stateful(GenericPE):
    def __init__(self, numprocesses=1, grouping=None):
        super().__init__(numprocesses)
        self._add_input("input", grouping=grouping)
        self._add_output("output")

    def process(self, inputs):
        return {"output": inputs["input"]}


def test_unknown_ports_are_refused_with_both_names_and_the_nearest():
    graph = WorkflowGraph()
    with pytest.raises(GraphError, match=r"'Source'.outptu to 'Pass'.input: 'Source' has no output 'outptu'.*'output'"):
        graph.connect(Source(), "outptu", Pass(), "input")
    with pytest.raises(GraphError, match="'Pass' has no input 'in'"):
        graph.connect(Source(), "output", Pass(), "in")


def test_cycles_are_refused():
    a, b, c = Pass(), Pass(), Pass()
    graph = chain(a, b, c)
    with pytest.raises(GraphError, match="closes a cycle"):
        graph.connect(c, "output", a, "input")
    with pytest.raises(GraphError, match="closes a cycle"):
        WorkflowGraph().connect(a, "output", a, "input")


def test_connecting_back_is_no_second_forward_edge():
    a, b = Pass(), Pass()
    graph = chain(a, b)
    with pytest.raises(GraphError, match="'Pass1'.output to 'Pass'.input closes a cycle"):
        graph.connect(b, "output", a, "input")


def test_default_names_get_suffixes_and_explicit_clashes_are_refused():
    a, b = Pass(), Pass()
    chain(Source(), a, b)
    assert [a.id, b.id] == ["Pass", "Pass1"]
    c, d = Pass(), Pass()
    c.name = d.name = "mine"
    with pytest.raises(GraphError, match="'mine' is set on two elements, a Pass and a Pass"):
        chain(Source(), c, d)


def test_an_element_without_input_is_refused_unless_fed():
    graph = chain(Pass(), Pass())
    with pytest.raises(GraphError, match="'Pass' has no input: connect 'input' or give it data"):
        make_plan(graph)
    assert make_plan(graph, inputs={"Pass": [{"input": 1}]}).nodes[0].work == ({"input": 1},)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"Sorce": 1}, "did you mean 'Source'"),
        ({"Source": -1}, "cannot be negative"),
        ({"Source": "x"}, "number of iterations or a list"),
        ({"Source": [{"bad": 1}]}, "no input 'bad'"),
        ({"Pass": 1}, "its inputs are connected"),
    ],
)
def test_wrong_inputs_are_refused(inputs, message):
    with pytest.raises(GraphError, match=message):
        make_plan(chain(Source(), Pass()), inputs=inputs)


def test_constructor_without_super_is_explained():
    class Forgetful(GenericPE):
        def __init__(self):
            self._add_input("input")

    with pytest.raises(GraphError, match="does not call the constructor of its base class"):
        Forgetful()


def test_writing_outside_of_a_run_is_explained():
    with pytest.raises(GraphError, match="not running"):
        Source().write("output", 1)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_instances_belong_to_the_graph(workers):
    class Keyed(Stateful):
        keyed = True

    class Finishing(Pass):
        def _postprocess(self):
            self.write("output", "end")

    class Believed(Finishing):
        stateless = True

    elements = [
        (Source(), 1),
        (Pass(), workers),
        (Stateful(3), 3),
        (Stateful(2, [0]), 2),
        (Keyed(2, [0]), workers),
        (Keyed(2, MultiKey("k")), workers),
        (Stateful(4, "all"), 4),
        (Finishing(), 1),
        (Believed(), workers),
    ]
    plan = make_plan(chain(*[e for e, _ in elements]), workers)
    assert [len(n.workers) for n in plan.nodes] == [count for _, count in elements]
    assert all(0 <= w < workers for n in plan.nodes for w in n.workers)


def test_one_to_all_needs_a_number_of_instances_of_its_own():
    class Copies(Pass):
        def __init__(self):
            super().__init__()
            self._add_input("input", grouping="all")

    element = Copies()
    element.numprocesses = 3
    assert len(make_plan(chain(Source(), element), 5).nodes[1].workers) == 3


@pytest.mark.parametrize("value", [0, -1, 1.5, None])
def test_wrong_numprocesses(value):
    element = Stateful()
    element.numprocesses = value
    with pytest.raises(GraphError, match="numprocesses"):
        make_plan(chain(Source(), element))


def test_wrong_policy():
    element = Pass()
    element.on_error = "ignore"
    with pytest.raises(GraphError, match="use 'fail', 'skip' or 'retry"):
        make_plan(chain(Source(), element))


def test_empty_graph_and_no_workers():
    with pytest.raises(GraphError, match="no elements"):
        make_plan(WorkflowGraph())
    with pytest.raises(GraphError, match="at least one worker"):
        make_plan(chain(Source(), Pass()), 0)
    with pytest.raises(GraphError, match="not str"):
        WorkflowGraph().add("x")


def double(x):
    return 2 * x


def test_chain_of_functions_gives_names_and_may_repeat():
    composite = create_iterative_chain([double, (double, {}), double])
    graph = chain(Source(), composite, Pass())
    elements, edges = graph.flattened()
    assert {e.id for e in elements} == {"Source", "Pass", "PE_double", "PE_double1", "PE_double2"}
    assert len(edges) == 4
    with pytest.raises(ValueError, match="at least one function"):
        create_iterative_chain([])


def test_unknown_composite_port():
    composite = CompositePE(lambda graph: graph._map_input("in", graph.add(Pass()), "input"))
    graph = WorkflowGraph()
    graph.connect(Source(), "output", composite, "inn")
    with pytest.raises(GraphError, match="composite CompositePE has no input 'inn'.*'in'"):
        graph.flattened()


def test_numbered_ports():
    element = BasePE(inputs=["a"], outputs=["b"], num_inputs=2, num_outputs=1)
    assert list(element.inputconnections) == ["input0", "input1", "a"]
    assert list(element.outputconnections) == ["output0", "b"]


def test_picture_shows_every_element_and_connection():
    text = draw(chain(Source(), SimpleFunctionPE(double), ConsumerPE()))
    assert text.startswith("digraph")
    assert text.count("->") == 2
    for name in ("Source", "PE_double", "ConsumerPE"):
        assert name in text


def test_plan_describes_placement():
    assert "Pass: 2 instance(s) on worker(s) 0, 1" in make_plan(chain(Source(), Pass()), 2).describe()


def test_pictures_in_mermaid_and_svg():
    from xml.etree import ElementTree

    from xcorr.core.draw import draw_mermaid, draw_svg

    graph = chain(Source(), Pass(), Stateful(2, [0, 1]), Stateful(2, "all"), Stateful(1, MultiKey("keys")))
    text = draw_mermaid(graph)
    assert text.startswith("flowchart LR")
    assert 'n1 -->|"by 0, 1"| n2' in text
    assert '"one-to-all"' in text
    picture = ElementTree.fromstring(draw_svg(graph))
    names = {e.text for e in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"Source", "Pass", "Stateful", "Stateful1", "Stateful2", "by each of keys"} <= names
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}line"))) == 4


class TwoPaths(CompositePE):
    """Two elements that have nothing to do with each other."""

    def __init__(self):
        super().__init__()
        for name in ("a", "b"):
            element = Pass()
            self.add(element)
            self._map_input(f"in_{name}", element, "input")
            self._map_output(f"out_{name}", element, "output")


def test_independent_paths_through_a_composite_are_no_cycle():
    graph, both, between = WorkflowGraph(), TwoPaths(), Pass()
    graph.connect(Source(), "output", both, "in_a")
    graph.connect(both, "out_a", between, "input")
    graph.connect(between, "output", both, "in_b")
    assert process_and_return(graph) == {"Pass2": {"output": [1]}}
    back = WorkflowGraph()
    back.connect(Source(), "output", both, "in_a")
    back.connect(both, "out_a", both, "in_b")
    assert process_and_return(back) == {"Pass1": {"output": [1]}}


def test_a_cycle_through_a_composite_is_refused_as_soon_as_it_can_be():
    graph, both, between = WorkflowGraph(), TwoPaths(), Pass()
    graph.connect(both, "out_a", between, "input")
    with pytest.raises(GraphError, match="closes a cycle"):
        graph.connect(between, "output", both, "in_a")
    with pytest.raises(GraphError, match="closes a cycle"):
        graph.connect(both, "out_b", both, "in_b")
    late = CompositePE()
    inner = Pass()
    late.add(inner)
    graph = WorkflowGraph()
    graph.connect(late, "out", between, "input")
    graph.connect(between, "output", late, "in")  # what these are is said later
    late._map_input("in", inner, "input")
    late._map_output("out", inner, "output")
    with pytest.raises(GraphError, match="closes a cycle"):
        make_plan(graph)


def test_an_element_that_defines_nothing_is_refused():
    class Misspelt(IterativePE):
        def proces(self, inputs):
            return {"output": inputs["input"]}

    class Empty(GenericPE):
        def __init__(self):
            super().__init__()
            self._add_input("input")

        def postprocess(self):
            pass

    class AtTheEnd(GenericPE):
        def __init__(self):
            super().__init__()
            self._add_output("output")

        def postprocess(self):
            self.write("output", 1)

    for element, text in (
        (Misspelt(), r"element 'Misspelt'.*define _process or process; it has 'proces': is that what was meant\?"),
        (Empty(), "element 'Empty': Empty does nothing with its items"),
    ):
        graph = WorkflowGraph()
        graph.connect(Source(), "output", element, "input")
        with pytest.raises(GraphError, match=text):
            make_plan(graph)
    graph = WorkflowGraph()
    graph.add(AtTheEnd())
    assert process_and_return(graph) == {"AtTheEnd": {"output": [1]}}


def test_elements_are_believed_to_be_stateless_only_where_their_own_class_says_so():
    class Counting(IterativePE):
        def _process(self, data):
            return data

    class Declared(Counting):
        stateless = True

    class Derived(Declared):
        def _process(self, data):
            return data

    class AtTheEnd(Declared):
        def postprocess(self):
            pass

    for kind, count in ((Counting, 1), (Declared, 3), (Derived, 1), (AtTheEnd, 1)):
        graph = WorkflowGraph()
        graph.connect(Source(), "output", kind(), "input")
        plan = make_plan(graph, 3)
        assert len(plan.nodes[1].workers) == count
        assert ("does not say whether it is stateless" in plan.describe()) == (kind is not Declared)
    several = Counting()
    several.numprocesses = 2
    graph = WorkflowGraph()
    graph.connect(Source(), "output", several, "input")
    assert len(make_plan(graph, 3).nodes[1].workers) == 2
