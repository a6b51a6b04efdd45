"""Waveforms from FDSN web services (fdsnws-dataselect 1.1): bulk requests, repeated when they fail."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

from xcorr.core import XcorrError
from xcorr.pes.archive import Archive, Coverage, SourceError
from xcorr.pes.waveform_file import read_traces

KIND = "fdsn:"
LETTERS = "ZNE123UVW"  # last letters of channels that are asked for where a pattern leaves them open
TIMEOUT_S = 60


class ServiceError(XcorrError, OSError):
    """A web service that did not answer, however often it was asked."""


class Service:
    """A connection to one service; one per process is enough.

    ``retries``: how often a failed request is repeated, each time after twice as long. ``requests_per_s`` bounds what
    this connection asks for.
    """

    def __init__(self, address: str, retries: int = 3, requests_per_s: float = 5.0) -> None:
        from obspy.clients.fdsn import Client

        self.address, self.retries, self.apart_s = address, retries, 1.0 / requests_per_s
        self._lock, self._next = threading.Lock(), 0.0
        try:
            self._client = Client(
                address, timeout=TIMEOUT_S, _discover_services=False
            )  # one service may be all there is
            self._client.get_webservice_version("dataselect")
        except Exception as error:  # ObsPy raises anything when a service is not what it should be
            raise SourceError(
                f"data source {KIND + address!r}: no FDSN dataselect service answers there: {_first_line(error)}"
            ) from error

    def waveforms(
        self, channels: Iterable[tuple[str, str, str, str]], start_ns: int, end_ns: int
    ) -> tuple[list[Any], list[str]]:
        """Return ObsPy traces of (network, station, location, channel), which may hold * and ?, and what was wrong.

        Raises ServiceError when the service fails again and again, with its last words.
        """
        from obspy import UTCDateTime
        from obspy.clients.fdsn.header import FDSNBadRequestException, FDSNNoDataException, FDSNUnauthorizedException

        times = UTCDateTime(ns=start_ns), UTCDateTime(ns=end_ns)
        asked = set(channels)
        asked = {c for c in asked if c[2] == "*" or (*c[:2], "*", c[3]) not in asked}  # lest data come twice
        lines = [
            (network, station, location or "--", channel, *times)
            for network, station, location, channel in sorted(asked)
        ]
        for attempt in range(self.retries + 1):
            self._wait()
            answer = io.BytesIO()
            try:
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
        """Let so much time pass since the last request that the rate is kept."""
        with self._lock:
            now = time.monotonic()
            pause = max(0.0, self._next - now)
            self._next = max(now, self._next) + self.apart_s
        time.sleep(pause)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def candidates(
    source: str,
    stations: Sequence[tuple[str, str]],
    patterns: Sequence[tuple[str, str]],
    start_ns: int,
    end_ns: int,
) -> Archive:
    """Return an index of what a service will be asked for: it is known only later whether it has the data.

    ``patterns`` lists (channel, location), ``?`` or ``*`` at the end of a channel standing for its component.
    """
    found = []
    for channel, location in dict.fromkeys(patterns):
        if channel[-1:] in ("?", "*"):
            found += [(channel[:-1] + letter, location) for letter in LETTERS]
        else:
            found.append((channel, location))
    coverages = {
        key: [Coverage(*key, location, channel, start_ns, end_ns, source) for channel, location in dict.fromkeys(found)]
        for key in stations
    }
    return Archive(source, coverages, {}, {})
