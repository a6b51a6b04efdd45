"""Runs a workflow of a campaign on the mapping of its settings."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xcorr.core import Observer, WorkflowGraph, XcorrError
from xcorr.mappings import Outcome, run
from xcorr.settings import Settings

SEEN_S = 10.0  # longest time until a network file system shows a new file on other hosts


class NotShared(XcorrError, OSError):
    """A worker does not see the folder of the campaign."""


class _Shared(Observer):
    """Lets every worker look for a file, so that no worker writes to a folder of the same name on another host."""

    def __init__(self, mark: Path, seen_s: float) -> None:
        self.mark, self.seen_s = mark, seen_s

    def at_work(self, plan: Any, worker: int) -> Observer:
        """Return this observer if the file is there. Raises NotShared if it is not."""
        until = time.monotonic() + self.seen_s
        while not self.mark.exists():
            if time.monotonic() > until:
                raise NotShared(
                    f"worker {worker} on {socket.gethostname()} does not see {self.mark.parent} of this campaign; all "
                    "workers must share the file system it is on"
                )
            time.sleep(0.1)
        return self


def run_workflow(folder: Path, settings: Settings, graph: WorkflowGraph, watch: Sequence[Observer]) -> Outcome:
    """Run a workflow that writes to the folder of a campaign, and return its outcome.

    Raises what :func:`xcorr.mappings.run` raises, and NotShared if workers on other hosts do not see the folder.
    """
    how = settings.run
    mark = folder / f".{uuid.uuid4().hex}.part"
    mark.touch()
    try:
        options = how.options.get(how.mapping, {})
        return run(graph, None, how.mapping, how.workers, [_Shared(mark, SEEN_S), *watch], options)
    finally:
        mark.unlink(missing_ok=True)
