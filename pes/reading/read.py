"""Reads a station's channels for a chunk with ObsPy and cleans them into contiguous segments."""

from __future__ import annotations

import dataclasses
import fnmatch
import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from xcorr.core import GenericPE, IterativePE
from xcorr.pes.items import (
    HELPER,
    Candidate,
    Chunk,
    RawChannel,
    RawStation,
    Segment,
    SlotAccount,
    SlotRequest,
    StationRequest,
    Tombstone,
)
from xcorr.pes.reading.kept_items import RAW
from xcorr.pes.reading.segments import NS, RateError, clean, exact_rate
from xcorr.pes.reading.source import ReadError, Source, open_source

NO_SAMPLES = "the source holds no samples of this channel in the chunk"
CONSTANT = "constant trace"
TOO_SHORT = "every segment is shorter than its tapered edges"
NOTHING_VALID = "nothing but gaps, zeros or non-finite samples"


class ChunkWaveforms:
    """Reads the waveforms of one station in one chunk from a source. Each request is sent at most once.

    ``slots`` are the slots of the station. Their channels are read together if the source can read them together.
    """

    def __init__(self, start_ns: int, end_ns: int, slots: Sequence[SlotRequest], source: Source) -> None:
        self.start_ns, self.end_ns = start_ns - NS, end_ns + NS
        self.candidates = [c for slot in slots for c in slot.candidates]
        self.source = source
        self._known: dict[Hashable, tuple[list[Any], list[str]]] = {}

    def traces(self, reference: str, candidate: Candidate) -> tuple[list[Any], list[str]]:
        """Return the traces at a reference around the chunk, and what was wrong."""
        key = self.source.request_of(reference, candidate)
        if key not in self._known:
            here = [c for c in self.candidates if reference in c.files]
            alike = [c for c in here if self.source.request_of(reference, c) == key]
            self._known[key] = self._read(reference, alike)
        return self._known[key]

    def _read(self, reference: str, channels: Sequence[Candidate]) -> tuple[list[Any], list[str]]:
        try:
            return self.source.read(reference, channels, self.start_ns, self.end_ns)
        except ReadError as error:
            return [], [str(error)]
        except Exception as error:  # ObsPy raises anything on garbage; the reason goes to the ledger
            return [], [f"{os.path.basename(reference)}: {type(error).__name__}: {error}".splitlines()[0]]

    def named(self, candidate: Candidate) -> Candidate:
        """Return the candidate. A location pattern is replaced by the first matching location in the data."""
        if not any(c in candidate.location for c in "*?"):
            return candidate
        traces, _ = self.traces(candidate.files[0], candidate)
        codes = sorted({t.stats.location for t in traces if t.stats.channel == candidate.channel})
        fits = [code for code in codes if fnmatch.fnmatchcase(code, candidate.location)]
        return dataclasses.replace(candidate, location=fits[0]) if fits else candidate

    def segments(self, candidate: Candidate, highest_hz: float) -> tuple[list[Segment], list[str], list[str]]:
        """Return the raw segments of a channel, errors, and notes about segments that cannot be used."""
        pieces: list[Segment] = []
        errors: list[str] = []
        notes: list[str] = []
        for path in candidate.files:
            traces, wrong = self.traces(path, candidate)
            errors += wrong
            for trace in traces:
                if not (_matches(trace.stats, candidate) and len(trace.data)):
                    continue
                try:
                    rate = exact_rate(float(trace.stats.sampling_rate))
                except RateError as error:
                    errors.append(f"{os.path.basename(path)}: {error}")
                    continue
                if float(rate) / 2 <= highest_hz:
                    notes.append(f"its rate of {float(rate):g} Hz is too low for frequencies up to {highest_hz:g} Hz")
                    continue
                # NaN, because samples that are not finite become gaps
                data = trace.data.filled(np.nan) if np.ma.isMaskedArray(trace.data) else trace.data
                pieces.append(Segment(trace.stats.starttime.ns, rate, data))
        return pieces, list(dict.fromkeys(errors)), list(dict.fromkeys(notes))


def _matches(stats: Any, candidate: Candidate) -> bool:
    found = (stats.network.strip(), stats.station.strip(), stats.location.strip(), stats.channel.strip())
    return found == (candidate.network, candidate.station, candidate.location, candidate.channel)


