"""Transport over MPI: small messages are pickled together, large buffers are sent without copies.

A frame is a list of messages for one node, pickled one by one. Buffers of 32 KiB or more follow the frame as separate
MPI messages, in order. No call blocks. Frames are delivered in order, each when all its buffers have arrived. A rank
without work looks for messages again after a pause, which grows up to a millisecond.
"""

from __future__ import annotations

import pickle
import time
from array import array
from collections import deque
from typing import Any

from xcorr.core.message import DONE, TAKEN, Message
from xcorr.mappings.pickling import pickled
from xcorr.mappings.sockets import FLUSH_BYTES, WAIT_S

CREDIT_TAG, HEAD_TAG = 1, 2  # a head for node k has the tag HEAD_TAG + k; its buffers HEAD_TAG + k + nodes
LONGEST_PAUSE_S = 1e-3
FINISH_PAUSE_S = 1e-4


class _Frame:
    """A frame that is arriving: its head, then its buffers."""

    def __init__(self, request: Any, head: bytearray) -> None:
        self.request, self.head = request, head
        self.buffers: list[tuple[Any, bytearray]] | None = None

    def is_here(self) -> bool:
        return self.buffers is not None and all(request.Test() for request, _ in self.buffers)

    def messages(self) -> list[Message]:
        spaces = iter([space for _, space in self.buffers or []])
        return [pickle.loads(body, buffers=[next(spaces) for _ in sizes]) for body, sizes in pickle.loads(self.head)]


class MpiTransport:
    """Moves messages between the ranks of a communicator; worker numbers are ranks.

    Each pair of ranks has one stream of frames for each node of the plan, so that small items do not wait for large
    items of another connection. Messages about credit overtake all other messages.
    """

    def __init__(self, communicator: Any, nodes: int) -> None:
        from mpi4py import MPI

        self.mpi, self.communicator, self.nodes = MPI, communicator, nodes
        self.frames: dict[tuple[int, int], list[tuple[bytes, list[Any]]]] = {}
        self.pending_bytes: dict[tuple[int, int], int] = {}
        self.sending: deque[tuple[Any, Any]] = deque()
        # no NumPy array, because small workflows need not import NumPy
        self.started = array("q", [0] * communicator.Get_size())  # messages to each rank, buffers included
        self.came = 0  # messages received from all ranks, buffers included
        others = [r for r in range(communicator.Get_size()) if r != communicator.Get_rank()]
        self.arriving: dict[tuple[int, int], deque[_Frame]] = {(r, k): deque() for r in others for k in range(nodes)}

    def send(self, worker: int, message: Message) -> int:
        """Serialise a message. It is sent when enough bytes are waiting, or at the next call of :meth:`receive`."""
        if message[0] in (TAKEN, DONE):
            body = pickle.dumps(message, 5)
            self._start(body, worker, CREDIT_TAG)
            return len(body)
        body, buffers = pickled(message)
        size = len(body) + sum(b.nbytes for b in buffers)
        stream = worker, message[3]
        self.frames.setdefault(stream, []).append((body, buffers))
        self.pending_bytes[stream] = self.pending_bytes.get(stream, 0) + size
        if self.pending_bytes[stream] >= FLUSH_BYTES:
            self._push(stream)
        return size

    def _start(self, part: Any, worker: int, tag: int) -> None:
        # the part is kept with its request, because MPI reads it until it is sent
        self.sending.append((self.communicator.Isend([part, self.mpi.BYTE], worker, tag), part))
        self.started[worker] += 1

    def _push(self, stream: tuple[int, int]) -> None:
        frames = self.frames.pop(stream)
        self.pending_bytes[stream] = 0
        worker, node = stream
        head = pickle.dumps([(body, [b.nbytes for b in buffers]) for body, buffers in frames], 5)
        self._start(head, worker, HEAD_TAG + node)
        for _, buffers in frames:
            for buffer in buffers:
                self._start(buffer, worker, HEAD_TAG + node + self.nodes)

    def receive(self, block: bool) -> list[Message]:
        """Push out sent messages and return those that have arrived. With ``block``, wait a while for one."""
        for stream in list(self.frames):
            self._push(stream)
        until, pause = time.perf_counter() + WAIT_S, 2e-5
        while True:
            while self.sending and self.sending[0][0].Test():
                self.sending.popleft()
            messages = self._credits()
            for (source, node), queue in self.arriving.items():
                self._accept(source, node, queue)
                while queue and queue[0].is_here():
                    frame = queue.popleft()
                    self.came += 1 + len(frame.buffers or ())
                    messages += frame.messages()
            if messages or not block or time.perf_counter() > until:
                return messages
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _credits(self) -> list[Message]:
        """Return the messages about credit that have come; they are small and complete."""
        messages = []
        status = self.mpi.Status()
        # matched, so that size and content belong to one message
        while (message := self.communicator.Improbe(self.mpi.ANY_SOURCE, CREDIT_TAG, status)) is not None:
            body = bytearray(status.Get_count(self.mpi.BYTE))
            message.Recv([body, self.mpi.BYTE])
            self.came += 1
            messages.append(pickle.loads(body))
        return messages

    def _accept(self, source: int, node: int, queue: deque[_Frame]) -> None:
        """Begin to receive the heads of a stream that have come, and the buffers that these heads announce."""
        while True:
            last = queue[-1] if queue else None
            if last is not None and last.buffers is None:
                if not last.request.Test():  # buffers have no numbers, so they are received in the order of their heads
                    return
                last.buffers = []
                for _, sizes in pickle.loads(last.head):
                    for size in sizes:
                        space, tag = bytearray(size), HEAD_TAG + node + self.nodes
                        last.buffers.append((self.communicator.Irecv([space, self.mpi.BYTE], source, tag), space))
            status = self.mpi.Status()
            message = self.communicator.Improbe(source, HEAD_TAG + node, status)
            if message is None:
                return
            head = bytearray(status.Get_count(self.mpi.BYTE))
            queue.append(_Frame(message.Irecv([head, self.mpi.BYTE]), head))

    def finish(self) -> None:
        """Keep moving messages until every rank has called this and has received all messages sent to it.

        The last messages are about credit for which no rank waits. Left unreceived, they would disturb the end of MPI.
        """
        self.receive(block=False)  # pushes out the last frames, before they are counted
        numbers = array("q", self.started)
        # not blocking, because other ranks may still wait for messages from here
        exchange = self.communicator.Ialltoall([self.started, self.mpi.INT64_T], [numbers, self.mpi.INT64_T])
        while not exchange.Test():
            self.receive(block=False)
            time.sleep(FINISH_PAUSE_S)
        while self.sending or self.came < sum(numbers):
            self.receive(block=False)
            time.sleep(FINISH_PAUSE_S)
        barrier = self.communicator.Ibarrier()  # no rank may leave MPI while another still receives
        while not barrier.Test():
            time.sleep(FINISH_PAUSE_S)
