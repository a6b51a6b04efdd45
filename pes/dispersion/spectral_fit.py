"""Phase velocities of single pairs from the zeros and the shape of their real spectra.

The spectrum of a pair is that of an isotropic field, with an amplitude and a slowness that are smooth functions of
frequency (Aki 1957; Ekström et al. 2009, GRL 36; Menke & Jin 2015, BSSA 105). Also waves of pairs that are so near that
their two sides overlap are measured so.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy  # its parts are imported when they are first used

from xcorr.pes.dispersion import waves
from xcorr.pes.items import Float32, Float64

ITERATIONS = 3
LEAST_LEVEL = 0.1  # of the spectrum, as a share of its largest: bins below are not fitted
PRIOR = 0.1  # standard deviation of a pair's slowness around what the fit begins with, as a share
LEAST_DAMPING = 1e-9
OCTAVES = 0.4  # between knots


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Slowness as a share of what the fit began with, its error [row, period], and how much of the spectrum is fitted.

    ``fit`` [row] is the correlation coefficient of spectrum and model.
    """

    share: Float64
    error: Float64
    fit: Float64


class SpectralFit:
    """Fits real spectra at the bins ``frequency_hz`` of a band; ``level`` [bin] is their amplitude over all pairs."""

    def __init__(
        self, kind: str, frequency_hz: Float64, level: Float64, band_hz: tuple[float, float], at_hz: Float64
    ) -> None:
        self.kind = kind
        there = (frequency_hz >= band_hz[0]) & (frequency_hz <= band_hz[1]) & (level > LEAST_LEVEL * level.max())
        self.used = np.flatnonzero(there)
        self.level = level[self.used]
        f = frequency_hz[self.used]
        pieces = max(1, round(np.log2(f[-1] / f[0]) / OCTAVES))
        knots = np.pad(np.linspace(np.log(f[0]), np.log(f[-1]), pieces + 1), 3, mode="edge")
        self.basis = _splines(np.log(f), knots)
        self.row_bytes = 8 * len(f) * 8 * self.basis.shape[1]  # of memory that the fit of a row takes
        self.basis_at = _splines(np.log(np.clip(at_hz, f[0], f[-1])), knots)

    def __call__(self, real: Float32, x: Float64, apart: Float64) -> Fitted:
        """Return the fit of spectra [row, bin], beginning with x = k r [row, bin]. Bins are those of the whole grid.

        Values of a spectrum are independent if they are ``apart`` [row] bins.
        """
        basis, count = self.basis, self.basis.shape[1]
        data, begin = real[:, self.used].astype(np.float64), x[:, self.used]
        change = np.zeros((len(real), count))
        amplitude = np.zeros((len(real), count))
        prior = np.repeat([np.inf, PRIOR], count)
        nothing = np.zeros(len(real))
        free = max(1, len(self.used) - 2 * count)
        for k in range(ITERATIONS + 1):
            at = begin * (1 + change @ basis.T)
            shape = self.level * waves.spectrum(self.kind, at)
            modelled = (amplitude @ basis.T) * shape
            by_amplitude = shape[:, :, None] * basis
            if k == 0:
                amplitude = _solved(by_amplitude, data, prior[:count], nothing, amplitude)[0]
                continue
            steep = (amplitude @ basis.T) * self.level * waves.slope(self.kind, at) * begin
            both = np.concatenate([by_amplitude, steep[:, :, None] * basis], axis=2)
            left = data - modelled
            known = np.concatenate([amplitude, change], axis=1)
            step, inverse = _solved(both, left, prior, (left**2).sum(axis=1) / free * apart, known)
            amplitude = amplitude + step[:, :count]
            change = change + np.clip(step[:, count:], -0.1, 0.1)
        shape = self.level * waves.spectrum(self.kind, begin * (1 + change @ basis.T))
        modelled = (amplitude @ basis.T) * shape
        left = ((data - modelled) ** 2).sum(axis=1)
        noise = left / free * apart
        of_change = inverse[:, count:, count:]
        variance = np.einsum("pk,rkl,pl->rp", self.basis_at, of_change, self.basis_at) * noise[:, None]
        power = (data**2).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            fit = np.sqrt(np.maximum(0, 1 - left / power))
        fit[power == 0] = 0
        return Fitted(1 + change @ self.basis_at.T, np.sqrt(np.maximum(variance, 0)), fit)


def _splines(x: Float64, knots: Float64) -> Float64:
    found: Float64 = scipy.interpolate.BSpline.design_matrix(x, knots, 3).toarray()
    return found


def _solved(columns: Float64, data: Float64, prior: Float64, noise: Float64, known: Float64) -> tuple[Float64, Float64]:
    """Return least-squares steps [row, column] for columns [row, bin, column], and the inverse normal matrices.

    ``prior`` [column] are standard deviations of what is sought around 0 and ``known`` what it is by now, beside data
    whose variance is ``noise`` [row].
    """
    across = columns.transpose(0, 2, 1)
    normal = across @ columns
    size = normal.diagonal(axis1=1, axis2=2)
    damping = noise[:, None] / prior**2
    number = np.arange(normal.shape[1])
    normal[:, number, number] += damping + np.maximum(size, 1e-300) * LEAST_DAMPING
    right = (across @ data[:, :, None])[:, :, 0] - damping * known
    inverse = np.linalg.inv(normal).astype(np.float64)
    return (inverse @ right[:, :, None])[:, :, 0], inverse
