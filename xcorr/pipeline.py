"""The two workflows of a run: stations to shards, and shards to ``xcorr.h5``."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from xcorr.core import WorkflowGraph
from xcorr.pes import (
    ConditionStation,
    CorrelateStrips,
    NormalizeStation,
    ReadStation,
    StackRows,
    StackSource,
    StationSource,
    TransformStation,
    WriteResults,
    WriteShards,
)
from xcorr.pes.condition import Conditioning
from xcorr.pes.items import StationRequest
from xcorr.pes.prepare import Windowing
from xcorr.pes.result_file import Tables
from xcorr.pes.stack import StackRequest
from xcorr.pes.whiten import SpectralGrid, spectral_grid
from xcorr.pes.windows import window_count
from xcorr.settings import Settings
from xcorr.survey import Survey


def grid_of(settings: Settings) -> SpectralGrid:
    """Return the spectral grid of a run."""
    return spectral_grid(
        settings.samples(settings.window.length_s),
        settings.samples(settings.correlate.max_lag_s),
        settings.condition.rate_hz,
        settings.whiten_band_hz,
    )


def correlation_workflow(
    settings: Settings,
    found: Survey,
    requests: Iterable[StationRequest],
    folder: Path,
    attributes: dict[str, Any],
) -> WorkflowGraph:
    """Return the workflow from station requests to shards in ``folder``."""
    grid = grid_of(settings)
    c, w, n = settings.condition, settings.window, settings.normalize
    windowing = Windowing(grid.length, settings.samples(w.step_s), w.min_coverage, settings.quality.max_over_std)
    windows = window_count(settings.samples(settings.data.chunk_s), windowing.length, windowing.step)
    conditioning = Conditioning(c.rate_hz, c.band_hz, c.corners, settings.edge_s)
    shared = "station" in (n.per, settings.whiten.per)
    band = settings.whiten_band_hz
    chain = (
        StationSource(tuple(requests), settings.run.open_chunks),
        ReadStation(c.band_hz[1], settings.edge_s, c.max_gap_s, c.zeros_are_gaps_s),
        ConditionStation(conditioning, windowing, c.response, settings.data.metadata, c.water_level_db, shared),
        NormalizeStation(n.method, settings.normalize_window_s, n.per),
        TransformStation(
            grid,
            windowing.step,
            band,
            settings.whiten.method,
            settings.whiten.taper_hz,
            settings.whiten.smooth_hz,
            settings.whiten.per,
        ),
        CorrelateStrips(
            found.layout,
            grid,
            windows,
            tuple(s.name for s in found.stations),
            unbiased=settings.whiten.method == "none",
        ),
        WriteShards(str(folder), found.layout, 2 * grid.lags + 1, attributes),
    )
    return _chained(*chain)


def stack_workflow(
    settings: Settings, found: Survey, requests: tuple[StackRequest, ...], folder: Path, tables: Tables
) -> WorkflowGraph:
    """Return the workflow from shards to ``xcorr.h5``."""
    return _chained(
        StackSource(requests),
        StackRows(str(folder), found.layout.pairs, len(tables.lags_s), len(found.chunks)),
        WriteResults(str(folder), tables),
    )


def _chained(*elements: Any) -> WorkflowGraph:
    graph = WorkflowGraph()
    for first, second in itertools.pairwise(elements):
        graph.connect(first, "output", second, "input")
    return graph
