"""Velocity changes (dv/v) from the series: stretching, moving-window cross-spectra, wavelet cross-spectra."""
