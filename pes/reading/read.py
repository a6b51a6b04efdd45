"""Reads a station's channels for a chunk and cleans them into contiguous segments."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

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
from xcorr.pes.parameters import require_numbers, require_one_of
from xcorr.pes.reading.clocks import to_segments
from xcorr.pes.reading.files import in_words
from xcorr.pes.reading.kept_items import RAW
from xcorr.pes.reading.preferred import most_complete_first
from xcorr.pes.reading.segments import Cleaned, clean, end_ns, varies
from xcorr.pes.reading.source import ReadError, Source, open_source
from xcorr.pes.reading.used_metadata import place_word
from xcorr.pes.reading.waveform import DAY_NS, NS, Answer, Waveform
from xcorr.pes.reading.words import brief, drifted, short

NO_FILE = "no file for this slot and chunk"
NO_SAMPLES = "the source holds no samples of this channel in the chunk"
CONSTANT = "constant trace"
TOO_SHORT = "the longest piece without a gap has {:.4g} s; more than {:.4g} s are tapered (condition.edge_s)"
TOO_LOW = "its rate of {:.6g} Hz is too low for frequencies up to {:g} Hz; change condition.band_hz or data.channels"
DISPUTED = "overlapping data disagree over {:.4g} s, so that neither is used there"
NOTHING_VALID = "nothing but {}"


class ChunkWaveforms:
    """Reads the waveforms of one station in one chunk from a source. Each request is sent at most once.

    ``slots`` are the slots of the station. Their channels are read together if the source can read them together.
    """

    def __init__(
        self, start_ns: int, end_ns: int, slots: Sequence[SlotRequest], source: Source, drift: str = "resample"
    ) -> None:
        self.start_ns, self.end_ns = start_ns - NS, end_ns + NS
        self.candidates = [c for slot in slots for c in slot.candidates]
        self.source, self.drift = source, drift
        self._known: dict[Hashable, Answer] = {}
        source.prefetch(list(dict.fromkeys(path for slot in slots for c in slot.candidates[:1] for path in c.files)))

    def waveforms(self, reference: str, candidate: Candidate) -> Answer:
        """Return the waveforms at a reference around the chunk, and what was wrong."""
        key = self.source.request_of(reference, candidate)
        if key not in self._known:
            here = [c for c in self.candidates if reference in c.files]
            alike = [c for c in here if self.source.request_of(reference, c) == key]
            self._known[key] = self._read(reference, alike)
        return self._known[key]

    def _read(self, reference: str, channels: Sequence[Candidate]) -> Answer:
        try:
            return self.source.read(reference, channels, self.start_ns, self.end_ns)
        except ReadError as error:
            return Answer([], [str(error)], [])
        except Exception as error:  # ObsPy raises anything on garbage; the reason goes to the ledger
            return Answer([], [f"{short(reference)}: {in_words(error)}"], [])

    def named(self, candidate: Candidate) -> Candidate:
        """Return the candidate. A location pattern is replaced by the first matching location in the data."""
        if not any(c in candidate.location for c in "*?"):
            return candidate
        found = self.waveforms(candidate.files[0], candidate).waveforms
        codes = sorted({w.location for w in found if w.channel == candidate.channel})
        fits = [code for code in codes if fnmatch.fnmatchcase(code, candidate.location)]
        return dataclasses.replace(candidate, location=fits[0]) if fits else candidate

    def segments(self, candidate: Candidate, highest_hz: float) -> Found:
        """Return the raw segments of a channel with times that are true, and what is to be said of them."""
        usable: list[Waveform] = []
        errors: list[str] = []
        too_low: list[str] = []
        notes: list[str] = []
        for path in candidate.files:
            answer = self.waveforms(path, candidate)
            own = [w for w in answer.waveforms if w.seed_id == candidate.seed_id]
            if not own or any(w.start_ns < self.end_ns - NS and w.last_ns >= self.start_ns + NS for w in own):
                errors += answer.wrong  # else they are told of the times at which the file has data
            notes += answer.notes
            for waveform in own:
                if not waveform.samples:
                    continue
                if waveform.impossible and self.start_ns > DAY_NS:  # a chunk of 1970 is one that was asked for
                    errors.append(f"{short(path)}: {waveform.impossible}")
                elif waveform.rate_hz / 2 <= highest_hz:
                    too_low.append(TOO_LOW.format(waveform.rate_hz, highest_hz))
                else:
                    usable.append(waveform)
        segments, drifts = to_segments(usable)
        if drifts and self.drift == "refuse":
            segments, errors = [], [*errors, *map(drifted, drifts), 'data.drift = "refuse"']
        else:
            notes += map(drifted, drifts)
        return Found(segments, _once(errors), _once(too_low), _once(notes))


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """The segments of a channel; what could not be read; why waveforms cannot be used; and remarks."""

    segments: list[Segment]
    errors: list[str]
    too_low: list[str]
    notes: list[str]


def _once(texts: list[str]) -> list[str]:
    return list(dict.fromkeys(texts))


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
        drift: str = "resample",
        prefer: str = "order",
    ) -> None:
        super().__init__()
        self.source = source
        self.highest_hz = highest_hz
        self.edge_s = edge_s
        self.max_gap_s = max_gap_s
        self.zeros_are_gaps_s = zeros_are_gaps_s
        self.options = options
        self.drift = drift
        self.prefer = prefer
        require_one_of(self, "drift", ("resample", "refuse"))
        require_one_of(self, "prefer", ("order", "complete"))
        require_numbers(self, "highest_hz", "edge_s", "max_gap_s", "zeros_are_gaps_s")

    def _preprocess(self) -> None:
        self._source = open_source(self.source, self.options)

    def _process(self, request: StationRequest) -> RawStation | Tombstone:
        slots, chunk = request.slots, request.chunk
        files = ChunkWaveforms(chunk.data_start_ns, chunk.data_end_ns, slots, self._source, self.drift)
        if self.prefer == "complete":
            slots = most_complete_first(slots, lambda slot, c: self._read_candidate(chunk, slot, c, files))
        channels = tuple(
            dataclasses.replace(self._read_slot(chunk, slot, files), component=slot.component) for slot in slots
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
            status, reason = ("unusable", wanted.refused) if wanted.refused else ("absent", NO_FILE)
            place = place_word(wanted.within, chunk)
            return RawChannel(SlotAccount(wanted.slot, chunk.index, status, reason, metadata=place))
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
            metadata=place_word(wanted.within, chunk),
        )
        raw = files.segments(candidate, self.highest_hz)
        start, stop = max(chunk.data_start_ns, wanted.within[0]), min(chunk.data_end_ns, wanted.within[1])
        found = clean(raw.segments, start, max(start, stop), self.max_gap_s, self.zeros_are_gaps_s)
        account = dataclasses.replace(account, gaps=found.gaps, gap_s=found.gap_s, zeros_s=found.zeros_s)
        usable = tuple(s for s in found.segments if self._is_usable(s))
        if usable:
            samples = sum(len(s.data) for s in usable)
            note = brief([*raw.notes, *([DISPUTED.format(found.disputed_s)] if found.disputed_s else [])])
            account = dataclasses.replace(account, samples=samples, reason=brief(raw.errors), note=note)
            return RawChannel(account, usable, found.non_finite_ns)
        start, stop = chunk.data_start_ns, chunk.data_end_ns
        inside = [s for s in raw.segments if s.start_ns < stop and end_ns(s) > start]
        if raw.errors:
            status, reason = "failed", brief(raw.errors)
        else:
            status, reason = self._why_unusable(raw, found, inside, start)
        note = brief(raw.notes) if inside else ""
        return RawChannel(dataclasses.replace(account, status=status, reason=reason, note=note))

    def _why_unusable(self, raw: Found, found: Cleaned, inside: Sequence[Segment], start: int) -> tuple[str, str]:
        """Return the status and the reason of a channel without an error, and without a usable segment."""
        if raw.too_low:
            return "unusable", brief(raw.too_low)
        if all(s.start_ns < start and end_ns(s) - start <= 2 * self.edge_s * NS for s in inside):
            return "absent", NO_SAMPLES  # but perhaps the end of the last record of the day before
        if found.disputed_s:
            return "unusable", DISPUTED.format(found.disputed_s)
        if not found.segments:
            zeros = f"zeros for {found.zeros_s:.4g} s, which are gaps (condition.zeros_are_gaps_s)"
            kinds = [zeros] * bool(found.zeros_s) + ["samples that are not finite"] * bool(found.non_finite_ns)
            return "unusable", NOTHING_VALID.format(" and ".join(kinds) or "gaps")
        if not any(varies(s.data) for s in found.segments):
            return "unusable", CONSTANT
        longest = max(len(s.data) / float(s.rate_hz) for s in found.segments)
        return "unusable", TOO_SHORT.format(longest, 2 * self.edge_s)

    def _is_usable(self, segment: Segment) -> bool:
        longer = len(segment.data) - 1 >= 2 * self.edge_s * segment.rate_hz
        return longer and varies(segment.data)


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
