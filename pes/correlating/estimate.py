"""From sums of cross spectra over windows to the estimate wanted: means, unbiased means, coherency, deconvolution.

C(tau) = sum_t x1(t) x2(t + tau), spectrum conj(X1) X2: positive lag means the wave travels from station 1 to 2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from xcorr.core import installed
from xcorr.pes.correlating.gridding import Gridding
from xcorr.pes.correlating.tiles import Block, full_products_per_lag, products_per_lag
from xcorr.pes.items import Bool, Complex64, Float32, Float64
from xcorr.pes.preparing.estimator import Estimator
from xcorr.pes.preparing.whiten import Band
from xcorr.pes.transforms.analytic import SMALLEST
from xcorr.pes.transforms.running_mean import half_width, running_mean


class BlockOfSlots:
    """The slots of a block in a chunk: spectra for every band, valid windows, masks of incomplete windows.

    There are places for more than ``slots``, because products are padded, to at most ``most``.
    """

    def __init__(self, bands: Sequence[Band], windows: int, slots: int, copies: int, most: int = 0) -> None:
        self.bands = [Block(b.grid, windows, slots, copies, most) for b in bands]
        self.slots, side = slots, self.bands[0].side
        self.valid = np.zeros((side, windows), np.float32)  # float32, because only products of floats go to BLAS
        self.energy = np.zeros((len(bands), side, windows))
        self.masks: dict[int, Bool] = {}
        self._length = bands[0].grid.length

    def expect(self, slots: Sequence[int]) -> None:
        """Mark slots that will be packed, so that :meth:`clear_absent` leaves their places alone."""
        for block in self.bands:
            for slot in slots:
                block.expect(slot)

    def clear_absent(self) -> None:
        """Put zeros in the places of slots that are not expected."""
        for block in self.bands:
            block.clear_absent()

    def mask(self, slot: int, windows: slice) -> Bool:
        """Return the mask [window, sample] of a slot. Without a stored mask, valid windows are complete."""
        known = self.masks.get(slot)
        valid = self.valid[slot, windows]
        return known[windows] if known is not None else np.broadcast_to(valid[:, None] > 0, (len(valid), self._length))

    def samples(self, slot: int) -> Float64:
        """Return the number of valid samples in every window of a slot."""
        known = self.masks.get(slot)
        if known is None:
            return np.asarray(self.valid[slot] * float(self._length), np.float64)
        counts: Float64 = known.sum(axis=1, dtype=np.float64)
        return counts


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """Pairs of slots, ``a`` of a first block and ``b`` of a second, correlated over the windows of a substack.

    ``n`` [row] counts the windows valid in both.
    """

    band: int
    windows: slice
    first: BlockOfSlots
    a: Sequence[int]
    second: BlockOfSlots
    b: Sequence[int]
    n: np.ndarray


def estimate(sums: Complex64, rows: Rows, band: Band, how: Estimator, gridding: Gridding | None = None) -> Float32:
    """Return the correlations [row, 2M+1] of sums [row, bin of the band or of ``gridding``]; NaN where n is 0."""
    n, grid = rows.n, band.grid
    with np.errstate(divide="ignore", invalid="ignore"):
        if how.is_ratio:
            sums = _spectral_ratio(sums, rows, band, how)
        weights = None if how.is_ratio or how.unbiased else np.where(n > 0, 1.0 / n, np.nan).astype(np.float32)
        data: Float32 = installed.load("arrays", how.arrays).to_lags(sums, grid, gridding, weights)
        if how.is_ratio:
            data[n == 0] = np.nan
        elif how.unbiased:
            for k in range(len(n)):
                products = _products(rows, k, band)
                data[k] *= np.where(products > 0, grid.length / products, np.nan).astype(np.float32)
        if how.amplitude == "peak":
            data /= np.abs(data).max(axis=1, keepdims=True)
        elif how.amplitude == "energy":
            data /= _root_of_energies(rows, how, grid.length).astype(np.float32)[:, None]
    return data


def _products(rows: Rows, row: int, band: Band) -> Float64:
    """Return the numbers of valid products per lag of one row."""
    a, b = rows.a[row], rows.b[row]
    if rows.n[row] and (a in rows.first.masks or b in rows.second.masks):
        both = (rows.first.valid[a, rows.windows] * rows.second.valid[b, rows.windows]) > 0
        masks = rows.first.mask(a, rows.windows)[both], rows.second.mask(b, rows.windows)[both]
        return products_per_lag(*masks, band.grid)
    full: Float64 = full_products_per_lag(band.grid) * float(rows.n[row])
    return full


def _common(rows: Rows, row: int) -> np.ndarray:
    """Return the numbers of the windows valid in both slots of a row."""
    both = rows.first.valid[rows.a[row], rows.windows] * rows.second.valid[rows.b[row], rows.windows]
    common: np.ndarray = np.flatnonzero(both) + rows.windows.start
    return common


def _spectral_ratio(sums: Complex64, rows: Rows, band: Band, how: Estimator) -> Complex64:
    """Return S12 / sqrt(S11 S22), or S12 / (S11 + w mean S11), with the band taper of both traces.

    S are means over the windows valid in both slots. The power spectra are then smoothed. The cross spectrum is not
    smoothed, because smoothing would suppress long lags.
    """
    first, second = rows.first.bands[rows.band], rows.second.bands[rows.band]
    known: dict[tuple[int, int, bytes], Float64] = {}

    def smooth_power(block: Block, side: int, slot: int, windows: np.ndarray) -> Float64:
        key = side, slot, windows.tobytes()
        if key not in known:
            width = half_width(how.smooth_hz, 1.0 / band.grid.step_hz)
            known[key] = running_mean(block.power(slot, windows), np.ones(band.grid.bins), width)
        return known[key]

    out: Complex64 = np.zeros_like(sums)
    taper = band.taper().astype(np.float64) ** 2
    for k, (a, b) in enumerate(zip(rows.a, rows.b, strict=True)):
        windows = _common(rows, k)
        if not len(windows):
            continue
        s11 = smooth_power(first, 1, a, windows)
        if how.method == "coherency":
            # not the root of the product, which may leave the range of floats
            scale = np.sqrt(s11) * np.sqrt(smooth_power(second, 2, b, windows))
        else:
            scale = s11 + how.water_level * s11.mean()
        weight = np.divide(taper / len(windows), scale, out=np.zeros(len(scale)), where=scale > SMALLEST)
        out[k] = sums[k] * weight
    return out


def _root_of_energies(rows: Rows, how: Estimator, length: int) -> Float64:
    """Return sqrt(E1 E2) of the windows valid in both, per valid sample as the correlations are."""
    result = np.full(len(rows.b), np.nan)
    for k, (a, b) in enumerate(zip(rows.a, rows.b, strict=True)):
        windows = _common(rows, k)
        if not len(windows):
            continue
        ends = ((rows.first, a), (rows.second, b))
        energies = [member.energy[rows.band, at, windows].sum() for member, at in ends]
        counts = [member.samples(at)[windows].sum() / length if how.unbiased else len(windows) for member, at in ends]
        result[k] = np.sqrt(energies[0] / counts[0] * energies[1] / counts[1])
    return result
