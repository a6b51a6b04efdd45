"""Pictures of a workflow graph as text: DOT for Graphviz."""

from __future__ import annotations

from xcorr.core.graph import WorkflowGraph


def draw(graph: WorkflowGraph) -> str:
    """Return the graph in the DOT language: a record per element with its ports, an arrow per connection."""
    elements, edges = graph.flattened()
    lines = ["digraph workflow {", "  rankdir=LR;", "  node [shape=Mrecord, style=filled, fillcolor=white];"]
    number = {id(e): f"n{i}" for i, e in enumerate(elements)}
    for element in elements:
        ins = "|".join(f"<in_{_escape(p)}> {_escape(p)}" for p in element.inputconnections)
        outs = "|".join(f"<out_{_escape(p)}> {_escape(p)}" for p in element.outputconnections)
        parts = [f"{{{ins}}}" if ins else "", _escape(element.id), f"{{{outs}}}" if outs else ""]
        lines.append(f'  {number[id(element)]} [label="{{{"|".join(p for p in parts if p)}}}"];')
    lines += [
        f"  {number[id(e.source)]}:out_{_escape(e.output)} -> {number[id(e.target)]}:in_{_escape(e.input)};"
        for e in edges
    ]
    return "\n".join([*lines, "}", ""])


def _escape(text: str) -> str:
    return "".join("\\" + c if c in '{}|<>"\\ ' else c for c in text)
