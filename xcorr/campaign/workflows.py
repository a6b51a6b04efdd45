"""The two workflows of a run: stations to shards, and shards to ``xcorr.h5``."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xcorr.core import GenericPE, IterativePE, WorkflowGraph, registry
from xcorr.core.errors import nearest
from xcorr.network.requests import Requests
from xcorr.network.roster import Generation
from xcorr.network.survey import Survey
from xcorr.pes import (
    ConditionStation,
    CorrelateStrips,
    NormalizeStation,
    ReadStation,
    StackRows,
    StackSource,
    StationSource,
    TransformStation,
    WriteShards,
)
from xcorr.pes.correlating.layout import Layout
from xcorr.pes.items import Chunk
from xcorr.pes.reading.catalogue import read_catalogue
from xcorr.pes.reading.waveform import NS
from xcorr.pes.stacking.result_file import Tables
from xcorr.pes.stacking.stack import StackRequest
from xcorr.pes.stacking.sums import keeps_sums
from xcorr.pes.storing.smaller import share_of_bytes
from xcorr.settings import Settings, SettingsError
from xcorr.settings.recipe import Recipe
from xcorr.settings.tables import Insert
from xcorr.store.derived import WriteMarkedResults
from xcorr.store.keep_ledger import KeepLedger

MAIN_JOB = (
    StationSource,
    ReadStation,
    ConditionStation,
    NormalizeStation,
    TransformStation,
    CorrelateStrips,
    WriteShards,
    KeepLedger,
)


def bytes_to_write(recipe: Recipe, found: Survey, todo: dict[int, list[Chunk]], chunks: int) -> int:
    """Return the most bytes of series and stacks that a run will write. ``chunks``: all chunks of the campaign."""
    shape, stack = recipe.shape, recipe.settings.stack
    rows = sum(
        len(found.generations[number].layout.strip_rows(strip))
        for number, chunks in todo.items()
        for chunk in chunks
        for strip in chunk.wanted or ()
    )
    copied = chunks * shape.substacks > 1 or not stack.keep_series  # else the stacks are the series
    sums = 4 * keeps_sums(chunks * shape.substacks, stack.keep_series)
    stacks = found.rows * len(recipe.settings.stacked_pairs) * (len(stack.methods) + 1 + sums) * copied
    series = rows * len(shape.pairs) * shape.substacks * share_of_bytes(stack.compression, stack.series_bits)
    return round(4 * shape.lags * len(shape.bands) * (series + stacks))


def memory_of_machine() -> int:
    """Return the bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _read_again(recipe: Recipe, found: Survey) -> bool:
    """Return whether stacking will read the series, and half of the memory can hold the series until then."""
    shape = recipe.shape
    pieces = len(found.chunks) * shape.substacks
    size = 4 * pieces * found.rows * shape.lags * len(shape.bands) * len(shape.pairs)
    return (pieces > 1 or not recipe.settings.stack.keep_series) and size < memory_of_machine() / 2


def preparing(recipe: Recipe) -> tuple[ConditionStation, NormalizeStation, TransformStation]:
    """Return the elements between reading and correlating."""
    s = recipe.settings
    return (
        ConditionStation(
            recipe.conditioning,
            recipe.windowing,
            s.condition.response,
            s.data.metadata,
            s.condition.water_level_db,
            recipe.shares_weights,
            events(s),
        ),
        NormalizeStation(recipe.normalization),
        TransformStation(
            recipe.bands,
            recipe.windowing.step,
            recipe.whitening,
            recipe.estimator,
            recipe.keeps_power,
            recipe.substacks,
        ),
    )


def correlator(recipe: Recipe, layout: Layout, names: Sequence[str]) -> CorrelateStrips:
    """Return the element that correlates the stations of a layout."""
    return CorrelateStrips(layout, recipe.bands, recipe.windows, tuple(names), recipe.estimator, recipe.substacks)


