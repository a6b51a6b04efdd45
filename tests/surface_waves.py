"""Correlations of isotropic fields of dispersive surface waves, written from Aki (1957) and Haney et al. (2012)."""

import numpy as np
from scipy.special import j0, jn

RATE, MAX_LAG, BAND = 4.0, 480, (0.1, 0.8)
NFFT = 8192


def phase_velocity(frequency_hz):
    """The medium of the demo, km/s."""
    return 3.2 - 0.8 * np.asarray(frequency_hz)


def group_velocity(frequency_hz):
    """d omega / d k of that medium: c^2 / (c - f dc/df)."""
    c = phase_velocity(frequency_hz)
    return c**2 / (c + 0.8 * np.asarray(frequency_hz))


def correlations(distance_km, components="ZZ", slower=0.0, noise=0.0, seed=0):
    """Correlations [row, lag] of pairs; ``slower`` [row] is a share by which the slowness of each path is larger.

    Noise is a share of the largest value, white, different at both signs of the lag.
    """
    f = np.arange(NFFT // 2 + 1) * RATE / NFFT
    level = np.clip((f - 0.06) / 0.04, 0, 1) * np.clip((0.96 - f) / 0.1, 0, 1)
    level = np.sin(np.pi / 2 * level) ** 2
    k = 2 * np.pi * f / phase_velocity(np.minimum(f, 1.2))
    x = np.asarray(distance_km)[:, None] * k * (1 + np.broadcast_to(slower, np.shape(distance_km)))[:, None]
    spectrum = j0(x) if components == "ZZ" else j0(x) - jn(2, x)
    found = np.fft.irfft(level * spectrum, NFFT)[:, np.arange(-MAX_LAG, MAX_LAG + 1)]
    found += noise * np.abs(found).max(axis=1, keepdims=True) * np.random.default_rng(seed).standard_normal(found.shape)
    return found.astype("f4")


def pairs_of(stations, size_km, seed=0):
    """Places [station, 2] in a square, and the ends [pair, 2] of all pairs."""
    places = np.random.default_rng(seed).uniform(0, size_km, (stations, 2))
    return places, np.stack(np.triu_indices(stations, 1), axis=1)


def love_velocity(frequency_hz):
    """Love waves of the three-component field, km/s."""
    return 3.6 - 0.7 * np.asarray(frequency_hz)


START, HOURS, FIELD_RATE = "2024-03-01", 4, 2.0


def write_field(folder, stations=10, seed=0):
    """Write an archive (miniSEED in SDS) of Rayleigh and Love waves from everywhere, and a station list with places.

    Rayleigh waves move the ground vertically and along their path, Love waves across it; both come from 120 azimuths
    with sources of their own. Every component has noise of its own of half the size.
    """
    import obspy
    from pyproj import Geod

    rng = np.random.default_rng(seed)
    places = rng.uniform(-22, 22, (stations, 2))
    count = int(HOURS * 3600 * FIELD_RATE)
    f = np.fft.rfftfreq(count, 1 / FIELD_RATE)
    level = np.where((f > 0.06) & (f < 0.9), 1.0, 0.0)
    used = np.flatnonzero(level)
    total = np.zeros((3, stations, len(f)), complex)  # vertical, north, east
    for angle in 2 * np.pi * np.arange(120) / 120:
        along = places @ np.array([np.sin(angle), np.cos(angle)])
        for velocity, motion in (
            (phase_velocity, (1.0, 0.8 * np.cos(angle), 0.8 * np.sin(angle))),
            (love_velocity, (0.0, -0.8 * np.sin(angle), 0.8 * np.cos(angle))),
        ):
            source = rng.standard_normal(len(used)) + 1j * rng.standard_normal(len(used))
            wave = source * np.exp(-2j * np.pi * f[used] / velocity(f[used]) * along[:, None])
            for k, size in enumerate(motion):
                total[k][:, used] += size * wave
    ground = np.fft.irfft(total, count)
    ground += 0.5 * ground.std() * rng.standard_normal(ground.shape)
    lines = ["network,station,latitude,longitude"]
    for s in range(stations):
        azimuth, distance = np.degrees(np.arctan2(*places[s])), 1000 * np.hypot(*places[s])
        longitude, latitude, _ = Geod(ellps="WGS84").fwd(8.0, 46.0, azimuth, distance)
        lines.append(f"XX,F{s:02d},{latitude:.6f},{longitude:.6f}")
        for k, channel in enumerate(("BHZ", "BHN", "BHE")):
            header = {"network": "XX", "station": f"F{s:02d}", "channel": channel, "sampling_rate": FIELD_RATE,
                      "starttime": obspy.UTCDateTime(START)}  # fmt: skip
            path = folder / "sds" / "2024" / "XX" / f"F{s:02d}" / f"{channel}.D" / f"XX.F{s:02d}..{channel}.D.2024.061"
            path.parent.mkdir(parents=True)
            obspy.Trace((1000 * ground[k, s] / ground.std()).astype(np.int32), header).write(str(path), format="MSEED")
    (folder / "stations.csv").write_text("\n".join(lines) + "\n")
    return folder / "stations.csv"


FIELD_SETTINGS = {
    "data": {"channels": ["BH?"], "chunk_s": 1800},
    "condition": {"rate_hz": 2.0, "band_hz": [0.1, 0.8]},
    "window": {"length_s": 600.0, "step_s": 600.0},
    "normalize": {"method": "none"},
    "whiten": {"method": "phase", "per": "station", "taper_hz": 0.05},
    "correlate": {"max_lag_s": 100.0, "components": ["ZZ", "RR", "TT"]},
}
