"""Dispersion of known media: velocities, cycles, errors and flags, and the parts that they are made of."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import h1vp, hankel1, j0, jn
from surface_waves import BAND, MAX_LAG, RATE, correlations, group_velocity, pairs_of, phase_velocity

from xcorr.pes.dispersion import flags, ftan, waves
from xcorr.pes.dispersion.array_curve import Binned, Binning, array_curve, binned, fits, frequency_bessel, ridge
from xcorr.pes.dispersion.correlation_spectra import Grid, spectra
from xcorr.pes.dispersion.crossings import crossings, zeros
from xcorr.pes.dispersion.curve import Curve, read_curve
from xcorr.pes.dispersion.measure import FIELDS, Dispersion, DispersionMeasurer
from xcorr.pes.dispersion.straight_rays import Cells, velocity_map
from xcorr.pes.parameters import ParameterError

PERIODS = tuple(np.geomspace(1 / 0.75, 1 / 0.11, 30).tolist())
FREQUENCY = 1 / np.array(PERIODS)
HOW = Dispersion(PERIODS)
GRID = Grid(RATE, MAX_LAG, HOW.band_hz, HOW.velocity_km_s)


def network_of(stacks, distance, components="ZZ"):
    """The curve of a network, and the measurer that uses it."""
    by = Binning.of(distance, HOW.velocity_km_s[0], HOW.band_hz[1])
    sums = binned(spectra(stacks, distance, GRID), distance, by, GRID)
    curve = array_curve(sums, waves.kind_of(components), GRID.frequency_hz, HOW.velocity_km_s)
    level = sums.level(curve.wavenumber(GRID.frequency_hz))
    return curve, DispersionMeasurer(HOW, components, GRID, curve, level)


def accepted(found, mask=flags.PHASE):
    return (found["flag"] & mask) == 0


# -- known media ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("components", ["ZZ", "TT"])
def test_fields_without_noise(components):
    """Phase, group and spectral velocities at 30, 60 and 120 km, where there are three wavelengths or more."""
    distance = np.array([30.0, 60, 120, 41, 77, 95, 18, 10, 105, 50, 25, 35])
    stacks = correlations(distance, components)
    curve, measurer = network_of(stacks, distance, components)
    inside = (curve.frequency_hz > 0.11) & (curve.frequency_hz < 0.8)
    assert np.abs(curve.phase_km_s / phase_velocity(curve.frequency_hz) - 1)[inside].max() < 5e-4
    found = measurer(stacks, distance)
    c, u = phase_velocity(FREQUENCY), group_velocity(FREQUENCY)
    far = distance[:, None] / (c / FREQUENCY) >= 3
    assert far[:3].sum() == 15 + 24 + 30
    for name, truth, largest in (
        ("ftan_km_s", c, 1e-3), ("spectral_km_s", c, 2e-4), ("crossing_km_s", c, 2e-3), ("phase_km_s", c, 3e-4),
        ("group_km_s", u, 4e-3),
    ):  # fmt: skip
        assert np.abs(found[name] / truth - 1)[:3][far[:3]].max() < largest, name
    assert accepted(found)[:3][far[:3]].all()
    assert accepted(found, flags.GROUP)[:3][far[:3]].all()
    assert (found["branch"] == 0).all()
    near = (distance[:, None] / (c / FREQUENCY) >= 1) & ~far
    assert np.nanmax(np.abs(found["spectral_km_s"] / c - 1)[near]) < 0.04
    expected = distance[:, None] * FREQUENCY / c
    assert np.abs(found["wavelengths"] / expected - 1)[far].max() < 1e-3


@pytest.mark.parametrize("components", ["ZZ", "TT"])
def test_the_network_tells_the_cycles_of_each_pair(components):
    """Paths up to 6 % slower or faster than the network: at 120 km up to two cycles, all of them found."""
    rng = np.random.default_rng(3)
    distance, slower = rng.uniform(15, 120, 400), rng.uniform(-0.06, 0.06, 400)
    stacks = correlations(distance, components, slower)
    _, measurer = network_of(stacks, distance, components)
    found = measurer(stacks, distance)
    c = phase_velocity(FREQUENCY) / (1 + slower[:, None])
    number = distance[:, None] * FREQUENCY / c
    good = accepted(found) & (number >= 3)
    assert good.sum() > 0.85 * (number >= 3).sum()
    off = np.abs(found["phase_km_s"] / c - 1)
    assert off[good].max() < 0.002
    assert (off * number)[good].max() < 0.1, "no value is off by a cycle"
    turned = np.abs(number - distance[:, None] * FREQUENCY / phase_velocity(FREQUENCY))
    assert np.abs(found["branch"][good & (turned > 1.1)]).min() >= 1
    assert turned[good].max() > 1.2, "some are more than a cycle away"


def test_a_curve_of_the_users_is_enough_for_one_pair():
    distance = np.array([60.0])
    stacks = correlations(distance)
    f = np.linspace(0.08, 0.9, 12)
    curve = Curve(f, 1.01 * phase_velocity(f), np.zeros(12))
    sums = binned(spectra(stacks, distance, GRID), distance, Binning.of(distance, 1.0, 0.75), GRID)
    assert array_curve(sums, waves.VERTICAL, GRID.frequency_hz, HOW.velocity_km_s) is None, "one pair has no network"
    level = sums.level(curve.wavenumber(GRID.frequency_hz))
    found = DispersionMeasurer(HOW, "ZZ", GRID, curve, level)(stacks, distance)
    good = accepted(found)[0] & (found["wavelengths"][0] >= 3)
    assert good.sum() == 24
    assert np.abs(found["phase_km_s"][0] / phase_velocity(FREQUENCY) - 1)[good].max() < 1e-3


@pytest.mark.parametrize(("noise", "least"), [(0.05, 0.85), (0.15, 0.8)])
def test_errors_are_the_scatter(noise, least):
    """White noise: phase and group velocities scatter by their errors, and few are far off."""
    places, ends = pairs_of(24, 85.0, 1)
    distance = np.hypot(*(places[ends[:, 0]] - places[ends[:, 1]]).T)
    stacks = correlations(distance, noise=noise)
    curve, measurer = network_of(stacks, distance)
    claimed = curve.error_km_s / curve.phase_km_s
    inside = (curve.frequency_hz > 0.12) & (curve.frequency_hz < 0.75)
    off = curve.phase_km_s / phase_velocity(curve.frequency_hz) - 1
    assert 0.2 < np.sqrt(np.mean((off / claimed)[inside] ** 2)) < 2
    found = measurer(stacks, distance)
    good = accepted(found)
    assert good.mean() > least
    c, u = phase_velocity(FREQUENCY), group_velocity(FREQUENCY)
    scatter = np.abs(found["phase_km_s"] - c) / found["phase_error_km_s"]
    for low, high in ((1, 2), (2, 3), (3, 6), (6, 12), (12, 40)):
        of = good & (found["wavelengths"] >= low) & (found["wavelengths"] < high)
        assert 0.7 < np.median(scatter[of]) / 0.6745 < 1.3, (low, high)
    assert (scatter[good] > 6).mean() < 0.005
    of = accepted(found, flags.GROUP)
    of_group = np.abs(found["group_km_s"] - u)[of] / found["group_error_km_s"][of]
    assert 0.6 < np.median(of_group) / 0.6745 < 1.5


def test_errors_by_resampling_are_the_scatter():
    """Noise that is there at the lags of the waves only, so that the lags behind them do not tell: pieces do."""
    distance = np.linspace(30, 110, 200)
    rng = np.random.default_rng(5)
    clean = correlations(distance)
    lag = np.abs(np.arange(-MAX_LAG, MAX_LAG + 1)) / RATE
    inside = np.exp(-0.5 * ((lag - distance[:, None] / 2.6) / 12) ** 2)
    size = 0.15 * np.abs(clean).max(axis=1, keepdims=True) * inside * np.sqrt(8)
    pieces = clean + size * rng.standard_normal((8, *clean.shape))
    stacks = pieces.mean(axis=0).astype("f4")
    left = ((pieces.sum(axis=0) - pieces) / 7).astype("f4")
    _, measurer = network_of(stacks, distance)
    found, plain = measurer(stacks, distance, left), measurer(stacks, distance)
    good = accepted(found) & (found["wavelengths"] > 3)
    c = phase_velocity(FREQUENCY)
    scatter = np.median(np.abs(found["phase_km_s"] - c)[good] / found["phase_error_km_s"][good]) / 0.6745
    assert 0.6 < scatter < 1.5
    assert np.median(plain["phase_error_km_s"][good] / found["phase_error_km_s"][good]) < 0.8
    for name in ("phase_km_s", "group_km_s", "ftan_km_s"):
        assert np.array_equal(found[name], plain[name], equal_nan=True), "resampling changes errors only"


# -- flags ---------------------------------------------------------------------------------------------------


def test_reasons():
    distance = np.array([30.0, 60, 100, 50, 70, 90, 4, np.nan, 0.0, 60])
    stacks = correlations(np.nan_to_num(distance))
    rng = np.random.default_rng(0)
    stacks[1] = rng.standard_normal(stacks.shape[1])  # noise only
    stacks[2, :MAX_LAG] = 0.9 * correlations(np.array([100.0]), slower=np.array([0.08]))[0, :MAX_LAG]  # sides disagree
    stacks[3] = np.nan
    stacks[4] = 0
    stacks[5, 10] = np.nan
    stacks[9, :MAX_LAG] = 1e-3 * stacks[9, :MAX_LAG]  # waves on one side only
    others = np.linspace(10, 100, 20)
    _, measurer = network_of(correlations(others), others)
    found = measurer(stacks, distance)
    for row in (3, 4, 5, 7, 8):
        assert (found["flag"][row] == flags.NO_DATA).all(), row
        assert np.isnan(found["phase_km_s"][row]).all()
        assert np.isnan(found["group_error_km_s"][row]).all()
    assert (found["flag"][1] & flags.LOW_SNR > 0).mean() > 0.9
    assert (found["flag"][2] & flags.SIDES > 0).mean() > 0.8
    assert (found["flag"][6] & flags.FEW_WAVELENGTHS > 0)[FREQUENCY < 0.5].all()
    assert (found["flag"][6] & flags.FEW_FOR_GROUP > 0).all()
    one_side = accepted(found)[9] & (found["wavelengths"][9] > 3)
    assert one_side.sum() > 15, "waves on one side are no disagreement"
    assert np.abs(found["phase_km_s"][9] / phase_velocity(FREQUENCY) - 1)[one_side].max() < 0.01
    assert set(found) == set(FIELDS)
    assert found["flag"].dtype == np.uint16
    assert set(flags.WORDS) == {1 << k for k in range(len(flags.WORDS))}


def test_noise_is_not_accepted():
    """White noise beside a given curve, with lags that are long and that are short."""
    rng = np.random.default_rng(1)
    distance = rng.uniform(10, 100, 300)
    f = np.linspace(0.08, 0.9, 12)
    curve = Curve(f, phase_velocity(f), np.zeros(12))
    for max_lag in (80, 120, 240, 480):
        grid = Grid(RATE, max_lag, HOW.band_hz, HOW.velocity_km_s)
        noise = rng.standard_normal((300, 2 * max_lag + 1)).astype("f4")
        level = np.ones(len(grid.of_network_hz))
        found = DispersionMeasurer(HOW, "ZZ", grid, curve, level)(noise, distance)
        assert accepted(found).mean() < 0.005, max_lag
        assert accepted(found, flags.GROUP).mean() < 0.01, max_lag


def test_waves_that_the_largest_lag_cuts_off():
    distance = np.linspace(100, 420, 200)
    stacks = correlations(distance)
    near = np.linspace(20, 200, 60)
    _, measurer = network_of(correlations(near), near)
    found = measurer(stacks, distance)
    cut = distance[:, None] / group_velocity(FREQUENCY) > MAX_LAG / RATE - 1 / FREQUENCY
    assert not accepted(found)[cut].any()
    assert not accepted(found, flags.GROUP)[cut].any()
    good = accepted(found, flags.GROUP)
    assert good[distance < 200].mean() > 0.8
    assert np.abs(found["group_km_s"] / group_velocity(FREQUENCY) - 1)[good].max() < 0.02


def test_short_periods_alone_do_not_tell_the_cycles():
    how = dataclasses.replace(HOW, periods_s=(2.0, 2.2, 2.4, 2.6))
    rng = np.random.default_rng(2)
    distance, slower = rng.uniform(10, 110, 300), rng.uniform(-0.06, 0.06, 300)
    stacks = correlations(distance, slower=slower)
    f = np.linspace(0.08, 0.9, 12)
    grid = Grid(RATE, MAX_LAG, how.band_hz, how.velocity_km_s)
    curve = Curve(f, phase_velocity(f), np.zeros(12))
    found = DispersionMeasurer(how, "ZZ", grid, curve, np.ones(len(grid.of_network_hz)))(stacks, distance)
    f = 1 / np.array(how.periods_s)
    c = phase_velocity(f) / (1 + slower[:, None])
    cycles = np.abs(found["phase_km_s"] / c - 1) * distance[:, None] * f / c
    assert (cycles[accepted(found)] > 0.5).mean() < 0.01
    assert (found["flag"] & flags.BRANCH > 0)[distance > 90].all()


def test_many_frequencies_take_little_memory(monkeypatch):
    """Rows are fitted in parts, which change no value but the last bits; the network needs few frequencies."""
    import xcorr.pes.dispersion.measure as module

    distance = np.linspace(20, 100, 30)
    stacks = correlations(distance, noise=0.03)
    _, measurer = network_of(stacks, distance)
    whole = measurer(stacks, distance)
    monkeypatch.setattr(module, "TOGETHER_BYTES", 1)
    _, few = network_of(stacks, distance)
    assert few._together == 1
    parts = few(stacks, distance)
    for name in ("phase_km_s", "group_km_s"):
        assert np.allclose(parts[name], whole[name], rtol=1e-4, equal_nan=True)
    wide = Grid(20.0, 6000, (0.02, 8.0), (1.0, 5.0))
    assert len(wide.frequency_hz) > 4000
    assert len(wide.of_network_hz) <= 512
    assert Binned.nothing(Binning.of(distance, 1.0, 8.0), wide).spectra.shape[1] <= 512


def test_rows_do_not_depend_on_their_company():
    distance = np.linspace(20, 110, 40)
    stacks = correlations(distance, noise=0.05)
    _, measurer = network_of(stacks, distance)
    whole = measurer(stacks, distance)
    some = measurer(stacks[::3], distance[::3])
    for name in ("phase_km_s", "group_km_s", "snr"):
        assert np.allclose(whole[name][::3], some[name], rtol=1e-4, equal_nan=True), name


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"periods_s": (3.0, 2.0, 1.0)}, "rising"),
        ({"periods_s": (1.0, 2.0)}, "three or more"),
        ({"velocity_km_s": (3.0, 2.0)}, "slowest < fastest"),
        ({"least_snr": -1.0}, "least_snr"),
        ({"most_difference": float("nan")}, "most_difference"),
    ],
)
def test_parameters_that_cannot_be(given, words):
    with pytest.raises(ParameterError, match=words):
        dataclasses.replace(HOW, **given)


# -- the network's curve -------------------------------------------------------------------------------------


def test_sums_of_parts_are_the_sum():
    distance = np.linspace(10, 100, 50)
    stacks = correlations(distance)
    by = Binning.of(distance, 1.0, 0.75)
    whole = binned(spectra(stacks, distance, GRID), distance, by, GRID)
    parts = Binned.nothing(by, GRID)
    for part in (slice(0, 17), slice(17, 50)):
        parts += binned(spectra(stacks[part], distance[part], GRID), distance[part], by, GRID)
    for field in dataclasses.fields(Binned):
        assert np.allclose(getattr(parts, field.name), getattr(whole, field.name), rtol=1e-12)
    assert whole.count.sum() == 50
    assert whole.distance_km.sum() == pytest.approx(distance.sum())


def test_fits_are_correlation_coefficients():
    """Written again: the correlation of all spectra at a frequency with the model, one pair a bin."""
    distance = np.linspace(10, 100, 30)
    of = binned(spectra(correlations(distance), distance, GRID), distance, Binning.of(distance, 1.0, 0.75), GRID)
    f, slowness = GRID.frequency_hz[40:42], np.array([0.3, 0.35, 0.4])
    some = dataclasses.replace(of, spectra=of.spectra[:, 40:42], squares=of.squares[:, 40:42])
    found, pairs = fits(some, waves.VERTICAL, f, slowness, np.array([8.0, 1e9]))
    data = spectra(correlations(distance), distance, GRID).both[:, 40:42].astype(float)
    for k in range(2):
        for m, s in enumerate(slowness):
            model = j0(2 * np.pi * f[k] * distance * s)
            weight = np.exp(-0.5 * (distance / (100.0 if k == 0 else 6e9)) ** 2)  # of the 30 nearest pairs, here all
            powers = (weight * data[:, k] ** 2).sum() * (weight * model**2).sum()
            assert found[k, m] == pytest.approx((weight * data[:, k]) @ model / np.sqrt(powers), abs=1e-6)
            assert pairs[k] == pytest.approx(weight.sum() ** 2 / (weight**2).sum())


@given(st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_the_ridge_is_the_best_of_all_paths(seed):
    values = np.random.default_rng(seed).uniform(0, 1, (4, 5))
    price, reach = 100.0 / 25, 2

    def score(path):
        steps = np.diff(path)
        return -np.inf if np.abs(steps).max() > reach else values[range(4), path].sum() - price * (steps**2).sum()

    best = max((np.array(np.unravel_index(n, (5,) * 4)) for n in range(5**4)), key=score)
    assert ridge(values).tolist() == best.tolist()


def test_the_ridge_is_of_the_right_mode():
    """Few distances, so that other velocities fit as well at high frequencies: the smooth curve is found."""
    distance = np.array([20.0, 23, 26, 29, 35, 38, 40, 44, 52, 60])
    curve, _ = network_of(correlations(distance, noise=0.02), distance)
    inside = (curve.frequency_hz > 0.12) & (curve.frequency_hz < 0.75)
    assert np.abs(curve.phase_km_s / phase_velocity(curve.frequency_hz) - 1)[inside].max() < 0.01


def test_noise_has_no_curve():
    distance = np.linspace(10, 100, 100)
    noise = np.random.default_rng(0).standard_normal((100, 2 * MAX_LAG + 1)).astype("f4")
    of = binned(spectra(noise, distance, GRID), distance, Binning.of(distance, 1.0, 0.75), GRID)
    curve = array_curve(of, waves.VERTICAL, GRID.frequency_hz, HOW.velocity_km_s)
    assert curve is None
    empty = Binned.nothing(Binning.of(distance, 1.0, 0.75), GRID)
    assert array_curve(empty, waves.VERTICAL, GRID.frequency_hz, HOW.velocity_km_s) is None


def test_the_bessel_transform_has_its_ridge_at_the_phase_velocity():
    distance = np.linspace(2, 120, 200)
    of = binned(spectra(correlations(distance), distance, GRID), distance, Binning.of(distance, 1.0, 0.75), GRID)
    velocity = np.linspace(1, 5, 401)
    image = frequency_bessel(of, waves.VERTICAL, GRID.frequency_hz, velocity)
    f = GRID.frequency_hz
    inside = (f > 0.15) & (f < 0.75)
    assert np.abs(velocity[image.argmax(axis=1)] / phase_velocity(f) - 1)[inside].max() < 0.01
    assert image.max() == 1


# -- parts ---------------------------------------------------------------------------------------------------


def test_phases_are_those_of_hankel_functions():
    x = np.concatenate([np.linspace(2, 10, 50), np.linspace(10, 300, 50)])
    for kind, function, spectrum in (
        (waves.VERTICAL, hankel1(0, x), j0(x)), (waves.HORIZONTAL, 2 * h1vp(1, x), j0(x) - jn(2, x))
    ):  # fmt: skip
        off = np.angle(function * np.exp(-1j * waves.phase(kind, x)))  # of the function itself, not of its series
        assert np.abs(off).max() < 0.01
        assert np.abs(off[x > 6]).max() < 1e-4
        assert np.allclose(waves.spectrum(kind, x), spectrum, atol=1e-12)
        assert np.allclose(waves.argument(kind, waves.phase(kind, x)), x)
        step = 1e-5
        steep = (waves.spectrum(kind, x + step) - waves.spectrum(kind, x - step)) / (2 * step)
        assert np.allclose(waves.slope(kind, x), steep, atol=1e-6)
        slopes = (waves.phase(kind, x[1:] + step) - waves.phase(kind, x[1:] - step)) / (2 * step)
        assert np.allclose(waves.phase_slope(kind, x[1:]), slopes, atol=1e-6)
        assert waves.spectrum(kind, np.zeros(1))[0] == pytest.approx(1)
        assert waves.slope(kind, np.zeros(1))[0] == pytest.approx(0, abs=1e-5)


def test_a_curve_between_and_beyond_its_points(tmp_path):
    f = np.linspace(0.1, 0.8, 15)
    curve = Curve(f, phase_velocity(f), np.full(15, 0.01))
    fine = np.linspace(0.1, 0.8, 200)
    assert np.allclose(curve.phase(fine), phase_velocity(fine), rtol=1e-4)
    assert np.allclose(curve.group(fine[1:-1]), group_velocity(fine[1:-1]), rtol=2e-3)
    beyond = np.array([0.01, 0.09, 0.9, 2.0])
    assert np.abs(curve.phase(beyond)[1:3] / phase_velocity(beyond[1:3]) - 1).max() < 0.01
    assert np.abs(curve.phase(beyond) / np.clip(curve.phase(beyond), 2.2, 3.5) - 1).max() < 1e-9
    assert curve.covers(beyond).tolist() == [False] * 4
    assert Curve(f[:1], np.array([3.0]), np.zeros(1)).phase(beyond).tolist() == [3.0] * 4
    path = tmp_path / "curve.txt"
    lines = [f"{1 / a}, {b}\n" for a, b in zip(f, phase_velocity(f), strict=True)]
    path.write_text("# period, velocity\n" + "".join(lines))
    assert np.allclose(read_curve(path).phase_km_s, phase_velocity(f))
    wrong = (("", "must have lines"), ("3 0\n", "line 1"), ("3 x\n", "line 1"), ("3 3\n3 3\n", "each period once"))
    for text, words in wrong:
        path.write_text(text)
        with pytest.raises(ParameterError, match=words):
            read_curve(path)


@pytest.mark.parametrize("kind", [waves.VERTICAL, waves.HORIZONTAL])
def test_crossings_tell_the_wavenumber(kind):
    """Spectra of any amplitude, and a curve that is off by less than a quarter of a cycle."""
    f = np.linspace(0.1, 0.8, 400)
    distance, share = np.array([20.0, 60.0, 200.0]), np.array([1.02, 0.99, 1.004])
    x = distance[:, None] * 2 * np.pi * f / phase_velocity(f)
    real = (1 + f**2) * waves.spectrum(kind, x * share[:, None])
    found = crossings(kind, real.astype("f4"), f, x, np.array([0.05, 0.2, 0.4, 0.6]))
    assert np.isnan(found[:, 0]).all(), "outside the crossings"
    assert np.abs(found[:, 1:] - share[:, None]).max() < 1e-3
    assert np.isnan(crossings(kind, np.zeros((1, 400), "f4"), f, x[:1], f[:2])).all()
    assert np.allclose(waves.spectrum(kind, zeros(kind, 100.0)), 0, atol=1e-9)
    assert waves.slope(kind, zeros(kind, 100.0)[:2])[0] < 0 < waves.slope(kind, zeros(kind, 100.0)[:2])[1]


def test_filters_move_no_arrival_and_turn_no_phase():
    """Pulses at known delays and phases come out of the filters with them, for every period and distance."""
    f = np.linspace(0.08, 0.9, 20)
    curve = Curve(f, phase_velocity(f), np.zeros(20))
    for distance in (15.0, 60.0, 300.0):
        by = ftan.filters(GRID, curve, FREQUENCY[::-1], distance)
        delay, turn = 0.07 * distance / 3, 0.4
        pulse = np.exp(-1j * (2 * np.pi * GRID.frequency_hz * delay + turn))[None].astype("c8")
        filtered = ftan.envelopes(pulse, by)
        top = ftan.ridge(np.abs(filtered))
        of = ftan.arrivals(filtered, top, by)
        inner = slice(2, -2)  # the outermost filters are cut by the band
        assert of.has_peak[0, inner].all()
        assert np.abs(of.delay_s[0, inner] - delay).max() < 0.1
        wanted = turn + 2 * np.pi * FREQUENCY[::-1] * delay
        off = np.angle(np.exp(1j * (of.phase[0] - wanted)))
        assert np.abs(off[inner]).max() < 0.02
        assert np.abs(of.frequency_hz[0] / FREQUENCY[::-1] - 1)[inner].max() < 0.02


# -- the first map -------------------------------------------------------------------------------------------


def test_rays_have_their_lengths():
    places, ends = pairs_of(12, 50.0)
    cells = Cells.around(places, 5.0)
    both = places[ends]
    lengths = cells.lengths(both)
    assert np.allclose(np.asarray(lengths.sum(axis=1)).ravel(), np.hypot(*(both[:, 0] - both[:, 1]).T))
    flat = velocity_map(both, np.full(len(both), 3.1), np.full(len(both), 0.01), 5.0)
    assert np.allclose(flat.velocity_km_s, 3.1)
    with pytest.raises(ParameterError, match="3 paths"):
        velocity_map(both[:2], np.ones(2), np.ones(2), 5.0)
    with pytest.raises(ParameterError, match="take larger ones"):
        velocity_map(both, np.ones(len(both)), np.ones(len(both)), 0.01)


def test_a_checkerboard_of_30_stations():
    """Spectra with the mean slowness of each path through a checkerboard of 5 %: the map shows it."""
    places, ends = pairs_of(30, 85.0, 2)
    both = places[ends]
    distance = np.hypot(*(both[:, 0] - both[:, 1]).T)
    cells = Cells.around(places, 85 / 12)
    pattern = 0.05 * cells.checkerboard(4)
    matrix = cells.lengths(both)
    slower = (matrix @ pattern.ravel()) / distance
    stacks = correlations(distance, slower=slower, noise=0.03)
    _, measurer = network_of(stacks, distance)
    found = measurer(stacks, distance)
    k = int(np.argmin(np.abs(np.array(PERIODS) - 2)))
    good = accepted(found)[:, k]
    assert good.sum() > 300
    of = velocity_map(both[good], found["phase_km_s"][good, k], found["phase_error_km_s"][good, k], cells.size_km)
    truth = phase_velocity(FREQUENCY[k]) / (1 + pattern)
    seen = of.rays > 5
    assert of.velocity_km_s.shape == truth.shape
    error = of.velocity_km_s[seen] / truth[seen] - 1
    assert np.corrcoef(of.velocity_km_s[seen], truth[seen])[0, 1] > 0.8
    assert np.sqrt(np.mean(error**2)) < 0.03
    assert np.sqrt(np.mean(of.residual_s**2)) < 0.15
    again = np.corrcoef(of.recovered[seen], of.checkerboard[seen])[0, 1]
    assert 0.3 < again < 1
    assert BAND == (0.1, 0.8)
