"""What flows after correlating: rows of correlations, the end of a strip, a finished shard."""

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

    For one band (by name), component pair and substack (its number in the chunk). ``data`` may be part of a larger
    array: copy what is to be kept.
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


@dataclasses.dataclass(frozen=True, slots=True)
class StripEnd:
    """All rows of a strip in a chunk have been sent; the accounts are those of every slot the strip saw."""

    chunk: Chunk
    strip: int
    accounts: tuple[SlotAccount, ...]

    @property
    def identity(self) -> str:
        """Chunk, generation and strip."""
        return f"{self.chunk.name}.{self.chunk.generation:02d}/{self.strip:02d}"

    @property
    def key(self) -> int:
        """The key of the strip."""
        return strip_key(self.chunk, self.strip)


@dataclasses.dataclass(frozen=True, slots=True)
class ShardRecord:
    """A finished shard: its path relative to the campaign, and what went into it.

    ``generation`` numbers the rows that came with the same stations: 0 those of the first run.
    """

    chunk: Chunk
    generation: int
    strip: int
    path: str
    bytes: int
    accounts: tuple[SlotAccount, ...]

    @property
    def identity(self) -> str:
        """The path."""
        return self.path
