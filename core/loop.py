"""The one execution loop: receive, process, emit, end of stream, credits, errors, statistics.

A :class:`Worker` runs the instances that the plan places on it. An item for an instance on the same worker is processed
at once, by reference. An item for another worker goes through a :class:`~xcorr.core.message.Transport`, the only part
that a mapping provides.

Memory is bounded and deadlock is impossible. An item that is sent to another worker uses credit of its connection. The
credit comes back when the item, and all items that were made from it on any worker, are finished. Each worker then
acknowledges its message (Dijkstra & Scholten 1980). A ``write`` without credit waits. While it waits, it runs on its
own thread only instances of higher rank. If one write waits for another, the other one has a higher rank, so no circle
of waits is possible.
"""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any, NoReturn

from xcorr.core.errors import XcorrError
from xcorr.core.forks import forks
from xcorr.core.instance import Collect, Emit, Instance
from xcorr.core.interrupt import is_interrupt
from xcorr.core.message import DONE, END, ITEM, TAKEN, Abort, Message, Receipt, Stopped, Token, Transport
from xcorr.core.observe import Observer, WorkerStatistics
from xcorr.core.plan import Connection, Plan
from xcorr.core.route import DEPTH, Link, make_route

POLL_S = 0.0005  # between looks for messages while there is work
REPORT_S = 0.5  # between reports of statistics

