"""Velocity changes: known truths, errors that mean what they say, flags, and bits that no other piece changes."""

import dataclasses
import itertools

import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st

from xcorr.pes.monitoring import flags
from xcorr.pes.monitoring.interpolation import SLOTS, Stretcher, epsilons, nodes
from xcorr.pes.monitoring.inversion import inverted
from xcorr.pes.monitoring.lag_windows import LagWindow, lags_of, require_window, sides_of
from xcorr.pes.monitoring.measure import Measurer, SeriesOfRows, window_of_all
from xcorr.pes.monitoring.measurement import Measurement, Reference
from xcorr.pes.monitoring.mwcs import Mwcs
from xcorr.pes.monitoring.precision import centre_and_duration, cubes_of_energy, weaver_error
from xcorr.pes.monitoring.references import Spans, means
from xcorr.pes.monitoring.regression import line
from xcorr.pes.monitoring.stretching import products
from xcorr.pes.monitoring.wavelet import Wavelet
from xcorr.pes.parameters import ParameterError
from xcorr.results.errors import ResultsError
from xcorr.results.networks import clocks, network

RATE, MAX_LAG, DAY = 4.0, 480, 86_400 * 10**9
LAGS = np.arange(-MAX_LAG, MAX_LAG + 1) / RATE
LATE = LagWindow(15, 90)


def coda(seed=0, band=(0.2, 1.0), decay_s=60.0):
    """A function of lag: sixty waves of random frequency and phase, other ones at negative lags, decaying."""
    rng = np.random.default_rng(seed)
    f, size, phase = rng.uniform(*band, 60), rng.uniform(0.5, 1, 60), rng.uniform(0, 2 * np.pi, (2, 60))

    def at(t):
        t = np.asarray(t, float)
        waves = np.cos(2 * np.pi * f * np.abs(t)[..., None] + phase[(t < 0).astype(int)])
        return (size * waves).sum(-1) * np.exp(-np.abs(t) / decay_s)

    return at


def series_of(changes, seeds=(0,), delays_s=None, noise=0.0, **of):
    """Series [piece, row, lag] of media that are faster by ``changes`` [piece], with a delay [piece] if wanted."""
    delays_s = np.zeros(len(changes)) if delays_s is None else delays_s
    rng = np.random.default_rng(7)
    found = np.empty((len(changes), len(seeds), len(LAGS)), np.float32)
    for (k, change), (row, seed) in itertools.product(enumerate(changes), enumerate(seeds)):
        found[k, row] = coda(seed, **of)((LAGS - delays_s[k]) * (1 + change))
    return found + noise * rng.standard_normal(found.shape).astype(np.float32)


def measured(series, how, references=None, n=None, distances_m=None, wanted=None, first_row=0, days=None):
    """What a measurement says of series; references are made of them, if none are given."""
    n = np.ones(series.shape[:2], np.int32) if n is None else n
    days = np.arange(len(series)) if days is None else np.asarray(days)
    times = days[:, None] * DAY + np.array([0, DAY])
    distances = np.zeros(series.shape[1]) if distances_m is None else np.asarray(distances_m, float)
    of = SeriesOfRows(series, n, times, distances, first_row)
    measurer = Measurer(how, RATE, MAX_LAG, window_of_all(how, distances, RATE), DAY)
    known = measurer.references(of) if references is None else references
    return measurer(of, np.arange(len(series)) if wanted is None else np.asarray(wanted), known)


CHANGES = np.linspace(-0.018, 0.018, 13)


def true_reference(seeds=(0,), **of):
    return series_of([0.0], seeds, **of)


# -- known truth ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sides", ["both", "left", "right"])
def test_stretching_finds_known_changes(sides):
    how = Measurement(LagWindow(15, 90, sides=sides))
    found = measured(series_of(CHANGES, (0, 1, 2)), how, true_reference((0, 1, 2)))
    assert np.abs(found["dvv"] - CHANGES[:, None]).max() < 1e-6
    assert (found["flag"] == 0).all()
    assert found["coefficient"].min() > 0.99999


