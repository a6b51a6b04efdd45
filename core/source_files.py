"""Finds the source files that decide what an element does, without importing anything."""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path

from xcorr.core.files import loaded_files, source_of
from xcorr.core.registry import folder

FROM = re.compile(r"^[ \t]*from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]+)", re.MULTILINE)
IMPORT = re.compile(r"^[ \t]*import[ \t]+([\w., \t]+)", re.MULTILINE)
ENGINE = ("xcorr.core", "xcorr.mappings")  # left out, because the engine only moves items


@functools.cache
def modules_behind(module: str) -> tuple[str, ...]:
    """Return a module and the modules of its package that it imports, directly or not, without the workflow engine."""
    todo, found = [module], {module}
    while todo:
        new = [name for name in _modules_in(todo.pop()) if name not in found]
        found.update(new)
        todo += new
    return tuple(sorted(found))


@functools.cache
def _modules_in(module: str) -> tuple[str, ...]:
    """Return the modules of its package that a module imports itself, without the workflow engine."""
    own, path = module.partition(".")[0], source(module)
    names = () if path is None else dict.fromkeys(_imported(path.read_text("utf-8", "replace")))
    near = (name for name in names if name.partition(".")[0] == own and not name.startswith(ENGINE))
    return tuple(name for name in near if source(name) is not None)


def source(module: str) -> Path | None:
    """Return the source of a module, wherever it was loaded from; also of one in the user's registry."""
    loaded = loaded_files().get(module)
    if loaded:
        return Path(loaded)
    if "." in module:
        known = _source_in_package(module)
        return known if known is None or known.is_file() else source_of(module)  # it has been renamed meanwhile
    own = folder() / "files" / f"{module}.py"
    return own if own.is_file() else source_of(module)


_source_in_package = functools.cache(source_of)


def _imported(text: str) -> list[str]:
    """Return the names that a source imports. ``from a import b`` gives ``a`` and ``a.b``, which may be a module."""
    names = []
    for module, imported in FROM.findall(text):
        names += [
            module,
            *(f"{module}.{name.split()[0]}" for name in imported.strip("() \n").split(",") if name.split()),
        ]
    for listed in IMPORT.findall(text):
        names += [name.split()[0] for name in listed.split(",") if name.split()]
    return names


def digests(modules: tuple[str, ...]) -> dict[str, str]:
    """Return the SHA-256 of the source of every module that has one."""
    sources = {module: source(module) for module in modules}
    return {m: _digest(path, _mark(path)) for m, path in sources.items() if path is not None}


def _mark(path: Path) -> tuple[int, int, int]:
    """Return what differs once a file has been written again; the time of change alone can be set back."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


@functools.cache
def _digest(path: Path, mark: tuple[int, int, int]) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
