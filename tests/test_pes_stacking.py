"""Stacks against plain float64 loops and against ObsPy, and the memory they take."""

import subprocess
import sys
import textwrap

import numpy as np
import obspy.signal.util
import pytest
import scipy.signal

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.pes.stacking.methods import METHODS, Stacking, s_transform, stacked
from xcorr.settings.toml import build, load

HOW = Stacking(4.0)


def correlations(rng, pieces=8, rows=3, lags=161):
    t = np.arange(lags) - lags // 2
    signal = np.exp(-0.5 * ((np.abs(t) - 30) / 8) ** 2) * np.cos(0.6 * t)
    return signal + 0.8 * rng.standard_normal((pieces, rows, lags))


def plain_stack(method, c, n, how):
    """One row: c [piece, lag], n [piece]."""
    used = n > 0
    c, n = c[used].astype(float), n[used].astype(float)
    linear = np.average(c, axis=0, weights=n)
    if method == "linear":
        return linear
    if method == "pws":
        fast = scipy.fft.next_fast_len(c.shape[1], real=True)
        phasors = [np.exp(1j * np.angle(scipy.signal.hilbert(x, N=fast)[: len(x)])) for x in c]
        coherence = np.abs(np.average(phasors, axis=0, weights=n))
        half = max(0, round((how.pws_timegate_s * how.rate_hz - 1) / 2))
        smooth = [coherence[max(0, k - half) : k + half + 1].mean() for k in range(len(coherence))]
        return linear * np.array(smooth) ** how.pws_power
    if method == "nroot":
        mean = np.average(np.sign(c) * np.abs(c) ** (1 / how.nroot_order), axis=0, weights=n)
        return np.sign(mean) * np.abs(mean) ** how.nroot_order
    if method == "selective":
        r = np.array([np.dot(x, linear) / np.linalg.norm(x) / np.linalg.norm(linear) for x in c])
        keep = r >= how.selective_threshold
        return np.average(c[keep], axis=0, weights=n[keep]) if keep.any() else np.full(c.shape[1], np.nan)
    if method == "acf":
        length = scipy.fft.next_fast_len(2 * c.shape[1], real=True)
        x = np.fft.rfft(c, length)
        cross = sum(x[i] * np.conj(x[j]) for i in range(len(c)) for j in range(len(c)) if i != j)
        weight = np.abs(cross) / ((len(c) - 1) * (np.abs(x) ** 2).sum(axis=0)) if len(c) > 1 else 1.0
        return np.fft.irfft(np.fft.rfft(linear, length) * weight**how.acf_power, length)[: c.shape[1]]
    if method == "robust":
        stack = np.median(c, axis=0)
        for _ in range(20):
            s = stack / np.linalg.norm(stack)
            d = np.dot(c, s)
            w = np.abs(d) / np.linalg.norm(c, axis=1) / np.linalg.norm(c - d[:, None] * s, axis=1)
            new = np.average(c, axis=0, weights=w * n)
            if np.linalg.norm(new - stack) <= 1e-5 * np.linalg.norm(stack):
                return new
            stack = new
        return stack
    return plain_tf_pws(c, n, how, linear)


def plain_s_transform(x, k):
    """S-transform of one trace at one bin, by its definition in time (Stockwell et al. 1996, eq. 5), periodic."""
    size = len(x)
    out = np.zeros(size, complex)
    for t in range(size):
        total = 0
        for repeat in (-2, -1, 0, 1, 2):
            distance = t - (np.arange(size) + repeat * size)
            gauss = k / size / np.sqrt(2 * np.pi) * np.exp(-0.5 * (distance * k / size) ** 2)
            total = total + np.sum(x * gauss * np.exp(-2j * np.pi * k * np.arange(size) / size))
        out[t] = total
    return out