def test_the_sign_is_that_of_the_velocity():
    """In a faster medium waves arrive earlier: an arrival at 50 s that comes at 49.5 s is dv/v of about +1 %."""
    pulse = np.exp(-((LAGS - 50.0) ** 2)) * np.cos(2 * np.pi * 0.5 * (LAGS - 50.0))
    earlier = np.exp(-((LAGS - 49.5) ** 2)) * np.cos(2 * np.pi * 0.5 * (LAGS - 49.5))
    series = np.array([pulse, earlier], np.float32)[:, None]
    found = measured(series, Measurement(LagWindow(30, 80, sides="right")), series[:1])
    assert found["dvv"][1, 0] == pytest.approx(50 / 49.5 - 1, abs=2e-4)
    phases = measured(series_of([0.001]), Measurement(LATE, "mwcs", mwcs=Mwcs((0.2, 1.0), 10, 2.5)), true_reference())
    assert phases["dvv"][0, 0] == pytest.approx(0.001, abs=1e-4)
    waves = measured(series_of([0.001]), Measurement(LATE, "wavelet", wavelet=Wavelet((0.2, 1.0))), true_reference())
    assert waves["dvv"][0, 0] == pytest.approx(0.001, abs=1e-4)


def test_moving_windows_find_small_changes():
    changes = np.linspace(-0.002, 0.002, 9)
    how = Measurement(LATE, "mwcs", mwcs=Mwcs((0.2, 1.0), 10, 2.5))
    found = measured(series_of(changes, (0, 1, 2)), how, true_reference((0, 1, 2)))
    assert np.abs(found["dvv"] - changes[:, None]).max() < 1e-4
    assert np.abs(found["delay_s"]).max() < 2e-3


def test_wavelets_find_changes_by_frequency():
    for band in ((0.25, 0.45), (0.5, 0.9)):
        how = Measurement(LagWindow(15, 60), "wavelet", wavelet=Wavelet(band))
        changes = np.linspace(-0.004, 0.004, 5)
        found = measured(series_of(changes, (0, 1)), how, true_reference((0, 1)))
        assert np.abs(found["dvv"] - changes[:, None]).max() < 1e-4, band
    mixed = np.float32(0.5) * (series_of([0.003], band=(0.2, 0.4)) + series_of([-0.001], (5,), band=(0.6, 1.0)))
    known = np.float32(0.5) * (series_of([0.0], band=(0.2, 0.4)) + series_of([0.0], (5,), band=(0.6, 1.0)))
    low, high = (
        measured(mixed, Measurement(LagWindow(15, 60), "wavelet", wavelet=Wavelet(band)), known)["dvv"][0, 0]
        for band in ((0.2, 0.35), (0.65, 1.0))
    )
    assert (low, high) == (pytest.approx(0.003, abs=2e-4), pytest.approx(-0.001, abs=2e-4))


@pytest.mark.parametrize(
    "how",
    [
        Measurement(LATE, "mwcs", mwcs=Mwcs((0.2, 1.0), 10, 2.5)),
        Measurement(LATE, "wavelet", wavelet=Wavelet((0.2, 1.0))),
    ],
)
def test_a_clock_is_told_from_the_medium(how):
    """A delay of both signs of the lag is that of a clock: the medium moves them apart or together."""
    delays = np.array([-0.05, 0.0, 0.08])
    found = measured(series_of([0.001, 0.001, -0.001], delays_s=delays), how, true_reference())
    assert found["delay_s"][:, 0] == pytest.approx(delays, abs=3e-3)
    assert found["dvv"][:, 0] == pytest.approx([0.001, 0.001, -0.001], abs=1e-4)
    stretched = measured(
        series_of([0.001, 0.001, -0.001], delays_s=delays), Measurement(LATE, compare_sides=True), true_reference()
    )
    # the delay moves waves at +t and -t to opposite stretches: delay / t each, at lags around 40 s
    expected = -2 * delays / 40
    assert stretched["difference"][:, 0] == pytest.approx(expected, abs=0.5 * np.abs(expected).max())
    assert np.sign(stretched["difference"][[0, 2], 0]).tolist() == np.sign(expected[[0, 2]]).tolist()


def test_the_mask_comes_after_stretching():
    """What lies outside the lags that are compared, in piece and reference, changes nothing but what stretches in."""
    series, known = series_of([0.012]), true_reference()
    reach = 90 * 1.02 + 6  # the last lag of a stretched reference, and half a window of interpolation
    outside = (np.abs(LAGS) < 15 / 1.03 - 6) | (np.abs(LAGS) > reach)
    with_rubbish = known.copy()
    with_rubbish[..., outside] += 100
    apart = series.copy()
    apart[..., (np.abs(LAGS) < 15) | (np.abs(LAGS) > 90)] = -50
    expected = measured(series, Measurement(LATE), known)["dvv"][0, 0]
    assert measured(apart, Measurement(LATE), with_rubbish)["dvv"][0, 0] == pytest.approx(expected, abs=1e-7)
    assert expected == pytest.approx(0.012, abs=1e-6)


