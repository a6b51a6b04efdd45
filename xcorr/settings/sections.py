"""The sections of the settings: names, defaults, meanings and reasons. The end of a name gives the unit."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from xcorr.core.options import option
from xcorr.pes.preparing import estimator, normalize, whiten
from xcorr.pes.stacking import methods as stacking
from xcorr.pes.storing import smaller
from xcorr.pes.transforms import fft

Tables = dict[str, dict[str, Any]]  # of settings that sources and mappings declare, by their names


@dataclass(frozen=True)
class Data:
    """Where waveforms and metadata come from."""

    source: str | None = option(
        None,
        "Waveforms: sds:DIR, files:DIR, or a glob or template (any names, all that ObsPy reads), fdsn:URL, s3:PLACE.",
    )
    metadata: str | None = option(
        None,
        "StationXML, RESP or dataless SEED: file, folder or glob. Coordinates may also come from the list, or SAC.",
    )
    channels: tuple[str, ...] = option(
        ("HH?", "BH?", "LH?"),
        "Channel patterns in order of preference, chosen per station and chunk. The default prefers the broadest band.",
    )
    locations: tuple[str, ...] = option(
        ("", "00", "10", "*"), "Location codes in order of preference. The default prefers the primary sensor."
    )
    sensors: str = option(
        "station",
        "What counts as a station. station: its locations are alternatives. location: each location is a station of "
        "its own, NET.STA:LOC.",
        choices=("station", "location"),
    )
    prefer: str = option(
        "order",
        "Which of the channels wanted is used in a chunk. order: the first with usable data. complete: that of the "
        "sensor with the most usable data.",
        choices=("order", "complete"),
    )
    start: str | None = option(None, "Start of the time wanted (UTC). Default: the start of the archive.")
    end: str | None = option(None, "End of the time wanted (UTC), not included. Default: the end of the archive.")
    chunk_s: int = option(
        86400, "Length of a chunk, the time that is processed at once. Default: a UTC day, as in archives.", least=60
    )
    moved_m: float = option(
        100.0, "Distance beyond which a station that was moved counts as another station, NET.STA@2.", least=0
    )
    drift: str = option(
        "resample",
        "Data whose records' times contradict their rate. resample: use the true rate. refuse: use no such data.",
        choices=("resample", "refuse"),
    )
    options: Tables = dataclasses.field(default_factory=dict, metadata={"tables": "sources"})


@dataclass(frozen=True)
class Condition:
    """From raw samples to band-limited traces on a common grid."""

    rate_hz: float = option(4.0, "Common sampling rate. The VERCE campaigns used 4 Hz.", least=1e-3)
    band_hz: tuple[float, float] = option((0.05, 1.0), "Band-pass, f1 and f2. The default holds both microseism peaks.")
    corners: int = option(4, "Order of the Butterworth band-pass, applied forward and backward.", least=1, most=20)
    edge_s: float | str = option(
        "auto", "Length tapered, then masked, at both ends of a segment. auto: 2/f1, which keeps the error below 1 %."
    )
    response: str = option(
        "none",
        "Remove the instrument response; this is the unit of the result. Without, all instruments must have the same "
        "phase response in the band.",
        choices=("none", "velocity", "displacement", "acceleration"),
    )
    water_level_db: float = option(60.0, "Smallest response, below its maximum. Smaller ones are raised.", least=0)
    max_gap_s: float = option(0.0, "Longest gap that is interpolated. 0: no gap is.", least=0)
    zeros_are_gaps_s: float = option(60.0, "Shortest run of exact zeros that counts as a gap. 0: no run does.", least=0)


@dataclass(frozen=True)
class Window:
    """Windows within a chunk."""

    length_s: float = option(3600.0, "Length. An hour holds many periods, and an event costs little data.", least=1)
    step_s: float = option(3600.0, "Time from the start of a window to the start of the next.", least=1)
    min_coverage: float = option(0.9, "Smallest share of valid samples in a window that is used.", least=0)


@dataclass(frozen=True)
class Quality:
    """Limits of the quality control. A window beyond a limit is rejected."""

    max_over_std: float = option(
        10.0, "Reject a window with a largest |x| above this many standard deviations of its chunk. 0: never.", least=0
    )
    kurtosis: float = option(
        0.0, "Reject a window with a larger kurtosis (Gaussian noise: 3; transients raise it). 0: never.", least=0
    )
    sta_lta: float = option(
        0.0, "Reject a window where the short mean of x² over the long mean exceeds this. 0: never.", least=0
    )
    sta_s: float = option(10.0, "sta_lta: length of the short mean.", least=0)
    lta_s: float = option(600.0, "sta_lta: length of the long mean.", least=0)
    dead: float = option(
        0.0, "Reject a window with an rms below this share of the median of the chunk's windows. 0: never.", least=0
    )
    clipped: float = option(
        0.0, "Reject a window if a larger share of raw samples is in flat runs at the raw extremes. 0: never.", least=0
    )
    catalogue: str | None = option(
        None, "Catalogue of earthquakes whose windows are rejected: QuakeML, or CSV with columns time and magnitude."
    )
    catalogue_magnitude: float = option(5.5, "Smallest magnitude of an earthquake whose windows are rejected.")
    catalogue_after_s: float = option(3600.0, "Time after each origin in which windows are rejected.", least=0)


@dataclass(frozen=True)
class Normalize:
    """Temporal normalisation (Bensen et al. 2007, Geophys. J. Int. 169)."""

    method: str = option("one-bit", "Method that evens out amplitudes in time.", choices=normalize.METHODS)
    window_s: float | str = option("auto", "Length of the mean. auto: 0.5/f1, half the longest period (Bensen).")
    per: str = option(
        "channel",
        "channel: each channel has its own weights. station: all components of a station share their weights.",
        choices=normalize.PER,
    )
    band_hz: tuple[float, float] | None = option(
        None, "running-absolute-mean: band of the weights, such as that of earthquakes. Default: condition.band_hz."
    )
    clip_n: float = option(3.0, "clip: limit, in multiples of the chunk's rms.", least=0)
    mute_factor: float = option(3.0, "mute: limit of the envelope, in multiples of its median.", least=0)


@dataclass(frozen=True)
class Whiten:
    """Spectral whitening (Bensen et al. 2007)."""

    method: str = option("phase", "Method that evens out spectra.", choices=whiten.METHODS)
    band_hz: tuple[float, float] | None = option(None, "Band of the spectra. Default: condition.band_hz.")
    taper_hz: float | str = option(
        "auto", "Width of the cosine flank inside both edges of the band. auto: f1/5, at most a tenth of the band."
    )
    smooth_hz: float | str = option(
        "auto", "running-mean: full width of the running mean of |X|. auto: 0.4 f1 of condition.band_hz."
    )
    per: str = option("channel", "As normalize.per, for the weights of the spectra.", choices=normalize.PER)


@dataclass(frozen=True)
class Correlate:
    """Correlation of pairs."""

    method: str = option("cross-correlation", "Kind of correlation.", choices=estimator.METHODS)
    max_lag_s: float = option(120.0, "Largest lag kept, on both sides of zero.", least=0)
    components: tuple[str, ...] = option(
        ("ZZ",),
        'Component pairs of Z, N, E, H (hydrophone), R, T (radial, transverse): "ZZ". "all": of Z, N, E.',
    )
    block: int = option(
        64, "Slots per side of a tile, a multiple of 8. A campaign cannot change this value.", least=8, most=4096
    )
    autocorrelations: bool = option(False, "Also correlate every station with itself.")
    autocorrelation_components: tuple[str, ...] | None = option(
        None, "Component pairs of autocorrelations, if they are others than those of pairs. Default: the same."
    )
    whiten_autocorrelations: bool = option(
        False, "Also whiten autocorrelations. A channel with itself then gives a sinc function only."
    )
    amplitude: str = option(
        "none",
        "Scale of each piece. energy: divided by sqrt(E1 E2), from both traces. peak: divided by its largest |C|.",
        choices=estimator.AMPLITUDES,
    )
    water_level: float = option(
        0.01, "deconvolution: share of the mean power that is added to the power (Prieto et al. 2011).", least=0
    )
    smooth_hz: float | str = option(
        "auto", "coherency, deconvolution: full width of the smoothing of power spectra. auto: as whiten.smooth_hz."
    )
    pairs: tuple[str, ...] = option((), 'Pairs wanted, such as "XX.A-XX.B" or "XX.*-YY.*". Default: all pairs.')
    distance_km: tuple[float, float] | None = option(None, "Smallest and largest distance of a pair. Default: any.")
    azimuth_deg: tuple[float, float] | None = option(
        None, "Sector, clockwise from the first azimuth to the second. One of a pair's two directions must lie inside."
    )
    networks: str = option(
        "all", "Pairs wanted: all, those within a network, or those between two.", choices=("all", "within", "between")
    )


@dataclass(frozen=True)
class Stack:
    """Stacking over chunks."""

    methods: tuple[str, ...] = option(("linear",), "Stack methods. Each makes one stack.", choices=stacking.METHODS)
    components: tuple[str, ...] = option(
        (), 'Component pairs that are also stacked, made of those that are correlated: "RR", "TT" of N and E.'
    )
    substack_s: int | None = option(
        None, "Length of a piece: a chunk divided by a whole number. Default: the whole chunk.", least=1
    )
    keep_series: bool = option(
        True,
        "Keep the series. Without them only linear stacks can grow, and nothing can be recomputed.",
    )
    compression: str = option(
        "none",
        "Compression of the series, without loss. gzip: slow, read by every program. lz4: as fast as none, needs the "
        "package hdf5plugin (xcorr[compression]) in every program that reads.",
        choices=smaller.COMPRESSIONS,
    )
    series_bits: int = option(
        smaller.ALL_BITS,
        "Bits of the mantissa that series keep: 10 and a compression halve the bytes, with an error of at most 0.05 % "
        "of each value. A campaign cannot change this value.",
        least=1,
        most=smaller.ALL_BITS,
    )
    pws_power: float = option(2.0, "pws: power of the phase coherence (Schimmel & Paulssen 1997).", least=0, most=100)
    pws_timegate_s: float = option(0.0, "pws: length of the running mean of the coherence. 0: no mean.", least=0)
    tf_pws_power: float = option(
        2.0, "tf-pws: power of the phase coherence (Schimmel & Gallart 2007).", least=0, most=100
    )
    nroot_order: float = option(2.0, "nroot: order of the root (Kanasewich et al. 1973).", least=1, most=100)
    selective_threshold: float = option(0.0, "selective: smallest correlation coefficient with the linear stack.")
    acf_power: float = option(1.0, "acf: power of the coherence filter (Nakata et al. 2015).", least=0, most=100)


@dataclass(frozen=True)
class Run:
    """How to run. Only fft and arrays change results, and only their last bits."""

    mapping: str = option("sequential", "Mapping that runs the workflow; see xcorr run --help.")
    workers: int | None = option(
        None, "Number of workers. Default: the number of cores for this process.", least=1, most=100_000
    )
    memory: str | None = option(
        None, "Most memory that all processes together may take, such as '4GB'. Default: 80 % of the machine's."
    )
    open_chunks: int | None = option(
        None,
        "Largest number of chunks under way at once. Default: 2, or as many as keep all workers busy where chunks are "
        "small. Less memory allows fewer.",
        least=1,
        most=1000,
    )
    fft: str = option(
        "pocketfft",
        "Library that transforms windows: NumPy's pocketfft, or one to be installed. A campaign cannot change it.",
        choices=fft.LIBRARIES,
    )
    arrays: str = option(
        "numpy", "What multiplies spectra and returns to lags: numpy, or what another package brings. As run.fft."
    )
    options: Tables = dataclasses.field(default_factory=dict, metadata={"tables": "mappings"})


@dataclass(frozen=True)
class Provenance:
    """What is recorded of a run; never changes a result."""

    level: str = option(
        "invocation",
        "run: the run alone. element: also totals by element. invocation: also every invocation with its inputs and "
        "outputs. item: also the metadata of items.",
        choices=("off", "run", "element", "invocation", "item"),
    )
