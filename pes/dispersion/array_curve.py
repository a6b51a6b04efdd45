"""The phase velocity of a whole network, from the spectra of all pairs at once.

At each frequency the real spectra of the correlations, over distance, are fitted by the spectrum of an isotropic field
(Aki 1957; Menke & Jin 2015, BSSA 105), for every velocity of a grid. The fit has several maxima; the one that belongs
to a smooth curve through all frequencies is the phase velocity. A single pair cannot tell by how many cycles its phase
is off, but many pairs at different distances can.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import scipy  # its parts are imported when they are first used

from xcorr.pes.dispersion import waves
from xcorr.pes.dispersion.correlation_spectra import Grid, Spectra
from xcorr.pes.dispersion.curve import Curve
from xcorr.pes.items import Float64

VELOCITIES = 300  # of the grid, equally far apart in slowness
LEAST_PAIRS = 10
LEAST_BAND = 1.2  # ratio of the highest to the lowest frequency of a curve
ENOUGH = 30
SURE = 0.95  # a fit of any number of pairs
LEAST_ERRORS = 3.0  # standard errors of a correlation of that many pairs, which is 1 / root, that a fit must have
LEAST_SHARE = 0.7  # of the best fit of any velocity, that the fit on the ridge must have
LEAST_POWER = 1e-3  # of the spectra, as a share of the largest
STIFFNESS = 100.0  # price of a change of slowness, by the whole range from one frequency to the next
AROUND = 4  # frequencies on either side, half of which must tell a velocity too
WAVELENGTHS = 6.0  # between stations, of which pairs count 0.6 times as much as near ones
KNOTS = 12  # pieces of the smooth curve, at most
NEIGHBOURS = 4  # picks at neighbouring frequencies that err alike
BINS = 2000  # of distance, at most


@dataclasses.dataclass(frozen=True)
class Binned:
    """Sums over pairs of the same distance: numbers of pairs [bin], distances (km) [bin], spectra [bin, frequency].

    ``squares`` [bin, frequency] are those of the spectra, ``power`` [frequency] that of the waves of one side.
    """

    count: Float64
    distance_km: Float64
    spectra: Float64
    squares: Float64
    power: Float64

    def level(self, wavenumber: Float64) -> Float64:
        """Return the amplitudes of the spectra at distance 0, as far as they are the same for all pairs, [frequency].

        The power of the waves of one side falls as 1 / (k r).
        """
        found: Float64 = np.sqrt(self.power * wavenumber)
        return found

    @classmethod
    def nothing(cls, by: Binning, grid: Grid) -> Binned:
        """Return the sums over no pairs."""
        frequencies = len(grid.of_network_hz)
        shapes = (by.bins, by.bins, (by.bins, frequencies), (by.bins, frequencies), frequencies)
        return cls(*(np.zeros(shape) for shape in shapes))

    def packed(self) -> dict[str, np.ndarray]:
        """Return the sums of the bins that have pairs, and the numbers of these bins."""
        used = np.flatnonzero(self.count)
        found: dict[str, np.ndarray] = {"bins": used, "power": self.power}
        return found | {name: getattr(self, name)[used] for name in ("count", "distance_km", "spectra", "squares")}

    def add_packed(self, of: Mapping[str, np.ndarray]) -> None:
        """Add sums that :meth:`packed` gave."""
        for name in ("count", "distance_km", "spectra", "squares"):
            getattr(self, name)[of["bins"]] += of[name]
        self.power[:] += of["power"]

    def __add__(self, other: Binned) -> Binned:
        """Return the sums over the pairs of both."""
        both = ((getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self))
        return Binned(*(a + b for a, b in both))


@dataclasses.dataclass(frozen=True, slots=True)
class Binning:
    """Bins of distance of a width (km). Pairs of ``far_km`` or more have two sides that are apart."""

    width_km: float
    bins: int
    far_km: float

    @classmethod
    def of(cls, distance_km: Float64, slowest_km_s: float, highest_hz: float) -> Binning:
        """Return bins of a fortieth of the shortest wavelength, unless these would be too many."""
        largest = float(distance_km.max())
        width = max(slowest_km_s / highest_hz / 40, largest / BINS)
        return cls(width, int(largest / width) + 1, float(np.median(distance_km)))


def binned(of: Spectra, distance_km: Float64, by: Binning, grid: Grid) -> Binned:
    """Return sums of spectra, at the frequencies for the network, by distance. Rows that are zeros do not count."""
    width, bins, some = by.width_km, by.bins, grid.of_network
    there = of.both.any(axis=1)
    rows = of.both[there, some].astype(np.float64)
    number: np.ndarray = np.minimum((distance_km[there] / width).astype(int), bins - 1)
    total, squares = np.zeros((2, bins, rows.shape[1]))
    np.add.at(total, number, rows)
    np.add.at(squares, number, rows**2)
    distances: Float64 = np.bincount(number, distance_km[there], bins).astype(np.float64)
    count = np.bincount(number, minlength=bins).astype(np.float64)
    far = there & (distance_km >= by.far_km)
    sides = [np.abs(side[far, some]).astype(np.float64) for side in (of.causal, of.acausal)]
    power = (sides[0] ** 2 + sides[1] ** 2).sum(axis=0)
    return Binned(count, distances, total, squares, power)


def fits(
    of: Binned, kind: str, frequency_hz: Float64, slowness: Float64, wavelength_km: Float64
) -> tuple[Float64, Float64]:
    """Return the correlation coefficients of spectra and model over all pairs, [frequency, slowness].

    They are those of the best amplitude at each frequency, negative where that is negative. Pairs count the less the
    more wavelengths (about ``wavelength_km`` [frequency]) they are apart, because paths differ: far ones by more than a
    quarter of a cycle. The nearest ENOUGH pairs count in any case. The second array is the number of pairs with the
    same sum of weights, [frequency].
    """
    used = of.count > 0
    count, distance = of.count[used], of.distance_km[used] / of.count[used]
    order = np.argsort(distance)
    near = distance[order[min(int(np.searchsorted(np.cumsum(count[order]), ENOUGH)), len(order) - 1)]]
    found, numbers = np.zeros((len(frequency_hz), len(slowness))), np.zeros(len(frequency_hz))
    for k, (frequency, wavelength) in enumerate(zip(frequency_hz, wavelength_km, strict=True)):
        weight = np.exp(-0.5 * (distance / max(near, wavelength * WAVELENGTHS)) ** 2)
        model = waves.spectrum(kind, 2 * np.pi * frequency * distance[:, None] * slowness)
        power = ((count * weight) @ model**2) * (weight @ of.squares[used, k])
        np.divide((weight * of.spectra[used, k]) @ model, np.sqrt(power), out=found[k], where=power > 0)
        numbers[k] = (count @ weight) ** 2 / max(float(count @ weight**2), 1e-300)
    return found, numbers


def ridge(values: Float64) -> np.ndarray:
    """Return the column [row] of each row on the smooth path with the largest sum of values [row, column].

    A path loses STIFFNESS / columns**2 for each change by one column, squared (dynamic programming; Viterbi 1967).
    """
    rows, columns = values.shape
    price = STIFFNESS / columns**2
    reach = max(2, columns // 12)
    total = values[0].copy()
    back = np.zeros((rows, columns), np.int64)
    for k in range(1, rows):
        padded = np.pad(total, reach, constant_values=-np.inf)
        moves = np.arange(-reach, reach + 1)
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1) - price * moves**2
        best = windows.argmax(axis=1)
        back[k] = np.arange(columns) + moves[best]
        total = windows[np.arange(columns), best] + values[k]
    path = np.empty(rows, np.int64)
    path[-1] = total.argmax()
    for k in range(rows - 1, 0, -1):
        path[k - 1] = back[k, path[k]]
    return path


def array_curve(of: Binned, kind: str, frequency_hz: Float64, velocity_km_s: tuple[float, float]) -> Curve | None:
    """Return the phase velocity of the network, or None if the spectra do not tell it.

    Errors are those of a least-squares fit, whose noise is what the model leaves of the spectra.
    """
    if of.count.sum() < LEAST_PAIRS:
        return None
    slowness = np.linspace(1 / velocity_km_s[1], 1 / velocity_km_s[0], VELOCITIES)
    values, pairs = fits(of, kind, frequency_hz, slowness, np.sqrt(np.prod(velocity_km_s)) / frequency_hz)
    likelihood = -np.log(1 - np.clip(values, 0, 1 - 1e-9) ** 2)  # of normal errors, for each pair
    path = ridge(likelihood)
    step, rows = slowness[1] - slowness[0], np.arange(len(path))
    middle = np.clip(path, 1, VELOCITIES - 2)
    before, at, after = (values[rows, middle + k] for k in (-1, 0, 1))
    bend = before - 2 * at + after
    power = of.squares.sum(axis=0)
    good = (power > LEAST_POWER * power.max()) & (bend < 0) & (at >= before) & (at >= after)
    good &= (at > LEAST_SHARE * values.max(axis=1)) & (at > np.minimum(LEAST_ERRORS / np.sqrt(pairs), SURE))
    often = scipy.ndimage.uniform_filter1d(good.astype(float), 2 * AROUND + 1, mode="nearest") > 0.5
    runs, count = scipy.ndimage.label(often)
    if not count:
        return None
    longest = 1 + np.argmax(np.bincount(runs)[1:])
    good &= runs == longest
    if good.sum() < 3:
        return None
    found = slowness[middle[good]] + ((before - after) / (2 * bend))[good] * step
    # the misfit (1 - fit^2) of n spectra rises by its own size / (n - 2) at one standard error
    left = (1 - np.minimum(at[good], 1) ** 2) / np.maximum(1, pairs[good] - 2)
    errors = np.sqrt(left / (-bend[good] * np.maximum(at[good], 1e-9))) * step
    curve = _smooth(frequency_hz[good], found, errors)
    return (
        curve
        if curve.is_possible(curve.frequency_hz) and curve.frequency_hz[-1] > LEAST_BAND * curve.frequency_hz[0]
        else None
    )


def _smooth(frequency: Float64, slowness: Float64, errors: Float64) -> Curve:
    """Return a smooth curve through picks, without picks that are far off.

    It is the cubic spline of log frequency with as many knots as the picks call for (Schwarz 1978, Ann. Statist. 6).
    """
    weights = 1 / np.maximum(errors, 1e-4 * slowness)
    keep = np.ones(len(frequency), bool)
    x = np.log(frequency)
    fitted = slowness
    for _ in range(3):
        best = np.inf
        for count in range(1, min(KNOTS, int(keep.sum()) // 4) + 1):
            values = _spline(x, slowness, weights, keep, count)
            misfit = float((((slowness - values) * weights)[keep] ** 2).mean())
            independent = keep.sum() / NEIGHBOURS
            score = independent * np.log(max(misfit, 1e-300)) + (count + 3) * np.log(independent)
            if score < best:
                best, fitted = score, values
        off = np.abs(slowness - fitted) * weights
        keep = off < 6 * max(float(np.median(off[keep])), 1e-12)
    spread = np.sqrt(scipy.ndimage.uniform_filter1d((slowness - fitted)[keep] ** 2, 25, mode="nearest"))
    error = np.interp(frequency, frequency[keep], np.sqrt(errors[keep] ** 2 + spread**2) / NEIGHBOURS**0.5)
    return Curve(frequency, 1 / fitted, error / fitted**2)


def _spline(x: Float64, values: Float64, weights: Float64, keep: np.ndarray, pieces: int) -> Float64:
    """Return a least-squares spline at all x, of some pieces between the values that are kept."""
    degree = min(3, int(keep.sum()) - 1)
    inner = np.quantile(x[keep], np.linspace(0, 1, pieces + 1)[1:-1])
    knots = np.concatenate([[x[keep][0]] * (degree + 1), inner, [x[keep][-1]] * (degree + 1)])
    found: Float64 = scipy.interpolate.make_lsq_spline(x[keep], values[keep], knots, degree, weights[keep])(x)
    return found


def frequency_bessel(of: Binned, kind: str, frequency_hz: Float64, velocity_km_s: Float64) -> Float64:
    """Return the frequency-Bessel transform [frequency, velocity], at each frequency as a share of its maximum.

    Wang, Wu & Chen (2019, JGR 124): the integral over distance r of spectrum(r) J0(2 pi f r / c) r, by trapezoids
    between the distances of the pairs. Its maxima are the modes.
    """
    used = of.count > 0
    distance = of.distance_km[used] / of.count[used]
    order = np.argsort(distance)
    distance = distance[order]
    mean = (of.spectra[used] / of.count[used, None])[order]
    edges = np.concatenate([[0], (distance[1:] + distance[:-1]) / 2, distance[-1:]])
    weight = distance * np.diff(edges)
    found = np.empty((len(frequency_hz), len(velocity_km_s)))
    for k, frequency in enumerate(frequency_hz):
        model = waves.spectrum(kind, 2 * np.pi * frequency * distance[:, None] / velocity_km_s)
        found[k] = np.maximum((weight * mean[:, k]) @ model, 0)
    largest = found.max(axis=1, keepdims=True)
    shares: Float64 = np.divide(found, largest, out=np.zeros_like(found), where=largest > 0)
    return shares
