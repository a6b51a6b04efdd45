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
    FurtherBand,
    Insert,
    Keep,
    Normalize,
    Provenance,
    Quality,
    Run,
    Stack,
    Whiten,
    Window,
)


class SettingsError(XcorrError, ValueError):
    """A setting that is unknown, of the wrong kind, or impossible; the text names key, value and rule."""


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

    @property
    def outputs(self) -> tuple[str, ...]:
        """Component pairs wanted. ``"all"`` is replaced by the nine pairs of Z, N, E."""
        every = tuple(a + b for a in "ZNE" for b in "ZNE")
        return every if self.correlate.components == ("all",) else self.correlate.components

    @functools.cached_property
    def component_pairs(self) -> tuple[str, ...]:
        """Component pairs of Z, N, E that are correlated."""
        found = dict.fromkeys(part for pair in self.outputs for part in stored_pairs(pair))
        if self.rotates:  # both traces are needed of what is turned, whichever pairs are kept
            return tuple(a + b for a in "ZNE" for b in "ZNE" if a + b in found)
        return tuple(found)

    @property
    def rotates(self) -> bool:
        """Whether radial or transverse components are wanted."""
        return any(c in pair for pair in self.outputs for c in "RT")

    @functools.cached_property
    def components(self) -> tuple[str, ...]:
        """Component letters needed, in the order Z N E."""
        return tuple(c for c in "ZNE" if any(c in pair for pair in self.component_pairs))

    @property
    def substack_s(self) -> int:
        """Length of a piece."""
        return self.stack.substack_s or self.data.chunk_s

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
        for key in ("provenance", "keep", *([] if self.insert else ["insert"])):
            del plain[key]
        plain["run"] = {"fft": self.run.fft}
        plain["stack"] = {"substack_s": self.stack.substack_s}
        for key in ("source", "metadata", "start", "end", *self.data.options):
            del plain["data"][key]
        return plain

    def hash(self) -> str:
        """Return the SHA-256 of :meth:`identity`."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()
