"""Random workflow graphs for property tests."""

from __future__ import annotations

import elements as e
from hypothesis import strategies as st

from xcorr.core import WorkflowGraph

SHAPES = st.sampled_from(["affine", "explode", "drop", "totals", "by_key", "by_keys", "join"])
GROUPINGS = st.sampled_from([None, "all", "global", [0], [0, 1]])


@st.composite
def layers(draw):
    """A description of a graph: (shape, parent, other parent, number, grouping, instances) per element."""
    count = draw(st.integers(1, 7))
    return [
        (
            draw(SHAPES),
            draw(st.integers(0, k + 1)),
            draw(st.integers(0, k + 1)),
            draw(st.integers(2, 9)),
            draw(GROUPINGS),
            draw(st.integers(1, 4)),
        )
        for k in range(count)
    ]


def build(description, items, thousands=False):
    """Return the graph of a description: two sources, then an element per layer, fed by earlier ones."""
    graph = WorkflowGraph()
    nodes = [e.Pairs(items, 1), e.Pairs(items // 2 + 1, 5)]
    for node in nodes:
        graph.add(node)
    exploded = 0
    for shape, parent, other, number, grouping, instances in description:
        source = nodes[parent % len(nodes)]
        if shape == "affine":
            node = e.Affine(number)
        elif shape == "explode" and exploded < 2:
            exploded += 1
            node = e.Explode(2000 if thousands and exploded == 1 else number)
        elif shape == "drop":
            node = e.Drop(number)
        elif shape == "by_key":
            node = e.ByKey()
        elif shape == "by_keys":
            with_keys, node = e.WithKeys(), e.ByKeys()
            graph.connect(source, "output", with_keys, "input")
            source = with_keys
        else:
            node = e.Totals(instances, grouping, 2)
            graph.connect(nodes[other % len(nodes)], "output", node, "input1")
        graph.connect(source, "output", node, "input")
        nodes.append(node)
    return graph
