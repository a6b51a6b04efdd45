"""The workflow graph: elements, connections, composites. A graph describes a workflow and runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from xcorr.core.element import GenericPE
from xcorr.core.errors import GraphError, nearest


class Edge(NamedTuple):
    """A connection from an output of one node to an input of another."""

    source: Any
    output: str
    target: Any
    input: str


class WorkflowGraph:
    """A directed multigraph of elements and composites (graphs with ``inputmappings``/``outputmappings``).

    Unknown ports, cycles, and a name that is explicitly set on two elements raise GraphError at once. The text names
    both elements. A run uses a snapshot of the graph. Elements that are added later belong to the next run.
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.edges: list[Edge] = []
        self.inputmappings: dict[str, tuple[Any, str]] = {}
        self.outputmappings: dict[str, tuple[Any, str]] = {}

    def add(self, node: GenericPE | WorkflowGraph) -> GenericPE | WorkflowGraph:
        """Add an element or a composite (once) and return it."""
        if not isinstance(node, GenericPE | WorkflowGraph):
            raise GraphError(f"a workflow holds processing elements and composites, not {type(node).__name__}")
        if not any(n is node for n in self.nodes):
            self.nodes.append(node)
            assign_ids([n for n in self.nodes if isinstance(n, GenericPE)])
        return node

    def connect(self, source: Any, output: str, target: Any, input: str) -> None:
        """Connect ``output`` of ``source`` to ``input`` of ``target``, adding them if needed.

        Raises GraphError for an unknown port or a connection that closes a cycle.
        """
        for node in (source, target):
            if not isinstance(node, GenericPE | WorkflowGraph):
                raise GraphError(f"cannot connect {type(node).__name__}: not an element or composite")
        edge = Edge(source, output, target, input)
        if isinstance(source, GenericPE):
            _require_port(edge, source, output, source.outputconnections, "output")
        if isinstance(target, GenericPE):
            _require_port(edge, target, input, target.inputconnections, "input")
        if self._closes_cycle(edge):
            raise GraphError(f"connecting {_label(edge)} closes a cycle; a workflow has none")
        self.add(source)
        self.add(target)
        self.edges.append(edge)

    def _closes_cycle(self, edge: Edge) -> bool:
        """Return whether an edge would close a cycle.

        Paths lead through the elements of a composite, because elements of one composite need not be connected. The
        ports of a composite may be mapped later, so :meth:`flattened` checks again.
        """
        inside = [e for n in (edge.source, edge.target) if isinstance(n, WorkflowGraph) for e in n._all_edges()]
        known = [flat for e in [*self._all_edges(), *inside] if (flat := _flat(e))]
        flat = _flat(edge)
        if flat is None:
            return False
        return flat.source is flat.target or _reaches(known, flat.target, flat.source)

    def propagate_types(self) -> None:
        """Tell every element the types of its inputs, sources first. This is from dispel4py; a run does not need it.

        Calls ``setInputTypes({input: type})`` with the types that ``getOutputTypes`` of the connected elements returns.
        Raises GraphError if a connected output declares no type.
        """
        elements, edges = self.flattened()
        known: dict[int, dict[str, Any]] = {}
        for element in topological_order(elements, [(e.source, e.target) for e in edges]):
            element.setInputTypes({e.input: known[id(e.source)][e.output] for e in edges if e.target is element})
            if any(e.source is element for e in edges):
                known[id(element)] = element.getOutputTypes()

    def elements(self) -> list[GenericPE]:
        """Return all elements, those inside composites included, those of the top level first."""
        found = [n for n in self.nodes if isinstance(n, GenericPE)]
        for node in self.nodes:
            if isinstance(node, WorkflowGraph):
                found += [e for e in node.elements() if not any(e is f for f in found)]
        return found

    def flattened(self) -> tuple[list[GenericPE], list[Edge]]:
        """Return elements and element-to-element edges with all composites resolved; ids are set.

        Raises GraphError for unknown ports of composites, cycles, and names set twice.
        """
        elements = self.elements()
        assign_ids(elements)
        edges: list[Edge] = []
        for edge in self._all_edges():
            source, output = _resolve(edge, edge.source, edge.output, "outputmappings")
            target, input = _resolve(edge, edge.target, edge.input, "inputmappings")
            flat = Edge(source, output, target, input)
            if source is target or _reaches(edges, target, source):
                raise GraphError(f"connection {_label(flat)} closes a cycle; a workflow has none")
            edges.append(flat)
        return elements, edges

    def flatten(self) -> None:
        """Resolve composites in place (dispel4py); running a graph does not need it."""
        elements, edges = self.flattened()
        self.nodes, self.edges = list(elements), edges

    def _all_edges(self) -> Iterator[Edge]:
        for node in self.nodes:
            if isinstance(node, WorkflowGraph):
                yield from node._all_edges()
        yield from self.edges


