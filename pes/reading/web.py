"""Sends a request to a web service and reads the answer, in a limited time."""

from __future__ import annotations

import time
import urllib.error
import urllib.request

SLOWEST = 1000  # bytes per second, of an answer that takes longer than the time allowed for its first byte
PART = 1 << 16  # bytes
MOST_TEXT = 4096  # bytes of a refusal that are read


class TooSlow(OSError):
    """A service sends so little that an answer has no end in sight."""


def ask(url: str, body: bytes | None, patience_s: float) -> tuple[int, bytes, float]:
    """Return the HTTP status, the content of the answer, and the seconds to wait before the next request (0: none).

    A ``body`` is sent by POST. Raises OSError if no answer comes for ``patience_s``, and TooSlow if after this time
    less than 1 kB/s has come.
    """
    begin = time.monotonic()
    request = urllib.request.Request(url, data=body, headers={"User-Agent": "xcorr", "Content-Type": "text/plain"})
    try:
        with urllib.request.urlopen(request, timeout=patience_s) as answer:
            parts: list[bytes] = []
            size = 0
            while part := answer.read1(PART):
                parts.append(part)
                size += len(part)
                seconds = time.monotonic() - begin
                if seconds > patience_s and size < SLOWEST * seconds:
                    raise TooSlow(f"{size} bytes came in {seconds:.0f} s")
            expected = answer.headers.get("Content-Length")
            if expected is not None and size < int(expected):
                raise OSError(f"the answer ended after {size} of {expected} bytes")
            return answer.status, b"".join(parts), 0.0
    except urllib.error.HTTPError as error:
        with error:
            text = error.read(MOST_TEXT)
        wait = error.headers.get("Retry-After", "")
        return error.code, text, float(wait) if wait.isdigit() else 0.0
