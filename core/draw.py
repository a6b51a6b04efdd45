"""Pictures of a workflow graph as text: DOT for Graphviz, Mermaid for Markdown, SVG for browsers."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from xcorr.core.element import GROUPING
from xcorr.core.graph import Edge, WorkflowGraph, topological_order
from xcorr.core.grouping import SHUFFLE, GroupBy, MultiKey, parse_grouping

BOX, GAP, MARGIN = (190, 46), (80, 26), 16  # SVG: width and height of a box, gaps between boxes, margin


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
    for e in edges:
        ends = f"{number[id(e.source)]}:out_{_escape(e.output)} -> {number[id(e.target)]}:in_{_escape(e.input)}"
        lines.append(f'  {ends} [label="{_escape(_label(e))}"];')
    return "\n".join([*lines, "}", ""])


def draw_mermaid(graph: WorkflowGraph) -> str:
    """Return the graph as a Mermaid flowchart."""
    elements, edges = graph.flattened()
    number = {id(e): f"n{i}" for i, e in enumerate(elements)}
    lines = ["flowchart LR"]
    lines += [f'  {number[id(e)]}["{escape(e.id)}"]' for e in elements]
    for e in edges:
        label = escape(_label(e)) or f"{escape(e.output)} to {escape(e.input)}"
        lines.append(f'  {number[id(e.source)]} -->|"{label}"| {number[id(e.target)]}')
    return "\n".join([*lines, ""])


def draw_svg(graph: WorkflowGraph) -> str:
    """Return the graph as a self-contained SVG: elements in columns by their distance from the sources."""
    elements, edges = graph.flattened()
    order = topological_order(elements, [(e.source, e.target) for e in edges])
    column: dict[int, int] = {}
    for element in order:
        column[id(element)] = max([1 + column[id(e.source)] for e in edges if e.target is element], default=0)
    filled: dict[int, int] = {}
    place: dict[int, tuple[int, int]] = {}
    for element in order:
        row = filled.get(column[id(element)], 0)
        filled[column[id(element)]] = row + 1
        place[id(element)] = (
            MARGIN + column[id(element)] * (BOX[0] + GAP[0]),
            MARGIN + row * (BOX[1] + GAP[1]),
        )
    width = 2 * MARGIN + (max(filled) + 1) * (BOX[0] + GAP[0]) - GAP[0]
    height = 2 * MARGIN + max(filled.values()) * (BOX[1] + GAP[1]) - GAP[1]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">'
    marker = '<marker id="a" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto">'
    lines = [head, f'<defs>{marker}<path d="M0,0 L9,4 L0,8 z"/></marker></defs>']
    for e in edges:
        (x1, y1), (x2, y2) = place[id(e.source)], place[id(e.target)]
        x1, y1, y2 = x1 + BOX[0], y1 + BOX[1] // 2, y2 + BOX[1] // 2
        lines.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="black" marker-end="url(#a)"/>')
        if _label(e):
            at = f'x="{(x1 + x2) // 2}" y="{(y1 + y2) // 2 - 4}"'
            lines.append(f'<text {at} font-size="10" text-anchor="middle">{escape(_label(e))}</text>')
    for element in order:
        x, y = place[id(element)]
        box = f'x="{x}" y="{y}" width="{BOX[0]}" height="{BOX[1]}" rx="8"'
        lines.append(f'<rect {box} fill="white" stroke="black"/>')
        at = f'x="{x + BOX[0] // 2}" y="{y + BOX[1] // 2 + 5}"'
        lines.append(f'<text {at} font-size="13" text-anchor="middle">{escape(element.id)}</text>')
    return "\n".join([*lines, "</svg>", ""])


FORMATS: dict[str, Callable[[WorkflowGraph], str]] = {"dot": draw, "mermaid": draw_mermaid, "svg": draw_svg}


def _label(edge: Edge) -> str:
    """Return the grouping of a connection for people; nothing for shuffle."""
    grouping = parse_grouping(edge.target.inputconnections[edge.input].get(GROUPING), edge.input)
    if isinstance(grouping, GroupBy):
        return f"by {', '.join(map(str, grouping.fields))}"
    if isinstance(grouping, MultiKey):
        return f"by each of {grouping.field}"
    return "" if grouping == SHUFFLE else grouping


def _escape(text: str) -> str:
    return "".join("\\" + c if c in '{}|<>"\\ ' else c for c in text)
