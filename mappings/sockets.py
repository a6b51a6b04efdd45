"""Transport between processes: a socket per pair of workers, large buffers in shared memory on one machine.

Messages are pickled (protocol 5). Buffers of 32 KiB or more go to the sender's arena, and only their place is sent. To
workers that cannot map the arena, because they are on other machines, the bytes are sent. These
messages are sent at once, because the sender may begin a long item. Small messages wait and are sent together.
"""

from __future__ import annotations

import contextlib
import pickle
import select
import socket
import struct
from collections import deque
from typing import Any, NamedTuple

from xcorr.core.message import Message
from xcorr.mappings.arena import ReceiverArena, SenderArena
from xcorr.mappings.pickling import OUT_OF_BAND, pickled

FLUSH_BYTES = 64 << 10
FLUSH_MESSAGES = 256
PLAIN = frozenset((int, float, bool, type(None)))  # types of items that cannot change and can always be pickled
PLAIN_BYTES = 32  # about the size of a message with such an item
WAIT_S = 0.5
HEAD = struct.Struct("!IHH")  # bytes of pickle (0: it is the first buffer), buffers, released offsets
PLACE = struct.Struct("!QQ")  # offset and size in the arena; with size | INLINE the bytes follow instead
OFFSET = struct.Struct("!Q")
INLINE = 1 << 63


class Peer(NamedTuple):
    """Another worker: its number, the socket to it, and the descriptor of its arena if that can be mapped here.

    ``sees``: whether the other worker can map the arena of this one.
    """

    worker: int
    socket: socket.socket
    arena: int | None
    sees: bool = True


