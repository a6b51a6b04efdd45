"""The plan: the instances of a graph, the workers they run on, and the connections between them.

The number of instances depends on the graph, not on the machine. So every mapping and every number of workers gives the
same multiset of outputs. Only elements with interchangeable instances have one instance per worker.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from xcorr.core.element import GROUPING, GenericPE
from xcorr.core.errors import GraphError, nearest
from xcorr.core.graph import WorkflowGraph, topological_order
from xcorr.core.grouping import ALL_TO_ONE, ONE_TO_ALL, GroupBy, Grouping, MultiKey, parse_grouping
from xcorr.core.patterns import ConsumerPE, IterativePE, ProducerPE

Inputs = Mapping[Any, Any]
WORKING = frozenset(("process", "_process", "postprocess", "_postprocess"))
PLUMBING = {  # methods that only call another, or do nothing
    vars(kind)[name]
    for kind in (GenericPE, IterativePE, ProducerPE, ConsumerPE)
    for name in ("preprocess", "_preprocess", "process", "_process", "postprocess", "_postprocess")
    if name in vars(kind)
}


@dataclasses.dataclass(frozen=True)
class Policy:
    """What to do when an item fails: ``fail``, ``skip``, or ``retry`` a number of times."""

    kind: str
    retries: int = 0


@dataclasses.dataclass(frozen=True)
class Node:
    """An element in a plan.

    ``rank`` is its position in topological order. ``workers[k]`` is the worker of instance k. ``upstream`` is the
    number of instances that must end before its instances can end. ``work`` holds the invocations of a root (otherwise
    None). ``in_common`` is the dictionary that its instances in one process share.
    """

    element: GenericPE
    name: str
    rank: int
    workers: tuple[int, ...]
    interchangeable: bool
    ordered: bool
    policy: Policy
    upstream: int
    work: tuple[dict[str, Any], ...] | range | None
    in_common: dict[str, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)


@dataclasses.dataclass(frozen=True)
class Connection:
    """An edge in a plan, between nodes given by rank."""

    source: int
    output: str
    target: int
    input: str
    grouping: Grouping


@dataclasses.dataclass(frozen=True)
class Plan:
    """Nodes in topological order, connections, and the number of workers."""

    nodes: tuple[Node, ...]
    connections: tuple[Connection, ...]
    workers: int

    def names_on(self, worker: int) -> str:
        """Return the names of the elements on a worker."""
        return ", ".join(node.name for node in self.nodes if worker in node.workers)

    def for_worker(self, worker: int) -> Plan:
        """Return the plan for one worker, with empty elements in place of those that run only on other workers."""
        # parameters may be large, such as the requests of a year
        nodes = (n if worker in n.workers else dataclasses.replace(n, element=_elsewhere(n)) for n in self.nodes)
        return dataclasses.replace(self, nodes=tuple(nodes))

    def describe(self) -> str:
        """Return one line per element: its instances and the workers they run on."""
        lines = []
        for node in self.nodes:
            places = ", ".join(map(str, node.workers))
            alone = node.work is None and not node.interchangeable and len(node.workers) == 1 < self.workers
            hint = "; does not say whether it is stateless" if alone and _stateless(node.element) is None else ""
            lines.append(f"{node.name}: {len(node.workers)} instance(s) on worker(s) {places}{hint}")
        return "\n".join(lines)


def _elsewhere(node: Node) -> GenericPE:
    """Return an empty element with the name of an element that runs only on other workers."""
    element = GenericPE()
    element.name = node.name
    return element


def make_plan(graph: WorkflowGraph, workers: int = 1, inputs: Inputs | None = None) -> Plan:
    """Return the plan of a graph for a number of workers.

    ``inputs`` maps roots (the element, its id or its name) to a number of iterations, or to a list of input
    dictionaries. Other roots run once. Raises GraphError if the graph cannot be run with these inputs.
    """
    if workers < 1:
        raise GraphError(f"a run needs at least one worker, not {workers}")
    elements, edges = graph.flattened()
    if not elements:
        raise GraphError("the workflow has no elements")
    fed = _feeds(elements, inputs or {})
    for element in elements:
        _require_work(element)
    order = topological_order(elements, [(e.source, e.target) for e in edges])
    rank = {id(e): i for i, e in enumerate(order)}
    connections = tuple(
        Connection(
            rank[id(e.source)],
            e.output,
            rank[id(e.target)],
            e.input,
            parse_grouping(
                e.target.inputconnections[e.input].get(GROUPING),
                f"input {e.input!r} of element {e.target.id!r}",
            ),
        )
        for e in edges
    )
    nodes: list[Node] = []
    singles = 0
    for i, element in enumerate(order):
        incoming = [c for c in connections if c.target == i]
        work = _work(element, incoming, fed)
        interchangeable = work is None and _interchangeable(element, incoming)
        # every further instance of a source would repeat its work
        count = workers if interchangeable else 1 if work is not None else _numprocesses(element)
        if interchangeable:
            places = tuple(range(workers))
        else:
            # single instances take turns, so that they are on different workers
            first = singles if element.worker is None else element.worker
            places = tuple((first + k) % workers for k in range(count))
            singles += count if element.worker is None else 0
        upstream = [nodes[c.source] for c in incoming]
        # items of several senders come in an order that depends on timing
        ordered = count == 1 and not interchangeable and (not incoming or (len(incoming) == 1 and upstream[0].ordered))
        nodes.append(
            Node(
                element,
                element.id,
                i,
                places,
                interchangeable,
                ordered,
                _policy(element),
                sum(len(n.workers) for n in upstream),
                work,
            )
        )
    return Plan(tuple(nodes), connections, workers)


def _interchangeable(element: GenericPE, incoming: Sequence[Connection]) -> bool:
    """Return whether outputs cannot depend on which instance gets an item. Then there is one per worker."""
    groupings = [c.grouping for c in incoming]
    if ONE_TO_ALL in groupings:  # each instance gets every item, so their number must not depend on the workers
        return False
    if any(isinstance(g, GroupBy | MultiKey) for g in groupings):
        return element.keyed
    return ALL_TO_ONE not in groupings and bool(_stateless(element))


def _require_work(element: GenericPE) -> None:
    """Raise GraphError for an element that would drop its items: one that defines neither ``process`` nor ``_process``.

    What a source writes may also be written in ``preprocess`` or ``postprocess``.
    """
    kind = type(element)
    enough: tuple[str, ...] = ("process", "_process")
    if not element.inputconnections:
        enough += ("preprocess", "_preprocess", "postprocess", "_postprocess")
    own = [name for name in enough if name in vars(element) or getattr(kind, name) not in PLUMBING]
    if not own:
        others = [n for n in dir(kind) if callable(getattr(kind, n)) and n not in dir(GenericPE)]
        near = difflib.get_close_matches("process", others, n=1)
        hint = f"; it has {near[0]!r}: is that what was meant?" if near else ""
        raise GraphError(
            f"element {element.id!r}: {kind.__name__} does nothing with its items; define _process or process{hint}"
        )


def _stateless(element: GenericPE) -> bool | None:
    """Return ``stateless`` of the class that defines ``process``, or of a class derived from it; None if not set.

    A value in a base class of the defining class is ignored, because it describes other code.
    """
    for owner in (element, *type(element).__mro__):
        if "stateless" in vars(owner):
            return bool(vars(owner)["stateless"])
        if WORKING & vars(owner).keys():
            return None
    return None


def _work(element: GenericPE, incoming: Sequence[Connection], fed: Mapping[int, Any]) -> Any:
    given = fed.get(id(element))
    if incoming:
        if given is not None:
            raise GraphError(f"element {element.id!r} cannot be given input: its inputs are connected")
        return None
    if given is None:
        if element.inputconnections:
            raise GraphError(
                f"element {element.id!r} has no input: connect {', '.join(map(repr, element.inputconnections))} "
                "or give it data"
            )
        return range(1)
    if isinstance(given, int) and not isinstance(given, bool):
        if given < 0:
            raise GraphError(f"element {element.id!r}: {given} iterations; the number cannot be negative")
        return range(given)
    if not isinstance(given, list | tuple) or not all(isinstance(item, Mapping) for item in given):
        raise GraphError(
            f"element {element.id!r}: input must be a number of iterations or a list of "
            f"{{input name: value}} dictionaries, not {given!r}"
        )
    for item in given:
        for port in item:
            if port not in element.inputconnections:
                raise GraphError(
                    f"element {element.id!r} has no input {port!r}{nearest(str(port), element.inputconnections)}"
                )
    return tuple(dict(item) for item in given)


def _feeds(elements: Sequence[GenericPE], inputs: Inputs) -> dict[int, Any]:
    fed: dict[int, Any] = {}
    for key, value in inputs.items():
        named = [e for e in elements if e is key or e.id == key] or [e for e in elements if e.name == key]
        if not named:
            ids = [e.id for e in elements]
            raise GraphError(f"input is given for {key!r}{nearest(str(key), ids)}; the elements are {', '.join(ids)}")
        if len(named) > 1:
            raise GraphError(f"input is given for {key!r}, which names {', '.join(e.id for e in named)}; use an id")
        fed[id(named[0])] = value
    return fed


def _numprocesses(element: GenericPE) -> int:
    count = element.numprocesses
    if not isinstance(count, int) or count < 1:
        raise GraphError(f"element {element.id!r}: numprocesses is {count!r}; it must be a whole number of 1 or more")
    return count


def _policy(element: GenericPE) -> Policy:
    match = re.fullmatch(r"(fail|skip)|retry\((\d+)\)", str(element.on_error))
    if match is None:
        raise GraphError(f"element {element.id!r}: on_error is {element.on_error!r}; use 'fail', 'skip' or 'retry(n)'")
    return Policy(match[1]) if match[1] else Policy("retry", int(match[2]))
