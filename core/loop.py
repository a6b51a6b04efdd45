"""The one execution loop: receive, process, emit, end of stream, credits, errors, statistics.

A :class:`Worker` runs the instances that the plan places on it. Items for an instance on the same worker are
worked on at once, by reference; items for other workers go through a :class:`Transport`, the only thing a
mapping provides.

Memory is bounded and deadlock impossible. What is sent to another worker occupies credit of its connection
until the whole descent of the item is done (each worker acknowledges a message when everything that came of
it, there and further on, is finished: Dijkstra & Scholten 1980). A ``write`` without credit waits, and while
it waits runs, on its own thread, only instances of higher rank. Along any chain of waits ranks rise, so it ends.
"""

from __future__ import annotations

import copy
import functools
import reprlib
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from xcorr.core.element import GenericPE
from xcorr.core.errors import ElementError, GraphError, nearest
from xcorr.core.observe import InstanceStatistics, Observer
from xcorr.core.plan import Connection, Node, Plan
from xcorr.core.route import make_route

DEPTH = 40  # instances that may call each other directly; beyond it items are queued


class Message(NamedTuple):
    """What one worker sends another. ``kind``: ``item``, ``end`` (of one upstream instance) or ``done`` (ack)."""

    kind: str
    sender: int
    number: int = 0
    node: int = 0
    instance: int = 0
    port: str = ""
    data: Any = None


class Transport(Protocol):
    """Moves messages between workers, in order for each pair of workers."""

    def send(self, worker: int, message: Message) -> int:
        """Hand over a message without blocking for long; return its size in bytes."""

    def receive(self, block: bool) -> Sequence[Message]:
        """Return the messages that have arrived; with ``block``, wait for at least one."""


class Token:
    """Counts what is under way for one received message or group of items; calls ``done`` at zero."""

    __slots__ = ("done", "pending")

    def __init__(self, done: Callable[[], None]) -> None:
        self.pending, self.done = 1, done

    def release(self) -> None:
        """Note that one thing is finished."""
        self.pending -= 1
        if not self.pending:
            self.done()


class Abort(BaseException):
    """Unwinds a worker after a failure; not an Exception, so that no element can catch it by accident."""


class Instance:
    """One copy of an element at work."""

    def __init__(self, node: Node, index: int, worker: int) -> None:
        self.node, self.index = node, index
        element = copy.deepcopy(node.element)
        element.id, element.instance, element.instances = node.name, index, len(node.workers)
        self.element: GenericPE = element
        self.inbox: deque[tuple[str, Any, Token | None]] = deque()
        self.upstream = node.upstream
        self.routes: dict[str, list[Callable[[Any], None]]] = {}
        self.statistics = InstanceStatistics(node.name, index, worker)


