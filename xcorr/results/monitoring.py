"""Velocity changes of a campaign, read from ``monitor.h5``: labelled arrays, tables, networks, clocks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xcorr.pes.monitoring.flags import NO_DATA
from xcorr.pes.monitoring.measure import Measurer, SeriesOfRows, window_of_all
from xcorr.pes.monitoring.monitor_file import FORMAT, MEANING, NAME, VERSION
from xcorr.results.errors import ResultsError
from xcorr.results.measured_file import MeasuredFile
from xcorr.results.reader import Results
from xcorr.results.selection import Selection

if TYPE_CHECKING:
    import pandas
    import xarray

    from xcorr.settings.tables import Monitor

AT_ONCE = 4096  # pairs whose flags are counted at once
UNITS = {"dvv": "1", "error": "1", "difference": "1", "coefficient": "1", "n_windows": "1", "delay_s": "s"}


class Monitoring(MeasuredFile):
    """The velocity changes of a campaign. Raises ResultsError if there are none."""

    file_name, file_format, file_version = NAME, FORMAT, VERSION
    command, what = "xcorr monitor", "velocity changes"

    def settings(self, name: str = "", components: str = "") -> Monitor:
        """Return the settings that a measurement was made with."""
        from xcorr.settings.tables import Monitor

        return Monitor(**self._settings(name, components))

    def get(
        self, name: str = "", components: str = "", pairs: Sequence[str] = (), rows: np.ndarray | None = None
    ) -> xarray.Dataset:
        """Return a measurement as a dataset [time, pair].

        Its variables are ``dvv``, ``error``, ``coefficient``, ``n_windows``, ``flag``, and what the measurement has
        besides. ``time`` is the start of each piece. Default: the first measurement, component pair, and all pairs that
        were measured. ``pairs`` are names such as ``XX.A-XX.B``, in either order; ``rows`` are those of the campaign.
        """
        import xarray

        group = self.group(name, components)
        first, second = self._ends()
        table, pieces = self.file["pairs"][...], self.file["pieces"][...]
        chosen = self._rows(first, second, lambda: (group["n_windows"][...] > 0).any(axis=0), pairs, rows)
        times = pieces["start_ns"].astype("datetime64[ns]")
        span = slice(chosen.min(initial=len(table)), chosen.max(initial=-1) + 1)  # h5py is slow where rows are listed
        dims = ("time", "pair")
        variables = {}
        for field in MEANING:
            if field in group:
                data = group[field]
                values = data[:, span][:, chosen - span.start]
                units = {"units": UNITS[field]} if field in UNITS else {}
                variables[field] = (dims, values, {"long_name": str(data.attrs["meaning"]), **units})
        return xarray.Dataset(
            variables,
            {
                "time": times,
                "end": ("time", pieces["end_ns"].astype("datetime64[ns]")),
                "pair": first[chosen].astype(object) + "-" + second[chosen].astype(object),
                "station_1": ("pair", first[chosen].astype(object)),
                "station_2": ("pair", second[chosen].astype(object)),
                "distance_m": ("pair", table["distance_m"][chosen], {"units": "m"}),
            },
            self._attributes(group),
        )

    def table(self, name: str = "", components: str = "", pairs: Sequence[str] = ()) -> pandas.DataFrame:
        """Return a measurement as a table with a row for each pair and piece that has data."""
        return as_table(self.get(name, components, pairs))

    def similarity(self, results: Results, first: str, second: str, name: str = "", components: str = "") -> Any:
        """Return the coefficients of a pair, [time, epsilon], of which the largest gave ``dvv``, made anew.

        Raises ResultsError for a measurement that has no single reference to stretch.
        """
        import xarray

        from xcorr.settings.monitoring import measurement_of

        of = self.settings(name, components)
        how = measurement_of(results.settings, of)
        if how.method != "stretching" or how.reference.kind not in ("whole", "period"):
            raise ResultsError(f"{of.name}: only stretching with one reference has coefficients by stretch")
        pair = self.group(name, components).name.rpartition("/")[2]
        series = results.get(*in_order(results, first, second), pair, None, of.band)
        if series["time"].values.astype("i8").tolist() != self.file["pieces"]["start_ns"].tolist():
            raise ResultsError(f"{self.path}: is of other pieces than the series; xcorr monitor brings it up to date")
        rate = 1 / (results.lags_s[1] - results.lags_s[0])
        middle, times = len(results.lags_s) // 2, results.pieces.astype("i8")
        distance = np.array([series.attrs["distance_m"] if of.velocity_km_s else 0.0])
        window = window_of_all(how, distance, rate)
        step = int(times[0, 1] - times[0, 0])
        rows = SeriesOfRows(series.values[:, None], series["n_windows"].values[:, None], times, distance)
        values = Measurer(how, rate, middle, window, step).coefficients(rows)
        coordinates = {"time": results.pieces[:, 0], "epsilon": how.stretches}
        return xarray.DataArray(values, coordinates, ("time", "epsilon"), "coefficient")


def in_order(results: Results, first: str, second: str) -> tuple[str, str]:
    """Return two stations in the order of the campaign, which is that of measurements. Raises ResultsError as row."""
    results.row(first, second)
    numbers = results.station_numbers
    return (first, second) if numbers[first] <= numbers[second] else (second, first)


def export_changes(
    results: Results, target: Path, kind: str, name: str = "", components: str = "", selection: Selection | None = None
) -> int:
    """Write a measurement as ``csv`` (a line for each pair and piece with data) or ``netcdf``; return its pairs.

    Raises ResultsError for another kind, a target that exists, or a selection without any pair measured.
    """
    if kind not in ("csv", "netcdf"):
        raise ResultsError(f"velocity changes are exported as csv or netcdf, not as {kind}")
    if target.exists():
        raise ResultsError(f"{target} exists already; remove it or choose another target with -o")
    with results.monitoring as of:
        changes = of.get(name, components, rows=of.selected(results, components, selection))
    changes = changes.isel(pair=(changes["n_windows"].values > 0).any(axis=0))
    if not changes.sizes["pair"]:
        raise ResultsError(f"{name or 'velocity changes'}: no pair with data is selected")
    if kind == "netcdf":
        changes.to_netcdf(target, engine="h5netcdf")
    else:
        as_table(changes).rename(columns={"time": "start"}).to_csv(target, index=False)
    return int(changes.sizes["pair"])


def tallies(path: Path) -> list[str]:
    """Return a line for each measurement: how many values it has, and how many of them are flagged."""
    import h5py

    lines = []
    with h5py.File(path) as file:
        for name, of in file.items():
            for pair, group in of.items() if isinstance(of, h5py.Group) else ():
                flag, counted = group["flag"], np.zeros(256, np.int64)
                for low in range(0, flag.shape[1], AT_ONCE):
                    counted += np.bincount(flag[:, low : low + AT_ONCE].ravel(), minlength=256)
                values = counted.sum() - counted[NO_DATA]
                none = "; nothing could be measured" if not values else ""
                lines.append(f"{name} {pair}: {values} value(s), {values - counted[0]} flagged{none}")
    return lines


def as_table(changes: xarray.Dataset) -> pandas.DataFrame:
    """Return a measurement as a table with a row for each pair and piece that has data, by pair and time."""
    table = changes.drop_vars(["station_1", "station_2", "distance_m"]).to_dataframe().reset_index()
    order = ["pair", "time", "end", *(name for name in MEANING if name in changes)]
    return table[order][table["n_windows"] > 0].sort_values(["pair", "time"], ignore_index=True)
