"""Lineage: the inputs from which a product was made, and the products made with it, as a graph.

The nodes of the graph are entities and activities. For items, the lineage comes from the recorded invocations and the
derivation pattern of each element. For the stacks of a campaign, it comes from the ledger, which holds the files,
windows and reasons of every slot in every chunk. So no record is needed for every pair on every day.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections import deque
from pathlib import Path
from typing import Any

from xcorr.core.derivation import parse_derivation
from xcorr.provenance.recorder import POSTPROCESS
from xcorr.provenance.store import ProvenanceError, reading

MOST = 100_000  # nodes of one answer


@dataclasses.dataclass
class Lineage:
    """Entities and activities with their attributes, and the relations between them, by name."""

    entities: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    activities: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    used: set[tuple[str, str]] = dataclasses.field(default_factory=set)  # activity, entity
    generated: set[tuple[str, str]] = dataclasses.field(default_factory=set)  # entity, activity
    derived: set[tuple[str, str]] = dataclasses.field(default_factory=set)  # entity, entity it came from

    def step(self, product: str, activity: str, sources: list[str]) -> None:
        """Add: an activity used sources and generated a product, which is derived from them."""
        self.entities.setdefault(product, {})
        self.activities.setdefault(activity, {})
        self.generated.add((product, activity))
        for source in sources:
            self.entities.setdefault(source, {})
            self.used.add((activity, source))
            self.derived.add((product, source))

    def problems(self) -> list[str]:
        """Return a line for each break of PROV's rules: undefined names, activities that end too early, cycles."""
        names = [(a, self.activities) for a, _ in self.used] + [(e, self.entities) for _, e in self.used]
        names += [(e, self.entities) for e, _ in self.generated] + [(a, self.activities) for _, a in self.generated]
        names += [(e, self.entities) for pair in self.derived for e in pair]
        wrong = [f"{name} is not defined" for name, known in names if name not in known]
        for name, attributes in self.activities.items():
            begun, ended = attributes.get("begun"), attributes.get("ended")
            if begun is not None and ended is not None and ended < begun:
                wrong.append(f"{name} ends before it begins")
        if _has_cycle(self.derived):
            wrong.append("something is derived from itself")
        return wrong


def _has_cycle(pairs: set[tuple[str, str]]) -> bool:
    below: dict[str, set[str]] = {}
    degree: dict[str, int] = {}
    for product, source in pairs:
        below.setdefault(source, set()).add(product)
        degree[product] = degree.get(product, 0) + 1
        degree.setdefault(source, 0)
    ready = deque(name for name, count in degree.items() if not count)
    seen = 0
    while ready:
        seen += 1
        for product in below.get(ready.popleft(), ()):
            degree[product] -= 1
            if not degree[product]:
                ready.append(product)
    return seen < len(degree)


def item_lineage(campaign: Path, item: str, direction: str = "back") -> Lineage:
    """Return the recorded lineage of an item, ``back`` or ``forward``. Raises ProvenanceError if it is not known."""
    with reading(campaign) as store:
        known = store.execute("SELECT 1 FROM product WHERE id = ? LIMIT 1", (item,)).fetchone()
        if known is None:
            raise ProvenanceError(
                f"no item {item!r} is recorded in {campaign}; provenance.level 'invocation' and 'item' record items"
            )
        return _Walk(store).walk(item, direction)


