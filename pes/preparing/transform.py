"""The element that turns conditioned traces into the spectra of windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from xcorr.pes.items import Bool, Complex64, ConditionedStation, Float32, SpectraBlock, Tombstone
from xcorr.pes.preparing import whiten, windows
from xcorr.pes.preparing.estimator import Estimator
from xcorr.pes.preparing.kept_items import SPECTRA
from xcorr.pes.preparing.prepare import StationStep
from xcorr.pes.preparing.whiten import Whitening
from xcorr.pes.preparing.windows import USED
from xcorr.pes.transforms.analytic import phasor_spectra, phasors


class TransformStation(StationStep):
    """Cuts windows, transforms and whitens them: writes a :class:`SpectraBlock` with the spectra of every band.

    ``estimator`` decides how spectra are made. The phase correlation gets spectra of unit phasors. Coherency and
    deconvolution get spectra without band taper. Unbiased estimates also get the masks of incomplete windows. With
    ``autocorrelations`` the item also holds the power before whitening, summed over ``substacks`` (None: the chunk).

    >>> from xcorr.pes.preparing.whiten import Band, Whitening
    >>> TransformStation((Band.of(3600, 120, 1.0, (0.1, 0.4)),), 3600, Whitening("running-mean")).whitening.smooth_hz
    0.02
    """

    products: ClassVar = {"output": SPECTRA}
    unit = "windows"

    def __init__(
        self,
        bands: Sequence[whiten.Band],
        step: int,
        whitening: Whitening | None = None,
        estimator: Estimator | None = None,
        autocorrelations: bool = False,
        substacks: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        super().__init__()
        self.bands = bands
        self.window_step = step
        self.whitening = whitening or Whitening()
        self.estimator = estimator
        self.autocorrelations = autocorrelations
        self.substacks = substacks

    def _preprocess(self) -> None:
        self._how = self.estimator or Estimator(unbiased=self.whitening.method == "none")
        self._union = whiten.union(b.grid for b in self.bands)
        ratio = self._how.method in ("coherency", "deconvolution")
        self._tapers = [np.ones(b.grid.bins, np.float32) if ratio else b.taper() for b in self.bands]

    def step(self, item: ConditionedStation) -> SpectraBlock | Tombstone:
        """Transform the valid windows of all slots of the station."""
        valid = item.windows == USED
        self.units += valid.size
        rows = np.flatnonzero(valid.any(axis=1))
        if not len(rows):
            return Tombstone(item.chunk, item.station, item.strips, item.accounts)
        valid = valid[rows]
        if self._how.method == "phase":
            spectra: tuple[Complex64, ...] = (self._phasor_spectra(item.data[rows], item.mask[rows], valid),)
            power = None
        else:
            spectra, power = self._spectra(item.data[rows], valid)
        masks = None
        if self._how.unbiased:
            cut = windows.windowed(item.mask[rows], self._union.length, self.window_step) & valid[:, :, None]
            masks = None if cut[valid].all() else cut
        slots = tuple(a.slot for a in item.accounts if a.status == "used")
        kept = tuple(slots[r] for r in rows)
        # transposed here, by all workers, so that correlators copy whole lines of memory
        spectra = tuple(np.ascontiguousarray(band.swapaxes(1, 2)) for band in spectra)
        return SpectraBlock(item.chunk, item.station, item.strips, item.accounts, kept, spectra, valid, power, masks)

    def _phasor_spectra(self, data: Float32, mask: Bool, valid: Bool) -> Complex64:
        grid = self._union
        cut = windows.windowed(phasors(data, mask), grid.length, self.window_step)
        spectra = np.zeros((*valid.shape, 2, grid.nfft // 2 + 1), np.complex64)
        spectra[valid] = phasor_spectra(cut[valid][:, None], grid.length, grid.nfft)
        return spectra.reshape(len(data), -1, grid.nfft // 2 + 1)

    def _spectra(self, data: Float32, valid: Bool) -> tuple[tuple[Complex64, ...], tuple[Float32, ...] | None]:
        cut = windows.windowed(data, self._union.length, self.window_step)
        whole = np.zeros((*valid.shape, self._union.bins), np.complex64)
        whole[valid] = whiten.window_spectra(cut[valid], self._union)
        spectra, power = [], []
        for band, taper in zip(self.bands, self._tapers, strict=True):
            part = whole[..., band.grid.first - self._union.first : band.grid.stop - self._union.first]
            spectra.append(whiten.whiten(part, self.whitening, band.grid, taper))
            if self.autocorrelations:
                squares = np.square(np.abs(part * taper), dtype=np.float64)
                substacks = self.substacks or ((0, valid.shape[1]),)
                sums = np.stack([squares[:, a:b].sum(axis=1) for a, b in substacks], axis=1)
                power.append(sums.astype(np.float32))
        return tuple(spectra), tuple(power) if self.autocorrelations else None
