"""Which rows of a campaign a measurement is of, and the requests that cover them."""

from __future__ import annotations

import numpy as np

from xcorr.network.survey import Survey
from xcorr.pes.storing.read_series import RowsRequest
from xcorr.pes.storing.shards import chunk_shape
from xcorr.results import Results
from xcorr.results.pair_table import PairTable
from xcorr.results.selection import Selection
from xcorr.settings import SettingsError
from xcorr.settings.recipe import Recipe
from xcorr.settings.tables import Dispersion, Monitor
from xcorr.store.ledger_schema import Shard

RANGES = 64  # at least, for the workers to share; not by their number, so that others can go on with what some began


def chosen_rows(results: Results, of: Monitor | Dispersion) -> np.ndarray:
    """Return the rows of the pairs that are measured, in order. Raises SettingsError if there are none."""
    chosen = Selection(of.distance_km, None, of.pairs, (), of.where)
    components = of.components[0] if of.components and of.components[0] in results.components else results.components[0]
    rows = np.sort(chosen.rows(PairTable(results, components)))
    if not len(rows):
        table = type(of).__name__.lower()
        raise SettingsError(f"[[{table}]] {of.name}: no pair is chosen by pairs, distance_km and where")
    return rows


def requests_for(
    recipe: Recipe, found: Survey, shards: list[Shard], pairs: np.ndarray, rows: np.ndarray, most: int
) -> list[RowsRequest]:
    """Return requests that cover some rows, each of at most ``most`` rows of one strip. ``pairs`` is their table."""
    number = {start: k for k, start in enumerate(sorted({s.start_ns for s in shards}))}
    lags, most = 2 * recipe.max_lag + 1, max(1, most)
    requests: list[RowsRequest] = []
    for g in found.generations:
        for strip in g.layout.strips:
            inside = g.layout.strip_rows(strip)
            start, stop = inside.start + g.first_row, inside.stop + g.first_row
            own = tuple((number[s.start_ns], s.path) for s in shards if (s.generation, s.strip) == (g.number, strip))
            together = chunk_shape(lags, len(inside))[0]  # a range ends where a chunk of HDF5 does: both are read whole
            size = min(most, -(-len(rows) // RANGES))
            size = max(1, size // together) * together if most >= together else most
            for first in range(start, stop, size):
                low, high = np.searchsorted(rows, (first, min(first + size, stop)))
                if low < high:
                    one, after = int(rows[low]), int(rows[high - 1]) + 1
                    part = pairs[one:after]
                    requests.append(
                        RowsRequest(one, after, start, tuple(sorted(own)), part["azimuth_deg"], part["distance_m"])
                    )
    return requests
