"""The elements between reading and correlating: condition, normalise, whiten and transform."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from xcorr.core import IterativePE
from xcorr.pes import normalize, whiten, windows
from xcorr.pes.condition import Conditioning, InverseResponse, condition
from xcorr.pes.items import (
    USED,
    WINDOW_REASONS,
    ConditionedStation,
    RawChannel,
    RawStation,
    Segment,
    SlotAccount,
    SpectraBlock,
    Tombstone,
)
from xcorr.pes.metadata import MetadataError, epoch_starts, find_response, inverse_response, read_inventory
from xcorr.pes.process import prepare_process
from xcorr.pes.segments import NS, cut_at


@dataclasses.dataclass(frozen=True, slots=True)
class Windowing:
    """Windows in samples of the target rate, and the limits of the quality control."""

    length: int
    step: int
    min_coverage: float
    max_over_std: float


class _StationStep(IterativePE):
    """Passes tombstones on; turns any unexpected error into one, with its reason."""

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
        accounts = tuple(c.account for c in item.channels) if isinstance(item, RawStation) else item.accounts
        failed = tuple(
            dataclasses.replace(a, status="failed", reason=reason) if a.status == "used" else a for a in accounts
        )
        return {"output": Tombstone(item.chunk, item.station, item.strips, failed)}


class ConditionStation(_StationStep):
    """Conditions a :class:`RawStation` and judges its windows: writes a :class:`ConditionedStation`.

    ``response`` is ``"none"`` or the unit of ground motion; responses come from ``metadata`` (StationXML).
    With ``shared``, a window rejected on one slot is rejected on all (they share weights).
    """

    def __init__(
        self,
        conditioning: Conditioning,
        windowing: Windowing,
        response: str = "none",
        metadata: str | None = None,
        water_level_db: float = 60.0,
        shared: bool = False,
    ) -> None:
        super().__init__()
        self.conditioning = conditioning
        self.windowing = windowing
        self.response = response
        self.metadata = metadata
        self.water_level_db = water_level_db
        self.shared = shared

    def _preprocess(self) -> None:
        prepare_process()
        self._responses: dict[tuple[int, float], InverseResponse] = {}
        self._inventory = None
        if self.response != "none":
            assert self.metadata is not None, "removing the response needs station metadata"
            self._inventory = read_inventory(self.metadata)

    def step(self, item: RawStation) -> ConditionedStation | Tombstone:
        """Condition every channel that has segments."""
        accounts, traces, masks, verdicts = [], [], [], []
        for channel in item.channels:
            account, trace, mask, verdict = self._channel(item, channel)
            accounts.append(account)
            if trace is not None:
                traces.append(trace)
                masks.append(mask)
                verdicts.append(verdict)
        used = [i for i, a in enumerate(accounts) if a.status == "used"]
        if not used:
            return Tombstone(item.chunk, item.station, item.strips, tuple(accounts))
        judged = np.array(verdicts)
        if self.shared:
            judged[:] = np.where(judged == USED, judged.max(axis=0), judged)
        for row, i in enumerate(used):
            counts = tuple(np.bincount(judged[row], minlength=len(WINDOW_REASONS)).tolist())
            accounts[i] = dataclasses.replace(accounts[i], windows=counts)
        return ConditionedStation(
            item.chunk,
            item.station,
            item.strips,
            tuple(accounts),
            self.conditioning.rate_hz,
            np.array(traces),
            np.array(masks),
            judged,
        )

    def _channel(self, item: RawStation, channel: RawChannel) -> tuple[SlotAccount, Any, Any, Any]:
        account, rate = channel.account, self.conditioning.exact_rate_hz
        if not channel.segments:
            return account, None, None, None
        chunk, errors = item.chunk, []
        samples = int((chunk.end_ns - chunk.start_ns) * rate / NS)
        data, mask = np.zeros(samples, np.float32), np.zeros(samples, bool)
        for segment in self._by_epoch(account.seed_id, channel.segments):
            try:
                inverse = self._inverse_response(account.seed_id, segment)
            except MetadataError as error:
                errors.append(str(error))
                continue
            condition([segment], chunk.start_ns, samples, self.conditioning, inverse, (data, mask))
        if errors:
            reason = "; ".join(filter(None, [account.reason, *dict.fromkeys(errors)]))
            account = dataclasses.replace(account, status="used" if mask.any() else "failed", reason=reason)
            if not mask.any():
                return account, None, None, None
        if not mask.any():
            reason = "every segment is shorter than its tapered edges"
            return dataclasses.replace(account, status="unusable", reason=reason), None, None, None
        w = self.windowing
        non_finite = [
            (math.floor((a - chunk.start_ns) * rate / NS), math.ceil((b - chunk.start_ns) * rate / NS))
            for a, b in channel.non_finite_ns
        ]
        verdict = windows.judge(data, mask, w.length, w.step, w.min_coverage, w.max_over_std, non_finite)
        return account, data, mask, verdict

    def _by_epoch(self, seed_id: str, segments: tuple[Segment, ...]) -> list[Segment]:
        """Return the segments cut where an epoch of the channel begins or ends."""
        if self._inventory is None:
            return list(segments)
        cuts = epoch_starts(self._inventory, seed_id)
        return [piece for segment in segments for piece in cut_at(segment, cuts)]

    def _inverse_response(self, seed_id: str, segment: Segment) -> InverseResponse | None:
        """Return the inverse response, evaluated once per channel epoch and rate."""
        if self._inventory is None:
            return None
        rate = float(segment.rate_hz)
        response = find_response(self._inventory, seed_id, segment.start_ns)
        key = id(response), rate  # the inventory keeps its responses, so their ids stay theirs
        if key not in self._responses:
            highest = min(rate, self.conditioning.rate_hz) / 2
            self._responses[key] = inverse_response(response, rate, highest, self.response, self.water_level_db)
        return self._responses[key]


class NormalizeStation(_StationStep):
    """Applies temporal normalisation to a :class:`ConditionedStation`."""

    def __init__(self, method: str = "one-bit", window_s: float = 10.0, per: str = "channel") -> None:
        super().__init__()
        self.method = method
        self.window_s = window_s
        self.per = per

    def step(self, item: ConditionedStation) -> ConditionedStation:
        """Normalise all slots of the station."""
        data = normalize.normalize(item.data, item.mask, self.method, item.rate_hz, self.window_s, self.per)
        return dataclasses.replace(item, data=data)


class TransformStation(_StationStep):
    """Cuts windows, transforms and whitens them: writes a :class:`SpectraBlock`.

    The masks travel along only where they are needed: with ``method = "none"``, when a valid window is incomplete.
    """

    def __init__(
        self,
        grid: whiten.SpectralGrid,
        step: int,
        band_hz: tuple[float, float],
        method: str = "phase",
        taper_hz: float = 0.01,
        smooth_hz: float = 0.02,
        per: str = "channel",
    ) -> None:
        super().__init__()
        self.grid = grid
        self.window_step = step
        self.band_hz = band_hz
        self.method = method
        self.taper_hz = taper_hz
        self.smooth_hz = smooth_hz
        self.per = per

    def _preprocess(self) -> None:
        self._taper = whiten.band_taper(self.grid, self.band_hz, self.taper_hz)

    def step(self, item: ConditionedStation) -> SpectraBlock | Tombstone:
        """Transform the valid windows of all slots of the station."""
        valid = item.windows == USED
        rows = np.flatnonzero(valid.any(axis=1))
        if not len(rows):
            return Tombstone(item.chunk, item.station, item.strips, item.accounts)
        valid = valid[rows]
        length, step = self.grid.length, self.window_step
        cut = windows.windowed(item.data[rows], length, step)
        spectra = np.zeros((*valid.shape, self.grid.bins), np.complex64)
        spectra[valid] = whiten.window_spectra(cut[valid], self.grid)
        power = np.square(np.abs(spectra), dtype=np.float64).sum(axis=1) / valid.sum(axis=1)[:, None]
        whitened = whiten.whiten(spectra, self.method, self.grid, self._taper, self.smooth_hz, self.per)
        masks = None
        if self.method == "none":
            cut_mask = windows.windowed(item.mask[rows], length, step) & valid[:, :, None]
            if not cut_mask[valid].all():
                masks = cut_mask
        slots = tuple(a.slot for a in item.accounts if a.status == "used")
        kept = tuple(slots[r] for r in rows)
        return SpectraBlock(item.chunk, item.station, item.strips, item.accounts, kept, whitened, valid, power, masks)
