"""Forecasts of a run: its pairs, operations, bytes, files, memory and time. A forecast never changes a result."""

from __future__ import annotations

import dataclasses
from collections import defaultdict

import numpy as np

from xcorr.campaign.calibration import MeasuredCosts
from xcorr.campaign.workflows import bytes_to_write, memory_of_machine
from xcorr.mappings import engine
from xcorr.mappings.engine import available_cores
from xcorr.network.channels import COMPONENTS, patterns_of, preference
from xcorr.network.survey import Survey
from xcorr.pes.correlating.gridding import gridding
from xcorr.pes.correlating.tiles import GROUP, padded, places_of, units
from xcorr.pes.items import Chunk
from xcorr.pes.preparing.estimator import Estimator
from xcorr.pes.preparing.whiten import Band
from xcorr.pes.reading.source import open_source
from xcorr.settings import Settings, SettingsError
from xcorr.settings.recipe import Recipe

UNDER_WAY, MOST_OPEN = 32, 16
TRIED = 10  # files of a kind of channel, at most
PER_SAMPLE, PER_SAMPLE_WITH_RESPONSE = 18, 29  # bytes at work on a channel, beside its raw data, measured
UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


@dataclasses.dataclass(frozen=True)
class Forecast:
    """The work, space, memory and time that a run will take."""

    stations: int
    pairs: int
    chunks: int
    flops: float
    bytes_read: int
    bytes_written: int
    files: int
    memory_bytes: int
    open_chunks: int
    workers: int
    seconds: float


def parse_bytes(text: str) -> int:
    """Return a size such as ``4GB`` or ``500 MiB`` in bytes. Raises SettingsError for anything else.

    >>> parse_bytes("4GB"), parse_bytes("1.5 GiB")
    (4000000000, 1610612736)
    """
    for unit, factor in UNITS.items():
        number = text.strip().removesuffix(unit).strip()
        if text.strip().endswith(unit) and number.isascii() and number.replace(".", "", 1).isdigit():
            return round(float(number) * factor)
    raise SettingsError(f"run.memory = {text!r}: is not a size; write a size such as '4GB' or '800MB'")


def forecast(
    recipe: Recipe, found: Survey, todo: dict[int, list[Chunk]], costs: MeasuredCosts, workers: int
) -> Forecast:
    """Return the forecast of a run. Raises SettingsError if run.memory is too small for one chunk."""
    settings, shape, grid = recipe.settings, recipe.shape, recipe.bands[0].grid
    open_chunks = chunks_at_once(recipe, found, workers, max((len(c) for c in todo.values()), default=1))
    station_chunks = pairs = pieces = 0
    for number, chunks in todo.items():
        layout = found.generations[number].layout
        stations = sum(bool(layout.strips_of(k)) for k in range(layout.stations))
        for chunk in chunks:
            rows = sum(len(layout.strip_rows(s)) for s in chunk.wanted or ())
            station_chunks, pairs, pieces = station_chunks + stations, pairs + rows, pieces + len(chunk.wanted or ())
    each = len(settings.component_pairs) * len(shape.bands) * shape.substacks
    size, ratio = _bytes_of(settings, found), highest_rate(settings, found) / settings.condition.rate_hz
    written = bytes_to_write(recipe, found, todo, len(found.chunks))
    samples = station_chunks * len(settings.components) * settings.data.chunk_s * settings.condition.rate_hz * ratio
    cores = min(workers, available_cores())
    preparing = (samples * costs.sample_s + station_chunks * costs.station_s) / cores
    correlating = pairs * each * costs.pair_s / max(min(cores, pieces), 1)  # one worker correlates a strip of a chunk
    products = pairs * len(settings.component_pairs) * grid.bins * recipe.windows * 8
    flops = products + pairs * each * 5 * grid.nfft * np.log2(grid.nfft)
    of_mapping = engine(settings.run.mapping).costs
    start = of_mapping.imports * costs.start_s + of_mapping.start_s
    seconds = start + (preparing + correlating) / of_mapping.share + written * costs.byte_s
    memory = memory_bytes(recipe, found, workers, open_chunks)
    return Forecast(
        *(len(found.stations), found.rows, len(found.chunks), float(flops), size, written, pieces + 4),
        *(memory, open_chunks, workers, round(seconds, 1)),
    )


def worker_count(settings: Settings) -> int:
    """Return the number of workers that a run will have."""
    asked = settings.run.workers or available_cores()
    return min(asked, engine(settings.run.mapping).most_workers or asked)


def _bytes_of(settings: Settings, found: Survey) -> int:
    """Return the bytes that the source holds."""
    source = open_source(found.index.source, settings.data.options)
    references = dict.fromkeys(c.path for coverages in found.index.coverages.values() for c in coverages)
    return sum(mark[1] for mark in map(source.fingerprint, references) if mark is not None)