def test_windows_move_with_the_distance():
    """Waves at t = distance / velocity + 5 ... 45 s only: at other lags the medium has changed otherwise."""
    how = Measurement(LagWindow(5, 45, velocity_km_s=2.0))
    distances = [20_000.0, 90_000.0]
    series, known = series_of([0.01], (0, 1)), true_reference((0, 1))
    wrong = series_of([-0.01], (0, 1))
    for row, distance in enumerate(distances):
        outside = (np.abs(LAGS) < distance / 2000 + 5) | (np.abs(LAGS) > distance / 2000 + 45)
        series[0, row, outside] = wrong[0, row, outside]
    found = measured(series, how, known, distances_m=distances)
    assert found["dvv"][0] == pytest.approx([0.01, 0.01], abs=1e-6)
    unknown = measured(series, how, known, distances_m=[20_000.0, np.nan])
    assert unknown["flag"].tolist() == [[0, flags.NO_DATA]]


# -- references, each with an expectation of its own ---------------------------------------------------------


def test_references_are_weighted_means():
    rng = np.random.default_rng(3)
    series, n = rng.standard_normal((6, 2, len(LAGS))).astype("f4"), rng.integers(0, 4, (6, 2))
    series[n == 0] = np.nan
    times = np.arange(6)[:, None] * DAY + np.array([0, DAY])
    of = SeriesOfRows(series, n, times, np.zeros(2))

    def mean(rows, row):
        weights = n[rows, row]
        return np.average(np.nan_to_num(series[rows, row]), axis=0, weights=weights) if weights.any() else np.nan

    def made(reference):
        how = Measurement(LATE, reference=reference)
        return Measurer(how, RATE, MAX_LAG, window_of_all(how, np.zeros(2), RATE), DAY).references(of)

    for row in (0, 1):
        assert made(Reference("whole"))[0, row] == pytest.approx(mean(range(6), row), abs=1e-6)
        period = made(Reference("period", 2 * DAY, 5 * DAY))
        assert period[0, row] == pytest.approx(mean([2, 3, 4], row), abs=1e-6, nan_ok=True)
        several = made(Reference("several", length_s=3 * 86_400))
        assert several.shape[0] == 2
        assert several[1, row] == pytest.approx(mean([3, 4, 5], row), abs=1e-6, nan_ok=True)


def test_rolling_references_give_the_change_since_then():
    """Against the piece two days before, a medium that gains 0.1 % a day is faster by 0.2 %."""
    changes = 0.001 * np.arange(8)
    how = Measurement(LATE, reference=Reference("rolling", length_s=86_400, gap_s=2 * 86_400))
    found = measured(series_of(changes), how)
    assert (found["flag"][:2, 0] == flags.NO_DATA).all()
    expected = (1 + changes[2:]) / (1 + changes[:-2]) - 1
    assert found["dvv"][2:, 0] == pytest.approx(expected, abs=1e-6)


def test_several_references_agree_on_one_scale():
    changes = np.concatenate([np.full(6, -0.004), np.full(6, 0.004)])
    noisy = series_of(changes, noise=0.3)
    several = measured(noisy, Measurement(LATE, reference=Reference("several", length_s=3 * 86_400)))
    assert several["dvv"][6:, 0].mean() - several["dvv"][:6, 0].mean() == pytest.approx(0.008, abs=3e-4)
    # the mean of media that differ is a poorer reference than those of each medium together
    whole = measured(noisy, Measurement(LATE))
    assert several["coefficient"].mean() > 0.98 * whole["coefficient"].mean()


def test_an_inversion_needs_no_reference():
    changes = np.array([0.0, 0.002, -0.003, 0.001, 0.004])
    how = Measurement(LATE, reference=Reference("none"))
    found = measured(series_of(changes), how)["dvv"][:, 0]
    logs = np.log1p(changes)
    assert found == pytest.approx(np.expm1(logs - logs.mean()), abs=1e-6)


