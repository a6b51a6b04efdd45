"""A log file for every worker of a run, in the folder ``logs``: skipped items with the reason, failures, numbers."""

from __future__ import annotations

import logging
import logging.handlers
import os
import socket
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xcorr.core import ElementError, Observer
from xcorr.core.observe import InstanceStatistics

FOLDER = "logs"
FILE_BYTES, OLD_FILES = 2_000_000, 3  # size of a worker's log file, and number of older files that are kept
ROOT = logging.getLogger("xcorr")


class _OfThread(logging.Filter):
    """Passes the records of one thread, because workers may be threads of one process."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread == self.thread


class WorkerLog(Observer):
    """Lets every worker K write its own events and its elements' messages to ``logs/worker-K.log``, with rotation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER

    def at_work(self, plan: Any, worker: int) -> Observer:
        """Return the log of a worker."""
        self.folder.mkdir(exist_ok=True)
        return _LogOfWorker(self.folder / f"worker-{worker}.log")


class _LogOfWorker(Observer):
    def __init__(self, path: Path) -> None:
        if path.is_symlink():  # what it points to is not ours to write
            path.unlink()
        self.handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=FILE_BYTES, backupCount=OLD_FILES, encoding="utf-8"
        )
        self.handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self.handler.addFilter(_OfThread())
        ROOT.addHandler(self.handler)
        if ROOT.level in (logging.NOTSET, logging.WARNING):
            ROOT.setLevel(logging.INFO)

    def started(self, plan: Any, worker: int) -> None:
        """Log the instances of this worker."""
        names = [f"{node.name}[{k}]" for node in plan.nodes for k, w in enumerate(node.workers) if w == worker]
        place = f"process {os.getpid()} on {socket.gethostname()}"
        self._note(logging.INFO, "worker %d of %d, %s: %s", worker, plan.workers, place, ", ".join(names))

    def skipped(self, statistics: InstanceStatistics, inputs: dict[str, Any], error: Exception) -> None:
        """Log a dropped item and the traceback of its error."""
        text = "".join(traceback.format_exception(error))
        self._note(logging.WARNING, "%s[%d] dropped an item: %s", statistics.element, statistics.instance, text)

    def ended(self, statistics: Sequence[InstanceStatistics]) -> None:
        """Note the numbers of every instance and close the file."""
        for s in statistics:
            counts = f"{s.received} received, {s.written} written, {s.skipped} skipped, {s.retried} retried"
            self._note(logging.INFO, "%s[%d]: %s, %.3f s", s.element, s.instance, counts, s.seconds)
        self._close()

    def failed(self, error: BaseException) -> None:
        """Note why the worker gave up and close the file."""
        text = f"\n{error.traceback_text}" if isinstance(error, ElementError) else ""
        self._note(logging.ERROR, "%s: %s%s", type(error).__name__, error, text)
        self._close()

    def _note(self, level: int, message: str, *values: object) -> None:
        """Write a line to this log alone: the program tells the user itself how a run has ended."""
        self.handler.handle(ROOT.makeRecord(ROOT.name, level, __file__, 0, message, values, None))

    def _close(self) -> None:
        ROOT.removeHandler(self.handler)
        self.handler.close()
