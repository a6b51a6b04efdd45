"""The sections of the settings: names, defaults, meanings and reasons. Units are in the names."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from xcorr.core.options import option
from xcorr.pes.preparing import estimator, normalize, whiten
from xcorr.pes.stacking import stacking
from xcorr.pes.transforms import fft

Tables = dict[str, dict[str, Any]]  # of settings that sources and mappings declare, by their names


@dataclass(frozen=True)
class Data:
    """Where waveforms and metadata come from."""

    source: str | None = option(
        None, "Waveforms: sds:DIR, files:DIR_OR_GLOB (any names, anything ObsPy reads), fdsn:URL."
    )
    metadata: str | None = option(
        None, "StationXML path or glob. Coordinates may also come from the list or SAC headers."
    )
    channels: tuple[str, ...] = option(
        ("HH?", "BH?", "LH?"),
        "Channels in order of preference, per station and chunk: the broadest band first.",
    )
    locations: tuple[str, ...] = option(
        ("", "00", "10", "*"), "Location codes in order of preference: the primary sensor first."
    )
    start: str | None = option(None, "First time wanted, UTC; default: the archive's.")
    end: str | None = option(None, "End of the time wanted, UTC, not included; default: the archive's.")
    chunk_s: int = option(
        86400, "Length of the pieces that are worked on alone; a UTC day is what archives hold.", least=60
    )
    options: Tables = dataclasses.field(default_factory=dict, metadata={"tables": "sources"})


@dataclass(frozen=True)
class Condition:
    """From raw samples to band-limited traces on a common grid."""

    rate_hz: float = option(4.0, "Common sampling rate; 4 Hz is what the VERCE campaigns used.", least=1e-3)
    band_hz: tuple[float, float] = option((0.05, 1.0), "Band-pass; holds both microseism peaks.")
    corners: int = option(4, "Order of the Butterworth band-pass, applied forward and backward.", least=1)
    edge_s: float | str = option(
        "auto", "Tapered, then masked edge of every segment; auto = 2/f1 keeps the error below 1 %."
    )
    response: str = option(
        "none",
        "Remove the instrument response to this unit; one-bit and whitening do not need it.",
        choices=("none", "velocity", "displacement", "acceleration"),
    )
    water_level_db: float = option(60.0, "Floor of the response below its maximum.", least=0)
    max_gap_s: float = option(0.0, "Gaps up to this long are interpolated; 0: none.", least=0)
    zeros_are_gaps_s: float = option(60.0, "Runs of exact zeros this long are gaps in disguise; 0: never.", least=0)


@dataclass(frozen=True)
class Window:
    """Windows within a chunk."""

    length_s: float = option(3600.0, "Length; an hour holds many periods and loses little to one event.", least=1)
    step_s: float = option(3600.0, "From one window to the next.", least=1)
    min_coverage: float = option(0.9, "Share of valid samples that a window needs.", least=0)


@dataclass(frozen=True)
class Quality:
    """Windows to leave out."""

    max_over_std: float = option(
        10.0, "Reject a window whose largest |x| is this many times the chunk's deviation; 0: never.", least=0
    )
    kurtosis: float = option(
        0.0, "Reject above this kurtosis (3: Gaussian noise; transients raise it); 0: never.", least=0
    )
    sta_lta: float = option(0.0, "Reject where the short over the long mean of x² passes this; 0: never.", least=0)
    sta_s: float = option(10.0, "Length of the short mean.", least=0)
    lta_s: float = option(600.0, "Length of the long mean.", least=0)
    dead: float = option(0.0, "Reject below this share of the median rms of the chunk's windows; 0: never.", least=0)
    clipped: float = option(
        0.0, "Reject when this share of raw samples is in flat runs at the raw extremes; 0: never.", least=0
    )
    catalogue: str | None = option(None, "Earthquakes to leave out: QuakeML, or CSV with time and magnitude columns.")
    catalogue_magnitude: float = option(5.5, "Smallest magnitude left out.")
    catalogue_after_s: float = option(3600.0, "Time left out from the origin of each earthquake.", least=0)


@dataclass(frozen=True)
class Normalize:
    """Temporal normalisation (Bensen et al. 2007, Geophys. J. Int. 169)."""

    method: str = option("one-bit", "How amplitudes are evened out in time.", choices=normalize.METHODS)
    window_s: float | str = option("auto", "Running mean; auto = 0.5/f1, half the longest period (Bensen).")
    per: str = option(
        "channel", "Weights per channel, or one per station for all its components.", choices=normalize.PER
    )
    band_hz: tuple[float, float] | None = option(
        None, "running-absolute-mean: weights from this band, such as that of earthquakes; default: as conditioned."
    )
    clip_n: float = option(3.0, "clip: limit in units of the chunk's rms.", least=0)
    mute_factor: float = option(3.0, "mute: limit of the envelope in units of its median.", least=0)


@dataclass(frozen=True)
class Whiten:
    """Spectral whitening (Bensen et al. 2007)."""

    method: str = option("phase", "How spectra are evened out.", choices=whiten.METHODS)
    band_hz: tuple[float, float] | None = option(None, "Band kept; default: condition.band_hz.")
    taper_hz: float = option(0.01, "Cosine flank inside both band edges.", least=0)
    smooth_hz: float = option(0.02, "Full width of the running mean of |X|.", least=0)
    per: str = option("channel", "As normalize.per.", choices=normalize.PER)


@dataclass(frozen=True)
class Correlate:
    """Correlation of pairs."""

    method: str = option("cross-correlation", "Kind of correlation.", choices=estimator.METHODS)
    max_lag_s: float = option(120.0, "Lags kept on each side.", least=0)
    components: tuple[str, ...] = option(
        ("ZZ",), 'Component pairs: of Z, N, E, R (radial), T (transverse), such as "ZZ", "RT"; or "all" of Z, N, E.'
    )
    block: int = option(64, "Slots per side of a tile, a multiple of 8; part of the results' identity.", least=8)
    autocorrelations: bool = option(False, "Also every station with itself.")
    whiten_autocorrelations: bool = option(False, "Whiten a channel's autocorrelation by itself too: that is a sinc.")
    amplitude: str = option(
        "none", "Scale of each piece: energy divides by the traces' energies.", choices=estimator.AMPLITUDES
    )
    water_level: float = option(0.01, "deconvolution: share of the mean power added (Prieto et al. 2011).", least=0)
    smooth_hz: float = option(0.02, "coherency, deconvolution: width over which power is smoothed.", least=0)
    pairs: tuple[str, ...] = option((), 'Pairs wanted, such as "XX.A-XX.B" or "XX.*-YY.*"; none: all.')
    distance_km: tuple[float, float] | None = option(None, "Least and largest distance of a pair.")
    azimuth_deg: tuple[float, float] | None = option(
        None, "Sector, clockwise, that holds the azimuth from one station of a pair to the other."
    )
    networks: str = option("all", "Pairs within a network or between two.", choices=("all", "within", "between"))


@dataclass(frozen=True)
class Stack:
    """Stacking over chunks."""

    methods: tuple[str, ...] = option(("linear",), "Stacks to make.", choices=stacking.METHODS)
    substack_s: int | None = option(None, "Length of the pieces stacked, a part of a chunk; default: chunks.", least=1)
    keep_series: bool = option(
        True, "Keep the series of the pieces; without them neither days, stations nor other stacks can be added."
    )
    pws_power: float = option(2.0, "pws: power of the phase coherence (Schimmel & Paulssen 1997).", least=0)
    pws_timegate_s: float = option(0.0, "pws: running mean of the coherence; 0: none.", least=0)
    tf_pws_power: float = option(2.0, "tf-pws: power of the phase coherence (Schimmel & Gallart 2007).", least=0)
    nroot_order: float = option(2.0, "nroot: which root (Kanasewich et al. 1973).", least=1)
    selective_threshold: float = option(0.0, "selective: least correlation coefficient with the linear stack.")
    acf_power: float = option(1.0, "acf: power of the coherence filter (Nakata et al. 2015).", least=0)


@dataclass(frozen=True)
class FurtherBand:
    """A further band of the spectra, from the same pass over the data."""

    name: str = option("", "Name of the band: its group in the results.")
    band_hz: tuple[float, float] = option((0.0, 0.0), "Band kept, as whiten.band_hz.")


@dataclass(frozen=True)
class Run:
    """How to run; never changes a result, but for the last bits that depend on the FFT library."""

    mapping: str = option("sequential", "How to run the workflow; see xcorr run --help.")
    workers: int | None = option(None, "Number of workers; default: the cores this process may use.", least=1)
    memory: str | None = option(
        None, "Most that all processes together may take, such as '4GB'; default: 80 % of the machine's."
    )
    open_chunks: int = option(2, "Chunks under way at once, if memory allows.", least=1)
    fft: str = option(
        "pocketfft",
        "Library of the windows' Fourier transforms: NumPy's, or one to be installed. Part of the results' identity.",
        choices=fft.LIBRARIES,
    )
    options: Tables = dataclasses.field(default_factory=dict, metadata={"tables": "mappings"})


@dataclass(frozen=True)
class Provenance:
    """What is recorded of a run; never changes a result."""

    level: str = option(
        "invocation",
        "How much: the run; totals by element; every invocation and what it took and wrote; the items' metadata too.",
        choices=("off", "run", "element", "invocation", "item"),
    )


@dataclass(frozen=True)
class Keep:
    """Intermediate items that are kept, with their provenance; never changes a result."""

    element: str = option("", "Element whose items are kept: ReadStation, ConditionStation, ... CorrelateStrips.")
    port: str = option("output", "Its output.")
    condition: str = option("", "Which items: a condition on their metadata; none: all.")
    folder: str = option("kept", "Where: a folder, relative to the campaign.")


@dataclass(frozen=True)
class Insert:
    """An element of one's own in the main job."""

    element: str = option("", "A registered element with an input and an output; see xcorr registry add.")
    after: str = option("", "The element that it stands behind, taking what that writes.")
    parameters: dict[str, Any] = dataclasses.field(
        default_factory=dict, metadata={"doc": "Its parameters, by name.", "choices": (), "least": None}
    )
