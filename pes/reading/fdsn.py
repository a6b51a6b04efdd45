"""Waveforms from FDSN web services (fdsnws-dataselect 1.1): bulk requests, repeated when they fail."""

from __future__ import annotations

import dataclasses
import io
import threading
import time
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from xcorr.core.options import option
from xcorr.pes.items import Candidate
from xcorr.pes.reading.source import Coverage, Fingerprint, Index, ReadError, Source, SourceError, Wanted
from xcorr.pes.reading.waveform_file import read_traces

LETTERS = "ZNE123UVW"  # last letters that are asked for if a channel pattern ends in ? or *
TIMEOUT_S = 60


@dataclasses.dataclass(frozen=True)
class FdsnOptions:
    """How requests are sent to a service."""

    retries: int = option(3, "Times that a failed request is repeated. The wait doubles each time.", least=0)
    requests_per_s: float = option(
        5.0, "Most requests per second of each worker. Services ban users who ask too often.", least=0.01
    )


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
            self._service = Service(self.place, self.options.retries, self.options.requests_per_s)
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
        found = list(dict.fromkeys(_channels(wanted.channels)))
        times = wanted.start_ns, wanted.end_ns
        return Index(
            address,
            {key: [Coverage(*key, at, channel, *times, address) for channel, at in found] for key in wanted.stations},
        )

    def request_of(self, reference: str, channel: Candidate) -> Hashable:
        """Return the channel code without its component: all components of a channel are asked for together."""
        return channel.channel[:-1]

    def read(
        self, reference: str, channels: Sequence[Candidate], start_ns: int, end_ns: int
    ) -> tuple[list[Any], list[str]]:
        """Return the traces that the service answers with, and what was wrong."""
        return self.service.waveforms(
            ((c.network, c.station, c.location, c.channel) for c in channels), start_ns, end_ns
        )

    def fingerprint(self, reference: str) -> Fingerprint | None:
        """Return the address, without size and time, because a service does not say when its data change."""
        return reference, 0, 0


def _channels(patterns: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return (channel, location); ``?`` or ``*`` at the end of a channel stands for its component."""
    found = []
    for channel, location in dict.fromkeys(patterns):
        if channel[-1:] in ("?", "*"):
            found += [(channel[:-1] + letter, location) for letter in LETTERS]
        else:
            found.append((channel, location))
    return found


class ServiceError(ReadError):
    """A web service refused a request, or did not answer after all repetitions."""


class Service:
    """A connection to one service. A process needs only one.

    ``retries``: times that a failed request is repeated; the wait doubles each time. ``requests_per_s``: most requests
    per second of this connection.
    """

    def __init__(self, address: str, retries: int = 3, requests_per_s: float = 5.0) -> None:
        from obspy.clients.fdsn import Client

        self.address, self.retries, self.apart_s = address, retries, 1.0 / requests_per_s
        self._lock, self._next = threading.Lock(), 0.0
        try:
            self._client = Client(
                address, timeout=TIMEOUT_S, _discover_services=False
            )  # a server may offer dataselect only, and no list of its services
            self._client.get_webservice_version("dataselect")
        except Exception as error:  # ObsPy raises anything when a service is not what it should be
            raise SourceError(
                f"data source {'fdsn:' + address!r}: no FDSN dataselect service answers there: {_first_line(error)}"
            ) from error

    def waveforms(
        self, channels: Iterable[tuple[str, str, str, str]], start_ns: int, end_ns: int
    ) -> tuple[list[Any], list[str]]:
        """Return ObsPy traces of (network, station, location, channel), which may hold * and ?, and what was wrong.

        Raises ServiceError, with the service's last message, if it refuses the request or fails at every repetition.
        """
        from obspy import UTCDateTime
        from obspy.clients.fdsn.header import FDSNBadRequestException, FDSNNoDataException, FDSNUnauthorizedException

        times = UTCDateTime(ns=start_ns), UTCDateTime(ns=end_ns)
        asked = set(channels)
        asked = {c for c in asked if c[2] == "*" or (*c[:2], "*", c[3]) not in asked}  # ask for all data only once
        lines = [
            (network, station, location or "--", channel, *times)  # an empty location is -- in bulk requests
            for network, station, location, channel in sorted(asked)
        ]
        for attempt in range(self.retries + 1):
            self._wait()
            answer = io.BytesIO()
            try:
                # as bytes, because read_traces reads one file at a time
                self._client.get_waveforms_bulk(lines, filename=answer)
                traces, wrong = read_traces(answer.getvalue(), start_ns, end_ns)
                return traces, [f"{self.address}: {text}" for text in wrong]
            except FDSNNoDataException:
                return [], []
            except (FDSNBadRequestException, FDSNUnauthorizedException) as error:
                raise ServiceError(f"{self.address} refuses: {_first_line(error)}") from error
            except Exception as error:  # ObsPy passes on what HTTP and parsing raise
                if attempt == self.retries:
                    tries = f"{self.retries + 1} requests"
                    raise ServiceError(f"{self.address} failed {tries}: {_first_line(error)}") from error
                time.sleep(0.5 * 2**attempt)
        raise AssertionError("unreachable")

    def _wait(self) -> None:
        """Wait until the next request is allowed by ``requests_per_s``."""
        with self._lock:
            now = time.monotonic()
            pause = max(0.0, self._next - now)
            self._next = max(now, self._next) + self.apart_s
        time.sleep(pause)  # outside the lock: each thread has reserved its own time


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
