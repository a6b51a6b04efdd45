"""Shared memory between processes, for array buffers: written once by the sender, used in place by the receiver.

Each worker owns one arena: an anonymous memory file (an unlinked temporary file where there is none) that all
workers inherit. Nothing has a name, so nothing can be left behind. Pages are taken when they are first written.
"""

from __future__ import annotations

import bisect
import ctypes
import mmap
import os
import tempfile
import weakref
from collections.abc import Callable

ALIGNMENT = 64


def create_memory_file(size: int) -> int:
    """Return the descriptor of an anonymous file of ``size`` bytes, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("xcorr")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


class SenderArena:
    """Hands out pieces of this worker's arena, lowest place first, and takes them back."""

    def __init__(self, descriptor: int) -> None:
        self.size = os.fstat(descriptor).st_size
        self.map = mmap.mmap(descriptor, self.size)
        self.free: list[tuple[int, int]] = [(0, self.size)]
        self.taken: dict[int, int] = {}

    def put(self, buffer: memoryview) -> int | None:
        """Copy a buffer in and return its offset, or None if there is no room."""
        need = -(-buffer.nbytes // ALIGNMENT) * ALIGNMENT
        for k, (offset, length) in enumerate(self.free):
            if length >= need:
                if length == need:
                    del self.free[k]
                else:
                    self.free[k] = (offset + need, length - need)
                self.taken[offset] = need
                self.map[offset : offset + buffer.nbytes] = buffer
                return offset
        return None

    def release(self, offset: int) -> None:
        """Take a piece back and join it with its free neighbours."""
        length = self.taken.pop(offset)
        at = bisect.bisect(self.free, (offset, 0))
        if at < len(self.free) and self.free[at][0] == offset + length:
            length += self.free.pop(at)[1]
        if at and sum(self.free[at - 1]) == offset:
            at -= 1
            start, before = self.free.pop(at)
            offset, length = start, before + length
        self.free.insert(at, (offset, length))


class ReceiverArena:
    """Shows pieces of another worker's arena; ``released(offset)`` is called when nobody holds one any more."""

    def __init__(self, descriptor: int, released: Callable[[int], None]) -> None:
        self.map = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
        self.released = released

    def get(self, offset: int, size: int) -> ctypes.Array[ctypes.c_char]:
        """Return the piece as a writable buffer, for the time it is held."""
        piece = (ctypes.c_char * size).from_buffer(self.map, offset)
        weakref.finalize(piece, self.released, offset).atexit = False
        return piece
