"""An archive of noise that has passed a scattering medium whose velocity changes: the truth is known exactly.

A record is the sum over sources of noise, convolved with a response of many arrivals. In a medium that is faster by
epsilon every arrival comes at ``t / (1 + epsilon)``. The correlation of two records then is that of the first day at
``t (1 + epsilon)``, whatever the responses are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import obspy

START = obspy.UTCDateTime(2024, 1, 1)
RATE, BAND = 2.0, (0.1, 0.6)
SOURCES, ARRIVALS, LONGEST_S, DECAY_S = 3, 400, 90.0, 30.0


def truth(days: int) -> np.ndarray:
    """Return dv/v of each day: a drift of 0.1 % over all days, and a step of -0.2 % in the middle."""
    day = np.arange(days)
    return 1e-3 * day / (days - 1) - 2e-3 * (day >= days // 2)


def write_changing(root: Path, stations: int, days: int, hours: float = 24.0, seed: int = 0) -> list[str]:
    """Write SDS files of some stations and days; return the codes of the stations. Data begin at midnight."""
    rng = np.random.default_rng(seed)
    codes = [f"M{k:02d}" for k in range(stations)]
    time = rng.uniform(0, LONGEST_S, (SOURCES, stations, ARRIVALS))
    size = rng.standard_normal(time.shape) * np.exp(-time / DECAY_S)
    length = int(hours * 3600 * RATE)
    whole = 1 << int(length + LONGEST_S * RATE * 2).bit_length()
    frequency = np.fft.rfftfreq(whole, 1 / RATE)
    inside = (frequency > BAND[0] / 2) & (frequency < RATE / 2 * 0.95)
    for day, change in enumerate(truth(days)):
        noise = np.fft.rfft(np.random.default_rng((seed, day)).standard_normal((SOURCES, whole)))
        for k, code in enumerate(codes):
            spectrum = np.zeros(len(frequency), complex)
            for source in range(SOURCES):
                spectrum += noise[source] * _response(time[source, k] / (1 + change), size[source, k], whole)
            record = np.fft.irfft(spectrum * inside)[:length]
            start = START + 86_400 * day
            folder = root / str(start.year) / "XX" / code / "BHZ.D"
            folder.mkdir(parents=True, exist_ok=True)
            header = {"network": "XX", "station": code, "channel": "BHZ", "sampling_rate": RATE, "starttime": start}
            trace = obspy.Trace((1000 * record).astype(np.int32), header)
            trace.write(str(folder / f"XX.{code}..BHZ.D.{start.year}.{start.julday:03d}"), format="MSEED")
    return codes


def _response(time: np.ndarray, size: np.ndarray, whole: int) -> np.ndarray:
    """Return the spectrum of arrivals at any times: each is a band-limited impulse, spread over 64 samples."""
    at = time * RATE
    first = np.floor(at).astype(int) - 31
    taps = first[:, None] + np.arange(64)
    away = at[:, None] - taps
    values = size[:, None] * np.sinc(away) * np.cos(np.pi * np.clip(away / 64, -0.5, 0.5)) ** 2
    response = np.zeros(whole)
    np.add.at(response, taps % whole, values)
    return np.fft.rfft(response)


SETTINGS = {
    "data": {"channels": ["BH?"], "chunk_s": 86_400},
    "condition": {"rate_hz": RATE, "band_hz": list(BAND)},
    "window": {"length_s": 900.0, "step_s": 450.0},
    "normalize": {"method": "none"},
    "whiten": {"method": "none"},
    "quality": {},
    "correlate": {"max_lag_s": 60.0, "block": 8},
}
