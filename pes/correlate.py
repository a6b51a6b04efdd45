"""Tiled correlation: for one frequency, all pairs of two blocks are one matrix product over windows.

C(tau) = sum_t x1(t) x2(t + tau), spectrum conj(X1) X2: positive lag means the wave travels from station 1 to 2.
The linear stack over windows is the product's inner sum, so a pair costs one inverse FFT per chunk. Tiles are
always padded with zeros to one size and never split over windows, by one BLAS thread: the bits of a pair depend
neither on the other stations nor on who computes it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.fft

from xcorr.core import GenericPE, MultiKey, XcorrError
from xcorr.pes.items import (
    Bool,
    Chunk,
    Complex64,
    CorrelationRows,
    Float32,
    Float64,
    SlotAccount,
    SpectraBlock,
    StripEnd,
    Tombstone,
    strip_key,
)
from xcorr.pes.layout import Layout
from xcorr.pes.process import prepare_process
from xcorr.pes.whiten import SpectralGrid

SLAB = 256  # frequencies multiplied at once
BATCH = 16  # rows per inverse FFT call
APART = 8  # samples between the products of two frequencies, lest all of them fall into the same lines of the cache
SIDE_MULTIPLE = 24  # OpenBLAS kernels sum all columns of a product of such a size in one order (see docs/science.md)


class ChunkError(XcorrError, RuntimeError):
    """A chunk did not get the items of all its stations."""


def cross_spectra(first: Complex64, second: Complex64, out: Complex64) -> None:
    """Write sum_w first second to ``out`` [slot, slot, frequency].

    ``first`` [frequency, slot, window] holds conjugate spectra and may have more slots than ``out`` (padding);
    ``second`` is [frequency, window, slot].
    """
    rows, columns = first.shape[1], second.shape[2]
    size = rows * columns
    room = np.empty((SLAB, size + APART), np.complex64)
    for low in range(0, len(first), SLAB):
        part = slice(low, min(low + SLAB, len(first)))
        product = room[: part.stop - low, :size].reshape(-1, rows, columns)
        np.matmul(first[part], second[part], out=product)
        out[:, :, part] = product[:, : len(out)].transpose(1, 2, 0)


def to_lags(spectra: Complex64, grid: SpectralGrid) -> Float32:
    """Return the correlations [row, 2M+1] of cross spectra [row, in-band bin]; zero lag at index M."""
    rows, m = len(spectra), grid.lags
    lags = np.empty((rows, 2 * m + 1), np.float32)
    padded = np.zeros((min(rows, BATCH), grid.nfft // 2 + 1), np.complex64)
    for low in range(0, rows, BATCH):
        part = spectra[low : low + BATCH]
        padded[: len(part), grid.first : grid.stop] = part
        time = scipy.fft.irfft(padded[: len(part)], n=grid.nfft, axis=-1)
        lags[low : low + BATCH, :m] = time[:, grid.nfft - m :]
        lags[low : low + BATCH, m:] = time[:, : m + 1]
    return lags


def products_per_lag(first: Bool, second: Bool, grid: SpectralGrid) -> Float64:
    """Return N(tau) = sum over windows and t of m1(t) m2(t + tau), [2M+1], for masks [window, sample]."""
    spectra = [scipy.fft.rfft(m.astype(np.float64), n=grid.nfft, axis=-1) for m in (first, second)]
    time = scipy.fft.irfft((spectra[0].conj() * spectra[1]).sum(axis=0), n=grid.nfft)
    products: Float64 = np.rint(np.concatenate([time[grid.nfft - grid.lags :], time[: grid.lags + 1]]))
    return products


def full_products_per_lag(grid: SpectralGrid) -> Float64:
    """Return L - |tau|, [2M+1]: what one pair of complete windows contributes to N(tau)."""
    return grid.length - np.abs(np.arange(-grid.lags, grid.lags + 1)).astype(np.float64)


class _Block:
    """The spectra of a block of stations in a chunk, zero where absent."""

    def __init__(self, grid: SpectralGrid, windows: int, side: int) -> None:
        self.rows = np.zeros((side, windows, grid.bins), np.complex64)
        self.valid = np.zeros((side, windows), np.float32)
        self.masks: dict[int, Bool] = {}
        self._packed: Complex64 | None = None

    def fill(self, item: SpectraBlock, first_slot: int) -> None:
        for row, slot in enumerate(item.slots):
            at = slot - first_slot
            self.rows[at] = item.spectra[row]
            self.valid[at] = item.valid[row]
            if item.masks is not None:
                self.masks[at] = item.masks[row]

    @property
    def packed(self) -> Complex64:
        """The spectra as [frequency, window, slot]."""
        if self._packed is None:
            side, windows, bins = self.rows.shape
            self._packed = np.empty((bins, windows, side), np.complex64)
            for low, window in itertools.product(range(0, bins, SLAB), range(windows)):
                self._packed[low : low + SLAB, window] = self.rows[:, window, low : low + SLAB].T
            del self.rows
        return self._packed

    def conjugate(self) -> Complex64:
        """Return the conjugate spectra as [frequency, slot, window], padded to whole multiples of slots."""
        bins, windows, side = self.packed.shape
        padded = np.zeros((bins, -(-side // SIDE_MULTIPLE) * SIDE_MULTIPLE, windows), np.complex64)
        np.conjugate(self.packed.transpose(0, 2, 1), out=padded[:, :side])
        return padded

    def mask(self, at: int, length: int) -> Bool:
        """Return the mask [window, sample] of a slot: complete in valid windows unless one was sent."""
        known = self.masks.get(at)
        return (
            known if known is not None else np.broadcast_to(self.valid[at, :, None] > 0, (self.valid.shape[1], length))
        )


class _OpenChunk:
    """What has arrived for a chunk, of which some strips are to be done here."""

    def __init__(self, chunk: Chunk, strips: list[int]) -> None:
        self.chunk, self.strips = chunk, strips
        self.blocks: dict[int, _Block] = {}
        self.arrived: set[int] = set()
        self.accounts: dict[int, SlotAccount] = {}
        self.done: set[int] = set()


class CorrelateStrips(GenericPE):
    """Correlates the strips it owns, chunk by chunk, as soon as all their stations have arrived.

    Takes :class:`SpectraBlock` and :class:`Tombstone`; writes :class:`CorrelationRows` and, last, a
    :class:`StripEnd` per strip and chunk. With ``unbiased`` (unwhitened spectra) every lag is divided by its
    number of valid products; otherwise results are means over windows. A chunk that is incomplete at the end
    is an error that names the missing stations.
    """

    keyed = True

    def __init__(self, layout: Layout, grid: SpectralGrid, windows: int, stations: Any, unbiased: bool = False) -> None:
        super().__init__()
        self._add_input("input", grouping=MultiKey("keys"))
        self._add_output("output")
        self.layout = layout
        self.grid = grid
        self.windows = windows
        self.stations = stations
        self.unbiased = unbiased

    def _preprocess(self) -> None:
        prepare_process()
        self._number = {code: i for i, code in enumerate(self.stations)}
        self._chunks: dict[int, _OpenChunk] = {}

    def process(self, inputs: dict[str, Any]) -> None:
        """Take one station's item; correlate the strips that it completes."""
        item: SpectraBlock | Tombstone = inputs["input"]
        if item.chunk.index not in self._chunks:
            owned = [s for s in range(self.layout.strips) if self.owns(strip_key(item.chunk, s))]
            self._chunks[item.chunk.index] = _OpenChunk(item.chunk, owned)
        chunk = self._chunks[item.chunk.index]
        station = self._number[item.station]
        chunk.arrived.add(station)
        chunk.accounts.update((a.slot, a) for a in item.accounts)
        if isinstance(item, SpectraBlock):
            number, side = self.layout.block_of(station), self.layout.block
            if number not in chunk.blocks:
                chunk.blocks[number] = _Block(self.grid, self.windows, side)
            first = self.layout.stations_of(number).start * len(self.layout.components)
            chunk.blocks[number].fill(item, first)
        for strip in chunk.strips:
            if strip not in chunk.done and chunk.arrived.issuperset(self.layout.stations_needed(strip)):
                chunk.done.add(strip)
                for rows in self._correlate(chunk, strip):
                    self.write("output", rows)
                accounts = tuple(a for _, a in sorted(chunk.accounts.items()))
                self.write("output", StripEnd(chunk.chunk, strip, accounts))
        if len(chunk.done) == len(chunk.strips):
            del self._chunks[item.chunk.index]

    def _postprocess(self) -> None:
        for index, chunk in self._chunks.items():
            missing = [self.stations[i] for i in self.layout.stations_needed(chunk.strips[0]) if i not in chunk.arrived]
            raise ChunkError(f"chunk {index} never got the items of {', '.join(missing)}")

    def _correlate(self, chunk: _OpenChunk, strip: int) -> Iterator[CorrelationRows]:
        first = chunk.blocks.get(strip)
        if first is None:
            return
        conjugate, side = first.conjugate(), self.layout.block
        spectra = np.empty((side, side, self.grid.bins), np.complex64)
        for number in range(strip, self.layout.blocks):
            second = chunk.blocks.get(number)
            if second is not None:
                cross_spectra(conjugate, second.packed, spectra)
                yield from self._tile(chunk.chunk, strip, number, first, second, spectra)

    def _tile(
        self, chunk: Chunk, strip: int, number: int, first: _Block, second: _Block, spectra: Complex64
    ) -> Iterator[CorrelationRows]:
        counts = np.rint(first.valid @ second.valid.T).astype(np.int32)
        layout, letters = self.layout, self.layout.components
        start = layout.strip_rows(strip).start
        rows_i, rows_j = layout.stations_of(strip), layout.stations_of(number)
        for i in rows_i:
            from_j = max(i + 1, rows_j.start)
            if from_j >= rows_j.stop:
                continue
            for pair in layout.pairs:
                a = (i - rows_i.start) * len(letters) + letters.index(pair[0])
                slots = slice((from_j - rows_j.start) * len(letters) + letters.index(pair[1]), None, len(letters))
                b = slots.indices(len(rows_j) * len(letters))
                n = counts[a, slice(*b)]
                if n.any():
                    data = to_lags(spectra[a, slice(*b)], self.grid)
                    self._scale(data, n, first, a, second, range(*b))
                    yield CorrelationRows(chunk, strip, pair, layout.row(i, from_j) - start, data, n)

    def _scale(self, data: Float32, n: Any, first: _Block, a: int, second: _Block, b: Any) -> None:
        """Turn sums over windows into means, per lag if unbiased; NaN where nothing was summed."""
        with np.errstate(divide="ignore", invalid="ignore"):
            if not self.unbiased:
                data *= np.where(n > 0, 1.0 / n, np.nan).astype(np.float32)[:, None]
                return
            full = full_products_per_lag(self.grid)
            for row, at in enumerate(b):
                products = n[row] * full
                if n[row] and (a in first.masks or at in second.masks):
                    masks = first.mask(a, self.grid.length), second.mask(at, self.grid.length)
                    products = products_per_lag(*masks, self.grid)
                data[row] *= np.where(products > 0, self.grid.length / products, np.nan).astype(np.float32)
