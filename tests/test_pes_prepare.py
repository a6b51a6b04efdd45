"""Segments, conditioning, windows, normalisation, whitening, stacks: each against a plain calculation."""

from fractions import Fraction

import numpy as np
import pytest
import reference
import scipy.signal

from xcorr.pes.correlating.snr import quality
from xcorr.pes.items import Segment
from xcorr.pes.preparing import normalize, whiten, windows
from xcorr.pes.preparing.condition import (
    ConditionError,
    Conditioning,
    butterworth_power,
    condition,
    condition_segment,
    fft_lengths,
)
from xcorr.pes.preparing.normalize import Normalization
from xcorr.pes.preparing.windows import LOW_COVERAGE, MAX_OVER_STD, NON_FINITE, USED, Windowing
from xcorr.pes.reading.clocks import nominal_rate
from xcorr.pes.reading.segments import clean, sample_ns
from xcorr.pes.reading.waveform import NS
from xcorr.pes.stacking import methods as stacking
from xcorr.pes.stacking.sums import Sums

S = NS


def seg(data, start_s=0.0, rate=1):
    return Segment(round(start_s * S), Fraction(rate), np.asarray(data, dtype=None))


# -- segments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "exact"),
    [
        (39.9999, 40),
        (40.0003, 40),
        (0.1, Fraction(1, 10)),
        (31.25, Fraction(125, 4)),
        (1 / 3, Fraction(1, 3)),
        (6.25, Fraction(25, 4)),
        (1000.0, 1000),
    ],
)
def test_rates_snap_to_simple_rationals(given, exact):
    assert nominal_rate(given) == exact


@pytest.mark.parametrize("given", [40.0137, 1.00003, 17.3341, 0.0123])
def test_other_rates_are_what_they_are(given):
    assert float(nominal_rate(given)) == pytest.approx(given, rel=1e-9)


def test_touching_pieces_join_and_order_does_not_matter():
    found = clean([seg([5, 6], 4), seg([1, 2, 3, 4], 0)], 0, 6 * S)
    assert [s.data.tolist() for s in found.segments] == [[1, 2, 3, 4, 5, 6]]
    assert (found.gaps, found.gap_s) == (0, 0.0)