class _Walk:
    """Follows recorded invocations from item to item, by the derivation patterns of their elements."""

    def __init__(self, store: sqlite3.Connection) -> None:
        self.store, self.found = store, Lineage()
        self.patterns = {
            (run, name): parse_derivation(text, name)
            for run, name, text in store.execute("SELECT run, name, derivation FROM element")
        }

    def walk(self, item: str, direction: str) -> Lineage:
        """Return everything reached from an item."""
        self.found.entities[item] = {}
        todo, seen = deque([item]), {item}
        while todo:
            if len(self.found.entities) > MOST:
                raise ProvenanceError(
                    f"the lineage of {item!r} is of more than {MOST:,} items; ask for an item with a shorter lineage"
                )
            for other in self._back(todo.popleft()) if direction == "back" else self._forward(todo.popleft()):
                if other not in seen:
                    seen.add(other)
                    todo.append(other)
        self._describe()
        return self.found

    def _back(self, item: str) -> list[str]:
        inputs = []
        for run, element, instance, seq, key in self.store.execute(
            "SELECT DISTINCT run, element, instance, seq, key FROM product WHERE id = ?", (item,)
        ).fetchall():
            rows = self._inputs(run, element, instance, seq, key)
            own = [r for r in rows if r[1] == seq] or rows[-1:]
            activity = own[0][0] if own and seq != POSTPROCESS else f"{element}[{instance}](end)"
            sources = [r[2] for r in rows if r[2]]
            self.found.step(item, activity, sources)
            inputs += sources
        return inputs

    def _inputs(self, run: int, element: str, instance: int, seq: int, key: str) -> list[tuple[str, int, str]]:
        """Return (invocation, number, input) of all that a product comes from."""
        kind, width = self.patterns.get((run, element), ("single", 0))
        where: str = "seq = ?"
        values: list[Any] = [seq]
        if seq == POSTPROCESS:
            where, values = "seq >= ?", [0]
        elif kind in ("accumulated", "n-by-1"):
            where = "seq <= ?"
        elif kind == "grouped":
            where, values = "seq <= ? AND key = ?", [seq, key]
        elif kind == "sliding":
            where, values = "seq <= ? AND seq > ?", [seq, seq - width]
        columns = "id, seq, input, port"
        rows = self.store.execute(
            f"SELECT {columns} FROM invocation WHERE run = ? AND element = ? AND instance = ? AND {where} ORDER BY seq",
            (run, element, instance, *values),
        ).fetchall()
        if kind == "n-by-1" and seq != POSTPROCESS:
            rows = sorted({row[3]: row for row in rows}.values(), key=lambda row: row[1])
        return [(a, b, c) for a, b, c, _ in rows]

    def _forward(self, item: str) -> list[str]:
        products = []
        for run, element, instance, seq in self.store.execute(
            "SELECT DISTINCT run, element, instance, seq FROM invocation WHERE input = ?", (item,)
        ).fetchall():
            kind, width = self.patterns.get((run, element), ("single", 0))
            last = seq if kind == "single" else seq + width - 1 if kind == "sliding" else 1 << 60
            for product, at, key in self.store.execute(
                "SELECT DISTINCT id, seq, key FROM product WHERE run = ? AND element = ? AND instance = ? "
                "AND (seq = ? OR (seq >= ? AND seq <= ?))",
                (run, element, instance, POSTPROCESS, seq, last),
            ).fetchall():
                rows = self._inputs(run, element, instance, at, key)
                if any(source == item for _, _, source in rows):
                    own = [r for r in rows if r[1] == at]
                    activity = own[0][0] if own and at != POSTPROCESS else f"{element}[{instance}](end)"
                    self.found.step(product, activity, [item])
                    products.append(product)
        return products

    def _describe(self) -> None:
        """Add the recorded attributes of the activities and entities found."""
        for name, attributes in self.found.activities.items():
            row = self.store.execute(
                "SELECT element, worker, begun, ended, status FROM invocation WHERE id = ? LIMIT 1", (name,)
            ).fetchone()
            if row:
                attributes.update(zip(("element", "worker", "begun", "ended", "status"), row, strict=True))
        for name, attributes in self.found.entities.items():
            row = self.store.execute("SELECT kind, bytes, metadata FROM item WHERE id = ? LIMIT 1", (name,)).fetchone()
            if row:
                attributes.update({"kind": row[0], "bytes": row[1], **json.loads(row[2])})
