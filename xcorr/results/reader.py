"""Opens a campaign's results: pairs as a table, correlations as labelled arrays or ObsPy traces."""

from __future__ import annotations

import functools
import os
import tomllib
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from xcorr.core import XcorrError
from xcorr.core.errors import nearest
from xcorr.pes.preparing.orient import rotated, stored_pairs
from xcorr.pes.stacking.result_file import FORMAT, NAME, stack_path
from xcorr.pes.storing.shards import series_path

if TYPE_CHECKING:
    import obspy
    import pandas
    import xarray


class ResultsError(XcorrError, KeyError):
    """A result that was asked for does not exist: file, pair, components, band or stack."""

    def __str__(self) -> str:
        """Return the message itself: KeyError would show its repr."""
        return str(self.args[0])


def open(path: str | Path) -> Results:
    """Open a campaign folder or its ``xcorr.h5``.

    Raises ResultsError if there is no result file, or if xcorr did not write the file.
    """
    return Results(Path(path))


def _units_of(settings: str) -> str:
    """Return the unit of correlations of an earlier version, from its settings."""
    from xcorr.settings.toml import build

    return build(tomllib.loads(settings)).units


class Results:
    """The results of a campaign, read from ``xcorr.h5`` and, for series, from the shards.

    Lag convention: C(tau) = sum x1(t) x2(t + tau); positive lag = the wave travels from station 1 to 2.
    """

    def __init__(self, path: Path) -> None:
        import h5py

        self.path = path / NAME if path.is_dir() else path
        if not self.path.is_file():
            raise ResultsError(f"there are no results at {str(path)!r}: no {NAME}; a finished run writes it")
        try:
            self.file = h5py.File(self.path)
        except OSError as error:
            raise ResultsError(f"{self.path} cannot be read as HDF5: {error}") from error
        if self.file.attrs.get("format") != FORMAT:
            raise ResultsError(f"{self.path} was not written by xcorr; name a campaign folder or its {NAME}")
        self.lags_s: np.ndarray = self.file["lags_s"][...]
        self.stacks: list[str] = sorted(self.file["stacks"])
        self.components: list[str] = sorted(self.file["stacks"][self.stacks[0]])
        self.bands: list[str] = ["", *sorted(self.file.get("bands", ()))]
        self.attributes: dict[str, Any] = dict(self.file.attrs)
        self._stations = self.file["stations"][...]
        self._number = {s.decode(): i for i, s in enumerate(self._stations["id"])}
        ends = self.file["pairs"].fields(["station_1", "station_2"])[...]
        self._keys = ends["station_1"].astype(np.int64) * len(self._stations) + ends["station_2"]
        self._order = np.argsort(self._keys, kind="stable")

    @property
    def stations(self) -> pandas.DataFrame:
        """The stations: id, network, station, latitude, longitude, elevation_m."""
        return _frame(self._stations)

    @property
    def pairs(self) -> pandas.DataFrame:
        """The pairs by row: ids of station 1 and 2, distance_m, azimuth_deg, back_azimuth_deg (1 to 2)."""
        table = _frame(self.file["pairs"][...])
        names = self.stations["id"].to_numpy()
        for which in ("station_1", "station_2"):
            table[which] = names[table[which].to_numpy()]
        return table

    @property
    def pieces(self) -> np.ndarray:
        """Start and end of every piece of the series, datetime64[ns], [piece, 2]."""
        table = self.file["pieces"][...]
        return np.stack([table["start_ns"], table["end_ns"]], axis=1).astype("datetime64[ns]")

    @property
    def main_stack(self) -> str:
        """The linear stack, which is never behind; the first one if there is none."""
        return "linear" if "linear" in self.stacks else self.stacks[0]

    def row(self, first: str, second: str) -> int:
        """Return the row of a pair in the order of the campaign. Raises ResultsError if there is none."""
        for name in (first, second):
            if name not in self._number:
                raise ResultsError(
                    f"no station {name!r} in these results{nearest(name, self._number)}; there are {len(self._number)}"
                )
        i, j = sorted((self._number[first], self._number[second]))
        at = np.searchsorted(self._keys, i * len(self._number) + j, sorter=self._order)
        if at == len(self._order) or self._keys[self._order[at]] != i * len(self._number) + j:
            raise ResultsError(
                f"the pair {first} and {second} is not in these results"
                + (": autocorrelations were not asked for" if i == j else ", by its selection of pairs")
            )
        return int(self._order[at])

    def get(
        self, first: str, second: str, components: str = "ZZ", stack: str | None = "linear", band: str = ""
    ) -> xarray.DataArray:
        """Return a pair's correlation.

        With the name of a stack in ``stack``, the array is [lag], with ``std_error`` as a coordinate. With None it is
        the series [piece, lag]. ``band`` names a further band. A pair given in the opposite order of the campaign is
        time-reversed, and its R and T point in the opposite directions. Raises ResultsError if the pair, components,
        stack or band do not exist.
        """
        import xarray

        row = self.row(first, second)
        swapped = self._number[first] > self._number[second]
        stored = components[::-1] if swapped else components
        if stored not in self.components:
            raise ResultsError(
                f"no components {components!r} for {first} and {second}; there are {', '.join(self.components)}"
            )
        if band not in self.bands:
            raise ResultsError(f"no band {band!r}{nearest(band, self.bands)}; there are {self.bands}")
        order = slice(None, None, -1) if swapped else slice(None)
        # seen from the other station R and T change sign; two changes cancel
        sign = -1 if swapped and sum(c in "RT" for c in components) == 1 else 1
        attributes = self._attributes(row, first, second, components, swapped) | {"units": self.units}
        if stack is None:
            starts = self.pieces[:, 0]
            series, windows = self._series(band, stored, row)
            return xarray.DataArray(
                sign * series[:, order],
                coords={"time": starts, "lag_s": self.lags_s, "n_windows": ("time", windows)},
                dims=("time", "lag_s"),
                name=f"{first}-{second} {components}",
                attrs=attributes,
            )
        if stack not in self.stacks:
            raise ResultsError(f"no stack {stack!r}{nearest(stack, self.stacks)}; there are {', '.join(self.stacks)}")
        group = self.file[stack_path(band, stack, stored)]
        attributes |= {name: group[name][row].item() for name in ("n_windows", "snr", "symmetry")}
        return xarray.DataArray(
            sign * group["mean"][row][order],
            coords={"lag_s": self.lags_s, "std_error": ("lag_s", group["std_error"][row][order])},
            dims=("lag_s",),
            name=f"{first}-{second} {components}",
            attrs=attributes,
        )

    def select(
        self, distance_km: tuple[float, float] | None = None, azimuth_deg: tuple[float, float] | None = None
    ) -> pandas.DataFrame:
        """Return the pairs with distance and azimuth (1 to 2) in these ranges, limits included.

        Azimuths go clockwise from the first to the last, through north if the last is smaller.
        """
        table = self.pairs
        keep = np.ones(len(table), bool)
        if distance_km is not None:
            keep &= table["distance_m"].between(*(1000 * d for d in distance_km)).to_numpy()
        if azimuth_deg is not None:
            first, last = azimuth_deg
            keep &= ((table["azimuth_deg"] - first) % 360 <= (last - first) % 360 + 1e-9).to_numpy() | (
                last - first >= 360
            )
        return table[keep]

    def gather(self, components: str = "ZZ", stack: str | None = None, band: str = "") -> np.ndarray:
        """Return the stacks of all pairs, [row, lag] float32. Default: the linear stack, else the first one."""
        stack = stack or self.main_stack
        if stack not in self.stacks or components not in self.components or band not in self.bands:
            raise ResultsError(
                f"no stack {stack!r} of {components!r} in band {band!r}; stacks are {self.stacks}, "
                f"components {self.components}, bands {self.bands}"
            )
        gather: np.ndarray = self.file[stack_path(band, stack, components)]["mean"][...]
        return gather

    def trace(self, first: str, second: str, components: str = "ZZ", stack: str = "linear") -> obspy.Trace:
        """Return a stack as an ObsPy trace; its start time is 1970-01-01 plus the first lag."""
        import obspy

        found = self.get(first, second, components, stack)
        network, station = second.split(".")
        header = {
            "network": network,
            "station": station,
            "channel": components,
            "sampling_rate": (len(self.lags_s) - 1) / (self.lags_s[-1] - self.lags_s[0]),
            "starttime": obspy.UTCDateTime(float(self.lags_s[0])),
            "xcorr": dict(found.attrs),
        }
        return obspy.Trace(np.ascontiguousarray(found.values), header)

    def _series(self, band: str, components: str, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return series [piece, lag] and numbers of windows of a pair. R and T are computed from N and E."""
        parts = {pair: self._stored_series(band, pair, row) for pair in stored_pairs(components)}
        n = np.min([windows for _, windows in parts.values()], axis=0)
        if components in parts:
            return parts[components][0], n
        azimuth = np.full(1, self.file["pairs"][row]["azimuth_deg"])
        turned = rotated({pair: series for pair, (series, _) in parts.items()}, azimuth, components)
        return np.where(n[:, None] > 0, turned, np.nan).astype(np.float32), n

    def _stored_series(self, band: str, components: str, row: int) -> tuple[np.ndarray, np.ndarray]:
        import h5py

        if series_path(band, components) not in self.file:
            raise ResultsError(f"{self.path}: the series were not kept (stack.keep_series = false); only stacks exist")
        virtual = self.file[series_path(band, components)]
        if not virtual.is_virtual:  # packed
            return virtual[:, row], self.file[series_path(band, components, "series_n_windows")][:, row]
        windows = np.zeros(len(self.pieces), np.int32)
        series = np.full((len(self.pieces), len(self.lags_s)), np.nan, np.float32)
        shards = self.file["shards"][...]
        holds = (shards["first_row"] <= row) & (row < shards["first_row"] + shards["rows"])
        open_files: dict[bytes, Any] = {}
        for piece, first, _, path in shards[holds].tolist():
            file, _, group = path.partition(b"#")
            if file not in open_files:  # by h5f, which is faster than File
                try:
                    found = h5py.h5f.open(os.fsencode(self.path.parent) + b"/" + file, h5py.h5f.ACC_RDONLY)
                except OSError as error:
                    raise ResultsError(
                        f"{self.path}: the shard {file.decode()} cannot be read ({error}); open the results again if a "
                        "run or xcorr compact has changed the campaign, else run xcorr verify"
                    ) from error
                open_files = {file: found}
            inside = group + b"/" if group else b""
            for values, kind in ((series, "series"), (windows, "series_n_windows")):
                name = inside + series_path(band, components, kind).encode()
                part = h5py.Dataset(h5py.h5d.open(open_files[file], name))[:, row - first]
                values[piece : piece + len(part)] = part
        return series, windows

    def _attributes(self, row: int, first: str, second: str, components: str, swapped: bool) -> dict[str, Any]:
        pair = self.file["pairs"][row]
        azimuths = (float(pair["azimuth_deg"]), float(pair["back_azimuth_deg"]))
        azimuth, back_azimuth = azimuths[::-1] if swapped else azimuths
        return {
            "station_1": first,
            "station_2": second,
            "components": components,
            "distance_m": float(pair["distance_m"]),
            "azimuth_deg": azimuth,
            "back_azimuth_deg": back_azimuth,
            "lag_convention": self.attributes["lag_convention"],
        }

    def dataset(self, name: str) -> np.ndarray:
        """Return a whole dataset of the file."""
        values: np.ndarray = self.file[name][...]
        return values

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    @functools.cached_property
    def units(self) -> str:
        """The unit of the correlations; ``1`` if amplitudes were evened out."""
        return str(self.attributes.get("units") or _units_of(str(self.attributes["settings"])))

    def __enter__(self) -> Results:
        """Return the results for a ``with`` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file at the end of a ``with`` block."""
        self.close()


def _frame(table: np.ndarray) -> pandas.DataFrame:
    import pandas

    assert table.dtype.names is not None
    columns = {n: table[n].astype(str) if table[n].dtype.kind == "S" else table[n] for n in table.dtype.names}
    return pandas.DataFrame(columns)