class ReadStation(IterativePE):
    """Reads every slot of a :class:`StationRequest`; writes a :class:`RawStation`, or a :class:`Tombstone`.

    ``source`` is the address of the source. ``options`` holds the options of sources, by kind.

    A slot takes its first candidate with a usable segment: longer than two edges of ``edge_s``, not constant, and with
    a Nyquist frequency above ``highest_hz``. If a file cannot be read, only its own data are lost. The account of the
    slot then gives the reason.
    """

    stateless = True
    on_error = "skip"
    products: ClassVar = {"output": RAW}

    def __init__(
        self,
        source: str,
        highest_hz: float,
        edge_s: float,
        max_gap_s: float = 0.0,
        zeros_are_gaps_s: float = 60.0,
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.source = source
        self.highest_hz = highest_hz
        self.edge_s = edge_s
        self.max_gap_s = max_gap_s
        self.zeros_are_gaps_s = zeros_are_gaps_s
        self.options = options

    def _preprocess(self) -> None:
        self._source = open_source(self.source, self.options)

    def _process(self, request: StationRequest) -> RawStation | Tombstone:
        slots, chunk = request.slots, request.chunk
        files = ChunkWaveforms(chunk.data_start_ns, chunk.data_end_ns, slots, self._source)
        channels = tuple(
            dataclasses.replace(self._read_slot(request.chunk, slot, files), component=slot.component)
            for slot in request.slots
        )
        if any(c.segments for c in channels):
            return RawStation(request.chunk, request.station, request.strips, channels)
        accounts = tuple(c.account for c in channels if c.account.slot != HELPER)
        return Tombstone(request.chunk, request.station, request.strips, accounts)

    def skipped(self, inputs: dict[str, Any], error: Exception) -> dict[str, Any]:
        """Send a tombstone with the error as reason."""
        request: StationRequest = inputs["input"]
        reason = f"reading failed: {type(error).__name__}: {error}"
        accounts = tuple(
            SlotAccount(s.slot, request.chunk.index, "failed", reason) for s in request.slots if s.slot != HELPER
        )
        return {"output": Tombstone(request.chunk, request.station, request.strips, accounts)}

    def _read_slot(self, chunk: Chunk, wanted: SlotRequest, files: ChunkWaveforms) -> RawChannel:
        if not wanted.candidates:
            return RawChannel(SlotAccount(wanted.slot, chunk.index, "absent", "no file for this slot and chunk"))
        misses: list[RawChannel] = []
        for candidate in wanted.candidates:
            channel = self._read_candidate(chunk, wanted, candidate, files)
            if channel.segments:
                errors = [f"{m.account.seed_id}: {m.account.reason}" for m in misses if m.account.status == "failed"]
                reason = "; ".join(filter(None, [channel.account.reason, *errors]))
                return dataclasses.replace(channel, account=dataclasses.replace(channel.account, reason=reason))
            misses.append(channel)
        # a failure comes first, because the next run tries failures again
        return next((m for m in misses if m.account.status == "failed"), misses[0])

    def _read_candidate(
        self, chunk: Chunk, wanted: SlotRequest, candidate: Candidate, files: ChunkWaveforms
    ) -> RawChannel:
        candidate = files.named(candidate)
        account = SlotAccount(
            wanted.slot,
            chunk.index,
            "used",
            seed_id=candidate.seed_id,
            files=tuple(filter(None, map(self._source.fingerprint, candidate.files))),
        )
        pieces, errors, notes = files.segments(candidate, self.highest_hz)
        found = clean(pieces, chunk.data_start_ns, chunk.data_end_ns, self.max_gap_s, self.zeros_are_gaps_s)
        account = dataclasses.replace(account, gaps=found.gaps, gap_s=found.gap_s, zeros_s=found.zeros_s)
        usable = tuple(s for s in found.segments if self._is_usable(s))
        if usable:
            samples = sum(len(s.data) for s in usable)
            account = dataclasses.replace(account, samples=samples, reason="; ".join(errors))
            return RawChannel(account, usable, found.non_finite_ns)
        if errors:
            status, reason = "failed", "; ".join(errors)
        elif found.segments:
            constant = all(np.ptp(s.data) == 0 for s in found.segments)
            status, reason = "unusable", CONSTANT if constant else TOO_SHORT
        elif notes:
            status, reason = "unusable", "; ".join(notes)
        else:
            status, reason = ("unusable", NOTHING_VALID) if pieces else ("absent", NO_SAMPLES)
        return RawChannel(dataclasses.replace(account, status=status, reason=reason))

    def _is_usable(self, segment: Segment) -> bool:
        longer = len(segment.data) - 1 >= 2 * self.edge_s * segment.rate_hz
        return longer and bool(np.ptp(segment.data) > 0)


class StationSource(GenericPE):
    """The source of the workflow: writes its requests one by one, in the order of chunks.

    ``requests`` is a collection with a length, such as a tuple. It may make each request only when it is asked for.
    At most ``open_chunks`` chunks are under way at once.
    """

    def __init__(self, requests: Any, open_chunks: int = 2) -> None:
        super().__init__()
        self._add_output("output")
        self.requests = requests
        self.open_groups = open_chunks

    def process(self, inputs: dict[str, Any]) -> None:
        """Write every request."""
        total = len(self.requests)
        for k, request in enumerate(self.requests):
            self.items_left = total - k
            self.write("output", request)

    def group_of(self, item: StationRequest) -> int:
        """Return the number of the chunk."""
        return item.chunk.index
