"""All settings of a run together, and which of them decide results."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from xcorr.core import XcorrError
from xcorr.pes.preparing.orient import stored_pairs
from xcorr.settings.sections import (
    Condition,
    Correlate,
    Data,
    Normalize,
    Provenance,
    Quality,
    Run,
    Stack,
    Whiten,
    Window,
)
from xcorr.settings.tables import Dispersion, FurtherBand, Insert, Keep, Monitor

# the settings of version 0.1.0 that decide results; all of them are in the identity of every campaign
_FIRST = {
    "data": "channels locations chunk_s source metadata start end",
    "condition": "rate_hz band_hz corners edge_s response water_level_db max_gap_s zeros_are_gaps_s",
    "window": "length_s step_s min_coverage",
    "quality": "max_over_std kurtosis sta_lta sta_s lta_s dead clipped catalogue catalogue_magnitude catalogue_after_s",
    "normalize": "method window_s per band_hz clip_n mute_factor",
    "whiten": "method band_hz taper_hz smooth_hz per",
    "correlate": "method max_lag_s components block autocorrelations whiten_autocorrelations amplitude water_level "
    "smooth_hz pairs distance_km azimuth_deg networks",
    "stack": "methods substack_s keep_series pws_power pws_timegate_s tf_pws_power nroot_order selective_threshold "
    "acf_power",
    "run": "mapping workers memory open_chunks fft",
    "provenance": "level",
}
UNITS = {"none": "counts^2", "velocity": "(m/s)^2", "displacement": "m^2", "acceleration": "m^2/s^4"}
NUMBERS_BEFORE = {("whiten", "taper_hz"): 0.01, ("whiten", "smooth_hz"): 0.02, ("correlate", "smooth_hz"): 0.02}
FIRST = {section: frozenset(keys.split()) for section, keys in _FIRST.items()}


class SettingsError(XcorrError, ValueError):
    """A setting that is unknown, of the wrong kind, or impossible; the text names key, value and rule."""


def _named_pairs(listed: tuple[str, ...]) -> tuple[str, ...]:
    """Return component pairs; ``"all"`` stands for the nine of Z, N, E."""
    return tuple(a + b for a in "ZNE" for b in "ZNE") if listed == ("all",) else listed


@dataclass(frozen=True)
class Settings:
    """All settings of a run, checked."""

    data: Data = Data()
    condition: Condition = Condition()
    window: Window = Window()
    quality: Quality = Quality()
    normalize: Normalize = Normalize()
    whiten: Whiten = Whiten()
    correlate: Correlate = Correlate()
    stack: Stack = Stack()
    run: Run = Run()
    provenance: Provenance = Provenance()
    bands: tuple[FurtherBand, ...] = ()
    keep: tuple[Keep, ...] = ()
    insert: tuple[Insert, ...] = ()
    monitor: tuple[Monitor, ...] = ()
    dispersion: tuple[Dispersion, ...] = ()

    def __post_init__(self) -> None:
        from xcorr.settings.rules import check  # imported here, because rules imports this module

        check(self)

    @property
    def edge_s(self) -> float:
        """The tapered and masked edge in seconds."""
        edge = self.condition.edge_s
        return 2.0 / self.condition.band_hz[0] if isinstance(edge, str) else edge

    @property
    def normalize_window_s(self) -> float:
        """The running-mean window in seconds."""
        window = self.normalize.window_s
        return 0.5 / self.condition.band_hz[0] if isinstance(window, str) else window

    @property
    def whiten_band_hz(self) -> tuple[float, float]:
        """The main band of the spectra."""
        return self.whiten.band_hz or self.condition.band_hz

    def taper_hz(self, band_hz: tuple[float, float]) -> float:
        """Return the width of the flanks of a band of the spectra."""
        taper, (low, high) = self.whiten.taper_hz, band_hz
        return min(low / 5, (high - low) / 10) if isinstance(taper, str) else taper

    def smooth_hz(self, section: Whiten | Correlate) -> float:
        """Return the width of the smoothing of spectra of a section."""
        return self.condition.band_hz[0] * 2 / 5 if isinstance(section.smooth_hz, str) else section.smooth_hz

    @property
    def outputs(self) -> tuple[str, ...]:
        """Component pairs wanted, of pairs of stations and of autocorrelations."""
        return tuple(dict.fromkeys((*_named_pairs(self.correlate.components), *(self.own_pairs or ()))))

    @property
    def own_pairs(self) -> tuple[str, ...] | None:
        """Component pairs of autocorrelations, if they are not those of pairs of two stations."""
        own = self.correlate.autocorrelation_components
        return None if own is None else _named_pairs(own)

    @property
    def cross_pairs(self) -> tuple[str, ...] | None:
        """Component pairs of Z, N, E, H that are correlated between two stations; None: all."""
        if self.own_pairs is None:
            return None
        return tuple(dict.fromkeys(p for pair in _named_pairs(self.correlate.components) for p in stored_pairs(pair)))

    @property
    def stacked_pairs(self) -> tuple[str, ...]:
        """Component pairs that are stacked: those wanted, and those that are made of them afterwards."""
        return tuple(dict.fromkeys((*self.outputs, *self.stack.components)))

    @property
    def rotation_doubts(self) -> tuple[str, ...]:
        """Why R and T made of N and E would not be those of the ground: settings that scale N and E differently."""
        found = [
            f'{name}.per = "channel" gives N and E of a station different weights, so that R and T are not those of '
            f'the ground; set {name}.per = "station"'
            for name in ("normalize", "whiten")
            if getattr(self, name).method != "none" and getattr(self, name).per == "channel"
        ]
        c = self.correlate
        for key, value in (("method", c.method), ("amplitude", c.amplitude)):
            if value not in ("cross-correlation", "none"):
                found.append(
                    f'correlate.{key} = "{value}" scales each pair of components by itself, so that R and T are not '
                    "those of the ground"
                )
        return tuple(found)

    @functools.cached_property
    def component_pairs(self) -> tuple[str, ...]:
        """Component pairs of Z, N, E, H that are correlated."""
        found = dict.fromkeys(part for pair in self.outputs for part in stored_pairs(pair))
        if self.rotates:  # both traces are needed of what is turned, whichever pairs are kept
            return tuple(a + b for a in "ZNEH" for b in "ZNEH" if a + b in found)
        return tuple(found)

    @property
    def rotates(self) -> bool:
        """Whether radial or transverse components are wanted."""
        return any(c in pair for pair in self.outputs for c in "RT")

    @functools.cached_property
    def components(self) -> tuple[str, ...]:
        """Component letters needed, in the order Z N E H."""
        return tuple(c for c in "ZNEH" if any(c in pair for pair in self.component_pairs))

    @property
    def substack_s(self) -> int:
        """Length of a piece."""
        return self.stack.substack_s or self.data.chunk_s

    def units_of(self, pair: str) -> str:
        """Return the unit of the correlations of a component pair; a hydrophone (H) measures pressure."""
        hydrophones = pair.count("H")
        if not hydrophones or self.units == "1" or self.condition.response == "none":
            return self.units
        motion = {"velocity": "m/s", "displacement": "m", "acceleration": "m/s^2"}[self.condition.response]
        return "Pa^2" if hydrophones == 2 else f"({motion}) Pa"

    @property
    def units(self) -> str:
        """The unit of ground motion's correlations; ``1`` if amplitudes were evened out, in time or in the spectrum."""
        keeps = self.normalize.method in ("none", "clip", "mute") and self.whiten.method == "none"
        if not keeps or self.correlate.method != "cross-correlation" or self.correlate.amplitude != "none":
            return "1"
        return UNITS[self.condition.response]

    def samples(self, seconds: float) -> int:
        """Return a duration in samples of the common rate."""
        return round(seconds * self.condition.rate_hz)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, section by section; options of sources and mappings are tables in theirs."""
        plain = dataclasses.asdict(self)
        for section in ("data", "run"):
            plain[section] |= plain[section].pop("options")
        return plain

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide the series: without places and times of data, stacks, run and provenance."""
        plain = self.as_dict()
        # without inserts, so that campaigns from before [[insert]] keep their hash
        for key in ("provenance", "keep", "monitor", "dispersion", *([] if self.insert else ["insert"])):
            del plain[key]
        plain["run"] = {"fft": self.run.fft, "arrays": self.run.arrays}
        plain["stack"] = {"substack_s": self.stack.substack_s, "series_bits": self.stack.series_bits}
        for key in ("source", "metadata", "start", "end", *self.data.options):
            del plain["data"][key]
        # as numbers, which version 0.1.0 had as defaults
        if len({self.taper_hz(band) for band in (self.whiten_band_hz, *(b.band_hz for b in self.bands))}) == 1:
            plain["whiten"]["taper_hz"] = self.taper_hz(self.whiten_band_hz)
        plain["whiten"]["smooth_hz"] = self.smooth_hz(self.whiten)
        plain["correlate"]["smooth_hz"] = self.smooth_hz(self.correlate)
        return self.without_later_defaults(plain)

    def with_those_of(self, known: Settings) -> Settings:
        """Return these settings with the numbers of a campaign in place of "auto", and with its measurements.

        Earlier versions had numbers as defaults, and their campaigns go on with these. Measurements that ``xcorr
        monitor`` and ``xcorr dispersion`` have recorded stay, unless these settings have others.
        """
        changed: dict[str, dict[str, float]] = {}
        for (name, key), before in NUMBERS_BEFORE.items():
            if getattr(getattr(known, name), key) == before and getattr(getattr(self, name), key) == "auto":
                changed.setdefault(name, {})[key] = before
        sections = {name: dataclasses.replace(getattr(self, name), **keys) for name, keys in changed.items()}
        monitor, dispersion = self.monitor or known.monitor, self.dispersion or known.dispersion
        return dataclasses.replace(self, monitor=monitor, dispersion=dispersion, **sections)

    def without_later_defaults(self, plain: dict[str, Any]) -> dict[str, Any]:
        """Return plain settings without those that version 0.1.0 did not have, where they are at their defaults.

        A new setting then changes no campaign in which nobody uses it, and earlier versions can read the campaign.
        """
        kept = dict(plain)
        for section in FIRST.keys() & plain.keys():
            defaults = dataclasses.asdict(type(getattr(self, section))())
            kept[section] = {
                key: value
                for key, value in plain[section].items()
                if key in FIRST[section] or key not in defaults or value != defaults[key]
            }
        return kept

    def hash(self) -> str:
        """Return the SHA-256 of :meth:`identity`."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()
