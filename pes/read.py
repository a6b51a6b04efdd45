"""Reads a station's channels for a chunk with ObsPy and cleans them into contiguous segments."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np

from xcorr.core import GenericPE, IterativePE
from xcorr.pes.items import (
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

NO_SAMPLES = "the files hold no samples of this channel in the chunk"
NOTHING_VALID = "nothing but gaps, zeros or non-finite samples"


def read_segments(candidate: Candidate, start_ns: int, end_ns: int) -> tuple[list[Segment], list[str]]:
    """Return the pieces of a channel in ``[start_ns, end_ns)`` and the errors of files that could not be read.

    Raises RateError if a sampling rate is not usable.
    """
    from obspy import UTCDateTime, read

    pieces: list[Segment] = []
    errors: list[str] = []
    for path in candidate.files:
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                stream = read(
                    path,
                    starttime=UTCDateTime(ns=start_ns - NS),
                    endtime=UTCDateTime(ns=end_ns + NS),
                )
        except Exception as error:  # ObsPy raises anything on garbage; the reason goes to the ledger
            errors.append(f"{os.path.basename(path)}: {type(error).__name__}: {error}".splitlines()[0])
            continue
        errors += [f"{os.path.basename(path)}: {w.message}" for w in caught if _is_about_data(w)]
        for trace in stream:
            if _matches(trace.stats, candidate) and len(trace.data):
                rate = exact_rate(float(trace.stats.sampling_rate))
                data = trace.data.filled(np.nan) if np.ma.isMaskedArray(trace.data) else trace.data
                pieces.append(Segment(trace.stats.starttime.ns, rate, data))
    return pieces, errors


def _is_about_data(warning: warnings.WarningMessage) -> bool:
    return not issubclass(warning.category, DeprecationWarning | PendingDeprecationWarning)


def _matches(stats: Any, candidate: Candidate) -> bool:
    found = (stats.network.strip(), stats.station.strip(), stats.location.strip(), stats.channel.strip())
    return found == (candidate.network, candidate.station, candidate.location, candidate.channel)


def _fingerprint(path: str) -> tuple[str, int, int]:
    status = os.stat(path)
    return path, status.st_size, status.st_mtime_ns


class ReadStation(IterativePE):
    """Reads every slot of a :class:`StationRequest`; writes a :class:`RawStation`, or a :class:`Tombstone`.

    A slot takes the first of its candidates that has samples in the chunk and a Nyquist frequency above
    ``highest_hz``. Unreadable files cost only what they hold: the slot's account gives the reason.
    """

    on_error = "skip"

    def __init__(self, highest_hz: float, max_gap_s: float = 0.0, zeros_are_gaps_s: float = 60.0) -> None:
        super().__init__()
        self.highest_hz = highest_hz
        self.max_gap_s = max_gap_s
        self.zeros_are_gaps_s = zeros_are_gaps_s

    def _process(self, request: StationRequest) -> RawStation | Tombstone:
        channels = tuple(self._read_slot(request.chunk, slot) for slot in request.slots)
        if any(c.segments for c in channels):
            return RawStation(request.chunk, request.station, request.strips, channels)
        accounts = tuple(c.account for c in channels)
        return Tombstone(request.chunk, request.station, request.strips, accounts)

    def skipped(self, inputs: dict[str, Any], error: Exception) -> dict[str, Any]:
        """Send a tombstone with the error as reason."""
        request: StationRequest = inputs["input"]
        reason = f"reading failed: {type(error).__name__}: {error}"
        accounts = tuple(SlotAccount(s.slot, request.chunk.index, "failed", reason) for s in request.slots)
        return {"output": Tombstone(request.chunk, request.station, request.strips, accounts)}

    def _read_slot(self, chunk: Chunk, wanted: SlotRequest) -> RawChannel:
        if not wanted.candidates:
            return RawChannel(SlotAccount(wanted.slot, chunk.index, "absent", "no file for this slot and chunk"))
        first_miss: RawChannel | None = None
        for candidate in wanted.candidates:
            channel = self._read_candidate(chunk, wanted, candidate)
            if channel.segments:
                return channel
            if first_miss is None or channel.account.status == "failed":
                first_miss = channel
        assert first_miss is not None
        return first_miss

    def _read_candidate(self, chunk: Chunk, wanted: SlotRequest, candidate: Candidate) -> RawChannel:
        files = tuple(_fingerprint(f) for f in candidate.files if os.path.exists(f))

        def miss(status: str, reason: str, **counts: Any) -> RawChannel:
            account = SlotAccount(wanted.slot, chunk.index, status, reason, candidate.seed_id, files, **counts)
            return RawChannel(account)

        try:
            pieces, errors = read_segments(candidate, chunk.data_start_ns, chunk.data_end_ns)
        except RateError as error:
            return miss("failed", str(error))
        slow = [p for p in pieces if float(p.rate_hz) / 2 <= self.highest_hz]
        if slow:
            return miss(
                "unusable",
                f"its rate of {float(slow[0].rate_hz):g} Hz is too low for frequencies up to {self.highest_hz:g} Hz",
            )
        found = clean(pieces, chunk.data_start_ns, chunk.data_end_ns, self.max_gap_s, self.zeros_are_gaps_s)
        if not found.segments:
            if errors:
                return miss("failed", "; ".join(errors))
            if pieces:
                return miss("unusable", NOTHING_VALID, gap_s=found.gap_s, zeros_s=found.zeros_s)
            return miss("absent", NO_SAMPLES)
        account = SlotAccount(
            wanted.slot,
            chunk.index,
            "used",
            "; ".join(errors),
            candidate.seed_id,
            files,
            samples=sum(len(s.data) for s in found.segments),
            gaps=found.gaps,
            gap_s=found.gap_s,
            zeros_s=found.zeros_s,
        )
        return RawChannel(account, found.segments, found.non_finite_ns)


class StationSource(GenericPE):
    """The source of the workflow: writes the requests it was given, in order of chunks.

    At most ``open_chunks`` chunks are under way at once.
    """

    def __init__(self, requests: Any, open_chunks: int = 2) -> None:
        super().__init__()
        self._add_output("output")
        self.requests = requests
        self.open_groups = open_chunks

    def process(self, inputs: dict[str, Any]) -> None:
        """Write every request."""
        for request in self.requests:
            self.write("output", request)

    def group_of(self, item: StationRequest) -> int:
        """Return the number of the chunk."""
        return item.chunk.index
