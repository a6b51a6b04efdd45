"""Small archives of synthetic waveforms, written with ObsPy."""

from __future__ import annotations

import numpy as np
import obspy

START = obspy.UTCDateTime(2024, 3, 1)
SETTINGS = {
    "data": {"channels": ["BH?"], "start": "2024-03-01", "end": "2024-03-01T02:00:00", "chunk_s": 3600},
    "condition": {"rate_hz": 4.0, "band_hz": [0.1, 1.0]},
    "window": {"length_s": 600.0, "step_s": 600.0},
    "correlate": {"max_lag_s": 30.0, "block": 8},
}


def waveform(seed, seconds=7200, rate=10.0):
    """Noise, partly common to all seeds."""
    common = np.random.default_rng(0).standard_normal(int(seconds * 20))
    own = np.random.default_rng(100 + seed).standard_normal(int(seconds * rate))
    shared = np.interp(np.arange(int(seconds * rate)) / rate, np.arange(len(common)) / 20, common)
    return (200 * (shared + own)).astype(np.int32)


def trace(code, data, rate=10.0, channel="BHZ", start=START):
    header = {"network": "XX", "station": code, "channel": channel, "sampling_rate": rate, "starttime": start}
    return obspy.Trace(np.asarray(data), header)


def sds_path(root, code, channel="BHZ", day=61):
    folder = root / "2024" / "XX" / code / f"{channel}.D"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"XX.{code}..{channel}.D.2024.{day:03d}"


def write(root, code, data=None, rate=10.0, channel="BHZ", start=START):
    """Write one day file; return its path."""
    data = waveform(sum(map(ord, code)), rate=rate) if data is None else data
    path = sds_path(root, code, channel)
    trace(code, data, rate, channel, start).write(str(path), format="MSEED")
    return path


def station_list(folder, *codes):
    path = folder / "stations.txt"
    path.write_text("".join(f"XX {c}\n" for c in codes))
    return path


def settings(root, **sections):
    """Return checked settings for an archive; sections override keys."""
    from xcorr.settings.toml import build

    plain = {k: dict(v) for k, v in SETTINGS.items()}
    plain["data"]["source"] = f"sds:{root}"
    for section, keys in sections.items():
        plain.setdefault(section, {}).update(keys)
    return build(plain)


def weekly(root, **more):
    """The settings of campaigns of the fixture ``weeks``."""
    return settings(
        root / "sds",
        data={"start": "2024-03-01", "end": "2024-03-13", "chunk_s": 86_400},
        condition={"rate_hz": 1.0, "band_hz": [0.05, 0.4]},
        window={"length_s": 3600.0, "step_s": 1800.0},
        **more,
    )
