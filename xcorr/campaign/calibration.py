"""Measures what the work costs on this machine: runs the application's elements on a few synthetic stations.

A calibration takes some seconds. Its costs are kept in the cache, for each machine, version and settings.
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

from xcorr.campaign.workflows import chained, correlator, preparing
from xcorr.core.files import replace_text
from xcorr.core.testing import ListSource
from xcorr.mappings import run
from xcorr.mappings.engine import available_cores
from xcorr.pes.correlating.layout import Layout
from xcorr.pes.items import Chunk, RawChannel, RawStation, Segment, SlotAccount, SpectraBlock
from xcorr.pes.reading.waveform import NS
from xcorr.pes.reading.waveform_file import read_waveforms
from xcorr.settings import Settings
from xcorr.settings.recipe import Recipe
from xcorr.store.software import kernel, software

CALIBRATED = 128  # stations that are correlated
FEW = 4  # stations that are conditioned


@dataclasses.dataclass(frozen=True)
class MeasuredCosts:
    """Seconds on one core: to start, to read a sample, to prepare a station's chunk, per pair, per byte written."""

    start_s: float
    sample_s: float
    station_s: float
    pair_s: float
    byte_s: float


def calibrated(settings: Settings, folder: Path) -> MeasuredCosts:
    """Return the costs on this machine with these settings. Costs that are not in the cache are measured now."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xcorr" / "calibration.json"
    machine = f"{platform.node()} {available_cores()} {software()} {kernel()} {settings.hash()}"
    machine += f" {' '.join(f.name for f in dataclasses.fields(MeasuredCosts))}"
    key = hashlib.sha256(machine.encode()).hexdigest()
    known = _cached(cache)
    if key not in known:
        known[key] = calibrate(settings, folder)
        cache.parent.mkdir(parents=True, exist_ok=True)
        replace_text(cache, json.dumps({name: dataclasses.asdict(costs) for name, costs in known.items()}))
    return known[key]


def _cached(cache: Path) -> dict[str, MeasuredCosts]:
    """Return the costs in the cache. What is damaged is measured again."""
    found: dict[str, MeasuredCosts] = {}
    try:
        for key, plain in json.loads(cache.read_text("utf-8")).items():
            if all(isinstance(v, float) and 0 < v < math.inf for v in plain.values()):
                found[key] = MeasuredCosts(**plain)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
    return found


def calibrate(settings: Settings, folder: Path) -> MeasuredCosts:
    """Measure the costs: prepare a few stations, correlate the pairs of 128, write and sync some megabytes.

    Responses are not removed here. Response removal costs the reading of the metadata, which happens once.
    """
    plain = dataclasses.replace(
        settings,
        data=dataclasses.replace(settings.data, metadata=None),
        condition=dataclasses.replace(settings.condition, response="none"),
        quality=dataclasses.replace(settings.quality, catalogue=None),
    )
    recipe = Recipe(plain)
    layout = Layout(CALIBRATED, plain.components, plain.component_pairs, plain.correlate.block)
    size = plain.data.chunk_s * NS
    chunk = Chunk(0, 0, size, 0, size, strips=-(-layout.blocks // layout.blocks_per_strip))
    names = [f"XX.S{k:03d}" for k in range(CALIBRATED)]
    stations = [_noise(plain, chunk, k, names[k]) for k in range(FEW)]
    station_s = math.inf
    for _ in range(2):  # the first time also allocates memory and makes FFT plans
        prepared = run(chained(ListSource(stations), *preparing(recipe)))
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
    correlated = run(chained(ListSource(spread), correlator(recipe, layout, names)))
    seconds = sum(s.seconds for s in correlated.statistics if s.element != "ListSource")
    pieces = len(plain.component_pairs) * len(plain.bands) + len(plain.component_pairs)
    pair_s = seconds / (layout.rows * pieces * len(recipe.substacks))
    return MeasuredCosts(_start_cost(), _read_cost(), station_s, pair_s, _write_cost(folder))


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
    program = "import xcorr.campaign.run, obspy.io.mseed.core, pyproj, h5py"
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
        read_waveforms(path, 0, 10**18)
        begin = time.perf_counter()
        for _ in range(3):
            read_waveforms(path, 0, 10**18)
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
