"""The pieces of imported correlations: where they are in time, and the items that shards are made of."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from xcorr.imports.foreign import DAY_NS, LATE, Foreign, ForeignError, Pieces, naming
from xcorr.network.roster import Roster
from xcorr.pes.correlating.layout import Layout
from xcorr.pes.correlating.rows import CorrelationRows, StripEnd
from xcorr.pes.items import WINDOWS_USED, Chunk, SlotAccount
from xcorr.pes.reading.waveform import NS
from xcorr.settings import Settings

NOT_HERE = "no correlation in the imported files"


def ends_of(piece: Pieces) -> tuple[str, ...]:
    """Return the two stations of a pair, in the order of names."""
    return tuple(sorted((piece.first, piece.second)))


@dataclasses.dataclass(frozen=True)
class Grid:
    """The chunks, and the substacks in each; ``piece_ns`` is the length of a piece."""

    chunks: tuple[Chunk, ...]
    substacks: int
    piece_ns: int

    @property
    def chunk_ns(self) -> int:
        """The length of a chunk (ns)."""
        return self.piece_ns * self.substacks

    def place(self, start_ns: int | None) -> tuple[int, int]:
        """Return start of the chunk (ns) and substack of a piece. Raises ForeignError if it is not on the grid."""
        first = self.chunks[0].start_ns
        number, late = divmod((first if start_ns is None else start_ns) - first, self.piece_ns)
        if late > self.piece_ns / 2:
            number, late = number + 1, late - self.piece_ns
        if abs(late) > LATE * self.piece_ns:
            raise ForeignError(
                f"pieces are not at equal distances: one begins {late / NS:g} s after a multiple of "
                f"{self.piece_ns / NS:g} s from the first; import them apart"
            )
        chunk, substack = divmod(number, self.substacks)
        return first + chunk * self.chunk_ns, substack


def grid_of(foreign: Foreign, pieces: Sequence[Pieces]) -> Grid:
    """Return chunks of a day, cut into pieces; or chunks of one piece, where pieces are a day or longer."""
    known = [p for p in pieces if p.starts is not None]
    if not known:
        foreign.note("the time of these correlations is not known: they are entered as of the day 1970-01-01")
        return Grid((Chunk(0, 0, DAY_NS, 0, DAY_NS),), 1, DAY_NS)
    lengths = Counter(p.length_ns for p in known)
    length = lengths.most_common(1)[0][0]
    if len(lengths) > 1:
        others = ", ".join(f"{ns / NS:g} s" for ns in sorted(lengths) if ns != length)
        foreign.note(f"pieces of {others} are entered as pieces of {length / NS:g} s, which most have")
    if length % NS or length <= 0:
        raise ForeignError(f"pieces of {length / NS:g} s: only whole seconds can be imported")
    starts = np.unique(np.concatenate([p.starts for p in known]))
    whole = length >= DAY_NS or DAY_NS % length
    size = length if whole else DAY_NS
    first = int(starts[0]) if whole else int(starts[0]) // DAY_NS * DAY_NS
    if not whole and (int(starts[0]) - first) % length > LATE * length:
        first, size = int(starts[0]), length
    grid = Grid((Chunk(0, first, first + size, first, first + size),), size // length, length)
    begins = sorted({grid.place(int(start))[0] for start in starts})
    return dataclasses.replace(grid, chunks=tuple(Chunk(k, t, t + size, t, t + size) for k, t in enumerate(begins)))


def require_once(pieces: Sequence[Pieces], grid: Grid) -> None:
    """Raise ForeignError if a pair has two correlations of the same time and components."""
    seen: set[tuple[Any, ...]] = set()
    for piece in pieces:
        turned = piece.first > piece.second
        components = piece.components[::-1] if turned else piece.components
        for start in [None] if piece.starts is None else piece.starts.tolist():
            own = (*ends_of(piece), components, *grid.place(start))
            if own in seen:
                raise ForeignError(
                    f"{piece.first} and {piece.second}, {piece.components}: two correlations of the same time; import "
                    "the files of one stack, filter or location at a time"
                )
            seen.add(own)


@dataclasses.dataclass(frozen=True)
class Items:
    """The rows and ends of strips, as :class:`xcorr.pes.WriteShards` takes them, made one after another."""

    foreign: Foreign
    pieces: tuple[Pieces, ...]
    grid: Grid
    roster: Roster
    settings: Settings
    layout: Layout
    todo: tuple[Chunk, ...]

    def __len__(self) -> int:
        """Return the number of strips."""
        return sum(len(chunk.wanted or ()) for chunk in self.todo)

    def __deepcopy__(self, memo: dict[int, Any]) -> Items:
        """Return the same object, which needs no copy because it never changes."""
        return self

    def __iter__(self) -> Iterator[CorrelationRows | StripEnd]:
        """Yield the items of all strips, by chunk."""
        number = {s.name: k for k, s in enumerate(self.roster.stations)}
        strip_of = {row: strip for strip in self.layout.strips for row in self.layout.strip_rows(strip)}
        in_chunk: dict[int, list[tuple[int, Pieces, list[tuple[int, int]]]]] = defaultdict(list)
        for piece in self.pieces:
            i, j = number[piece.first], number[piece.second]
            row = self.layout.row(min(i, j), max(i, j))
            starts = [None] if piece.starts is None else piece.starts.tolist()
            of: dict[int, list[tuple[int, int]]] = defaultdict(list)
            for k, start in enumerate(starts):
                begin, substack = self.grid.place(start)
                of[begin].append((k, substack))
            for begin, which in of.items():
                in_chunk[begin].append((row, piece, which))
        for chunk in self.todo:
            here = sorted(in_chunk[chunk.start_ns], key=lambda entry: entry[0])
            for strip in chunk.wanted or ():
                windows: dict[int, int] = {}
                rows = [entry for entry in here if strip_of[entry[0]] == strip]
                yield from self._rows(chunk, strip, rows, number, windows)
                yield StripEnd(chunk, strip, self._accounts(chunk, strip, windows))

    def _rows(
        self,
        chunk: Chunk,
        strip: int,
        rows: Sequence[tuple[int, Pieces, list[tuple[int, int]]]],
        number: dict[str, int],
        windows: dict[int, int],
    ) -> Iterator[CorrelationRows]:
        """Yield the rows of a strip; enter the numbers of windows by slot."""
        offset, letters = self.layout.strip_rows(strip).start, self.settings.components
        for row, piece, which in rows:
            with naming(piece.key):
                data, counts = self.foreign.read(piece.key, np.array([k for k, _ in which]))
            turned = number[piece.first] > number[piece.second]
            components = piece.components[::-1] if turned else piece.components
            total = 0
            for k, (_, substack) in enumerate(which):
                n, values = int(counts[k]), data[k, ::-1] if turned else data[k]
                if not np.isfinite(values).all():
                    self.foreign.note("correlations that are not finite numbers are left out")
                    continue
                total += n
                yield CorrelationRows(
                    chunk, strip, "", components, substack, row - offset,
                    np.ascontiguousarray(values, np.float32)[None], np.array([n], np.int32),
                )  # fmt: skip
            for station, letter in zip((piece.first, piece.second), piece.components, strict=True):
                slot = number[station] * len(letters) + letters.index(letter)
                windows[slot] = max(windows.get(slot, 0), total)

    def _accounts(self, chunk: Chunk, strip: int, windows: dict[int, int]) -> tuple[SlotAccount, ...]:
        letters = len(self.settings.components)
        slots = [s * letters + k for s in self.layout.stations_needed(strip) for k in range(letters)]
        return tuple(
            SlotAccount(slot, chunk.index, "used", windows={WINDOWS_USED: windows[slot]})
            if slot in windows
            else SlotAccount(slot, chunk.index, "absent", NOT_HERE)
            for slot in slots
        )
