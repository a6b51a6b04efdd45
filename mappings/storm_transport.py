"""Transport between the tasks of a Storm topology: frames of messages in tuples, large buffers beside them.

A frame is a pickle of messages and their buffers. It is sent as base64 text in parts of at most 1 MiB, because nested
values do not pass between Storm's workers. If sender and receiver are on one host, buffers of 32 KiB or more go through
files in memory, which the receiver removes. Frames between two tasks are numbered, because Storm may drop or repeat
tuples when a worker dies. A repeated frame is dropped here, and a lost frame is an error.
"""

from __future__ import annotations

import base64
import pickle
import queue
import time
from pathlib import Path
from typing import Any

from xcorr.core.message import Message, WorkerDied
from xcorr.mappings.multilang import Channel
from xcorr.mappings.pickling import pickled
from xcorr.mappings.storm_topology import Stage, key_of

PART_BYTES = 1 << 20
FLUSH_BYTES, FLUSH_MESSAGES = 64 << 10, 256
WAIT_S = 0.5
LOST_S = 30.0  # a frame that is later than this is lost
PING, PONG, FRAME = "ping", "pong", "frame"


class StormTransport:
    """Moves messages for one worker; ``hosts`` names the host of every worker, ``memory`` is a folder in memory."""

    def __init__(
        self, channel: Channel, worker: int, stages: tuple[Stage, ...], hosts: dict[int, str], memory: Path
    ) -> None:
        self.channel, self.worker, self.hosts, self.memory = channel, worker, hosts, memory
        self.way: dict[int, tuple[str, str]] = {}
        mine = next(s for s in stages if s.first <= worker < s.first + s.tasks)
        for stage in stages:
            if stage.name in mine.neighbours:
                self.way |= {stage.first + k: (stage.name, key_of(k, stage.tasks)) for k in range(stage.tasks)}
        self.way.pop(worker, None)
        self.pending: dict[int, list[tuple[bytes, list[bytes]]]] = {w: [] for w in self.way}
        self.pending_bytes = dict.fromkeys(self.way, 0)
        self.sent = dict.fromkeys(self.way, 0)
        self.expected = dict.fromkeys(self.way, 0)
        self.early: dict[tuple[int, int], Any] = {}
        self.parts: dict[tuple[int, int], list[str]] = {}
        self.late_since: float | None = None
        self.placed = 0
        self.met: set[int] = set()
        self.arrived: list[Message] = []  # messages may come during :meth:`meet`

    def meet(self, deadline_s: float = 60.0) -> None:
        """Wait until every neighbour has answered, because Storm loses tuples sent before its workers are connected."""
        end = time.monotonic() + deadline_s
        while len(self.met) < len(self.way):
            if time.monotonic() > end:
                raise WorkerDied(f"no answer from tasks {sorted(self.way.keys() - self.met)} through Storm")
            for worker in self.way.keys() - self.met:
                self._emit(worker, [PING, str(self.worker)])
            self._wait(WAIT_S)

    def send(self, worker: int, message: Message) -> int:
        """Serialise a message. It is sent when enough bytes are waiting, or at the next call of :meth:`receive`."""
        body, buffers = pickled(message)
        size = len(body) + sum(b.nbytes for b in buffers)
        aside = self.hosts[worker] == self.hosts[self.worker]
        parts = [self._put_aside(b) if aside else bytes(b) for b in buffers]  # copies: the sender may change them
        self.pending[worker].append((body, parts))
        self.pending_bytes[worker] += len(body) + sum(map(len, parts))
        if self.pending_bytes[worker] >= FLUSH_BYTES or len(self.pending[worker]) >= FLUSH_MESSAGES:
            self._flush(worker)
        return size

    def _put_aside(self, buffer: memoryview) -> bytes:
        self.placed += 1
        path = self.memory / f"{self.worker}-{self.placed}"
        path.write_bytes(buffer)
        return str(path).encode()

    def _flush(self, worker: int) -> None:
        pending = self.pending[worker]
        if not pending:
            return
        aside = self.hosts[worker] == self.hosts[self.worker]
        frame = pickle.dumps((aside, pending), 5)
        pieces = [frame[low : low + PART_BYTES] for low in range(0, len(frame), PART_BYTES)]
        number = self.sent[worker]
        self.sent[worker] += 1
        for k, piece in enumerate(pieces):
            text = base64.urlsafe_b64encode(piece).decode()
            self._emit(worker, [FRAME, str(self.worker), str(number), str(k), str(len(pieces)), text])
        self.pending[worker], self.pending_bytes[worker] = [], 0

    def _emit(self, worker: int, words: list[str]) -> None:
        stream, key = self.way[worker]
        self.channel.emit(stream, [key, " ".join(words)])

    def receive(self, block: bool) -> list[Message]:
        """Push out sent messages and return those that have arrived. With ``block``, wait a while for one."""
        for worker in self.pending:
            self._flush(worker)
        self._wait(WAIT_S if block and not self.arrived else 0.0)
        if self.late_since is not None and time.monotonic() - self.late_since > LOST_S:
            raise WorkerDied(f"Storm lost tuples from task {next(iter(self.early))[0]} to task {self.worker}")
        messages, self.arrived = self.arrived, []
        return messages

    def _wait(self, seconds: float) -> None:
        try:
            fields = self.channel.tuples.get(seconds > 0, seconds or None)
            while True:
                self._take(fields[-1])
                fields = self.channel.tuples.get_nowait()
        except queue.Empty:
            return

    def _take(self, text: str) -> None:
        kind, *words = text.split(" ")
        if kind == PING:
            self._emit(int(words[0]), [PONG, str(self.worker)])
        elif kind == PONG:
            self.met.add(int(words[0]))
        elif kind == FRAME:
            sender, number, part, parts = (int(w) for w in words[:4])
            self._take_part(sender, number, part, parts, words[4])

    def _take_part(self, sender: int, number: int, part: int, parts: int, text: str) -> None:
        if number < self.expected[sender] or (sender, number) in self.early:
            return  # a repetition
        known = self.parts.setdefault((sender, number), [""] * parts)
        known[part] = text
        if not all(known):
            return
        del self.parts[sender, number]
        self.early[sender, number] = pickle.loads(b"".join(base64.urlsafe_b64decode(p) for p in known))
        while (sender, self.expected[sender]) in self.early:
            aside, bodies = self.early.pop((sender, self.expected[sender]))
            self.expected[sender] += 1
            self.arrived += [_message(body, buffers, aside) for body, buffers in bodies]
        self.late_since = None if not self.early else self.late_since or time.monotonic()


def _message(body: bytes, buffers: list[bytes], aside: bool) -> Message:
    if aside:
        paths = [Path(b.decode()) for b in buffers]
        # arrays in a bytearray can be written to, as on other mappings
        contents = [bytearray(p.read_bytes()) for p in paths]
        for path in paths:
            path.unlink()
    else:
        contents = [bytearray(b) for b in buffers]
    return Message(*pickle.loads(body, buffers=contents))
