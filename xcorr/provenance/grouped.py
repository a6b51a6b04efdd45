"""Lineages of thousands of nodes made readable: grouped, limited, as a path, in sentences."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Collection, Iterable
from pathlib import PurePath
from typing import Any

from xcorr.core.errors import nearest
from xcorr.provenance.lineage import Lineage
from xcorr.provenance.store import ProvenanceError

GROUPS = ("none", "element", "station")
DEEPEST = 100  # steps after one another that are put in order


def kind_of(name: str) -> str:
    """Return what kind of node a name is of.

    >>> kind_of("file:/a/b.mseed"), kind_of("ReadStation.output:20240301T000000.00/XX.A"), kind_of("ReadStation(x:y)")
    ('file', 'ReadStation.output', 'ReadStation')
    """
    call = name.find("(")
    head = name.partition(":")[0]
    return name[:call] if 0 < call < len(head) else head


def _station_of(name: str) -> str:
    """Return the station in the name of an item of one station; else an empty text."""
    last = name.rstrip(")").rpartition("/")[2]
    is_item = "." in kind_of(name) or name.endswith(")")
    return last if is_item and "." in last and "-" not in last else ""


def grouped(of: Lineage, by: str = "element", open_groups: Collection[str] = ()) -> Lineage:
    """Return a lineage whose nodes are groups: of the same element, or also of the same ``station``.

    Each has ``count``, the ``first`` and ``last`` of its names, and sums of bytes and windows. Groups named in
    ``open_groups``, and groups of one, stay as they are. Raises ProvenanceError for an unknown way of grouping.
    """
    if by not in GROUPS:
        raise ProvenanceError(f"group = {by!r}{nearest(by, GROUPS)}; there are {', '.join(GROUPS)}")
    if by == "none":
        return of
    names: dict[str, str] = {}
    members: dict[str, list[str]] = {}
    files = ((activity, file) for activity, file in of.used if by == "station" and file.startswith("file:"))
    stations = {file: _station_of(activity) for activity, file in files}
    for name in (*of.entities, *of.activities):
        group = kind_of(name)
        if by == "station" and (station := stations.get(name) or _station_of(name)):
            group = f"{group} {station}"
        names[name] = group
        members.setdefault(group, []).append(name)
    for group, listed in members.items():
        if len(listed) == 1 or group in open_groups:
            names |= {name: name for name in listed}
    found = Lineage()
    for made, nodes in ((found.entities, of.entities), (found.activities, of.activities)):
        for name, attributes in nodes.items():
            made.setdefault(names[name], dict(attributes) if names[name] == name else {})
        for group in [g for g in made if g in members and names[members[g][0]] != members[g][0]]:
            made[group] = _summary(sorted(members[group]), nodes)
    for relation in ("used", "generated", "derived"):
        pairs = {(names[a], names[b]) for a, b in getattr(of, relation)}
        getattr(found, relation).update(pair for pair in pairs if pair[0] != pair[1])
    return found


def _summary(names: list[str], nodes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    of = [nodes[name] for name in names]
    about: dict[str, Any] = {"count": len(names), "first": names[0], "last": names[-1]}
    for key in ("bytes", "n_windows"):
        values = [a[key] for a in of if isinstance(a.get(key), int | float)]
        if values:
            about[key] = sum(values)
    for key, choose in (("begun", min), ("ended", max)):
        values = [a[key] for a in of if a.get(key) is not None]
        if values:
            about[key] = choose(values)
    workers = {a["worker"] for a in of if "worker" in a}
    return about | ({"workers": len(workers)} if workers else {})


def _neighbours(of: Lineage) -> dict[str, list[str]]:
    """Return the nodes next to each node, entities and activities alternating."""
    beside: dict[str, list[str]] = {name: [] for name in (*of.entities, *of.activities)}
    for a, b in (*of.used, *of.generated):
        beside[a].append(b)
        beside[b].append(a)
    return beside


def part(of: Lineage, wanted: Collection[str]) -> Lineage:
    """Return the part of a lineage that has these nodes."""
    found = Lineage(
        {n: a for n, a in of.entities.items() if n in wanted}, {n: a for n, a in of.activities.items() if n in wanted}
    )
    for relation in ("used", "generated", "derived"):
        pairs: Iterable[tuple[str, str]] = getattr(of, relation)
        getattr(found, relation).update((a, b) for a, b in pairs if a in wanted and b in wanted)
    return found


def near(of: Lineage, start: str, depth: int | None, most: int) -> tuple[Lineage, int]:
    """Return the nodes at most ``depth`` steps (one through an activity) and ``most`` nodes from a start.

    Also return how many nodes are left out.
    """
    beside = _neighbours(of)
    reached, todo = {start: 0}, deque([start])
    while todo and len(reached) < most:
        name = todo.popleft()
        if depth is not None and reached[name] >= 2 * depth:
            continue
        for other in beside[name]:
            if other not in reached and len(reached) < most:
                reached[other] = reached[name] + 1
                todo.append(other)
    return part(of, reached), len(beside) - len(reached)


def downstream(of: Lineage, start: str) -> Lineage:
    """Return what was made with a node, without what else that was made from."""
    users: dict[str, list[str]] = {}
    for a, e in of.used:
        users.setdefault(e, []).append(a)
    for e, a in of.generated:
        users.setdefault(a, []).append(e)
    reached, todo = {start}, deque([start])
    while todo:
        for other in users.get(todo.popleft(), ()):
            if other not in reached:
                reached.add(other)
                todo.append(other)
    return part(of, reached)


def path(of: Lineage, start: str, end: str) -> Lineage:
    """Return the shortest way between two nodes. Raises ProvenanceError if there is none."""
    beside = _neighbours(of)
    if end not in beside:
        near_name = nearest(end, list(beside)[:1000])
        raise ProvenanceError(f"{end!r} is not in this lineage{near_name}; name a file (file:/...), an item or a stack")
    before, todo = {start: ""}, deque([start])
    while todo and end not in before:
        name = todo.popleft()
        for other in beside[name]:
            if other not in before:
                before[other] = name
                todo.append(other)
    if end not in before:
        raise ProvenanceError(f"no way leads from {start!r} to {end!r}")
    found = [end]
    while found[-1] != start:
        found.append(before[found[-1]])
    return part(of, set(found))


def in_order(of: Lineage) -> list[str]:
    """Return the activities from the inputs on: each after those that made what it used, where there is no cycle."""
    maker = dict(of.generated)
    before: dict[str, set[str]] = {}
    for activity, entity in of.used:
        if maker.get(entity, activity) != activity:
            before.setdefault(activity, set()).add(maker[entity])
    level = dict.fromkeys(of.activities, 0)
    for _ in range(min(len(level), DEEPEST)):
        raised = {a: 1 + max(level[b] for b in of_a) for a, of_a in before.items()}
        if all(level[a] == n for a, n in raised.items()):
            break
        level |= raised
    return sorted(of.activities, key=lambda a: (level[a], a))


@dataclasses.dataclass(frozen=True)
class _Words:
    one: str
    many: str


WORDS = {
    "file": _Words("file", "files"),
    "stack": _Words("stack", "stacks"),
    "series": _Words("correlation of one piece of time", "correlations of a piece of time each"),
    "StationSource.output": _Words("request for a station's data", "requests for a station's data"),
    "ReadStation.output": _Words("raw record", "raw records"),
    "ConditionStation.output": _Words("conditioned record", "conditioned records"),
    "NormalizeStation.output": _Words("normalized record", "normalized records"),
    "TransformStation.output": _Words("set of spectra", "sets of spectra"),
}


def _told(name: str, attributes: dict[str, Any]) -> str:
    kind, _, station = name.partition(" ")
    count = attributes.get("count", 0)
    if not count:
        path = name.removeprefix("file:")
        return f"the file {PurePath(path).name}" if path != name else name
    words = WORDS.get(kind, _Words(f"item of {kind}", f"items of {kind}"))
    size = f" ({attributes['bytes'] / 1e6:,.1f} MB)" if attributes.get("bytes") else ""
    windows = f", {attributes['n_windows']:,} windows in all" if attributes.get("n_windows") else ""
    return f"{count:,} {words.many}{f' of {station}' if station else ''}{windows}{size}"


def sentences(of: Lineage) -> list[str]:
    """Return a lineage that is grouped in plain sentences, one for each kind of step, from the inputs on."""
    found = []
    for activity in in_order(of):
        used = sorted(e for a, e in of.used if a == activity)
        made = sorted(e for e, a in of.generated if a == activity)
        about = of.activities[activity]
        element, _, station = (activity if about.get("count") else kind_of(activity)).partition(" ")
        times = f", {about['count']:,} times" if about.get("count", 0) > 1 else ""
        whose = f" (for {station})" if station else ""
        sources = " and ".join(_told(e, of.entities[e]) for e in used) or "nothing"
        products = " and ".join(_told(e, of.entities[e]) for e in made) or "nothing"
        found.append(f"{element}{whose} made {products} from {sources}{times}.")
    return found or [f"{name} has no recorded inputs." for name in of.entities]


def as_json(of: Lineage, left_out: int = 0) -> dict[str, Any]:
    """Return the nodes and edges of a lineage as plain data."""
    nodes = [{"id": n, "type": "entity", "kind": kind_of(n), **a} for n, a in of.entities.items()]
    nodes += [{"id": n, "type": "activity", "kind": kind_of(n), **a} for n, a in of.activities.items()]
    edges = [
        {"from": a, "to": b, "type": relation}
        for relation in ("used", "generated", "derived")
        for a, b in sorted(getattr(of, relation))
    ]
    return {"nodes": nodes, "edges": edges, "left_out": left_out, "sentences": sentences(of)}
