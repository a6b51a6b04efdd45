"""Results in the formats of other programs: SAC, miniSEED, NetCDF, Zarr, ASDF, CSV.

A format is a function with the entry point ``FORMAT`` in the group ``xcorr.exports``. The function gets the pairs, each
as an array [lag] with attributes, and the file or folder to write.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xcorr.core import XcorrError, installed
from xcorr.results import Results

if TYPE_CHECKING:
    import xarray


class ExportError(XcorrError, ValueError):
    """An export that cannot be made."""


def export(
    results: Results, target: Path, kind: str, stack: str = "linear", reverse: bool = False, band: str = ""
) -> int:
    """Write the stacks of all pairs with data to ``target`` and return their number.

    ``reverse`` turns the lag axis round, to the sign convention of ObsPy's ``correlate``, yam and dispel4py. Raises
    ExportError if the target exists, its folder does not, the kind is unknown, or a package is missing.
    """
    if kind not in installed.names("exports"):
        raise ExportError(f"format {kind!r} is not one of {', '.join(installed.names('exports'))}")
    if target.exists():
        raise ExportError(f"{target} exists already; remove it or choose another target with -o")
    if not target.absolute().parent.is_dir():
        raise ExportError(f"there is no folder {str(target.parent)!r} to write {target.name!r} in; make the folder")
    pairs = list(_pairs(results, stack, reverse, band))
    if not pairs:
        raise ExportError(f"there is no pair with a stack {stack!r} to export")
    try:
        installed.load("exports", kind)(pairs, target)
    except ImportError as error:
        raise ExportError(
            f"{kind} needs a package that is not installed: pip install 'xcorr[export]' ({error})"
        ) from None
    return len(pairs)


def _pairs(results: Results, stack: str, reverse: bool, band: str) -> Iterator[xarray.DataArray]:
    names = results.pairs[["station_1", "station_2"]].itertuples(index=False)
    places = results.stations.set_index("id")[["latitude", "longitude", "elevation_m"]]
    for first, second in names:
        for components in results.components:
            found = results.get(first, second, components, stack, band)
            if not found.attrs["n_windows"]:
                continue
            if reverse:
                error = found["std_error"].values[::-1]
                found = found.copy(data=found.values[::-1]).assign_coords(std_error=("lag_s", error))
                found.attrs["lag_convention"] = (
                    "C(tau) = sum x1(t + tau) x2(t): positive lag = from station 2 to station 1"
                )
            found.attrs["positive_lag"] = "2 to 1" if reverse else "1 to 2"
            for number, name in ((1, first), (2, second)):
                for key, value in places.loc[name].items():
                    found.attrs[f"{key}_{number}"] = float(value)
            yield found


def _traces(pairs: list[xarray.DataArray], sac: bool) -> Iterator[tuple[str, Any]]:
    import obspy

    for found in pairs:
        a, lag = found.attrs, found["lag_s"].values
        network, station = a["station_2"].split(".")
        header: dict[str, Any] = {
            "network": network, "station": station, "channel": a["components"],
            "sampling_rate": (len(lag) - 1) / (lag[-1] - lag[0]), "starttime": obspy.UTCDateTime(float(lag[0])),
        }  # fmt: skip
        if sac:
            words = {
                "evla": a["latitude_1"], "evlo": a["longitude_1"], "stla": a["latitude_2"], "stlo": a["longitude_2"],
                "stel": a["elevation_m_2"], "evel": a["elevation_m_1"], "dist": a["distance_m"] / 1000,
                "az": a["azimuth_deg"], "baz": a["back_azimuth_deg"], "gcarc": _degrees(a),
            }  # fmt: skip
            header["sac"] = {k: v for k, v in words.items() if np.isfinite(v)}
            header["sac"] |= {
                "kevnm": a["station_1"][:16],
                "b": float(lag[0]),
                "o": 0.0,
                "kuser0": a["units"][:8],
                "kuser1": a["positive_lag"],
                "user0": float(a["n_windows"]),
                "lcalda": 0,  # so that SAC does not replace distance and azimuth by its own
            }
        # a station code may come from the header of any file, and must not lead out of the folder
        name = re.sub(r"[^\w.+-]", "_", f"{a['station_1']}_{a['station_2']}_{a['components']}").lstrip(".")
        yield name, obspy.Trace(np.ascontiguousarray(found.values, np.float32), header)


def _degrees(a: dict[str, Any]) -> float:
    """Return the distance of a pair on a sphere, in degrees; NaN if it is not known."""
    from obspy.geodetics import locations2degrees

    places = [a[f"{name}_{number}"] for number in (1, 2) for name in ("latitude", "longitude")]
    return float(locations2degrees(*places)) if np.isfinite(places).all() else float("nan")


def write_sac(pairs: list[xarray.DataArray], target: Path) -> None:
    """Write a SAC file for each pair, in a folder for each first station."""
    for name, trace in _traces(pairs, sac=True):
        path = target / name.partition("_")[0] / f"{name}.sac"
        path.parent.mkdir(parents=True, exist_ok=True)
        trace.write(str(path), format="SAC")


def write_mseed(pairs: list[xarray.DataArray], target: Path) -> None:
    """Write a file for each pair. The file name has both stations, because miniSEED has room for only one."""
    target.mkdir(parents=True)
    for name, trace in _traces(pairs, sac=False):
        trace.write(str(target / f"{name}.mseed"), format="MSEED", encoding="FLOAT32")


def write_csv(pairs: list[xarray.DataArray], target: Path) -> None:
    """Write a table with a row for each pair."""
    with target.open("w", newline="") as file:
        rows = csv.writer(file)
        names = ["station_1", "station_2", "components", "distance_m", "azimuth_deg", "n_windows", "snr"]
        names += ["units", "positive_lag"]
        rows.writerow([*names, *(f"{lag:g}" for lag in pairs[0]["lag_s"].values)])
        for found in pairs:
            rows.writerow([*(found.attrs[n] for n in names), *(repr(float(v)) for v in found.values)])


def _dataset(pairs: list[xarray.DataArray]) -> xarray.Dataset:
    import xarray

    names = [n for n in pairs[0].attrs if n not in ("lag_convention", "units", "positive_lag")]
    units = {"units": pairs[0].attrs["units"]}
    coordinates = {n: ("pair", [p.attrs[n] for p in pairs]) for n in names}
    return xarray.Dataset(
        {
            "correlation": (("pair", "lag_s"), np.array([p.values for p in pairs]), units),
            "std_error": (("pair", "lag_s"), np.array([p.coords["std_error"].values for p in pairs]), units),
        },
        coords={"lag_s": pairs[0]["lag_s"].values, **coordinates},
        attrs={name: pairs[0].attrs[name] for name in ("lag_convention", "positive_lag")},
    )


def write_netcdf(pairs: list[xarray.DataArray], target: Path) -> None:
    """Write one NetCDF file."""
    _dataset(pairs).to_netcdf(target, engine="h5netcdf")


def write_zarr(pairs: list[xarray.DataArray], target: Path) -> None:
    """Write one Zarr store."""
    _dataset(pairs).to_zarr(target, mode="w", zarr_format=2)  # in version 3 texts have no specification yet


def write_asdf(pairs: list[xarray.DataArray], target: Path) -> None:
    """Write auxiliary data ``CrossCorrelation/NET_STA/NET_STA/COMPONENTS``, with all that is known as parameters."""
    import pyasdf

    with pyasdf.ASDFDataSet(str(target), compression=None, mpi=False) as file:
        for found in pairs:
            a = found.attrs
            ends = (a["station_1"].replace(".", "_"), a["station_2"].replace(".", "_"))
            parameters = {k: v for k, v in a.items() if not (isinstance(v, float) and np.isnan(v))}
            parameters |= {
                "first_lag_s": float(found["lag_s"][0]),
                "step_s": float(found["lag_s"][1] - found["lag_s"][0]),
            }
            file.add_auxiliary_data(
                data=np.asarray(found.values),
                data_type="CrossCorrelation",
                path="/".join((*ends, a["components"])),
                parameters=parameters,
            )