def test_the_inversion_is_a_least_squares_fit():
    rng = np.random.default_rng(1)
    truth = rng.normal(0, 0.003, 12)
    truth -= truth.mean()
    data, errors = np.full((12, 12), np.nan), rng.uniform(1e-4, 3e-4, (12, 12))
    for i, j in itertools.permutations(range(12), 2):
        data[i, j] = np.expm1(truth[j] - truth[i] + rng.normal(0, errors[i, j]))
    data[3] = data[:, 3] = np.nan  # a piece without data
    found, sigma = inverted(data, errors, np.arange(12.0), 0.0, 0.0)
    assert np.isnan(found[3])
    rows, right = [], []
    for i, j in itertools.permutations([k for k in range(12) if k != 3], 2):
        row = np.zeros(12)
        row[j], row[i] = 1 / errors[i, j], -1 / errors[i, j]
        rows.append(row)
        right.append(np.log1p(data[i, j]) / errors[i, j])
    expected = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
    keep = np.arange(12) != 3
    assert np.log1p(found[keep]) == pytest.approx(expected[keep] - expected[keep].mean(), abs=1e-9)
    assert sigma[keep] == pytest.approx(np.full(11, 2e-4 / np.sqrt(2)), rel=0.5)
    smooth, _ = inverted(data, errors, np.arange(12.0), 3.0, 10.0)
    assert np.abs(np.diff(smooth[keep])).sum() < np.abs(np.diff(found[keep])).sum()


def test_pieces_that_nothing_connects_are_not_compared():
    """Two groups of pieces, each compared within itself only: the larger one is given, the other is not."""
    truth = np.array([0.001, -0.002, 0.003, 0.0, 0.5, 0.6])
    data = np.full((6, 6), np.nan)
    for group in ([0, 1, 2, 3], [4, 5]):
        for i, j in itertools.permutations(group, 2):
            data[i, j] = np.expm1(truth[j] - truth[i])
    found, sigma = inverted(data, np.where(np.isfinite(data), 1e-4, np.nan), np.arange(6.0), 0.0, 0.0)
    assert np.log1p(found[:4]) == pytest.approx(truth[:4] - truth[:4].mean(), abs=1e-9)
    assert np.isnan(found[4:]).all()
    assert np.isnan(sigma[4:]).all()


def test_the_error_without_reference_is_the_scatter():
    changes = np.zeros(16)
    how = Measurement(LATE, reference=Reference("none"))
    found = measured(series_of(changes, (0, 1, 2, 3), noise=1.5), how)
    scatter = found["dvv"] / found["error"]
    assert 0.6 < scatter.std() < 1.6


def test_moving_stacks_are_those_of_the_days_before():
    changes = 0.001 * np.arange(6)
    n = np.array([2, 1, 3, 0, 1, 1])[:, None]
    series = series_of(changes)
    found = measured(series, Measurement(LATE, moving_s=3 * 86_400), true_reference(), n)
    assert found["n_windows"][:, 0].tolist() == [2, 3, 6, 0, 4, 2]
    assert np.isnan(found["dvv"][3, 0])
    by_hand = ((series[2] * 3 + series[4] * 1) / 4)[None]
    alone = measured(by_hand.astype("f4"), Measurement(LATE), true_reference())
    assert found["dvv"][4, 0] == pytest.approx(alone["dvv"][0, 0], abs=1e-7)


# -- errors and flags ----------------------------------------------------------------------------------------


def test_the_error_is_the_formula_of_weaver():
    """By hand: X = 0.8, 0.5 Hz, T = 2 s, lags 20 to 60 s."""
    expected = 0.6 / 1.6 * np.sqrt(6 * np.sqrt(np.pi / 2) * 2 / ((2 * np.pi * 0.5) ** 2 * (60**3 - 20**3)))
    found = weaver_error(np.array([0.8, 1.0, 0.0, -0.5, np.nan]), 0.5, 2.0, 60**3 - 20**3)
    assert found[0] == pytest.approx(expected, rel=1e-12)
    assert found[1] == 0
    assert np.isnan(found[2:]).all()


def test_centre_and_duration_of_known_spectra():
    """Gaussian noise of a flat band B around f: T = sqrt(2 / pi) / B, and omega² the mean square."""
    rng = np.random.default_rng(0)
    f, spectra = np.fft.rfftfreq(4096, 0.25), np.fft.rfft(rng.standard_normal((200, 4096)))
    waves = np.fft.irfft(spectra * ((f > 0.4) & (f < 0.8)))
    centre, duration = centre_and_duration([waves], 4.0)
    assert centre.mean() == pytest.approx(np.sqrt((0.8**3 - 0.4**3) / 3 / 0.4), rel=0.01)
    assert duration.mean() == pytest.approx(np.sqrt(2 / np.pi) / 0.4, rel=0.2)


def test_energy_of_one_amplitude_gives_the_cubes_of_the_lags():
    lags = np.arange(80, 361) / 4
    assert cubes_of_energy(np.ones((1, len(lags))), lags)[0] == pytest.approx(90**3 - 20**3, rel=0.01)
    early = cubes_of_energy(np.exp(-lags / 20)[None], lags)[0]
    assert early < 0.5 * (90**3 - 20**3)


