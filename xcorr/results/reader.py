"""Opens a campaign's results: pairs as a table, correlations as labelled arrays or ObsPy traces."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from xcorr.core.errors import nearest
from xcorr.pes.preparing.orient import stored_pairs
from xcorr.pes.stacking.result_file import FORMAT, NAME, stack_path
from xcorr.pes.storing.smaller import find_filters
from xcorr.results.afterwards import LINEAR, made_stacks, rows_of
from xcorr.results.errors import ResultsError
from xcorr.results.series import SeriesReader, chunk_places, glance_at
from xcorr.results.summary import as_html, as_text

if TYPE_CHECKING:
    import obspy
    import pandas
    import xarray

    from xcorr.results.dispersion import Dispersions
    from xcorr.results.monitoring import Monitoring
    from xcorr.settings import Settings


def open(path: str | Path) -> Results:
    """Open a campaign folder or its ``xcorr.h5``.

    Raises ResultsError if there is no result file, or if xcorr did not write the file.
    """
    return Results(Path(path))


class Results:
    """The results of a campaign, read from ``xcorr.h5`` and, for series, from the shards.

    Lag convention: C(tau) = sum x1(t) x2(t + tau); positive lag = the wave travels from station 1 to 2.
    """

    def __init__(self, path: Path) -> None:
        import h5py

        self.path = path / NAME if path.is_dir() else path
        if not self.path.is_file():
            raise ResultsError(f"there are no results at {str(path)!r}: no {NAME}; a finished run writes it")
        find_filters()
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
        self._series = SeriesReader(self.file, self.path)
        self._places: dict[str, np.ndarray | None] = {}  # of chunks in the file, by dataset

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
        return LINEAR if LINEAR in self.stacks else self.stacks[0]

    @functools.cached_property
    def report(self) -> dict[str, Any]:
        """The report of the last run (``report.json``): what was used, and what went wrong. Empty if there is none.

        Raises ReportDamaged if it cannot be read.
        """
        from xcorr.store.report import NAME as REPORT
        from xcorr.store.report import read_report

        return read_report(self.path.parent) if self.path.with_name(REPORT).is_file() else {}

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings of the campaign, as it was last run or stacked."""
        from xcorr.settings.toml import build

        return build(tomllib.loads(str(self.attributes["settings"])))

    @functools.cached_property
    def units(self) -> str:
        """The unit of the correlations of ground motion; ``1`` if amplitudes were evened out."""
        return str(self.attributes.get("units") or self.settings.units)

    def units_of(self, components: str) -> str:
        """Return the unit of the correlations of a component pair; hydrophones (H) measure pressure."""
        return self.settings.units_of(components) if "H" in components else self.units

    @property
    def station_numbers(self) -> Mapping[str, int]:
        """The number of every station, by its id."""
        return self._number

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
        self,
        first: str,
        second: str,
        components: str = "ZZ",
        stack: str | None = LINEAR,
        band: str = "",
        insist: bool = False,
    ) -> xarray.DataArray:
        """Return a pair's correlation.

        With the name of a stack in ``stack``, the array is [lag], with ``std_error`` as a coordinate. With None it is
        the series [piece, lag]. ``band`` names a further band. A pair given in the opposite order of the campaign is
        time-reversed, and its R and T point in the opposite directions. R and T that are not in the results are made
        of the series of N and E, as they would have been made beforehand. Raises ResultsError if the pair, components,
        stack or band do not exist, or if such R and T are not those of the ground, unless one ``insists``.
        """
        import xarray

        row = self.row(first, second)
        swapped = self._number[first] > self._number[second]
        stored = components[::-1] if swapped else components
        order = slice(None, None, -1) if swapped else slice(None)
        # seen from the other station R and T change sign; two changes cancel
        sign = -1 if swapped and sum(c in "RT" for c in components) == 1 else 1
        attributes = self._attributes(row, first, second, components, swapped)
        attributes["units"] = self.units_of(components)
        name = f"{first}-{second} {components}"
        self._require(stored, components, self.main_stack if stack is None else stack, band, insist)
        if stack is None:
            series, windows = (part[:, 0] for part in self._series.read(stored, band, slice(row, row + 1)))
            return xarray.DataArray(
                sign * series[:, order],
                coords={"time": self.pieces[:, 0], "lag_s": self.lags_s, "n_windows": ("time", windows)},
                dims=("time", "lag_s"),
                name=name,
                attrs=attributes,
            )
        if stored in self.components:
            group = self.file[stack_path(band, stack, stored)]
            found = {kind: group[kind][row] for kind in ("mean", "std_error", "n_windows", "snr", "symmetry")}
        else:
            found = {kind: values[0] for kind, values in self._made(stored, stack, band, np.array([row])).items()}
        attributes |= {kind: found[kind].item() for kind in ("n_windows", "snr", "symmetry")}
        return xarray.DataArray(
            sign * found["mean"][order],
            coords={"lag_s": self.lags_s, "std_error": ("lag_s", found["std_error"][order])},
            dims=("lag_s",),
            name=name,
            attrs=attributes,
        )

    def _require(self, stored: str, components: str, stack: str, band: str, insist: bool) -> None:
        """Raise ResultsError if components, stack or band do not exist, or R and T would not be those of the ground."""
        if stack not in self.stacks:
            raise ResultsError(f"no stack {stack!r}{nearest(stack, self.stacks)}; there are {', '.join(self.stacks)}")
        if band not in self.bands:
            raise ResultsError(f"no band {band!r}{nearest(band, self.bands)}; there are {self.bands}")
        if stored in self.components:
            return
        is_pair = len(stored) == 2 and set(stored) <= set("ZNEHRT")
        if not is_pair or not (set(stored_pairs(stored)) <= set(self.components) or self._series.has(stored, band)):
            also = "; R and T can be made of Z, N and E where these are there" if set(components) & set("RT") else ""
            raise ResultsError(f"no components {components!r}; there are {', '.join(self.components)}{also}")
        if set(stored) & set("RT") and self.settings.rotation_doubts and not insist:
            doubts = "; ".join(self.settings.rotation_doubts)
            raise ResultsError(f"{components}: {doubts}; insist (--insist) to make them anyway")

    def _made(self, components: str, stack: str, band: str, rows: np.ndarray) -> dict[str, np.ndarray]:
        return made_stacks(self._series, self.settings, components, stack, band, rows)

    def select(
        self,
        distance_km: tuple[float, float] | None = None,
        azimuth_deg: tuple[float, float] | None = None,
        pairs: Sequence[str] = (),
        networks: Sequence[str] = (),
        where: str = "",
        components: str = "ZZ",
        stack: str | None = None,
        band: str = "",
    ) -> pandas.DataFrame:
        """Return the pairs with distance and azimuth (1 to 2) in these ranges, limits included, and with these names.

        ``where`` is a condition on them and on their stack, as ``snr > 10``. All is as :class:`Selection` says. Raises
        ResultsError for a pattern of names that names no pair, ConditionError for a condition that is none.
        """
        from xcorr.results.pair_table import PairTable
        from xcorr.results.selection import Selection  # these modules name the class Results

        chosen = Selection(distance_km, azimuth_deg, tuple(pairs), tuple(networks), where)
        return self.pairs.iloc[chosen.rows(PairTable(self, components, stack, band))]

    def gather(
        self,
        components: str = "ZZ",
        stack: str | None = None,
        band: str = "",
        rows: Sequence[int] | np.ndarray | None = None,
        insist: bool = False,
        at_a_glance: bool = False,
    ) -> np.ndarray:
        """Return the stacks of all pairs, or of some rows in their order, [row, lag] float32.

        Default: the linear stack, else the first one. R and T are made as :meth:`get` makes them. Raises as it does.
        ``at_a_glance``: some rows for a picture, faster, without comparing checksums.
        """
        stack = stack or self.main_stack
        self._require(components, components, stack, band, insist)
        wanted = np.arange(len(self._keys)) if rows is None else np.asarray(rows, np.int64)
        if components not in self.components:
            made, back = np.unique(wanted, return_inverse=True)
            return self._made(components, stack, band, made)["mean"][back]
        mean = self.file[stack_path(band, stack, components)]["mean"]
        if at_a_glance and rows is not None and len(wanted) < len(mean):
            if mean.name not in self._places:
                self._places[mean.name] = None if mean.is_virtual else chunk_places(mean)
            if (places := self._places[mean.name]) is not None:
                return glance_at(mean, places, wanted)
        gather: np.ndarray = mean[...] if rows is None else rows_of(mean, wanted)
        return gather

    def numbers(
        self,
        name: str,
        components: str = "ZZ",
        stack: str | None = None,
        band: str = "",
        rows: np.ndarray | None = None,
        insist: bool = False,
    ) -> np.ndarray:
        """Return ``snr``, ``symmetry`` or ``n_windows`` of stacks of pairs, or of some rows, [row]. Raises as get."""
        stack = stack or self.main_stack
        self._require(components, components, stack, band, insist)
        wanted = np.arange(len(self._keys)) if rows is None else rows
        if components not in self.components:
            return self._made(components, stack, band, wanted)[name]
        values: np.ndarray = self.file[stack_path(band, stack, components)][name][...][wanted]
        return values

    def has_series(self, components: str = "ZZ", band: str = "") -> bool:
        """Return whether the series of a component pair are there, or can be made of those that are."""
        return self._series.has(components, band)

    def windows(self, components: str, band: str, rows: slice, pieces: slice | None = None) -> np.ndarray:
        """Return the numbers of windows of the series of a component pair that is stored, [piece, row].

        Of other ``pieces`` than those given, nothing is read, and the numbers are 0.
        """
        return self._series.windows(components, band, rows, pieces)

    def trace(
        self, first: str, second: str, components: str = "ZZ", stack: str = LINEAR, band: str = "", insist: bool = False
    ) -> obspy.Trace:
        """Return a stack as an ObsPy trace with a SAC header; its start time is 1970-01-01 plus the first lag."""
        from xcorr.results.traces import trace_of, with_places

        return trace_of(with_places(self, self.get(first, second, components, stack, band, insist)))

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

    @property
    def monitoring(self) -> Monitoring:
        """The velocity changes that ``xcorr monitor`` has measured. Raises ResultsError if there are none."""
        from xcorr.results.monitoring import Monitoring

        return Monitoring(self.path.parent)

    @property
    def dispersion(self) -> Dispersions:
        """The velocities that ``xcorr dispersion`` has measured. Raises ResultsError if there are none."""
        from xcorr.results.dispersion import Dispersions

        return Dispersions(self.path.parent)

    def dataset(self, name: str) -> np.ndarray:
        """Return a whole dataset of the file."""
        values: np.ndarray = self.file[name][...]
        return values

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def __repr__(self) -> str:
        """Return where the results are and what they hold."""
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)

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
