"""Sources of waveforms: the interface of a source, and the function that opens an address ``KIND:PLACE``.

A source is a class with the entry point ``KIND`` in the group ``xcorr.sources``. No other code uses its name.
"""

from __future__ import annotations

import abc
import dataclasses
import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

from xcorr.core import XcorrError, installed
from xcorr.core.errors import RegistryError
from xcorr.core.options import NoOptions
from xcorr.pes.items import Candidate
from xcorr.pes.reading.waveform import Answer, Place

Fingerprint = tuple[str, int, int]
CODE_LENGTH = 8  # of networks and stations, in FDSN source identifiers
Patterns = tuple[tuple[str, str], ...]


class SourceError(XcorrError, ValueError):
    """A waveform source cannot be used, or does not exist."""


class ReadError(XcorrError, OSError):
    """A source could not give data now. The text needs no additions."""


@dataclasses.dataclass(frozen=True, slots=True)
class Coverage:
    """A channel at a reference (of a file: its path), and the time within which its samples lie.

    ``rate_hz`` is its sampling rate (0: not known without reading the data). ``turned`` says that the data point
    elsewhere than their channel's name says. ``refused`` says why its data cannot be used: their times are impossible.
    """

    network: str
    station: str
    location: str
    channel: str
    start_ns: int
    end_ns: int
    path: str
    rate_hz: float = 0.0
    turned: bool = False
    refused: str = ""

    def check_codes(self) -> None:
        """Raise SourceError if a code is none: it becomes a part of identifiers, and of names of files."""
        for code in (self.network, self.station, self.location, self.channel):
            if not (code.isascii() and code.isprintable()) or set(code) & set("./\\") or len(code) > CODE_LENGTH:
                raise SourceError(
                    f"{code!r} is not a code: codes have up to {CODE_LENGTH} ASCII characters, and no dots and slashes"
                )


@dataclasses.dataclass(frozen=True)
class Index:
    """What a source has: coverages by (network, station), places from headers, and unreadable files.

    ``ignored`` lists text files that are not waveforms: notes, licences, tables. Records may continue for up to
    ``slack_ns`` after the end of a coverage, if this end is known only from the name of a file. ``others`` are stations
    that are there and were not asked for. With ``of_requests``, coverages are what can be asked for; only the answers
    tell which of them there are.
    """

    source: str
    coverages: dict[tuple[str, str], list[Coverage]]
    places: dict[tuple[str, str], list[Place]] = dataclasses.field(default_factory=dict)
    unreadable: dict[str, str] = dataclasses.field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    slack_ns: int = 0
    others: tuple[tuple[str, str], ...] = ()
    of_requests: bool = False


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The stations, channels, components and times that a campaign asks a source for.

    ``stations`` lists (network, station), ``channels`` (channel, location). All may hold ``*`` and ``?``. Times are in
    ns. With None the source decides.
    """

    stations: tuple[tuple[str, str], ...]
    channels: Patterns = ()
    start_ns: int | None = None
    end_ns: int | None = None
    components: tuple[str, ...] = ("Z", "N", "E")

    @property
    def exact(self) -> set[tuple[str, str]] | None:
        """The stations, if no name holds a pattern; else None."""
        return None if any(c in n + s for n, s in self.stations for c in "*?[") else set(self.stations)


class Source(abc.ABC):
    """A source of waveforms. Every process makes its own object from the address and the options.

    Class attributes
    ----------------
    usage : how the address of the source is written, and what the source is, for help and error messages.
    Options : a dataclass of :func:`xcorr.core.options.option`. In settings an option is called ``data.KIND.NAME``.
    """

    usage: ClassVar[str]
    Options: ClassVar[type[Any]] = NoOptions

    def __init__(self, place: str, options: Any = None) -> None:
        self.place = place
        self.options = self.Options() if options is None else options

    @classmethod
    def absolute(cls, place: str, folder: str) -> str:
        """Return a place that means the same in every folder. By default a place is a path, relative to ``folder``."""
        return os.path.normpath(os.path.join(folder, place)) if place else place

    @abc.abstractmethod
    def index(self, wanted: Wanted) -> Index:
        """Return the index of the source. Data that are not wanted may be left out.

        Raises SourceError if the source does not exist, or cannot answer such a request.
        """

    def request_of(self, reference: str, channel: Candidate) -> Hashable:
        """Return the key of a request. Channels with the same key are read together, once."""
        return reference

    @abc.abstractmethod
    def read(self, reference: str, channels: Sequence[Candidate], start_ns: int, end_ns: int) -> Answer:
        """Return waveforms that hold all samples of a time, and one line for each thing that was wrong or remarkable.

        The waveforms may hold more samples; :func:`xcorr.pes.reading.waveform.of_trace` makes one of an ObsPy trace.
        ``channels`` are the candidates of one station with the same :meth:`request_of`. May raise any error if nothing
        can be read. The account of the channel then gives the reason, and the next run tries again.
        """

    def prefetch(self, references: Sequence[str]) -> None:  # noqa: B027  # most sources have nothing to do
        """Begin to get what will be read soon: the references of all channels of a station in a chunk."""

    @abc.abstractmethod
    def fingerprint(self, reference: str) -> Fingerprint | None:
        """Return reference, size in bytes (0: unknown) and time of change (ns); different data have a different one.

        Returns None if there is nothing at the reference any more.
        """

    def metadata(self, wanted: Wanted, responses: bool) -> bytes | None:
        """Return StationXML of what is wanted, with ``responses`` if they are needed; None if the source has none."""
        return None

    def rate_hz(self, reference: str) -> float | None:
        """Return the sampling rate of the data at a reference, for forecasts; None if the rate is not known."""
        return None


def source_class(address: str) -> type[Source]:
    """Return the class for the kind of an address. Raises SourceError, with the known kinds, for an unknown one."""
    kind, _, place = address.partition(":")
    try:
        if not place:
            raise RegistryError(f"{address!r} has no place")
        found: type[Source] = installed.load("sources", kind)
    except RegistryError:
        known = ", ".join(installed.load("sources", name).usage for name in installed.names("sources"))
        raise SourceError(f"data source {address!r} is not known; use {known}") from None
    return found


def open_source(address: str, options: Mapping[str, Mapping[str, Any]] | None = None) -> Source:
    """Return the source of an address. ``options`` are by kind. Raises SourceError for one that is not known."""
    kind, _, place = address.partition(":")
    made = source_class(address)
    return made(place, made.Options(**(options or {}).get(kind, {})))


def absolute(address: str, folder: str) -> str:
    """Return an address that means the same in every folder. An address of unknown kind is returned unchanged."""
    kind, colon, place = address.partition(":")
    try:
        return f"{kind}{colon}{source_class(address).absolute(place, folder)}"
    except SourceError:
        return address
