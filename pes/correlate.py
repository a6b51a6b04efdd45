"""Correlates the strips of a chunk, tile by tile, as soon as all their stations have arrived."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from xcorr.core import GenericPE, MultiKey, XcorrError
from xcorr.pes.estimate import Estimator, Member, Rows, estimate
from xcorr.pes.gridding import gridding
from xcorr.pes.items import (
    Chunk,
    Complex64,
    CorrelationRows,
    Float32,
    SlotAccount,
    SpectraBlock,
    StripEnd,
    Tombstone,
    strip_key,
)
from xcorr.pes.layout import Layout
from xcorr.pes.packing import PackedChunk, packed_chunk
from xcorr.pes.process import prepare_process
from xcorr.pes.tiles import EDGE, GROUP, cross_spectra
from xcorr.pes.whiten import Band

TOGETHER = 1 << 18  # values of correlations estimated at once: many calls of NumPy in threads wait for each other


class ChunkError(XcorrError, RuntimeError):
    """A chunk did not get the items of all its stations."""


class _OpenChunk:
    """What has arrived for a chunk, of which some strips are to be done here."""

    def __init__(self, chunk: Chunk, strips: list[int], packed: PackedChunk) -> None:
        self.chunk, self.strips, self.packed = chunk, strips, packed
        self.members = packed.members
        self.arrived: set[int] = set()
        self.accounts: dict[int, SlotAccount] = {}
        self.done: set[int] = set()


class _Tile(NamedTuple):
    """Sums of cross spectra of some slots, from ``low``, of a first block and those from ``left`` of a second."""

    band: int
    piece: int
    windows: slice
    first: Member
    second: Member
    low: int
    left: int
    sums: Complex64


class _Run(NamedTuple):
    """Rows of a strip that follow each other: a first slot and slots of a second block."""

    components: str
    row: int
    a: int
    b: list[int]
    n: np.ndarray
    begins_with_itself: bool


class CorrelateStrips(GenericPE):
    """Correlates the strips it owns, chunk by chunk, as soon as all their stations have arrived.

    Takes :class:`SpectraBlock` and :class:`Tombstone`; writes :class:`CorrelationRows` and, last, a
    :class:`StripEnd` per strip and chunk. ``substacks`` lists ranges of windows that are summed apart (None: all
    windows of a chunk together). A chunk that is incomplete at the end is an error that names the missing stations.

    >>> from xcorr.pes.layout import Layout
    >>> from xcorr.pes.whiten import Band
    >>> CorrelateStrips(Layout(2, ("Z",), ("ZZ",), 8), (Band.of(3600, 120, 1.0, (0.1, 0.4)),), 24, ("XX.A", "XX.B")).id
    'CorrelateStrips'
    """

    keyed = True
    derivation = "grouped"

    def derivation_key(self, item: SpectraBlock | Tombstone) -> int:
        """Return the chunk: correlations come from spectra of their chunk."""
        return item.chunk.start_ns

    def __init__(
        self,
        layout: Layout,
        bands: Sequence[Band],
        windows: int,
        stations: Any,
        estimator: Estimator | None = None,
        substacks: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        super().__init__()
        self._add_input("input", grouping=MultiKey("keys"))
        self._add_output("output")
        self.layout = layout
        self.bands = bands
        self.windows = windows
        self.stations = stations
        self.estimator = estimator
        self.substacks = substacks

    def _preprocess(self) -> None:
        prepare_process()
        self._how = self.estimator or Estimator()
        self._substacks = self.substacks or ((0, self.windows),)
        self._number = {code: i for i, code in enumerate(self.stations)}
        self._needed = {strip: self.layout.stations_needed(strip) for strip in self.layout.strips}
        self._chunks: dict[int, _OpenChunk] = {}
        self._griddings = [None if self._how.is_ratio else gridding(band.grid) for band in self.bands]
        self._bins = [(g or band.grid).bins for g, band in zip(self._griddings, self.bands, strict=True)]
        self._room: dict[int, Complex64] = {}

    def process(self, inputs: dict[str, Any]) -> None:
        """Take one station's item; correlate the strips that it completes."""
        item: SpectraBlock | Tombstone = inputs["input"]
        if item.chunk.index not in self._chunks:
            wanted = self.layout.strips if item.chunk.wanted is None else item.chunk.wanted
            owned = [s for s in wanted if self.owns(strip_key(item.chunk, s))]
            packed = packed_chunk(self.in_common, item.chunk.index, self._member)
            self._chunks[item.chunk.index] = _OpenChunk(item.chunk, owned, packed)
        chunk = self._chunks[item.chunk.index]
        station = self._number[item.station]
        chunk.arrived.add(station)
        chunk.accounts.update((a.slot, a) for a in item.accounts)
        if isinstance(item, SpectraBlock):
            self._take(chunk, station, item)
        for strip in chunk.strips:
            if strip not in chunk.done and chunk.arrived.issuperset(self._needed[strip]):
                chunk.done.add(strip)
                if (error := chunk.packed.wait(self._needed[strip])) is not None:
                    raise ChunkError(f"chunk {item.chunk.index}: {type(error).__name__} elsewhere: {error}") from error
                for block in self.layout.strip_blocks(strip):
                    for rows in self._correlate(chunk, strip, block):
                        self.write("output", rows)
                letters = len(self.layout.components)
                accounts = (chunk.accounts.get(s * letters + k) for s in self._needed[strip] for k in range(letters))
                self.write("output", StripEnd(chunk.chunk, strip, tuple(a for a in accounts if a is not None)))
        if len(chunk.done) == len(chunk.strips):
            del self._chunks[item.chunk.index]

    def _member(self) -> Member:
        return Member(self.bands, self.windows, self.layout.block, self._how.copies)

    def _take(self, chunk: _OpenChunk, station: int, item: SpectraBlock) -> None:
        number = self.layout.block_of(station)
        first = self.layout.stations_of(number).start * len(self.layout.components)
        places = [slot - first for slot in item.slots]
        chunk.packed.pack(station, number, places, lambda member: self._pack(member, places, item))

    def _pack(self, member: Member, places: Sequence[int], item: SpectraBlock) -> None:
        for row, at in enumerate(places):
            member.valid[at] = item.valid[row]
            if item.masks is not None:
                member.masks[at] = item.masks[row]
            for k, band in enumerate(self.bands):
                spectra = item.spectra[k][row]
                member.bands[k].fill(at, spectra)
                if item.power is not None:
                    member.bands[k].autospectra[at] = item.power[k][row]
                if self._how.amplitude == "energy":
                    squares = np.square(np.abs(spectra), dtype=np.float64).sum(axis=0)
                    member.energy[k, at] = squares.reshape(self.windows, -1).sum(axis=1) * (2 / band.grid.nfft)

    def _postprocess(self) -> None:
        for index, chunk in self._chunks.items():
            missing = [self.stations[i] for i in self._needed[chunk.strips[0]] if i not in chunk.arrived]
            raise ChunkError(f"chunk {index} never got the items of {', '.join(missing)}")

    def _correlate(self, chunk: _OpenChunk, strip: int, block: int) -> Iterator[CorrelationRows]:
        """Yield the rows of a block of a strip: for each band, group of first slots, substack and second block."""
        first = chunk.members.get(block)
        if first is None:
            return
        others = [b for b in range(block, self.layout.blocks) if b in chunk.members]
        stations, letters = self.layout.stations_of(block), len(self.layout.components)
        copies, side = self._how.copies, self.layout.block
        for k, bins in enumerate(self._bins):
            if k not in self._room:
                self._room[k] = np.empty(GROUP * side * bins, np.complex64)
            for low in range(0, min(side, len(stations) * letters), GROUP):
                members = stations[low // letters : (low + GROUP) // letters]
                for piece, (start, stop) in enumerate(self._substacks):
                    windows = slice(start * copies, stop * copies)
                    conjugates = first.bands[k].conjugates(low, windows, often=len(others) > 1)
                    for number in others:
                        partners = {i: js for i in members if len(js := self.layout.partners(i, number))}
                        if partners:
                            second = chunk.members[number]
                            left = low // EDGE * EDGE if number == block else 0  # of its own block, none before
                            shape = min(GROUP, side - low), side - left, bins
                            sums = self._room[k][: math.prod(shape)].reshape(shape)
                            packed = second.bands[k].packed[:, left:, windows]
                            cross_spectra(conjugates, packed, sums, self._griddings[k])
                            tile = _Tile(k, piece, slice(start, stop), first, second, low, left, sums)
                            for batch in self._batches(k, self._runs(tile, strip, block, number, partners)):
                                yield from self._rows(chunk.chunk, strip, tile, batch)

    def _runs(
        self, tile: _Tile, strip: int, block: int, number: int, partners: dict[int, np.ndarray]
    ) -> Iterator[_Run]:
        """Yield a run for every first station and component pair that has data."""
        layout, letters = self.layout, self.layout.components
        start = layout.strip_rows(strip).start
        offsets = layout.stations_of(block).start, layout.stations_of(number).start
        valid = tile.first.valid[tile.low : tile.low + GROUP, tile.windows], tile.second.valid[:, tile.windows]
        counts = np.rint(valid[0] @ valid[1].T).astype(np.int32)
        for i, js in partners.items():
            row = layout.row(i, int(js[0])) - start
            for pair in layout.pairs:
                a = (i - offsets[0]) * len(letters) + letters.index(pair[0])
                b = (js - offsets[1]) * len(letters) + letters.index(pair[1])
                n = counts[a - tile.low, b]
                if n.any():
                    yield _Run(pair, row, a, b.tolist(), n, i == js[0] and pair[0] == pair[1])

    def _batches(self, band: int, runs: Iterable[_Run]) -> Iterator[list[_Run]]:
        """Yield runs by as many as are estimated together."""
        enough = TOGETHER // (2 * self.bands[band].grid.lags + 1)
        batch: list[_Run] = []
        for run in runs:
            batch.append(run)
            if sum(len(r.n) for r in batch) >= enough:
                yield batch
                batch = []
        if batch:
            yield batch

    def _rows(self, chunk: Chunk, strip: int, tile: _Tile, batch: Sequence[_Run]) -> Iterator[CorrelationRows]:
        """Yield one item for every run."""
        data, low, name = self._estimate(tile, batch), 0, self.bands[tile.band].name
        for run in batch:
            part = data[low : low + len(run.n)]
            yield CorrelationRows(chunk, strip, name, run.components, tile.piece, run.row, part, run.n)
            low += len(run.n)

    def _estimate(self, tile: _Tile, batch: Sequence[_Run]) -> Float32:
        """Return the correlations of the runs, one after another."""
        band, spread = self.bands[tile.band], self._griddings[tile.band]
        parts = [_chosen(tile.sums[run.a - tile.low], [slot - tile.left for slot in run.b]) for run in batch]
        if self._how.keeps_power:
            for at, run in enumerate(batch):
                if run.begins_with_itself:
                    power = tile.first.bands[tile.band].autospectra[run.a][tile.piece]
                    parts[at] = np.array(parts[at])
                    parts[at][0] = power if spread is None else spread.spread(power[None].astype(np.complex64))[0]
        sums = parts[0] if len(parts) == 1 else np.concatenate(parts)
        firsts, seconds = [run.a for run in batch for _ in run.b], [slot for run in batch for slot in run.b]
        n = np.concatenate([run.n for run in batch])
        rows = Rows(tile.band, tile.windows, tile.first, firsts, tile.second, seconds, n)
        return estimate(sums, rows, band, self._how, spread)


def _chosen(sums: Complex64, slots: Sequence[int]) -> Complex64:
    """Return the sums [slot, bin] of some slots, without a copy where they are evenly apart."""
    step = slots[1] - slots[0] if len(slots) > 1 else 1
    even = list(slots) == list(range(slots[0], slots[-1] + 1, step))
    return sums[slots[0] : slots[-1] + 1 : step] if even else sums[slots]
