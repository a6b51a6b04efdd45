"""The tables of the settings that may be repeated: bands, kept items, the user's elements, measurements."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from xcorr.core.options import option
from xcorr.pes.monitoring import lag_windows, measurement


@dataclass(frozen=True)
class FurtherBand:
    """A further band of the spectra, from the same pass over the data."""

    name: str = option("", "Name of the band, and of its group in the results.")
    band_hz: tuple[float, float] = option((0.0, 0.0), "Band of the spectra, as whiten.band_hz.")


@dataclass(frozen=True)
class Keep:
    """Intermediate items that are kept, with their provenance; never changes a result."""

    element: str = option("", "Element whose items are kept: ReadStation, ConditionStation, ... CorrelateStrips.")
    port: str = option("output", "Output port of the element.")
    condition: str = option("", "Condition on the metadata of the items to keep. Default: all items are kept.")
    folder: str = option(
        "kept",
        "Folder for the kept items, relative to the campaign; or an address such as s3://bucket/prefix, where each "
        "campaign has a folder of its own.",
    )


@dataclass(frozen=True)
class Monitor:
    """A measurement of velocity changes, which xcorr monitor makes of the series; never changes a correlation."""

    name: str = option("dvv", "Name of the measurement in the results.")
    method: str = option(
        "stretching",
        "stretching, mwcs (moving-window cross-spectra), or wavelet (cross-spectra, by frequency).",
        choices=measurement.METHODS,
    )
    components: tuple[str, ...] = option((), 'Component pairs measured: "ZZ". Default: all that are correlated.')
    band: str = option("", "Further band, by name, whose series are measured. Default: the main band.")
    lag_s: tuple[float, float] | None = option(
        None, "First and last lag compared. Default: a quarter to three quarters of the largest lag.", least=0
    )
    velocity_km_s: float | None = option(
        None, "Count lag_s from the arrival of waves of this velocity. Default: from lag zero.", least=0.01
    )
    sides: str = option("both", "Signs of the lag: both, left (negative), right.", choices=lag_windows.SIDES)
    compare_sides: bool = option(False, "stretching: also the difference between both sides, which tells of clocks.")
    reference: str = option(
        "whole",
        "whole: mean of all pieces. period: of those from reference_start to reference_end, so that new data change no "
        "older value. rolling: of the reference_length_s before each piece. several: of spans of that length. "
        "none: every piece with every other, and an inversion.",
        choices=measurement.REFERENCES,
    )
    reference_start: str | None = option(None, "period: its start (UTC).")
    reference_end: str | None = option(None, "period: its end (UTC), not included.")
    reference_length_s: float = option(
        0.0, "rolling, several: length of a reference. none: largest time between pieces compared; 0: any.", most=4e9
    )
    reference_gap_s: float | None = option(
        None,
        "rolling: time from the end of a reference to that of the piece. Default: length of the piece or moving stack.",
        most=4e9,
    )
    smooth_s: float = option(0.0, "none: time over which the inversion is smooth.", most=4e9)
    smooth_strength: float = option(0.0, "none: weight of the smoothness against the data; 0: none.", least=0)
    moving_s: float = option(
        0.0, "Measure moving stacks of this length, each ending with a piece. 0: the pieces themselves.", most=4e9
    )
    epsilon_max: float = option(0.02, "stretching: largest velocity change tried, of both signs.", least=1e-6, most=0.4)
    steps: int = option(201, "stretching: number of velocity changes tried, an odd one.", least=5, most=100_001)
    band_hz: tuple[float, float] | None = option(
        None, "mwcs, wavelet: frequencies whose phases count. Default: the band of the series."
    )
    window_s: float | None = option(None, "mwcs: length of a window. Default: 2 periods of the lowest frequency.")
    step_s: float | None = option(None, "mwcs: distance of windows. Default: a quarter of window_s.")
    smooth_bins: int = option(
        2, "mwcs: half width of the smoothing of spectra. More bins bias dv/v to smaller values.", least=0, most=1000
    )
    least_coherence: float = option(0.5, "mwcs: of windows, wavelet: of pieces, that count.", least=0, most=1)
    most_error_s: float = option(0.1, "mwcs: largest error of a delay that counts.", least=0)
    most_delay_s: float = option(1.0, "mwcs: largest delay that counts.", least=0)
    through_origin: bool = option(False, "mwcs, wavelet: no delay at lag zero. Else it is fitted, and tells of clocks.")
    least_coefficient: float = option(0.0, "Values with a smaller coefficient are flagged.", least=0, most=1)
    least_windows: int = option(1, "Values of fewer windows are flagged.", least=0)
    pairs: tuple[str, ...] = option((), 'Pairs measured, such as "XX.A-XX.B" or "XX.*-YY.*". Default: all.')
    distance_km: tuple[float, float] | None = option(None, "Smallest and largest distance. Default: any.", least=0)
    where: str = option("", 'Condition on the pairs measured, such as "snr > 5". Default: none.')


@dataclass(frozen=True)
class Dispersion:
    """Phase and group velocities, which xcorr dispersion measures on the stacks; never changes a correlation."""

    name: str = option("waves", "Name of the measurement in the results.")
    components: tuple[str, ...] = option((), "ZZ, RR, TT. Default: those that are stacked.")
    stack: str = option("", "Stack that is measured. Default: the linear one.")
    band: str = option("", "Further band, by name, whose stacks are measured. Default: the main band.")
    periods_s: tuple[float, ...] = option(
        (), "Periods, rising. Default: 30 from the shortest to the longest of the band.", least=1e-3
    )
    velocity_km_s: tuple[float, float] = option(
        (1.0, 5.0), "Smallest and largest velocity of the waves: limits of their lags and of the network's curve.",
        least=0.01, most=100,
    )  # fmt: skip
    curve: str = option("", "File with the network's phase velocities: lines of period (s), velocity (km/s).")
    least_snr: float = option(7.0, "Smaller signal-to-noise ratios are flagged.", least=0)
    least_wavelengths_phase: float = option(
        2.0, "Wavelengths between stations that a phase velocity by frequency-time analysis needs.", least=1
    )
    least_wavelengths_group: float = option(3.0, "Wavelengths that a group velocity needs.", least=1)
    least_wavelengths_spectrum: float = option(
        1.0, "Wavelengths that a phase velocity by the fit of the spectrum needs.", least=0.5
    )
    most_difference: float = option(
        0.04, "Largest difference between sides, and between methods, as a share of the velocity.", least=0, most=1
    )
    resamples: int = option(
        8, "Errors by leaving out so many spans of time in turn, if there are so many pieces. 0: from noise.",
        least=0, most=1000,
    )  # fmt: skip
    pairs: tuple[str, ...] = option((), 'Pairs measured, such as "XX.A-XX.B" or "XX.*-YY.*". Default: all.')
    distance_km: tuple[float, float] | None = option(None, "Smallest and largest distance. Default: any.", least=0)
    where: str = option("", 'Condition on the pairs measured, such as "snr > 5". Default: none.')


@dataclass(frozen=True)
class Insert:
    """Your own element in the main job."""

    element: str = option("", "Registered element with the ports input and output; see xcorr registry add.")
    after: str = option("", "Element of the main job whose items go to your element.")
    parameters: dict[str, Any] = dataclasses.field(
        default_factory=dict, metadata={"doc": "Parameters of your element, by name.", "choices": (), "least": None}
    )