def test_overlaps_that_agree_join_and_those_that_disagree_become_gaps():
    agree = clean([seg([1, 2, 3, 4], 0), seg([3, 4, 5], 2), seg([2, 3], 1)], 0, 5 * S)
    assert [s.data.tolist() for s in agree.segments] == [[1, 2, 3, 4, 5]]
    disagree = clean([seg([1, 2, 3, 4], 0), seg([9, 4, 5, 6], 2)], 0, 6 * S)
    assert [(s.start_ns // S, s.data.tolist()) for s in disagree.segments] == [(0, [1, 2]), (4, [5, 6])]
    assert (disagree.gaps, disagree.gap_s) == (1, 2.0)


def test_gaps_are_counted_at_the_ends_too():
    found = clean([seg([1, 2], 2), seg([3], 7)], 0, 10 * S)
    assert (found.gaps, found.gap_s, len(found.segments)) == (3, 7.0, 2)
    assert clean([], 0, 10 * S).gap_s == 10.0


def test_samples_outside_are_left_out_and_sub_sample_starts_kept():
    found = clean([seg(np.arange(20), -3.4)], 0, 5 * S)
    (only,) = found.segments
    assert only.data.tolist() == [4, 5, 6, 7, 8]
    assert only.start_ns == round(0.6 * S)


def test_long_runs_of_zeros_are_gaps():
    data = np.ones(200)
    data[50:120] = data[150:160] = 0
    found = clean([seg(data)], 0, 200 * S, zeros_are_gaps_s=60)
    assert [(s.start_ns // S, len(s.data)) for s in found.segments] == [(0, 50), (120, 80)]
    assert found.zeros_s == 70
    assert len(clean([seg(data)], 0, 200 * S, zeros_are_gaps_s=0).segments) == 1


def test_short_gaps_are_interpolated_only_when_asked():
    pieces = [seg([0.0, 1.0]), seg([4.0, 5.0], 4)]
    assert len(clean(pieces, 0, 6 * S).segments) == 2
    (joined,) = clean(pieces, 0, 6 * S, max_gap_s=2).segments
    assert joined.data.tolist() == [0, 1, 2, 3, 4, 5]
    assert len(clean(pieces, 0, 6 * S, max_gap_s=1).segments) == 2


def test_non_finite_samples_are_gaps_never_interpolated():
    found = clean([seg([0.0, np.nan, 2.0, np.inf])], 0, 4 * S, max_gap_s=10)
    assert [s.data.tolist() for s in found.segments] == [[0.0], [2.0]]
    assert found.non_finite_ns == ((1 * S, 2 * S), (3 * S, 4 * S))


def test_different_rates_stay_apart():
    found = clean([seg([1] * 4), seg([2] * 8, 4, rate=2)], 0, 8 * S)
    assert [float(s.rate_hz) for s in found.segments] == [1.0, 2.0]


def test_sample_times_do_not_drift():
    assert sample_ns(0, Fraction(125, 4), 125 * 86_400 // 4) == 86_400 * S


# -- conditioning --------------------------------------------------------------------------------------------


def test_butterworth_is_scipys():
    sos = scipy.signal.butter(4, (0.05, 1.0), "bandpass", fs=20.0, output="sos")
    f, h = scipy.signal.sosfreqz(sos, np.linspace(1e-3, 9.9, 500), fs=20.0)
    np.testing.assert_allclose(butterworth_power(f, 20.0, (0.05, 1.0), 4), np.abs(h) ** 2, atol=1e-9)


@pytest.mark.parametrize(
    ("rate", "target"), [(40, 4), (50, 4), (Fraction(125, 4), 4), (1, 4), (100, Fraction(1, 2)), (4, 4)]
)
def test_fft_lengths_have_the_ratio_of_the_rates(rate, target):
    n, m = fft_lengths(86_401, Fraction(rate), Fraction(target))
    assert n >= 86_401
    assert Fraction(m, n) == Fraction(target) / Fraction(rate)


HOW = Conditioning(4.0, (0.1, 1.0), 4, 20.0)


def continuous(t):
    return np.sin(2 * np.pi * 0.31 * t + 0.4) + 0.6 * np.sin(2 * np.pi * 0.57 * t)


@pytest.mark.parametrize("rate", [4, 5, 10, 20, 40, Fraction(25, 2), Fraction(125, 4), Fraction(8, 3)])
@pytest.mark.parametrize("start_s", [0.0, 0.037, 17.2])
def test_any_rate_and_start_land_on_the_common_grid(rate, start_s):
    t = start_s + np.arange(int(900 * rate)) / float(rate)
    data, mask = condition([seg(7.0 + 0.01 * t + continuous(t), start_s, rate)], 0, 4 * 930, HOW)
    grid = np.arange(4 * 930) / 4.0
    assert mask[: int(4 * start_s)].sum() == 0
    inside = mask & (grid > start_s + 100) & (grid < start_s + 800)
    assert inside.sum() > 2700
    assert np.abs(data - continuous(grid))[inside].max() < 2e-3
    assert (data[~mask] == 0).all()
    assert grid[mask][0] == pytest.approx(np.ceil((start_s + 20) * 4) / 4)


def test_equals_the_plain_chain_at_the_input_rate(rng):
    x = rng.standard_normal(4 * 3600).cumsum()
    got, mask = condition([seg(x, rate=4)], 0, len(x), HOW)
    expected, expected_mask = reference.conditioned(x, 4.0, (0.1, 1.0), 4, 20.0)
    assert (mask == expected_mask).all()
    inner = slice(800, -800)
    assert np.abs(got - expected)[inner].max() < 1e-5 * np.abs(expected).max()


def test_segments_are_conditioned_alone(rng):
    first, second = rng.standard_normal(2000), rng.standard_normal(3000)
    both, mask = condition([seg(first, rate=4), seg(second, 600, 4)], 0, 6000, HOW)
    alone, alone_mask = condition([seg(second, 600, 4)], 0, 6000, HOW)
    assert (both[alone_mask] == alone[alone_mask]).all()
    assert mask.sum() == (2000 - 160) + (3000 - 160)


def test_constant_and_short_segments_give_nothing(rng):
    for data in (np.full(4000, 17), rng.standard_normal(100), np.ones(1)):
        assert not condition([seg(data, rate=4)], 0, 5000, HOW)[1].any()


def test_too_low_a_rate_is_refused():
    with pytest.raises(ConditionError, match="2 Hz is too low for the band up to 1 Hz"):
        condition([seg(np.arange(100), rate=2)], 0, 400, HOW)


def test_no_masked_edge_is_possible(rng):
    first, values = condition_segment(seg(rng.standard_normal(400), rate=4), 0, Conditioning(4.0, (0.1, 1.0), 4, 0.0))
    assert (first, len(values)) == (0, 400)


# -- windows -------------------------------------------------------------------------------------------------


def test_windows_and_their_verdicts(rng):
    data = rng.standard_normal(1000).astype(np.float32)
    mask = np.ones(1000, bool)
    mask[100:130] = False
    data[450] = 40
    verdict = windows.judge(data * mask, mask, Windowing(100, 100, 0.71), non_finite=[(750, 751)])
    assert verdict.tolist() == [USED, LOW_COVERAGE, USED, USED, MAX_OVER_STD, USED, USED, NON_FINITE, USED, USED]
    assert windows.judge(data * mask, mask, Windowing(100, 100, 0.71, 0.0))[4] == USED
    assert windows.judge(data * mask, mask, Windowing(100, 100, 0.7))[1] == USED


def test_count_of_windows():
    assert windows.window_count(24, 10, 10) == 2
    assert windows.window_count(24, 10, 5) == 3
    assert windows.window_count(9, 10, 5) == 0
    assert len(windows.judge(np.zeros(24, np.float32), np.ones(24, bool), Windowing(10, 5))) == 3


def test_a_window_without_data_is_never_used():
    assert windows.judge(np.zeros(10, np.float32), np.zeros(10, bool), Windowing(10, 10, 0.0)).tolist() == [
        LOW_COVERAGE
    ]


# -- normalisation -------------------------------------------------------------------------------------------


def test_one_bit_is_the_sign():
    assert normalize.one_bit(np.array([-3.0, 0.0, 1e-30], np.float32)).tolist() == [-1, 0, 1]


def test_running_absolute_mean_is_the_plain_one(rng):
    data = rng.standard_normal((2, 500)).astype(np.float32) * np.exp(rng.standard_normal(500))
    mask = rng.random((2, 500)) < 0.8
    mask[1, 100:200] = False
    data *= mask
    n = normalize.half_width(10.0, 4.0)
    assert 2 * n + 1 in (39, 41)
    got = normalize.running_absolute_mean(data.astype(np.float32), mask, 4.0, 10.0)
    for row in range(2):
        expected = reference.running_absolute_mean(data[row].astype(np.float64), mask[row], n)
        np.testing.assert_allclose(got[row], expected, rtol=1e-5, atol=1e-6)


def test_weights_of_a_station_keep_the_ratios_of_its_components(rng):
    base = rng.standard_normal(2000).astype(np.float32)
    data = np.array([base, 3 * base, 0.5 * base], np.float32)
    mask = np.ones(data.shape, bool)
    shared = normalize.normalize(data, mask, Normalization("running-absolute-mean", 10.0, "station"), 4.0)
    np.testing.assert_allclose(shared[1], 3 * shared[0], rtol=1e-5)
    alone = normalize.normalize(data, mask, Normalization("running-absolute-mean", 10.0), 4.0)
    np.testing.assert_allclose(alone[1], alone[0], rtol=1e-4)


def test_zeros_stay_zero():
    zero = np.zeros((1, 100), np.float32)
    for method in normalize.METHODS:
        assert (normalize.normalize(zero, zero == 0, Normalization(method), 4.0) == 0).all()
    with pytest.raises(ValueError, match="must be one of none, one-bit"):
        normalize.normalize(zero, zero == 0, Normalization("onebit"), 4.0)


# -- whitening -----------------------------------------------------------------------------------------------


def test_grid_holds_the_band_and_no_wrap_around():
    grid = whiten.spectral_grid(14_400, 480, 4.0, (0.05, 1.0))
    assert grid.nfft >= 14_880
    f = np.arange(grid.nfft // 2 + 1) * 4.0 / grid.nfft
    assert (grid.first, grid.stop) == (np.flatnonzero(f >= 0.05)[0], np.flatnonzero(f <= 1.0)[-1] + 1)
    with pytest.raises(ValueError, match="no frequency"):
        whiten.spectral_grid(16, 2, 4.0, (0.01, 0.02))


@pytest.mark.parametrize("method", whiten.METHODS)
def test_whitening_is_the_plain_one(rng, method):
    x = rng.standard_normal(1200)
    grid = whiten.spectral_grid(1200, 100, 4.0, (0.1, 1.0))
    taper = whiten.band_taper(grid, (0.1, 1.0), 0.05)
    got = whiten.whiten(
        whiten.window_spectra(x[None, None].astype(np.float32), grid), whiten.Whitening(method, 0.04), grid, taper
    )
    expected, nfft = reference.window_spectrum(x, 100, 4.0, (0.1, 1.0), 0.05, method, 0.04)
    assert nfft == grid.nfft
    assert np.abs(got[0, 0] - expected[grid.first : grid.stop]).max() < 1e-5 * np.abs(expected).max()


def test_shared_whitening_keeps_ratios(rng):
    base = rng.standard_normal((1, 1, 1200)).astype(np.float32)
    grid = whiten.spectral_grid(1200, 100, 4.0, (0.1, 1.0))
    spectra = whiten.window_spectra(np.concatenate([base, 4 * base]), grid)
    taper = np.ones(grid.bins, np.float32)
    for method in ("phase", "running-mean"):
        shared = whiten.whiten(spectra, whiten.Whitening(method, 0.02, "station"), grid, taper)
        np.testing.assert_allclose(shared[1], 4 * shared[0], rtol=1e-5)
        alone = whiten.whiten(spectra, whiten.Whitening(method), grid, taper)
        np.testing.assert_allclose(alone[1], alone[0], rtol=1e-5)


def test_unknown_whitening():
    grid = whiten.spectral_grid(100, 10, 4.0, (0.1, 1.0))
    with pytest.raises(ValueError, match="must be one of none, phase"):
        whiten.whiten(
            np.ones((1, 1, grid.bins), np.complex64), whiten.Whitening("white"), grid, np.ones(grid.bins, np.float32)
        )


# -- stacks --------------------------------------------------------------------------------------------------


def summed(series, n):
    sums = Sums.zeros(*series.shape[1:])
    sums.add(series, n)
    return sums


def test_stack_and_error_are_the_plain_ones(rng):
    series = rng.standard_normal((6, 4, 21)).astype(np.float32)
    n = rng.integers(0, 5, (6, 4))
    n[:, 1] = 0
    n[1:, 2] = 0
    n[0, 2] = 3
    series[n == 0] = np.nan
    sums = summed(series, n)
    mean, error = sums.mean(), sums.error()
    assert stacking.linear_stack(series, n).tobytes() == mean.tobytes()
    assert np.isnan(mean[1]).all()
    assert np.isnan(error[1:3]).all()
    for row in (0, 2, 3):
        used = np.flatnonzero(n[:, row])
        w, c = n[used, row].astype(float), series[used, row].astype(float)
        np.testing.assert_allclose(mean[row], np.average(c, axis=0, weights=w), rtol=1e-12)
        if len(used) > 1:
            squares = (w[:, None] * (c - np.average(c, axis=0, weights=w)) ** 2).sum(axis=0)
            expected = np.sqrt(squares / (len(used) - 1) / w.sum())
            np.testing.assert_allclose(error[row], expected, rtol=1e-9)


def test_equal_weights_give_the_standard_error_of_the_mean(rng):
    series = rng.standard_normal((30, 1, 5))
    n = np.full((30, 1), 24)
    expected = series.std(axis=0, ddof=1) / np.sqrt(30)
    np.testing.assert_allclose(summed(series, n).error(), expected, rtol=1e-10)
    theta = np.array([np.delete(series, k, axis=0).mean(axis=0) for k in range(30)])  # the delete-one jackknife
    np.testing.assert_allclose(expected, np.sqrt(29 / 30 * ((theta - theta.mean(axis=0)) ** 2).sum(axis=0)), rtol=1e-10)


@pytest.mark.parametrize("power", [1.0, 0.0])
def test_the_error_of_unequal_pieces_is_that_of_the_bootstrap(rng, power):
    """Means of n windows with variance 1/n, and pieces whose variance does not depend on n at all."""
    pieces, trials = 200, 400
    n = rng.choice([24, 24, 24, 20, 12, 3], (pieces, trials))
    series = 5.0 + rng.standard_normal((pieces, trials, 1)) * n[:, :, None] ** (-power / 2)
    sums = summed(series, n)
    true = np.std(sums.mean())  # over independent trials
    chosen = rng.integers(0, pieces, (500, pieces))
    w, c = n[:, 0][chosen].astype(float), series[:, 0, 0][chosen]
    bootstrap = ((w * c).sum(axis=1) / w.sum(axis=1)).std(ddof=1)
    assert np.sqrt(np.mean(sums.error() ** 2)) == pytest.approx(true, rel=0.1)
    assert sums.error()[0, 0] == pytest.approx(bootstrap, rel=0.15)


def test_sums_in_any_portions_have_the_same_bits(rng):
    series = rng.standard_normal((9, 70, 1001)).astype(np.float32)
    n = rng.integers(0, 3, (9, 70))
    series[n == 0] = np.nan
    whole, portions = summed(series, n), Sums.zeros(70, 1001)
    for part in (slice(0, 1), slice(1, 6), slice(6, 6), slice(6, 9)):
        portions.add(series[part], n[part])
    for name in ("weighted", "squares", "windows", "pieces"):
        assert getattr(whole, name).tobytes() == getattr(portions, name).tobytes()
    one = summed(series[:1], n[:1])
    assert one.mean().astype(np.float32).tobytes() == np.where(n[0][:, None] > 0, series[0], np.nan).tobytes()


def test_signal_to_noise_and_symmetry():
    lag = np.arange(-50, 51)
    c = np.exp(-0.5 * ((np.abs(lag) - 15) / 2.0) ** 2)
    c[np.abs(lag) > 40] = 0.01
    (ratio,), (coefficient,) = quality(c[None])
    assert ratio == pytest.approx(100, rel=1e-6)
    assert coefficient == pytest.approx(1)
    one_sided = np.where(lag > 0, c, 0) + 0.001 * np.sin(lag)
    causal, acausal = one_sided[51:], one_sided[:50][::-1]
    tiny = np.array([one_sided, -one_sided * 1e-25, one_sided * 1e25], np.float32)
    expected = np.corrcoef(causal, acausal)[0, 1]
    np.testing.assert_allclose(quality(tiny)[1], expected, rtol=1e-5)
    np.testing.assert_allclose(quality(tiny)[0], quality(one_sided[None])[0][0], rtol=1e-5)


def test_rows_without_signal_have_no_quality():
    nothing = np.zeros((3, 21), np.float32)
    nothing[1] = np.nan
    nothing[2] = 7.0
    ratio, coefficient = quality(nothing)
    assert np.isnan(ratio[:2]).all()
    assert np.isnan(coefficient).all()
    assert ratio[2] == pytest.approx(1)
