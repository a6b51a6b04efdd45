"""Names the dimensions of a result file, so that xarray and other readers of netCDF-4 find axes and coordinates.

The coordinates are dimension scales of HDF5 (HDF5 High Level Library, H5DS), with attributes of the CF conventions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

STARTS = "nanoseconds since 1970-01-01"
TABLES = {"pairs": "pair", "pieces": "time", "stations": "station", "slots": "slot", "shards": "shard"}
OF_PAIRS = {"distance_m": "m", "azimuth_deg": "degrees", "back_azimuth_deg": "degrees"}
DIMENSIONS = {
    "mean": ("pair", "lags_s"),
    "std_error": ("pair", "lags_s"),
    "snr": ("pair",),
    "symmetry": ("pair",),
    "n_windows": ("pair",),
    "series": ("time", "pair", "lags_s"),
    "series_n_windows": ("time", "pair"),
}
COORDINATES = ("lags_s", "pair", "time", "station", "slot", "shard", *OF_PAIRS)


def name_dimensions(file: Any, units: str = "") -> None:
    """Add the coordinates to a result file, and name the dimensions of its datasets; ``units`` of correlations.

    Coordinates: ``pair`` (``NET.STA-NET.STA``), ``time`` (starts of pieces), ``lags_s``, ``station``, ``slot``; of
    each pair ``distance_m``, ``azimuth_deg`` and ``back_azimuth_deg``.
    """
    stations, pairs = file["stations"]["id"], file["pairs"][...]
    names = np.char.add(np.char.add(stations[pairs["station_1"]], b"-"), stations[pairs["station_2"]])
    _add(file, "pair", names, long_name="stations 1 and 2", _Encoding="utf-8")
    _add(file, "station", stations, long_name="network and station code", _Encoding="utf-8")
    _add(file, "slot", file["slots"]["id"], long_name="station and component", _Encoding="utf-8")
    _add(file, "shard", file["shards"]["path"], long_name="file of the series", _Encoding="utf-8")
    starts = file["pieces"]["start_ns"]
    _add(file, "time", starts, units=STARTS, standard_name="time", calendar="proleptic_gregorian")
    for name, unit in OF_PAIRS.items():
        _add(file, name, pairs[name], units=unit)
        file[name].dims[0].attach_scale(file["pair"])
    lag = file["lags_s"]
    lag.attrs.update({"units": "s", "long_name": "lag; positive: from station 1 to station 2"})
    lag.make_scale("lags_s")
    for table, name in TABLES.items():
        file[table].dims[0].attach_scale(file[name])
    for group in (file, *file.get("bands", {}).values()):
        for kind in ("series", "series_n_windows"):
            for data in group.get(kind, {}).values():
                _attach(file, data, kind, units)
        for method in group.get("stacks", {}).values():
            for stack in method.values():
                for name, data in stack.items():
                    _attach(file, data, name, units)


def _add(file: Any, name: str, values: np.ndarray, **attributes: str) -> None:
    if name not in file:
        how = {"chunks": True, "fletcher32": True} if values.size else {}
        file.create_dataset(name, data=values, **how)
    file[name].attrs.update(attributes)
    if name not in OF_PAIRS:
        file[name].make_scale(name)


def _attach(file: Any, data: Any, kind: str, units: str) -> None:
    if "DIMENSION_LIST" in data.attrs:  # a dataset with several names
        return
    for axis, name in enumerate(DIMENSIONS[kind]):
        data.dims[axis].attach_scale(file[name])
    if units and data.dtype.kind == "f" and data.ndim > 1:
        data.attrs["units"] = units