class CompositePE(WorkflowGraph):
    """A graph used as one element: ``create_graph(graph, **params)`` fills it and maps its ports."""

    def __init__(self, create_graph: Callable[..., None] | None = None, params: dict[str, Any] | None = None) -> None:
        super().__init__()
        if create_graph is not None:
            create_graph(self, **(params or {}))

    def _map_input(self, input_name: str, internal_pe: Any, internal_input: str) -> None:
        """Make an input of an inner element an input of the composite."""
        self.inputmappings[input_name] = (internal_pe, internal_input)

    def _map_output(self, output_name: str, internal_pe: Any, internal_output: str) -> None:
        """Make an output of an inner element an output of the composite."""
        self.outputmappings[output_name] = (internal_pe, internal_output)


def assign_ids(elements: list[GenericPE]) -> None:
    """Give each element a unique ``id``: its name, with a number behind default names that clash."""
    taken: dict[str, GenericPE] = {}
    for element in elements:
        if element._named:
            if element.name in taken:
                raise GraphError(
                    f"the name {element.name!r} is set on two elements, {_kind(taken[element.name])} and "
                    f"{_kind(element)}; give one of them another name"
                )
            taken[element.name] = element
            element.id = element.name
    last: dict[str, int] = {}  # number by default name: searching again from 1 would take long for many
    for element in elements:
        if not element._named:
            number = last.get(element.name, -1) + 1
            while (unique := f"{element.name}{number or ''}") in taken:
                number += 1
            last[element.name] = number
            taken[unique] = element
            element.id = unique


def topological_order(elements: Sequence[GenericPE], edges: Sequence[tuple[Any, Any]]) -> list[GenericPE]:
    """Return elements so that each comes after the elements that feed it; otherwise in the given order."""
    remaining, order = list(elements), []
    while remaining:
        left = {id(element) for element in remaining}
        waiting = {id(t) for s, t in edges if id(s) in left}
        ready = [e for e in remaining if id(e) not in waiting]
        order += ready
        remaining = [e for e in remaining if id(e) in waiting]
    return order


def _flat(edge: Edge) -> Edge | None:
    """Return an edge with composites replaced by their elements; None if a composite's ports are not mapped yet."""
    try:
        source, output = _resolve(edge, edge.source, edge.output, "outputmappings")
        target, input = _resolve(edge, edge.target, edge.input, "inputmappings")
    except GraphError:
        return None
    return Edge(source, output, target, input)


def _resolve(edge: Edge, node: Any, port: str, mappings: str) -> tuple[GenericPE, str]:
    while isinstance(node, WorkflowGraph):
        ports: dict[str, tuple[Any, str]] = getattr(node, mappings)
        _require_port(edge, node, port, ports, mappings.removesuffix("mappings"))
        node, port = ports[port]
    direction = "outputconnections" if mappings == "outputmappings" else "inputconnections"
    _require_port(edge, node, port, getattr(node, direction), direction.removesuffix("connections"))
    return node, port


def _require_port(edge: Edge, node: Any, port: str, ports: dict[str, Any], kind: str) -> None:
    if port not in ports:
        known = ", ".join(map(repr, ports)) or "none"
        raise GraphError(
            f"connecting {_label(edge)}: {_name(node)} has no {kind} {port!r}{nearest(str(port), ports)}; "
            f"its {kind}s are {known}"
        )


def _reaches(edges: list[Edge], start: Any, goal: Any) -> bool:
    stack, seen = [start], set()
    while stack:
        node = stack.pop()
        if node is goal:
            return True
        if id(node) not in seen:
            seen.add(id(node))
            stack += [e.target for e in edges if e.source is node]
    return False


def _name(node: Any) -> str:
    return repr(node.id) if isinstance(node, GenericPE) else f"composite {type(node).__name__}"


def _kind(node: GenericPE) -> str:
    return f"a {type(node).__name__}"


def _label(edge: Edge) -> str:
    return f"{_name(edge.source)}.{edge.output} to {_name(edge.target)}.{edge.input}"
