"""Accepts connections of workers that other programs have started. A new connection has a few seconds to greet.

Each connection is heard in its own thread, so that a stranger who sends nothing does not delay the workers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import socket
import struct
import threading
import time
from multiprocessing.connection import Connection, Listener, answer_challenge, deliver_challenge
from types import TracebackType
from typing import Any

GREETING_S = 5  # longest wait for each message of a greeting
BREATH_S = 0.1  # pause if the system has no descriptor for another connection
_log = logging.getLogger("xcorr.mappings")


class Door:
    """Listens at an address, in a ``with`` block. ``greetings``: connections and greetings of clients with the key."""

    def __init__(self, address: str | tuple[str, int], key: bytes, backlog: int) -> None:
        self.key = key
        self.greetings: queue.SimpleQueue[tuple[Connection, Any]] = queue.SimpleQueue()
        self._listener = Listener(address, backlog=backlog)  # without its authentication, which is one at a time
        self.address = self._listener.address
        # private, because a Listener does not show its socket
        self._descriptor = self._listener._listener._socket.fileno()  # type: ignore[attr-defined]
        self._closed = False
        self._thread = threading.Thread(target=self._stand, daemon=True)
        self._thread.start()

    def __enter__(self) -> Door:
        """Return this door."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop accepting connections."""
        self._closed = True
        # a duplicate, because the listener closes its descriptor itself
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._descriptor)) as same:
            same.shutdown(socket.SHUT_RDWR)  # closing alone does not wake the thread that waits in accept
        self._listener.close()
        self._thread.join(GREETING_S)

    def greeting(self, seconds: float) -> tuple[Connection, Any] | None:
        """Return the next greeting; None if no greeting comes within ``seconds``."""
        try:
            return self.greetings.get(timeout=seconds)
        except queue.Empty:
            return None

    def _stand(self) -> None:
        while not self._closed:
            try:
                connection = self._listener.accept()
            except OSError:
                time.sleep(BREATH_S)
                continue
            threading.Thread(target=self._hear, args=(connection,), daemon=True).start()

    def _hear(self, connection: Connection) -> None:
        try:
            _limit(connection, GREETING_S)
            deliver_challenge(connection, self.key)  # this order, because Client answers first
            answer_challenge(connection, self.key)
            said = connection.recv()
            _limit(connection, 0)
        except Exception as error:  # strangers send anything
            connection.close()
            if not self._closed:
                _log.warning("a connection that is none of this run's workers was refused: %s", type(error).__name__)
            return
        self.greetings.put((connection, said))


def _limit(connection: Connection, seconds: int) -> None:
    """Let reading from a connection fail after so many seconds without a byte; 0: never."""
    with socket.socket(fileno=connection.fileno()) as same:  # a Connection has no timeout of its own
        try:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", seconds, 0))
        finally:
            same.detach()  # else the block would close the connection's descriptor
