"""Packed spectra that the correlators of a process share."""

import gc
import threading
import weakref

import numpy as np
import pytest

from xcorr.pes.correlating.estimate import BlockOfSlots
from xcorr.pes.correlating.packing import packed_chunk
from xcorr.pes.preparing.whiten import Band

BANDS = (Band.of(400, 20, 1.0, (0.1, 0.4), 0.0),)
SIDE, WINDOWS = 4, 3


def member(block=0):
    return BlockOfSlots(BANDS, WINDOWS, SIDE, 1)


def spectra(number):
    return np.full((BANDS[0].grid.bins, WINDOWS), number, np.complex64)


def put(slot, number):
    return lambda m: m.bands[0].fill(slot, spectra(number))


def test_the_first_packs_and_what_nobody_packs_is_zero():
    chunk = packed_chunk({}, 0, member)
    chunk.pack(0, 0, [0], put(0, 1))
    chunk.pack(0, 0, [0], put(0, 9))  # somebody else's copy of the same item
    chunk.pack(2, 0, [2], put(2, 3))
    assert chunk.wait([0, 1, 2, 3]) is None
    assert [chunk.blocks[0].bands[0].packed[:, k].real.mean() for k in range(SIDE)] == [1, 0, 3, 0]
    chunk.pack(3, 0, [3], put(3, 4))  # of no interest to who waited
    assert chunk.wait([3]) is None
    assert [chunk.blocks[0].bands[0].packed[:, k].real.mean() for k in range(SIDE)] == [1, 0, 3, 4]


def test_who_comes_second_waits_for_the_first():
    chunk, begun, go_on, waited = packed_chunk({}, 0, member), threading.Event(), threading.Event(), threading.Event()

    def slowly(m):
        begun.set()
        go_on.wait(10)
        put(1, 7)(m)

    def second():
        chunk.pack(1, 0, [1], put(1, 9))
        chunk.wait([1])
        waited.set()

    threads = [threading.Thread(target=chunk.pack, args=(1, 0, [1], slowly)), threading.Thread(target=second)]
    threads[0].start()
    assert begun.wait(10)
    threads[1].start()
    assert chunk.wait([0]) is None  # another station is not waited for
    assert not waited.wait(0.1)
    go_on.set()
    assert waited.wait(10)
    for thread in threads:
        thread.join()
    assert (chunk.blocks[0].bands[0].packed[:, 1] == 7).all()


def test_a_failure_is_everybodys():
    chunk = packed_chunk({}, 0, member)

    def fail(_):
        raise MemoryError

    with pytest.raises(MemoryError):
        chunk.pack(0, 0, [0], fail)
    chunk.pack(0, 0, [0], put(0, 1))
    assert isinstance(chunk.wait([0]), MemoryError)
    assert isinstance(chunk.wait([1]), MemoryError)


def test_a_chunk_lives_as_long_as_somebody_needs_it():
    in_common = {}
    first = packed_chunk(in_common, 0, member)
    assert packed_chunk(in_common, 0, member) is first
    assert packed_chunk(in_common, 1, member) is not first
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None
