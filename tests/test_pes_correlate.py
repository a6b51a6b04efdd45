"""Tiled correlation: known delays, a plain float64 loop, bits that do not depend on company."""

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import reference
import scipy.signal
from streams import conditioned, correlate, correlate_all, run_chain

from xcorr.core import ElementError
from xcorr.pes import CorrelateStrips, TransformStation
from xcorr.pes.correlating import correlate as element
from xcorr.pes.correlating import tiles
from xcorr.pes.correlating.gridding import gridding
from xcorr.pes.correlating.layout import Layout
from xcorr.pes.correlating.rows import StripEnd
from xcorr.pes.correlating.tiles import full_products_per_lag, products_per_lag, to_lags
from xcorr.pes.preparing.normalize import one_bit
from xcorr.pes.preparing.whiten import Band, Whitening, spectral_grid, whiten, window_spectra

RATE, LENGTH, LAGS, BAND = 4.0, 2400, 80, (0.05, 1.5)


def pulse(delay_s):
    """A wave packet in the middle of the window, in band to 1e-9, delayed by any time."""
    t = np.arange(LENGTH) / RATE - LENGTH / 2 / RATE - delay_s
    return np.exp(-0.5 * (t / 4) ** 2) * np.cos(2 * np.pi * 0.6 * t)


@pytest.mark.parametrize("delay_s", [0.0, 7 / RATE, -7 / RATE, 12.75, 0.1, -3.33, 11.117])
def test_delays_give_exact_lag_sign_and_amplitude(delay_s):
    x1, x2 = pulse(0.0), pulse(delay_s)
    found, _ = correlate([x1, x2], LAGS, BAND, whitening="none", taper=0.0)
    (c,) = found["ZZ"][0]
    lag = np.arange(-LAGS, LAGS + 1)
    expected = np.array([np.dot(x1[max(0, -k) : LENGTH - max(0, k)], x2[max(0, k) : LENGTH + min(0, k)]) for k in lag])
    expected /= LENGTH - np.abs(lag)
    assert np.abs(c - expected).max() <= 1e-5 * np.abs(expected).max()
    if delay_s * RATE == round(delay_s * RATE):
        assert lag[c.argmax()] == round(delay_s * RATE)
        assert c.max() == pytest.approx(np.dot(x1, x1) / (LENGTH - abs(delay_s * RATE)), rel=1e-5)
    fine = scipy.signal.resample(c * (LENGTH - np.abs(lag)), len(c) * 200)
    assert fine.argmax() / 200 / RATE - LAGS / RATE == pytest.approx(delay_s, abs=0.005)


@pytest.mark.parametrize("stations", [3, 26])
def test_one_window_at_long_lags_equals_plain_loop(rng, stations):
    """No product of matrices, no gridding; in several groups of first stations."""
    lags, length = 500, 900
    assert gridding(spectral_grid(length, lags, RATE, BAND)) is None
    data = rng.standard_normal((stations, length)).astype(np.float32)
    found, _ = correlate(data, lags, BAND, taper=0.1, block=64)
    layout = Layout(stations, ("Z",), ("ZZ",), 64)
    for row, (i, j) in enumerate(zip(*layout.pair_indices(), strict=True)):
        expected = reference.correlate_pair(
            data[i, None], data[j, None], np.ones(1, bool), lags, RATE, BAND, 0.1, "phase"
        )
        assert np.abs(found["ZZ"][0][row] - expected).max() <= 3e-6 * np.abs(expected).max()


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"whitening": "none", "amplitude": "energy"},
        {"method": "coherency"},
        {"method": "phase", "whitening": "none", "amplitude": "peak"},
    ],
)
def test_how_many_are_estimated_together_changes_no_bit(rng, monkeypatch, how):
    """Components, autocorrelations, substacks, pairs at uneven distances, several blocks and groups."""
    stations, windows = 19, 4
    data = rng.standard_normal((stations, 3, windows * LENGTH)).astype(np.float32)
    how |= {
        "length": LENGTH,
        "valid": rng.random((stations, 1, windows)) < 0.8,
        "components": tuple("ZNE"),
        "pairs": ("ZZ", "NE", "EE"),
        "block": 36,
        "chosen": np.triu(rng.random((stations, stations)) < 0.8) | np.eye(stations, dtype=bool),
        "substacks": ((0, 2), (2, 4)),
        "taper": 0.1,
    }
    bands = {"": BAND} if how.get("method") == "phase" else {"": BAND, "low": (0.0, 0.5)}
    found = []
    for together in (1, 12 * (2 * LAGS + 1), element.TOGETHER):
        monkeypatch.setattr(element, "TOGETHER", together)
        found.append(correlate_all(data, LAGS, bands, **how)[0])
    for key, (series, n) in found[0].items():
        assert np.isfinite(series[n > 0]).any()
        for other in found[1:]:
            assert other[key][0].tobytes() == series.tobytes()
            assert (other[key][1] == n).all()


