"""The tables of a campaign that ``xcorr.h5`` holds: stations, slots, pairs, pieces, shards."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from xcorr.network.pairs import geometry
from xcorr.network.station_list import Station
from xcorr.network.survey import Survey
from xcorr.pes.monitoring.monitor_file import PIECES
from xcorr.pes.reading.source import CODE_LENGTH
from xcorr.pes.reading.waveform import NS
from xcorr.pes.stacking.result_file import Tables
from xcorr.pes.storing.shards import digest_of
from xcorr.settings import Settings
from xcorr.settings.recipe import Recipe
from xcorr.settings.written import to_toml
from xcorr.store.ledger_schema import Shard
from xcorr.store.report import now
from xcorr.store.software import software


def station_table(stations: Sequence[Station]) -> np.ndarray:
    """Return the table of stations."""
    length = _code_length(stations)
    kind = [
        ("id", f"S{CODE_LENGTH + 1 + length}"),
        ("network", f"S{CODE_LENGTH}"),
        ("station", f"S{length}"),
        ("latitude", "f8"),
        ("longitude", "f8"),
        ("elevation_m", "f8"),
    ]
    rows = [
        (
            s.name,
            s.network,
            s.code,
            s.coordinates.latitude,
            s.coordinates.longitude,
            s.coordinates.elevation_m,
        )
        for s in stations
    ]
    return np.array(rows, kind)


def slot_table(stations: Sequence[Station], components: Sequence[str]) -> np.ndarray:
    """Return the table of slots: ``NET.STA.C``, the station's number and the component."""
    rows = [(f"{s.name}.{c}", i, c) for i, s in enumerate(stations) for c in components]
    name = f"S{CODE_LENGTH + 1 + _code_length(stations) + 2}"
    return np.array(rows, [("id", name), ("station", "i4"), ("component", "S1")])


def _code_length(stations: Sequence[Station]) -> int:
    """Return the length of codes: those of stations that were moved are longer."""
    return max([CODE_LENGTH, *(len(s.code) for s in stations)])


def pair_table(found: Survey) -> np.ndarray:
    """Return the table of pairs: station numbers, distance and azimuths on WGS84 from 1 to 2 (NaN if unknown)."""
    ends = [g.layout.pair_indices() for g in found.generations]
    i, j = (np.concatenate([e[k] for e in ends]) for k in (0, 1))
    table = np.zeros(
        len(i),
        [
            ("station_1", "i4"),
            ("station_2", "i4"),
            ("distance_m", "f8"),
            ("azimuth_deg", "f8"),
            ("back_azimuth_deg", "f8"),
        ],
    )
    table["station_1"], table["station_2"] = i, j
    names = ("distance_m", "azimuth_deg", "back_azimuth_deg")
    for name, values in zip(names, geometry(found.stations, i, j), strict=True):
        table[name] = values
    return table


def piece_table(settings: Settings, starts: Sequence[int]) -> np.ndarray:
    """Return start and end of every piece of the series: chunks, or the substacks of each."""
    size, count = settings.substack_s * NS, settings.data.chunk_s // settings.substack_s
    begins = [start + k * size for start in starts for k in range(count)]
    return np.array([(s, s + size) for s in begins], [("start_ns", "i8"), ("end_ns", "i8")])


def pieces_of_shards(settings: Settings, shards: Sequence[Shard]) -> np.ndarray:
    """Return the table of pieces of ``monitor.h5``: starts, ends, and a digest of the shards that each is in."""
    of_chunk = defaultdict(list)
    for shard in shards:
        of_chunk[shard.start_ns].append((shard.name, shard.id))
    starts = sorted(of_chunk)
    times = piece_table(settings, starts)
    table = np.zeros(len(times), PIECES)
    table["start_ns"], table["end_ns"] = times["start_ns"], times["end_ns"]
    digests = [hashlib.blake2b(digest_of(sorted(of_chunk[s])).encode(), digest_size=16).hexdigest() for s in starts]
    table["shards"] = np.repeat(np.array(digests, "S32"), len(times) // max(1, len(starts)))
    return table


def tables(recipe: Recipe, found: Survey, pairs: np.ndarray, starts: Sequence[int], shards: Sequence[Shard]) -> Tables:
    """Return all that ``xcorr.h5`` holds besides stacks. ``starts`` (ns): the starts of all chunks of the campaign."""
    settings, generations = recipe.settings, found.generations
    m, substacks = recipe.max_lag, recipe.shape.substacks
    number = {start: k for k, start in enumerate(starts)}
    rows = [(s, generations[s.generation].layout.strip_rows(s.strip)) for s in shards]
    return Tables(
        station_table(found.stations),
        slot_table(found.stations, settings.components),
        pairs,
        piece_table(settings, starts),
        np.arange(-m, m + 1) / settings.condition.rate_hz,
        recipe.shape.bands,
        settings.component_pairs if settings.stack.keep_series else (),
        settings.stacked_pairs,
        settings.stack.methods,
        substacks,
        tuple(
            (number[s.start_ns] * substacks, generations[s.generation].first_row + r.start, len(r), s.path)
            for s, r in rows
            if settings.stack.keep_series
        ),
        {
            "software": software(),
            "settings_hash": settings.hash(),
            "shards_digest": digest_of((s.name, s.id) for s in shards),
            "created": now(),
            "units": settings.units,
            "settings": to_toml(settings.as_dict()),
        },
    )
