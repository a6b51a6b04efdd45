"""The items that flow between the elements of the application: small frozen classes that hold arrays.

Times are integer nanoseconds UTC. A *slot* is one component of one station. The number of a slot stays the same for
the whole campaign. A *chunk* is the length of time that is processed at once (a UTC day by default).
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Complex64 = npt.NDArray[np.complex64]
Bool = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]

WINDOWS_USED = "used"  # among the names of windows; the other names are the reasons to reject
HELPER = -1  # slot of a channel that is not wanted itself, but needed to rotate others


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """The time ``[start_ns, end_ns)``. Data outside ``[data_start_ns, data_end_ns)`` are not wanted.

    ``strips`` is the number of strips into which the pairs of a chunk are cut. ``wanted`` lists the strips that are to
    be correlated (None: all).
    """

    index: int
    start_ns: int
    end_ns: int
    data_start_ns: int
    data_end_ns: int
    strips: int = 1
    wanted: tuple[int, ...] | None = None
    generation: int = 0

    @property
    def name(self) -> str:
        """Its start, as ``20240301T000000``."""
        return _in_words(self.start_ns)


@functools.lru_cache(maxsize=64)
def _in_words(time_ns: int) -> str:
    return f"{datetime.datetime.fromtimestamp(time_ns // 1_000_000_000, datetime.UTC):%Y%m%dT%H%M%S}"


class OfStation:
    """Identity, metadata and files of an item of one station in one chunk, for provenance and [[keep]] rules."""

    __slots__ = ()  # without this, the subclasses with slots would have a __dict__ as well
    chunk: Chunk
    station: str

    @property
    def identity(self) -> str:
        """Chunk, generation of the pairs it is for, and station."""
        return f"{self.chunk.name}.{self.chunk.generation:02d}/{self.station}"

    @property
    def metadata(self) -> dict[str, object]:
        """The values of :data:`STATION_METADATA`."""
        accounts: tuple[SlotAccount, ...] = getattr(self, "accounts", ())
        return {
            "chunk": self.chunk.name,
            "station": self.station,
            "network": self.station.partition(".")[0],
            "samples": sum(a.samples for a in accounts),
            "gaps": sum(a.gaps for a in accounts),
            "gap_s": sum(a.gap_s for a in accounts),
            "zeros_s": sum(a.zeros_s for a in accounts),
            "windows_used": sum(a.windows_used for a in accounts),
            "windows_rejected": sum(sum(a.windows.values()) - a.windows_used for a in accounts),
            "failed": any(a.is_error for a in accounts),
        }

    @property
    def files(self) -> tuple[str, ...]:
        """The files it was read from."""
        accounts: tuple[SlotAccount, ...] = getattr(self, "accounts", ())
        return tuple(dict.fromkeys(path for a in accounts for path, _, _ in a.files))


STATION_METADATA: dict[str, type] = {
    "chunk": str,
    "station": str,
    "network": str,
    "samples": int,
    "gaps": int,
    "gap_s": float,
    "zeros_s": float,
    "windows_used": int,
    "windows_rejected": int,
    "failed": bool,
}


def strip_key(chunk: Chunk, strip: int) -> int:
    """Return the key that decides which instance of an element owns a strip in a chunk.

    A strip has fewer pairs than the strip before it. To share the work evenly, two strips have the same key: the first
    and the last one, the second and the second to last one, and so on.
    """
    return min(strip, chunk.strips - 1 - strip) + chunk.index * ((chunk.strips + 1) // 2)


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """A SEED channel that could fill a slot in a chunk, and the files that hold it."""

    network: str
    station: str
    location: str
    channel: str
    files: tuple[str, ...]

    @property
    def seed_id(self) -> str:
        """``NET.STA.LOC.CHA``."""
        return f"{self.network}.{self.station}.{self.location}.{self.channel}"


@dataclasses.dataclass(frozen=True, slots=True)
class SlotRequest:
    """A slot wanted in a chunk, with its candidates in order of preference.

    Without candidates, ``refused`` says why data of the slot cannot be used, if there are some in the source. Samples
    outside ``within`` (ns) are not wanted, because the station was elsewhere.
    """

    slot: int
    component: str
    candidates: tuple[Candidate, ...]
    refused: str = ""
    within: tuple[int, int] = (-(2**62), 2**62)


@dataclasses.dataclass(frozen=True, slots=True)
class StationRequest(OfStation):
    """A work item: one station in one chunk, for the strips of pairs that need it."""

    chunk: Chunk
    station: str
    slots: tuple[SlotRequest, ...]
    strips: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """Contiguous samples; ``rate_hz`` is exact. ``data`` is one-dimensional, in the unit of the source.

    ``direction`` is the azimuth and dip (degrees) that the file gives, if it gives them.
    """

    start_ns: int
    rate_hz: Fraction
    data: npt.NDArray[np.generic]
    direction: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class SlotAccount:
    """The status of a slot in a chunk; a row of the ledger's table ``channel_chunk``.

    ``status`` is ``used``, ``absent`` (no data exist), ``unusable`` (data exist, but none are valid) or ``failed`` (an
    error, after which the next run tries again). A used slot with a ``reason`` has lost a part of its input by an
    error. ``windows`` holds the numbers of windows that are ``used``, and of those rejected by reason, where
    there are any. ``stale`` says why an old result was kept although its inputs are gone, or have changed, since.
    ``note`` holds remarks on what was done with the data, with nothing lost by an error. ``metadata`` says which
    metadata were used, in the words of :mod:`xcorr.pes.reading.used_metadata`.
    """

    slot: int
    chunk: int
    status: str
    reason: str = ""
    seed_id: str = ""
    files: tuple[tuple[str, int, int], ...] = ()
    samples: int = 0
    gaps: int = 0
    gap_s: float = 0.0
    zeros_s: float = 0.0
    windows: Mapping[str, int] = dataclasses.field(default_factory=dict)
    stale: str = ""
    note: str = ""
    metadata: str = ""

    @property
    def windows_used(self) -> int:
        """The number of windows that are used."""
        return self.windows.get(WINDOWS_USED, 0)

    @property
    def is_error(self) -> bool:
        """Whether an error has made all or a part of this slot's input unusable."""
        return self.status == "failed" or (self.status == "used" and bool(self.reason))

    def as_dict(self) -> dict[str, Any]:
        """Return the values by name."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclasses.dataclass(frozen=True, slots=True)
class RawChannel:
    """The segments of a slot in a chunk, merged and without gaps, and the times of non-finite samples.

    ``component`` is the component that the slot is for (Z, N or E).
    """

    account: SlotAccount
    segments: tuple[Segment, ...] = ()
    non_finite_ns: tuple[tuple[int, int], ...] = ()
    component: str = ""

    @property
    def says_direction(self) -> bool:
        """Whether the files themselves say where the channel points."""
        return any(s.direction is not None for s in self.segments)


@dataclasses.dataclass(frozen=True, slots=True)
class RawStation(OfStation):
    """A station's channels in a chunk, as read."""

    chunk: Chunk
    station: str
    strips: tuple[int, ...]
    channels: tuple[RawChannel, ...]

    @property
    def accounts(self) -> tuple[SlotAccount, ...]:
        """The accounts of its slots."""
        return tuple(c.account for c in self.channels if c.account.slot != HELPER)

    @property
    def files(self) -> tuple[str, ...]:
        """The files from which the station was read, including the files of helper channels."""
        return tuple(dict.fromkeys(path for c in self.channels for path, _, _ in c.account.files))


