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
    own = module.partition(".")[0]
    todo, found = [module], {module}
    while todo:
        path = source(todo.pop())
        if path is None:
            continue
        for name in _imported(path.read_text(errors="replace")):
            known = name not in found and name.partition(".")[0] == own and not name.startswith(ENGINE)
            if known and source(name) is not None:
                found.add(name)
                todo.append(name)
    return tuple(sorted(found))


def source(module: str) -> Path | None:
    """Return the source of a module, wherever it was loaded from; also of one in the user's registry."""
    loaded = loaded_files().get(module)
    if loaded:
        return Path(loaded)
    own = folder() / "files" / f"{module}.py"
    return own if own.is_file() else source_of(module)


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
    return {m: hashlib.sha256(path.read_bytes()).hexdigest() for m, path in sources.items() if path is not None}