Tell = Callable[[WorkerStatistics], None]


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
        tell: Tell | None = None,
    ) -> None:
        self.plan, self.index, self.transport = plan, index, transport
        forks.returned = False  # this worker itself may be a fork, of the server of processes
        watching = [o.at_work(plan, index) for o in observers]
        self.hear = {
            name: [self._telling(o, name) for o in watching if o.hears(name)]
            for name in ("started", "invoked", "wrote", "processed", "skipped", "ended", "failed")
        }
        self.origin = ""  # the name that an observer has given to the current item
        self.invoked, self.processed = self.hear["invoked"], self.hear["processed"]
        self.results: dict[str, dict[str, list[Any]]] = {}
        self.failure: XcorrError | KeyboardInterrupt | None = None
        self.token: Token | Receipt | None = None
        self.depth, self.backlog, self.nested = 0, 0, 0.0
        self.sent, self.unpushed, self.cpu_seconds, self.started = 0, False, 0.0, perf_counter()
        self.moved: dict[str, list[int]] = {}
        self.awaited: dict[int, tuple[Token | Receipt | None, Link, int]] = {}
        self.taken: dict[int, list[int]] = {k: [] for k in range(plan.workers)}
        self.finished: dict[int, list[int]] = {k: [] for k in range(plan.workers)}
        self.ending: deque[Instance] = deque()
        self._tell, self._next_poll, self._next_report = tell, 0.0, self.started + REPORT_S
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

    def _wire(self, instance: Instance) -> None:
        for port in instance.element.outputconnections:
            leaving = [c for c in self.plan.connections if c.source == instance.node.rank and c.output == port]
            instance.routes[port] = [make_route(self, instance, c) for c in leaving]
            if not leaving:
                instance.routes[port] = [Collect(self.results, instance.node.name, port)]
        instance.element._emit = instance.emit = self._emitter(instance)

    def _emitter(self, instance: Instance) -> Emit:
        routes, statistics, rank, wrote = instance.routes, instance.statistics, instance.node.rank, self.hear["wrote"]

        def emit(port: str, data: Any) -> None:
            try:
                ways = routes[port]
            except KeyError:
                raise instance.unknown_output(port) from None
            statistics.written += 1
            if wrote:
                # a list, because every observer must hear of the item, not only the first that names it
                origin = next(filter(None, [tell(statistics, port, data) for tell in wrote]), "")
                for way in ways:
                    self.origin = origin  # for every way again, because calls downstream change it
                    way(data)
            else:
                for way in ways:
                    way(data)
            if self.backlog and self.depth <= DEPTH // 2:
                while self.run_queued(rank):  # only downstream: the writer is in the middle of an item
                    pass

        limited = instance.node.work is not None and instance.element.open_groups
        return self._group_limited(instance, emit) if limited else emit

    def _group_limited(self, instance: Instance, emit: Emit) -> Emit:
        """Make a source wait before it writes an item of a new group, while ``open_groups`` groups are under way."""
        element, limit = instance.element, instance.element.open_groups or 1
        open_groups: dict[Any, Token] = {}

        def emit_in_group(port: str, data: Any) -> None:
            group = element.group_of(data)
            if group in open_groups:
                token = open_groups[group]
                token.pending += 1  # so that the group cannot end while this item is being written
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

    def _telling(self, observer: Observer, event: str) -> Callable[..., Any]:
        """Return an observer's method. If the method raises, the run ends with an error that names the observer."""
        method = getattr(observer, event)

        def tell(*about: Any) -> Any:
            try:
                return method(*about)
            except BaseException as error:
                if is_interrupt(error):
                    raise
                if self.failure is None:
                    self.failure = XcorrError(
                        f"observer {type(observer).__name__} failed in {event}: {type(error).__name__}: {error}"
                    )
                    self.failure.__cause__ = error
                raise Abort from error

        return method if event == "failed" else tell

    # -- running --------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run to the end of the stream.

        Raises ElementError when an element fails, Stopped when told to give up, KeyboardInterrupt on Ctrl-C.
        """
        try:
            for tell in self.hear["started"]:
                tell(self.plan, self.index)
            for instance in self.downstream_first:  # an item written in preprocess needs prepared receivers
                self._guarded(instance, "preprocess", instance.element.preprocess)
            self._work()
            for tell in self.hear["ended"]:
                tell([i.statistics for i in self.instances.values()])
        except BaseException as error:
            # an Abort without a failure comes from a STOP message
            failure = (self.failure or Stopped("another worker failed")) if isinstance(error, Abort) else error
            for tell in self.hear["failed"]:
                tell(failure)
            raise failure from failure.__cause__

    def give_up(self, why: XcorrError | KeyboardInterrupt) -> None:
        """Stop the run after the current item. Another thread or a signal handler may call this.

        The element at work is not interrupted. Items that it writes or returns from now on are dropped.
        """
        if self.failure is None:
            self.failure = why
        for instance in self.instances.values():
            instance.element._emit = _give_up

    def _work(self) -> None:
        sources = deque((i, iter(i.node.work)) for i in self.instances.values() if i.node.work is not None)
        while self.unfinished:
            self.poll()
            before = time.thread_time()  # of this thread, because other workers may be threads of this process
            busy = self._burst() or self._finish_ready() or self._step_sources(sources)
            self.cpu_seconds += time.thread_time() - before
            if not busy:
                if self.transport is None:
                    raise RuntimeError("the workflow cannot go on: an instance waits for the end of an input")
                self._receive(block=True)
        if self.transport is not None:  # other workers wait for the last acknowledgements and ends
            self._receive(block=False)

    def _burst(self) -> bool:
        """Run queued items, the most downstream first, until the next poll for messages is due."""
        if not self.backlog:
            return False
        while self.run_queued(-1) and perf_counter() < self._next_poll:
            pass
        return True

    def poll(self) -> None:
        """Receive messages and report statistics, unless the last poll was less than :data:`POLL_S` ago."""
        now = perf_counter()
        if now < self._next_poll:
            return
        self._next_poll = now + POLL_S
        self._report(now)
        if self.transport is not None:
            self._receive(block=False)

    def _report(self, now: float) -> None:
        """Report statistics, unless the last report was less than :data:`REPORT_S` ago."""
        if self._tell is not None and now >= self._next_report:
            self._next_report = now + REPORT_S
            self._tell(self.statistics())

    def run_queued(self, above: int) -> bool:
        """Run one queued item of the most downstream instance of a rank higher than ``above``, if any."""
        for instance in self.downstream_first:
            if instance.node.rank <= above:
                return False
            if instance.inbox:
                # this may run in the middle of a write, which needs its own back
                before, origin = self.token, self.origin
                port, data, token, sender, self.origin = instance.inbox.popleft()
                self.backlog -= 1
                self.token = token
                self.run_item(instance, {port: data})
                self.token, self.origin = before, origin
                if sender >= 0 and isinstance(token, Receipt):
                    self.taken[sender].append(token.number)
                if token is not None:
                    token.release()
                return True
        return False

    def queue(self, instance: Instance, port: str, data: Any) -> None:
        """Keep an item for an instance that cannot be called directly."""
        if self.token is not None:
            self.token.pending += 1
        instance.inbox.append((port, data, self.token, -1, self.origin))
        self.backlog += 1

    def wait(self, rank: int) -> None:
        """Use the waiting time of a writer with this rank: run one item of higher rank, else receive messages."""
        if not self.run_queued(rank):
            if self.transport is None:
                raise RuntimeError("a write waits for credit that cannot come back")
            self._receive(block=True)

    def run_item(self, instance: Instance, inputs: dict[str, Any]) -> None:
        """Run one item through an instance, and its outputs through all instances downstream."""
        if self.transport is None:  # one item of a source may bring about all others before the next poll
            self._report(perf_counter())
        origin = self.origin
        for tell in self.invoked:
            tell(instance.statistics, inputs, origin)
        self.depth += 1
        nested = self.nested
        start = perf_counter()
        if instance.fails:
            try:
                outputs = instance.process(inputs)
                if forks.returned:
                    forks.end(instance.node.name)
                if self.failure is not None:  # another thread or a signal handler may have given up meanwhile
                    raise Abort
                if outputs:
                    emit = instance.emit
                    for port, data in outputs.items():
                        emit(port, data)
            except BaseException as error:
                self._fail(instance, "process", error, inputs)
        else:
            self._tolerant(instance, inputs)
        elapsed = perf_counter() - start
        statistics = instance.statistics
        statistics.received += 1
        statistics.seconds += elapsed - self.nested + nested
        self.nested = nested + elapsed
        self.depth -= 1
        self.origin = origin
        for tell in self.processed:
            tell(statistics)

    def _tolerant(self, instance: Instance, inputs: dict[str, Any]) -> None:
        """Run an item and send its outputs only when ``process`` has succeeded. Retry or skip the item on errors."""
        element, policy, statistics = instance.element, instance.node.policy, instance.statistics
        emit = element._emit
        held: list[tuple[str, Any]] = []
        for attempt in range(policy.retries + 1):
            held = []
            # the default binds this attempt's list, because the variable is for all attempts
            element._emit = lambda port, data, held=held: held.append((port, data))  # type: ignore[misc]
            try:
                held += (element.process(inputs) or {}).items()
                if forks.returned:
                    forks.end(instance.node.name)
                break
            except Exception as error:
                if policy.kind == "skip":
                    statistics.skipped += 1
                    for tell in self.hear["skipped"]:
                        tell(statistics, inputs, error)
                    held.clear()  # cleared, not replaced: what skipped() writes goes to this list
                    self._skip(instance, inputs, error, held)
                elif attempt == policy.retries:
                    self._fail(instance, "process", error, inputs)
                else:
                    statistics.retried += 1
            except BaseException as error:
                self._fail(instance, "process", error, inputs)
            finally:
                element._emit = emit  # this may have undone give_up, so the failure is checked next
        if self.failure is not None:
            raise Abort
        try:
            for port, data in held:
                emit(port, data)
        except BaseException as error:
            self._fail(instance, "process", error, inputs)

    def _skip(self, instance: Instance, inputs: dict[str, Any], error: Exception, held: list[tuple[str, Any]]) -> None:
        """Add the items to ``held`` that an element sends in place of an item that failed."""
        try:
            held += (instance.element.skipped(inputs, error) or {}).items()
        except BaseException as second:
            self._fail(instance, "skipped", second, inputs)

    def _step_sources(self, sources: deque[tuple[Instance, Iterator[Any]]]) -> bool:
        """Run one iteration of the sources in turn."""
        if not sources:
            return False
        source, work = sources.popleft()
        item = next(work, None)
        if item is None:
            self.ending.append(source)
            return True
        sources.append((source, work))
        self.origin = ""
        self.run_item(source, item if isinstance(item, dict) else {})
        return True

    # -- ends and messages ----------------------------------------------------------------------------------

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
        # one message counts for all instances of a worker
        for worker in sorted(set(self.plan.nodes[connection.target].workers)):
            message = Message(END, self.index, node=connection.target)
            if worker == self.index:
                self._take(message)
            else:
                assert self.transport is not None
                self.transport.send(worker, message)

    def send_item(self, link: Link, data: Any) -> int:
        """Send an item over a link under the current token; return its size in bytes."""
        assert self.transport is not None
        self.sent += 1
        number, to = self.sent, link.connection
        message = (ITEM, self.index, number, to.target, link.instance, to.input, data, self.origin)
        size = self.transport.send(link.place, message)  # type: ignore[arg-type]  # a Message takes longer to make
        if self.token is not None:
            self.token.pending += 1
        self.awaited[number] = (self.token, link, size)
        self.unpushed = True
        return size

    def push(self) -> None:
        """Push out sent messages before this worker begins a long item."""
        if self.unpushed:
            self._receive(block=False)

    def _receive(self, block: bool) -> None:
        assert self.transport is not None
        self.unpushed = False
        # TAKEN first: DONE removes the entries that TAKEN needs
        for kind, by_sender in ((TAKEN, self.taken), (DONE, self.finished)):
            for sender, numbers in by_sender.items():
                if numbers:
                    # a copy, because threads pass the list itself, and it is cleared
                    self.transport.send(sender, Message(kind, self.index, data=numbers.copy()))
                    numbers.clear()
        for message in self.transport.receive(block):
            self._take(message)

    def _take(self, message: Message) -> None:
        kind, sender, number, node, index, port, data, origin = message
        if kind == ITEM:
            instance = self.instances[node, index]
            told = sender if instance.distributed else -1  # other senders do not ask how many items are in hand
            instance.inbox.append((port, data, Receipt(number, self.finished[sender]), told, origin))
            self.backlog += 1
        elif kind == TAKEN:
            for number in data:
                self.awaited[number][1].taken()
        elif kind == DONE:
            for number in data:
                token, link, size = self.awaited.pop(number)
                link.done(size)
                if token is not None:
                    token.release()
        elif kind == END:
            for instance in self.instances.values():
                if instance.node.rank == node:
                    instance.upstream -= 1
                    if not instance.upstream:
                        self.ending.append(instance)
        else:
            raise Abort

    def statistics(self) -> WorkerStatistics:
        """Return the numbers so far."""
        for instance in self.instances.values():
            instance.statistics.units = instance.element.units
        instances = [i.statistics for i in self.instances.values()]
        elapsed = perf_counter() - self.started
        moved = {name: (items, size) for name, (items, size) in self.moved.items() if items}
        return WorkerStatistics(self.index, instances, elapsed, self.cpu_seconds, moved)

    # -- failing --------------------------------------------------------------------------------------------

    def _guarded(self, instance: Instance, phase: str, call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:
            self._fail(instance, phase, error, {})
        if self.failure is not None:
            raise Abort

    def _fail(self, instance: Instance, phase: str, error: BaseException, inputs: dict[str, Any]) -> NoReturn:
        """Remember the first failure and unwind: whatever an element raises, SystemExit too, is its failure."""
        if self.failure is None and not isinstance(error, Abort):
            if isinstance(error, KeyboardInterrupt) and is_interrupt(error):
                self.failure = error
            else:
                self.failure = instance.describe_failure(phase, error, inputs)
            self.give_up(self.failure)  # so that an element that catches everything writes no more
        raise Abort


def _give_up(port: str, data: Any) -> NoReturn:
    raise Abort
