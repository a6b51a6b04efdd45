"""A tree of SAC files with a correlation each: those of ``xcorr export``, and others with the usual headers or names.

``b`` is the first lag: SAC counts it from the reference time (SAC manual, "SAC data file format"). Station 2 is
``KNETWK.KSTNM`` at ``STLA, STLO``; station 1 is ``KEVNM`` (``NET.STA``) at ``EVLA, EVLO``; ``KCMPNM`` the components.
Where these are not set, the name of the file must have both stations, and may have components and time:
``NET.STA_NET.STA_ZZ_20240301T000000.sac``.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.imports.foreign import (
    DAY_NS,
    STATION,
    Foreign,
    ForeignError,
    Lags,
    Pieces,
    counted,
    files_below,
    naming,
    rate_of,
    same_lags,
    symmetric,
    time_in,
)
from xcorr.pes.items import Float32, Int64
from xcorr.pes.reading.waveform import Coordinates

CENTRE = "centre"
TURNED = "2 to 1"  # KUSER1 of files of xcorr export --reverse: positive lag is from station 2 to station 1
NAMES = re.compile(rf"({STATION.pattern})[_-]+({STATION.pattern})(?:[_.-]+([A-Z]{{2}})(?![A-Za-z]))?")


class Sac(Foreign):
    """Reads all SAC files of a folder. ``choice`` may be ``centre``: lag zero is in the middle, whatever B says."""

    def __init__(self, path: Path, choice: str | None = None) -> None:
        super().__init__(path, choice)
        self.origin, self.centred = "SAC", choice == CENTRE
        if choice not in (None, CENTRE):
            raise ForeignError(f"--choice {choice}: of SAC files, it can only be {CENTRE}")
        self._found = list[Pieces]()
        lags: Lags | None = None
        for file in files_below(path, ".sac"):
            with naming(file):
                lags = self._take(file, lags)
        if lags is None:
            raise ForeignError(f"{path}: has no correlations of Z, N, E or H")
        self.lags = lags
        times = np.array([p.starts[0] for p in self._found if p.starts is not None], np.int64)
        if len(times):
            length = self.assumed_length(times)
            self._found = [
                Pieces(p.first, p.second, p.components, p.starts, length, p.key)
                for p in self._found
                if p.starts is not None or self._leaves_out()
            ]

    def _leaves_out(self) -> bool:
        self.note("files without a time in their names are left out, because others have one")
        return False

    def _take(self, file: Path, lags: Lags | None) -> Lags | None:
        """Add a file; return the lag axis of all files so far."""
        import obspy

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sample spacing read from SAC file", UserWarning)  # not taken from there
            stats = obspy.read(str(file), format="SAC", headonly=True)[0].stats
        delta = float(stats.sac.delta)
        first, second, components = _names(file, stats)
        if not self.is_wanted(components):
            return lags
        at = (stats.npts - 1) / 2 if self.centred else -float(stats.sac.b) / delta
        zero = round(at)
        most = min(zero, stats.npts - 1 - zero)
        if abs(at - zero) > 0.01 or most < 1:
            raise ForeignError(
                f"{file}: no sample within has lag zero (b = {stats.sac.b:g} s, {stats.npts} samples, interval "
                f"{delta:g} s); --choice centre, if it is in the middle"
            )
        lags = same_lags(lags, Lags(rate_of(delta), most), file)
        for name, end in ((first, "ev"), (second, "st")):
            place = [float(stats.sac.get(f"{end}{key}", math.nan)) for key in ("la", "lo", "el")]
            if np.isfinite(place[:2]).all():
                place = [float(f"{value:.7g}") for value in place]  # float32 has no more digits
                self.places.setdefault(name, Coordinates(place[0], place[1], place[2]))
        start = time_in(file.stem.partition(second)[2] or file.stem)
        windows = int(counted(np.array([float(stats.sac.get("user0", 1.0))]))[0])
        starts = None if start is None else np.array([start], np.int64)
        turned = str(stats.sac.get("kuser1", "")).strip() == TURNED
        if turned:
            self.note(f'files whose KUSER1 says that positive lag is "{TURNED}" were reversed')
        self._found.append(Pieces(first, second, components, starts, DAY_NS, (file, zero, windows, turned)))
        return lags

    def pieces(self) -> Sequence[Pieces]:
        """Return all pieces of the tree."""
        return self._found

    def read(self, key: Any, which: Int64) -> tuple[Float32, Int64]:
        """Return the correlation of a file, and its number of windows (USER0)."""
        import obspy

        file, zero, windows, turned = key
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sample spacing read from SAC file", UserWarning)
            data = obspy.read(str(file), format="SAC")[0].data[None]
        found, _ = symmetric(data, zero, file)
        return found[:, ::-1] if turned else found, np.array([windows], np.int64)


def _names(file: Path, stats: Any) -> tuple[str, str, str]:
    """Return the stations and components of a file, of its headers or its name."""
    first = str(stats.sac.get("kevnm", "")).strip()
    second = ".".join(filter(None, (stats.network, stats.station)))
    components = stats.channel.strip()
    named = NAMES.search(file.stem)
    if named is not None and not (STATION.fullmatch(first) and STATION.fullmatch(second)):
        first, second = named[1], named[2]
    if len(components) != 2:
        components = (named[3] if named is not None else None) or "ZZ"
    for name in (first, second):
        if not STATION.fullmatch(name):
            raise ForeignError(
                f"{file}: names no two stations: set KEVNM and KNETWK, KSTNM, or name the file NET.STA_NET.STA_ZZ.sac"
            )
    return first, second, components
