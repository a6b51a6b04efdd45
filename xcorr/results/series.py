"""Reads the series of a campaign for some pairs, from its shards or from a packed result file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.pes.preparing.orient import rotated, stored_pairs
from xcorr.pes.stacking.methods import Stacking, stacked
from xcorr.pes.stacking.sums import Sums
from xcorr.pes.storing.shards import series_path
from xcorr.pes.storing.smaller import telling_filters
from xcorr.results.errors import ResultsError

BLOCK_BYTES = 64 << 20  # of the series that are read at once

Series = tuple[np.ndarray, np.ndarray]  # [piece, row, lag] float32, and numbers of windows [piece, row]


class SeriesReader:
    """The series in a result file, or in the shards that it shows."""

    def __init__(self, file: Any, path: Path) -> None:
        self.file, self.path = file, path
        self.lags, self.pieces = len(file["lags_s"]), len(file["pieces"])
        self.rows = len(file["pairs"])
        self._virtual: dict[str, bool] = {}

    def has(self, components: str, band: str = "") -> bool:
        """Return whether series of a component pair are there, or can be made of those that are."""
        return all(series_path(band, part) in self.file for part in stored_pairs(components))

    def read(self, components: str, band: str, rows: slice) -> Series:
        """Return the series of consecutive rows; those of R and T are made of N and E."""
        self._require(components, band)
        parts = {pair: self._stored(band, pair, rows) for pair in stored_pairs(components)}
        if components in parts:
            return parts[components][0], parts[components][1]
        azimuth = self.file["pairs"]["azimuth_deg"][rows]
        n = np.min([windows for _, windows in parts.values()], axis=0) * np.isfinite(azimuth)
        turned = rotated({pair: series for pair, (series, _) in parts.items()}, azimuth, components)
        return np.where(n[:, :, None] > 0, turned, np.nan).astype(np.float32), n

    def stacks(
        self, components: str, method: str, band: str, rows: np.ndarray, how: Stacking
    ) -> Iterator[tuple[slice, np.ndarray, Sums]]:
        """Yield stacks [row, lag] made of series, and the sums of the linear stack, for parts of rows in order."""
        size = max(1, BLOCK_BYTES // (4 * self.lags * self.pieces * len(stored_pairs(components))))
        low = 0
        while low < len(rows):
            high = int(np.searchsorted(rows, rows[low] + size))  # rows that lie together are read together
            span = slice(int(rows[low]), int(rows[high - 1]) + 1)
            series, n = (part[:, rows[low:high] - span.start] for part in self.read(components, band, span))
            sums = Sums.zeros(high - low, self.lags)
            sums.add(series, n)
            made = sums.mean() if method == "linear" else stacked(method, series, n, how)
            yield slice(low, high), made, sums
            low = high

    def windows(self, components: str, band: str, rows: slice, pieces: slice | None = None) -> np.ndarray:
        """Return the numbers of windows of a component pair that is stored, [piece, row]. Raises as :meth:`read`.

        Of other ``pieces`` than those given, nothing is read, and the numbers are 0.
        """
        self._require(components, band)
        return self._stored(band, components, rows, ("series_n_windows",), pieces)[0]

    def _require(self, components: str, band: str) -> None:
        if not self.has(components, band):
            raise ResultsError(f"{self.path}: the series were not kept (stack.keep_series = false); only stacks exist")

    def _stored(
        self,
        band: str,
        components: str,
        rows: slice,
        kinds: Sequence[str] = ("series", "series_n_windows"),
        pieces: slice | None = None,
    ) -> list[np.ndarray]:
        if not self._is_virtual(band, components):  # packed
            return [self.file[series_path(band, components, kind)][:, rows] for kind in kinds]
        shape = self.pieces, rows.stop - rows.start
        found = [
            np.zeros(shape, np.int32) if "n_windows" in kind else np.full((*shape, self.lags), np.nan, np.float32)
            for kind in kinds
        ]
        shards = self.file["shards"][...]
        ends = shards["first_row"] + shards["rows"]
        with self._open_shards() as dataset_of:
            wanted = (shards["first_row"] < rows.stop) & (ends > rows.start)
            if pieces is not None:
                wanted &= (shards["piece"] >= pieces.start) & (shards["piece"] < pieces.stop)
            for piece, first, count, path in shards[wanted].tolist():
                low, high = max(first, rows.start), min(first + count, rows.stop)
                inside, here = slice(low - first, high - first), slice(low - rows.start, high - rows.start)
                for values, kind in zip(found, kinds, strict=True):
                    with telling_filters(path.decode()):
                        part = _read(dataset_of(path, series_path(band, components, kind)), inside, values.dtype)
                    values[piece : piece + len(part), here] = part
        return found

    def _is_virtual(self, band: str, components: str) -> bool:
        """Return whether series are in shards; asked once, because HDF5 reads the places of all shards to answer."""
        path = series_path(band, components)
        if path not in self._virtual:
            self._virtual[path] = bool(self.file[path].is_virtual)
        return self._virtual[path]

    @contextlib.contextmanager
    def _open_shards(self) -> Iterator[Any]:
        """Give a function of a shard's path and a name that returns the dataset; files are opened by h5f, faster."""
        import h5py

        known: dict[bytes, Any] = {}

        def dataset(path: bytes, name: str) -> Any:
            file, _, group = path.partition(b"#")
            if file not in known:
                known.clear()  # shards of a strip in a month may be in one file, one after another
                try:
                    at = os.fsencode(self.path.parent) + b"/" + file
                    known[file] = h5py.h5f.open(at, h5py.h5f.ACC_RDONLY)
                except OSError as error:
                    raise ResultsError(
                        f"{self.path}: the shard {file.decode()} cannot be read ({error}); open the results again if a "
                        "run or xcorr compact has changed the campaign, else run xcorr verify"
                    ) from error
            inside = (group + b"/" if group else b"") + name.encode()
            return h5py.h5d.open(known[file], inside)

        yield dataset
        known.clear()