def test_errors_are_the_scatter():
    """Noises, bands and windows: scatter over Weaver's error is 0.8 to 1.5; unflagged outliers are below 0.1 %."""
    far = count = 0
    bands, windows = ((0.2, 1.0), (0.4, 0.7)), (LagWindow(15, 90), LagWindow(30, 60), LagWindow(20, 70, sides="right"))
    for case in itertools.product((0.3, 0.6, 1.0), bands, windows):
        scatter = scatter_over_error(*case)
        assert 0.8 < scatter.std() < 1.5, case
        far, count = far + (np.abs(scatter) > 6).sum(), count + len(scatter)
    for decay_s in (30.0, 60.0):
        scatter = scatter_over_error(0.1, bands[0], windows[1], decay_s)
        assert 0.8 < scatter.std() < 1.5, decay_s
    assert count > 4000
    assert far < 0.001 * count


def scatter_over_error(noise, band, window, decay_s=1e9):
    """The errors of 300 measurements of a coda with noise of its own band, over the errors that they state."""
    rng = np.random.default_rng(11)
    f = np.fft.rfftfreq(1024, 1 / RATE)
    white = np.fft.rfft(rng.standard_normal((300, 1024))) * ((f > band[0]) & (f < band[1]))
    own = np.fft.irfft(white)[:, : len(LAGS)]
    waves = coda(3, band, decay_s)(LAGS)
    series = (waves + noise * waves.std() * own / own.std()).astype("f4")[:, None]
    how = Measurement(window, epsilon_max=0.03, steps=301, least_coefficient=0.6)
    found = measured(series, how, waves.astype("f4")[None, None])
    good = found["flag"][:, 0] == 0
    return found["dvv"][good, 0] / found["error"][good, 0]


def test_cycle_skips_are_flagged():
    """One frequency only: stretches that differ by a cycle fit alike, and both maxima are seen."""
    t = np.abs(LAGS)
    series = np.cos(2 * np.pi * 0.8 * (t - 60) * 1.001).astype("f4")[None, None]
    known = np.cos(2 * np.pi * 0.8 * (t - 60)).astype("f4")[None, None]
    found = measured(series, Measurement(LagWindow(58, 64), epsilon_max=0.04, steps=401), known)
    assert found["flag"][0, 0] & flags.RIVAL


def test_flags_of_edges_coefficients_and_windows():
    series = series_of([0.03, 0.0, 0.0])
    series[1] += 5 * np.random.default_rng(0).standard_normal(series.shape[1:]).astype("f4")
    how = Measurement(LATE, least_coefficient=0.7, least_windows=5)
    found = measured(series, how, true_reference(), np.array([9, 9, 4])[:, None])["flag"][:, 0]
    assert found[0] & flags.EDGE
    assert found[1] & flags.LOW
    assert found[2] == flags.FEW
    far = measured(series_of([0.006]), Measurement(LATE, "wavelet", wavelet=Wavelet((0.2, 1.0))), true_reference())
    assert far["flag"][0, 0] & flags.EDGE, "more than half a cycle at the last lag"


def test_gaps_stay_gaps():
    series = series_of([0.001, 0.002, 0.003])
    series[1] = np.nan
    n = np.array([1, 0, 1])[:, None]
    for how in (
        Measurement(LATE),
        Measurement(LATE, reference=Reference("rolling", length_s=2 * 86_400)),
        Measurement(LATE, reference=Reference("several", length_s=86_400)),
        Measurement(LATE, reference=Reference("none")),
        Measurement(LATE, "mwcs", mwcs=Mwcs((0.2, 1.0), 10, 2.5)),
        Measurement(LATE, "wavelet", wavelet=Wavelet((0.2, 1.0))),
    ):
        found = measured(series, how, n=n)
        assert np.isnan(found["dvv"][1, 0])
        assert found["flag"][1, 0] == flags.NO_DATA
        assert np.isfinite(found["dvv"][2, 0])


# -- bits ----------------------------------------------------------------------------------------------------