def test_estimating_a_ratio_takes_little_memory(rng):
    """Short lags and many bins: spectra, not correlations, are what is large."""
    stations, length = 48, 8000
    data = rng.standard_normal((stations, 2 * length)).astype(np.float32)
    peaks = []
    for method in ("cross-correlation", "coherency"):
        tracemalloc.start()
        correlate(data, 20, (0.1, 1.9), length=length, block=64, method=method)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    room = 8 * element.GROUP * 64 * spectral_grid(length, 20, RATE, (0.1, 1.9)).bins
    assert peaks[1] - peaks[0] < 1.3 * room


@pytest.mark.parametrize("whitening", ["none", "phase", "running-mean"])
def test_tiled_equals_plain_loop(rng, whitening):
    stations, windows = 11, 5
    data = rng.standard_normal((stations, windows * LENGTH)).astype(np.float32)
    data[1] += np.roll(data[0], 9)
    valid = rng.random((stations, windows)) < 0.8
    valid[3] = False
    found, _ = correlate(data, LAGS, BAND, length=LENGTH, valid=valid, whitening=whitening, taper=0.1)
    got, n = found["ZZ"]
    layout = Layout(stations, ("Z",), ("ZZ",), 8)
    for row, (i, j) in enumerate(zip(*layout.pair_indices(), strict=True)):
        both = valid[i] & valid[j]
        assert n[row] == both.sum()
        cut = data.reshape(stations, windows, LENGTH)
        expected = reference.correlate_pair(cut[i], cut[j], both, LAGS, RATE, BAND, 0.1, whitening)
        if whitening == "none":
            expected *= LENGTH / (LENGTH - np.abs(np.arange(-LAGS, LAGS + 1)))
        if both.any():
            assert np.abs(got[row] - expected).max() <= 3e-6 * np.abs(expected).max()
        else:
            assert np.isnan(got[row]).all()


@pytest.mark.parametrize(("stations", "components"), [(70, "Z"), (26, "ZNE")])
def test_every_place_in_a_large_block_has_the_same_numbers_and_bits(rng, stations, components):
    """In a block of 64 slots some pairs are multiplied with all of it, others only with its end."""
    letters, length = len(components), 600
    pairs = tuple(a + b for a in components for b in components)
    few = rng.standard_normal((4, letters, 2 * length)).astype(np.float32)
    kinds = np.arange(stations) % 4  # each of the four many times, in every place
    how = {"length": length, "components": tuple(components), "pairs": pairs, "block": 64}
    found, _ = correlate(few[kinds], LAGS, BAND, **how)
    layout = Layout(stations, tuple(components), pairs, 64)
    cut = few.reshape(4, letters, 2, length)
    seen = {}
    for row, (i, j) in enumerate(zip(*layout.pair_indices(), strict=True)):
        for pair in pairs:
            bits = found[pair][0][row].tobytes()
            assert seen.setdefault((kinds[i], kinds[j], pair), bits) == bits, f"{pair} of {i} and {j} has other bits"
    for (one, other, pair), bits in seen.items():
        a, b = (components.index(letter) for letter in pair)
        expected = reference.correlate_pair(cut[one, a], cut[other, b], [True, True], LAGS, RATE, BAND, 0.01, "phase")
        got = np.frombuffer(bits, np.float32)
        assert np.abs(got - expected).max() <= 3e-6 * np.abs(expected).max()


KERNELS = (
    "",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("SkylakeX", "Haswell", "Sandybridge", "Nehalem")),
)


