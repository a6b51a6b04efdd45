"""The settings of a run: names, defaults, reasons and checks. Units are in the names."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

from xcorr.core import XcorrError
from xcorr.pes import normalize, whiten


class SettingsError(XcorrError, ValueError):
    """A setting that is unknown, of the wrong kind, or impossible; the text names key, value and rule."""


def setting(default: Any, doc: str, *, choices: tuple[str, ...] = (), least: float | None = None) -> Any:
    """Declare a setting: its default, meaning and reason, and what is allowed."""
    return dataclasses.field(default=default, metadata={"doc": doc, "choices": choices, "least": least})


@dataclass(frozen=True)
class Data:
    """Where waveforms and metadata come from."""

    source: str | None = setting(None, "Waveforms: sds:DIR, or files:DIR_OR_GLOB (any names, anything ObsPy reads).")
    metadata: str | None = setting(
        None, "StationXML path or glob. Coordinates may also come from the list or SAC headers."
    )
    channels: tuple[str, ...] = setting(
        ("HH?", "BH?", "LH?"),
        "Channels in order of preference, per station and chunk: the broadest band first.",
    )
    locations: tuple[str, ...] = setting(
        ("", "00", "10", "*"), "Location codes in order of preference: the primary sensor first."
    )
    start: str | None = setting(None, "First time wanted, UTC; default: the archive's.")
    end: str | None = setting(None, "End of the time wanted, UTC, not included; default: the archive's.")
    chunk_s: int = setting(
        86400, "Length of the pieces that are worked on alone; a UTC day is what archives hold.", least=60
    )


@dataclass(frozen=True)
class Condition:
    """From raw samples to band-limited traces on a common grid."""

    rate_hz: float = setting(4.0, "Common sampling rate; 4 Hz is what the VERCE campaigns used.", least=1e-3)
    band_hz: tuple[float, float] = setting((0.05, 1.0), "Band-pass; holds both microseism peaks.")
    corners: int = setting(4, "Order of the Butterworth band-pass, applied forward and backward.", least=1)
    edge_s: float | str = setting(
        "auto", "Tapered, then masked edge of every segment; auto = 2/f1 keeps the error below 1 %."
    )
    response: str = setting(
        "none",
        "Remove the instrument response to this unit; one-bit and whitening do not need it.",
        choices=("none", "velocity", "displacement", "acceleration"),
    )
    water_level_db: float = setting(60.0, "Floor of the response below its maximum.", least=0)
    max_gap_s: float = setting(0.0, "Gaps up to this long are interpolated; 0: none.", least=0)
    zeros_are_gaps_s: float = setting(60.0, "Runs of exact zeros this long are gaps in disguise; 0: never.", least=0)


@dataclass(frozen=True)
class Window:
    """Windows within a chunk."""

    length_s: float = setting(3600.0, "Length; an hour holds many periods and loses little to one event.", least=1)
    step_s: float = setting(3600.0, "From one window to the next.", least=1)
    min_coverage: float = setting(0.9, "Share of valid samples that a window needs.", least=0)


@dataclass(frozen=True)
class Quality:
    """Windows to leave out."""

    max_over_std: float = setting(
        10.0, "Reject a window whose largest |x| is this many times the chunk's deviation; 0: never.", least=0
    )


@dataclass(frozen=True)
class Normalize:
    """Temporal normalisation (Bensen et al. 2007, Geophys. J. Int. 169)."""

    method: str = setting("one-bit", "How amplitudes are evened out in time.", choices=normalize.METHODS)
    window_s: float | str = setting("auto", "Running mean; auto = 0.5/f1, half the longest period (Bensen).")
    per: str = setting(
        "channel", "Weights per channel, or one per station for all its components.", choices=normalize.PER
    )


@dataclass(frozen=True)
class Whiten:
    """Spectral whitening (Bensen et al. 2007)."""

    method: str = setting("phase", "How spectra are evened out.", choices=whiten.METHODS)
    band_hz: tuple[float, float] | None = setting(None, "Band kept; default: condition.band_hz.")
    taper_hz: float = setting(0.01, "Cosine flank inside both band edges.", least=0)
    smooth_hz: float = setting(0.02, "Full width of the running mean of |X|.", least=0)
    per: str = setting("channel", "As normalize.per.", choices=normalize.PER)


@dataclass(frozen=True)
class Correlate:
    """Correlation of pairs."""

    method: str = setting("cross-correlation", "Kind of correlation.", choices=("cross-correlation",))
    max_lag_s: float = setting(120.0, "Lags kept on each side.", least=0)
    components: tuple[str, ...] = setting(("ZZ",), 'Component pairs: any of the nine of Z N E, or "all".')
    block: int = setting(64, "Slots per side of a tile, a multiple of 8; part of the results' identity.", least=8)


@dataclass(frozen=True)
class Stack:
    """Stacking over chunks."""

    methods: tuple[str, ...] = setting(("linear",), "Stacks to make.", choices=("linear",))


@dataclass(frozen=True)
class Run:
    """How to run; never changes a result."""

    mapping: str = setting("sequential", "How to run the workflow; see xcorr run --help.")
    workers: int | None = setting(None, "Number of workers; default: the cores this process may use.", least=1)
    open_chunks: int = setting(2, "Chunks under way at once.", least=1)


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

    def __post_init__(self) -> None:
        _check(self)

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
        """The band kept."""
        return self.whiten.band_hz or self.condition.band_hz

    @property
    def component_pairs(self) -> tuple[str, ...]:
        """Component pairs, ``"all"`` resolved."""
        every = tuple(a + b for a in "ZNE" for b in "ZNE")
        return every if self.correlate.components == ("all",) else self.correlate.components

    @property
    def components(self) -> tuple[str, ...]:
        """Component letters needed, in the order Z N E."""
        return tuple(c for c in "ZNE" if any(c in pair for pair in self.component_pairs))

    def samples(self, seconds: float) -> int:
        """Return a duration in samples of the common rate."""
        return round(seconds * self.condition.rate_hz)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return plain data, section by section."""
        return dataclasses.asdict(self)

    def identity(self) -> dict[str, dict[str, Any]]:
        """Return the settings that decide the numbers: all but where data are, which times, and how to run."""
        plain = self.as_dict()
        del plain["run"]
        for key in ("source", "metadata", "start", "end"):
            del plain["data"][key]
        return plain

    def hash(self) -> str:
        """Return the SHA-256 of :meth:`identity`."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()


def _check(s: Settings) -> None:
    def require(holds: bool, key: str, value: Any, rule: str) -> None:
        if not holds:
            raise SettingsError(f"{key} = {value!r}: {rule}")

    low, high = s.condition.band_hz
    nyquist = s.condition.rate_hz / 2
    require(
        0 < low < high < nyquist,
        "condition.band_hz",
        s.condition.band_hz,
        f"needs 0 < f1 < f2 < {nyquist:g} Hz, half of condition.rate_hz",
    )
    low, high = s.whiten_band_hz
    require(0 < low < high < nyquist, "whiten.band_hz", s.whiten.band_hz, f"needs 0 < f1 < f2 < {nyquist:g} Hz")
    for key, value in (
        ("condition.edge_s", s.condition.edge_s),
        ("normalize.window_s", s.normalize.window_s),
    ):
        is_number = isinstance(value, float) and value >= 0
        require(is_number or value == "auto", key, value, 'must be "auto" or a number of seconds')
    for key, value in (
        ("data.chunk_s", s.data.chunk_s),
        ("window.length_s", s.window.length_s),
        ("window.step_s", s.window.step_s),
        ("correlate.max_lag_s", s.correlate.max_lag_s),
    ):
        whole = math.isclose(value * s.condition.rate_hz, s.samples(value), abs_tol=1e-6)
        require(whole, key, value, f"must be a whole number of samples at {s.condition.rate_hz:g} Hz")
    require(
        s.window.length_s <= s.data.chunk_s,
        "window.length_s",
        s.window.length_s,
        f"is longer than a chunk ({s.data.chunk_s} s)",
    )
    require(s.window.min_coverage <= 1, "window.min_coverage", s.window.min_coverage, "is a share: at most 1")
    require(
        0 < s.correlate.max_lag_s < s.window.length_s,
        "correlate.max_lag_s",
        s.correlate.max_lag_s,
        f"must be positive and below window.length_s ({s.window.length_s:g} s)",
    )
    require(s.correlate.block % 8 == 0, "correlate.block", s.correlate.block, "must be a multiple of 8")
    pairs = s.component_pairs
    valid = all(len(p) == 2 and set(p) <= set("ZNE") for p in pairs) and len(set(pairs)) == len(pairs) > 0
    require(
        valid,
        "correlate.components",
        s.correlate.components,
        'must list different pairs of Z, N, E such as "ZZ", or be "all"',
    )
    require(
        s.condition.response == "none" or s.data.metadata is not None,
        "condition.response",
        s.condition.response,
        "needs the responses: set data.metadata to a StationXML file",
    )
    _check_grid(s)


def _check_grid(s: Settings) -> None:
    try:
        lags = s.samples(s.correlate.max_lag_s)
        whiten.spectral_grid(s.samples(s.window.length_s), lags, s.condition.rate_hz, s.whiten_band_hz)
    except ValueError as error:
        raise SettingsError(f"whiten.band_hz = {s.whiten_band_hz!r}: {error}") from None
