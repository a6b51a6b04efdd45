"""Which correlation is estimated: what spectra are prepared for, and how they are correlated."""

from __future__ import annotations

import dataclasses

METHODS = ("cross-correlation", "coherency", "deconvolution", "phase")
AMPLITUDES = ("none", "energy", "peak")


@dataclasses.dataclass(frozen=True, slots=True)
class Estimator:
    """How to correlate.

    ``unbiased``: every lag is divided by its number of valid products, instead of sums by windows (unwhitened and
    phase correlations). ``water_level``: share of the mean of S11 added in ``deconvolution``; ``smooth_hz``: full
    width over which the power spectra of coherency and deconvolution are smoothed. The autocorrelation of a slot
    keeps its amplitude, unless ``whiten_autocorrelations``.
    """

    method: str = "cross-correlation"
    unbiased: bool = False
    amplitude: str = "none"
    water_level: float = 0.01
    smooth_hz: float = 0.02
    whiten_autocorrelations: bool = False

    @property
    def copies(self) -> int:
        """Spectra per window: a complex signal of unit phasors takes two."""
        return 2 if self.method == "phase" else 1

    @property
    def is_ratio(self) -> bool:
        """Whether cross spectra are divided by power spectra, bin by bin."""
        return self.method in ("coherency", "deconvolution")

    @property
    def keeps_power(self) -> bool:
        """Whether autocorrelations are made from power spectra before whitening."""
        return self.method == "cross-correlation" and not self.whiten_autocorrelations
