"""Makes the sample data: four hours of an isotropic ambient field of dispersive surface waves on 14 stations.

    python data/make_demo.py [FOLDER]      (default: data/demo)

Plane waves arrive from 360 azimuths with independent random spectra, travel with the phase velocity
c(f) = 3.2 - 0.8 f km/s (f in Hz), and add to local noise of 0.7 times their rms. Station D13 is dead (all zeros),
D05 has a gap of 25 minutes, D09 samples at 12.5 Hz instead of 10, D03 starts 0.037 s off the second. Everything is
seeded: the same bytes come out every time. Written as miniSEED in an SDS archive with StationXML.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import obspy
from obspy.core import inventory as inv
from pyproj import Geod

START = obspy.UTCDateTime(2024, 3, 1)
DURATION_S = 14_400
RATE_HZ = 10.0
STATIONS = 14
BAND_HZ = (0.06, 1.2)
SENSITIVITY = 6.0e8  # counts per m/s
RMS_COUNTS = 30.0
DEAD, GAP, ODD, OFF_GRID = "D13", "D05", "D09", "D03"


def phase_velocity_km_s(frequency_hz: np.ndarray) -> np.ndarray:
    """Return the phase velocity of the medium."""
    return 3.2 - 0.8 * np.asarray(frequency_hz)


def stations() -> list[tuple[str, float, float, float, float]]:
    """Return code, x and y (km, east and north), latitude and longitude of every station."""
    rng = np.random.default_rng(20240301)
    geod = Geod(ellps="WGS84")
    found: list[tuple[str, float, float, float, float]] = []
    while len(found) < STATIONS:
        x, y = rng.uniform(-28, 28, 2)
        if all(np.hypot(x - a, y - b) > 5 for _, a, b, _, _ in found):
            azimuth, distance = np.degrees(np.arctan2(x, y)), 1000 * np.hypot(x, y)
            longitude, latitude, _ = geod.fwd(8.0, 46.0, azimuth, distance)
            found.append((f"D{len(found):02d}", x, y, round(latitude, 5), round(longitude, 5)))
    return found


def ambient_spectra(places: np.ndarray, frequency_hz: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the spectra [station, frequency] of the field at places [station, 2] in km."""
    azimuths = 360
    angle = 2 * np.pi * (np.arange(azimuths) + rng.uniform(0, 1, azimuths)) / azimuths
    wavenumber = 2 * np.pi * frequency_hz / phase_velocity_km_s(frequency_hz)
    shape = np.exp(-0.5 * (np.log(np.maximum(frequency_hz, 1e-9) / 0.3) / 0.7) ** 2)
    shape[(frequency_hz < BAND_HZ[0]) | (frequency_hz > BAND_HZ[1])] = 0
    total = np.zeros((len(places), len(frequency_hz)), complex)
    for a in angle:
        source = rng.standard_normal((2, len(frequency_hz)))
        along = places @ np.array([np.sin(a), np.cos(a)])
        total += np.exp(-1j * wavenumber * along[:, None]) * (shape * (source[0] + 1j * source[1]))
    return total


def station_trace(
    spectrum: np.ndarray, rate_hz: float, start_s: float, scale: float, rng: np.random.Generator
) -> np.ndarray:
    """Return integer counts of one station: the field, sampled at a rate from a start, and local noise."""
    samples = int(DURATION_S * rate_hz)
    frequency = np.arange(len(spectrum)) / DURATION_S
    padded = np.zeros(samples // 2 + 1, complex)
    padded[: len(spectrum)] = spectrum * np.exp(2j * np.pi * frequency * start_s)
    field = np.fft.irfft(padded, samples) * samples
    noise = rng.standard_normal(samples)
    counts = RMS_COUNTS * (field / scale + 0.7 * noise) + rng.integers(-500, 500)
    return np.round(counts).astype(np.int32)


def write_day(root: Path, trace: obspy.Trace, pieces: list[obspy.Trace]) -> None:
    """Write the pieces of a trace as its file in the archive."""
    s, day = trace.stats, START
    folder = root / str(day.year) / s.network / s.station / f"{s.channel}.D"
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{s.network}.{s.station}.{s.location}.{s.channel}.D.{day.year}.{day.julday:03d}"
    obspy.Stream(pieces).write(str(folder / name), format="MSEED", encoding="STEIM2", reclen=4096)


def station_xml(places: list[tuple[str, float, float, float, float]]) -> inv.Inventory:
    """Return the metadata: a broad-band sensor of 120 s, flat in the band of the field."""
    response = inv.Response.from_paz(
        zeros=[0j, 0j],
        poles=[-0.037 - 0.037j, -0.037 + 0.037j],
        stage_gain=SENSITIVITY,
        stage_gain_frequency=0.3,
        normalization_frequency=0.3,
        input_units="M/S",
        output_units="COUNTS",
    )
    network = inv.Network("XX", description="Made by data/make_demo.py: not a real network")
    for code, _, _, latitude, longitude in places:
        rate = 12.5 if code == ODD else RATE_HZ
        channel = inv.Channel(
            "BHZ",
            "",
            latitude,
            longitude,
            500.0,
            0.0,
            azimuth=0.0,
            dip=-90.0,
            sample_rate=rate,
            start_date=START - 86400,
            response=response,
        )
        network.stations.append(
            inv.Station(
                code,
                latitude,
                longitude,
                500.0,
                channels=[channel],
                creation_date=START,
                start_date=START - 86400,
            )
        )
    made = inv.Inventory([network], source="data/make_demo.py")
    made.created = START
    return made


def main(folder: Path) -> None:
    """Write archive and metadata."""
    places = stations()
    rng = np.random.default_rng(7)
    frequency = np.arange(int(BAND_HZ[1] * DURATION_S) + 1) / DURATION_S
    spectra = ambient_spectra(np.array([p[1:3] for p in places]), frequency, rng)
    scale = float(np.sqrt(2 * np.mean(np.sum(np.abs(spectra) ** 2, axis=1))))
    for (code, *_), spectrum in zip(places, spectra, strict=True):
        rate = 12.5 if code == ODD else RATE_HZ
        offset = 0.037 if code == OFF_GRID else 0.0
        data = station_trace(spectrum, rate, offset, scale, rng)
        if code == DEAD:
            data[:] = 0
        header = {
            "network": "XX",
            "station": code,
            "channel": "BHZ",
            "sampling_rate": rate,
            "starttime": START + offset,
        }
        trace = obspy.Trace(data, header)
        pieces = [trace]
        if code == GAP:
            pieces = [trace.slice(endtime=START + 5400), trace.slice(starttime=START + 6900)]
        write_day(folder / "sds", trace, pieces)
    station_xml(places).write(str(folder / "stations.xml"), format="STATIONXML")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "demo")
