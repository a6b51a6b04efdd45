"""The two workflows of a run: stations to shards, and shards to ``xcorr.h5``."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xcorr.core import WorkflowGraph
from xcorr.ledger import KeepLedger
from xcorr.members import Generation
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
from xcorr.pes.catalogue import read_catalogue
from xcorr.pes.condition import Conditioning
from xcorr.pes.estimate import Estimator
from xcorr.pes.items import Chunk
from xcorr.pes.layout import Layout
from xcorr.pes.normalize import Normalization
from xcorr.pes.result_file import Tables
from xcorr.pes.segments import NS
from xcorr.pes.stack import SeriesShape, StackRequest
from xcorr.pes.stacking import Stacking
from xcorr.pes.whiten import Band
from xcorr.pes.windows import Windowing, window_count
from xcorr.settings import Settings
from xcorr.survey import Survey


def bands_of(settings: Settings) -> tuple[Band, ...]:
    """Return the bands of a run, the main one first."""
    length, lags = settings.samples(settings.window.length_s), settings.samples(settings.correlate.max_lag_s)
    edges = [("", settings.whiten_band_hz), *((b.name, b.band_hz) for b in settings.bands)]
    rate, taper, fft = settings.condition.rate_hz, settings.whiten.taper_hz, settings.run.fft
    bands = tuple(Band.of(length, lags, rate, hz, taper, name, fft) for name, hz in edges)
    return tuple(b.whole() for b in bands) if settings.correlate.method == "phase" else bands


def estimator_of(settings: Settings) -> Estimator:
    """Return how a run correlates."""
    c = settings.correlate
    unbiased = settings.whiten.method == "none" and c.method in ("cross-correlation", "phase")
    return Estimator(c.method, unbiased, c.amplitude, c.water_level, c.smooth_hz, c.whiten_autocorrelations)


def windowing_of(settings: Settings) -> Windowing:
    """Return the windows of a run and the limits of their quality."""
    w, q = settings.window, settings.quality
    length, step = settings.samples(w.length_s), settings.samples(w.step_s)
    limits = (q.max_over_std, q.kurtosis, q.sta_lta, q.sta_s, q.lta_s, q.dead, q.clipped)
    return Windowing(length, step, w.min_coverage, *limits)


def window_total(settings: Settings) -> int:
    """Return the number of windows in a chunk."""
    how = windowing_of(settings)
    return window_count(settings.samples(settings.data.chunk_s), how.length, how.step)


def substacks_of(settings: Settings) -> tuple[tuple[int, int], ...]:
    """Return the ranges of windows of a chunk that begin in each of its pieces."""
    total, step = window_total(settings), settings.samples(settings.window.step_s)
    size = settings.samples(settings.substack_s)
    firsts = [-(-k * size // step) for k in range(settings.data.chunk_s // settings.substack_s + 1)]
    return tuple((min(a, total), min(b, total)) for a, b in itertools.pairwise(firsts))


def stacking_of(settings: Settings) -> Stacking:
    """Return the parameters of the stack methods."""
    s = settings.stack
    return Stacking(
        settings.condition.rate_hz,
        s.pws_power,
        s.pws_timegate_s,
        s.tf_pws_power,
        None if settings.bands or settings.correlate.method == "phase" else settings.whiten_band_hz,
        s.nroot_order,
        s.selective_threshold,
        s.acf_power,
    )


def series_shape(settings: Settings, chunks: int = 1) -> SeriesShape:
    """Return what the shards of a run hold; ``chunks`` is for who stacks them."""
    names = tuple(b.name for b in bands_of(settings))
    lags = 2 * settings.samples(settings.correlate.max_lag_s) + 1
    return SeriesShape(names, settings.component_pairs, lags, chunks, len(substacks_of(settings)))


def bytes_to_write(settings: Settings, found: Survey, todo: dict[int, list[Chunk]], chunks: int) -> int:
    """Return the bytes of the series and stacks that a run will write, at most; ``chunks`` are all of the campaign."""
    shape = series_shape(settings)
    rows = sum(
        len(found.generations[number].layout.strip_rows(strip))
        for number, chunks in todo.items()
        for chunk in chunks
        for strip in chunk.wanted or ()
    )
    copied = chunks * shape.substacks > 1 or not settings.stack.keep_series  # else the stacks are the series
    stacks = found.rows * len(settings.outputs) * (len(settings.stack.methods) + 1) * copied
    return 4 * shape.lags * len(shape.bands) * (rows * len(shape.pairs) * shape.substacks + stacks)


def memory_of_machine() -> int:
    """Return the bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _read_again(settings: Settings, found: Survey) -> bool:
    """Return whether series are read again for the stacks, and half of the machine's memory can hold them till then."""
    shape = series_shape(settings)
    pieces = len(found.chunks) * shape.substacks
    size = 4 * pieces * found.rows * shape.lags * len(shape.bands) * len(shape.pairs)
    return (pieces > 1 or not settings.stack.keep_series) and size < memory_of_machine() / 2


