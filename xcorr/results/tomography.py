"""Dispersion in the formats of tomography programs, and as tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xcorr.core import installed
from xcorr.core.errors import nearest
from xcorr.pes.dispersion import flags
from xcorr.results.errors import ResultsError
from xcorr.results.reader import Results
from xcorr.results.selection import Selection

if TYPE_CHECKING:
    import xarray

WAVES = {"ZZ": "rayleigh", "RR": "rayleigh", "TT": "love"}
DSURFTOMO = {"rayleigh": 2, "love": 1}  # its numbers of wave types
VELOCITIES = ("phase", "group")


def export_dispersion(
    results: Results, target: Path, kind: str, name: str = "", components: str = "", selection: Selection | None = None
) -> int:
    """Write a measurement in a format; return the number of pairs in it.

    ``kind`` is an entry point of the group ``xcorr.dispersion_exports``. Raises ResultsError for another kind, a target
    that exists, or a selection without any accepted velocity.
    """
    kinds = installed.names("dispersion_exports")
    if kind not in kinds:
        raise ResultsError(f"dispersion is exported as {', '.join(kinds)}, not as {kind!r}{nearest(kind, kinds)}")
    if target.exists():
        raise ResultsError(f"{target} exists already; remove it or choose another target with -o")
    with results.dispersion as of:
        rows = of.selected(results, components, selection)
        wanted = [components] if components else of.components(name)
        found = {pair: of.get(name, pair, rows=rows) for pair in wanted}
    accepted = {pair: (x["phase_accepted"] | x["group_accepted"]).values.any(axis=1) for pair, x in found.items()}
    if not any(mask.any() for mask in accepted.values()):
        raise ResultsError(f"{name or 'dispersion'}: no pair with an accepted velocity is selected")
    installed.load("dispersion_exports", kind)(found, target)
    if kind in ("csv", "netcdf"):  # which have all values
        accepted = {pair: ((x["flag"] & flags.NO_DATA) == 0).values.any(axis=1) for pair, x in found.items()}
    names = [x["pair"].values[accepted[pair]] for pair, x in found.items()]
    return len(np.unique(np.concatenate(names).astype(str)))


def write_csv(found: Mapping[str, xarray.Dataset], target: Path) -> None:
    """Write a line for each component pair, pair and period that has data; velocities in km/s, periods in s."""
    import pandas

    frames = []
    for components, of in found.items():
        frame = of.drop_vars(["network_phase_km_s", "network_group_km_s"]).to_dataframe().reset_index()
        frame.insert(1, "components", components)
        frames.append(frame[(frame["flag"] & flags.NO_DATA) == 0])
    pandas.concat(frames).to_csv(target, index=False)


def write_netcdf(found: Mapping[str, xarray.Dataset], target: Path) -> None:
    """Write a group for each component pair."""
    for k, (components, of) in enumerate(found.items()):
        plain = of.assign({name: of[name].astype(np.int8) for name in of if of[name].dtype == bool})
        plain.to_netcdf(target, mode="a" if k else "w", group=components, engine="h5netcdf")


def write_dsurftomo(found: Mapping[str, xarray.Dataset], target: Path) -> None:
    """Write ``surfdata.dat``, the data of DSurfTomo (Fang et al. 2015, GJI 201), and lines for its parameter file.

    A line ``# latitude longitude period wave velocity`` names a source; wave is 2 for Rayleigh and 1 for Love,
    velocity 0 for phase and 1 for group. Lines of receivers follow: latitude, longitude, velocity in km/s. Periods are
    numbers, from 1, in the list of that wave and velocity; that list is in ``periods.txt``, as its parameter file has
    it. Rayleigh waves are those of ZZ, or else of RR.
    """
    places = {components: _ends(of) for components, of in found.items()}
    target.mkdir(parents=True)
    lines, lists = [], []
    by_wave: dict[str, xarray.Dataset] = {}
    for components, of in found.items():
        wave = WAVES[components]
        if wave not in by_wave or components == "ZZ":
            by_wave[wave] = of
    for wave in ("rayleigh", "love"):
        for number, velocity in enumerate(VELOCITIES):
            of_wave = by_wave.get(wave)
            accepted = np.zeros((0, 0), bool) if of_wave is None else of_wave[f"{velocity}_accepted"].values
            used = np.flatnonzero(accepted.any(axis=0)).tolist()
            lists.append(f"{len(used)}  c: periods of {wave} {velocity} velocity")
            if of_wave is None or not used:
                continue
            lists.append(" ".join(f"{of_wave['period'].values[k]:.6g}" for k in used))
            ends = places[of_wave.attrs["components"]]
            for index, k in enumerate(used, 1):
                good = np.flatnonzero(accepted[:, k])
                values = of_wave[f"{velocity}_km_s"].values[:, k]
                for source in np.unique(ends[good, 0], axis=0):
                    lines.append(f"# {source[0]:.6f} {source[1]:.6f} {index} {DSURFTOMO[wave]} {number}")
                    receivers = good[(ends[good, 0] == source).all(axis=1)]
                    lines += [f"{ends[r, 1, 0]:.6f} {ends[r, 1, 1]:.6f} {values[r]:.5f}" for r in receivers]
    (target / "surfdata.dat").write_text("\n".join(lines) + "\n", "utf-8")
    (target / "periods.txt").write_text("\n".join(lists) + "\n", "utf-8")


def write_surfatt(found: Mapping[str, xarray.Dataset], target: Path) -> None:
    """Write ``rayleigh_phase.csv``, ``rayleigh_group.csv`` and those of Love waves, the data of SurfATT.

    Columns of its manual: travel time (s), names and places of station and event (here the other station), period (s),
    weight (1), distance (km) and velocity (km/s).
    """
    import pandas

    places = {components: _ends(of) for components, of in found.items()}
    target.mkdir(parents=True)
    for components, of in found.items():
        for velocity in VELOCITIES:
            row, k = np.nonzero(of[f"{velocity}_accepted"].values)
            path = target / f"{WAVES[components]}_{velocity}.csv"
            if not len(row) or (path.exists() and components != "ZZ"):
                continue
            values, distance = of[f"{velocity}_km_s"].values[row, k], of["distance_km"].values[row]
            ends = places[components][row]
            pandas.DataFrame(
                {
                    "tt": distance / values,
                    "staname": of["station_2"].values[row],
                    "stla": ends[:, 1, 0],
                    "stlo": ends[:, 1, 1],
                    "evtname": of["station_1"].values[row],
                    "evla": ends[:, 0, 0],
                    "evlo": ends[:, 0, 1],
                    "period": of["period"].values[k],
                    "weight": 1.0,
                    "dist": distance,
                    "vel": values,
                }
            ).to_csv(path, index=False, float_format="%.6f")


def write_fmst(found: Mapping[str, xarray.Dataset], target: Path) -> None:
    """Write a folder for each wave, velocity and period with the data of FMST (Rawlinson & Sambridge 2005).

    ``sources.dat`` and ``receivers.dat``: their number, then latitude and longitude of each. ``otimes.dat``: for each
    source and, within it, each receiver, 1 or 0 (a time is there or not), travel time (s) and its error (s). The
    stations are both sources and receivers; a time is between the first and the second station of a pair.
    """
    for components, of in found.items():
        ends = _ends(of)
        for velocity in VELOCITIES:
            accepted = of[f"{velocity}_accepted"].values
            for k in np.flatnonzero(accepted.any(axis=0)).tolist():
                good = np.flatnonzero(accepted[:, k])
                value, error = (of[f"{velocity}_{what}"].values[good, k] for what in ("km_s", "error_km_s"))
                time = of["distance_km"].values[good] / value
                spread = np.where(np.isfinite(error), time * error / value, 0.01 * time)
                stations = [of[f"station_{number}"].values[good].astype(str) for number in (1, 2)]
                (_, first, source), (_, last, receiver) = (
                    np.unique(names, return_index=True, return_inverse=True) for names in stations
                )
                sources, receivers = ends[good[first], 0], ends[good[last], 1]
                table = np.zeros((len(sources), len(receivers), 3))
                table[source, receiver] = np.stack([np.ones(len(good)), time, spread], axis=1)
                name = f"{WAVES[components]}_{components}_{velocity}_{of['period'].values[k]:08.4f}s"
                folder = target / name
                folder.mkdir(parents=True)
                for file, places in (("sources.dat", sources), ("receivers.dat", receivers)):
                    rows = [f"{latitude:.6f} {longitude:.6f}" for latitude, longitude in places]
                    (folder / file).write_text("\n".join([str(len(rows)), *rows]) + "\n", "utf-8")
                lines = [f"{int(flag)} {t:.5f} {e:.5f}" for flag, t, e in table.reshape(-1, 3)]
                (folder / "otimes.dat").write_text("\n".join(lines) + "\n", "utf-8")


def _ends(of: xarray.Dataset) -> np.ndarray:
    """Return latitudes and longitudes of both stations of pairs, [pair, station, 2]. Raises ResultsError without."""
    found = np.stack([[of[f"{key}_{number}"].values for key in ("latitude", "longitude")] for number in (1, 2)])
    places: np.ndarray = found.transpose(2, 0, 1)
    used = (of["phase_accepted"] | of["group_accepted"]).values.any(axis=1)
    if not np.isfinite(places[used]).all():
        raise ResultsError("some stations have no coordinates, which tomography needs; select pairs that have")
    return places
