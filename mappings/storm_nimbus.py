"""Talks to Nimbus, the master of an Apache Storm cluster: framed Thrift, binary protocol."""

from __future__ import annotations

import functools
import io
import json
import socket
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xcorr.core import XcorrError

INSTALL = "pip install 'xcorr[storm]' (thriftpy2)"
CHUNK_BYTES = 300 << 10  # of an upload; Nimbus takes up to 1 MiB a message
TIMEOUT_MS = 30_000


class StormError(XcorrError, RuntimeError):
    """Storm is not installed, cannot be reached, or refuses a request."""


@functools.cache
def idl() -> Any:
    """Return the types of the Thrift service. Raises StormError if thriftpy2 is missing."""
    try:
        import thriftpy2
    except ImportError:
        raise StormError(f"the storm mapping needs thriftpy2: {INSTALL}") from None
    return thriftpy2.load(str(Path(__file__).with_name("storm.thrift")), module_name="xcorr_storm_thrift")


class Nimbus:
    """Nimbus at ``host:port``; each call makes a connection. Raises StormError if Nimbus does not answer or refuses."""

    def __init__(self, address: str) -> None:
        host, colon, port = address.rpartition(":")
        if not (colon and host and port.isdigit()):
            raise StormError(f"run.storm.nimbus = {address!r}: write host:port, such as localhost:6627")
        self.address, self.host, self.port = address, host, int(port)

    @contextmanager
    def _client(self) -> Iterator[Any]:
        types = idl()
        from thriftpy2.protocol import TBinaryProtocolFactory
        from thriftpy2.rpc import client_context
        from thriftpy2.thrift import TException
        from thriftpy2.transport import TFramedTransportFactory

        try:
            with client_context(
                types.Nimbus,
                self.host,
                self.port,
                proto_factory=TBinaryProtocolFactory(),  # type: ignore[no-untyped-call]
                trans_factory=TFramedTransportFactory(),
                connect_timeout=TIMEOUT_MS,
                socket_timeout=TIMEOUT_MS,
            ) as client:
                yield client
        except (TException, OSError) as error:
            text = getattr(error, "msg", None) or getattr(error, "message", None) or str(error)
            raise StormError(f"Nimbus at {self.address}: {type(error).__name__}: {text}") from error

    def own_address(self) -> str:
        """Return the address of this host as Nimbus sees it."""
        try:
            with socket.create_connection((self.host, self.port), TIMEOUT_MS / 1000) as connection:
                return str(connection.getsockname()[0])
        except OSError as error:
            raise StormError(f"Nimbus at {self.address}: {error}") from error

    def slots(self) -> tuple[int, int]:
        """Return the number of supervisors and of worker slots that are free."""
        with self._client() as client:
            supervisors = client.getClusterInfo().supervisors
            return len(supervisors), sum(s.num_workers - s.num_used_workers for s in supervisors)

    def topologies(self) -> dict[str, str]:
        """Return the status of every topology by name."""
        with self._client() as client:
            return {t.name: t.status for t in client.getClusterInfo().topologies}

    def errors(self, name: str) -> list[str]:
        """Return the errors that Storm reports for the components of a topology, one line each."""
        with self._client() as client:
            found = client.getTopologyInfoByName(name).errors
            return [f"{where}: {e.error.splitlines()[0]}" for where, errors in found.items() for e in errors]

    def submit(self, name: str, topology: Any, conf: Mapping[str, Any]) -> None:
        """Start a topology."""
        types = idl()
        with self._client() as client:
            place = client.beginFileUpload()
            jar = _jar()
            for low in range(0, len(jar), CHUNK_BYTES):
                client.uploadChunk(place, jar[low : low + CHUNK_BYTES])
            client.finishFileUpload(place)
            options = types.SubmitOptions(initial_status=types.TopologyInitialStatus.ACTIVE)
            client.submitTopologyWithOpts(name, place, json.dumps(dict(conf)), topology, options)

    def kill(self, name: str) -> None:
        """End a topology at once, if it is there."""
        if self.topologies().get(name, "KILLED") != "KILLED":
            with self._client() as client:
                client.killTopologyWithOpts(name, idl().KillOptions(wait_secs=0))


def _jar() -> bytes:
    """Return the jar that every topology must have. It holds no code, because the components are programs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\n\r\n")
        jar.writestr("resources/README", "The components of this topology are console scripts of xcorr.\n")
    return buffer.getvalue()
