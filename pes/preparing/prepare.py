"""The elements between reading and correlating: condition, normalise, whiten and transform."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from xcorr.core import IterativePE
from xcorr.pes.items import (
    Bool,
    ConditionedStation,
    Float32,
    RawChannel,
    RawStation,
    Segment,
    SlotAccount,
    Tombstone,
)
from xcorr.pes.parameters import require_numbers, require_one_of
from xcorr.pes.preparing import windows
from xcorr.pes.preparing.condition import Conditioning, condition
from xcorr.pes.preparing.kept_items import CONDITIONED
from xcorr.pes.preparing.normalize import Normalization, normalize
from xcorr.pes.preparing.orient import Trace, spans_of, to_components
from xcorr.pes.preparing.windows import USED, Windowing, by_reason
from xcorr.pes.process_setup import prepare_process
from xcorr.pes.reading.metadata import UNITS, InverseResponse, MetadataError, inverse_response, read_metadata, units_of
from xcorr.pes.reading.segments import cut_at, sample_ns
from xcorr.pes.reading.used_metadata import Digests
from xcorr.pes.reading.waveform import NS

TOO_SHORT = "no piece is longer than its two tapered edges of {:g} s (condition.edge_s)"


class StationStep(IterativePE):
    """Base: passes tombstones on, and turns an unexpected error into a tombstone with the error as reason."""

    stateless = True
    on_error = "skip"

    def _process(self, item: Any) -> Any:
        return item if isinstance(item, Tombstone) else self.step(item)

    def step(self, item: Any) -> Any:
        """Work on one station; for overriding."""
        return item

    def skipped(self, inputs: dict[str, Any], error: Exception) -> dict[str, Any]:
        """Send a tombstone with the error as reason."""
        item = inputs["input"]
        reason = f"{type(self).__name__} failed: {type(error).__name__}: {error}"
        accounts = item.accounts
        failed = tuple(
            dataclasses.replace(a, status="failed", reason=reason) if a.status == "used" else a for a in accounts
        )
        return {"output": Tombstone(item.chunk, item.station, item.strips, failed)}


class ConditionStation(StationStep):
    """Conditions a :class:`RawStation` and judges its windows: writes a :class:`ConditionedStation`.

    ``response`` is ``"none"`` or the unit of ground motion. Responses and orientations come from ``metadata``
    (StationXML). Channels that do not point up, north or east are rotated. With ``shared``, the slots share weights, so
    a window rejected on one slot is rejected on all. ``events`` lists ranges of time (ns) whose windows are rejected.

    >>> from xcorr.pes.preparing.condition import Conditioning
    >>> from xcorr.pes.preparing.windows import Windowing
    >>> ConditionStation(Conditioning(4.0, (0.05, 1.0), 4, 40.0), Windowing(14400, 14400)).response
    'none'
    """

    products: ClassVar = {"output": CONDITIONED}

    def __init__(
        self,
        conditioning: Conditioning,
        windowing: Windowing,
        response: str = "none",
        metadata: str | None = None,
        water_level_db: float = 60.0,
        shared: bool = False,
        events: Sequence[tuple[int, int]] = (),
    ) -> None:
        super().__init__()
        self.conditioning = conditioning
        self.windowing = windowing
        self.response = response
        self.metadata = metadata
        self.water_level_db = water_level_db
        self.shared = shared
        self.events = events
        require_one_of(self, "response", ("none", *UNITS))
        require_numbers(self, "water_level_db")

    def _preprocess(self) -> None:
        prepare_process()
        self._responses: dict[tuple[int, float], InverseResponse] = {}
        if self.metadata is None and self.response != "none":
            raise MetadataError("removing the response needs station metadata")
        self._stations = read_metadata(self.metadata)
        self._digests = Digests(self._stations, self.response, self.conditioning.band_hz)

    def step(self, item: RawStation) -> ConditionedStation | Tombstone:
        """Condition every channel that has segments, judge its windows, and rotate channels to the components."""
        traces = []
        for channel in item.channels:
            account, data, mask = self._channel(item, channel)
            verdict = self._verdict(item, channel, data, mask)
            seed_id, start = account.seed_id, item.chunk.data_start_ns
            if data is not None:
                account = self._with_metadata(item, channel, account)
            times = self._digests.changes(seed_id, channel.says_direction)
            spans = spans_of(seed_id, channel.component, channel.segments, self._stations, times, start)
            traces.append(Trace(channel.component, account, data, mask, verdict, spans))
        traces = to_components(traces, item.chunk.start_ns, self.conditioning.exact_rate_hz)
        accounts = [t.account for t in traces]
        used = [k for k, t in enumerate(traces) if t.account.status == "used"]
        if not used:
            return Tombstone(item.chunk, item.station, item.strips, tuple(accounts))
        judged = np.array([traces[k].verdict for k in used])
        if self.shared:
            judged[:] = np.where(judged == USED, judged.max(axis=0), judged)
        for row, k in enumerate(used):
            accounts[k] = dataclasses.replace(accounts[k], windows=by_reason(judged[row]))
        return ConditionedStation(
            item.chunk,
            item.station,
            item.strips,
            tuple(accounts),
            self.conditioning.rate_hz,
            np.array([traces[k].data for k in used]),
            np.array([traces[k].mask for k in used]),
            judged,
        )

    def _channel(self, item: RawStation, channel: RawChannel) -> tuple[SlotAccount, Float32 | None, Bool | None]:
        account, rate = channel.account, self.conditioning.exact_rate_hz
        if not channel.segments:
            return account, None, None
        chunk, errors = item.chunk, []
        samples = int((chunk.end_ns - chunk.start_ns) * rate / NS)
        data, mask = np.zeros(samples, np.float32), np.zeros(samples, bool)
        for segment in self._by_epoch(channel):
            try:
                inverse = self._inverse_response(account.seed_id, segment)
            except MetadataError as error:  # an epoch without response costs its own samples alone
                errors.append(str(error))
                continue
            condition([segment], chunk.start_ns, samples, self.conditioning, inverse, (data, mask))
        if errors:
            reason = "; ".join(filter(None, [account.reason, *dict.fromkeys(errors)]))
            account = dataclasses.replace(account, status="used" if mask.any() else "failed", reason=reason)
        elif not mask.any():
            account = dataclasses.replace(account, status="unusable", reason=TOO_SHORT.format(self.conditioning.edge_s))
        return (account, data, mask) if mask.any() else (account, None, None)

    def _verdict(
        self, item: RawStation, channel: RawChannel, data: Float32 | None, mask: Bool | None
    ) -> np.ndarray | None:
        if data is None or mask is None:
            return None
        rate, start = self.conditioning.exact_rate_hz, item.chunk.start_ns

        def positions(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
            return [(math.floor((a - start) * rate / NS), math.ceil((b - start) * rate / NS)) for a, b in ranges]

        clipped = []
        if self.windowing.clipped > 0:
            clipped = [
                (sample_ns(s.start_ns, s.rate_hz, a), sample_ns(s.start_ns, s.rate_hz, b))
                for s in channel.segments
                for a, b in windows.flat_runs(s.data)
            ]
        ranges = positions(channel.non_finite_ns), positions(clipped), positions(self.events)
        return windows.judge(data, mask, self.windowing, self.conditioning.rate_hz, *ranges)

    def _by_epoch(self, channel: RawChannel) -> list[Segment]:
        """Return the segments cut where the channel was turned or exchanged, or where its response changes."""
        cuts = self._digests.changes(channel.account.seed_id, channel.says_direction)
        if self.response != "none":
            cuts = self._stations.epoch_starts(channel.account.seed_id)
        return [piece for segment in channel.segments for piece in cut_at(segment, cuts)]

    def _with_metadata(self, item: RawStation, channel: RawChannel, account: SlotAccount) -> SlotAccount:
        """Return the account with a digest of the metadata that are used, and a remark where there are none."""
        start, stop = item.chunk.start_ns, item.chunk.end_ns
        digest = self._digests.of(account.seed_id, start, stop, channel.says_direction)
        times = [s.start_ns for s in self._by_epoch(channel)]
        note = account.note
        if any(self._stations.lacks(account.seed_id, t) for t in times):
            text = "the station metadata have no epoch of it at some of its times; its name gives its direction there"
            note = "; ".join(filter(None, [note, text]))
        return dataclasses.replace(account, metadata=f"{account.metadata} {digest}".strip(), note=note)

    def _inverse_response(self, seed_id: str, segment: Segment) -> InverseResponse | None:
        """Return the inverse response, evaluated once per channel epoch and rate."""
        if self.response == "none":
            return None
        rate = float(segment.rate_hz)
        response = self._stations.response(seed_id, segment.start_ns)
        key = id(response), rate  # ids stay unique, because the metadata keep their responses
        if key not in self._responses:
            highest = min(rate, self.conditioning.rate_hz) / 2
            self._responses[key] = inverse_response(
                response, rate, highest, units_of(seed_id, self.response), self.water_level_db
            )
        return self._responses[key]


class NormalizeStation(StationStep):
    """Applies temporal normalisation to a :class:`ConditionedStation`.

    >>> from xcorr.pes.preparing.normalize import Normalization
    >>> NormalizeStation(Normalization("clip", clip_n=2.0)).how.clip_n
    2.0
    """

    products: ClassVar = {"output": CONDITIONED}

    def __init__(self, how: Normalization | None = None) -> None:
        super().__init__()
        self.how = how

    def step(self, item: ConditionedStation) -> ConditionedStation:
        """Normalise all slots of the station."""
        data = normalize(item.data, item.mask, self.how or Normalization(), item.rate_hz)
        return dataclasses.replace(item, data=data)