class Worker:
    """Runs the instances of one worker to the end of the stream.

    ``results`` then holds ``{element: {port: [items]}}`` of the outputs that nothing is connected to.
    """

    def __init__(
        self,
        plan: Plan,
        index: int = 0,
        transport: Transport | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.plan, self.index, self.observers = plan, index, tuple(observers)
        self.transport = transport
        self.results: dict[str, dict[str, list[Any]]] = {}
        self.failure: ElementError | None = None
        self.token: Token | None = None
        self.depth, self.depth_limit, self.backlog = 0, DEPTH, 0
        self.ending: deque[Instance] = deque()
        self.nested = 0.0
        self.sent = 0
        self.awaited: dict[int, tuple[Token | None, Callable[[], None]]] = {}
        self.instances = {
            (node.rank, k): Instance(node, k, index)
            for node in plan.nodes
            for k, place in enumerate(node.workers)
            if place == index
        }
        self.unfinished = len(self.instances)
        self.downstream_first = sorted(self.instances.values(), key=lambda i: -i.node.rank)
        for instance in self.instances.values():
            self._wire(instance)

    # -- wiring ---------------------------------------------------------------------------------------------

    def _wire(self, instance: Instance) -> None:
        for port in instance.element.outputconnections:
            leaving = [c for c in self.plan.connections if c.source == instance.node.rank and c.output == port]
            instance.routes[port] = [make_route(self, instance, c) for c in leaving]
            if not leaving:
                instance.routes[port] = [_Collect(self.results, instance.node.name, port)]
        emit = self._emitter(instance)
        instance.element._emit = emit

    def _emitter(self, instance: Instance) -> Callable[[str, Any], None]:
        routes, statistics, rank = instance.routes, instance.statistics, instance.node.rank
        is_source = instance.node.work is not None

        def emit(port: str, data: Any) -> None:
            try:
                ways = routes[port]
            except KeyError:
                raise GraphError(
                    f"element {instance.node.name!r} wrote to output {port!r}{nearest(str(port), routes)}; "
                    f"its outputs are {', '.join(map(repr, routes)) or 'none'}"
                ) from None
            statistics.written += 1
            for observer in self.observers:
                observer.wrote(statistics, port, data)
            for way in ways:
                way(data)
            if self.backlog and self.depth <= DEPTH // 2:
                while self.run_queued(rank):
                    pass

        return self._group_limited(instance, emit) if is_source and instance.element.open_groups else emit

    def _group_limited(self, instance: Instance, emit: Callable[[str, Any], None]) -> Callable[[str, Any], None]:
        """Hold a source back while ``open_groups`` groups other than the item's are under way."""
        element = instance.element
        limit = element.open_groups or 1
        open_groups: dict[Any, Token] = {}

        def emit_in_group(port: str, data: Any) -> None:
            group = element.group_of(data)
            if group in open_groups:
                token = open_groups[group]
                token.pending += 1
            else:
                while len(open_groups) >= limit:
                    self.wait(instance.node.rank)
                token = open_groups[group] = Token(functools.partial(open_groups.__delitem__, group))
            before, self.token = self.token, token
            try:
                emit(port, data)
            finally:
                self.token = before
            token.release()

        return emit_in_group

    # -- running --------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run to the end of the stream. Raises ElementError when an element fails."""
        try:
            for observer in self.observers:
                observer.started(self.plan, self.index)
            for instance in self.instances.values():
                self._guarded(instance, "preprocess", instance.element.preprocess)
            sources = [i for i in self.instances.values() if i.node.work is not None]
            iterators = deque((s, iter(s.node.work or ())) for s in sources)
            while self.unfinished:
                if self.transport is not None:
                    self._take(self.transport.receive(block=False))
                if self.run_queued(-1) or self._finish_ready() or self._step_sources(iterators):
                    continue
                if self.transport is None:
                    raise RuntimeError("the workflow cannot go on: an instance waits for an end that cannot come")
                self._take(self.transport.receive(block=True))
            for observer in self.observers:
                observer.ended([i.statistics for i in self.instances.values()])
        except Abort:
            assert self.failure is not None
            raise self.failure from self.failure.__cause__

    def run_queued(self, above: int) -> bool:
        """Run one queued item of the most downstream instance of a rank higher than ``above``, if any."""
        for instance in self.downstream_first:
            if instance.node.rank <= above:
                return False
            if instance.inbox:
                port, data, token = instance.inbox.popleft()
                self.backlog -= 1
                before, self.token = self.token, token
                self.run_item(instance, port, data)
                self.token = before
                if token is not None:
                    token.release()
                return True
        return False

    def queue(self, instance: Instance, port: str, data: Any) -> None:
        """Keep an item for an instance that cannot be called directly."""
        if self.token is not None:
            self.token.pending += 1
        instance.inbox.append((port, data, self.token))
        self.backlog += 1

    def wait(self, rank: int) -> None:
        """Let time pass for a writer of this rank: run one more downstream item, or receive messages."""
        if not self.run_queued(rank):
            if self.transport is None:
                raise RuntimeError("a write waits for credit that cannot come back")
            self._take(self.transport.receive(block=True))

    def run_item(self, instance: Instance, port: str, data: Any) -> None:
        """Run one item through an instance, and what comes of it through everything downstream."""
        statistics = instance.statistics
        statistics.received += 1
        for observer in self.observers:
            observer.received(statistics, port, data)
        self.depth += 1
        nested, start = self.nested, time.perf_counter()
        self._invoke(instance, {port: data})
        elapsed = time.perf_counter() - start
        statistics.seconds += elapsed - (self.nested - nested)
        self.nested = nested + elapsed
        self.depth -= 1

    def _step_sources(self, iterators: deque[tuple[Instance, Any]]) -> bool:
        """Run one iteration of the sources in turn."""
        if not iterators:
            return False
        source, work = iterators.popleft()
        item = next(work, None)
        if item is None:
            self.ending.append(source)
            return True
        iterators.append((source, work))
        source.statistics.received += 1
        start, nested = time.perf_counter(), self.nested
        self._invoke(source, item if isinstance(item, dict) else {})
        source.statistics.seconds += time.perf_counter() - start - (self.nested - nested)
        return True

    def _invoke(self, instance: Instance, inputs: dict[str, Any]) -> None:
        if instance.node.policy.kind != "fail":
            self._invoke_tolerant(instance, inputs)
            return
        try:
            outputs = instance.element.process(inputs)
            if self.failure is not None:
                raise Abort
            if outputs:
                for port, data in outputs.items():
                    instance.element._emit(port, data)
        except Exception as error:
            self._fail(instance, "process", error, inputs)

    def _invoke_tolerant(self, instance: Instance, inputs: dict[str, Any]) -> None:
        """Run an item whose outputs leave only when ``process`` has succeeded; try again or skip on errors."""
        element, policy = instance.element, instance.node.policy
        emit = element._emit
        held: list[tuple[str, Any]] = []
        for attempt in range(policy.retries + 1):
            held = []
            element._emit = lambda port, data, held=held: held.append((port, data))  # type: ignore[misc]
            try:
                held += (element.process(inputs) or {}).items()
                break
            except Exception as error:
                if self.failure is not None:
                    raise Abort from None
                if policy.kind == "skip":
                    instance.statistics.skipped += 1
                    for observer in self.observers:
                        observer.skipped(instance.statistics, inputs, error)
                    held = list((element.skipped(inputs, error) or {}).items())
                elif attempt == policy.retries:
                    self._fail(instance, "process", error, inputs)
                else:
                    instance.statistics.retried += 1
            finally:
                element._emit = emit
        for port, data in held:
            emit(port, data)

    def _finish_ready(self) -> bool:
        """End one instance that has seen the end of all its inputs; tell everything downstream."""
        instance = next((i for i in self.ending if not i.inbox), None)
        if instance is None:
            return False
        self.ending.remove(instance)
        self._guarded(instance, "postprocess", instance.element.postprocess)
        self.unfinished -= 1
        for connection in self.plan.connections:
            if connection.source == instance.node.rank:
                self._announce_end(connection)
        return True

    def _announce_end(self, connection: Connection) -> None:
        for worker in sorted(set(self.plan.nodes[connection.target].workers)):
            message = Message("end", self.index, node=connection.target)
            if worker == self.index:
                self._take([message])
            else:
                assert self.transport is not None
                self.transport.send(worker, message)

    def _take(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if message.kind == "item":
                token = Token(lambda m=message: self._acknowledge(m))  # type: ignore[misc]
                self.instances[message.node, message.instance].inbox.append((message.port, message.data, token))
                self.backlog += 1
            elif message.kind == "end":
                for instance in self.instances.values():
                    if instance.node.rank == message.node:
                        instance.upstream -= 1
                        if not instance.upstream:
                            self.ending.append(instance)
            else:
                token_of_sender, credit_back = self.awaited.pop(message.number)
                credit_back()
                if token_of_sender is not None:
                    token_of_sender.release()

    def _acknowledge(self, message: Message) -> None:
        assert self.transport is not None
        self.transport.send(message.sender, Message("done", self.index, message.number))

    def send_item(
        self, worker: int, node: int, instance: int, port: str, data: Any, credit_back: Callable[[], None]
    ) -> int:
        """Send an item to another worker under the current token; return its size in bytes."""
        assert self.transport is not None
        self.sent += 1
        if self.token is not None:
            self.token.pending += 1
        self.awaited[self.sent] = (self.token, credit_back)
        return self.transport.send(worker, Message("item", self.index, self.sent, node, instance, port, data))

    # -- failing --------------------------------------------------------------------------------------------

    def _guarded(self, instance: Instance, phase: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._fail(instance, phase, error, {})

    def _fail(self, instance: Instance, phase: str, error: Exception, inputs: dict[str, Any]) -> None:
        if self.failure is None:
            self.failure = ElementError(
                instance.node.name,
                phase,
                instance.index,
                len(instance.node.workers),
                reprlib.repr(inputs) if inputs else "",
                "".join(traceback.format_exception_only(error)).strip(),
                "".join(traceback.format_exception(error)),
            )
            self.failure.__cause__ = error
        raise Abort


class _Collect:
    """Keeps the items of an unconnected output for the caller."""

    def __init__(self, results: dict[str, dict[str, list[Any]]], element: str, port: str) -> None:
        self.results, self.element, self.port = results, element, port

    def __call__(self, data: Any) -> None:
        self.results.setdefault(self.element, {}).setdefault(self.port, []).append(data)
