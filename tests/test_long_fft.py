"""FFTs of long traces by short ones: the same spectra in another order, the same traces."""

import numpy as np
import pytest

from xcorr.pes.transforms import long_fft


@pytest.mark.parametrize(("length", "unit"), [(2, 1), (12, 2), (1000, 5), (3750, 125), (349_920, 1), (20_000, 10)])
def test_shapes_are_even_and_balanced(length, unit):
    rows, columns = long_fft.shape_of(length, unit)
    assert rows * columns == length
    assert rows % 2 == 0
    assert columns % unit == 0
    others = [r for r in range(2, length + 1, 2) if length % r == 0 and (length // r) % unit == 0]
    assert max(rows, columns) == min(max(r, length // r) for r in others)


def ordered(trace, rows):
    """The spectrum that NumPy gives, over the root of the length, in the order of long_fft."""
    spectrum = np.fft.rfft(trace.astype(float)) / len(trace) ** 0.5
    return long_fft.in_order(spectrum, rows)


@pytest.mark.parametrize(("rows", "columns"), [(2, 1), (2, 7), (12, 35), (30, 34), (64, 100)])
def test_equals_one_transform(rng, rows, columns):
    trace = rng.standard_normal(rows * columns).astype(np.float32)
    spectrum = long_fft.forward(trace, rows)
    assert spectrum.dtype == np.complex64
    np.testing.assert_allclose(spectrum, ordered(trace, rows), atol=3e-6)
    back = long_fft.back(spectrum, rows)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, trace, atol=3e-6)


def test_frequencies_are_signed_and_each_is_there_once():
    found = long_fft.frequencies(6, 5)
    assert found.shape == (4, 5)
    assert found[:, 0].tolist() == [0, 1, 2, 3]
    assert found[0].tolist() == [0, 6, 12, -12, -6]
    every = {*found.ravel().tolist(), *(-found[1:3]).ravel().tolist()}  # rows 0 and R/2 are their own mirrors
    assert {k % 30 for k in every} == set(range(30))


@pytest.mark.parametrize(("columns", "other"), [(40, 10), (40, 11), (35, 12), (10, 40), (11, 40), (9, 9)])
def test_another_number_of_columns_is_another_rate(rng, columns, other):
    """A trace of low frequencies, resampled: its values between the samples."""
    rows, wanted = 6, rng.standard_normal((3, 2))

    def trace(count):
        t = np.arange(count) / count
        return sum(a * np.cos(2 * np.pi * (k + 1) * t) + b * np.sin(2 * np.pi * (k + 1) * t)
                   for k, (a, b) in enumerate(wanted)).astype(np.float32)  # fmt: skip

    spectrum = long_fft.resized(long_fft.forward(trace(rows * columns), rows), other)
    found = long_fft.back(spectrum, rows) * (other / columns) ** 0.5
    np.testing.assert_allclose(found, trace(rows * other), atol=1e-5)
