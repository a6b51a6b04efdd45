"""Measures dispersion of pairs: frequency-time analysis and the fit of the spectrum, joined, with errors and flags."""

from __future__ import annotations

import dataclasses

import numpy as np

from xcorr.pes.dispersion import flags, ftan, waves
from xcorr.pes.dispersion.correlation_spectra import Grid, Spectra, spectra
from xcorr.pes.dispersion.crossings import crossings
from xcorr.pes.dispersion.curve import Curve
from xcorr.pes.dispersion.spectral_fit import SpectralFit
from xcorr.pes.items import Float32, Float64
from xcorr.pes.parameters import ParameterError, require_numbers

Values = dict[str, np.ndarray]  # by field, [row, period]
KINDS = {"branch": np.int8, "flag": np.uint16}  # of fields; the others are float32
FIELDS = (
    "phase_km_s", "phase_error_km_s", "group_km_s", "group_error_km_s", "snr", "wavelengths", "branch", "flag",
    "ftan_km_s", "spectral_km_s", "crossing_km_s",
)  # fmt: skip
LEAST_FIT = 0.5  # correlation of a spectrum and its model below which the model says nothing
TOGETHER, TOGETHER_BYTES = 512, 128 << 20  # rows in memory at once, at most
APART = 1.3  # waves of a pair may be so many times slower or faster than the network's
MOST_WAVELENGTHS = 9.0  # at the longest good period, of which the number of cycles is still known
DOUBTFUL = 0.3  # cycles from the nearest whole number of cycles
TURN = np.pi / 2  # by which the phase of a fit may differ from what the fit began with


@dataclasses.dataclass(frozen=True)
class Dispersion:
    """Parameters of a measurement. Raises ParameterError for values that cannot be.

    ``periods_s``: rising. ``least_phase``, ``least_group``, ``least_spectral``: wavelengths between stations that a
    phase velocity by frequency-time analysis, a group velocity, and the fit of a spectrum need. ``most_difference``:
    between sides and between methods, as a share of the velocity. Largest and smallest ``velocity_km_s`` limit lags.
    """

    periods_s: tuple[float, ...]
    velocity_km_s: tuple[float, float] = (1.0, 5.0)
    least_snr: float = 7.0
    least_phase: float = 2.0
    least_group: float = 3.0
    least_spectral: float = 1.0
    most_difference: float = 0.04

    def __post_init__(self) -> None:
        require_numbers(self, "least_snr", "least_phase", "least_group", "least_spectral", "most_difference")
        slow, fast = self.velocity_km_s
        if not 0 < slow < fast or not np.isfinite(fast):
            raise ParameterError(f"Dispersion: velocity_km_s = ({slow:g}, {fast:g}): needs 0 < slowest < fastest")
        periods = np.array(self.periods_s)
        if len(periods) < 3 or not np.isfinite(periods).all() or periods[0] <= 0 or (np.diff(periods) <= 0).any():
            raise ParameterError("Dispersion: periods_s: needs three or more rising periods")

    @property
    def band_hz(self) -> tuple[float, float]:
        """The frequencies of the longest and the shortest period."""
        return 1 / self.periods_s[-1], 1 / self.periods_s[0]


@dataclasses.dataclass(frozen=True)
class _Measured:
    """Arrivals of the mean of both sides and of each, the signal-to-noise ratio, and errors by resampling."""

    main: ftan.Arrivals
    causal: ftan.Arrivals
    acausal: ftan.Arrivals
    snr: Float64
    scatter: tuple[Float64, Float64] | None

    def errors(self, by: ftan.Filters) -> tuple[Float64, Float64]:
        """Return errors of phases (radians) and delays (s): of the noise, or by resampling where that is larger."""
        phase, delay = 1 / self.snr, by.length_s / 2**0.5 / self.snr
        if self.scatter is None:
            return phase, delay
        return np.fmax(phase, self.scatter[0]), np.fmax(delay, self.scatter[1])


