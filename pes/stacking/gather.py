"""Gathers the rows of a strip from shards of other campaigns, whose pairs may be in another order of rows."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np

from xcorr.core import IterativePE
from xcorr.pes.correlating.rows import CorrelationRows, OfStrip, StripEnd
from xcorr.pes.items import Chunk, Int64, SlotAccount
from xcorr.pes.stacking.stack import SeriesShape
from xcorr.pes.storing.open_shards import OpenShards
from xcorr.pes.storing.shards import series_path, telling_damage


@dataclasses.dataclass(frozen=True, slots=True)
class RowsOf:
    """Rows ``at`` of the shard at ``path`` in a campaign's ``folder`` that become the rows ``to`` of a strip, in order.

    With ``over``, another part has these rows too: only those with data are taken, in place of the other's.
    """

    folder: str
    path: str
    at: Int64
    to: Int64
    over: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class GatherRequest(OfStrip):
    """A strip of a chunk, where its rows are, and the accounts of its slots. Rows that are nowhere have no data.

    The last of the parts that have a row and data for it counts.
    """

    chunk: Chunk
    strip: int
    parts: tuple[RowsOf, ...]
    accounts: tuple[SlotAccount, ...]


class GatherStrips(IterativePE):
    """Reads the rows of a strip from where they are; writes :class:`CorrelationRows`, and then :class:`StripEnd`.

    Raises ShardError for a shard that is damaged, ShardBusy for one that cannot be read now.
    """

    stateless = True

    def __init__(self, shape: SeriesShape) -> None:
        super().__init__()
        self.shape = shape

    def _preprocess(self) -> None:
        self._shards: dict[str, OpenShards] = {}

    def _process(self, request: GatherRequest) -> StripEnd:
        for part in request.parts:
            runs = _runs(part)
            for band, pair in itertools.product(self.shape.bands, self.shape.pairs):
                with telling_damage(Path(part.folder, part.path.partition("#")[0])):
                    shard = self._shards.setdefault(part.folder, OpenShards(part.folder))[part.path]
                    series = shard[series_path(band, pair)]
                    counts = shard[series_path(band, pair, "series_n_windows")]
                    found = [[(series[k, at], counts[k, at]) for at, _ in runs] for k in range(self.shape.substacks)]
                for substack, of_runs in enumerate(found):
                    for (_, to), (data, n) in zip(runs, of_runs, strict=True):
                        for rows in _with_data(n) if part.over else [slice(0, len(n))]:
                            where = request.chunk, request.strip, band, pair, substack, to + rows.start
                            self.write("output", CorrelationRows(*where, data[rows], n[rows]))
        return StripEnd(request.chunk, request.strip, request.accounts)

    def _postprocess(self) -> None:
        for shards in self._shards.values():
            shards.close()


def _with_data(n_windows: np.ndarray) -> list[slice]:
    """Return the ranges of rows that have windows."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], n_windows > 0, [0]])))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _runs(part: RowsOf) -> list[tuple[slice, int]]:
    """Return rows that follow each other in both places: slices of the shard, and the first row in the strip."""
    jumps = np.flatnonzero((np.diff(part.at) != 1) | (np.diff(part.to) != 1)) + 1
    bounds = [0, *jumps.tolist(), len(part.at)]
    return [(slice(int(part.at[a]), int(part.at[b - 1]) + 1), int(part.to[a])) for a, b in itertools.pairwise(bounds)]
