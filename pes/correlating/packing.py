"""The packed spectra of open chunks: one set for all correlators of a process, each spectrum packed once."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from xcorr.pes.correlating.estimate import BlockOfSlots

_LOCK = threading.Lock()


class PackedChunk:
    """The blocks of a chunk, packed by whichever correlator gets a station's item first.

    ``new_block`` makes an empty one. A correlator that comes second leaves the station alone; before it computes, it
    waits until the first is done.
    """

    def __init__(self, new_block: Callable[[], BlockOfSlots]) -> None:
        self.blocks: dict[int, BlockOfSlots] = {}
        self._new_block = new_block
        self._taken: set[int] = set()
        self._packed: set[int] = set()
        self._failure: BaseException | None = None
        self._change = threading.Condition()

    def pack(self, station: int, block: int, slots: Sequence[int], pack: Callable[[BlockOfSlots], None]) -> None:
        """Have a station packed by ``pack(block)``, unless another correlator does so; ``slots`` in the block."""
        with self._change:
            if station in self._taken:
                return
            self._taken.add(station)
            if block not in self.blocks:
                self.blocks[block] = self._new_block()
            one = self.blocks[block]
            one.expect(slots)
        try:
            pack(one)
        except BaseException as error:
            self._failure = error
            raise
        finally:
            with self._change:
                self._packed.add(station)
                self._change.notify_all()

    def wait(self, stations: Iterable[int]) -> BaseException | None:
        """Wait until those of the stations that anyone has begun to pack are packed; return what went wrong, if any."""
        with self._change:
            awaited = self._taken.intersection(stations)
            self._change.wait_for(lambda: self._failure is not None or self._packed >= awaited)
            for one in self.blocks.values():
                one.clear_absent()
            return self._failure


def packed_chunk(in_common: dict[str, Any], index: int, new_block: Callable[[], BlockOfSlots]) -> PackedChunk:
    """Return the chunk that the instances of an element have ``in_common``; it is freed when no instance holds it."""
    with _LOCK:
        chunks = in_common.setdefault("chunks", weakref.WeakValueDictionary())
        chunk: PackedChunk | None = chunks.get(index)
        if chunk is None:
            chunk = chunks[index] = PackedChunk(new_block)
        return chunk
