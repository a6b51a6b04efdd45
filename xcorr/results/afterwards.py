"""Stacks of component pairs that are not in the results: R and T are made of stored Z, N and E."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np

from xcorr.pes.correlating.snr import quality
from xcorr.pes.preparing.orient import rotated, stored_pairs
from xcorr.pes.stacking.result_file import stack_path
from xcorr.results.errors import ResultsError
from xcorr.results.series import SeriesReader, read_rows
from xcorr.settings import Settings
from xcorr.settings.recipe import Recipe

LINEAR = "linear"
MANY = 50  # reading one row alone takes as long as reading so many rows together


def made_stacks(
    series: SeriesReader, settings: Settings, components: str, stack: str, band: str, rows: np.ndarray
) -> dict[str, np.ndarray]:
    """Return stacks of rows in order: ``mean`` and ``std_error`` [row, lag], ``n_windows``, ``snr``, ``symmetry``.

    They are made of the series as they would have been made beforehand. Without series, linear ones are made of the
    stacks, if all components have the same number of windows, and their error is not known. Raises
    ResultsError for others.
    """
    shape = len(rows), series.lags
    found: dict[str, np.ndarray] = {name: np.full(shape, np.nan, np.float32) for name in ("mean", "std_error")}
    found["n_windows"] = np.zeros(len(rows), np.int32)
    if series.has(components, band):
        about = json.loads(series.file[f"stacks/{stack}"].attrs.get("parameters", "{}"))
        how = dataclasses.replace(Recipe(settings).stacking, **about)
        for part, means, sums in series.stacks(components, stack, band, rows, how):
            found["mean"][part], found["n_windows"][part] = means, sums.windows
            found["std_error"][part] = sums.error()
    elif stack == LINEAR:
        parts = {p: series.file[stack_path(band, stack, p)] for p in stored_pairs(components)}
        azimuth = series.file["pairs"]["azimuth_deg"][...][rows]
        of_parts = {p: rows_of(g["mean"], rows) for p, g in parts.items()}
        found["mean"] = rotated(of_parts, azimuth, components).astype(np.float32)
        counts = np.array([rows_of(g["n_windows"], rows) for g in parts.values()])
        unequal = int(np.count_nonzero(counts.min(axis=0) != counts.max(axis=0)))
        if unequal:
            raise ResultsError(
                f"{components} of {unequal} pair(s) cannot be made: their components have different windows, and the "
                "series, of which they could be made, were not kept (stack.keep_series = false)"
            )
        found["n_windows"] = counts.min(axis=0) * np.isfinite(azimuth)
    else:
        raise ResultsError(
            f"the stack {stack!r} of {components} cannot be made: the series were not kept (stack.keep_series = false);"
            f" only {LINEAR!r} can be made without them"
        )
    found["snr"], found["symmetry"] = quality(found["mean"].astype(np.float64))
    return found


def rows_of(data: Any, rows: np.ndarray) -> np.ndarray:
    """Return some rows of a dataset; many at once are read with all others, which takes less time."""
    if len(rows) * MANY >= len(data):
        return np.asarray(data[...][rows])
    return read_rows(data, rows)
