"""Sources of waveforms: what a source is, and how ``KIND:PLACE`` finds the one that ``KIND`` names.

A source is a class with the entry point ``KIND`` in the group ``xcorr.sources``. Nothing else knows its name.
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

Fingerprint = tuple[str, int, int]
Patterns = tuple[tuple[str, str], ...]


class SourceError(XcorrError, ValueError):
    """A waveform source that cannot be used as given."""


class ReadError(XcorrError, OSError):
    """What a source could not give now; the text is complete."""


@dataclasses.dataclass(frozen=True, slots=True)
class Coverage:
    """A channel at a reference (of a file: its path), and the time within which its samples lie."""

    network: str
    station: str
    location: str
    channel: str
    start_ns: int
    end_ns: int
    path: str


@dataclasses.dataclass(frozen=True, slots=True)
class Coordinates:
    """Degrees on WGS84 and metres."""

    latitude: float
    longitude: float
    elevation_m: float = float("nan")


@dataclasses.dataclass(frozen=True)
class Index:
    """What a source has: coverages by (network, station), coordinates found in headers, files nobody could read.

    ``ignored`` are text files in no waveform format: notes, licences, tables. Records may run on for up to
    ``slack_ns`` beyond the end of a coverage, where a file's name is all that says when it ends.
    """

    source: str
    coverages: dict[tuple[str, str], list[Coverage]]
    coordinates: dict[tuple[str, str], Coordinates] = dataclasses.field(default_factory=dict)
    unreadable: dict[str, str] = dataclasses.field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    slack_ns: int = 0


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a campaign asks of a source.

    ``stations`` lists (network, station), ``channels`` (channel, location); all may hold ``*`` and ``?``. Times are in
    ns, None where the source decides.
    """

    stations: tuple[tuple[str, str], ...]
    channels: Patterns = ()
    start_ns: int | None = None
    end_ns: int | None = None

    @property
    def exact(self) -> set[tuple[str, str]] | None:
        """The stations, if all have exact names; else None."""
        return None if any(c in n + s for n, s in self.stations for c in "*?[") else set(self.stations)


class Source(abc.ABC):
    """Where waveforms are. One is made wherever it is needed, in workers too, from its address and its options.

    Class attributes
    ----------------
    usage : how its address is written, and what it is, for help and error messages.
    Options : a dataclass of :func:`xcorr.core.options.option`; settings call them ``data.KIND.NAME``.
    """

    usage: ClassVar[str]
    Options: ClassVar[type[Any]] = NoOptions

    def __init__(self, place: str, options: Any = None) -> None:
        self.place = place
        self.options = self.Options() if options is None else options

    @classmethod
    def absolute(cls, place: str, folder: str) -> str:
        """Return what a place, written in a folder, is called everywhere: by default it is a path."""
        return os.path.normpath(os.path.join(folder, place)) if place else place

    @abc.abstractmethod
    def index(self, wanted: Wanted) -> Index:
        """Return what the source has. What is not wanted may be left out.

        Raises SourceError if the source is not there, or does not take what is wanted.
        """

    def request_of(self, reference: str, channel: Candidate) -> Hashable:
        """Return what tells one request from another; channels with the same are read together, once."""
        return reference

    @abc.abstractmethod
    def read(
        self, reference: str, channels: Sequence[Candidate], start_ns: int, end_ns: int
    ) -> tuple[list[Any], list[str]]:
        """Return ObsPy traces with the samples of a time, perhaps more, and what was wrong, a line each.

        ``channels`` are the candidates of one station that have the same :meth:`request_of`. Raises anything where
        nothing can be read: the account of the channel then gives the reason, and the next run tries again.
        """

    @abc.abstractmethod
    def fingerprint(self, reference: str) -> Fingerprint | None:
        """Return reference, size in bytes (0: unknown) and time of change (ns), which change with the data.

        None if there is nothing any more.
        """

    def rate_hz(self, reference: str) -> float | None:
        """Return the sampling rate of what is at a reference, for forecasts; None if it is not known."""
        return None


def source_class(address: str) -> type[Source]:
    """Return the class that the kind of an address names. Raises SourceError, with those there are."""
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
    """Return what an address, written in a folder, is everywhere. One that is not known stays as it is."""
    kind, colon, place = address.partition(":")
    try:
        return f"{kind}{colon}{source_class(address).absolute(place, folder)}"
    except SourceError:
        return address