def read_rows(data: Any, rows: np.ndarray) -> np.ndarray:
    """Return some rows of a dataset [row, ...] of h5py, in any order; rows that follow one another are read at once."""
    import h5py

    found = np.empty((len(rows), *data.shape[1:]), data.dtype)
    if not len(rows):
        return found
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    for low, high in zip([0, *breaks], [*breaks, len(rows)], strict=True):
        part = found[low:high]
        inside = data.id.get_space()
        inside.select_hyperslab((int(rows[low]), *(0 for _ in part.shape[1:])), part.shape)
        with telling_filters(data.file.filename):
            data.id.read(h5py.h5s.create_simple(part.shape), inside, part)
    return found


def chunk_places(data: Any) -> np.ndarray | None:
    """Return where in the file each chunk of rows of a dataset [row, lag] begins (-1: nowhere yet).

    None for a dataset in which the rows of a chunk do not simply follow one another.
    """
    import h5py

    plan = data.id.get_create_plist()
    filters = [plan.get_filter(k)[0] for k in range(plan.get_nfilters())]
    is_whole_rows = data.chunks is not None and data.chunks[1] == data.shape[1]
    if not is_whole_rows or data.dtype != np.dtype("<f4") or filters != [h5py.h5z.FILTER_FLETCHER32]:
        return None
    places = np.full(-(-len(data) // data.chunks[0]), -1, np.int64)

    def note(chunk: Any) -> None:
        places[chunk.chunk_offset[0] // data.chunks[0]] = chunk.byte_offset

    data.id.chunk_iter(note)
    return places


def glance_at(data: Any, places: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return some rows of a dataset [row, lag] for a picture: only their own bytes are read, from :func:`chunk_places`.

    Checksums are those of chunks of many rows, so they are not compared here, as :func:`read_rows` does.
    Raises ResultsError if the file is cut off.
    """
    size, of_chunk = 4 * data.shape[1], data.chunks[0]
    found = np.full((len(rows), data.shape[1]), data.fillvalue, "<f4")
    descriptor = data.file.id.get_vfd_handle()  # of the open file, which a run may have replaced by another
    for at, row in enumerate(rows.tolist()):
        if (place := int(places[row // of_chunk])) >= 0:
            part = os.pread(descriptor, size, place + row % of_chunk * size)
            if len(part) != size:
                raise ResultsError(f"{data.file.filename}: is cut off; xcorr verify says what is damaged")
            found[at] = np.frombuffer(part, "<f4")
    return found


def _read(dataset: Any, rows: slice, kind: Any) -> np.ndarray:
    """Return some rows of a dataset [piece, row, ...], without h5py's wrapper, which takes longer than reading."""
    import h5py

    pieces, _, *rest = dataset.shape
    size = pieces, rows.stop - rows.start, *rest
    found, inside = np.empty(size, kind), dataset.get_space()
    inside.select_hyperslab((0, rows.start, *(0 for _ in rest)), size)
    dataset.read(h5py.h5s.create_simple(size), inside, found)
    return found