METHODS = {
    "stretching": Measurement(LATE, moving_s=2 * 86_400),
    "rolling": Measurement(LATE, reference=Reference("rolling", length_s=2 * 86_400, gap_s=86_400)),
    "mwcs": Measurement(LATE, "mwcs", mwcs=Mwcs((0.2, 1.0), 10, 2.5)),
    "wavelet": Measurement(LATE, "wavelet", wavelet=Wavelet((0.2, 1.0))),
}


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=10, deadline=None)
@given(gone=st.sets(st.integers(5, 39), max_size=12))
def test_absent_pieces_change_no_bits_of_others(method, gone):
    how = METHODS[method]
    rng = np.random.default_rng(2)
    series = rng.standard_normal((45, 1, len(LAGS))).astype("f4")
    references = rng.standard_normal((int(method != "rolling"), 1, len(LAGS))).astype("f4")
    whole = measured(series, how, references)
    kept = np.array([k for k in range(45) if k not in gone])
    part = measured(series[kept], how, references, days=kept)
    reach = 1 + how.reach_ns() // DAY
    for at, k in enumerate(kept):
        if not gone & set(range(k - reach, k + 1)):
            for name, values in part.items():
                assert values[at].tobytes() == whole[name][k].tobytes(), (k, name)


def test_other_pairs_change_no_bits():
    rng = np.random.default_rng(2)
    series = rng.standard_normal((4, 2 * SLOTS + 9, len(LAGS))).astype("f4")
    whole = measured(series, Measurement(LATE), first_row=5)
    for first, stop in ((0, 1), (7, 60), (SLOTS - 5, SLOTS + 3), (90, len(series[0]))):
        part = measured(series[:, first:stop], Measurement(LATE), first_row=5 + first)
        for name, values in part.items():
            assert values.tobytes() == whole[name][:, first:stop].tobytes(), (first, name)


# -- parts ---------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.floats(0.02, 0.78), st.integers(0, 5))
def test_interpolation_is_that_of_the_function(share, seed):
    """A wave of any frequency up to 78 % of the Nyquist frequency, stretched, is that wave at the stretched lags."""
    how = epsilons(0.02, 21)
    stretch = Stretcher((60, 300), "both", how, MAX_LAG)
    f = share * RATE / 2
    phase = 0.7 * seed
    wave = np.cos(2 * np.pi * f * LAGS + phase).astype("f4")
    found = stretch(wave[None])[0]
    expected = np.cos(2 * np.pi * f * stretch.lags[:, None] / RATE * (1 + how) + phase)
    assert np.abs(found - expected).max() < 3e-4


@pytest.mark.parametrize(
    ("largest", "steps", "last"), [(0.02, 201, 470), (0.001, 101, 60), (0.1, 401, 430), (0.05, 51, 450)]
)
def test_all_stretches_follow_from_the_nodes(largest, steps, last):
    """Coefficients at every stretch, from products at a few nodes, are those from products at every stretch."""
    rng = np.random.default_rng(1)
    size = 2 * MAX_LAG + 1
    spectrum = np.fft.rfft(rng.standard_normal(size)) * (np.fft.rfftfreq(size) < 0.39)  # to 78 % of Nyquist
    reference = np.fft.irfft(spectrum, size).astype("f4")[None]
    pieces = rng.standard_normal((SLOTS, 2 * last + 1)).astype("f4") + reference[0, MAX_LAG - last : MAX_LAG + last + 1]
    all_of_them = epsilons(largest, steps)
    at, factors = nodes(all_of_them, last)
    assert (factors is None) == (steps == 51)
    found = []
    for stretches, by in ((at, factors), (all_of_them, None)):
        stretch = Stretcher((0, last), "both", stretches, MAX_LAG)
        stretched = stretch(reference)[0][stretch.rows_of(-last, last)]
        found.append(products(pieces, stretched, by).coefficients(by))
    assert np.abs(found[0] - found[1]).max() < 1e-5


def test_references_that_end_are_stretched_to_their_end():
    """Lags so late that the interpolation reaches beyond the reference: its reflection keeps value and slope."""
    how = epsilons(0.02, 5)
    last = int(MAX_LAG / 1.02)
    stretch = Stretcher((last - 30, last), "right", how, MAX_LAG)
    wave = np.cos(2 * np.pi * 0.3 * LAGS + 0.4)
    found = stretch(wave[None].astype("f4"))[0]
    expected = np.cos(2 * np.pi * 0.3 * stretch.lags[:, None] / RATE * (1 + how) + 0.4)
    assert np.abs(found - expected).max() < 0.1


def test_sides_and_lags():
    assert sides_of((0, 3), "both") == [(-3, -1), (0, 3)]
    assert lags_of((2, 4), "left").tolist() == [-4, -3, -2]
    assert lags_of((2, 3), "both").tolist() == [-3, -2, 2, 3]


