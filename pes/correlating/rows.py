"""The items after correlating: rows of correlations, the end of a strip, a finished shard."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from xcorr.pes.items import Chunk, Float32, SlotAccount, strip_key

ROWS_METADATA: dict[str, type] = {
    "chunk": str,
    "strip": int,
    "band": str,
    "components": str,
    "substack": int,
    "first_row": int,
    "pairs": int,
    "windows": int,
}


@dataclasses.dataclass(frozen=True, slots=True)
class CorrelationRows:
    """Correlations of rows ``first_row ...`` of a strip: ``data`` [row, lag] float32.

    The rows are of one band (by name), component pair and substack (by its number in the chunk). ``data`` may be part
    of a larger array, so copy it if you keep it.
    """

    chunk: Chunk
    strip: int
    band: str
    components: str
    substack: int
    first_row: int
    data: Float32
    n_windows: npt.NDArray[np.int32]

    @property
    def identity(self) -> str:
        """Chunk, generation, strip, band, components, substack and first row."""
        place = f"{self.chunk.name}.{self.chunk.generation:02d}/{self.strip:02d}"
        return f"{place}/{self.band or 'main'}/{self.components}/{self.substack}/{self.first_row}"

    @property
    def metadata(self) -> dict[str, object]:
        """The values of :data:`ROWS_METADATA`."""
        plain = {name: getattr(self, name) for name in ("strip", "band", "components", "substack", "first_row")}
        return {"chunk": self.chunk.name, **plain, "pairs": len(self.data), "windows": int(self.n_windows.sum())}

    @property
    def key(self) -> int:
        """The key of the strip."""
        return strip_key(self.chunk, self.strip)


class OfStrip:
    """Identity and key of an item of a strip in a chunk."""

    __slots__ = ()  # without this, the subclasses with slots would have a __dict__ as well
    chunk: Chunk
    strip: int

    @property
    def identity(self) -> str:
        """Chunk, generation and strip."""
        return f"{self.chunk.name}.{self.chunk.generation:02d}/{self.strip:02d}"

    @property
    def key(self) -> int:
        """The key of the strip."""
        return strip_key(self.chunk, self.strip)


@dataclasses.dataclass(frozen=True, slots=True)
class StripEnd(OfStrip):
    """Says that all rows of a strip in a chunk have been sent. ``accounts`` are those of all slots of the strip."""

    chunk: Chunk
    strip: int
    accounts: tuple[SlotAccount, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class ShardRecord:
    """A finished shard: its path relative to the campaign, and what went into it.

    ``generation`` is the generation of the rows. The rows of the first run have generation 0. ``id`` tells the shard
    from another one under the same path.
    """

    chunk: Chunk
    generation: int
    strip: int
    path: str
    bytes: int
    accounts: tuple[SlotAccount, ...]
    id: str = ""

    @property
    def identity(self) -> str:
        """The path."""
        return self.path
