"""The registry: elements and workflows by name, from installed packages and from the user.

The entries of installed packages come from entry points. The user's own entries are copies in a local store
(``$XDG_DATA_HOME/xcorr/registry``, one file for each content, named by its hash). Descriptions of installed entries are
read from source files, so listing and searching execute nothing.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import inspect
import json
import os
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xcorr.core import installed
from xcorr.core.element import TYPE, GenericPE
from xcorr.core.errors import RegistryError, WorkflowLoadError, nearest
from xcorr.core.files import load_file, source_of
from xcorr.core.graph import WorkflowGraph

OWN, INSTALLED = "own", "installed"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One name: its kind (``element`` or ``workflow``), version, SHA-256 of the file that defines it, and docs.

    ``place`` is ``own`` or ``installed``. ``target`` is ``module:attribute``, or for an own entry a file in the store.
    """

    name: str
    kind: str
    version: str
    content_hash: str
    docs: str
    place: str
    target: str
    parameters: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The first line of the docs."""
        return self.docs.strip().partition("\n")[0]


def folder() -> Path:
    """Return the folder of the user's own entries."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "xcorr" / "registry"


def _index() -> dict[str, Entry]:
    path = folder() / "index.json"
    if not path.exists():
        return {}
    plain = json.loads(path.read_text("utf-8"))
    return {e["name"]: Entry(**{**e, "parameters": tuple(e["parameters"])}) for e in plain}


def _write_index(entries: dict[str, Entry]) -> None:
    folder().mkdir(parents=True, exist_ok=True)
    temporary = folder() / f".index.json.{os.getpid()}.part"
    temporary.write_text(json.dumps([dataclasses.asdict(e) for e in entries.values()], indent=1) + "\n")
    temporary.replace(folder() / "index.json")


def entries() -> list[Entry]:
    """Return all elements and workflows, sorted by name; nothing is executed."""
    found = [
        _described(kind.removesuffix("s"), name, installed.target(kind, name))
        for kind in ("elements", "workflows")
        for name in installed.names(kind)
    ]
    return sorted([*found, *_index().values()], key=lambda e: (e.name, e.place))


def _described(kind: str, name: str, target: str) -> Entry:
    """Return an installed entry as described in its source, without importing it."""
    module, _, attribute = target.partition(":")
    source = source_of(module)
    if source is None:
        return Entry(name, kind, "", "", "", INSTALLED, target)
    text = source.read_bytes()
    digest = hashlib.sha256(text).hexdigest()
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == attribute:
            docs, version, parameters = _read_class(node)
            return Entry(name, kind, version, digest, docs, INSTALLED, target, parameters)
    return Entry(name, kind, "", digest, "", INSTALLED, target)


def _read_class(node: ast.ClassDef | ast.FunctionDef) -> tuple[str, str, tuple[str, ...]]:
    """Return docs, version and parameters of a class from its source."""
    version = "1"
    parameters: tuple[str, ...] = ()
    for part in node.body:
        targets = [part.target] if isinstance(part, ast.AnnAssign) else getattr(part, "targets", [])
        value = getattr(part, "value", None)
        if any(isinstance(t, ast.Name) and t.id == "version" for t in targets) and isinstance(value, ast.Constant):
            version = str(value.value)
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            parameters = tuple(a.arg for a in [*part.args.args[1:], *part.args.kwonlyargs])
    return ast.get_docstring(node) or "", version, parameters


def add(source: str) -> list[Entry]:
    """Add the elements and workflows of ``FILE.py[:NAME]`` or ``FILE.toml`` as the user's own; return the entries.

    The file is imported once, to check that it can be imported. Raises RegistryError if the file defines nothing, if an
    installed entry has the same name, or if the content has changed but not the version.
    """
    place, _, attribute = source.partition(":")
    path = Path(place)
    if not path.is_file():
        raise RegistryError(f"there is no file {place!r}")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    # with the hash, so that two versions are modules of different names
    target = f"{path.stem}_{digest[:10]}{path.suffix}"
    stored = folder() / "files" / target
    was_there = stored.exists()
    stored.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, stored)
    try:
        new = _checked(source, list(_in_file(stored, attribute, digest, target)), digest)
    except BaseException:
        if not was_there:
            stored.unlink()
        raise
    _write_index({**_index(), **{e.name: e for e in new}})
    _drop_unused()
    return new


