"""Reads a station's channels for a chunk with ObsPy and cleans them into contiguous segments."""

from __future__ import annotations

import dataclasses
import fnmatch
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from xcorr.core import GenericPE, IterativePE
from xcorr.pes.fdsn import KIND, Service, ServiceError
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
from xcorr.pes.segments import NS, RateError, clean, exact_rate
from xcorr.pes.waveform_file import read_traces

NO_SAMPLES = "the source holds no samples of this channel in the chunk"
CONSTANT = "constant trace"
TOO_SHORT = "every segment is shorter than its tapered edges"
NOTHING_VALID = "nothing but gaps, zeros or non-finite samples"


class ChunkFiles:
    """The files of one station in one chunk, or the answers of a web service: each read, or asked for, at most once.

    ``slots`` are those of the station: the components of one kind of channel are asked for together.
    """

    def __init__(
        self, start_ns: int, end_ns: int, slots: Sequence[SlotRequest] = (), service: Service | None = None
    ) -> None:
        self.start_ns, self.end_ns = start_ns, end_ns
        self.slots, self.service = slots, service
        self._known: dict[str, tuple[list[Any], list[str]]] = {}

    def traces(self, path: str, candidate: Candidate) -> tuple[list[Any], list[str]]:
        """Return the traces of a file around the chunk, and what was wrong with it."""
        key = path + candidate.channel[:-1] if path.startswith(KIND) else path
        if key not in self._known:
            asked = path.startswith(KIND)
            self._known[key] = self._ask(candidate.channel[:-1]) if asked else read_file(path, *self._limits)
        return self._known[key]

    def named(self, candidate: Candidate) -> Candidate:
        """Return the candidate with the location that a web service gave it, the first there is, for a pattern."""
        if not any(c in candidate.location for c in "*?"):
            return candidate
        traces, _ = self.traces(candidate.files[0], candidate)
        codes = sorted({t.stats.location for t in traces if t.stats.channel == candidate.channel})
        fits = [code for code in codes if fnmatch.fnmatchcase(code, candidate.location)]
        return dataclasses.replace(candidate, location=fits[0]) if fits else candidate

    @property
    def _limits(self) -> tuple[int, int]:
        return self.start_ns - NS, self.end_ns + NS

    def _ask(self, kind: str) -> tuple[list[Any], list[str]]:
        assert self.service is not None, "a candidate of a web service needs the service"
        alike = [c for slot in self.slots for c in slot.candidates if c.channel[:-1] == kind]
        try:
            channels = ((c.network, c.station, c.location, c.channel) for c in alike)
            return self.service.waveforms(channels, *self._limits)
        except ServiceError as error:
            return [], [str(error)]

    def segments(self, candidate: Candidate, highest_hz: float) -> tuple[list[Segment], list[str], list[str]]:
        """Return the pieces of a channel, errors, and notes on pieces that are of no use."""
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
                data = trace.data.filled(np.nan) if np.ma.isMaskedArray(trace.data) else trace.data
                pieces.append(Segment(trace.stats.starttime.ns, rate, data))
        return pieces, list(dict.fromkeys(errors)), list(dict.fromkeys(notes))


def read_file(path: str, start_ns: int, end_ns: int) -> tuple[list[Any], list[str]]:
    """Return the ObsPy traces of a file with samples within a time, perhaps with more, and what was wrong with it."""
    name = os.path.basename(path)
    try:
        traces, wrong = read_traces(path, start_ns, end_ns)
    except Exception as error:  # ObsPy raises anything on garbage; the reason goes to the ledger
        return [], [f"{name}: {type(error).__name__}: {error}".splitlines()[0]]
    return traces, [f"{name}: {text}" for text in wrong]


def _matches(stats: Any, candidate: Candidate) -> bool:
    found = (stats.network.strip(), stats.station.strip(), stats.location.strip(), stats.channel.strip())
    return found == (candidate.network, candidate.station, candidate.location, candidate.channel)


def fingerprint(path: str) -> tuple[str, int, int]:
    """Return path, size and time of change (ns) of a file; of a web service only its name."""
    if path.startswith(KIND):
        return path, 0, 0
    status = os.stat(path)
    return path, status.st_size, status.st_mtime_ns


class ReadStation(IterativePE):
    """Reads every slot of a :class:`StationRequest`; writes a :class:`RawStation`, or a :class:`Tombstone`.

    A slot takes the first of its candidates that has a segment longer than its two edges of ``edge_s``, not
    constant, with a Nyquist frequency above ``highest_hz``. Unreadable files cost only what they hold: the slot's
    account gives the reason.
    """

    stateless = True
    on_error = "skip"

    def __init__(
        self,
        highest_hz: float,
        edge_s: float,
        max_gap_s: float = 0.0,
        zeros_are_gaps_s: float = 60.0,
        retries: int = 3,
        requests_per_s: float = 5.0,
    ) -> None:
        super().__init__()
        self.highest_hz = highest_hz
        self.edge_s = edge_s
        self.max_gap_s = max_gap_s
        self.zeros_are_gaps_s = zeros_are_gaps_s
        self.retries = retries
        self.requests_per_s = requests_per_s

    def _preprocess(self) -> None:
        self._services: dict[str, Service] = {}

    def _service(self, slots: Sequence[SlotRequest]) -> Service | None:
        """Return the web service that candidates name, if one does."""
        places = (path for slot in slots for c in slot.candidates for path in c.files if path.startswith(KIND))
        address = next(places, KIND).removeprefix(KIND)
        if address and address not in self._services:
            self._services[address] = Service(address, self.retries, self.requests_per_s)
        return self._services.get(address)

    def _process(self, request: StationRequest) -> RawStation | Tombstone:
        slots, chunk = request.slots, request.chunk
        files = ChunkFiles(chunk.data_start_ns, chunk.data_end_ns, slots, self._service(slots))
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

    def _read_slot(self, chunk: Chunk, wanted: SlotRequest, files: ChunkFiles) -> RawChannel:
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
        return next((m for m in misses if m.account.status == "failed"), misses[0])

    def _read_candidate(self, chunk: Chunk, wanted: SlotRequest, candidate: Candidate, files: ChunkFiles) -> RawChannel:
        candidate = files.named(candidate)
        account = SlotAccount(
            wanted.slot,
            chunk.index,
            "used",
            seed_id=candidate.seed_id,
            files=tuple(fingerprint(f) for f in candidate.files if f.startswith(KIND) or os.path.exists(f)),
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
    """The source of the workflow: writes the requests it was given, in order of chunks, one by one.

    ``requests`` has a length and can be gone through: a tuple, or what makes them as they are asked
    for. At most ``open_chunks`` chunks are under way at once.
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
