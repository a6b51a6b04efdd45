"""A project folder of MSNoise 1.6: its stations (SQLite), daily correlations and stacks: <http://www.msnoise.org>.

The lag axis and its direction are those of xcorr: measured by a test with the released package.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.imports.foreign import (
    DAY_NS,
    Foreign,
    ForeignError,
    Lags,
    Pieces,
    naming,
    opened_hdf5,
    rate_of,
    same_lags,
    symmetric,
    time_in,
)
from xcorr.pes.items import Float32, Int64
from xcorr.pes.reading.times import time_ns
from xcorr.pes.reading.waveform import NS, Coordinates

PAIR = re.compile(r"([A-Za-z0-9]+)_([A-Za-z0-9-]+)_([A-Za-z0-9]+)_([A-Za-z0-9-]+)")


class MSNoise(Foreign):
    """Reads a project: all correlations (keep_all), else the stacks of each day, else the reference stacks.

    ``choice`` names a filter, such as ``01``; it is needed where there are several.
    """

    def __init__(self, path: Path, choice: str | None = None) -> None:
        super().__init__(path, choice)
        self.origin = "MSNoise"
        settings, bands = self._database()
        with naming(path / "msnoise.sqlite"):
            self.window_ns = round(float(settings.get("corr_duration", 1800.0)) * NS)
        folder = path / settings.get("output_folder", "CROSS_CORRELATIONS")
        self._found: list[Pieces] = []
        self._axis: list[Lags] = []
        if folder.is_dir() and any(folder.rglob("*.h5")):
            self._all(chosen := _chosen(folder, choice))
        elif (path / "STACKS").is_dir():
            self._stacks(chosen := _chosen(path / "STACKS", choice))
        if not self._axis:
            raise ForeignError(
                f"{path}: holds no correlations: no files in {folder.name} (keep_all) or STACKS (keep_days, ref)"
            )
        self.lags, self.band_hz = self._axis[0], bands.get(chosen.name)

    def pieces(self) -> Sequence[Pieces]:
        """Return all pieces of the project."""
        return self._found

    def read(self, key: Any, which: Int64) -> tuple[Float32, Int64]:
        """Return correlations and their numbers of windows; of stacks, MSNoise does not store this number: 1."""
        import obspy

        if key.suffix == ".h5":
            with opened_hdf5(key) as file:
                data = file["data/block0_values"][...][which]
        else:
            data = obspy.read(str(key))[0].data[None]
        found, _ = symmetric(data, (data.shape[1] - 1) // 2, key)
        return found, np.ones(len(data), np.int64)

    def _database(self) -> tuple[dict[str, str], dict[str, tuple[float, float]]]:
        """Take the coordinates of stations from the database; return the settings, and the bands of the filters."""
        file = self.path / "msnoise.sqlite"
        if not file.is_file():
            raise ForeignError(f"{self.path}: no msnoise.sqlite is there; name the folder of a project with SQLite")
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            try:
                for net, sta, x, y, altitude, kind in database.execute(
                    "SELECT net, sta, X, Y, altitude, coordinates FROM stations"
                ):
                    if kind == "DEG":
                        self.places[f"{net}.{sta}"] = Coordinates(float(y), float(x), float(altitude or 0.0))
                    else:
                        self.note(f"coordinates of kind {kind} are left out: only degrees are known (DEG)")
                filters = database.execute("SELECT ref, low, high FROM filters")
                bands = {f"{number:02d}": (float(low), float(high)) for number, low, high in filters}
                return {str(k): str(v) for k, v in database.execute("SELECT name, value FROM config")}, bands
            except (sqlite3.DatabaseError, TypeError, ValueError) as error:
                raise ForeignError(f"{file}: is no database of MSNoise 1.6 ({error})") from error

    def _all(self, folder: Path) -> None:
        """Find the files of all correlations: FIRST/SECOND/COMPONENTS/DAY.h5, tables of pandas."""
        for file in sorted(folder.rglob("*.h5")):
            components, second, first = (p.name for p in list(file.parents)[:3])
            if not self.is_wanted(components):
                continue
            with naming(file), opened_hdf5(file) as opened:
                lags = opened["data/axis0"][...]
                texts = [t.decode() for t in opened["data/axis1"][...]]
                starts = np.array([time_ns(t.replace(" ", "T")) for t in texts], np.int64)
                if opened["data/block0_values"].shape != (len(texts), len(lags)) or not texts:
                    raise ValueError(f"its table has not {len(texts)} times and {len(lags)} lags")
                found = Lags(rate_of((lags[-1] - lags[0]) / (len(lags) - 1)), (len(lags) - 1) // 2)
            self._take(found, file)
            step = int(np.diff(np.unique(starts)).min()) if len(set(texts)) > 1 else self.window_ns
            self._found.append(Pieces(_name(first), _name(second), components, starts, step, file))

    def _take(self, lags: Lags, file: Path) -> None:
        self._axis = [same_lags(self._axis[0] if self._axis else None, lags, file)]

    def _stacks(self, folder: Path) -> None:
        """Find stacks: 001_DAYS/COMPONENTS/PAIR/DAY.MSEED, or REF/COMPONENTS/PAIR.MSEED; SAC if there is no MSEED."""
        import obspy

        days, reference = folder / "001_DAYS", folder / "REF"
        where = days if days.is_dir() else reference
        if not days.is_dir():
            self.note("there are no stacks of single days (001_DAYS): the reference stacks are taken, of unknown time")
        files = sorted(where.rglob("*.MSEED")) or sorted(where.rglob("*.SAC"))
        for file in files:
            pair = file.parent.name if where == days else file.stem
            components = (file.parent.parent if where == days else file.parent).name
            match = PAIR.fullmatch(pair)
            if match is None or not self.is_wanted(components):
                continue
            with naming(file):
                stats = obspy.read(str(file), headonly=True)[0].stats
            self._take(Lags(rate_of(stats.delta), (stats.npts - 1) // 2), file)
            start = time_in(file.stem) if where == days else None
            starts = None if start is None else np.array([start], np.int64)
            first, second = f"{match[1]}.{match[2]}", f"{match[3]}.{match[4]}"
            self._found.append(Pieces(first, second, components, starts, DAY_NS, file))


def _chosen(folder: Path, choice: str | None) -> Path:
    """Return the folder of a filter. Raises ForeignError if the choice is not clear."""
    there = sorted(p.name for p in folder.iterdir() if p.is_dir())
    if choice is None and len(there) == 1:
        return folder / there[0]
    if choice not in there:
        raise ForeignError(
            f"{folder}: has the filters {', '.join(there) or 'of no number'}; choose one with --choice"
            + (f", not {choice!r}" if choice else "")
        )
    return folder / choice


def _name(text: str) -> str:
    """Return NET.STA of the name of a folder, such as CI.AAA or CI.AAA.00 of later versions."""
    return ".".join(text.replace("_", ".").split(".")[:2])
