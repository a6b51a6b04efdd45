"""Turns a plan into a Storm topology: elements into bolts, workers into tasks, connections into streams.

Every element is a bolt with as many tasks as the element has instances. Interchangeable elements that are connected by
shuffle share one bolt, because in every mapping such items stay on their worker. The topology has one spout, the
driver. Storm activates the driver when all connections are up, and the driver's tuple tells the tasks to begin.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from xcorr.core.grouping import GroupBy, MultiKey
from xcorr.core.plan import Plan
from xcorr.mappings.storm_nimbus import idl

DRIVER, BEGIN = "driver", "begin"
FIRST_KEY = ord("0")


@dataclasses.dataclass(frozen=True)
class Stage:
    """A bolt: its name, its first worker, its number of tasks, and the neighbours it exchanges messages with.

    A bolt with connected elements is also its own neighbour, because every instance tells all others of its end.
    """

    name: str
    first: int
    tasks: int
    neighbours: tuple[str, ...]


def placed(plan: Plan) -> tuple[Plan, tuple[Stage, ...]]:
    """Return the plan with a worker for every task of every bolt, and the bolts."""
    bolt_of = {node.rank: node.rank for node in plan.nodes}
    for c in plan.connections:
        both = plan.nodes[c.source].interchangeable and plan.nodes[c.target].interchangeable
        if both and not isinstance(c.grouping, GroupBy | MultiKey):
            old, new = bolt_of[c.target], bolt_of[c.source]
            bolt_of = {rank: new if bolt == old else bolt for rank, bolt in bolt_of.items()}
    names: dict[int, str] = {}
    first: dict[int, int] = {}
    workers = 0
    for bolt in sorted(set(bolt_of.values())):
        members = [node for node in plan.nodes if bolt_of[node.rank] == bolt]
        names[bolt] = f"{len(names)}-" + "-".join(re.sub(r"\W", "_", node.name) for node in members)
        first[bolt] = workers
        workers += len(members[0].workers)
    nodes = tuple(
        dataclasses.replace(n, workers=tuple(first[bolt_of[n.rank]] + k for k in range(len(n.workers))))
        for n in plan.nodes
    )
    pairs = {(bolt_of[c.source], bolt_of[c.target]) for c in plan.connections}
    stages = []
    for bolt, name in names.items():
        others = {b for pair in pairs if bolt in pair for b in pair if b != bolt or pair == (bolt, bolt)}
        stages.append(Stage(name, first[bolt], len(nodes[bolt].workers), tuple(names[b] for b in sorted(others))))
    return dataclasses.replace(plan, nodes=nodes, workers=workers), tuple(stages)


def key_of(task: int, tasks: int) -> str:
    """Return the one-character text that a fields grouping sends to a task, by its place among the sorted tasks.

    Storm takes the hash of the list of fields, 31 + the character's code, modulo the number of tasks.

    >>> [(31 + ord(key_of(k, 3))) % 3 for k in range(3)]
    [0, 1, 2]
    """
    return chr(FIRST_KEY + (task - 31 - FIRST_KEY) % tasks)


def topology(stages: tuple[Stage, ...], program: str) -> Any:
    """Return the Thrift description; every component runs ``program NAME``."""
    t = idl()

    def component(name: str) -> Any:
        return t.ComponentObject(shell=t.ShellComponent(execution_command=program, script=name))

    bolts = {}
    for stage in stages:
        streams = {other: t.StreamInfo(output_fields=["to", "frame"], direct=False) for other in stage.neighbours}
        inputs = {
            t.GlobalStreamId(componentId=other, streamId=stage.name): t.Grouping(fields=["to"])
            for other in stage.neighbours
        }
        inputs[t.GlobalStreamId(componentId=DRIVER, streamId=BEGIN)] = t.Grouping(all=t.Nothing())
        common = t.ComponentCommon(inputs=inputs, streams=streams, parallelism_hint=stage.tasks)
        bolts[stage.name] = t.Bolt(bolt_object=component(stage.name), common=common)
    begin = {BEGIN: t.StreamInfo(output_fields=["begin"], direct=False)}
    driver = t.ComponentCommon(inputs={}, streams=begin, parallelism_hint=1)
    spouts = {DRIVER: t.SpoutSpec(spout_object=component(DRIVER), common=driver)}
    return t.StormTopology(spouts=spouts, bolts=bolts, state_spouts={})
