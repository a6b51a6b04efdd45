"""NoisePy's stores of correlations and stacks, as ASDF and as Zarr: <https://noisepy.readthedocs.io>.

In versions up to 0.9.93, at least, the stored lags are off by one sample: the sample in the middle has the lag of one
sample before zero (``noise_module.correlate`` centres the inverse FFT at sample N/2, and takes lags of an axis whose
zero is at N/2 - 1). A test measures this with the released package. The lags are corrected here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.imports.foreign import (
    STATION,
    Foreign,
    ForeignError,
    Lags,
    Pieces,
    counted,
    files_below,
    naming,
    opened_hdf5,
    rate_of,
    same_lags,
    step_of,
    symmetric,
    time_in,
)
from xcorr.pes.items import Float32, Int64
from xcorr.pes.reading.waveform import NS, Coordinates

SPAN = re.compile(r"(\d{4}(?:_\d{2}){5})T(\d{4}(?:_\d{2}){5})")
OFF_BY_ONE = "NoisePy's lags are late by one sample (see docs/results.md): corrected; the largest lag is a sample less"
LINEAR = "Allstack_linear"


class NoisePy(Foreign):
    """Reads a folder of a store of NoisePy: of correlations, or of stacks (of these the linear ones)."""

    def __init__(self, path: Path, choice: str | None = None) -> None:
        super().__init__(path, choice)
        if choice is not None:
            raise ForeignError(f"--choice {choice}: there is nothing to choose in a store of NoisePy")
        self.origin = "NoisePy"
        self.note(OFF_BY_ONE)
        store = _Zarr(path) if (path / ".zgroup").exists() else _Asdf(path)
        self._store, found = store, list[tuple[str, str, str, Int64 | None, tuple[int, int], Any]]()
        lags: Lags | None = None
        for span, first, second, components, about, (pieces, length), key in store.entries():
            with naming(f"{path}, {first} and {second}"):
                self.places |= _places(first, second, about)
                if not self.is_wanted(components):
                    continue
                lags = same_lags(lags, Lags(rate_of(about["dt"]), (length - 1) // 2 - 1), path)
                starts = _times(about, pieces, store.padded)
            found.append((first, second, components, starts, span, key))
        if lags is None:
            raise ForeignError(f"{path}: is no store of NoisePy with correlations of Z, N or E")
        self.lags = lags
        steps = filter(None, (step_of(starts) for *_, starts, _, _ in found if starts is not None))
        step = min(steps, default=0)  # 0: none has two substacks, so that each is entered as its timespan
        self._found = [
            Pieces(a, b, components, starts, step, key)
            if starts is not None and step
            else Pieces(a, b, components, np.array(span[:1]), span[1] - span[0], key)
            for a, b, components, starts, span, key in found
        ]

    def pieces(self) -> Sequence[Pieces]:
        """Return all pieces of the store."""
        return self._found

    def read(self, key: Any, which: Int64) -> tuple[Float32, Int64]:
        """Return correlations and their numbers of windows."""
        data, about = self._store.read(key)
        data = np.atleast_2d(data)
        good = np.asarray(about.get("ngood", 1), np.float64).ravel()
        windows = counted(good[which] if len(good) > 1 else np.repeat(good, len(which)))
        return symmetric(data[which], (data.shape[1] - 1) // 2 + 1, key)[0], windows


def _times(about: Mapping[str, Any], pieces: int, padded: bool) -> Int64 | None:
    """Return the starts (ns) of substacks; None of a correlation [lag], of a whole timespan.

    Raises ValueError if there are not as many times as pieces; where these are ``padded``, there may be fewer.
    """
    if not about.get("substack") or not pieces:
        return None
    starts = np.rint(np.asarray(about["time"], np.float64).ravel()).astype(np.int64) * NS
    times = len(np.unique(starts))
    if times < len(starts) or times > pieces or (times < pieces and not padded):
        raise ValueError(f"{times} times of {pieces} substacks")
    return starts


def _places(first: str, second: str, about: Mapping[str, Any]) -> dict[str, Coordinates]:
    found = {}
    for name, end in ((first, "S"), (second, "R")):
        place = [float(about.get(f"{key}{end}", math.nan)) for key in ("lat", "lon")]
        # they are stored as float32, whose last digits mean nothing
        found[name] = Coordinates(*(float(f"{value:.7g}") for value in place))
    return found


def _component_pair(source: str, receiver: str) -> str:
    """Return the letters of two channels, such as bhz_00.

    >>> _component_pair("bhz_00", "BHU")
    'ZZ'
    """
    letters = (channel.partition("_")[0][-1:].upper() for channel in (source, receiver))
    return "".join("Z" if letter == "U" else letter for letter in letters)


def _span(name: str) -> tuple[int, int] | None:
    found = SPAN.search(name)
    if found is None:
        return None
    start, end = (time_in(t.replace("_", "")[:8] + "T" + t.replace("_", "")[8:]) for t in found.groups())
    return (start, end) if start is not None and end is not None else None


Entry = tuple[tuple[int, int], str, str, str, Mapping[str, Any], tuple[int, int], Any]  # with pieces and lags


class _Asdf:
    """A folder of ASDF files: of correlations, one for each timespan, or of stacks, one for each pair and timespan."""

    padded = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> Iterator[Entry]:
        """Yield timespan, stations, components, parameters, number of lags and place of every correlation."""
        for file in files_below(self.path, ".h5"):
            span = _span(file.name)
            with naming(file), opened_hdf5(file) as opened:
                for name, group in opened.get("AuxiliaryData", {}).items():
                    pair = name.split("_")
                    is_pair = len(pair) == 2 and all(map(STATION.fullmatch, pair))
                    if not is_pair and name != LINEAR:
                        continue
                    first, second = pair if is_pair else (file.parent.parent.name, file.parent.name)
                    for channels, data in group.items():
                        if span is None or not hasattr(data, "shape"):
                            continue
                        components = _component_pair(*_channels(channels)) if is_pair else channels
                        key = str(file), f"AuxiliaryData/{name}/{channels}"
                        yield span, first, second, components, _about(data), _sizes(data.shape), key

    def read(self, key: tuple[str, str]) -> tuple[np.ndarray, Mapping[str, Any]]:
        """Return the data at a place, and their parameters."""
        with opened_hdf5(key[0]) as opened:
            data = opened[key[1]]
            return data[...], _about(data)


def _sizes(shape: Sequence[int]) -> tuple[int, int]:
    """Return the numbers of pieces and lags of an array [piece, lag], or 0 and that of lags of an array [lag]."""
    *pieces, lags = shape
    return (pieces[0] if pieces else 0), lags


def _channels(name: str) -> tuple[str, str]:
    """Return the two channels of a name such as bhz_00_bhz_00 or BHZ_BHN."""
    parts = name.split("_")
    half = len(parts) // 2
    return "_".join(parts[:half]), "_".join(parts[half:])


def _about(data: Any) -> dict[str, Any]:
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in data.attrs.items()}


class _Zarr:
    """A folder of Zarr (version 2): an array [correlation, substack, lag] for each pair and timespan."""

    padded = True  # arrays have the most substacks of any channel pair; those that others lack are NaN

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> Iterator[Entry]:
        """Yield timespan, stations, components, parameters, number of lags and place of every correlation."""
        for place in sorted(self.path.rglob(".zarray")):
            array = place.parent
            span, first, second = _span(array.name), array.parent.parent.name, array.parent.name
            if span is None or not (array / ".zattrs").exists():
                continue
            with naming(array):
                shape = json.loads(place.read_text("utf-8"))["shape"]
                for number, (*names, about) in enumerate(
                    json.loads((array / ".zattrs").read_text("utf-8"))["metadata"]
                ):
                    where = str(array), number
                    if len(names) == 4:
                        components = _component_pair(names[0], names[2])
                        yield span, first, second, components, about, _sizes(shape[1:]), where
                    elif names[1] == LINEAR:
                        yield span, first, second, names[0], about, (0, shape[-1]), where

    def read(self, key: tuple[str, int]) -> tuple[np.ndarray, Mapping[str, Any]]:
        """Return the data at a place, and their parameters."""
        try:
            import zarr
        except ImportError as error:
            raise ForeignError("Zarr stores need zarr: pip install 'xcorr[export]'") from error
        array, number = key
        about = json.loads((Path(array) / ".zattrs").read_text("utf-8"))["metadata"][number][-1]
        opened: Any = zarr.open(array, mode="r")
        return np.asarray(opened[number]), about