@pytest.mark.parametrize("kernel", KERNELS)
def test_few_stations_have_the_bits_of_many(kernel):
    """Whatever the processor is: with its own kernels of OpenBLAS, and all that it can run."""
    environment = {**os.environ, "OPENBLAS_CORETYPE": kernel, "PYTHONPATH": str(Path(__file__).parent)}
    if not kernel:
        del environment["OPENBLAS_CORETYPE"]
    program = "import few_and_many; few_and_many.main()"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=100)
    if "Illegal instruction" in done.stderr or done.returncode < 0:
        pytest.skip(f"this processor cannot run the kernels for {kernel}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:2] == ["same", "bits,"]


def test_a_processor_of_which_nothing_is_known_takes_whole_products(monkeypatch):
    monkeypatch.setattr(tiles, "UNITS", ((1, 1),))
    tiles.units.cache_clear()
    try:
        assert tiles.units() == (tiles.GROUP, tiles.WIDE)
    finally:
        tiles.units.cache_clear()


def test_components_of_several_slots_per_station(rng):
    data = rng.standard_normal((5, 3, 2 * LENGTH)).astype(np.float32)
    pairs = ("ZZ", "ZN", "NZ", "EN")
    found, _ = correlate(data, LAGS, BAND, length=LENGTH, components=("Z", "N", "E"), pairs=pairs)
    cut = data.reshape(5, 3, 2, LENGTH)
    layout = Layout(5, ("Z", "N", "E"), pairs, 8)
    assert layout.stations_per_block == 2
    for row, (i, j) in enumerate(zip(*layout.pair_indices(), strict=True)):
        for pair in pairs:
            a, b = ("ZNE".index(letter) for letter in pair)
            expected = reference.correlate_pair(cut[i, a], cut[j, b], [True, True], LAGS, RATE, BAND, 0.01, "phase")
            assert np.abs(found[pair][0][row] - expected).max() <= 3e-6 * np.abs(expected).max()


def test_a_spectrum_that_is_zero_at_a_quarter_of_the_rate_leaves_everything_finite(rng):
    signs = np.sign(rng.standard_normal((2, LENGTH)))
    for x in signs:
        for phase in range(2):  # make the sums over t = 0 and 2, and over t = 1 and 3 (modulo 4) cancel exactly
            plus, minus = np.arange(phase, LENGTH, 4), np.arange(phase + 2, LENGTH, 4)
            x[minus] = rng.permutation(x[plus])
    grid = spectral_grid(LENGTH, LAGS, RATE, BAND)
    quarter = np.flatnonzero(np.isclose(grid.frequency_hz, 1.0))
    assert len(quarter) == 1, "the bin at a quarter of the rate must exist for this test to mean anything"
    spectra = window_spectra(one_bit(signs.astype(np.float32))[:, None], grid)
    spectra[:, :, quarter] = 0  # exactly, whatever the rounding of the library
    for method in ("phase", "running-mean"):
        white = whiten(spectra, Whitening(method), grid, np.ones(grid.bins, np.float32))
        assert np.isfinite(white).all()
        assert (white[:, :, quarter] == 0).all()
    found, _ = correlate(signs, LAGS, BAND)
    assert np.isfinite(found["ZZ"][0]).all()


def test_a_window_of_zeros_leaves_everything_finite(rng):
    data = rng.standard_normal((3, LENGTH))
    data[1] = 0
    for whitening in ("none", "phase", "running-mean"):
        found, _ = correlate(data, LAGS, BAND, whitening=whitening)
        assert np.isfinite(found["ZZ"][0]).all()
        assert (found["ZZ"][0][0] == 0).all()


def test_phase_whitening_of_one_station_with_itself_is_the_band_limited_impulse(rng):
    x = rng.standard_normal(LENGTH)
    found, _ = correlate([x, x], LAGS, BAND, taper=0.0)
    grid = spectral_grid(LENGTH, LAGS, RATE, BAND)
    impulse = to_lags(np.ones((1, grid.bins), np.complex64), grid)[0]
    np.testing.assert_allclose(found["ZZ"][0][0], impulse, atol=1e-6 * impulse.max())


def test_unbiased_per_lag_with_masks(rng):
    data = rng.standard_normal((2, 2 * LENGTH))
    masks = np.ones((2, 1, 2 * LENGTH), bool)
    masks[0, 0, 100:300] = masks[1, 0, LENGTH + 500 : LENGTH + 700] = masks[1, 0, :40] = False
    data *= masks[:, 0]
    found, _ = correlate(data, LAGS, (1e-9, RATE / 2), length=LENGTH, masks=masks, whitening="none", taper=0.0)
    a, b = data.reshape(2, 2, LENGTH)
    ma, mb = masks[:, 0].reshape(2, 2, LENGTH).astype(float)
    for k, lag in enumerate(range(-LAGS, LAGS + 1)):
        first, second = slice(max(0, -lag), LENGTH - max(0, lag)), slice(max(0, lag), LENGTH + min(0, lag))
        products = sum(np.dot(x[first], y[second]) for x, y in zip(a, b, strict=True))
        count = sum(np.dot(x[first], y[second]) for x, y in zip(ma, mb, strict=True))
        # the band leaves out 0 Hz: allow for the product of the windows' means
        means = sum(abs(x.mean() * y.mean()) * LENGTH for x, y in zip(a, b, strict=True))
        assert found["ZZ"][0][0, k] == pytest.approx(products / count, abs=2 * means / count + 1e-6)


def test_products_per_lag_counts(rng):
    grid = spectral_grid(50, 10, 1.0, (0.1, 0.4))
    masks = rng.random((2, 3, 50)) < 0.7
    expected = [
        sum(m1[t] and m2[t + k] for m1, m2 in zip(*masks, strict=True) for t in range(50) if 0 <= t + k < 50)
        for k in range(-10, 11)
    ]
    assert products_per_lag(*masks, grid).tolist() == expected
    full = np.ones((1, 50), bool)
    assert (products_per_lag(full, full, grid) == full_products_per_lag(grid)).all()


@pytest.mark.parametrize("whitening", ["none", "phase", "running-mean"])
def test_bits_do_not_depend_on_absent_stations_or_rejected_windows(rng, whitening):
    stations, windows = 7, 4
    data = rng.standard_normal((stations, windows * LENGTH)).astype(np.float32)
    alone, _ = correlate(data, LAGS, BAND, length=LENGTH, whitening=whitening)

    where = [0, 2, 3, 8, 9, 15, 17]  # the same stations among absent ones and ones with rejected windows
    wide = rng.standard_normal((20, windows * LENGTH)).astype(np.float32)
    wide[where] = data
    others = sorted(set(range(20)) - set(where))
    valid = np.ones((20, windows), bool)
    valid[others] = rng.random((len(others), windows)) < 0.5
    crowd, _ = correlate(wide, LAGS, BAND, length=LENGTH, whitening=whitening, absent=others[:5], valid=valid)
    small, large = Layout(stations, ("Z",), ("ZZ",), 8), Layout(20, ("Z",), ("ZZ",), 8)
    for a, i in enumerate(where):
        for b in range(a + 1, stations):
            one, other = alone["ZZ"][0][small.row(a, b)], crowd["ZZ"][0][large.row(i, where[b])]
            assert one.tobytes() == other.tobytes(), f"pair {a}-{b} changed its bits"


@pytest.mark.parametrize("instances", [2, 3, 7])
def test_bits_do_not_depend_on_the_strips_computed_at_once(rng, instances):
    data = rng.standard_normal((30, 2 * LENGTH)).astype(np.float32)
    together, _ = correlate(data, LAGS, BAND, length=LENGTH)
    shared, _ = correlate(data, LAGS, BAND, length=LENGTH, instances=instances)
    assert together["ZZ"][0].tobytes() == shared["ZZ"][0].tobytes()


def test_rows_are_sorted_and_strips_contiguous():
    for stations, components, block in ((1, 1, 8), (2, 1, 8), (8, 1, 8), (9, 1, 8), (17, 3, 8), (130, 1, 64)):
        layout = Layout(stations, tuple("ZNE"[:components]), ("ZZ",), block)
        i, j = layout.pair_indices()
        assert [layout.row(a, b) for a, b in zip(i, j, strict=True)] == list(range(layout.rows))
        rows = [r for strip in layout.strips for r in layout.strip_rows(strip)]
        assert rows == list(range(layout.rows))
        for strip in layout.strips:
            assert {layout.block_of(i[r]) for r in layout.strip_rows(strip)} == {strip}
        for station in range(stations):
            needed = {s for s in layout.strips if station in layout.stations_needed(s)}
            assert set(layout.strips_of(station)) == needed


def test_a_chunk_that_stays_incomplete_is_an_error_that_names_the_missing():

    bands = (Band.of(LENGTH, LAGS, RATE, BAND),)
    layout = Layout(3, ("Z",), ("ZZ",), 8)
    items = [conditioned(s, np.random.default_rng(s).standard_normal(LENGTH)) for s in (0, 2)]
    with pytest.raises(ElementError, match=r"chunk 0 never got the items of XX\.S1"):
        run_chain(
            items, TransformStation(bands, LENGTH), CorrelateStrips(layout, bands, 1, ("XX.S0", "XX.S1", "XX.S2"))
        )


def test_accounts_reach_the_end_of_the_strip(rng):
    data = rng.standard_normal((10, LENGTH))
    _, ends = correlate(data, LAGS, BAND, absent=(4,))
    first = next(e for e in ends if e.strip == 0)
    assert isinstance(first, StripEnd)
    assert [a.status for a in first.accounts] == ["used"] * 4 + ["absent"] + ["used"] * 5
