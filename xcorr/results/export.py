"""Results in the formats of other programs: SAC, miniSEED, NetCDF, Zarr, ASDF, CSV.

A format is a function with the entry point ``FORMAT`` in the group ``xcorr.exports``. The function gets the pairs, each
as an array [lag], or of series [time, lag], with attributes, and the file or folder to write.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xcorr.core import XcorrError, installed
from xcorr.results import Results
from xcorr.results.pair_table import PairTable
from xcorr.results.selection import Selection
from xcorr.results.traces import trace_of, with_places

if TYPE_CHECKING:
    import xarray

REVERSED = "C(tau) = sum x1(t + tau) x2(t): positive lag = from station 2 to station 1"
OF_ALL = ("lag_convention", "positive_lag", "settings", "software", "created")  # attributes that all pairs share
UNITS = {"distance_m": "m", "azimuth_deg": "degrees", "back_azimuth_deg": "degrees", "elevation_m_1": "m"}
UNITS |= {"elevation_m_2": "m", "latitude_1": "degrees_north", "latitude_2": "degrees_north"}
UNITS |= {"longitude_1": "degrees_east", "longitude_2": "degrees_east"}


class ExportError(XcorrError, ValueError):
    """An export that cannot be made."""


def export(
    results: Results,
    target: Path,
    kind: str,
    stack: str | None = "linear",
    reverse: bool = False,
    band: str = "",
    components: Sequence[str] = (),
    selection: Selection | None = None,
    insist: bool = False,
) -> int:
    """Write the stacks of all pairs with data to ``target``, or with the stack None their series; return their number.

    ``components`` are the component pairs written (default: those in the results), ``selection`` the pairs of stations.
    ``reverse`` turns the lag axis round, to the sign convention of ObsPy's ``correlate``, yam and dispel4py. Raises
    ExportError if the target exists, its folder does not, the kind is unknown, or a package is missing; ResultsError
    as :meth:`Results.get` does.
    """
    if kind not in installed.names("exports"):
        raise ExportError(f"format {kind!r} is not one of {', '.join(installed.names('exports'))}")
    if target.exists():
        raise ExportError(f"{target} exists already; remove it or choose another target with -o")
    if not target.absolute().parent.is_dir():
        raise ExportError(f"there is no folder {str(target.parent)!r} to write {target.name!r} in; make the folder")
    wanted = tuple(dict.fromkeys(components or results.components))
    pairs = list(selected(results, stack, reverse, band, wanted, selection, insist))
    if not pairs:
        what = "series" if stack is None else f"a stack {stack!r}"
        raise ExportError(f"there is no pair with {what} to export" + (" among those selected" if selection else ""))
    try:
        installed.load("exports", kind)(pairs, target)
    except ImportError as error:
        raise ExportError(
            f"{kind} needs a package that is not installed: pip install 'xcorr[export]' ({error})"
        ) from None
    return len(pairs)


def selected(
    results: Results,
    stack: str | None,
    reverse: bool,
    band: str,
    components: Sequence[str],
    selection: Selection | None,
    insist: bool,
) -> Iterator[xarray.DataArray]:
    """Yield the stacks, or with the stack None the series, of the pairs selected that have data, as they are written.

    Raises as :meth:`Results.get` and :meth:`Selection.rows` do.
    """
    wanted = selection or Selection()
    chosen = {p: wanted.rows(PairTable(results, p, stack, band, insist)) for p in components}
    yield from of_rows(results, chosen, stack, band, reverse, insist)


def of_rows(
    results: Results, rows: Mapping[str, np.ndarray], stack: str | None, band: str, reverse: bool, insist: bool
) -> Iterator[xarray.DataArray]:
    """Yield what :func:`selected` does, for rows of pairs that are chosen already, by component pair."""
    chosen = {components: set(of.tolist()) for components, of in rows.items()}
    names = results.dataset("stations")["id"].astype(str)
    ends = results.dataset("pairs")[["station_1", "station_2"]]
    for row in sorted(set().union(*chosen.values())):
        first, second = (str(names[k]) for k in ends[row])
        for pair in (p for p, of in chosen.items() if row in of):
            found = one_pair(results, first, second, pair, stack, band, reverse, insist)
            if found.attrs["n_windows"]:
                yield found


def one_pair(
    results: Results,
    first: str,
    second: str,
    components: str,
    stack: str | None,
    band: str = "",
    reverse: bool = False,
    insist: bool = False,
    within_ns: tuple[int, int] | None = None,
) -> xarray.DataArray:
    """Return a stack, or with the stack None a series, with all that exports say of it.

    A series has only pieces with data, that begin in ``within_ns`` (ns since 1970, the end not included).
    """
    found = results.get(first, second, components, stack, band, insist)
    if stack is None:
        keep = found["n_windows"].values > 0
        if within_ns is not None:
            start = found["time"].values.astype("M8[ns]").astype(np.int64)
            keep &= (start >= within_ns[0]) & (start < within_ns[1])
        found = found[keep]
        found.attrs["n_windows"] = int(found["n_windows"].sum())
    found.attrs |= {name: str(results.attributes[name]) for name in ("settings", "software", "created")}
    if reverse:
        found = found.copy(data=found.values[..., ::-1])
        if stack is not None:
            found = found.assign_coords(std_error=("lag_s", found["std_error"].values[::-1]))
        found.attrs["lag_convention"] = REVERSED
    return with_places(results, found, reverse)


def safe(text: str) -> str:
    """Return a text as the name of a file: a code may come from the header of any file, and must not lead elsewhere."""
    return re.sub(r"[^\w.+@-]", "_", text.replace(":", "+")).lstrip(".")


def require_different(names: list[str]) -> None:
    """Raise ExportError if two pairs would have the same name in the export, so that one would be lost."""
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ExportError(
            f"two pairs would have the name {twice[0]!r}; export them apart (--pair), or in another format"
        )


def _traces(pairs: list[xarray.DataArray]) -> Iterator[tuple[str, Any]]:
    """Yield names of files and traces; a trace for each piece of a series."""
    names = [safe("_".join(p.attrs[k] for k in ("station_1", "station_2", "components"))) for p in pairs]
    require_different(names)
    for name, found in zip(names, pairs, strict=True):
        a = found.attrs
        if "time" not in found.dims:
            yield name, trace_of(found)
            continue
        for piece in found:
            piece.attrs = {**a, "n_windows": int(piece["n_windows"])}
            start = str(piece["time"].values)[:19].replace("-", "").replace(":", "")
            yield f"{name}_{start}", trace_of(piece)


def write_sac(pairs: list[xarray.DataArray], target: Path) -> None:
    """Write a SAC file for each pair, or each of its pieces, in a folder for each first station."""
    for name, trace in _traces(pairs):
        path = target / safe(trace.stats.xcorr["station_1"]) / f"{name}.sac"
        path.parent.mkdir(parents=True, exist_ok=True)
        trace.write(str(path), format="SAC")


def write_mseed(pairs: list[xarray.DataArray], target: Path) -> None:
    """Write a file for each pair or piece. The file name has both stations: miniSEED has room for only one."""
    target.mkdir(parents=True)
    for name, trace in _traces(pairs):
        del trace.stats["sac"]
        trace.write(str(target / f"{name}.mseed"), format="MSEED", encoding="FLOAT32")


def write_csv(pairs: list[xarray.DataArray], target: Path) -> None:
    """Write a table with a row for each pair, or for each of its pieces."""
    of_series = "time" in pairs[0].dims
    names = ["station_1", "station_2", "components", "distance_m", "azimuth_deg", "n_windows"]
    names += ([] if of_series else ["snr"]) + ["units", "positive_lag"]
    with target.open("w", newline="") as file:
        rows = csv.writer(file)
        lags = [f"{lag:g}" for lag in pairs[0]["lag_s"].values]
        rows.writerow([*(["time"] if of_series else []), *names, *lags])
        for found in pairs:
            for piece in found if of_series else [found]:
                own = {"n_windows": int(piece["n_windows"])} if of_series else {}
                time = [str(piece["time"].values)[:19]] if of_series else []
                values = (repr(float(v)) for v in piece.values)
                rows.writerow([*time, *((found.attrs | own)[n] for n in names), *values])


def _dataset(pairs: list[xarray.DataArray]) -> xarray.Dataset:
    """Return a dataset with the dimensions pair, lag_s and for series time, as the CF conventions name things."""
    import xarray

    of_series, first = "time" in pairs[0].dims, pairs[0]
    units = sorted({p.attrs["units"] for p in pairs})
    names = [n for n in first.attrs if n not in OF_ALL and (n != "units" or len(units) > 1)]
    coordinates: dict[str, Any] = {n: ("pair", [p.attrs[n] for p in pairs], _unit(n)) for n in names}
    about = {"units": units[0]} if len(units) == 1 else {}
    about["long_name"] = "cross-correlation of ambient noise"
    lag = {"units": "s", "long_name": "lag", "positive_lag": first.attrs["positive_lag"]}
    attributes = {name: first.attrs[name] for name in OF_ALL}
    attributes |= {"Conventions": "CF-1.11", "title": "Cross-correlations of ambient noise", "source": "xcorr"}
    if of_series:
        times = np.unique(np.concatenate([p["time"].values for p in pairs]))
        values = np.full((len(pairs), len(times), len(first["lag_s"])), np.nan, np.float32)
        windows = np.zeros((len(pairs), len(times)), np.int32)
        for k, p in enumerate(pairs):
            at = np.searchsorted(times, p["time"].values)
            values[k, at], windows[k, at] = p.values, p["n_windows"].values
        data: dict[str, Any] = {
            "correlation": (("pair", "time", "lag_s"), values, about),
            "windows": (("pair", "time"), windows, {"long_name": "number of windows"}),
        }
        coordinates["time"] = ("time", times, {"standard_name": "time", "long_name": "start of the piece"})
    else:
        error = np.array([p.coords["std_error"].values for p in pairs])
        data = {
            "correlation": (("pair", "lag_s"), np.array([p.values for p in pairs]), about),
            "std_error": (("pair", "lag_s"), error, about | {"long_name": "standard error of the stack"}),
        }
    coordinates["lag_s"] = ("lag_s", first["lag_s"].values, lag)
    return xarray.Dataset(data, coordinates, attributes)


def _unit(name: str) -> dict[str, str]:
    return {"units": UNITS[name]} if name in UNITS else {}


def write_netcdf(pairs: list[xarray.DataArray], target: Path) -> None:
    """Write one NetCDF file."""
    _dataset(pairs).to_netcdf(target, engine="h5netcdf")


def write_zarr(pairs: list[xarray.DataArray], target: Path) -> None:
    """Write one Zarr store."""
    _dataset(pairs).to_zarr(target, mode="w", zarr_format=2)  # in version 3 texts have no specification yet


def write_asdf(pairs: list[xarray.DataArray], target: Path) -> None:
    """Write auxiliary data ``CrossCorrelation/NET_STA/NET_STA/COMPONENTS``, with all that is known as parameters.

    Series are [piece, lag], with the starts of the pieces (ns since 1970) as a text.
    """
    import pyasdf

    ends_of = [[re.sub(r"\W", "_", p.attrs[f"station_{k}"]) for k in (1, 2)] for p in pairs]
    require_different(["/".join((*e, p.attrs["components"])) for e, p in zip(ends_of, pairs, strict=True)])
    with pyasdf.ASDFDataSet(str(target), compression=None, mpi=False) as file:
        for ends, found in zip(ends_of, pairs, strict=True):
            a = found.attrs
            parameters = {k: v for k, v in a.items() if not (isinstance(v, float) and np.isnan(v)) and k != "settings"}
            parameters |= {
                "first_lag_s": float(found["lag_s"][0]),
                "step_s": float(found["lag_s"][1] - found["lag_s"][0]),
            }
            if "time" in found.dims:
                parameters["starts_ns"] = " ".join(map(str, found["time"].values.astype("i8")))
            file.add_auxiliary_data(
                data=np.asarray(found.values),
                data_type="CrossCorrelation",
                path="/".join((*ends, a["components"])),
                parameters=parameters,
            )
