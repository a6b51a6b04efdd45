"""Figures of results. Every function returns a Matplotlib figure, which :func:`save` writes and notebooks show."""

from xcorr.results.figures.heat import heat_gather, heat_matrix, waterfall
from xcorr.results.figures.monitoring import interferogram, similarity, velocity_changes
from xcorr.results.figures.network import availability, matrix, station_map
from xcorr.results.figures.sections import pair, record_section
from xcorr.results.figures.spectra import psd, spectra
from xcorr.results.figures.style import PlotError, encoded, save

__all__ = [
    "PlotError",
    "availability",
    "encoded",
    "heat_gather",
    "heat_matrix",
    "interferogram",
    "matrix",
    "pair",
    "psd",
    "record_section",
    "save",
    "similarity",
    "spectra",
    "station_map",
    "velocity_changes",
    "waterfall",
]