def test_means_of_spans():
    times = np.array([0, 1, 2, 5])[:, None] * DAY + np.array([0, DAY])
    spans = Spans.before(times, 2 * DAY)
    assert list(zip(spans.first.tolist(), spans.stop.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 3), (3, 4)]
    series = np.arange(4, dtype="f4")[:, None, None] * np.ones((1, 1, 3), "f4")
    found, windows = means(series, np.array([[1], [3], [0], [2]]), spans)
    assert found[:, 0, 0].tolist() == [0, 0.75, 1, 3]
    assert windows[:, 0].tolist() == [1, 4, 3, 2]


def test_lines_are_least_squares():
    rng = np.random.default_rng(0)
    x, y, w = rng.standard_normal((3, 5, 30))
    w = w**2
    slope, level, error = line(x, y, w, through_origin=False)
    for k in range(5):
        (b, a), covariance = np.polyfit(x[k], y[k], 1, w=np.sqrt(w[k]), cov=True)
        assert (slope[k], level[k], error[k]) == pytest.approx((b, a, np.sqrt(covariance[0, 0])))
    slope, level, _ = line(x, y, w, through_origin=True)
    assert slope == pytest.approx((w * x * y).sum(1) / (w * x * x).sum(1))
    assert (level == 0).all()
    assert np.isnan(line(x, y, np.zeros_like(w), through_origin=True)[0]).all()


def test_smoothing_of_spectra_biases_the_delay():
    """Why smooth_bins is 2: more smoothing makes velocity changes look smaller, where a window has few periods."""
    series, known = series_of([0.002], (0, 1, 2, 3), band=(0.15, 0.6)), true_reference((0, 1, 2, 3), band=(0.15, 0.6))
    found = {
        bins: measured(series, Measurement(LATE, "mwcs", mwcs=Mwcs((0.15, 0.6), 10, 2.5, bins)), known)["dvv"].mean()
        for bins in (2, 5, 10)
    }
    assert found[10] < found[5] < found[2] < 0.002
    assert found[10] < 0.9 * 0.002


