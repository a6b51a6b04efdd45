"""HDF5 files of obspyh5 (<https://github.com/trichter/obspyh5>), as yam writes them: a dataset for each correlation.

yam correlates by ObsPy's ``correlate``, whose lags have the opposite sign: a wave from station 1 to station 2 is at
negative lags. A test measures this with the released packages. The lags are reversed here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.imports.foreign import (
    Foreign,
    ForeignError,
    Lags,
    Pieces,
    counted,
    naming,
    opened_hdf5,
    rate_of,
    same_lags,
    symmetric,
)
from xcorr.pes.items import Float32, Int64
from xcorr.pes.reading.times import time_ns

REVERSED = "yam's lags have the opposite sign: reversed"
INDEX = "{key}/{network1}.{station1}-{network2}.{station2}/"  # of yam.io
NEEDED = ("network1", "station1", "channel1", "network2", "station2", "channel2", "starttime", "delta")


class H5(Foreign):
    """Reads a file of obspyh5. ``choice`` names a group at the top, such as ``c1_s1d``, where there are several."""

    def __init__(self, path: Path, choice: str | None = None) -> None:
        super().__init__(path, choice)
        if path.is_dir():
            raise ForeignError(f"{path} is a folder; name a file of obspyh5")
        self.origin = "yam"
        self.note(REVERSED)
        of: dict[tuple[str, str, str], list[tuple[int, str]]] = defaultdict(list)
        lags: Lags | None = None
        samples = 0
        with naming(path), opened_hdf5(path) as file:
            if file.attrs.get("file_format") != "obspyh5":
                raise ForeignError(f"{path}: is no file of obspyh5 (file_format {file.attrs.get('file_format')!r})")
            if not str(file.attrs.get("index", "")).startswith(INDEX):
                raise ForeignError(
                    f"{path}: its index is {file.attrs.get('index')!r}, and that of yam begins with {INDEX}; of other "
                    "programs, the sign of the lag is not known"
                )
            group = file[_chosen(path, sorted(file), choice)]
            names: list[str] = []
            group.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
            for name in names:
                about = group[name].attrs
                if not about.keys() >= set(NEEDED):
                    continue
                key = _pair(about)
                if self.is_wanted(key[2]):
                    with naming(f"{path}, {name}"):
                        (length,) = group[name].shape
                        if lags is not None and length != samples:
                            raise ValueError(f"{length} samples, and those before {samples}")
                        lags, samples = same_lags(lags, Lags(rate_of(about["delta"]), (length - 1) // 2), path), length
                        of[key].append((time_ns(str(about["starttime"])), f"{group.name}/{name}"))
        if lags is None:
            raise ForeignError(
                f"{path}: has no correlations of Z, N, E or H with the headers of yam ({', '.join(NEEDED)})"
            )
        self.lags = lags
        each = self.assumed_length(np.array([time for pieces in of.values() for time, _ in pieces], np.int64))
        self._found = [
            Pieces(*key, np.array([t for t, _ in sorted(found)], np.int64), each, tuple(n for _, n in sorted(found)))
            for key, found in of.items()
        ]

    def pieces(self) -> Sequence[Pieces]:
        """Return all pieces of the file."""
        return self._found

    def read(self, key: Any, which: Int64) -> tuple[Float32, Int64]:
        """Return correlations, and their numbers of windows (``num`` of yam's stacks, else 1)."""
        with opened_hdf5(self.path) as file:
            names = [key[k] for k in which]
            data = np.stack([file[name][...] for name in names])
            windows = np.array([float(file[name].attrs.get("num", 1)) for name in names])
        return symmetric(data[:, ::-1], (data.shape[1] - 1) // 2, self.path)[0], counted(windows)


def _pair(about: Mapping[str, Any]) -> tuple[str, str, str]:
    first, second = (f"{about[f'network{k}']}.{about[f'station{k}']}" for k in (1, 2))
    return first, second, "".join(str(about[f"channel{k}"])[-1:].upper() for k in (1, 2))


def _chosen(path: Path, there: Sequence[str], choice: str | None) -> str:
    if choice is None and len(there) == 1:
        return there[0]
    if not there:
        raise ForeignError(f"{path}: holds nothing")
    if choice is None or choice not in there:
        raise ForeignError(f"{path}: has the groups {', '.join(there)}; choose one with --choice")
    return choice
