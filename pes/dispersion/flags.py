"""Reasons why a velocity of a pair and period is not accepted; a flag is the sum of those that hold."""

from __future__ import annotations

NO_DATA, LOW_SNR, FEW_WAVELENGTHS, FEW_FOR_GROUP, SIDES, METHODS, BRANCH, EDGE, NO_CURVE, CUT = (
    1 << k for k in range(10)
)
WORDS = {
    NO_DATA: "no data",
    LOW_SNR: "low signal-to-noise ratio, or no lags to measure the noise",
    FEW_WAVELENGTHS: "too few wavelengths for a phase velocity",
    FEW_FOR_GROUP: "too few wavelengths for a group velocity",
    SIDES: "positive and negative lags disagree",
    METHODS: "frequency-time analysis and the fit of the spectrum disagree",
    BRANCH: "the number of cycles is uncertain",
    EDGE: "no maximum of the envelope near the network's arrival",
    NO_CURVE: "the network's curve does not cover the period",
    CUT: "the largest lag cuts the waves off",
}
PHASE = NO_DATA | LOW_SNR | FEW_WAVELENGTHS | SIDES | METHODS | BRANCH | NO_CURVE | CUT  # that reject a phase velocity
GROUP = NO_DATA | LOW_SNR | FEW_FOR_GROUP | SIDES | EDGE | CUT  # that reject a group velocity
