"""What a run will take: pairs, operations, bytes, files, memory and time, from a calibration of this machine.

The calibration runs the application's own elements, with the settings of the run, on a few synthetic stations: some
seconds, kept in the cache for each machine, version and settings. Predictions never change a result.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

from xcorr import campaign, pipeline
from xcorr.core.files import replace_text
from xcorr.core.testing import ListSource
from xcorr.mappings import run
from xcorr.mappings.run import available_cores
from xcorr.pes.estimate import Estimator
from xcorr.pes.gridding import gridding
from xcorr.pes.items import Chunk, RawChannel, RawStation, Segment, SlotAccount, SpectraBlock
from xcorr.pes.layout import Layout
from xcorr.pes.read import read_file
from xcorr.pes.segments import NS
from xcorr.pes.tiles import GROUP
from xcorr.pes.waveform_file import read_headers
from xcorr.pes.whiten import Band
from xcorr.settings import Settings, SettingsError
from xcorr.survey import Survey

CALIBRATED = 128  # stations, of correlation; of conditioning a few of them
FEW = 4
# by mapping; benchmarks/speed.py --only plan measures what comes of those of threads and processes
SHARE = {"sequential": 1.0, "threads": 0.8, "processes": 0.95, "mpi": 0.85, "storm": 0.7}  # of each worker's time
STARTS = {
    "sequential": 1,
    "threads": 1,
    "processes": 1.3,
    "mpi": 2,
    "storm": 2,
}  # what imports take, in those of one process
FINISH_S = {"storm": 15.0}  # and workers' start; of others OTHERS_FINISH_S
OTHERS_FINISH_S = 0.35
BASE_MB = {"sequential": 85.0, "threads": 85.0, "processes": 45.0, "mpi": 75.0, "storm": 600.0}  # of each process
UNDER_WAY_MB = {"sequential": 0.0, "threads": 8.0}  # between elements, for each worker; of others CREDIT_MB
CREDIT_MB = 16.0
UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


@dataclasses.dataclass(frozen=True)
class Costs:
    """Seconds on one core: to start; to read a sample; for a station in a chunk after that; for a pair; for a byte."""

    start_s: float
    sample_s: float
    station_s: float
    pair_s: float
    byte_s: float


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What a run will take."""

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
        if text.strip().endswith(unit) and number.replace(".", "", 1).isdigit():
            return round(float(number) * factor)
    raise SettingsError(f"run.memory = {text!r}: write a size such as '4GB' or '800MB'")


def forecast(settings: Settings, found: Survey, todo: dict[int, list[Chunk]], costs: Costs, workers: int) -> Forecast:
    """Return what a run will take. Raises SettingsError if run.memory does not even allow one chunk."""
    open_chunks = chunks_at_once(settings, found, workers, max((len(c) for c in todo.values()), default=1))
    files = {path for coverages in found.archive.coverages.values() for c in coverages for path in [c.path]}
    size = sum(os.path.getsize(p) for p in files if os.path.isfile(p))
    station_chunks = pairs = pieces = 0
    for number, chunks in todo.items():
        layout = found.generations[number].layout
        stations = sum(bool(layout.strips_of(k)) for k in range(layout.stations))
        for chunk in chunks:
            rows = sum(len(layout.strip_rows(s)) for s in chunk.wanted or ())
            station_chunks, pairs, pieces = station_chunks + stations, pairs + rows, pieces + len(chunk.wanted or ())
    shape, grid = pipeline.series_shape(settings), pipeline.bands_of(settings)[0].grid
    each = len(settings.component_pairs) * len(shape.bands) * shape.substacks
    written = pipeline.bytes_to_write(settings, found, todo, len(found.chunks))
    rate = settings.condition.rate_hz
    samples = station_chunks * len(settings.components) * settings.data.chunk_s * rate * raw_ratio(found, rate)
    cores = min(workers, available_cores())
    preparing = (samples * costs.sample_s + station_chunks * costs.station_s) / cores
    correlating = pairs * each * costs.pair_s / max(min(cores, pieces), 1)  # a strip in a chunk has one worker
    windows = pipeline.window_total(settings)
    flops = pairs * len(settings.component_pairs) * grid.bins * windows * 8 + pairs * each * 5 * grid.nfft * np.log2(
        grid.nfft
    )
    mapping = settings.run.mapping
    start = STARTS.get(mapping, 1) * costs.start_s + FINISH_S.get(mapping, OTHERS_FINISH_S)
    seconds = start + (preparing + correlating) / SHARE.get(mapping, 0.8) + written * costs.byte_s
    memory = memory_bytes(settings, found, workers, open_chunks)
    return Forecast(
        *(len(found.stations), found.rows, len(found.chunks), float(flops), size, written, pieces + 4),
        *(memory, open_chunks, workers, round(seconds, 1)),
    )


