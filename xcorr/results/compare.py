"""Compares two result files, dataset by dataset, to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.pes.stacking.dimensions import COORDINATES
from xcorr.pes.storing.shards import name_of
from xcorr.results import Results

DERIVED = set(COORDINATES) - {"lags_s"}  # made of the tables; files of earlier versions have none


def differences(first: Path, second: Path) -> Iterator[str]:
    """Yield one line for every dataset that only one file has, or that differs between the files in any bit.

    Raises ResultsError if a file is not a result file.
    """
    with Results(first) as a, Results(second) as b:
        names = [_datasets(r) - DERIVED for r in (a, b)]
        for name in sorted(names[0] ^ names[1]):
            yield f"{name}: only in {first if name in names[0] else second}"
        for name in sorted(names[0] & names[1]):
            x, y = (_values(results, name) for results in (a, b))
            if x.shape != y.shape or x.dtype != y.dtype:
                yield f"{name}: {x.dtype} {x.shape} and {y.dtype} {y.shape}"
            elif x.tobytes() != y.tobytes():  # as bytes, because NaN is not equal to NaN
                yield f"{name}: {_where(x, y)}"


def _values(results: Results, name: str) -> np.ndarray:
    """Return a dataset. Of shards, their names count, and not the files in which they are (xcorr compact)."""
    values = results.dataset(name)
    if name == "shards":
        values["path"] = [name_of(path.decode()).encode() for path in values["path"]]
    return values


def _datasets(results: Results) -> set[str]:
    import h5py

    found: set[str] = set()

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found.add(name)

    results.file.visititems(note)
    return found


def _where(x: np.ndarray, y: np.ndarray) -> str:
    unequal = np.array([p.tobytes() != q.tobytes() for p, q in zip(x.ravel(), y.ravel(), strict=True)])
    at = np.unravel_index(int(unequal.argmax()), x.shape)
    place = tuple(int(k) for k in at)
    return f"{unequal.sum()} of {x.size} values differ, first at {place}: {x[at]} and {y[at]}"
