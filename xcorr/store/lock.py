"""One run per campaign: a lock that names host and process. A run takes over the lock of a run that has died."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from xcorr.core import XcorrError

NAME = "lock"
ATTEMPTS, PAUSE_S = 10, 0.03


class Locked(XcorrError, OSError):
    """Another run has the campaign."""


class CampaignLock:
    """Holds the lock of a campaign folder, in a ``with`` block.

    The file names the holder. The folder itself is locked too, so that a file that vanished unlocks nothing. The system
    releases both locks when the process ends, even when it crashes. Raises Locked, with host and process,
    while another run on this host holds the lock. Raises Locked also for a lock that a run on another host has not
    given back, because this host cannot see whether that run is alive.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    def __enter__(self) -> CampaignLock:
        """Take the lock."""
        # O_NOFOLLOW: the target of a link would be emptied
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        try:
            self._file = os.fdopen(os.open(self.path, flags, 0o666), "a+")
        except OSError as error:
            cure = (
                "" if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) else "; a lock is a plain file: remove it"
            )
            raise Locked(f"{self.path} cannot be locked: {error.strerror}{cure}") from error
        self._folder = os.open(self.path.parent, os.O_RDONLY)
        if not (self._taken(self._file.fileno()) and self._taken(self._folder)):
            self._close()
            other = holder(self.path.parent) or {"pid": "?", "host": "?"}
            raise Locked(
                f"{self.path.parent} is in use by process {other['pid']} on {other['host']}; "
                "wait for that process, or end it"
            )
        owner = holder(self.path.parent)
        if owner is not None and owner["host"] != socket.gethostname():
            self._close()
            raise Locked(
                f"{self.path.parent} is locked by process {owner['pid']} on {owner['host']}. This host cannot see "
                f"whether that process has ended; if it has ended, remove {self.path}"
            )
        self._write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        return self

    def _taken(self, descriptor: int) -> bool:
        """Return whether a lock could be taken. Try several times: :func:`is_running` takes the lock for a moment."""
        for _ in range(ATTEMPTS):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                time.sleep(PAUSE_S)
            except OSError:  # network file systems lock no folders; the file alone is locked there
                return descriptor == self._folder
        return False

    def _close(self) -> None:
        self._file.close()
        os.close(self._folder)

    def _write(self, text: str) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._file.write(text)
        self._file.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back."""
        self._write("")  # emptied, not removed: another run may have opened the file meanwhile
        self._close()


def holder(folder: Path) -> dict[str, Any] | None:
    """Return host and process of the run that holds the lock, or died with it; None if the lock was given back."""
    path = folder / NAME
    try:
        found = json.loads(path.read_text("utf-8")) if path.is_file() else None
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"host", "pid"} <= set(found) else None


def is_running(folder: Path) -> bool:
    """Return whether a run on this host has the campaign now."""
    for path in (folder, folder / NAME):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:  # no lock, or one that nobody may read
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # network file systems lock no folders
            continue
        finally:
            os.close(descriptor)
    return False