def worker_count(settings: Settings) -> int:
    """Return the number of workers that a run will have."""
    if settings.run.mapping == "sequential":
        return 1
    return settings.run.workers or available_cores()


def raw_ratio(found: Survey, rate_hz: float) -> float:
    """Return the raw sampling rate of a file of the source over the common rate."""
    for coverages in found.archive.coverages.values():
        for coverage in coverages:
            try:
                return float(read_headers(coverage.path)[0].sampling_rate) / rate_hz
            except Exception:  # ObsPy raises anything on garbage; the run reports it, here another file does
                continue
    return 1.0


def memory_limit(settings: Settings) -> int:
    """Return run.memory in bytes; by default 80 % of what this machine has."""
    if settings.run.memory is not None:
        return parse_bytes(settings.run.memory)
    return int(0.8 * pipeline.memory_of_machine())


def chunks_at_once(settings: Settings, found: Survey, workers: int, chunks: int) -> int:
    """Return how many chunks may be open within the memory there is, at most run.open_chunks.

    Raises SettingsError if run.memory does not even allow one. On a Storm cluster, whose memory this machine cannot
    know, it counts only where it is given.
    """
    most = min(settings.run.open_chunks, max(chunks, 1))
    if settings.run.memory is None and settings.run.mapping == "storm":
        return most
    limit = memory_limit(settings)
    for count in range(most, 0, -1):
        if memory_bytes(settings, found, workers, count) <= limit:
            return count
    if settings.run.memory is None:
        return 1
    need = memory_bytes(settings, found, workers, 1)
    raise SettingsError(
        f"run.memory = {settings.run.memory!r}: {len(found.stations)} stations on {workers} worker(s) take about "
        f"{need / 1e9:.1f} GB for one chunk; allow more (--memory), take fewer workers (-n) or a shorter data.chunk_s"
    )


def memory_bytes(settings: Settings, found: Survey, workers: int, open_chunks: int) -> int:
    """Return the memory of all processes together, at most."""
    bands, windows = pipeline.bands_of(settings), pipeline.window_total(settings)
    copies = pipeline.estimator_of(settings).copies
    spectra = 8 * windows * copies * sum(b.grid.bins for b in bands)
    letters, layout = len(settings.components), found.generations[-1].layout
    shares = settings.run.mapping in ("sequential", "threads")  # packed spectra; what one worker has freed, too
    owners = min(workers, max(len(layout.strips), 1) * (1 if shares else max(len(found.chunks), 1)))
    packed = layout.blocks * layout.block * spectra * open_chunks * (1 if shares else owners)
    kept = windows * copies if layout.blocks > 1 else 0  # of conjugates that meet more than one block
    room = owners * sum(_room(b, layout.block, kept, pipeline.estimator_of(settings)) for b in bands)
    trace = letters * settings.data.chunk_s * settings.condition.rate_hz
    working = workers * (40 * trace + 4 * letters * spectra)
    under_way = workers * 1e6 * UNDER_WAY_MB.get(settings.run.mapping, CREDIT_MB)
    base = 1e6 * BASE_MB.get(settings.run.mapping, 150.0)
    processes = 1 if shares else workers + 1
    return int(base * processes + packed + room + working + under_way)


def _room(band: Band, block: int, windows: int, how: Estimator) -> int:
    """Return the bytes that an owner of strips needs for a tile: sums, those by coarse frequency, conjugates."""
    short = None if how.is_ratio else gridding(band.grid)
    sums = band.grid.bins if short is None else 2 * short.bins
    return 8 * GROUP * (block * sums + windows * band.grid.bins)


# -- calibration ---------------------------------------------------------------------------------------------


