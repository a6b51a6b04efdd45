"""``progress.json``: how far a running campaign has come, in one small file that is replaced every second.

``xcorr status`` and the web application read it. It holds nothing that is needed to resume, so it is not synced.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xcorr.core import Observer
from xcorr.core.observe import WorkerStatistics
from xcorr.observers.progress import numbers

NAME, FORMAT = "progress.json", 1
EVERY_S = 1.0
RUNNING, DONE, INTERRUPTED = "running", "done", "interrupted"
_log = logging.getLogger("xcorr")


class Published:
    """Publishes the progress of one run. ``counts`` returns what is known besides: shards, failed inputs."""

    def __init__(self, folder: Path, mapping: str, counts: Callable[[], dict[str, int]]) -> None:
        self.path, self.counts = folder / NAME, counts
        self.about: dict[str, Any] = {
            "format": FORMAT,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "mapping": mapping,
            "begun": time.time(),
        }
        self.last: dict[str, Any] = {}
        self.failed = False

    def write(self, state: str, **more: Any) -> None:
        """Replace the file. The last numbers stay in it, with the state and what else is given.

        A file that cannot be written costs no run; the log says so once.
        """
        temporary = self.path.with_name(f".{NAME}.{os.getpid()}.part")
        try:
            self.last |= {"state": state, "written": time.time(), **self.counts(), **more}
            temporary.write_text(json.dumps(self.about | self.last), "utf-8")
            os.replace(temporary, self.path)
        except (OSError, sqlite3.Error) as error:
            temporary.unlink(missing_ok=True)
            if not self.failed:
                _log.warning("%s cannot be written, so xcorr status lacks it: %s", self.path, error)
            self.failed = True


@contextlib.contextmanager
def publishing(folder: Path, mapping: str, counts: Callable[[], dict[str, int]]) -> Iterator[Published]:
    """Publish the beginning of a run, and how it ended."""
    one = Published(folder, mapping, counts)
    one.write(RUNNING, phase="looking for what is left to do")
    try:
        yield one
    except BaseException as error:
        one.last.pop("seconds_left", None)
        is_asked = isinstance(error, KeyboardInterrupt)
        one.write(INTERRUPTED if is_asked else f"{type(error).__name__}: {error}".splitlines()[0])
        raise
    one.write(DONE, phase="", seconds_left=0.0)


class Publish(Observer):
    """Publishes the numbers of all workers once a second, while a workflow of the run goes on.

    ``expected`` gives the number of items of each element where that is known, ``phase`` what is done, in words.
    """

    def __init__(self, to: Published, phase: str, expected: Mapping[str, int]) -> None:
        self.to: Published | None = to
        self.phase, self.expected, self.due = phase, dict(expected), 0.0

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the file: only the process that coordinates writes it."""
        return {**vars(self), "to": None}

    def progress(self, workers: Sequence[WorkerStatistics], finished: bool) -> None:
        """Replace the file, if it is a second old."""
        now = time.monotonic()
        if self.to is not None and (finished or now >= self.due):
            self.due = now + EVERY_S
            self.to.write(RUNNING, phase=self.phase, expected=self.expected, **numbers(workers, self.expected))


def read_progress(folder: Path) -> dict[str, Any]:
    """Return what a run has published last; empty if there is nothing, or nothing that this version can read."""
    try:
        found = json.loads((folder / NAME).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        return {}
    counted = [found.get(name, {}) for name in ("items", "expected")]
    is_whole = all(isinstance(c, dict) and all(isinstance(n, int) for n in c.values()) for c in counted)
    return found if is_whole and isinstance(found.get("state"), str) else {}