@dataclasses.dataclass(frozen=True, slots=True)
class ConditionedStation(OfStation):
    """A station's conditioned traces on the common grid of the chunk.

    ``data`` [slot, sample] float32, zero where ``mask`` [slot, sample] is False; ``windows`` [slot, window]
    holds an index into ``xcorr.pes.preparing.windows.REASONS`` (0: used). Rows follow ``accounts``.
    """

    chunk: Chunk
    station: str
    strips: tuple[int, ...]
    accounts: tuple[SlotAccount, ...]
    rate_hz: float
    data: Float32
    mask: Bool
    windows: npt.NDArray[np.int8]


@dataclasses.dataclass(frozen=True, slots=True)
class SpectraBlock(OfStation):
    """A station's window spectra in a chunk.

    The rows are the slots with valid windows. ``slots`` [row] holds their numbers, ``valid`` [row, window] their valid
    windows. ``spectra`` has for each band [row, in-band frequency, window] complex64, which is zero for rejected
    windows. The phase correlation has two spectra for each window. ``power`` has for each band
    [row, substack, frequency] float32: the sum of |X T|² over valid windows before whitening. It is None if no
    autocorrelation needs the power. ``masks`` is [row, window, sample]. It is None if every valid window is complete,
    or if the estimate needs no masks. ``accounts`` lists all slots of the station, used or not.
    """

    chunk: Chunk
    station: str
    strips: tuple[int, ...]
    accounts: tuple[SlotAccount, ...]
    slots: tuple[int, ...]
    spectra: tuple[Complex64, ...]
    valid: Bool
    power: tuple[Float32, ...] | None = None
    masks: Bool | None = None

    @property
    def keys(self) -> tuple[int, ...]:
        """The keys of the strips that need the station."""
        return tuple(strip_key(self.chunk, s) for s in self.strips)


@dataclasses.dataclass(frozen=True, slots=True)
class Tombstone(OfStation):
    """Takes the place of a station without usable data in a chunk. The accounts give the reasons."""

    chunk: Chunk
    station: str
    strips: tuple[int, ...]
    accounts: tuple[SlotAccount, ...]

    @property
    def keys(self) -> tuple[int, ...]:
        """The keys of the strips that need the station."""
        return tuple(strip_key(self.chunk, s) for s in self.strips)
