"""The packed spectra of open chunks. All correlators of a process share one set, and pack each spectrum once."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from xcorr.pes.correlating.estimate import BlockOfSlots

_LOCK = threading.Lock()  # instances in threads may ask for the same new chunk at once


class PackedChunk:
    """The blocks of a chunk. The correlator that gets a station's item first packs the station.

    ``new_block`` makes an empty block of a number. Other correlators do not pack this station again. Before they
    compute, they wait until the first one has packed it.
    """

    def __init__(self, new_block: Callable[[int], BlockOfSlots]) -> None:
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
                self.blocks[block] = self._new_block(block)
            one = self.blocks[block]
            one.expect(slots)
        try:
            pack(one)
        except BaseException as error:
            self._failure = error
            raise
        finally:
            with self._change:
                self._packed.add(station)  # also after an error, else others would wait for ever
                self._change.notify_all()

    def wait(self, stations: Iterable[int]) -> BaseException | None:
        """Wait until correlators have packed the stations that they have begun. Return a correlator's error, if any."""
        with self._change:
            awaited = self._taken.intersection(stations)
            self._change.wait_for(lambda: self._failure is not None or self._packed >= awaited)
            for one in self.blocks.values():  # only now is it known which slots have no data
                one.clear_absent()
            return self._failure


def packed_chunk(in_common: dict[str, Any], index: int, new_block: Callable[[int], BlockOfSlots]) -> PackedChunk:
    """Return the chunk that the instances of an element share. It is freed when no instance uses it any more."""
    with _LOCK:
        chunks = in_common.setdefault("chunks", weakref.WeakValueDictionary())
        chunk: PackedChunk | None = chunks.get(index)
        if chunk is None:
            chunk = chunks[index] = PackedChunk(new_block)
        return chunk
