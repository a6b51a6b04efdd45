"""Records what elements do: their invocations, and the inputs and products of each invocation.

Names are the same on every mapping. An item with an ``identity`` is named by its identity. Another item is named by
the invocation that wrote it and its number there. An invocation is named by its element and its input. Names travel
with the items, so that only short texts are compared or hashed, never items.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xcorr.core import Observer, Plan
from xcorr.core.derivation import parse_derivation
from xcorr.core.files import printable
from xcorr.core.observe import InstanceStatistics
from xcorr.mappings.sizes import payload_bytes
from xcorr.provenance.store import INSERTS, create, worker_file

LEVELS = ("off", "run", "element", "invocation", "item")
BATCH_ROWS, BATCH_S = 5000, 1.0
POSTPROCESS = -1  # the invocation number of products that are written in postprocess
UNDER_WAY = "under way"
KNOWN_FILES = 50_000  # remembered, so that each is read for its checksum once


def metadata_of(item: Any) -> dict[str, Any]:
    """Return the metadata of an item: its attribute ``metadata``, or the plain values if the item is a mapping."""
    found = getattr(item, "metadata", None)
    if found is None and isinstance(item, Mapping):
        found = {k: v for k, v in item.items() if isinstance(v, str | int | float | bool)}
    return dict(found) if isinstance(found, Mapping) else {}


@dataclasses.dataclass(slots=True)
class _Open:
    """An invocation under way."""

    id: str
    element: str
    instance: int
    port: str
    input: str
    seq: int
    key: str
    begun: float
    status: str = "done"
    written: int = 0


class Recorder(Observer):
    """Records a run of a campaign at a level: ``element``, ``invocation`` or ``item``."""

    def __init__(self, folder: Path, run: int, level: str) -> None:
        self.folder, self.run, self.level = folder, run, level

    def at_work(self, plan: Plan, worker: int) -> Observer:
        """Return the recorder of a worker."""
        path = worker_file(self.folder, self.run, worker)
        return _Totals(path, self, worker) if self.level == "element" else _OfWorker(path, self, plan, worker)


class _Totals(Observer):
    """Records the totals of every instance alone."""

    def __init__(self, path: Path, of: Recorder, worker: int) -> None:
        self.database, self.of, self.worker = create(path, indexed=False), of, worker

    def ended(self, statistics: list[InstanceStatistics]) -> None:
        """Write the totals."""
        rows = [
            (self.of.run, s.element, s.instance, s.worker, s.received, s.written, s.skipped, s.retried, s.seconds)
            for s in statistics
        ]
        with self.database:
            self.database.execute("BEGIN")
            self.database.executemany(INSERTS["instance"], rows)
        self.database.close()

    def failed(self, error: BaseException) -> None:
        """Close the file."""
        self.database.close()


class _OfWorker(_Totals):
    """Records every invocation of one worker, in batches. Each batch includes the invocations under way."""

    def __init__(self, path: Path, of: Recorder, plan: Plan, worker: int) -> None:
        super().__init__(path, of, worker)
        self.patterns = {n.name: parse_derivation(n.element.derivation, n.name).kind for n in plan.nodes}
        self.keys = {n.name: n.element.derivation_key for n in plan.nodes}
        # interchangeable instances are one for each worker, and names must not depend on the workers
        self.several = {n.name for n in plan.nodes if len(n.workers) > 1 and not n.interchangeable}
        self.open: list[_Open] = []
        ended = "SELECT element, instance, max(seq) + 1 FROM invocation GROUP BY element, instance"
        self.counts = {(e, k): n for e, k, n in self.database.execute(ended)}  # an earlier graph of the run counted
        self.at_end: dict[str, int] = {}
        self.rows: dict[str, list[tuple[Any, ...]]] = {t: [] for t in ("invocation", "product", "item", "file")}
        self.files: dict[str, None] = {}
        self.pending, self.due = 0, time.time() + BATCH_S

    def invoked(self, statistics: InstanceStatistics, inputs: dict[str, Any], origin: str) -> None:
        """Begin an invocation."""
        element, instance = statistics.element, statistics.instance
        seq = self.counts.get((element, instance), 0)
        self.counts[element, instance] = seq + 1
        port, item = next(iter(inputs.items()), ("", None))
        key = repr(self.keys[element](item)) if self.patterns[element] == "grouped" and inputs else ""
        which = f"[{instance}]" if element in self.several else ""
        name = f"{element}{which}({origin or f'#{seq}'})"
        self.open.append(_Open(name, element, instance, port, origin, seq, key, time.time()))

    def wrote(self, statistics: InstanceStatistics, port: str, item: Any) -> str:
        """Name and record a product."""
        element, instance, run = statistics.element, statistics.instance, self.of.run
        identity = getattr(item, "identity", None)
        if self.open:
            of = self.open[-1]
            invocation, number, seq, key = of.id, of.written, of.seq, of.key
            of.written += 1
        else:
            invocation, seq, key = f"{element}[{instance}](end)", POSTPROCESS, ""
            number = self.at_end.get(invocation, 0)
            self.at_end[invocation] = number + 1
        if not isinstance(identity, str):
            identity = hashlib.blake2b(f"{invocation}.{port}.{number}".encode(), digest_size=10).hexdigest()
        name = f"{element}.{port}:{identity}"
        self.rows["product"].append((run, name, element, instance, port, seq, key, time.time()))
        if self.of.level == "item":
            metadata = json.dumps(metadata_of(item), default=str)
            self.rows["item"].append((run, name, type(item).__name__, payload_bytes(item), metadata))
        for path in getattr(item, "files", ()):
            self._file(path)
        self.pending += 1
        return name

    def _file(self, path: str) -> None:
        """Record a file that was read, with its checksum, once."""
        if path in self.files or not os.path.isfile(path):  # the address of a web service is no file
            return
        if len(self.files) >= KNOWN_FILES:
            self.files.clear()
        self.files[path] = None
        try:
            status = os.stat(path)
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return  # an unreadable file has no checksum; the ledger has the reason
        self.rows["file"].append((printable(path), status.st_size, status.st_mtime_ns, digest))

    def processed(self, statistics: InstanceStatistics) -> None:
        """End the last invocation."""
        now = time.time()
        done = self.open.pop()
        self._row(done, now, done.status)
        self.pending += 1
        if self.pending >= BATCH_ROWS or now > self.due:
            self._flush(now)

    def _row(self, one: _Open, ended: float | None, status: str) -> None:
        place = (self.of.run, one.id, one.element, one.instance, self.worker)
        self.rows["invocation"].append((*place, one.seq, one.port, one.input, one.key, one.begun, ended, status))

    def skipped(self, statistics: InstanceStatistics, inputs: dict[str, Any], error: Exception) -> None:
        """Note that the invocation under way dropped its item."""
        self.open[-1].status = f"skipped: {type(error).__name__}: {error}"

    def _flush(self, now: float) -> None:
        """Write the batch, and replace the rows of invocations under way by the current ones."""
        self.pending, self.due = 0, now + BATCH_S
        for one in self.open:
            self._row(one, None, UNDER_WAY)
        with self.database:
            self.database.execute("BEGIN")
            self.database.execute("DELETE FROM invocation WHERE status = ?", (UNDER_WAY,))
            for table, rows in self.rows.items():
                self.database.executemany(INSERTS[table], rows)
                rows.clear()

    def ended(self, statistics: list[InstanceStatistics]) -> None:
        """Write the rest of the batch, and the totals."""
        self._flush(time.time())
        super().ended(statistics)

    def failed(self, error: BaseException) -> None:
        """Write the rest of the batch. Invocations that were under way keep this status."""
        self._flush(time.time())
        super().failed(error)
