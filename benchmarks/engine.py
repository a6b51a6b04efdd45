"""What the engine costs: per small item and hop, per byte across processes, and the speed-up of two workers."""

from __future__ import annotations

import itertools
import statistics
import time
from fractions import Fraction
from typing import Any

import numpy as np

from xcorr.core import ConsumerPE, GenericPE, IterativePE, ProducerPE, WorkflowGraph
from xcorr.mappings import run
from xcorr.pes import ConditionStation, CorrelateStrips, NormalizeStation, TransformStation
from xcorr.pes.correlating.layout import Layout
from xcorr.pes.correlating.rows import CorrelationRows
from xcorr.pes.items import Chunk, RawChannel, RawStation, Segment, SlotAccount
from xcorr.pes.preparing.condition import Conditioning
from xcorr.pes.preparing.whiten import Band
from xcorr.pes.preparing.windows import Windowing
from xcorr.pes.process_setup import prepare_process

DAY_S, RATE, LENGTH_S, LAG_S, BAND = 86_400, 4, 3600, 120, (0.05, 1.0)


class Count(ProducerPE):
    """Writes small items."""

    worker = 0

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def _process(self) -> None:
        for i in range(self.count):
            self.write("output", i)


class Arrays(Count):
    """Writes the same array again and again."""

    def __init__(self, count: int, size: int) -> None:
        super().__init__(count)
        self.size = size

    def _process(self) -> None:
        array = np.ones(self.size // 8)
        for _ in range(self.count):
            self.write("output", array)


class Pass(IterativePE):
    """Passes items on."""

    stateless = True

    def _process(self, data: Any) -> Any:
        return data


class PassOnOne(Pass):
    """Passes items on, on worker 1."""

    stateless = False
    worker = 1


class Sink(ConsumerPE):
    """Takes items."""

    def __init__(self, worker: int = 0) -> None:
        super().__init__()
        self.worker = worker

    def _process(self, data: Any) -> None:
        """Drop it."""


class Synthesize(IterativePE):
    """Makes a day of noise of one station."""

    stateless = True

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout

    def _process(self, job: tuple[int, int]) -> RawStation:
        day, station = job
        data = np.random.default_rng([day, station]).standard_normal(DAY_S * RATE, dtype=np.float32)
        start = day * DAY_S * 10**9
        chunk = Chunk(day, start, start + DAY_S * 10**9, start, start + DAY_S * 10**9)
        channel = RawChannel(SlotAccount(station, day, "used"), (Segment(start, Fraction(RATE), data),))
        return RawStation(chunk, f"YY.S{station}", self.layout.strips_of(station), (channel,))


class Jobs(GenericPE):
    """Writes (day, station) in order, two days under way at once."""

    open_groups = 2

    def __init__(self, days: int, stations: int) -> None:
        super().__init__()
        self._add_output("output")
        self.days = days
        self.stations = stations

    def process(self, inputs: dict[str, Any]) -> None:
        """Write all jobs."""
        for day in range(self.days):
            for station in range(self.stations):
                self.write("output", (day, station))

    def group_of(self, item: tuple[int, int]) -> int:
        """Return the day."""
        return item[0]


class Checksum(GenericPE):
    """Sums the bytes of all correlations, in any order, to compare runs to the bit."""

    def __init__(self) -> None:
        super().__init__()
        self._add_input("input", grouping="global")
        self._add_output("output")

    def preprocess(self) -> None:
        """Begin at nothing."""
        self.total = self.rows = 0

    def process(self, inputs: dict[str, Any]) -> None:
        """Add the bits of some rows."""
        item = inputs["input"]
        if isinstance(item, CorrelationRows):
            self.rows += len(item.data)
            self.total = (self.total + int(item.data.view(np.uint32).sum(dtype=np.uint64))) % 2**64

    def postprocess(self) -> None:
        """Write the sums."""
        self.write("output", (self.rows, self.total))


def chained(*elements: GenericPE) -> WorkflowGraph:
    """Return the chain of elements."""
    graph = WorkflowGraph()
    for a, b in itertools.pairwise(elements):
        graph.connect(a, "output", b, "input")
    return graph


def busy_seconds(outcome: Any) -> float:
    """Return the time from the start of the workers to the end of the last."""
    return float(max(w.seconds for w in outcome.workers))


def sequential_hop_us(items: int = 300_000) -> float:
    """Microseconds per item and hop: one producer, three elements, one consumer; median of five."""
    graph = chained(Count(items), Pass(), Pass(), Pass(), Sink())
    return statistics.median(1e6 * busy_seconds(run(graph)) / items / 4 for _ in range(5))


def process_hop_us(items: int = 300_000) -> float:
    """Microseconds per small item from one process to another; median of three."""
    graph = chained(Count(items), Sink(worker=1))
    times = [busy_seconds(run(graph, mapping="processes", workers=2)) for _ in range(3)]
    return 1e6 * statistics.median(times) / items


def payload_gb_s(count: int = 2000, size: int = 2 << 20) -> float:
    """Gigabytes of payload per second through three elements on three processes; median of three."""
    graph = chained(Arrays(count, size), PassOnOne(), Sink(worker=2))
    times = [busy_seconds(run(graph, mapping="processes", workers=3)) for _ in range(3)]
    return count * size / statistics.median(times) / 1e9


def correlation(days: int, stations: int = 64) -> WorkflowGraph:
    """Return a correlation workload: condition, whiten and correlate days of noise."""
    prepare_process()
    layout = Layout(stations, ("Z",), ("ZZ",), 64)
    bands = (Band.of(LENGTH_S * RATE, LAG_S * RATE, float(RATE), BAND),)
    step = LENGTH_S * RATE
    return chained(
        Jobs(days, stations),
        Synthesize(layout),
        ConditionStation(Conditioning(RATE, BAND, 4, 40.0), Windowing(step, step)),
        NormalizeStation(),
        TransformStation(bands, step),
        CorrelateStrips(layout, bands, DAY_S // LENGTH_S, tuple(f"YY.S{k}" for k in range(stations))),
        Checksum(),
    )


def speed_up(seconds: float = 60.0) -> dict[str, Any]:
    """Return the speed-up of two workers on a workload of about so many seconds, and how busy they are.

    Each mapping runs between two sequential runs, whose mean it is compared with: the machine's speed may drift.
    """
    start = time.perf_counter()
    run(correlation(1))
    days = max(2, round(seconds / (time.perf_counter() - start)))
    result: dict[str, Any] = {"days": days, "sequential_s": 0.0}
    for mapping in ("threads", "processes", "mpi"):
        before = run(correlation(days))
        outcome = run(correlation(days), mapping=mapping, workers=2)
        after = run(correlation(days))
        assert outcome.results == before.results, f"{mapping} gives other bits"
        alone = (busy_seconds(before) + busy_seconds(after)) / 2
        result["sequential_s"] = alone
        result[mapping] = {
            "speed_up": alone / busy_seconds(outcome),
            "cpu_share": [w.cpu_seconds / busy_seconds(outcome) for w in outcome.workers],
        }
    return result