class DispersionMeasurer:
    """Measures pairs of one component pair, on correlations of a :class:`Grid`, beside the ``curve`` of the network.

    ``level`` [bin], of the bins of :attr:`Grid.of_network`, is the amplitude of the spectra over all pairs. If the
    curve ``is_far`` from that of the spectra, numbers of cycles are doubtful.
    """

    def __init__(
        self, how: Dispersion, components: str, grid: Grid, curve: Curve, level: Float64, is_far: bool = False
    ) -> None:
        self.is_far = is_far
        self.how, self.curve, self.kind = how, curve, waves.kind_of(components)
        self.frequency_hz = 1 / np.array(how.periods_s[::-1])  # rising; results are by period
        slow, fast = grid.velocity_km_s
        group, phase = curve.group(self.frequency_hz), curve.phase(self.frequency_hz)
        slow, fast = max(slow, float(group.min()) / APART), min(fast, float(phase.max()) * APART)
        self.grid = dataclasses.replace(grid, velocity_km_s=(min(slow, 0.9 * fast), fast))
        self.wavenumber = curve.wavenumber(grid.frequency_hz)
        of_bins = np.interp(grid.frequency_hz, grid.of_network_hz, level)
        self.fit = SpectralFit(self.kind, grid.frequency_hz, of_bins, how.band_hz, self.frequency_hz)
        every = np.eye(len(self.frequency_hz))
        self._to_bins = np.stack([np.interp(grid.frequency_hz, self.frequency_hz, one) for one in every])
        self._filters: dict[int, ftan.Filters] = {}
        each = self.fit.row_bytes + 64 * len(grid.frequency_hz) + 48 * ftan.TIMES * len(self.frequency_hz)
        self._together = max(1, min(TOGETHER, TOGETHER_BYTES // each))

    def __call__(self, stacks: Float32, distance_km: Float64, resampled: Float32 | None = None) -> Values:
        """Return velocities of stacks [row, lag] by field, [row, period]; see FIELDS.

        ``resampled`` [part, row, lag] are stacks each of which leaves out a part of the data (jackknife). Errors are
        those that the noise behind the waves makes, or that this scatter shows where it is larger; NaN where neither
        is known.
        """
        count = len(self.frequency_hz)
        found = {name: np.full((len(stacks), count), np.nan) for name in FIELDS if name not in KINDS}
        found |= {"branch": np.zeros((len(stacks), count)), "flag": np.full((len(stacks), count), flags.NO_DATA)}
        there = np.isfinite(stacks).all(axis=1) & stacks.any(axis=1) & (distance_km > 0)
        number = ftan.classes(distance_km)
        for of in np.unique(number[there]).tolist():
            of_class = np.flatnonzero(there & (number == of))
            for low in range(0, len(of_class), self._together):
                rows = of_class[low : low + self._together]
                parts = None if resampled is None else resampled[:, rows]
                for name, value in self._of_class(of, stacks[rows], distance_km[rows], parts).items():
                    found[name][rows] = value
        return {name: value[:, ::-1].astype(KINDS.get(name, np.float32)) for name, value in found.items()}

    def _of_class(self, number: int, stacks: Float32, distance_km: Float64, parts: Float32 | None) -> Values:
        """Return the values of pairs whose distances are of one class, by rising frequency."""
        if number not in self._filters:
            self._filters[number] = ftan.filters(self.grid, self.curve, self.frequency_hz, ftan.distance_of(number))
        by = self._filters[number]
        of = spectra(stacks, distance_km, self.grid)
        sides = self._envelopes(of, distance_km, by)
        mean = (sides[0] + sides[1]) / 2
        top = ftan.ridge(np.abs(mean))
        main, causal, acausal = (ftan.arrivals(z, ftan.climbed(np.abs(z), top), by) for z in (mean, *sides))
        snr = main.height / ftan.noise_rms(of.noise, by, self.grid.nfft)
        scatter = None if parts is None else self._scatter(parts, distance_km, by, top, main)
        return self._joined(distance_km, by, _Measured(main, causal, acausal, snr, scatter), of)

    def _envelopes(self, of: Spectra, distance_km: Float64, by: ftan.Filters) -> list[np.ndarray]:
        """Return the filtered waves at positive and negative lags, without the phase of the network."""
        return [ftan.envelopes(s, by) for s in ftan.matched(of, self.kind, self.wavenumber, distance_km)]

    def _scatter(
        self, parts: Float32, distance_km: Float64, by: ftan.Filters, top: np.ndarray, main: ftan.Arrivals
    ) -> tuple[Float64, Float64]:
        """Return standard errors of phases (radians) and delays (s), [row, period], by the jackknife (Tukey 1958)."""
        phases, delays = [], []
        for part in parts:
            sides = self._envelopes(spectra(part, distance_km, self.grid), distance_km, by)
            mean = (sides[0] + sides[1]) / 2
            one = ftan.arrivals(mean, ftan.climbed(np.abs(mean), top), by)
            phases.append(_wrapped(one.phase - main.phase))
            delays.append(one.delay_s - main.delay_s)
        grown = np.sqrt(len(parts) - 1)
        return np.std(phases, axis=0) * grown, np.std(delays, axis=0) * grown

    def _joined(self, distance_km: Float64, by: ftan.Filters, of: _Measured, own: Spectra) -> Values:
        how, f, r = self.how, self.frequency_hz, distance_km[:, None]
        network = r * self.curve.wavenumber(f)
        is_low = ~(of.snr >= how.least_snr)  # also where the noise is not known
        is_covered = self.curve.covers(f)
        behind, is_doubtful = _cycles(of.main, f, network, ~is_low & is_covered)
        x = waves.argument(self.kind, waves.phase(self.kind, network) + behind)
        far = network >= 2 * np.pi * how.least_phase
        by_ftan = far & ~is_low & is_covered & ~is_doubtful
        begin = _filled(x / network, by_ftan)
        of_bins = self._at_bins(distance_km, begin)
        fitted = self.fit(own.both, of_bins, self.grid.bins_apart(distance_km))
        x_spectral, error_spectral = network * begin * fitted.share, fitted.error / fitted.share
        crossing = network * begin * crossings(self.kind, own.both, self.grid.frequency_hz, of_bins, f)
        near = network >= 2 * np.pi * how.least_spectral
        by_spectrum = near & ~is_low & is_covered & (fitted.fit >= LEAST_FIT)[:, None]
        by_spectrum &= (np.abs(x_spectral - network * begin) < TURN) & (error_spectral < how.most_difference)
        k = np.where(by_spectrum, np.where(by_ftan, (x + x_spectral) / 2, x_spectral), x) / r
        sides, delays_apart = self._sides(of)
        methods = np.where(by_ftan & by_spectrum, np.abs(x - x_spectral) / (x + x_spectral), 0.0)
        noise_phase, noise_delay = of.errors(by)
        noise = np.where(by_ftan, noise_phase / x, error_spectral)
        noise = np.where(by_ftan & by_spectrum, (noise_phase / x + error_spectral) / 2, noise)
        phase = 2 * np.pi * f / k
        arrival = waves.phase_slope(self.kind, network) * r / self.curve.group(f) + ftan.at_periods(of.main, f)
        group = r * waves.phase_slope(self.kind, x) / arrival
        # phases alone cannot tell sides that differ by whole cycles
        is_apart = (2 * delays_apart / arrival > how.most_difference) & (delays_apart > 3 * noise_delay)
        has_arrival = of.main.has_peak & (arrival > 0)
        is_cut = arrival + 2 * by.length_s > self.grid.max_lag / self.grid.rate_hz
        number = k * r / (2 * np.pi)
        flag = sum(
            np.where(when, word, 0)
            for word, when in (
                (flags.LOW_SNR, is_low),
                (flags.FEW_WAVELENGTHS, ~far & ~by_spectrum),
                (flags.FEW_FOR_GROUP, number < how.least_group),
                (flags.SIDES, (2 * sides / x > how.most_difference) | is_apart),
                (flags.METHODS, 2 * methods > how.most_difference),
                (flags.BRANCH, is_doubtful | self.is_far),
                (flags.EDGE, ~has_arrival),
                (flags.NO_CURVE, ~is_covered),
                (flags.CUT, is_cut),
            )
        )
        return {
            "phase_km_s": phase,
            "phase_error_km_s": phase * np.sqrt(noise**2 + (sides / x) ** 2 + methods**2),
            "group_km_s": np.where(has_arrival, group, np.nan),
            "group_error_km_s": np.where(
                has_arrival, group / arrival * np.sqrt(noise_delay**2 + delays_apart**2), np.nan
            ),
            "snr": of.snr,
            "wavelengths": number,
            "branch": np.clip(np.round(behind / (2 * np.pi)), -127, 127),
            "flag": flag,
            "ftan_km_s": np.where(far, 2 * np.pi * f * r / x, np.nan),
            "spectral_km_s": np.where(by_spectrum, 2 * np.pi * f * r / x_spectral, np.nan),
            "crossing_km_s": np.where(near & is_covered, 2 * np.pi * f * r / crossing, np.nan),
        }

    def _at_bins(self, distance_km: Float64, share: Float64) -> Float64:
        """Return x = k r [row, bin] of the network's curve, times a share that is known at the periods."""
        found: Float64 = distance_km[:, None] * self.wavenumber * (share @ self._to_bins)
        return found

    def _sides(self, of: _Measured) -> tuple[Float64, Float64]:
        """Return by how much each side's phase (radians) and delay (s) is off their mean; 0 unless both have waves."""
        least = self.how.least_snr * of.main.height / of.snr * 2**0.5
        both = (of.causal.height > least) & (of.acausal.height > least)
        turned = np.abs(_wrapped(of.causal.phase - of.acausal.phase)) / 2
        apart = np.abs(of.causal.delay_s - of.acausal.delay_s) / 2
        peaks = both & of.causal.has_peak & of.acausal.has_peak
        return np.where(both, turned, 0.0), np.where(peaks, apart, 0.0)


def _wrapped(phase: Float64) -> Float64:
    found: Float64 = phase - 2 * np.pi * np.round(phase / (2 * np.pi))
    return found


def _cycles(
    main: ftan.Arrivals, frequency_hz: Float64, network: Float64, good: np.ndarray
) -> tuple[Float64, np.ndarray]:
    """Return phases behind those of the network [row, period] with their cycles, and whether these are doubtful.

    From period to period the phase changes as the delays say. The number of cycles is that at which the slowness is
    nearest to the network's, as a share; long periods decide. It is doubtful if another is nearly as near, or if the
    longest period has so many wavelengths that paths differ by a cycle; and at periods that are shorter than one where
    the phase changed otherwise than the delays say. Doubts are [row, period].
    """
    expected = np.pi * np.diff(frequency_hz) * (main.delay_s[:, 1:] + main.delay_s[:, :-1])
    steps = np.diff(main.phase, axis=1)
    odd = _wrapped(steps - expected)
    steps = expected + odd
    behind = main.phase[:, :1] + np.concatenate([np.zeros((len(steps), 1)), np.cumsum(steps, axis=1)], axis=1)
    weight = np.where(good & (network > 2 * np.pi), 1 / network**2, 0.0)
    total = weight.sum(axis=1)
    turns = np.divide((weight * behind).sum(axis=1), 2 * np.pi * total, out=np.zeros(len(behind)), where=total > 0)
    whole = np.round(turns)
    has_begun = np.maximum.accumulate(weight, axis=1)[:, :-1] > 0
    broken = (np.abs(odd) > 2 * np.pi * DOUBTFUL) & has_begun
    between = np.abs(turns - whole)[:, None] > DOUBTFUL
    fewest = np.where(weight > 0, network, np.inf).min(axis=1, keepdims=True) / (2 * np.pi)
    doubtful = (
        between
        | ((fewest > MOST_WAVELENGTHS) & (fewest < np.inf))
        | np.pad(np.maximum.accumulate(broken, axis=1), ((0, 0), (1, 0)))
    )
    return behind - 2 * np.pi * whole[:, None], doubtful


def _filled(values: Float64, good: np.ndarray) -> Float64:
    """Return values [row, period] with those of the nearest good period where they are not good; 1 without any."""
    count = values.shape[1]
    every = np.arange(count)
    before = np.maximum.accumulate(np.where(good, every, -1), axis=1)
    after = np.minimum.accumulate(np.where(good, every, 2 * count)[:, ::-1], axis=1)[:, ::-1]
    nearest = np.where((before >= 0) & ((every - before <= after - every) | (after >= count)), before, after)
    found = np.take_along_axis(values, np.minimum(nearest, count - 1), axis=1)
    return np.where(good.any(axis=1, keepdims=True), found, 1.0)