class SocketTransport:
    """Moves messages over non-blocking sockets; ``arena`` is the descriptor of this worker's own arena."""

    def __init__(self, index: int, peers: list[Peer], arena: int) -> None:
        self.index = index
        self.arena = SenderArena(arena)
        self.poll = select.poll()  # select() cannot wait for descriptors above 1023
        self.sockets: dict[int, socket.socket] = {}
        self.theirs: dict[int, ReceiverArena] = {}
        self.released: dict[int, deque[int]] = {}
        self.out: dict[int, bytearray] = {}
        self.pending: dict[int, list[Message | bytes]] = {}
        self.pending_bytes: dict[int, int] = {}
        self.unread: dict[int, bytearray] = {}
        self.needed: dict[int, int] = {}  # bytes that must have come before the next frame can be complete
        self.worker_of: dict[int, int] = {}
        self.gone: set[int] = set()  # workers whose stream has ended; the coordinator says what that means
        self.seen_by = {peer.worker for peer in peers if peer.sees}
        for worker, connection, descriptor, _ in peers:
            connection.setblocking(False)
            self.sockets[worker], self.worker_of[connection.fileno()] = connection, worker
            self.released[worker] = deque()  # a deque, because finalizers may append at any moment
            if descriptor is not None:
                self.theirs[worker] = ReceiverArena(descriptor, self.released[worker].append)
            self.out[worker], self.unread[worker] = bytearray(), bytearray()
            self.pending[worker], self.pending_bytes[worker], self.needed[worker] = [], 0, 0
            self.poll.register(connection, select.POLLIN)

    def leave(self) -> None:
        """Send what has not been sent, and wait until every other worker has sent its last message or has died."""
        open_ends = set(self.sockets)
        self.receive(block=False)
        while open_ends or len(self.gone) < len(self.sockets):
            for worker in {w for w in open_ends if w in self.gone or not self.out[w]}:
                open_ends.remove(worker)
                with contextlib.suppress(OSError):  # the other worker has died
                    self.sockets[worker].shutdown(socket.SHUT_WR)
            self.receive(block=len(self.gone) < len(self.sockets))

    def wake_for(self, descriptor: int) -> None:
        """End a blocking receive also when a descriptor becomes readable."""
        self.poll.register(descriptor, select.POLLIN)

    def send(self, worker: int, message: Message) -> int:
        """Serialise a message. It is sent when enough bytes are waiting, or at the next call of :meth:`receive`.

        Small plain values are pickled together when they are sent, because they cannot change until then. Raises any
        error of pickling.
        """
        pending = self.pending[worker]
        if type(message[6]) in PLAIN:
            pending.append(message)
            if len(pending) >= FLUSH_MESSAGES:
                self._flush(worker)
                self._push(worker)
            return PLAIN_BYTES
        body, buffers = pickled(message)
        size = len(body) + sum(b.nbytes for b in buffers)
        if not buffers and len(body) >= OUT_OF_BAND:
            body, buffers = b"", [memoryview(body)]
        if buffers:
            self._flush(worker)  # messages that wait were sent before this one
            self._add_frame(worker, body, buffers)
        else:
            pending.append(body)
            self.pending_bytes[worker] += len(body)
        if buffers or len(self.out[worker]) + self.pending_bytes[worker] >= FLUSH_BYTES:
            self._flush(worker)
            self._push(worker)
        return size

    def _flush(self, worker: int) -> None:
        """Put all messages that wait for a worker into one frame."""
        pending = self.pending[worker]
        if pending:
            self._add_frame(worker, pickle.dumps(pending, 5), [])
            self.pending[worker], self.pending_bytes[worker] = [], 0

    def _add_frame(self, worker: int, body: bytes, buffers: list[memoryview]) -> None:
        out, released = self.out[worker], self.released[worker]
        offsets = [released.popleft() for _ in range(min(len(released), 1000))]  # HEAD has 16 bits for their number
        out += HEAD.pack(len(body), len(buffers), len(offsets))
        for offset in offsets:
            out += OFFSET.pack(offset)
        out += body
        for buffer in buffers:
            place = self.arena.put(buffer) if worker in self.seen_by else None
            if place is None:
                out += PLACE.pack(0, buffer.nbytes | INLINE)
                out += buffer
            else:
                out += PLACE.pack(place, buffer.nbytes)

    def _push(self, worker: int) -> None:
        out = self.out[worker]
        while out:
            try:
                sent = self.sockets[worker].send(memoryview(out)[: 1 << 20])
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                out.clear()  # the other worker is gone; the coordinator says what that means
                return
            del out[:sent]

    def receive(self, block: bool) -> list[Message]:
        """Push out sent messages and return those that have arrived. With ``block``, wait a while for one."""
        for worker, released in self.released.items():
            self._flush(worker)
            if len(released) > 100 or (released and block):  # a few wait for the next message, and travel with it
                self._add_frame(worker, b"", [])
            if self.out[worker] and worker not in self.gone:
                self._push(worker)
                # POLLOUT only with bytes to send, else poll would never wait
                mode = select.POLLIN | select.POLLOUT if self.out[worker] else select.POLLIN
                self.poll.modify(self.sockets[worker], mode)
        messages: list[Message] = []
        for descriptor, event in self.poll.poll(1000 * WAIT_S if block else 0):
            if descriptor not in self.worker_of:
                continue  # a descriptor of :meth:`wake_for`, which the caller reads
            worker = self.worker_of[descriptor]
            if event & select.POLLOUT:
                self._push(worker)
            if event & ~select.POLLOUT:
                self._pull(worker, messages)
        return messages

    def _pull(self, worker: int, messages: list[Message]) -> None:
        """Read the bytes in a socket and decode all complete frames."""
        unread = self.unread[worker]
        with contextlib.suppress(BlockingIOError):  # there is no more for now
            unread += self._read(worker)
        if len(unread) < self.needed[worker]:
            return  # the next frame cannot be complete yet
        at = 0
        with memoryview(unread) as view:
            while (end := self._frame(worker, view, at, messages)) > at:
                at = end
        del unread[:at]  # outside the block, because a bytearray with views cannot shrink

    def _read(self, worker: int) -> bytes:
        """Return the bytes that a worker has sent. After the end of its stream, stop polling its socket."""
        try:
            chunk = self.sockets[worker].recv(1 << 20)
        except ConnectionResetError:
            chunk = b""
        if not chunk:
            self.gone.add(worker)
            self.poll.unregister(self.sockets[worker])
        return chunk

    def _frame(self, worker: int, view: memoryview, at: int, messages: list[Message]) -> int:
        """Decode one frame. Return where the next frame begins, or ``at`` if this frame is not complete yet."""
        self.needed[worker] = 0
        if len(view) < at + HEAD.size:
            return at
        length, count, freed = HEAD.unpack_from(view, at)
        end: int
        body = at + HEAD.size + freed * OFFSET.size
        end = body + length
        places = []
        for _ in range(count):
            if len(view) < end + PLACE.size:
                self.needed[worker] = end + PLACE.size - at
                return at
            offset, size = PLACE.unpack_from(view, end)
            end += PLACE.size
            places.append((offset, size, end))
            if size & INLINE:
                end += size & ~INLINE
        if len(view) < end:
            self.needed[worker] = end - at
            return at
        for k in range(freed):
            self.arena.release(OFFSET.unpack_from(view, at + HEAD.size + k * OFFSET.size)[0])
        if length or count:
            buffers: list[Any] = [
                # a copy, because these bytes are soon removed from unread
                bytearray(view[start : start + (size & ~INLINE)])
                if size & INLINE
                else self.theirs[worker].get(offset, size)
                for offset, size, start in places
            ]
            inside = view[body : body + length]
            content = pickle.loads(inside, buffers=buffers) if length else pickle.loads(buffers[0])
            if count:
                messages.append(content)
            else:
                messages += [pickle.loads(m) if isinstance(m, bytes) else m for m in content]
        return end