def preparing(settings: Settings) -> tuple[ConditionStation, NormalizeStation, TransformStation]:
    """Return the elements between reading and correlating."""
    c, n, w = settings.condition, settings.normalize, settings.whiten
    windowing, estimator = windowing_of(settings), estimator_of(settings)
    conditioning = Conditioning(c.rate_hz, c.band_hz, c.corners, settings.edge_s)
    shared = settings.rotates or "station" in (n.per, w.per)
    return (
        ConditionStation(
            conditioning, windowing, c.response, settings.data.metadata, c.water_level_db, shared, events(settings)
        ),
        NormalizeStation(
            Normalization(n.method, settings.normalize_window_s, n.per, n.band_hz, n.clip_n, n.mute_factor)
        ),
        TransformStation(
            bands_of(settings),
            windowing.step,
            w.method,
            w.smooth_hz,
            w.per,
            estimator,
            settings.correlate.autocorrelations and estimator.keeps_power,
            substacks_of(settings),
        ),
    )


def correlator(settings: Settings, layout: Layout, names: Sequence[str]) -> CorrelateStrips:
    """Return the element that correlates the stations of a layout."""
    total, how = window_total(settings), estimator_of(settings)
    return CorrelateStrips(layout, bands_of(settings), total, tuple(names), how, substacks_of(settings))


def correlation_workflow(
    settings: Settings,
    found: Survey,
    generation: Generation,
    todo: Sequence[Chunk],
    open_chunks: int,
    folder: Path,
    attributes: dict[str, Any],
) -> WorkflowGraph:
    """Return the workflow from the requests of a generation, for some chunks, to shards in ``folder``."""
    c, shape, layout = settings.condition, series_shape(settings), generation.layout
    web = settings.data.fdsn_retries, settings.data.fdsn_requests_per_s
    return chained(
        StationSource(found.requests(settings, generation, todo), open_chunks),
        ReadStation(c.band_hz[1], settings.edge_s, c.max_gap_s, c.zeros_are_gaps_s, *web),
        *preparing(settings),
        correlator(settings, layout, [s.name for s in found.stations[: layout.stations]]),
        WriteShards(
            str(folder),
            layout,
            shape.lags,
            attributes,
            shape.bands,
            shape.substacks,
            generation.number,
            found.members.to_json(generation.number),
            _read_again(settings, found),
        ),
        KeepLedger(str(folder)),
    )


def events(settings: Settings) -> tuple[tuple[int, int], ...]:
    """Return the times (ns) left out after the earthquakes of the catalogue."""
    q = settings.quality
    if q.catalogue is None:
        return ()
    origins = read_catalogue(q.catalogue, q.catalogue_magnitude)
    return tuple((t, t + round(q.catalogue_after_s * NS)) for t in origins)


def stack_workflow(
    settings: Settings, requests: tuple[StackRequest, ...], folder: Path, tables: Tables
) -> WorkflowGraph:
    """Return the workflow from shards to ``xcorr.h5``."""
    chunks = len(tables.pieces) // tables.substacks
    shape, stacking = series_shape(settings, chunks), stacking_of(settings)
    return chained(
        StackSource(requests),
        StackRows(str(folder), shape, settings.outputs, settings.stack.methods, stacking, settings.stack.keep_series),
        WriteResults(str(folder), tables),
    )


def chained(*elements: Any) -> WorkflowGraph:
    """Return elements connected one after another, output to input."""
    graph = WorkflowGraph()
    for first, second in itertools.pairwise(elements):
        graph.connect(first, "output", second, "input")
    return graph
