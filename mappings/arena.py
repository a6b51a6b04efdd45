"""Shared memory between processes, for array buffers: written once by the sender, used in place by the receiver.

Each worker owns one arena, an anonymous memory file that all workers get. Systems without memory files use an unlinked
temporary file. An arena has no name, so a crash leaves no file behind. It takes memory only for pages that are written.
"""

from __future__ import annotations

import bisect
import ctypes
import mmap
import operator
import os
import tempfile
import weakref
from collections.abc import Callable

ARENA_BYTES = 1 << 32  # address space of a worker's arena; only written pages take memory
ALIGNMENT = 64
CHOICE = 16  # pieces that are compared


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
    """Hands out pieces of this worker's arena and takes them back.

    Adjacent free pieces are joined. Free pieces are sorted by length, so that many pieces do not slow down a search. Of
    the smallest pieces that are long enough, the one with the lowest offset is taken. So memory that was written
    before, and may still be in the cache, is used again before new memory.
    """

    def __init__(self, descriptor: int) -> None:
        self.size = os.fstat(descriptor).st_size
        self.map = mmap.mmap(descriptor, self.size)
        self.free: list[tuple[int, int]] = []  # (length, offset), sorted
        self.taken: dict[int, int] = {}  # length by offset
        self._free_at: dict[int, int] = {}  # length by offset
        self._free_until: dict[int, int] = {}  # offset by end
        self._give(0, self.size)

    def put(self, buffer: memoryview) -> int | None:
        """Copy a buffer in and return its offset, or None if there is no room."""
        need = -(-buffer.nbytes // ALIGNMENT) * ALIGNMENT
        at = bisect.bisect(self.free, (need, -1))
        if at == len(self.free):
            return None
        length, offset = min(self.free[at : at + CHOICE], key=operator.itemgetter(1))
        self._take(offset)
        if length > need:
            self._give(offset + need, length - need)
        self.taken[offset] = need
        self.map[offset : offset + buffer.nbytes] = buffer
        return offset

    def release(self, offset: int) -> None:
        """Take a piece back and join it with its free neighbours."""
        length = self.taken.pop(offset)
        if offset + length in self._free_at:
            length += self._take(offset + length)
        if offset in self._free_until:
            before = self._free_until[offset]
            length += self._take(before)
            offset = before
        self._give(offset, length)

    def _give(self, offset: int, length: int) -> None:
        """Add a free piece."""
        bisect.insort(self.free, (length, offset))
        self._free_at[offset] = length
        self._free_until[offset + length] = offset

    def _take(self, offset: int) -> int:
        """Remove the free piece at a place, and return its length."""
        length = self._free_at.pop(offset)
        del self._free_until[offset + length]
        del self.free[bisect.bisect_left(self.free, (length, offset))]
        return length


class ReceiverArena:
    """Shows pieces of another worker's arena. ``released(offset)`` is called when a piece is not used any more."""

    def __init__(self, descriptor: int, released: Callable[[int], None]) -> None:
        self.map = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
        self.released = released

    def get(self, offset: int, size: int) -> ctypes.Array[ctypes.c_char]:
        """Return a piece as a writable buffer. The piece stays reserved as long as the buffer exists."""
        piece = (ctypes.c_char * size).from_buffer(self.map, offset)
        weakref.finalize(piece, self.released, offset).atexit = False  # at the end of the process nobody sends releases
        return piece
