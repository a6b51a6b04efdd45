"""The recipe of a campaign: the parameters of every step, computed once from its settings."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any

from xcorr.pes.preparing.condition import Conditioning
from xcorr.pes.preparing.estimator import Estimator
from xcorr.pes.preparing.normalize import Normalization
from xcorr.pes.preparing.whiten import Band, Whitening
from xcorr.pes.preparing.windows import Windowing, window_count
from xcorr.pes.stacking.methods import Stacking
from xcorr.pes.stacking.stack import SeriesShape
from xcorr.settings.schema import Settings


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The parameters of every step, computed from the settings, in samples and exact rates.

    Workflow, forecast, progress and tables read their parameters here. No parameter is computed in a second place.
    """

    settings: Settings

    @functools.cached_property
    def conditioning(self) -> Conditioning:
        """How traces are conditioned."""
        c = self.settings.condition
        return Conditioning(c.rate_hz, c.band_hz, c.corners, self.settings.edge_s)

    @functools.cached_property
    def windowing(self) -> Windowing:
        """The windows, and the limits of their quality."""
        w, q = self.settings.window, self.settings.quality
        length, step = self.settings.samples(w.length_s), self.settings.samples(w.step_s)
        return Windowing(length, step, w.min_coverage, **_same_names(Windowing, q))

    @functools.cached_property
    def normalization(self) -> Normalization:
        """How amplitudes are evened out in time."""
        same = _same_names(Normalization, self.settings.normalize)
        return Normalization(**same | {"window_s": self.settings.normalize_window_s})

    @functools.cached_property
    def whitening(self) -> Whitening:
        """How spectra are evened out."""
        s = self.settings
        return Whitening(**_same_names(Whitening, s.whiten) | {"smooth_hz": s.smooth_hz(s.whiten)})

    @functools.cached_property
    def bands(self) -> tuple[Band, ...]:
        """The bands of the spectra, the main one first."""
        s = self.settings
        edges = [("", s.whiten_band_hz), *((b.name, b.band_hz) for b in s.bands)]
        sizes, rate, fft = (self.windowing.length, self.max_lag), s.condition.rate_hz, s.run.fft
        bands = tuple(Band.of(*sizes, rate, hz, s.taper_hz(hz), name, fft) for name, hz in edges)
        return tuple(b.whole() for b in bands) if s.correlate.method == "phase" else bands

    @functools.cached_property
    def estimator(self) -> Estimator:
        """Which correlation is estimated."""
        c = self.settings.correlate
        arrays, smooth = self.settings.run.arrays, self.settings.smooth_hz(c)
        unbiased = self.settings.whiten.method == "none" and c.method in ("cross-correlation", "phase")
        return Estimator(c.method, unbiased, c.amplitude, c.water_level, smooth, c.whiten_autocorrelations, arrays)

    @functools.cached_property
    def stacking(self) -> Stacking:
        """The parameters of the stack methods."""
        s = self.settings
        # one Stacking serves all bands, so no single band fits
        band = None if s.bands or s.correlate.method == "phase" else s.whiten_band_hz
        return Stacking(s.condition.rate_hz, tf_pws_band_hz=band, **_same_names(Stacking, s.stack))

    @functools.cached_property
    def max_lag(self) -> int:
        """Lags kept on each side, in samples."""
        return self.settings.samples(self.settings.correlate.max_lag_s)

    @functools.cached_property
    def windows(self) -> int:
        """Number of windows in a chunk."""
        samples = self.settings.samples(self.settings.data.chunk_s)
        return window_count(samples, self.windowing.length, self.windowing.step)

    @functools.cached_property
    def substacks(self) -> tuple[tuple[int, int], ...]:
        """For each piece of a chunk, the range of windows that begin in the piece."""
        size = self.settings.samples(self.settings.substack_s)
        count = self.settings.data.chunk_s // self.settings.substack_s
        firsts = [min(-(-k * size // self.windowing.step), self.windows) for k in range(count + 1)]
        return tuple(itertools.pairwise(firsts))

    @functools.cached_property
    def shape(self) -> SeriesShape:
        """The bands, component pairs, lags and substacks that the shard of one chunk holds."""
        names = tuple(b.name for b in self.bands)
        return SeriesShape(names, self.settings.component_pairs, 2 * self.max_lag + 1, 1, len(self.substacks))

    @property
    def shares_weights(self) -> bool:
        """Whether the components of a station share weights, so that a window counts for all or for none."""
        return self.settings.rotates or "station" in (self.settings.normalize.per, self.settings.whiten.per)

    @property
    def keeps_power(self) -> bool:
        """Whether the power before whitening is kept with the spectra, for autocorrelations."""
        return self.settings.correlate.autocorrelations and self.estimator.keeps_power


def _same_names(kind: Any, section: Any) -> dict[str, Any]:
    """Return the settings of a section that have the names of fields of a class: a new one needs no line here."""
    return {f.name: getattr(section, f.name) for f in dataclasses.fields(kind) if hasattr(section, f.name)}
