"""Small files in the layouts of other programs, with known delays."""

import contextlib
import sqlite3

import h5py
import numpy as np

DELAYS = {("CI.AAA", "CI.BBB"): 5.0, ("CI.AAA", "CI.CCC"): -2.0, ("CI.BBB", "CI.CCC"): -7.0, ("CI.CCC", "CI.AAA"): 2.0}
INDEX = "{key}/{network1}.{station1}-{network2}.{station2}/{location1}.{channel1}-{location2}.{channel2}/..."


def pulses(delay_s, late=0, rate=4.0, most_s=30.0):
    lags = np.arange(-most_s * rate, most_s * rate + 1) / rate
    return np.exp(-((lags - late / rate - delay_s) ** 2)).astype(np.float32)


def write_noisepy(place):
    """A store of NoisePy with two timespans, as h5py writes it."""
    for k in range(2):
        name = f"2019_01_0{1 + k}_00_00_00T2019_01_0{2 + k}_00_00_00.h5"
        place.mkdir(exist_ok=True)
        with h5py.File(place / name, "w") as file:
            for (first, second), delay in list(DELAYS.items())[:3]:
                for channels in ("bhz_00_bhz_00", "bhz_00_bh1_00"):
                    data = file.create_dataset(
                        f"AuxiliaryData/{first}_{second}/{channels}", data=pulses(delay, 1)[None]
                    )
                    data.attrs.update({"dt": np.float32(0.25), "maxlag": 30, "ngood": 10 + k, "substack": False})
                    data.attrs.update({"time": 1546300800.0 + 86400 * k, "latS": 35.0, "lonS": -117.0})
                    data.attrs.update({"latR": 35.1, "lonR": -117.0})
    return place


def write_msnoise(place):
    """A project of MSNoise with a day of two filters, as h5py and SQLite write it."""
    place.mkdir()
    with contextlib.closing(sqlite3.connect(place / "msnoise.sqlite")) as database, database:
        database.execute("CREATE TABLE stations (net, sta, X, Y, altitude, coordinates)")
        database.execute("CREATE TABLE config (name, value)")
        database.execute("CREATE TABLE filters (ref, low, high)")
        for code in ("AAA", "BBB", "CCC"):
            database.execute("INSERT INTO stations VALUES ('CI', ?, -117.0, 35.0, 100.0, 'DEG')", (code,))
        database.execute("INSERT INTO config VALUES ('corr_duration', '1800')")
        database.executemany("INSERT INTO filters VALUES (?, ?, ?)", [(1, 0.1, 1.0), (2, 0.5, 1.5)])
    for name in ("01", "02"):
        for (first, second), delay in list(DELAYS.items())[:3]:
            path = place / "CROSS_CORRELATIONS" / name / first / second / "ZZ" / "2019-01-01.h5"
            path.parent.mkdir(parents=True)
            with h5py.File(path, "w") as file:
                file["data/axis0"] = np.arange(-120, 121) / 4
                file["data/axis1"] = np.array(
                    [f"2019-01-01 {h:02d}:{m:02d}:00".encode() for h in (3, 4) for m in (0, 30)]
                )
                file["data/block0_values"] = np.tile(pulses(delay), (4, 1))
    return place


def write_yam(place):
    """A file of yam with two keys, as h5py writes it: lags have the opposite sign."""
    with h5py.File(place, "w") as file:
        file.attrs.update({"file_format": "obspyh5", "index": INDEX})
        for key in ("c1", "c1_s1d"):
            for k in range(3):
                for (first, second), delay in list(DELAYS.items())[:3]:
                    time = f"2019-01-01T{k:02d}:00:00.000000Z"
                    data = file.create_dataset(
                        f"{key}/{first}-{second}/.BHZ-.BHZ/2019-01/{time[:16]}", data=pulses(-delay)
                    )
                    data.attrs.update({"network1": "CI", "station1": first[3:], "channel1": "BHZ", "delta": 0.25})
                    data.attrs.update({"network2": "CI", "station2": second[3:], "channel2": "BHZ", "starttime": time})
    return place
