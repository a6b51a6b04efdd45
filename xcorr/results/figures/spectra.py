"""Spectra: of stacks, and of waveforms before and after conditioning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from xcorr.results.errors import ResultsError
from xcorr.results.figures.style import axes_for, new_figure, rows_of, what, with_defaults
from xcorr.results.reader import Results
from xcorr.results.selection import Selection

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from xcorr.results.sample import Sample

SEGMENTS = 16  # into which a trace is cut for its spectrum


@with_defaults
def spectra(
    results: Results,
    components: str = "ZZ",
    stack: str | None = None,
    band: str = "",
    selection: Selection | None = None,
    insist: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Draw the amplitude spectra of stacks: the median of all pairs, and where four fifths of them lie.

    Raises ResultsError if no pair has data.
    """
    stack = stack or results.main_stack
    rows = rows_of(results, selection, components, stack, band, insist)
    gather = results.gather(components, stack, band, rows, insist)
    gather = gather[np.isfinite(gather).all(axis=1)].astype(np.float64)
    if not len(gather):
        raise ResultsError(f"no pair has a stack of {components}" + (" among those selected" if selection else ""))
    step = results.lags_s[1] - results.lags_s[0]
    size = np.abs(np.fft.rfft(gather)) * step
    frequency = np.fft.rfftfreq(gather.shape[1], step)
    figure, axes = axes_for(ax, 8, 5)
    low, middle, high = np.percentile(size, (10, 50, 90), axis=0)
    axes.fill_between(frequency[1:], low[1:], high[1:], alpha=0.3, label="80 % of pairs")
    axes.plot(frequency[1:], middle[1:], color="black", linewidth=1, label="median")
    _band(axes, results, band)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("frequency (Hz)")
    units = results.units_of(components)
    axes.set_ylabel("amplitude spectral density" + ("" if units == "1" else f" ({units} s)"))
    axes.set_title(f"{what(results, components, stack, band)}, {len(gather)} pairs", fontsize="medium")
    axes.legend(fontsize="small", loc="best")
    return figure  # type: ignore[no-any-return]


def _band(axes, results: Results, band: str) -> None:  # type: ignore[no-untyped-def]
    s = results.settings
    own = {b.name: b.band_hz for b in s.bands}
    for k, edge in enumerate(own.get(band, s.whiten_band_hz)):
        axes.axvline(edge, color="0.5", linestyle=":", label=None if k else "band")


@with_defaults
def psd(sample: Sample) -> Figure:
    """Draw the power spectral densities of one station in one chunk: raw, and after each step of preparing.

    Welch's method (1967, IEEE Trans. Audio Electroacoust. 15), with at least 16 segments half of which overlap.
    """
    from scipy.signal import welch

    figure, all_axes = new_figure(8, 3.2 * len(sample.traces), rows=len(sample.traces))
    for axes, (channel, steps) in zip(np.atleast_1d(all_axes), sample.traces.items(), strict=True):
        for k, (name, unit, rate, pieces) in enumerate(steps):
            longest = max(pieces, key=len)
            frequency, power = welch(longest, rate, nperseg=max(8, 2 * len(longest) // (SEGMENTS + 1)))
            axes.plot(frequency[1:], power[1:], color=f"C{k}", linewidth=1, label=f"{name} ({unit})")
        for edge in sample.band_hz:
            axes.axvline(edge, color="0.5", linestyle=":")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_title(f"{channel}, {sample.start} UTC", fontsize="medium")
        axes.set_ylabel("power spectral density")
        axes.legend(fontsize="small", loc="best")
    axes.set_xlabel("frequency (Hz); dotted: condition.band_hz")
    return figure  # type: ignore[no-any-return]
