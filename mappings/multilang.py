"""The component's side of Storm's multilang protocol: JSON messages, each ended by a line ``end``.

For the JVM every byte on standard output is part of a message. So :func:`take_standard_streams` moves both pipes to
other descriptors first. A thread reads messages and answers heartbeats while the component computes.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

HEARTBEAT = "__heartbeat"


class Setup(NamedTuple):
    """The first message of Storm to a component: settings, its task, and the component of every task."""

    conf: dict[str, Any]
    task: int
    components: dict[int, str]

    def place(self) -> tuple[str, int]:
        """Return the name of this component, and the place of this task among its tasks."""
        name = self.components[self.task]
        return name, sorted(t for t, c in self.components.items() if c == name).index(self.task)


def take_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Return the pipes from and to the JVM. Standard input is then empty, and standard output goes to the log."""
    from_jvm, to_jvm = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return from_jvm, to_jvm


class Channel:
    """The pipes to the JVM. ``tuples`` holds the fields of the tuples that came."""

    def __init__(self, from_jvm: BinaryIO, to_jvm: BinaryIO) -> None:
        self._from, self._to = from_jvm, to_jvm
        self._writing = threading.Lock()
        self._ended: Callable[[], None] = lambda: None
        self.tuples: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        self.setup = self._shake_hands()

    def _shake_hands(self) -> Setup:
        hello = self._read()
        if hello is None:
            raise EOFError("Storm ended before the handshake")
        context = hello["context"]
        Path(hello["pidDir"], str(os.getpid())).touch()  # tells Storm which process to kill
        self._write({"pid": os.getpid()})
        components = {int(task): name for task, name in context["task->component"].items()}
        return Setup(hello["conf"], int(context["taskid"]), components)

    def listen(self, ended: Callable[[], None]) -> None:
        """Begin to read in a thread. It calls ``ended``, which must end the process, when the JVM has ended."""
        self._ended = ended
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # the JVM may die with tuples in the pipe
            while (message := self._read()) is not None:
                if isinstance(message, list):
                    continue  # the tasks that an emitted tuple went to
                if "command" in message:  # to a spout: next, ack, fail, activate, deactivate
                    self.tuples.put([message["command"]])
                elif message["stream"] == HEARTBEAT:
                    self._write({"command": "sync"})
                else:
                    self.tuples.put(message["tuple"])
                    self._write({"command": "ack", "id": message["id"]})
        self._ended()

    def emit(self, stream: str, fields: list[str]) -> None:
        """Write a tuple to a stream. If the JVM has ended, end the process, as the reading thread does."""
        try:
            # without anchors, because lost frames are found by their numbers
            self._write({"command": "emit", "anchors": [], "stream": stream, "tuple": fields, "need_task_ids": False})
        except BrokenPipeError:
            self._ended()
            raise

    def error(self, text: str) -> None:
        """Tell Storm what is wrong with this task."""
        self._write({"command": "error", "msg": text})

    def sync(self) -> None:
        """Tell Storm that the spout has finished its command."""
        self._write({"command": "sync"})

    def _read(self) -> Any:
        """Return the next message, or None at the end of the stream."""
        lines: list[bytes] = []
        while line := self._from.readline():
            if line.strip() == b"end":
                return json.loads(b"".join(lines))
            lines.append(line)
        return None

    def _write(self, message: dict[str, Any]) -> None:
        with self._writing:  # the reading thread answers heartbeats while the component emits
            self._to.write(json.dumps(message).encode() + b"\nend\n")
            self._to.flush()
