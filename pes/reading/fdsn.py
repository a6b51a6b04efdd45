"""Waveforms from FDSN web services (fdsnws-dataselect 1.1): bulk requests, repeated when they fail."""

from __future__ import annotations

import dataclasses
import http.client
import logging
import threading
import time
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from xcorr.core.options import option
from xcorr.pes.items import Candidate
from xcorr.pes.reading.files import in_words
from xcorr.pes.reading.source import Coverage, Fingerprint, Index, ReadError, Source, SourceError, Wanted
from xcorr.pes.reading.waveform import NS, Answer
from xcorr.pes.reading.waveform_file import read_waveforms
from xcorr.pes.reading.web import ask

_log = logging.getLogger("xcorr")
# last letters that are asked for if a channel pattern ends in ? or *, by what is wanted; U, V and W need each other
LETTERS = {"Z": "Z3UVW", "NE": "NE12UVW", "H": "H"}
NO_DATA, TOO_LARGE, REFUSALS = (204, 404), 413, (400, 401, 403)  # HTTP status, fdsnws 1.2 table 4
SHORTEST_NS = 60 * NS  # of a request that is divided


@dataclasses.dataclass(frozen=True)
class FdsnOptions:
    """How requests are sent to a service."""

    retries: int = option(3, "Times that a failed request is repeated. The wait doubles each time.", least=0)
    requests_per_s: float = option(
        5.0, "Most requests per second of each worker. Services ban users who ask too often.", least=0.01
    )
    timeout_s: float = option(60.0, "Time without an answer, or with less than 1 kB/s, after which a request failed.")


class Fdsn(Source):
    """A web service, by its address or the name of a provider that ObsPy knows."""

    usage = "fdsn:URL"
    Options = FdsnOptions

    def __init__(self, place: str, options: FdsnOptions | None = None) -> None:
        super().__init__(place, options)
        self._service: Service | None = None

    @classmethod
    def absolute(cls, place: str, folder: str) -> str:
        """Return the address unchanged, because a web address means the same in every folder."""
        return place

    @property
    def service(self) -> Service:
        """The connection, made when it is first needed."""
        if self._service is None:
            self._service = Service(self.place, self.options)
        return self._service

    def index(self, wanted: Wanted) -> Index:
        """Return the channels and times to ask for. Only the later answers tell which data the service has."""
        address = f"fdsn:{self.place}"
        if wanted.start_ns is None or wanted.end_ns is None:
            raise SourceError(
                f"data.source = {address!r}: a web service needs data.start and data.end; set both (--start, --end)"
            )
        vague = [f"{n} {s}" for n, s in wanted.stations if any(c in n + s for c in "*?")]
        if vague:
            raise SourceError(
                f"station {vague[0]!r} of the list: a web service needs names without * or ?; list every station"
            )
        _ = self.service  # raises SourceError if no service answers
        found = list(dict.fromkeys(_channels(wanted.channels, wanted.components)))
        times = wanted.start_ns, wanted.end_ns
        return Index(
            address,
            {key: [Coverage(*key, at, channel, *times, address) for channel, at in found] for key in wanted.stations},
            of_requests=True,
        )

    def metadata(self, wanted: Wanted, responses: bool) -> bytes | None:
        """Return StationXML from the station service beside the dataselect service (fdsnws-station 1.1), if any."""
        found = self.index(wanted)
        return self.service.stations(
            [(c.network, c.station, c.location, c.channel) for every in found.coverages.values() for c in every],
            *(wanted.start_ns or 0, wanted.end_ns or 0),
            "response" if responses else "channel",
        )

    def request_of(self, reference: str, channel: Candidate) -> Hashable:
        """Return the channel code without its component: all components of a channel are asked for together."""
        return channel.channel[:-1]

    def read(self, reference: str, channels: Sequence[Candidate], start_ns: int, end_ns: int) -> Answer:
        """Return the waveforms that the service answers with, and what was wrong."""
        return self.service.waveforms(
            ((c.network, c.station, c.location, c.channel) for c in channels), start_ns, end_ns
        )

    def fingerprint(self, reference: str) -> Fingerprint | None:
        """Return the address, without size and time, because a service does not say when its data change."""
        return reference, 0, 0


def _channels(patterns: Iterable[tuple[str, str]], components: Sequence[str]) -> list[tuple[str, str]]:
    """Return (channel, location); ``?`` or ``*`` at the end of a channel stands for the components wanted."""
    letters = dict.fromkeys("".join(letters for kind, letters in LETTERS.items() if set(kind) & set(components)))
    found = []
    for channel, location in dict.fromkeys(patterns):
        if channel[-1:] in ("?", "*"):
            found += [(channel[:-1] + letter, location) for letter in letters]
        else:
            found.append((channel, location))
    return found