def calibrated(settings: Settings, folder: Path) -> Costs:
    """Return the costs on this machine with these settings, measured now unless they are in the cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xcorr" / "calibration.json"
    machine = f"{platform.node()} {available_cores()} {campaign.software()} {campaign.kernel()} {settings.hash()}"
    machine += f" {' '.join(f.name for f in dataclasses.fields(Costs))}"
    key = hashlib.sha256(machine.encode()).hexdigest()
    known = json.loads(cache.read_text()) if cache.exists() else {}
    if key not in known:
        known[key] = dataclasses.asdict(calibrate(settings, folder))
        cache.parent.mkdir(parents=True, exist_ok=True)
        replace_text(cache, json.dumps(known))
    return Costs(**known[key])


def calibrate(settings: Settings, folder: Path) -> Costs:
    """Measure: a few stations read and prepared, the pairs of 128 correlated, some megabytes written and synced.

    Without response removal: its cost is that of the metadata, which is read once.
    """
    plain = dataclasses.replace(
        settings,
        data=dataclasses.replace(settings.data, metadata=None),
        condition=dataclasses.replace(settings.condition, response="none"),
        quality=dataclasses.replace(settings.quality, catalogue=None),
    )
    layout = Layout(CALIBRATED, plain.components, plain.component_pairs, plain.correlate.block)
    size = plain.data.chunk_s * NS
    chunk = Chunk(0, 0, size, 0, size, strips=-(-layout.blocks // layout.blocks_per_strip))
    names = [f"XX.S{k:03d}" for k in range(CALIBRATED)]
    stations = [_noise(plain, chunk, k, names[k]) for k in range(FEW)]
    station_s = math.inf
    for _ in range(2):  # the first also pays for memory and plans
        prepared = run(pipeline.chained(ListSource(stations), *pipeline.preparing(plain)))
        seconds = sum(s.seconds for s in prepared.statistics if s.element != "ListSource")
        station_s = min(station_s, seconds / FEW)
    template: SpectraBlock = next(iter(prepared.results.values()))["output"][0]
    letters = len(plain.components)
    spread = [
        dataclasses.replace(
            template,
            station=name,
            strips=layout.strips_of(k),
            slots=tuple(k * letters + s for s in range(len(template.slots))),
            accounts=tuple(dataclasses.replace(a, slot=k * letters + n) for n, a in enumerate(template.accounts)),
        )
        for k, name in enumerate(names)
    ]
    correlated = run(pipeline.chained(ListSource(spread), pipeline.correlator(plain, layout, names)))
    seconds = sum(s.seconds for s in correlated.statistics if s.element == "CorrelateStrips")
    pieces = len(plain.component_pairs) * len(plain.bands) + len(plain.component_pairs)
    pair_s = seconds / (layout.rows * pieces * len(pipeline.substacks_of(plain)))
    return Costs(_start_cost(), _read_cost(), station_s, pair_s, _write_cost(folder))


def _noise(settings: Settings, chunk: Chunk, number: int, name: str) -> RawStation:
    """Return a station of noise at the common rate."""
    rate, rng = settings.condition.rate_hz, np.random.default_rng(number)
    channels = []
    for n, letter in enumerate(settings.components):
        data = rng.standard_normal(settings.samples(settings.data.chunk_s)).astype(np.float32)
        account = SlotAccount(number * len(settings.components) + n, 0, "used")
        segment = Segment(0, Fraction(rate).limit_denominator(1000), data)
        channels.append(RawChannel(account, (segment,), (), letter))
    return RawStation(chunk, name, tuple(range(chunk.strips)), tuple(channels))


def _start_cost() -> float:
    """Return the seconds until a process has imported what a run needs."""
    program = "import xcorr.campaign_run, obspy.io.mseed.core, pyproj, h5py"
    times = []
    for _ in range(2):  # the first may have to read it all from disk
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-P", "-c", program], check=True)
        times.append(time.perf_counter() - begin)
    return min(times)


def _read_cost() -> float:
    """Return the seconds to read a sample of a STEIM2 file that the system has in memory."""
    import obspy

    data = np.random.default_rng(0).integers(-1000, 1000, 345_600).astype(np.int32)
    with tempfile.TemporaryDirectory() as place:
        path = str(Path(place, "x.mseed"))
        obspy.Trace(data).write(path, format="MSEED", encoding="STEIM2", reclen=4096)
        read_file(path, 0, 10**18)
        begin = time.perf_counter()
        for _ in range(3):
            read_file(path, 0, 10**18)
        return (time.perf_counter() - begin) / (3 * len(data))


def _write_cost(folder: Path) -> float:
    """Return the seconds to write and sync a byte, where the results will be."""
    place = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.is_dir())
    data = os.urandom(64 << 20)
    with tempfile.TemporaryFile(dir=place) as file:
        begin = time.perf_counter()
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        return (time.perf_counter() - begin) / len(data)
