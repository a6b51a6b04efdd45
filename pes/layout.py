"""The order of stations, slots, pairs, tiles and strips in a campaign.

Stations keep their order; each has the same components, so slot = station * components + component. Stations
are cut into *blocks* of as many as fit into ``block`` slots. A *tile* is all pairs of two blocks; a *strip*, one
row of tiles: the pairs (i, j), i < j, whose first station lies in one block. Rows of pairs are sorted by (i, j), so
a strip is a contiguous range of rows.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from xcorr.pes.items import Int64


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """Number of stations, component letters of the slots, component pairs, and slots per tile side."""

    stations: int
    components: tuple[str, ...]
    pairs: tuple[str, ...]
    block: int

    @property
    def stations_per_block(self) -> int:
        """Stations in a block; their slots are never split."""
        return self.block // len(self.components)

    @property
    def strips(self) -> int:
        """Number of blocks that hold the first station of at least one pair."""
        return -(-max(self.stations - 1, 0) // self.stations_per_block)

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.stations // self.stations_per_block)

    @property
    def rows(self) -> int:
        """Number of station pairs."""
        return self.stations * (self.stations - 1) // 2

    def block_of(self, station: int) -> int:
        """Return the block of a station."""
        return station // self.stations_per_block

    def stations_of(self, block: int) -> range:
        """Return the stations of a block."""
        first = block * self.stations_per_block
        return range(first, min(first + self.stations_per_block, self.stations))

    def row(self, i: int, j: int) -> int:
        """Return the row of the pair i < j."""
        return i * (self.stations - 1) - i * (i - 1) // 2 + (j - i - 1)

    def strip_rows(self, strip: int) -> range:
        """Return the rows of a strip."""
        members = self.stations_of(strip)
        last = min(members.stop, self.stations - 1)
        first_row = self.row(members.start, members.start + 1)
        return range(first_row, self.rows if last >= self.stations - 1 else self.row(last, last + 1))

    def strips_of(self, station: int) -> tuple[int, ...]:
        """Return the strips that need a station: those of its own and all earlier blocks."""
        return tuple(range(min(self.block_of(station) + 1, self.strips)))

    def stations_needed(self, strip: int) -> range:
        """Return the stations whose items a strip waits for."""
        return range(self.stations_of(strip).start, self.stations)

    def pair_indices(self) -> tuple[Int64, Int64]:
        """Return i and j of every row."""
        i, j = np.triu_indices(self.stations, 1)
        return i.astype(np.int64), j.astype(np.int64)
