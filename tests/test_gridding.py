"""Correlations at short lags by gridding: the numbers of a long inverse transform, to single precision."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from streams import correlate

from xcorr.pes.correlating import correlate as element
from xcorr.pes.correlating.gridding import WIDTH, gridding, kernel, kernel_transform
from xcorr.pes.correlating.tiles import to_lags
from xcorr.pes.preparing.whiten import spectral_grid


def directly(spectra, grid):
    whole = np.zeros((len(spectra), grid.nfft // 2 + 1), complex)
    whole[:, grid.first : grid.stop] = spectra
    time = np.fft.irfft(whole, grid.nfft)
    return np.concatenate([time[:, grid.nfft - grid.lags :], time[:, : grid.lags + 1]], axis=1)


def random_spectra(rng, rows, bins):
    return rng.standard_normal((rows, 2 * bins), np.float32).view(np.complex64)


@given(
    length=st.integers(60, 6000),
    lags=st.integers(0, 400),
    edges=st.lists(st.floats(0, 2), min_size=2, max_size=2, unique=True),
    seed=st.integers(0, 99),
)
def test_equals_the_long_transform_to_single_precision(length, lags, edges, seed):
    """Whatever the band: also where it begins at 0 or ends at the Nyquist frequency. Noise at all lags is the worst."""
    try:
        grid = spectral_grid(length, lags, 4.0, (min(edges), max(edges)))
    except ValueError:
        assume(False)
    short = gridding(grid)
    assume(short is not None)
    spectra = random_spectra(np.random.default_rng(seed), 4, grid.bins)
    exact = directly(spectra.astype(complex), grid)
    size = np.sqrt((np.abs(spectra) ** 2).sum(axis=1, keepdims=True)) / grid.nfft  # rms over lags, but for a factor
    assert np.abs(to_lags(short.spread(spectra), grid, short) - exact).max() < 6e-6 * size.max()


@pytest.mark.parametrize("band", [(0.05, 1.0), (0.0, 2.0)])
def test_a_day_of_hours_is_as_exact_as_the_long_transform(rng, band):
    grid = spectral_grid(14_400, 480, 4.0, band)
    short, spectra = gridding(grid), random_spectra(rng, 40, grid.bins)
    assert short.nfft < grid.nfft / 7
    exact = directly(spectra.astype(complex), grid)
    long, gridded = (np.sqrt(np.mean((c - exact) ** 2)) for c in (to_lags(spectra, grid),
                     to_lags(short.spread(spectra), grid, short)))  # fmt: skip
    assert gridded < 1.5 * long < 3e-7 * np.sqrt(np.mean(exact**2))


@pytest.mark.parametrize(("length", "lags", "pays"), [(14_400, 480, True), (14_400, 5000, False), (3600, 1200, False)])
def test_sizes_alone_decide(length, lags, pays):
    assert (gridding(spectral_grid(length, lags, 4.0, (0.05, 1.0))) is not None) == pays


def test_the_kernel_has_its_transform():
    beta, distance = 18.0, np.linspace(-WIDTH, WIDTH, 200_001)
    for lag in (0.0, 0.1, 0.25):
        integral = np.trapezoid(kernel(distance, beta) * np.cos(2 * np.pi * lag * distance), distance)
        assert kernel_transform(np.array([lag]), beta)[0] == pytest.approx(integral, rel=1e-7)
    assert kernel(np.array([0.0, WIDTH / 2 + 0.01, -WIDTH]), beta).tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("whitening", ["none", "phase"])
def test_the_stage_gives_the_same_with_and_without(rng, monkeypatch, whitening):
    """Autocorrelations, absent windows and several blocks too."""
    data = rng.standard_normal((11, 5 * 2400)).astype(np.float32)
    valid = rng.random((11, 5)) < 0.8
    chosen = np.triu(np.ones((11, 11), bool))
    how = {"length": 2400, "valid": valid, "whitening": whitening, "chosen": chosen}
    gridded, n = correlate(data, 80, (0.05, 1.5), **how)[0]["ZZ"]
    monkeypatch.setattr(element, "gridding", lambda grid: None)
    long, same = correlate(data, 80, (0.05, 1.5), **how)[0]["ZZ"]
    assert (n == same).all()
    assert not np.array_equal(gridded, long)
    np.testing.assert_allclose(gridded, long, atol=2e-6 * np.nanmax(np.abs(long)))