def correlation_workflow(
    recipe: Recipe,
    found: Survey,
    generation: Generation,
    todo: Sequence[Chunk],
    open_chunks: int,
    folder: Path,
    attributes: dict[str, Any],
) -> WorkflowGraph:
    """Return the workflow that makes the shards of a generation, for the chunks ``todo``, in ``folder``."""
    s, layout = recipe.settings, generation.layout
    steps = [
        StationSource(Requests(found, s, layout, tuple(todo)), open_chunks),
        ReadStation(
            found.index.source,
            s.condition.band_hz[1],
            s.edge_s,
            s.condition.max_gap_s,
            s.condition.zeros_are_gaps_s,
            s.data.options,
            s.data.drift,
            s.data.prefer,
        ),
        *preparing(recipe),
        correlator(recipe, layout, [s.name for s in found.stations[: layout.stations]]),
        WriteShards(
            str(folder),
            layout,
            recipe.shape.lags,
            attributes,
            recipe.shape.bands,
            recipe.shape.substacks,
            generation.number,
            found.roster.to_json(generation.number),
            _read_again(recipe, found),
            s.stack.compression,
            s.stack.series_bits,
        ),
        KeepLedger(str(folder)),
    ]
    return chained(*_with_inserted(steps, s.insert))


def _with_inserted(steps: Sequence[GenericPE], inserts: Sequence[Insert]) -> list[GenericPE]:
    """Return the steps with the user's elements inserted, each after the element that its setting names."""
    found = list(steps)
    for insert in inserts:
        element = _element_class(insert)(**insert.parameters)
        element.name = insert.element
        found.insert([step.id for step in found].index(insert.after) + 1, element)
    return found


def element_classes(settings: Settings) -> dict[str, type[GenericPE]]:
    """Return the elements of the main job by name, in order, with the user's elements.

    Raises SettingsError if a user's element cannot take its place.
    """
    found: dict[str, type[GenericPE]] = {kind.__name__: kind for kind in MAIN_JOB}
    for insert in settings.insert:
        names = list(found)
        if insert.after not in names[:-1]:
            raise SettingsError(
                f"insert.after = {insert.after!r}: no element of the main job that writes on to another"
                f"{nearest(insert.after, names[:-1])}; there are {', '.join(names[:-1])}"
            )
        if insert.element in found:
            raise SettingsError(
                f"insert.element = {insert.element!r}: the main job has an element of this name; "
                "register yours under another name"
            )
        kind = _element_class(insert)
        names.insert(names.index(insert.after) + 1, insert.element)
        found = {name: found.get(name, kind) for name in names}
    return found


def _element_class(insert: Insert) -> type[GenericPE]:
    """Return the class of a user's element. Raises SettingsError for one that cannot take a place in the main job."""
    entry = registry.find(insert.element)
    if entry.kind != "element":
        raise SettingsError(f"insert.element = {insert.element!r}: is a {entry.kind}, not an element")
    kind: type[GenericPE] = registry.load(insert.element)
    try:
        made = kind(**insert.parameters)  # made once here, so that wrong parameters are refused before the run
    except (TypeError, ValueError) as error:
        raise SettingsError(f"insert.parameters = {insert.parameters!r}: {insert.element}: {error}") from error
    if "input" not in made.inputconnections or "output" not in made.outputconnections:
        raise SettingsError(
            f"insert.element = {insert.element!r}: lacks a port; it needs ports called 'input' and 'output'"
        )
    return kind


def expected_items(graph: WorkflowGraph) -> dict[str, int]:
    """Return how many items each element will get, for the first elements that write one item for each input."""
    source, *others = graph.flattened()[0]
    one_by_one = itertools.takewhile(lambda element: isinstance(element, IterativePE), others)
    return dict.fromkeys((element.id for element in one_by_one), len(source.requests))


def events(settings: Settings) -> tuple[tuple[int, int], ...]:
    """Return the times (ns) left out after the earthquakes of the catalogue."""
    q = settings.quality
    if q.catalogue is None:
        return ()
    origins = read_catalogue(q.catalogue, q.catalogue_magnitude)
    return tuple((t, t + round(q.catalogue_after_s * NS)) for t in origins)


def stack_workflow(recipe: Recipe, requests: tuple[StackRequest, ...], folder: Path, tables: Tables) -> WorkflowGraph:
    """Return the workflow from shards to ``xcorr.h5``."""
    shape = dataclasses.replace(recipe.shape, chunks=len(tables.pieces) // tables.substacks)
    results = WriteMarkedResults(str(folder), tables)
    results.name = "WriteResults"
    how = recipe.stacking, recipe.settings.stack.keep_series, tables.summed is not None
    return chained(
        StackSource(requests),
        StackRows(str(folder), shape, tables.components, tables.methods, *how),
        results,
    )


def chained(*elements: Any) -> WorkflowGraph:
    """Return elements connected one after another, output to input."""
    graph = WorkflowGraph()
    for first, second in itertools.pairwise(elements):
        graph.connect(first, "output", second, "input")
    return graph