def test_a_pair_of_pieces_without_waves_has_no_delay():
    noise = np.random.default_rng(0).standard_normal((3, 1, len(LAGS))).astype("f4")
    found = measured(noise, Measurement(LATE, "wavelet", wavelet=Wavelet((0.2, 1.0))), true_reference())
    assert np.isnan(found["delay_s"]).all()
    fixed = Measurement(LATE, "wavelet", wavelet=Wavelet((0.2, 1.0), through_origin=True))
    assert "delay_s" not in measured(series_of([0.001]), fixed, true_reference())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LagWindow(50, 20), "last_s"),
        (lambda: LagWindow(5, 20, sides="up"), "must be one of both, left, right"),
        (lambda: Reference("period", 5, 5), "a start before its end"),
        (lambda: Reference("rolling"), "length_s"),
        (lambda: Measurement(LATE, "guess"), "must be one of stretching, mwcs, wavelet"),
        (lambda: Measurement(LATE, steps=200), "must be below 0.5, and steps = 200 odd"),
        (lambda: Measurement(LATE, "mwcs"), "needs its parameters"),
        (lambda: Measurement(LagWindow(1, 9, sides="left"), compare_sides=True), "needs method = 'stretching'"),
        (lambda: Measurement(LATE, "wavelet", Reference("none"), wavelet=Wavelet((0.1, 1))), "take 'whole' or"),
        (lambda: Mwcs((1.0, 0.1), 10, 2), "two frequencies"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured(make, words):
    with pytest.raises(ParameterError, match=words):
        make()


def test_lags_that_are_not_there_are_named_with_the_numbers():
    with pytest.raises(
        ParameterError, match=r"lags to 119 s, stretched by 1 \+ 0.02, need the series to 121.38 s; they end at 120 s"
    ):
        require_window(LagWindow(5, 119), np.array([5e3]), 0.02, RATE, MAX_LAG)
    with pytest.raises(ParameterError, match=r"pairs at 200.000 km: lags to 130 s"):
        require_window(LagWindow(5, 30, 2.0), np.array([5e3, 200e3, np.nan]), 0.02, RATE, MAX_LAG)
    require_window(LagWindow(5, 119), np.array([5e3]), 0.0, RATE, MAX_LAG)


# -- networks and clocks -------------------------------------------------------------------------------------


def dataset(dvv, flag=None, error=None, delay=None, codes="ABCDEFG"):
    dvv = np.asarray(dvv, float)
    names = [f"XX.{a}-XX.{b}" for a, b in itertools.combinations(codes, 2)][: dvv.shape[1]]
    ends = [name.split("-") for name in names]
    data = {
        "dvv": dvv,
        "error": np.full(dvv.shape, 1e-3) if error is None else np.asarray(error),
        "flag": np.zeros(dvv.shape, "u1") if flag is None else np.asarray(flag, "u1"),
    }
    if delay is not None:
        data["delay_s"] = np.asarray(delay)
    return xarray.Dataset(
        {name: (("time", "pair"), values) for name, values in data.items()},
        {
            "time": np.arange(len(dvv)).astype("M8[D]").astype("M8[ns]"),
            "pair": names,
            "station_1": ("pair", [a for a, _ in ends]),
            "station_2": ("pair", [b for _, b in ends]),
        },
    )


def test_networks_by_hand():
    values = np.array([[1, 2, 3, 4, 100, np.nan], [np.nan] * 6])
    flag = np.array([[0, 0, 0, 0, 2, 1], [1] * 6])
    of = dataset(values, flag, np.array([[1, 2, 1, 2, 1, 1], [1] * 6]))
    assert network(of)["dvv"].values[0, 0] == 2.5
    assert network(of)["n_pairs"].values.tolist() == [[4, 0]]
    assert np.isnan(network(of)["dvv"].values[0, 1])
    assert network(of, "mean")["dvv"].values[0, 0] == 2.5
    assert network(of, "weighted")["dvv"].values[0, 0] == pytest.approx((1 + 0.5 + 3 + 1) / 2.5)
    assert network(of, "weighted")["error"].values[0, 0] == pytest.approx(1 / np.sqrt(2.5))
    assert network(of, "mean", flagged=True)["dvv"].values[0, 0] == 22
    assert network(of)["low"].values[0, 0] == pytest.approx(np.percentile([1, 2, 3, 4], 16))
    exact = dataset(np.array([[1.0, 2, 3]]), error=np.array([[0.0, 1, 1]]))
    assert 1 < network(exact, "weighted")["dvv"].values[0, 0] < 1.1, "an error of 0 is no infinite weight"
    two = network(of, "mean", ["near", "near", "far", "far", "far", "far"])
    assert two["dvv"].sel(group="near").values[0] == 1.5
    assert two["dvv"].sel(group="far").values[0] == 3.5
    many = dataset(np.arange(20.0)[None] ** 3)
    assert network(many, "trimmed")["dvv"].values[0, 0] == pytest.approx((np.arange(2, 18.0) ** 3).mean())
    with pytest.raises(ResultsError, match="two numbers from 0 to 100"):
        network(of, percentiles=(-5, 200))
    with pytest.raises(ResultsError, match="must be one of median"):
        network(of, "medain")
    with pytest.raises(ResultsError, match="give one for each"):
        network(of, groups=["a"])


def test_clocks_close_around_triangles():
    ahead = np.array([[0.1, -0.05, 0.0, -0.05], [0.0, 0.0, 0.3, -0.3]])
    pairs = list(itertools.combinations(range(4), 2))
    delay = np.array([[row[j] - row[i] for i, j in pairs] for row in ahead])
    found = clocks(dataset(np.zeros(delay.shape), delay=delay, codes="ABCD"))
    assert found["ahead_s"].values == pytest.approx(ahead, abs=1e-12)
    assert found["closure_s"].values == pytest.approx([0, 0], abs=1e-12)
    no_clock = delay + np.array([0.1, 0, 0, 0, 0, 0])  # of one pair only
    assert clocks(dataset(np.zeros(delay.shape), delay=no_clock, codes="ABCD"))["closure_s"].values.min() > 0.02
    apart = dataset(np.zeros((1, 6)), delay=[[0.1] * 6], codes="ABCD").isel(pair=[0, 1, 3])  # A-B, A-C, B-C
    alone = dataset(np.zeros((1, 1)), delay=[[0.5]], codes="XY")
    both = clocks(xarray.concat([apart, alone], "pair", data_vars="all"))
    assert np.isnan(both["ahead_s"].sel(station=["XX.X", "XX.Y"]).values).all()
    assert np.isfinite(both["ahead_s"].sel(station=["XX.A", "XX.B", "XX.C"]).values).all()
    with pytest.raises(ResultsError, match="delay_s"):
        clocks(dataset(np.zeros((1, 3))))
    with pytest.raises(ResultsError, match="three stations"):
        clocks(dataset(np.zeros((1, 1)), delay=[[0.1]]))


def test_methods_have_the_fields_that_they_say():
    for how in METHODS.values():
        found = measured(series_of([0.001, 0.0]), dataclasses.replace(how))
        assert set(found) == set(how.fields)
        assert {name: v.dtype.str for name, v in found.items() if name in ("n_windows", "flag")} == {
            "n_windows": "<i4",
            "flag": "|u1",
        }
