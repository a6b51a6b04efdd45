"""The kind of correlation that is estimated. It decides how spectra are prepared and correlated."""

from __future__ import annotations

import dataclasses

from xcorr.pes.parameters import require_numbers, require_one_of

METHODS = ("cross-correlation", "coherency", "deconvolution", "phase")
AMPLITUDES = ("none", "energy", "peak")


@dataclasses.dataclass(frozen=True, slots=True)
class Estimator:
    """How to correlate.

    ``unbiased``: every lag is divided by its number of valid products (unwhitened and phase correlations). Otherwise
    sums are divided by the number of windows. ``water_level``: share of the mean of S11 that ``deconvolution`` adds to
    S11. ``smooth_hz``: full width over which coherency and deconvolution smooth power spectra. The autocorrelation of
    a slot is not whitened, unless ``whiten_autocorrelations`` is set. ``arrays`` names the entry point of the group
    ``xcorr.arrays`` whose ``cross_spectra`` and ``to_lags`` compute (``numpy``: ``xcorr.pes.correlating.tiles``).
    Raises ParameterError for values that cannot be.
    """

    method: str = "cross-correlation"
    unbiased: bool = False
    amplitude: str = "none"
    water_level: float = 0.01
    smooth_hz: float = 0.02
    whiten_autocorrelations: bool = False
    arrays: str = "numpy"

    def __post_init__(self) -> None:
        require_one_of(self, "method", METHODS)
        require_one_of(self, "amplitude", AMPLITUDES)
        require_numbers(self, "water_level", "smooth_hz")

    @property
    def copies(self) -> int:
        """Spectra for each window: two for the complex phasors of the phase correlation, else one."""
        return 2 if self.method == "phase" else 1

    @property
    def is_ratio(self) -> bool:
        """Whether cross spectra are divided by power spectra, bin by bin."""
        return self.method in ("coherency", "deconvolution")

    @property
    def keeps_power(self) -> bool:
        """Whether autocorrelations are made from power spectra before whitening."""
        return self.method == "cross-correlation" and not self.whiten_autocorrelations
