"""Fourier transforms: lengths, precision, and the libraries that may be chosen."""

import importlib.util
import sys

import numpy as np
import pytest
import scipy.fft
from archives import settings, station_list, write

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.pes.correlating.gridding import gridding
from xcorr.pes.correlating.tiles import BATCH, to_lags
from xcorr.pes.preparing.whiten import spectral_grid
from xcorr.pes.transforms import fft


def test_fast_lengths_are_those_of_pocketfft():
    for n in (*range(1, 3000), 14_880, 345_600, 345_601, 1_000_003):
        assert fft.next_fast_len(n) == scipy.fft.next_fast_len(n, real=True)


@pytest.mark.parametrize("n", [16, 15, 1500])
def test_single_precision_stays_single(rng, n):
    data = rng.standard_normal((3, 12)).astype(np.float32)
    spectra = fft.rfft(data, n)
    assert spectra.dtype == np.complex64
    np.testing.assert_allclose(spectra, np.fft.rfft(data.astype(float), n), atol=1e-5)
    assert fft.library("pocketfft").irfft(spectra, n).dtype == np.float32


@pytest.mark.parametrize(
    "name", ["pocketfft", "fftw", "ducc", *(["mkl"] if importlib.util.find_spec("mkl_fft") else [])]
)
def test_a_library_gives_the_same_numbers_and_the_same_bits_in_every_batch(rng, name):
    grid = spectral_grid(1200, 100, 4.0, (0.1, 1.0), name)
    data = rng.standard_normal((BATCH, 1200)).astype(np.float32)
    library = fft.library(name)
    spectra = library.rfft(data, grid.nfft)
    np.testing.assert_allclose(spectra, np.fft.rfft(data.astype(float), grid.nfft), atol=1e-3)
    back = library.irfft(spectra, grid.nfft)
    assert (spectra.dtype, back.dtype) == (np.complex64, np.float32)
    np.testing.assert_allclose(back[:, :1200], data, atol=1e-5)
    part = spectra[:, grid.first : grid.stop]
    for short in (None, gridding(grid)):
        given = np.concatenate([part if short is None else short.spread(part)] * 2)
        whole = to_lags(given, grid, short)
        assert whole[:BATCH].tobytes() == whole[BATCH:].tobytes()  # whatever the library leaves in its input
        for rows in (1, 5, BATCH - 1):
            assert to_lags(given[:rows].copy(), grid, short).tobytes() == whole[:rows].tobytes()


def test_the_library_is_part_of_a_campaign(tmp_path, monkeypatch):
    for code in ("AAA", "BBB"):
        write(tmp_path / "sds", code)
    stations = station_list(tmp_path, "AAA", "BBB")
    first = settings(tmp_path / "sds")
    run_campaign(stations, tmp_path / "x.xcorr", first)
    other = settings(tmp_path / "sds", run={"fft": "ducc"})
    assert other.hash() != first.hash()
    run_campaign(stations, tmp_path / "y.xcorr", other)
    with results.open(tmp_path / "x.xcorr") as a, results.open(tmp_path / "y.xcorr") as b:
        x, y = (r.get("XX.AAA", "XX.BBB").values for r in (a, b))
    np.testing.assert_allclose(x, y, atol=1e-4 * np.abs(x).max())
    assert x.tobytes() != y.tobytes()
    monkeypatch.setitem(sys.modules, "pyfftw", None)
    fft.library.cache_clear()
    with pytest.raises(fft.FftError, match="run.fft = 'fftw': the library cannot be loaded.*pip install pyfftw"):
        run_campaign(stations, tmp_path / "z.xcorr", settings(tmp_path / "sds", run={"fft": "fftw"}))
    assert not (tmp_path / "z.xcorr").exists()