def _checked(source: str, new: list[Entry], digest: str) -> list[Entry]:
    """Return the new entries. Raises RegistryError if one of them may not be added."""
    if not new:
        raise RegistryError(f"{source}: defines no element and no workflow of that name")
    known = _index()
    taken = {*installed.names("elements"), *installed.names("workflows")}
    for entry in new:
        before = known.get(entry.name)
        if entry.name in taken:
            raise RegistryError(f"the name {entry.name!r} is taken by an installed one; choose another name")
        if before and before.content_hash != digest and before.version == entry.version:
            raise RegistryError(
                f"{entry.name} {entry.version} is registered with other content; give the new one another version "
                f"(class attribute version, or version in a workflow file), or remove the registered one first"
            )
    return new


def _in_file(path: Path, attribute: str, digest: str, target: str) -> Iterator[Entry]:
    if path.suffix == ".toml":
        from xcorr.core.workflow_file import read_workflow

        read_workflow(path)
        plain = tomllib.loads(path.read_text("utf-8"))
        docs = str(plain.get("docs", ""))
        name, version = str(plain.get("name", path.stem)), str(plain.get("version", "1"))
        yield Entry(name, "workflow", version, digest, docs, OWN, target)
        return
    module = load_file(path)
    for name, value in vars(module).items():
        if attribute and name != attribute:
            continue
        # classes that the file only imports are not its own
        if inspect.isclass(value) and issubclass(value, GenericPE) and value.__module__ == module.__name__:
            if not name.startswith("_") or attribute:
                parameters = tuple(inspect.signature(value).parameters)
                docs = inspect.getdoc(value) or ""
                yield Entry(name, "element", str(value.version), digest, docs, OWN, f"{target}:{name}", parameters)
        elif isinstance(value, WorkflowGraph):
            yield Entry(name, "workflow", "1", digest, inspect.getdoc(module) or "", OWN, f"{target}:{name}")


def remove(name: str) -> None:
    """Remove one of the user's own entries. Raises RegistryError if there is no own entry of this name."""
    known = _index()
    if name not in known:
        raise RegistryError(f"none of your own is called {name!r}{nearest(name, known)}; xcorr registry list shows all")
    del known[name]
    _write_index(known)
    _drop_unused()


def _drop_unused() -> None:
    """Remove the stored files that nothing in the index names any more."""
    used = {e.target.partition(":")[0] for e in _index().values()}
    for path in (folder() / "files").iterdir():
        if path.is_file() and path.name not in used:
            path.unlink()


def find(name: str) -> Entry:
    """Return the entry of a name. Raises RegistryError, with the near names, if there is none."""
    every = {e.name: e for e in entries()}
    if name not in every:
        raise RegistryError(f"nothing is called {name!r}{nearest(name, every)}; xcorr registry list shows all")
    return every[name]


def load(name: str) -> Any:
    """Return the class of an element, or the graph of a workflow, by name."""
    entry = find(name)
    if entry.place == INSTALLED:
        return installed.load(f"{entry.kind}s", name)
    file, _, attribute = entry.target.partition(":")
    path = folder() / "files" / file
    if hashlib.sha256(path.read_bytes()).hexdigest() != entry.content_hash:
        raise WorkflowLoadError(
            f"{path} is not what was added as {name!r}: the file has changed; remove {name!r} and add it again"
        )
    if path.suffix == ".toml":
        from xcorr.core.workflow_file import read_workflow

        return read_workflow(path)
    return getattr(load_file(path), attribute)


def show(name: str) -> str:
    """Return the entry of a name as text. Elements are imported, because only then their ports are known."""
    entry = find(name)
    loaded = load(name)
    lines = [f"{entry.name} {entry.version} ({entry.kind}, {entry.place})", f"content {entry.content_hash}"]
    if entry.kind == "element":
        lines.append(f"{entry.name}{inspect.signature(loaded)}")
        lines += _ports(loaded)
    return "\n".join([*lines, "", entry.docs])


def _ports(kind: type[GenericPE]) -> list[str]:
    required = [p for p in inspect.signature(kind).parameters.values() if p.default is p.empty]
    if any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in required):
        return ["ports: known when its parameters are given"]
    element = kind()
    sides = (("input", element.inputconnections), ("output", element.outputconnections))
    return [f"{side} {port}: {about.get(TYPE, 'any')}" for side, ports in sides for port, about in ports.items()]