def highest_rate(settings: Settings, found: Survey) -> float:
    """Return the highest sampling rate (Hz) of the channels that a run may read: of the index, or of files.

    Of each kind of channel (its first two letters, such as BH), files are opened until one tells its rate. Where none
    does, the common rate stands for it.
    """
    source, rates = open_source(found.index.source, settings.data.options), [settings.condition.rate_hz]
    start_ns, end_ns = (found.chunks[0].start_ns, found.chunks[-1].end_ns) if found.chunks else (0, 0)
    files: dict[str, list[str]] = defaultdict(list)
    for station in found.stations:
        patterns = patterns_of(station.channels, settings)
        coverages = found.index.coverages.get((station.network, station.index_code), [])
        inside = (c for c in coverages if c.start_ns < end_ns and c.end_ns > start_ns)
        for c in {(c.channel, c.location, c.rate_hz): c for c in inside}.values():
            if preference(c, patterns, COMPONENTS) is not None:
                rates.append(c.rate_hz)
                if not c.rate_hz and len(files[c.channel[:2]]) < TRIED:
                    files[c.channel[:2]].append(c.path)
    told = (next(filter(None, map(source.rate_hz, paths)), 0.0) for paths in files.values())  # some may be damaged
    return max([*rates, *told])


def memory_limit(settings: Settings) -> int:
    """Return run.memory in bytes. The default is 80 % of the memory of this machine."""
    if settings.run.memory is not None:
        return parse_bytes(settings.run.memory)
    return int(0.8 * memory_of_machine())


def chunks_at_once(recipe: Recipe, found: Survey, workers: int, chunks: int) -> int:
    """Return how many chunks may be open within the memory limit, at most run.open_chunks.

    Without run.open_chunks they are so many (2 to MOST_OPEN) that each worker has about UNDER_WAY stations to do, so
    that none waits for the end of a chunk. Raises SettingsError if run.memory is too small for one chunk. Workers may
    be on other machines, whose memory is not known here. Then run.memory is the limit if it is set, and without
    run.memory there is no limit.
    """
    settings = recipe.settings
    usual = 2 if workers == 1 else min(max(2, 1 + -(-UNDER_WAY * workers // max(len(found.stations), 1))), MOST_OPEN)
    most, raw_hz = min(settings.run.open_chunks or usual, max(chunks, 1)), highest_rate(settings, found)
    if settings.run.memory is None and not engine(settings.run.mapping).one_machine:
        return most
    limit = memory_limit(settings)
    for count in range(most, 0, -1):
        if memory_bytes(recipe, found, workers, count, raw_hz) <= limit:
            return count
    need = memory_bytes(recipe, found, workers, 1, raw_hz)
    if settings.run.memory is None and need <= 2 * memory_of_machine():  # the forecast may be too high, but not so much
        return 1
    if settings.run.memory is None:
        raise SettingsError(
            f"these settings take about {need / 1e9:.1f} GB of memory for one chunk of {len(found.stations)} stations, "
            f"and this machine has {memory_of_machine() / 1e9:.1f} GB; take a lower condition.rate_hz, or a shorter "
            "data.chunk_s or window.length_s"
        )
    raise SettingsError(
        f"run.memory = {settings.run.memory!r}: {len(found.stations)} stations on {workers} worker(s) take about "
        f"{need / 1e9:.1f} GB for one chunk; allow more (--memory), take fewer workers (-n) or a shorter data.chunk_s"
    )


def memory_bytes(recipe: Recipe, found: Survey, workers: int, open_chunks: int, raw_hz: float | None = None) -> int:
    """Return the most memory that all processes together will take, in bytes; ``raw_hz`` as :func:`highest_rate`."""
    settings, windows, copies = recipe.settings, recipe.windows, recipe.estimator.copies
    mapping = engine(settings.run.mapping)
    spectra = 8 * windows * copies * sum(b.grid.bins for b in recipe.bands)
    letters, layout = len(settings.components), found.generations[-1].layout
    shares = mapping.one_process  # workers share packed spectra, and reuse the memory that another has freed
    owners = min(workers, max(len(layout.strips), 1) * (1 if shares else max(len(found.chunks), 1)))
    side = places_of(min(layout.stations_per_block, layout.stations) * letters, layout.block)
    packed = layout.blocks * side * spectra * open_chunks * (1 if shares else owners)
    kept = windows * copies if layout.blocks > 1 else 0  # conjugates are kept if they meet several blocks
    group = padded(side, units()[0], GROUP)
    room = owners * sum(group * _room(b, side, kept, recipe.estimator) for b in recipe.bands)
    trace = letters * settings.data.chunk_s * settings.condition.rate_hz
    raw_hz = raw_hz or highest_rate(settings, found)
    above = settings.data.chunk_s * (raw_hz - settings.condition.rate_hz)  # samples that are only in raw data
    raw = above * (4 * letters + (PER_SAMPLE if settings.condition.response == "none" else PER_SAMPLE_WITH_RESPONSE))
    working = workers * (40 * trace + 4 * letters * spectra + raw)
    under_way = workers * 1e6 * mapping.costs.between_mb
    processes = 1 if shares else workers + 1
    return int(1e6 * mapping.costs.process_mb * processes + packed + room + working + under_way)


def _room(band: Band, block: int, windows: int, how: Estimator) -> int:
    """Return the bytes that a correlator needs for a slot of the first block: cross spectra, and conjugates."""
    short = None if how.is_ratio else gridding(band.grid)
    sums = band.grid.bins if short is None else 2 * short.bins
    return 8 * (block * sums + windows * band.grid.bins)
