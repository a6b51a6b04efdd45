"""The shared memory of a worker: pieces do not overlap, free ones are joined, and a full arena is no slower."""

import os
import time

import elements as e
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xcorr.core.testing import ListSink, ListSource
from xcorr.mappings import processes, run
from xcorr.mappings.arena import ALIGNMENT, SenderArena, create_memory_file


@pytest.fixture
def arena():
    descriptor = create_memory_file(1 << 20)
    yield SenderArena(descriptor)
    os.close(descriptor)


def test_neighbours_are_joined_whichever_comes_back_first(arena):
    for order in ([0, 1, 2], [2, 1, 0], [0, 2, 1], [1, 0, 2]):
        places = [arena.put(memoryview(bytes(1000))) for _ in range(3)]
        assert places == [0, 1024, 2048]
        for k in order:
            arena.release(places[k])
        assert arena.free == [(1 << 20, 0)]


def test_a_hole_takes_what_fits_and_joined_holes_what_none_of_them_would(arena):
    places = [arena.put(memoryview(bytes(1 << 18))) for _ in range(4)]
    assert arena.put(memoryview(bytes(1))) is None
    arena.release(places[1])
    assert arena.put(memoryview(bytes((1 << 18) + 1))) is None
    arena.release(places[2])
    assert arena.put(memoryview(bytes(1 << 19))) == places[1]


@settings(deadline=None, derandomize=True, database=None)
@given(st.lists(st.one_of(st.integers(1, 200_000), st.floats(0, 1)), max_size=80))
def test_pieces_never_overlap_and_nothing_is_lost(steps):
    descriptor = create_memory_file(1 << 20)
    arena = SenderArena(descriptor)
    held = {}
    for number, step in enumerate(steps):
        if isinstance(step, int):
            content = bytes([number % 256]) * step
            place = arena.put(memoryview(content))
            if place is None:
                need = -(-step // ALIGNMENT) * ALIGNMENT
                assert all(length < need for length, _ in arena.free)
            else:
                held[place] = content
        elif held:
            place = sorted(held)[int(step * (len(held) - 1))]
            arena.release(place)
            del held[place]
        for place, content in held.items():
            assert arena.map[place : place + len(content)] == content
        free = sorted((offset, length) for length, offset in arena.free)
        ends = [a + n for a, n in free]
        assert all(end < start for end, (start, _) in zip(ends, free[1:], strict=False))  # else they would be joined
        assert sum(n for _, n in free) + sum(arena.taken.values()) == 1 << 20
    os.close(descriptor)


@pytest.mark.parametrize("size", [64_000, *(pytest.param(n, marks=pytest.mark.slow) for n in (10**6, 64 * 10**6))])
def test_a_full_arena_takes_no_longer(monkeypatch, size):
    source = e.Arrays(64_000_000 // size, size)
    source.worker = 0
    graph = e.chain(source, e.SlowSum(0.0))

    def seconds(arena_bytes):
        monkeypatch.setattr(processes, "ARENA_BYTES", arena_bytes)
        begin = time.perf_counter()
        run(graph, mapping="processes", workers=2)
        return time.perf_counter() - begin

    seconds(1 << 32)
    assert seconds(1 << 16) < 4 * seconds(1 << 32) + 1.0  # it was 100 times


def test_a_large_item_that_has_no_buffers_of_its_own():
    source, sink = ListSource([b"x" * 50_000_000, "y" * 40_000, b"z"]), ListSink()
    source.worker, sink.worker = 0, 1
    results = run(e.chain(source, sink), mapping="processes", workers=2).results
    assert [len(x) for x in results["ListSink"]["output"][0]] == [50_000_000, 40_000, 1]
