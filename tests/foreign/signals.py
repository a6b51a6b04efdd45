"""Noise of three stations with known delays; without any package of ours."""

import numpy as np
import obspy

RATE = 4.0
DELAYS = {"AAA": 0.0, "BBB": 5.0, "CCC": -2.0}  # s
PLACES = {"AAA": (35.0, -117.0), "BBB": (35.1, -117.0), "CCC": (35.0, -117.2)}
START = obspy.UTCDateTime(2019, 1, 1)


def traces(start, seconds, seed):
    """Return the traces of all stations: the same noise, delayed, and a tenth of noise of their own."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal(int((seconds + 20) * RATE))
    found = {}
    for code, delay in DELAYS.items():
        first, count = int((10 - delay) * RATE), int(seconds * RATE)
        data = common[first : first + count] + 0.1 * rng.standard_normal(count)
        header = {"network": "CI", "station": code, "channel": "BHZ", "sampling_rate": RATE, "starttime": start}
        found[code] = obspy.Trace((1000 * data).astype("f4"), header)
    return found
