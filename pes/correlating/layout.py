"""The order of stations, slots, pairs, tiles and strips in a campaign.

Stations keep their order. Each has the same components, so slot = station * components + component. A *block* is as
many stations as fit into ``block`` slots. A *tile* is all pairs between two blocks. A *strip* is one row of tiles or
several: the pairs (i, j), i <= j, whose first station lies in a block of the strip. Each strip makes one file for each
chunk, so there are at most 12 strips. Rows of pairs are sorted by (i, j), so a strip is a contiguous range of rows.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from xcorr.pes.items import Bool, Int64

MOST_STRIPS = 12


@dataclasses.dataclass(frozen=True)
class Layout:
    """Number of stations, component letters of the slots, component pairs, and slots per tile side.

    ``chosen`` [station, station] is True for wanted pairs (i, j), i <= j. None: all pairs of two stations are wanted.
    ``own_pairs`` are the component pairs of autocorrelations, ``cross_pairs`` those of two stations. None: all.
    """

    stations: int
    components: tuple[str, ...]
    pairs: tuple[str, ...]
    block: int
    chosen: Bool | None = dataclasses.field(default=None, compare=False)
    own_pairs: tuple[str, ...] | None = None
    cross_pairs: tuple[str, ...] | None = None

    @functools.cached_property
    def matrix(self) -> Bool:
        """The pairs wanted, [station, station], above or on the diagonal."""
        if self.chosen is None:
            return np.triu(np.ones((self.stations, self.stations), bool), 1)
        return np.triu(self.chosen)

    @functools.cached_property
    def first_rows(self) -> Int64:
        """The first row of every station's pairs, and the number of rows at the end."""
        return np.concatenate([[0], np.cumsum(self.matrix.sum(axis=1))]).astype(np.int64)

    @property
    def stations_per_block(self) -> int:
        """Stations in a block; their slots are never split."""
        return self.block // len(self.components)

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.stations // self.stations_per_block)

    @property
    def blocks_per_strip(self) -> int:
        """Number of blocks in a strip (the last may have fewer)."""
        return -(-self.blocks // MOST_STRIPS)

    @functools.cached_property
    def strips(self) -> tuple[int, ...]:
        """The strips with at least one pair."""
        every = range(-(-self.blocks // self.blocks_per_strip))
        return tuple(strip for strip in every if len(self.strip_rows(strip)))

    def strip_blocks(self, strip: int) -> range:
        """Return the blocks of a strip."""
        first = strip * self.blocks_per_strip
        return range(first, min(first + self.blocks_per_strip, self.blocks))

    @property
    def rows(self) -> int:
        """Number of station pairs."""
        return int(self.first_rows[-1])

    def block_of(self, station: int) -> int:
        """Return the block of a station."""
        return station // self.stations_per_block

    def stations_of(self, block: int) -> range:
        """Return the stations of a block."""
        first = block * self.stations_per_block
        return range(first, min(first + self.stations_per_block, self.stations))

    def row(self, i: int, j: int) -> int:
        """Return the row of the pair i <= j."""
        return int(self.first_rows[i] + np.count_nonzero(self.matrix[i, :j]))

    def wanted_of(self, pair: str, i: int, partners: Int64) -> slice:
        """Return which of the partners of a station, itself perhaps the first, are wanted of a component pair."""
        has_own = int(len(partners) > 0 and partners[0] == i)
        own = self.own_pairs is None or pair in self.own_pairs
        cross = self.cross_pairs is None or pair in self.cross_pairs
        return slice(0 if own else has_own, len(partners) if cross else has_own)

    def partners(self, i: int, block: int) -> Int64:
        """Return the stations j of a block for which (i, j) is wanted."""
        members = self.stations_of(block)
        return np.flatnonzero(self.matrix[i, members.start : members.stop]) + members.start

    def strip_rows(self, strip: int) -> range:
        """Return the rows of a strip."""
        blocks = self.strip_blocks(strip)
        start, stop = self.stations_of(blocks[0]).start, self.stations_of(blocks[-1]).stop
        return range(int(self.first_rows[start]), int(self.first_rows[stop]))

    @functools.cached_property
    def _members(self) -> Bool:
        """Which stations each strip needs, [strip, station]."""
        needs = np.zeros((-(-self.blocks // self.blocks_per_strip), self.stations), bool)
        for block in range(self.blocks):
            members = self.stations_of(block)
            part, strip = self.matrix[members.start : members.stop], block // self.blocks_per_strip
            needs[strip] |= part.any(axis=0)
            needs[strip, members.start : members.stop] |= part.any(axis=1)
        return needs

    def strips_of(self, station: int) -> tuple[int, ...]:
        """Return the strips that need a station."""
        return tuple(np.flatnonzero(self._members[:, station]).tolist())

    def stations_needed(self, strip: int) -> list[int]:
        """Return the stations whose items a strip waits for."""
        found: list[int] = np.flatnonzero(self._members[strip]).tolist()
        return found

    def pair_indices(self) -> tuple[Int64, Int64]:
        """Return i and j of every row."""
        i, j = np.nonzero(self.matrix)
        return i.astype(np.int64), j.astype(np.int64)
