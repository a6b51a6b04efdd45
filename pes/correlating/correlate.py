"""Correlates the strips of a chunk, tile by tile, as soon as all their stations have arrived."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from xcorr.core import GenericPE, MultiKey, XcorrError, installed
from xcorr.core.product import Product
from xcorr.pes.correlating.estimate import BlockOfSlots, Rows, estimate
from xcorr.pes.correlating.gridding import gridding
from xcorr.pes.correlating.layout import Layout
from xcorr.pes.correlating.packing import PackedChunk, packed_chunk
from xcorr.pes.correlating.rows import ROWS_METADATA, CorrelationRows, StripEnd
from xcorr.pes.correlating.tiles import EDGE, GROUP
from xcorr.pes.items import Chunk, Complex64, Float32, SlotAccount, SpectraBlock, Tombstone, strip_key
from xcorr.pes.preparing.estimator import Estimator
from xcorr.pes.preparing.whiten import Band
from xcorr.pes.process_setup import prepare_process

TOGETHER = 1 << 18  # about so many values are estimated at once: threads wait for each other at every NumPy call


class ChunkError(XcorrError, RuntimeError):
    """A chunk did not get the items of all its stations, or another correlator failed to pack one."""


class _OpenChunk:
    """The stations and accounts that have arrived for a chunk, and the strips that this instance owns."""

    def __init__(self, chunk: Chunk, strips: list[int], packed: PackedChunk) -> None:
        self.chunk, self.strips, self.packed = chunk, strips, packed
        self.blocks = packed.blocks
        self.arrived: set[int] = set()
        self.accounts: dict[int, SlotAccount] = {}
        self.done: set[int] = set()


class _Sums(NamedTuple):
    """Summed cross spectra between slots of a first block, from ``low`` on, and of a second, from ``left`` on."""

    band: int
    piece: int
    windows: slice
    first: BlockOfSlots
    second: BlockOfSlots
    low: int
    left: int
    spectra: Complex64


class _Stretch(NamedTuple):
    """Consecutive rows of a strip: slot ``a`` of a first block with the slots ``b`` of a second block."""

    components: str
    row: int
    a: int
    b: list[int]
    n: np.ndarray
    begins_with_itself: bool


def _write_rows(item: CorrelationRows, path: Path) -> None:
    with path.open("wb") as file:  # opened here, because np.savez appends .npz to a name that ends otherwise
        np.savez(file, data=item.data, n_windows=item.n_windows, first_row=item.first_row)


class CorrelateStrips(GenericPE):
    """Correlates the strips it owns, chunk by chunk, as soon as all their stations have arrived.

    Takes :class:`SpectraBlock` and :class:`Tombstone`. Writes :class:`CorrelationRows` and then one :class:`StripEnd`
    for each strip and chunk. ``substacks`` lists ranges of windows that are summed separately (None: all windows of a
    chunk together). Raises ChunkError, with the missing stations, if a chunk is incomplete at the end.

    >>> from xcorr.pes.correlating.layout import Layout
    >>> from xcorr.pes.preparing.whiten import Band
    >>> CorrelateStrips(Layout(2, ("Z",), ("ZZ",), 8), (Band.of(3600, 120, 1.0, (0.1, 0.4)),), 24, ("XX.A", "XX.B")).id
    'CorrelateStrips'
    """

    keyed = True
    derivation = "grouped"
    products: ClassVar = {"output": Product(CorrelationRows, ROWS_METADATA, ".npz", _write_rows)}

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
        self._arrays = installed.load("arrays", self._how.arrays)
        self._substacks = self.substacks or ((0, self.windows),)
        self._number = {code: i for i, code in enumerate(self.stations)}
        self._needed = {strip: self.layout.stations_needed(strip) for strip in self.layout.strips}
        self._chunks: dict[int, _OpenChunk] = {}
        # a ratio divides bin by bin, so it needs all bins
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

    def _member(self, block: int) -> BlockOfSlots:
        slots = len(self.layout.stations_of(block)) * len(self.layout.components)
        return BlockOfSlots(self.bands, self.windows, slots, self._how.copies, self.layout.block)

    def _take(self, chunk: _OpenChunk, station: int, item: SpectraBlock) -> None:
        number = self.layout.block_of(station)
        first = self.layout.stations_of(number).start * len(self.layout.components)
        places = [slot - first for slot in item.slots]
        chunk.packed.pack(station, number, places, lambda member: self._pack(member, places, item))

    def _pack(self, member: BlockOfSlots, places: Sequence[int], item: SpectraBlock) -> None:
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
                    # Parseval: the bins count for negative frequencies too
                    member.energy[k, at] = squares.reshape(self.windows, -1).sum(axis=1) * (2 / band.grid.nfft)

    def _postprocess(self) -> None:
        for index, chunk in self._chunks.items():
            missing = [self.stations[i] for i in self._needed[chunk.strips[0]] if i not in chunk.arrived]
            raise ChunkError(f"chunk {index} never got the items of {', '.join(missing)}")

    def _correlate(self, chunk: _OpenChunk, strip: int, block: int) -> Iterator[CorrelationRows]:
        """Yield the rows of a block of a strip: for each band, group of first slots, substack and second block."""
        first = chunk.blocks.get(block)
        if first is None:
            return
        others = [b for b in range(block, self.layout.blocks) if b in chunk.blocks]
        stations, letters = self.layout.stations_of(block), len(self.layout.components)
        copies, slots = self._how.copies, len(stations) * letters
        widest = max(chunk.blocks[number].slots for number in others)
        for k, bins in enumerate(self._bins):
            if k not in self._room or len(self._room[k]) < min(GROUP, slots) * widest * bins:
                self._room[k] = np.empty(min(GROUP, slots) * widest * bins, np.complex64)
            for low in range(0, slots, GROUP):
                members = stations[low // letters : (low + GROUP) // letters]
                for piece, (start, stop) in enumerate(self._substacks):
                    windows = slice(start * copies, stop * copies)
                    # kept only if several blocks meet them, because they take much memory
                    conjugates = first.bands[k].conjugates(low, windows, often=len(others) > 1)
                    for number in others:
                        partners = {i: js for i in members if len(js := self.layout.partners(i, number))}
                        if partners:
                            second = chunk.blocks[number]
                            left = low // EDGE * EDGE if number == block else 0  # a block with itself: from low on
                            shape = min(GROUP, slots - low), second.slots - left, bins
                            spectra = self._room[k][: math.prod(shape)].reshape(shape)
                            packed = second.bands[k].packed[:, left:, windows]
                            self._arrays.cross_spectra(conjugates, packed, spectra, self._griddings[k])
                            sums = _Sums(k, piece, slice(start, stop), first, second, low, left, spectra)
                            for batch in self._batches(k, self._stretches(sums, strip, block, number, partners)):
                                yield from self._rows(chunk.chunk, strip, sums, batch)

    def _stretches(
        self, sums: _Sums, strip: int, block: int, number: int, partners: dict[int, np.ndarray]
    ) -> Iterator[_Stretch]:
        """Yield a stretch of rows for every first station and component pair that has data."""
        layout, letters = self.layout, self.layout.components
        start = layout.strip_rows(strip).start
        offsets = layout.stations_of(block).start, layout.stations_of(number).start
        valid = sums.first.valid[sums.low : sums.low + GROUP, sums.windows], sums.second.valid[:, sums.windows]
        counts = np.rint(valid[0] @ valid[1].T).astype(np.int32)
        for i, js in partners.items():
            row = layout.row(i, int(js[0])) - start
            for pair in layout.pairs:
                a = (i - offsets[0]) * len(letters) + letters.index(pair[0])
                wanted = layout.wanted_of(pair, i, js)
                b = (js[wanted] - offsets[1]) * len(letters) + letters.index(pair[1])
                n = counts[a - sums.low, b]
                if n.any():
                    itself = i == js[wanted.start] and pair[0] == pair[1]
                    yield _Stretch(pair, row + wanted.start, a, b.tolist(), n, itself)

    def _batches(self, band: int, stretches: Iterable[_Stretch]) -> Iterator[list[_Stretch]]:
        """Yield stretches by as many as are estimated together."""
        enough = TOGETHER // max(2 * self.bands[band].grid.lags + 1, self._bins[band])
        batch: list[_Stretch] = []
        for stretch in stretches:
            batch.append(stretch)
            if sum(len(s.n) for s in batch) >= enough:
                yield batch
                batch = []
        if batch:
            yield batch

    def _rows(self, chunk: Chunk, strip: int, sums: _Sums, batch: Sequence[_Stretch]) -> Iterator[CorrelationRows]:
        """Yield one item for every stretch."""
        data, low, name = self._estimate(sums, batch), 0, self.bands[sums.band].name
        for s in batch:
            part = data[low : low + len(s.n)]
            yield CorrelationRows(chunk, strip, name, s.components, sums.piece, s.row, part, s.n)
            low += len(s.n)

    def _estimate(self, sums: _Sums, batch: Sequence[_Stretch]) -> Float32:
        """Return the correlations of the stretches, one after another."""
        band, spread = self.bands[sums.band], self._griddings[sums.band]
        parts = [_chosen(sums.spectra[s.a - sums.low], [slot - sums.left for slot in s.b]) for s in batch]
        if self._how.keeps_power:
            for at, s in enumerate(batch):
                if s.begins_with_itself:
                    power = sums.first.bands[sums.band].autospectra[s.a][sums.piece]
                    parts[at] = np.array(parts[at])  # a copy, because the part may be a view of the tile
                    parts[at][0] = power if spread is None else spread.spread(power[None].astype(np.complex64))[0]
        spectra = parts[0] if len(parts) == 1 else np.concatenate(parts)
        a, b = [s.a for s in batch for _ in s.b], [slot for s in batch for slot in s.b]
        rows = Rows(sums.band, sums.windows, sums.first, a, sums.second, b, np.concatenate([s.n for s in batch]))
        return estimate(spectra, rows, band, self._how, spread)


def _chosen(spectra: Complex64, slots: Sequence[int]) -> Complex64:
    """Return the spectra [slot, bin] of some slots, without a copy where they are evenly apart."""
    step = slots[1] - slots[0] if len(slots) > 1 else 1
    even = list(slots) == list(range(slots[0], slots[-1] + 1, step))
    return spectra[slots[0] : slots[-1] + 1 : step] if even else spectra[slots]
