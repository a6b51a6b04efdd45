"""Temporal normalisation of conditioned traces; masked samples are zero before and after.

All methods but ``none``, ``clip`` and ``mute`` divide by a weight. With ``per = "station"`` all components of a station
have the same weight (``clip``: limit; ``mute``: envelope): the mean over the components that are valid at a sample.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from xcorr.pes.items import Bool, Float32, Float64
from xcorr.pes.parameters import require_band, require_numbers, require_one_of
from xcorr.pes.transforms.analytic import analytic
from xcorr.pes.transforms.fft import next_fast_len, rfft
from xcorr.pes.transforms.running_mean import half_width, running_mean, triangle_mean

METHODS = ("none", "one-bit", "running-absolute-mean", "clip", "mute", "envelope", "gain")
PER = ("channel", "station")
FLOOR = 1e-6


@dataclasses.dataclass(frozen=True, slots=True)
class Normalization:
    """A method and its parameters. Raises ParameterError for values that cannot be.

    ``window_s``: length of the running mean (running-absolute-mean, envelope) or triangle (gain). ``band_hz``: weights
    of running-absolute-mean from the traces filtered to this band (Bensen et al. 2007: that of earthquakes).
    ``clip_n``: limit in units of the rms. ``mute_factor``: of the median envelope.
    """

    method: str = "one-bit"
    window_s: float = 10.0
    per: str = "channel"
    band_hz: tuple[float, float] | None = None
    clip_n: float = 3.0
    mute_factor: float = 3.0

    def __post_init__(self) -> None:
        require_one_of(self, "method", METHODS)
        require_one_of(self, "per", PER)
        require_numbers(self, "window_s", "clip_n", "mute_factor")
        if self.band_hz is not None:
            require_band(self, "band_hz")


def envelope(data: Float32, mask: Bool) -> Float64:
    """Return |analytic signal| of traces [slot, sample], 0 where masked."""
    return np.where(mask, np.abs(analytic(data)), 0.0)


def one_bit(data: Float32) -> Float32:
    """Return the sign of each sample, sign(0) = 0 (Bensen et al. 2007, Geophys. J. Int. 169, sect. 2.1)."""
    sign: Float32 = np.sign(data)
    return sign


def clip(data: Float32, mask: Bool, n: float, per: str = "channel") -> Float32:
    """Limit |x| to n times the rms of the valid samples of each trace, which have no mean."""
    count = np.maximum(mask.sum(axis=1), 1)
    power = np.square(data, dtype=np.float64).sum(axis=1) / count
    limit = n * np.sqrt(power)
    if per == "station":
        limit[:] = limit[mask.any(axis=1)].mean()  # a component without data must not lower the limit of the others
    clipped: Float32 = np.clip(data, -limit[:, None], limit[:, None]).astype(np.float32)
    return clipped


def mute(data: Float32, mask: Bool, factor: float, per: str = "channel") -> Float32:
    """Set to zero where the envelope exceeds ``factor`` times its median over valid samples."""
    size = _shared(envelope(data, mask), mask, per)
    median = np.array([np.median(s[m]) if m.any() else 0.0 for s, m in zip(size, mask, strict=True)])
    return np.where(size > factor * median[:, None], np.float32(0), data)


def _shared(weights: np.ndarray, mask: Bool, per: str) -> np.ndarray:
    if per == "channel":
        return weights
    valid = mask.sum(axis=0)
    return np.broadcast_to((weights * mask).sum(axis=0) / np.maximum(valid, 1), weights.shape)


def divide(data: Float32, mask: Bool, weights: np.ndarray) -> Float32:
    """Divide by weights [slot, sample], floored at 1e-6 of their median over the valid samples of each trace."""
    floors = [FLOOR * np.median(w[m]) if m.any() else 0.0 for w, m in zip(weights, mask, strict=True)]
    floored = np.maximum(weights, np.array(floors)[:, None])
    out: Float32 = np.zeros(data.shape, np.float32)
    np.divide(data, floored, out=out, where=mask & (floored > 0), casting="same_kind")
    return out


def running_absolute_mean(
    data: Float32,
    mask: Bool,
    rate_hz: float,
    window_s: float,
    per: str = "channel",
    band_hz: tuple[float, float] | None = None,
) -> Float32:
    """Divide by the mean of |x| over ``window_s`` around each sample (Bensen et al. 2007, eq. 1 and 2).

    ``data`` and ``mask`` [slot, sample]; with ``band_hz`` the mean is of the traces filtered to that band.
    """
    source = data if band_hz is None else _filtered(data, rate_hz, band_hz) * mask
    weights = running_mean(np.abs(source), mask, half_width(window_s, rate_hz))
    return divide(data, mask, _shared(weights, mask, per))


def _filtered(data: Float32, rate_hz: float, band_hz: tuple[float, float]) -> Float32:
    """Band-pass with zero phase, as conditioning does (4 corners), padded against wrapping around."""
    from xcorr.pes.preparing.condition import butterworth_power

    size = data.shape[-1]
    length = next_fast_len(size + round(4 * rate_hz / band_hz[0]))
    gain = butterworth_power(np.arange(length // 2 + 1) * (rate_hz / length), rate_hz, band_hz, 4)
    gain[0] = 0.0
    filtered = np.fft.irfft(rfft(data, length) * gain.astype(np.float32), length)
    return filtered[..., :size].astype(np.float32, copy=False)


def normalize(data: Float32, mask: Bool, how: Normalization, rate_hz: float) -> Float32:
    """Normalise ``data`` [slot, sample] (see :data:`METHODS`). Raises ValueError for an unknown method.

    ``envelope``: x over its envelope's running mean; ``gain``: x over the root of x² smoothed by a triangle.
    """
    n = half_width(how.window_s, rate_hz)
    if how.method == "none":
        return data
    if how.method == "one-bit":
        return one_bit(data) if how.per == "channel" else divide(data, mask, _shared(np.abs(data), mask, how.per))
    if how.method == "running-absolute-mean":
        return running_absolute_mean(data, mask, rate_hz, how.window_s, how.per, how.band_hz)
    if how.method == "clip":
        return clip(data, mask, how.clip_n, how.per)
    if how.method == "mute":
        return mute(data, mask, how.mute_factor, how.per)
    if how.method == "envelope":
        return divide(data, mask, _shared(running_mean(envelope(data, mask), mask, n), mask, how.per))
    if how.method == "gain":
        rms = np.sqrt(np.maximum(triangle_mean(np.square(data, dtype=np.float64), mask, n), 0))
        return divide(data, mask, _shared(rms, mask, how.per))
    raise ValueError(f"normalisation {how.method!r} is not one of {', '.join(METHODS)}")
