"""Transport over MPI: small messages pickled together, large buffers sent from and into memory as they are.

A frame is a list of messages, pickled one by one; the buffers of 32 KiB or more that belong to it follow as messages
of their own, in order. Nothing blocks: a source's frames are delivered in order, each when all of its buffers
have arrived. Without work, a rank looks again after a pause that grows to a millisecond.
"""

from __future__ import annotations

import pickle
import time
from collections import deque
from typing import Any

from xcorr.core.message import DONE, TAKEN, Message
from xcorr.mappings.sockets import FLUSH_BYTES, OUT_OF_BAND, WAIT_S

TAG, CREDIT_TAG = 1, 2  # messages about credit overtake items: they must not wait for large buffers
LONGEST_PAUSE_S = 1e-3


class MpiTransport:
    """Moves messages between the ranks of a communicator; worker numbers are ranks."""

    def __init__(self, communicator: Any) -> None:
        from mpi4py import MPI

        self.mpi, self.communicator = MPI, communicator
        size = communicator.Get_size()
        self.frames: list[list[tuple[bytes, list[Any]]]] = [[] for _ in range(size)]
        self.pending_bytes = [0] * size
        self.sending: deque[tuple[Any, Any]] = deque()
        self.arriving: list[deque[tuple[Any, Any, list[tuple[Any, Any]] | None]]] = [deque() for _ in range(size)]

    def send(self, worker: int, message: Message) -> int:
        """Serialise a message; it leaves when enough has come together or at the next look."""
        if message[0] in (TAKEN, DONE):
            body = pickle.dumps(tuple(message), 5)
            request = self.communicator.Isend([body, self.mpi.BYTE], worker, CREDIT_TAG)
            self.sending.append((request, body))
            return len(body)
        buffers: list[memoryview] = []

        def out_of_band(buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes < OUT_OF_BAND:
                return True
            buffers.append(raw)
            return False

        body = pickle.dumps(tuple(message), 5, buffer_callback=out_of_band)
        self.frames[worker].append((body, buffers))
        self.pending_bytes[worker] += len(body) + sum(b.nbytes for b in buffers)
        if self.pending_bytes[worker] >= FLUSH_BYTES:
            self._push(worker)
        return len(body) + sum(b.nbytes for b in buffers)

    def _push(self, worker: int) -> None:
        frames, self.frames[worker], self.pending_bytes[worker] = self.frames[worker], [], 0
        head = pickle.dumps([(body, [b.nbytes for b in buffers]) for body, buffers in frames], 5)
        for part in (head, *[b for _, buffers in frames for b in buffers]):
            request = self.communicator.Isend([part, self.mpi.BYTE], worker, TAG)
            self.sending.append((request, part))

    def receive(self, block: bool) -> list[Message]:
        """Push out what was sent and return what has arrived; with ``block``, wait a while for something."""
        for worker, frames in enumerate(self.frames):
            if frames:
                self._push(worker)
        until, pause = time.perf_counter() + WAIT_S, 2e-5
        while True:
            while self.sending and self.sending[0][0].Test():
                self.sending.popleft()
            self._accept()
            messages = self._credits() + [m for queue in self.arriving for m in self._complete(queue)]
            if messages or not block or time.perf_counter() > until:
                return messages
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _credits(self) -> list[Message]:
        """Return the messages about credit that have come; they are small and complete."""
        messages = []
        status = self.mpi.Status()
        while (message := self.communicator.Improbe(self.mpi.ANY_SOURCE, CREDIT_TAG, status)) is not None:
            body = bytearray(status.Get_count(self.mpi.BYTE))
            message.Recv([body, self.mpi.BYTE])
            messages.append(Message(*pickle.loads(body)))
        return messages

    def _accept(self) -> None:
        """Begin to receive every head that has come; a source with buffers to come has to wait for those."""
        for source, queue in enumerate(self.arriving):
            while not (queue and queue[-1][2] is None):
                status = self.mpi.Status()
                message = self.communicator.Improbe(source, TAG, status)
                if message is None:
                    break
                head = bytearray(status.Get_count(self.mpi.BYTE))
                queue.append((message.Irecv([head, self.mpi.BYTE]), head, None))
                self._expect_buffers(source)

    def _expect_buffers(self, source: int) -> None:
        """Once a head is here, post the receives of its buffers."""
        queue = self.arriving[source]
        request, head, buffers = queue[-1]
        if buffers is None and request.Test():
            sizes = [size for _, each in pickle.loads(head) for size in each]
            posted = []
            for size in sizes:
                space = bytearray(size)
                posted.append((self.communicator.Irecv([space, self.mpi.BYTE], source, TAG), space))
            queue[-1] = (request, head, posted)

    def _complete(self, queue: deque[tuple[Any, Any, list[tuple[Any, Any]] | None]]) -> list[Message]:
        """Return the messages of the frames at the front that are all here."""
        messages: list[Message] = []
        if queue and queue[-1][2] is None:
            self._expect_buffers(self.arriving.index(queue))
        while queue and queue[0][2] is not None and all(r.Test() for r, _ in queue[0][2]):
            _, head, buffers = queue.popleft()
            spaces = iter([space for _, space in buffers or []])
            for body, sizes in pickle.loads(head):
                messages.append(Message(*pickle.loads(body, buffers=[next(spaces) for _ in sizes])))
        return messages

    def finish(self) -> None:
        """Keep moving messages until every rank has come here."""
        barrier = self.communicator.Ibarrier()
        while not barrier.Test() or self.sending:
            self.receive(block=False)
            time.sleep(LONGEST_PAUSE_S)
