"""Correlations as ObsPy traces, with the headers of SAC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import obspy
    import xarray

    from xcorr.results.reader import Results


def with_places(results: Results, found: xarray.DataArray, reverse: bool = False) -> xarray.DataArray:
    """Return a correlation with the coordinates of both stations and the direction of positive lags as attributes."""
    table = results.dataset("stations")
    for number in (1, 2):
        row = table[table["id"] == found.attrs[f"station_{number}"].encode()][0]
        for key in ("latitude", "longitude", "elevation_m"):
            found.attrs[f"{key}_{number}"] = float(row[key])
    found.attrs["positive_lag"] = "2 to 1" if reverse else "1 to 2"
    return found


def trace_of(found: xarray.DataArray) -> obspy.Trace:
    """Return a correlation [lag] of :func:`with_places` as a trace of station 2; station 1 is SAC's event.

    SAC: ``b`` is the first lag and ``o`` = 0, so that times are lags; ``user0`` the number of windows, ``kuser0`` the
    unit, ``kuser1`` the direction of positive lags.
    """
    import obspy

    a, lag = found.attrs, found["lag_s"].values
    network, _, station = a["station_2"].partition(".")
    station, _, location = station.partition(":")
    words = {
        "evla": a["latitude_1"], "evlo": a["longitude_1"], "stla": a["latitude_2"], "stlo": a["longitude_2"],
        "stel": a["elevation_m_2"], "evel": a["elevation_m_1"], "dist": a["distance_m"] / 1000,
        "az": a["azimuth_deg"], "baz": a["back_azimuth_deg"], "gcarc": _degrees(a),
    }  # fmt: skip
    sac: dict[str, Any] = {k: v for k, v in words.items() if np.isfinite(v)}
    sac |= {
        "kevnm": a["station_1"][:16],
        "b": float(lag[0]),
        "o": 0.0,
        "kuser0": a["units"][:8],
        "kuser1": a["positive_lag"],
        "user0": float(a["n_windows"]),
        "lcalda": 0,  # so that SAC does not replace distance and azimuth by its own
    }
    # a reference time that b is counted from, else ObsPy would take the first sample
    sac |= {"nzyear": 1970, "nzjday": 1, "nzhour": 0, "nzmin": 0, "nzsec": 0, "nzmsec": 0}
    header = {
        "network": network,
        "station": station,
        "location": location,
        "channel": a["components"],
        "sampling_rate": (len(lag) - 1) / (lag[-1] - lag[0]),
        "starttime": obspy.UTCDateTime(float(lag[0])),
        "sac": sac,
        "xcorr": dict(a),
    }
    return obspy.Trace(np.ascontiguousarray(found.values, np.float32), header)


def _degrees(a: dict[str, Any]) -> float:
    """Return the distance of a pair on a sphere, in degrees; NaN if it is not known."""
    from obspy.geodetics import locations2degrees

    places = [a[f"{name}_{number}"] for number in (1, 2) for name in ("latitude", "longitude")]
    return float(locations2degrees(*places)) if np.isfinite(places).all() else float("nan")
