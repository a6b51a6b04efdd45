"""What the velocity changes of many pairs say together: of a network, and of the clocks of its stations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xcorr.core.errors import nearest
from xcorr.pes.monitoring.inversion import largest_group
from xcorr.results.errors import ResultsError

if TYPE_CHECKING:
    import xarray

MEANS = ("median", "mean", "weighted", "trimmed")
FLOOR = 0.1  # share of the median error below which no error counts, so that no pair is the network alone
TRIM = 0.1  # share of the pairs that `trimmed` leaves out at each end


def network(
    changes: xarray.Dataset,
    how: str = "median",
    groups: Sequence[str] | None = None,
    percentiles: tuple[float, float] = (16, 84),
    flagged: bool = False,
) -> xarray.Dataset:
    """Return what the pairs say together, [group, time]: ``dvv``, its ``error``, ``low``, ``high`` and ``n_pairs``.

    Parameters
    ----------
    changes : as :meth:`Monitoring.get` returns it.
    how : ``median``, ``mean``, ``weighted`` (by 1 / error²), or ``trimmed`` (the mean without the smallest and the
        largest tenth).
    groups : the group of each pair, such as its distance range. Default: one group of all.
    percentiles : that ``low`` and ``high`` are.
    flagged : also use flagged values.

    ``error`` is the standard error of the mean from the scatter of the pairs (times 1.2533 for the median, as of normal
    values), for ``weighted`` that of the weights. Both take pairs as independent, which pairs that share a station are
    not. Raises ResultsError for another ``how``.
    """
    import xarray

    if how not in MEANS:
        raise ResultsError(f"how = {how!r}: must be one of {', '.join(MEANS)}{nearest(how, MEANS)}")
    if not (len(percentiles) == 2 and 0 <= percentiles[0] <= percentiles[1] <= 100):
        raise ResultsError(f"percentiles = {percentiles!r}: must be two numbers from 0 to 100")
    good = np.isfinite(changes["dvv"].values) & (flagged | (changes["flag"].values == 0))
    labels = np.array(["all"] * changes.sizes["pair"] if groups is None else list(groups), object)
    if len(labels) != changes.sizes["pair"]:
        raise ResultsError(f"groups: {len(labels)} of them for {changes.sizes['pair']} pairs; give one for each")
    names = list(dict.fromkeys(labels.tolist()))
    found = np.full((5, len(names), changes.sizes["time"]), np.nan)
    for g, name in enumerate(names):
        inside = good & (labels == name)
        for k, row in enumerate(inside):
            errors = changes["error"].values[k][row].astype(float)
            found[:, g, k] = _together(changes["dvv"].values[k][row].astype(float), errors, how, percentiles)
    fields = ("dvv", "error", "low", "high", "n_pairs")
    variables = {field: (("group", "time"), values) for field, values in zip(fields, found, strict=True)}
    coordinates = {"group": names, "time": changes["time"].values}
    return xarray.Dataset(variables, coordinates, {**changes.attrs, "how": how})


def _together(values: np.ndarray, errors: np.ndarray, how: str, percentiles: tuple[float, float]) -> tuple[Any, ...]:
    count = len(values)
    if not count:
        return np.nan, np.nan, np.nan, np.nan, 0
    low, high = np.percentile(values, percentiles)
    scatter = values.std(ddof=1) / np.sqrt(count) if count > 1 else np.nan
    if how == "median":
        return np.median(values), 1.2533 * scatter, low, high, count
    if how == "weighted":
        known = np.isfinite(errors)
        if not known.any():
            return np.nan, np.nan, low, high, count
        weights = 1 / np.maximum(errors[known], FLOOR * np.median(errors[known]) or 1e-12) ** 2
        return (weights * values[known]).sum() / weights.sum(), 1 / np.sqrt(weights.sum()), low, high, count
    cut = int(TRIM * count) if how == "trimmed" else 0
    kept = np.sort(values)[cut : count - cut]
    scatter = kept.std(ddof=1) / np.sqrt(len(kept)) if len(kept) > 1 else np.nan
    return kept.mean(), scatter, low, high, count


def clocks(changes: xarray.Dataset) -> xarray.Dataset:
    """Return by how much each station's clock went ahead since the reference, ``ahead_s`` [time, station].

    ``delay_s`` of a pair is the clock of its second station less that of its first, so that the delays around three
    stations add up to nothing. ``closure_s`` [time] is what the clocks do not explain, the root of the sum of squares
    over the degrees of freedom: where it is as large as the delays, these are not of clocks. Only differences are
    known: on each date, the mean of all clocks is 0. Stations that no delays connect with most of the others are NaN.
    Flagged values do not count. Raises ResultsError for a measurement without ``delay_s``, or with fewer than three
    stations.
    """
    import xarray

    if "delay_s" not in changes:
        raise ResultsError("clocks need a measurement with delay_s: method = 'mwcs' or 'wavelet', not through_origin")
    first, second = changes["station_1"].values, changes["station_2"].values
    names = sorted({*first.tolist(), *second.tolist()})
    if len(names) < 3:
        raise ResultsError(f"clocks need three stations; there are {len(names)}")
    number = {name: k for k, name in enumerate(names)}
    two = first != second  # an autocorrelation has one clock
    rows = np.zeros((len(first), len(names)))
    rows[np.arange(len(first)), [number[n] for n in first]] -= 1
    rows[np.arange(len(first)), [number[n] for n in second]] += 1
    ahead = np.full((changes.sizes["time"], len(names)), np.nan)
    closure = np.full(changes.sizes["time"], np.nan)
    for k, (delay, flag) in enumerate(zip(changes["delay_s"].values, changes["flag"].values, strict=True)):
        good = np.isfinite(delay) & (flag == 0) & two
        beside = np.zeros((len(names), len(names)), bool)
        beside[rows[good].argmin(axis=1), rows[good].argmax(axis=1)] = True
        known = largest_group(beside)
        good &= known[rows.argmin(axis=1)]
        free = len(np.unique(rows[good], axis=0)) - known.sum() + 1
        if known.sum() > 2 and free > 0:
            found = np.linalg.lstsq(rows[good], delay[good].astype(float), rcond=None)[0]
            ahead[k] = np.where(known, found - found[known].mean(), np.nan)
            closure[k] = np.sqrt(np.sum((rows[good] @ found - delay[good]) ** 2) / free)
    variables = {"ahead_s": (("time", "station"), ahead), "closure_s": ("time", closure)}
    return xarray.Dataset(variables, {"time": changes["time"].values, "station": names})