class ServiceError(ReadError):
    """A web service refused a request, or did not answer after all repetitions."""


class _TooLarge(Exception):
    """A service asks for smaller requests."""


class Service:
    """A connection to one service. A process needs only one. ``options``: how requests are sent."""

    def __init__(self, address: str, options: FdsnOptions | None = None) -> None:
        from obspy.clients.fdsn.header import URL_MAPPINGS

        self.address, self.options = address, options or FdsnOptions()
        self.base = f"{str(URL_MAPPINGS.get(address.upper(), address)).rstrip('/')}/fdsnws/dataselect/1"
        self._lock, self._next = threading.Lock(), 0.0
        try:
            status, text, _ = ask(f"{self.base}/version", None, self.options.timeout_s)
            if status != 200:
                raise OSError(f"HTTP {status}: {_first_line(text)}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SourceError(
                f"data source {'fdsn:' + address!r}: no FDSN dataselect service answers there: {in_words(error)}"
            ) from error

    def waveforms(self, channels: Iterable[tuple[str, str, str, str]], start_ns: int, end_ns: int) -> Answer:
        """Return the waveforms of (network, station, location, channel), which may hold * and ?, and what was wrong.

        A request that is too large for the service (HTTP 413) is divided. Raises ServiceError, with the service's last
        message, if it refuses the request (HTTP 400, 401, 403), or fails at every repetition.
        """
        asked = set(channels)
        asked = {c for c in asked if c[2] == "*" or (*c[:2], "*", c[3]) not in asked}  # ask for all data only once
        found, wrong, _ = self._within(sorted(asked), start_ns, end_ns)
        return Answer(found, [f"{self.address}: {text}" for text in wrong], [])

    def _within(self, asked: Sequence[tuple[str, str, str, str]], start_ns: int, end_ns: int) -> Answer:
        try:
            content = self._post(f"{self.base}/query", _lines(asked, start_ns, end_ns))
        except _TooLarge as error:
            middle = (start_ns + end_ns) // 2
            if end_ns - start_ns < 2 * SHORTEST_NS:
                raise ServiceError(f"{self.address} refuses: {error}") from None
            first, second = self._within(asked, start_ns, middle), self._within(asked, middle, end_ns)
            return Answer(first.waveforms + second.waveforms, first.wrong + second.wrong, first.notes + second.notes)
        return read_waveforms(content, start_ns, end_ns) if content else Answer([], [], [])

    def stations(
        self, asked: Sequence[tuple[str, str, str, str]], start_ns: int, end_ns: int, level: str
    ) -> bytes | None:
        """Return StationXML of channels; None if there is no station service, or if it knows none of them."""
        address = f"{self.base.rpartition('/dataselect/')[0]}/station/1/query"
        try:
            return self._post(address, f"level={level}\n".encode() + _lines(asked, start_ns, end_ns)) or None
        except (ServiceError, _TooLarge) as error:
            _log.warning("no station metadata from %s: %s", address, error)
            return None

    def _post(self, address: str, body: bytes) -> bytes:
        """Return what the service answers; nothing if it has no data."""
        last = ""
        for attempt in range(self.options.retries + 1):
            self._wait()
            pause = 0.5 * 2**attempt
            try:
                status, content, later = ask(address, body, self.options.timeout_s)
            except (OSError, http.client.HTTPException) as error:
                last = in_words(error)
            else:
                if status in NO_DATA:
                    return b""
                if status == 200:
                    return content
                last = f"HTTP {status}: {_first_line(content)}"
                if status == TOO_LARGE:
                    raise _TooLarge(last)
                if status in REFUSALS:
                    raise ServiceError(f"{self.address} refuses: {last}")
                pause = max(pause, min(later, self.options.timeout_s))
            if attempt < self.options.retries:
                time.sleep(pause)
        raise ServiceError(f"{self.address} failed {self.options.retries + 1} requests: {last}")

    def _wait(self) -> None:
        """Wait until the next request is allowed by ``requests_per_s``."""
        with self._lock:
            now = time.monotonic()
            pause = max(0.0, self._next - now)
            self._next = max(now, self._next) + 1.0 / self.options.requests_per_s
        time.sleep(pause)  # outside the lock: each thread has reserved its own time


def _lines(asked: Sequence[tuple[str, str, str, str]], start_ns: int, end_ns: int) -> bytes:
    """Return the lines of a request; an empty location is ``--``."""
    times = [str(np.datetime64(ns, "ns").astype("datetime64[us]")) for ns in (start_ns, end_ns)]
    return "\n".join(" ".join((n, s, at or "--", c, *times)) for n, s, at, c in asked).encode()


def _first_line(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return lines[0][:200] if lines else "without a text"
