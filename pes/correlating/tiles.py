"""Tiles: packed window spectra of blocks of stations, their cross spectra, and correlations at short lags.

For one frequency, one matrix product over windows gives all pairs of two blocks. Products are padded with zeros to
sizes that BLAS sums in one order (:func:`units`), are never split over windows, and use one BLAS thread. So the bits of
a pair depend neither on the other stations nor on the worker that computes them.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np

from xcorr.pes.correlating.gridding import Gridding
from xcorr.pes.items import Bool, Complex64, Float32, Float64
from xcorr.pes.preparing.whiten import SpectralGrid
from xcorr.pes.transforms.fft import library, rfft

SLAB = 256  # frequencies multiplied at once
BATCH = 32  # rows per inverse FFT call
LINE = 64  # bytes of a line of the cache
APART = 8  # extra values between the products of two frequencies, so that they use different lines of the cache
EDGE = 16  # second blocks begin at multiples of so many slots, so that no vector of the processor is cut
GROUP = 24  # slots of the first block multiplied at once, at most; OpenBLAS sums all rows of it in one order
WIDE = 64  # columns that stand for any number of them
UNITS = ((6, 8), (12, 16))  # rows and columns whose multiples most processors sum as they sum GROUP rows


@functools.cache
def units() -> tuple[int, int]:
    """Return numbers of rows and columns whose multiples BLAS sums as it sums GROUP x WIDE products.

    OpenBLAS has a kernel for each processor, and takes what is left over from whole steps of the kernel in another
    order. Therefore this is found by trying, once in each process.
    """
    # any numbers whose products are rounded; importing numpy.random takes longer than all of this
    factors = [_numbers(GROUP + WIDE, 2 * windows).view(np.complex64) for windows in (2, 3, 24, 37)]

    def same(rows: int, columns: int) -> bool:
        for both in factors:
            first, second = both[:GROUP], both[GROUP:]
            whole = first @ second.T
            for r, c in itertools.product(range(rows, GROUP + 1, rows), range(columns, WIDE + 1, columns)):
                if not np.array_equal(first[:r] @ second[:c].T, whole[:r, :c]):
                    return False
        return True

    return next((unit for unit in UNITS if same(*unit)), (GROUP, WIDE))


def _numbers(rows: int, columns: int) -> Float32:
    return np.sin(np.arange(rows * columns, dtype=np.float64) ** 2).astype(np.float32).reshape(rows, columns)


def padded(slots: int, unit: int, most: int) -> int:
    """Return the next multiple of a unit, at most ``most``.

    >>> padded(3, 8, 64), padded(60, 16, 63)
    (8, 63)
    """
    return min(-(-slots // unit) * unit, most)


def places_of(slots: int, most: int) -> int:
    """Return for how many slots a block has places: its slots, padded to at most ``most``.

    Fewer slots than a unit are padded for each product, because in a block the padding would take several times the
    memory of the slots.
    """
    unit = units()[1]
    return slots if slots < unit else padded(slots, unit, max(most, slots))


Conjugates = Callable[[slice], Complex64]  # of a range of frequencies: [frequency, GROUP, window]


def cross_spectra(first: Conjugates, second: Complex64, out: Complex64, gridding: Gridding | None = None) -> None:
    """Write sum_w first second to ``out`` [slot, slot, frequency]: in-band bins, or frequencies of ``gridding``.

    ``second`` is [frequency, slot, window], or a view whose last two axes BLAS can read. ``first`` returns conjugate
    spectra. With padding both are of more slots than ``out`` has.
    """
    wide = out.shape[1]
    if second.shape[2] == 1 and gridding is None:  # one window: nothing to sum, so no product of matrices
        a, b = (np.ascontiguousarray(x[..., 0].T) for x in (first(slice(None))[:, : len(out)], second[:, :wide]))
        np.multiply(a[:, None], b, out=out)
        return
    rows, columns = first(slice(0, 1)).shape[1], max(second.shape[1], units()[1])
    size = rows * columns
    if gridding is None:
        room = np.empty((SLAB, size + APART), np.complex64)
        for low in range(0, len(second), SLAB):
            part = slice(low, min(low + SLAB, len(second)))
            product = room[: part.stop - low, :size].reshape(-1, rows, columns)
            np.matmul(first(part), _columns(second[part], columns), out=product)
            out[:, :, part] = product[:, : len(out), :wide].transpose(1, 2, 0)
        return
    sums = np.zeros((gridding.bins, size + APART), np.complex64)
    room = np.empty((max(len(weights[0]) for _, _, weights in gridding.slabs), size + APART), np.complex64)
    for part, reached, weights in gridding.slabs:
        product = room[: part.stop - part.start, :size]
        np.matmul(first(part), _columns(second[part], columns), out=product.reshape(-1, rows, columns))
        sums[reached, :size] += weights @ product
    out[:] = sums[:, :size].reshape(-1, rows, columns)[:, : len(out), :wide].transpose(1, 2, 0)


def _columns(second: Complex64, columns: int) -> Complex64:
    """Return spectra [frequency, slot, window] as [frequency, window, column], padded with zeros."""
    if second.shape[1] < columns:
        found = np.zeros((len(second), columns, second.shape[2]), np.complex64)
        found[:, : second.shape[1]] = second
        second = found
    return second.transpose(0, 2, 1)


def to_lags(
    spectra: Complex64, grid: SpectralGrid, gridding: Gridding | None = None, weights: Float32 | None = None
) -> Float32:
    """Return the correlations [row, 2M+1] of cross spectra [row, bin of ``grid`` or ``gridding``]; zero lag at M.

    ``weights`` [row], if given, multiply them.
    """
    rows, m = len(spectra), grid.lags
    weight = np.ones((rows, 1), np.float32) if weights is None else weights[:, None]
    lags = np.empty((rows, 2 * m + 1), np.float32)
    fft = library(grid.fft)
    nfft = gridding.nfft if gridding else grid.nfft
    # one array for all batches, because bins outside the band stay zero
    half = np.zeros((BATCH if fft.whole_batches else min(rows, BATCH), nfft // 2 + 1), np.complex64)
    for low in range(0, rows, BATCH):
        part = spectra[low : low + BATCH]
        if gridding:
            gridding.half_spectra(part, half[: len(part)])
        else:
            half[: len(part), grid.first : grid.stop] = part
        time = fft.irfft(half if fft.whole_batches else half[: len(part)], nfft)
        batch = slice(low, low + len(part))
        np.multiply(time[: len(part), nfft - m :], weight[batch], out=lags[batch, :m])
        np.multiply(time[: len(part), : m + 1], weight[batch], out=lags[batch, m:])
    if gridding:
        lags *= gridding.scale
    return lags


def products_per_lag(first: Bool, second: Bool, grid: SpectralGrid) -> Float64:
    """Return N(tau) = sum over windows and t of m1(t) m2(t + tau), [2M+1], for masks [window, sample]."""
    # float64, so that large counts round to the right number
    spectra = [rfft(m.astype(np.float64), grid.nfft) for m in (first, second)]
    time = np.fft.irfft((spectra[0].conj() * spectra[1]).sum(axis=0), n=grid.nfft)
    products: Float64 = np.rint(np.concatenate([time[grid.nfft - grid.lags :], time[: grid.lags + 1]]))
    return products


def full_products_per_lag(grid: SpectralGrid) -> Float64:
    """Return L - |tau|, [2M+1]: what one pair of complete windows contributes to N(tau)."""
    return grid.length - np.abs(np.arange(-grid.lags, grid.lags + 1)).astype(np.float64)


def at_a_line(*shape: int) -> Complex64:
    """Return an uninitialised array aligned to a line of the cache, so that fewer lines hold two slots."""
    size = math.prod(shape) * np.dtype(np.complex64).itemsize
    room = np.empty(size + LINE, np.uint8)
    begin = -room.__array_interface__["data"][0] % LINE
    return room[begin : begin + size].view(np.complex64).reshape(shape)


class Block:
    """Spectra of a block of slots in a chunk, ``packed`` [frequency, slot, window], padded to at most ``most`` slots.

    ``copies`` spectra belong to each window (2 for the phase correlation). Call :meth:`clear_absent` before
    correlating.
    """

    def __init__(self, grid: SpectralGrid, windows: int, slots: int, copies: int = 1, most: int = 0) -> None:
        self.grid, self.copies, self.slots = grid, copies, slots
        self.side = side = places_of(slots, most)
        self.packed = at_a_line(grid.bins, side, windows * copies)
        self._absent = set(range(side))
        self.autospectra: dict[int, Float32] = {}

    def expect(self, slot: int) -> None:
        """Mark a slot that :meth:`fill` will write, so that :meth:`clear_absent` leaves its place alone."""
        self._absent.discard(slot)

    def fill(self, slot: int, spectra: Complex64) -> None:
        """Take the spectra [bin, window] of a slot that is expected."""
        self.packed[:, slot] = spectra

    def clear_absent(self) -> None:
        """Put zeros in the places of slots that are not expected."""
        if self._absent:
            self.packed[:, sorted(self._absent)] = 0
            self._absent.clear()

    def conjugates(self, first_slot: int, windows: slice, often: bool) -> Conjugates:
        """Return a function for conjugate spectra of up to GROUP slots, zero-padded; ``often``: keep all of them."""
        rows = padded(min(GROUP, self.slots - first_slot), units()[0], GROUP)
        part = self.packed[:, first_slot : first_slot + rows, windows]

        def conjugate(frequencies: slice) -> Complex64:
            chosen = part[frequencies]
            found = np.empty((len(chosen), rows, chosen.shape[2]), np.complex64)
            np.conjugate(chosen, out=found[:, : chosen.shape[1]])
            found[:, chosen.shape[1] :] = 0
            return found

        return conjugate(slice(None)).__getitem__ if often else conjugate

    def power(self, slot: int, windows: np.ndarray) -> Float64:
        """Return the mean over some windows (their numbers) of |X|² of a slot, [bin]."""
        at = (windows[:, None] * self.copies + np.arange(self.copies)).ravel()
        part = self.packed[:, slot, at]
        mean: Float64 = (np.square(part.real, dtype=np.float64) + np.square(part.imag, dtype=np.float64)).mean(axis=1)
        return mean
