"""Figures of results. Every function returns a Matplotlib figure, which :func:`save` writes and notebooks show.

Functions that draw a single picture take ``ax``: Matplotlib axes of yours to draw in.
"""

from xcorr.results.figures.dispersion import (
    bessel,
    dispersion_curves,
    frequency_time,
    period_map,
    velocity_histograms,
    velocity_paths,
)
from xcorr.results.figures.heat import heat_gather, heat_matrix, waterfall
from xcorr.results.figures.monitoring import interferogram, similarity, velocity_changes
from xcorr.results.figures.network import availability, matrix, station_map
from xcorr.results.figures.sections import pair, record_section
from xcorr.results.figures.spectra import psd, spectra
from xcorr.results.figures.style import PlotError, encoded, save

__all__ = [
    "PlotError",
    "availability",
    "bessel",
    "dispersion_curves",
    "encoded",
    "frequency_time",
    "heat_gather",
    "heat_matrix",
    "interferogram",
    "matrix",
    "pair",
    "period_map",
    "psd",
    "record_section",
    "save",
    "similarity",
    "spectra",
    "station_map",
    "velocity_changes",
    "velocity_histograms",
    "velocity_paths",
    "waterfall",
]
