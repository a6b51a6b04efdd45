"""The record of a run: user, time, software, settings and elements."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import getpass
import hashlib
import inspect
import json
import os
import reprlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.core import GenericPE, Observer, WorkflowGraph
from xcorr.core.derivation import parse_derivation
from xcorr.core.source_files import digests, modules_behind, source
from xcorr.provenance.recorder import Recorder
from xcorr.provenance.store import INSERTS, NAME, create, folder_of, reading, require_whole, take_in

RUNNING, DONE = "running", "done"
SOURCES = (  # behind a content hash; stores of version 0.1.0 lack it
    "CREATE TABLE IF NOT EXISTS source (content_hash, module, sha256, UNIQUE (content_hash, module))"
)


@dataclasses.dataclass(frozen=True)
class Circumstances:
    """The circumstances of a run: level of provenance, mapping, workers, software, settings and their hash."""

    level: str
    mapping: str
    workers: int | None
    software: str
    settings_hash: str
    settings: str


class Run:
    """A run that is being recorded; ``number`` counts the runs of a campaign from 1."""

    def __init__(self, campaign: Path, number: int, level: str) -> None:
        self.campaign, self.number, self.level = campaign, number, level

    def observers(self, graph: WorkflowGraph) -> list[Observer]:
        """Record the elements of a graph, and return the observers for its execution."""
        elements, _ = graph.flattened()
        files_of = {kind: sources(kind) for kind in dict.fromkeys(map(type, elements))}
        rows = [(self.number, *describe(e, files_of[type(e)])) for e in elements]
        found = {content_hash(files): files for files in files_of.values()}
        rows_of_sources = [(key, module, digest) for key, files in found.items() for module, digest in files.items()]
        store = create(folder_of(self.campaign) / NAME, indexed=True)
        with contextlib.closing(store), store:
            store.execute("BEGIN")
            store.execute(SOURCES)
            store.executemany(INSERTS["element"], rows)
            store.executemany("INSERT OR IGNORE INTO source VALUES (?, ?, ?)", rows_of_sources)
        return [] if self.level == "run" else [Recorder(self.campaign, self.number, self.level)]


def describe(element: GenericPE, files: dict[str, str]) -> tuple[str, str, str, str, str, str]:
    """Return name, class, version, content hash, derivation and parameters (JSON) of an element.

    ``files`` are its :func:`sources`.
    """
    parse_derivation(element.derivation, element.id)
    parameters = {name: _brief(getattr(element, name)) for name in _parameters(type(element)) if name in vars(element)}
    kind = f"{type(element).__module__}:{type(element).__qualname__}"
    return element.id, kind, element.version, content_hash(files), element.derivation, json.dumps(parameters)


def _parameters(kind: type) -> list[str]:
    return [name for name in inspect.signature(kind).parameters if not name.startswith("_")]


class _Short(reprlib.Repr):
    """Short representations that show type and shape of arrays, not their values."""

    def repr_instance(self, value: Any, level: int) -> str:
        if isinstance(value, np.ndarray):
            return f"array({value.dtype}, {value.shape})"
        if not dataclasses.is_dataclass(value) or isinstance(value, type):
            return super().repr_instance(value, level)
        if level <= 0:
            return f"{type(value).__name__}(...)"
        fields = (f"{f.name}={self.repr1(getattr(value, f.name), level - 1)}" for f in dataclasses.fields(value))
        return f"{type(value).__name__}({', '.join(fields)})"


_SHORT = _Short()


def _brief(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else _SHORT.repr(value)


def sources(kind: type[GenericPE]) -> dict[str, str]:
    """Return the SHA-256 of every source file that decides what an element of a class does, by module."""
    found = digests(tuple({m: None for name in (kind.__module__, *kind.covers) for m in modules_behind(name)}))
    if kind.__module__ not in found:  # the class is defined in a script
        with contextlib.suppress(TypeError, OSError):
            content = Path(inspect.getsourcefile(kind) or "").read_bytes()
            found[kind.__module__] = hashlib.sha256(content).hexdigest()
    return found


def content_hash(digests: dict[str, str]) -> str:
    """Return one SHA-256 of all source files; "" for an element that has none."""
    text = "".join(f"{module} {digest}\n" for module, digest in sorted(digests.items()))
    return hashlib.sha256(text.encode()).hexdigest() if digests else ""


@contextlib.contextmanager
def recorded(campaign: Path, how: Circumstances) -> Iterator[Run | None]:
    """Record a run; yield None at level ``off``.

    First a damaged store is set aside, and the records that workers of killed runs have left are stored.
    """
    require_whole(campaign)
    if how.level == "off":
        yield None
        return
    folder_of(campaign).mkdir(parents=True, exist_ok=True)
    take_in(campaign)
    run = Run(campaign, _begin(campaign, how), how.level)
    try:
        yield run
    except BaseException as error:
        _end(campaign, run.number, f"{type(error).__name__}: {error}".splitlines()[0])
        raise
    _end(campaign, run.number, DONE)


def _begin(campaign: Path, how: Circumstances) -> int:
    store = create(folder_of(campaign) / NAME, indexed=True)
    try:
        number: int = store.execute("SELECT coalesce(max(id), 0) + 1 FROM run").fetchone()[0]
        row = (number, time.time(), None, RUNNING, how.level, how.mapping, how.workers, _user())
        host = (socket.gethostname(), os.getpid(), how.software, how.settings_hash, how.settings)
        store.execute(INSERTS["run"], (*row, *host))
        return number
    finally:
        store.close()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # containers run under numbers without a name
        return str(os.getuid())


def _end(campaign: Path, number: int, status: str) -> None:
    take_in(campaign)
    store = create(folder_of(campaign) / NAME, indexed=True)
    try:
        store.execute("UPDATE run SET ended = ?, status = ? WHERE id = ?", (time.time(), status, number))
    finally:
        store.close()


def changed_elements(campaign: Path) -> list[str]:
    """Return a line for every source file of an element that has changed since the last run with the element.

    Files are read but not imported, because the names of modules come from the campaign and could name any code.
    """
    latest = "run = (SELECT max(run) FROM element WHERE name = e.name) ORDER BY name"
    with reading(campaign) as store:
        query = f"SELECT name, class, content_hash FROM element AS e WHERE content_hash != '' AND {latest}"
        rows = store.execute(query).fetchall()
        if not store.execute("SELECT count(*) FROM sqlite_master WHERE name = 'source'").fetchone()[0]:
            return [f"{name}: recorded by an earlier version of xcorr, with another code" for name, _, _ in rows]
        before: dict[str, dict[str, str]] = {}
        for key, module, digest in store.execute("SELECT content_hash, module, sha256 FROM source"):
            before.setdefault(key, {})[module] = digest
    changed = []
    for name, place, key in rows:
        module, _, attribute = place.partition(":")
        path = source(module)
        if path is None:
            changed.append(f"{name}: the module of {place} is not installed here, so changes cannot be found")
        elif not _defines(path, attribute):
            changed.append(f"{name}: {place} does not exist any more")
        else:
            known = before.get(key, {})
            now = digests(tuple(known))
            changed += [f"{name}: {m} has changed since the last run" for m in known if now.get(m) != known[m]]
    return changed


def _defines(source: Path, name: str) -> bool:
    """Return whether a module's source defines a class, ``name`` being its qualified name."""
    body: list[ast.stmt] = ast.parse(source.read_bytes()).body
    for part in name.split("."):
        found = next((n for n in body if isinstance(n, ast.ClassDef) and n.name == part), None)
        if found is None:
            return False
        body = found.body
    return True
