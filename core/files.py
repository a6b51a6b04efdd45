"""Writes text files atomically; imports Python files as modules that other processes can import too."""

from __future__ import annotations

import codecs
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from xcorr.core.errors import WorkflowLoadError, XcorrError
from xcorr.core.interrupt import is_interrupt


def printable(text: str) -> str:
    """Return a text that can be written anywhere: bytes of a file's name that are no UTF-8 are shown as ``\\xff``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, or in what its byte order mark says. Raises UnicodeDecodeError for others."""
    content = path.read_bytes()
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf16 else "utf-8-sig")


def replace_text(path: Path, text: str) -> None:
    """Write a text file atomically and durably: readers see the old file or the whole new one, also after a crash."""
    replace_bytes(path, text.encode())


def replace_bytes(path: Path, content: bytes) -> None:
    """Write a file in the same way."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_bytes(content)
    rename_synced(temporary, path)


def rename_synced(temporary: Path, final: Path) -> None:
    """Make a finished file visible under its final name, durably."""
    _sync(temporary, os.O_RDONLY)  # before the rename: after a power cut the name must not show a cut file
    os.replace(temporary, final)
    _sync(final.parent, os.O_RDONLY | os.O_DIRECTORY)  # a rename lasts only when its folder is synced


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def source_of(module: str) -> Path | None:
    """Return the source file of a module, without importing anything; only its top package is looked up by name."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # __main__, or a name that is none
        return None
    if spec is None or spec.origin is None:
        return None
    found = [spec.origin] if not rest else []
    for root in (spec.submodule_search_locations or ()) if rest else ():
        place = os.path.join(root, *rest)
        found += [f"{place}.py", os.path.join(place, "__init__.py")]
    return next((Path(f) for f in found if f.endswith(".py") and os.path.isfile(f)), None)


class _FilesByName(importlib.abc.MetaPathFinder):
    """Finds modules in files that need not be on the path."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Return where a module is, if it is one of these files."""
        return importlib.util.spec_from_file_location(name, self.files[name]) if name in self.files else None


def find_modules_in(files: dict[str, str]) -> None:
    """Make modules importable from files, by name, after :func:`load_file` has imported them in another process."""
    # first, so that no module of that name on the path is imported instead
    sys.meta_path.insert(0, _FilesByName(files))


_loaded: dict[str, str] = {}


def loaded_files() -> dict[str, str]:
    """Return, by module name, the files that :func:`load_file` has imported in this process."""
    return dict(_loaded)


def load_file(place: str | Path) -> ModuleType:
    """Import a file as a module with the name of its stem.

    The folder of the file goes to the end of the path. So the file can import modules beside it, but a ``numpy.py`` or
    ``signal.py`` there does not hide the installed module. Raises WorkflowLoadError if a module of this name is loaded
    already, or if the code of the file fails. The error then shows only the frames of the user's code.
    """
    path = Path(place)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    name = path.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path.resolve()):
        _loaded[name] = str(path.resolve())  # also where it was imported by other means: workers need the file
        return known
    if known is not None:
        raise WorkflowLoadError(
            f"{path} cannot be loaded as module {name!r}: another module has that name; rename the file"
        )
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise WorkflowLoadError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]  # else the next attempt would return the half-made module
        if is_interrupt(error) or isinstance(error, XcorrError):
            raise
        raise failed_code(str(path), error) from error
    _loaded[name] = str(path.resolve())
    return module


def failed_code(where: str, error: BaseException) -> WorkflowLoadError:
    """Return the error for user code that has raised: with its error and its frames, without frames of xcorr."""
    ours = str(Path(__file__).parent.parent)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(("<frozen", ours))]
    text = "".join([*traceback.format_list(frames), *traceback.format_exception_only(error)])
    failure = WorkflowLoadError(f"{where} raised {type(error).__name__}: {error}")
    failure.traceback_text = text
    return failure