def plain_tf_pws(c, n, how, linear):
    size = c.shape[1]
    spectrum = np.fft.rfft(linear)
    low, high = how.tf_pws_band_hz or (0, np.inf)
    for k in range(1, size // 2 + 1):
        if not low <= k * how.rate_hz / size <= high:
            continue
        turn = np.exp(2j * np.pi * k * np.arange(size) / size)
        phases = [np.exp(1j * np.angle(plain_s_transform(x, k) * turn)) for x in c]
        weight = np.abs(np.average(phases, axis=0, weights=n)) ** how.tf_pws_power
        spectrum[k] = np.sum(plain_s_transform(linear, k) * weight)
    return np.fft.irfft(spectrum, size)


@pytest.mark.parametrize("method", METHODS)
def test_stacks_are_the_plain_ones(rng, method):
    c = correlations(rng, lags=61 if method == "tf-pws" else 161).astype(np.float32)
    n = rng.integers(1, 5, (8, 3))
    n[2, 0] = n[5, 1] = n[6, 1] = 0
    c[n == 0] = np.nan
    how = Stacking(4.0, 1.5, 2.0, 1.7, (0.2, 1.1), 3.0, 0.25, 1.3)
    got = stacked(method, c, n, how)
    for row in range(3):
        expected = plain_stack(method, c[:, row], n[:, row], how)
        np.testing.assert_allclose(got[row], expected, atol=1e-6 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_of_equal_pieces_the_stack_is_one_of_them_and_of_none_nan(rng, method):
    one = correlations(rng, 1, 2)
    n = np.array([[3, 0], [2, 0], [5, 0]])
    got = stacked(method, np.repeat(one, 3, axis=0), n, HOW)
    np.testing.assert_allclose(got[0], one[0, 0], atol=1e-9 * np.abs(one).max(), rtol=0)
    assert np.isnan(got[1]).all()
    alone = stacked(method, one, np.array([[4, 1]]), HOW)
    np.testing.assert_allclose(alone, one[0], atol=1e-9 * np.abs(one).max(), rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_scaling_and_order_of_pieces_do_not_matter(rng, method):
    c, n = correlations(rng), rng.integers(1, 5, (8, 3))
    stack = stacked(method, c, n, HOW)
    scale = np.abs(stack).max()
    np.testing.assert_allclose(stacked(method, 1e-9 * c, n, HOW), 1e-9 * stack, atol=1e-12 * scale, rtol=1e-6)
    mixed = rng.permutation(8)
    np.testing.assert_allclose(stacked(method, c[mixed], n[mixed], HOW), stack, atol=1e-7 * scale, rtol=0)


@pytest.mark.parametrize(("method", "theirs"), [("linear", "linear"), ("pws", ("pw", 2)), ("nroot", ("root", 2))])
def test_stacks_are_obspys(rng, method, theirs):
    """ObsPy takes analytic signals of the exact length, ours of the next fast length: 160 is one."""
    c = correlations(rng, lags=160)
    got = stacked(method, c, np.ones((8, 3), int), HOW)
    for row in range(3):
        np.testing.assert_allclose(got[row], obspy.signal.util.stack(c[:, row].copy(), theirs), atol=1e-12)


def test_the_sum_of_an_s_transform_over_time_is_the_spectrum(rng):
    x = rng.standard_normal(100)
    bins = np.array([1, 7, 30, 50])
    np.testing.assert_allclose(s_transform(x, bins).sum(axis=-1), np.fft.fft(x)[bins], atol=1e-12)


def test_an_outlier_weighs_less_in_the_robust_stack_and_the_selective_one(rng):
    c = correlations(rng, 10, 1)
    clean = c[1:, 0].mean(axis=0)
    c[0] = -20 * rng.standard_normal(c.shape[2])
    n = np.ones((10, 1), int)
    distance = {m: np.linalg.norm(stacked(m, c, n, HOW)[0] - clean) for m in ("linear", "robust")}
    assert distance["robust"] < 0.2 * distance["linear"]


def test_no_piece_over_the_threshold_gives_nan(rng):
    c = correlations(rng, 4, 1)
    assert np.isnan(stacked("selective", c, np.ones((4, 1), int), Stacking(4.0, selective_threshold=0.9999))).all()


def test_unknown_method(rng):
    with pytest.raises(ValueError, match="'mean' is not one of linear, pws"):
        stacked("mean", correlations(rng), np.ones((8, 3), int), HOW)


def test_every_stack_and_its_parameters_reach_the_results(tmp_path):
    from conftest import ROOT

    configs = ROOT / "configs" / "demo"
    plain = load(configs / "xcorr.toml")
    parameters = {
        "pws_power": 1.5,
        "pws_timegate_s": 3.0,
        "tf_pws_power": 1.2,
        "nroot_order": 3.0,
        "selective_threshold": 0.7,
        "acf_power": 0.7,
    }
    plain["stack"] = {"methods": list(METHODS), **parameters}
    plain["correlate"] = {**plain.get("correlate", {}), "pairs": ["XX.D00-XX.D0*"], "max_lag_s": 20}
    settings = build(plain)
    assert run_campaign(configs / "stations.txt", tmp_path / "x.xcorr", settings).exit_code == 0
    how = Stacking(settings.condition.rate_hz, tf_pws_band_hz=settings.whiten_band_hz, **parameters)
    with results.open(tmp_path / "x.xcorr") as found:
        assert found.stacks == sorted(METHODS)
        series = found.get("XX.D00", "XX.D03", stack=None)
        c, n = series.values, series.coords["n_windows"].values
        different = []
        for method in METHODS:
            got = found.get("XX.D00", "XX.D03", stack=method)
            expected = plain_stack(method, c, n, how)
            np.testing.assert_allclose(got.values, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)
            assert got.attrs["n_windows"] == n.sum()
            different.append(got.values)
            error = found.get("XX.D00", "XX.D03", stack="linear").coords["std_error"].values
            assert got.coords["std_error"].values.tobytes() == error.tobytes(), "the error is the linear stack's"
        for k, one in enumerate(different):
            for other in different[:k]:
                assert np.abs(one - other).max() > 1e-3 * np.abs(one).max()


PROGRAM = """
    import resource, sys
    import h5py, numpy as np
    from xcorr.core import WorkflowGraph
    from xcorr.mappings import run
    from xcorr.pes import StackRows, StackSource
    from xcorr.pes.correlating.layout import Layout
    from xcorr.pes.stacking.stack import SeriesShape, stack_requests
    from xcorr.pes.stacking.methods import Stacking

    folder, methods, stations = sys.argv[1], sys.argv[2].split(","), int(sys.argv[3])
    pieces, lags = 30, 961
    layout = Layout(stations, ("Z",), ("ZZ",), 8000)
    rng = np.random.default_rng(0)
    with h5py.File(folder + "/shard.h5", "w") as file:
        data = file.create_dataset("series/ZZ", (pieces, layout.rows, lags), "f4")
        for k in range(pieces):
            for first in range(0, layout.rows, 1000):
                part = data[k, first : first + 1000].shape
                data[k, first : first + 1000] = rng.standard_normal(part, dtype=np.float32)
        file["series_n_windows/ZZ"] = np.full((pieces, layout.rows), 2, np.int32)
    shape = SeriesShape(("",), ("ZZ",), lags, 1, pieces)
    requests = stack_requests(layout, lags, [(0, 0, "shard.h5")], np.zeros(layout.rows))
    graph = WorkflowGraph()
    graph.connect(StackSource(tuple(requests)), "output", StackRows(folder, shape, ("ZZ",), methods, Stacking(
        4.0, tf_pws_band_hz=(0.05, 1.0))), "input")
    rows = 0
    for item in run(graph).results["StackRows"]["output"]:
        rows += len(item.n_windows)
        assert all(np.isfinite(item.means[m]).all() for m in methods)
    assert rows == layout.rows
    print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("methods", "stations"), [("robust,pws,nroot,selective,acf", 142), ("tf-pws", 46)])
def test_stacks_of_many_pairs_in_bounded_memory(tmp_path, methods, stations):
    """142 stations: 10,011 pairs; 46: 1,035; 30 substacks each."""
    program = tmp_path / "stack.py"
    program.write_text(textwrap.dedent(PROGRAM))
    done = subprocess.run(
        [sys.executable, program, tmp_path, methods, str(stations)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows, kilobytes = map(int, done.stdout.split())
    assert rows == stations * (stations - 1) // 2
    assert kilobytes < 2_000_000
