"""Routes: functions that deliver the items of an output to the instances of one connected element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from xcorr.core.element import GenericPE
from xcorr.core.grouping import ALL_TO_ONE, ONE_TO_ALL, GroupBy, MultiKey, stable_hash
from xcorr.core.instance import Instance
from xcorr.core.plan import Connection

if TYPE_CHECKING:
    from xcorr.core.loop import Worker

CREDIT_BYTES = 16 << 20  # most bytes under way from an instance to an instance on another worker
ITEM_BYTES = 4096  # an item counts as at least so many bytes, so that the number of small items is bounded too
DEPTH = 40  # most instances that call each other directly; deeper items are queued
AHEAD = 2  # before the source's worker takes an item itself, every other worker has at least so many items in hand, ...
AHEAD_S = 0.35  # ... and about so many seconds of work more, to do while the source's worker computes its own item
MOST_AHEAD = 16  # for quick items, whose number AHEAD_S alone would not bound
Select = Callable[[Any], Sequence[int]]
Deliver = Callable[[Any], None]


def make_route(worker: Worker, source: Instance, connection: Connection) -> Deliver:
    """Return the function that delivers an item written by ``source`` along a connection."""
    target = worker.plan.nodes[connection.target]
    count = len(target.workers)
    if target.interchangeable and not isinstance(connection.grouping, GroupBy | MultiKey):
        # both have an instance on every worker, so items need not move
        if worker.index in target.workers and (count == 1 or source.node.interchangeable):
            return _deliverer(worker, connection, target.workers.index(worker.index))
        return _Distribution(worker, source.element, connection)
    deliver = [_deliverer(worker, connection, k) for k in range(count)]
    if count == 1 and not isinstance(connection.grouping, MultiKey):  # an item without any key goes to no instance
        return deliver[0]
    select = _selector(connection, count, source.node.ordered)

    def route(data: Any) -> None:
        for k in select(data):
            deliver[k](data)

    return route


def _selector(connection: Connection, count: int, ordered: bool) -> Select:
    """Return the rule that picks instances: a function of the item, or of its place in an ordered stream."""
    grouping = connection.grouping
    if isinstance(grouping, GroupBy):
        return lambda data: (stable_hash(grouping.key(data)) % count,)
    if isinstance(grouping, MultiKey):
        return lambda data: sorted({stable_hash(k) % count for k in grouping.keys(data)})
    if grouping == ONE_TO_ALL:
        return lambda data: range(count)
    if grouping == ALL_TO_ONE:
        return lambda data: (0,)
    if not ordered:  # the order of arrival depends on timing: choose by content
        return lambda data: (stable_hash(data) % count,)
    place = -1

    def next_in_turn(data: Any) -> tuple[int]:
        nonlocal place
        place += 1
        return (place % count,)

    return next_in_turn


def _deliverer(worker: Worker, connection: Connection, instance: int) -> Deliver:
    place = worker.plan.nodes[connection.target].workers[instance]
    if place != worker.index:
        return Link(worker, connection, instance, place)
    target, port = worker.instances[connection.target, instance], connection.input
    run_item, inbox = worker.run_item, target.inbox

    def deliver(data: Any) -> None:
        if worker.depth < DEPTH and not inbox:  # queued items come first, because order is kept between two instances
            run_item(target, {port: data})
        else:
            worker.queue(target, port, data)

    return deliver


class Link:
    """Delivers to one instance on another worker, within its credit.

    ``bytes`` counts items that are not finished, with all items made from them. ``in_hand`` counts items that the
    instance has not processed yet.
    """

    def __init__(self, worker: Worker, connection: Connection, instance: int, place: int) -> None:
        self.worker, self.connection, self.instance, self.place = worker, connection, instance, place
        names = [worker.plan.nodes[rank].name for rank in (connection.source, connection.target)]
        self.name = " -> ".join(names)
        self.moved = worker.moved.setdefault(self.name, [0, 0])
        self.in_hand = 0
        self.bytes = 0

    def __call__(self, data: Any) -> None:
        """Send an item, once there is credit."""
        worker = self.worker
        while self.bytes >= CREDIT_BYTES:  # tested before the size is known, so that one item may exceed the credit
            worker.wait(self.connection.source)
        size = worker.send_item(self, data)
        self.in_hand += 1
        self.bytes += max(size, ITEM_BYTES)
        self.moved[0] += 1
        self.moved[1] += size

    def taken(self) -> None:
        """Note that the instance has processed an item."""
        self.in_hand -= 1

    def done(self, size: int) -> None:
        """Take back the credit of an item of this size."""
        self.bytes -= max(size, ITEM_BYTES)


class _Distribution:
    """Spreads items over interchangeable instances: keeps other workers supplied, and runs the rest on this worker."""

    def __init__(self, worker: Worker, source: GenericPE, connection: Connection) -> None:
        self.worker, self.source = worker, source
        self.links: list[Link] = []
        self.here: Deliver | None = None
        self.item_s = AHEAD_S
        for k in range(len(worker.plan.nodes[connection.target].workers)):
            deliver = _deliverer(worker, connection, k)
            if isinstance(deliver, Link):
                self.links.append(deliver)
            else:
                self.here = deliver

    def __call__(self, data: Any) -> None:
        self.worker.poll()
        least = min(self.links, key=lambda link: link.in_hand)
        ahead = min(MOST_AHEAD, AHEAD + AHEAD_S / self.item_s)
        if (left := self.source.items_left) is not None:  # no worker should have a queue when the others have ended
            ahead = min(ahead, left)
        if self.here is not None and least.in_hand >= ahead:
            self.worker.push()
            start = perf_counter()
            self.here(data)
            self.item_s += 0.1 * (perf_counter() - start - self.item_s)
        else:
            least(data)
