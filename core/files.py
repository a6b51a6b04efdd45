"""Text files that appear at once; Python files imported as modules, so that other processes can do the same."""

from __future__ import annotations

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


def replace_text(path: Path, text: str) -> None:
    """Write a text file so that it is seen whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_text(text)
    temporary.replace(path)


def source_of(module: str) -> Path | None:
    """Return the source of a module; only the top of its package is looked up, which imports nothing."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # __main__, or a name that is none
        return None
    if spec is None or spec.origin is None:
        return None
    found = [Path(spec.origin)] if not rest else []
    for root in (spec.submodule_search_locations or ()) if rest else ():
        found += [Path(root, *rest).with_suffix(".py"), Path(root, *rest, "__init__.py")]
    return next((f for f in found if f.suffix == ".py" and f.is_file()), None)


class _FilesByName(importlib.abc.MetaPathFinder):
    """Finds modules in files that need not be on the path."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Return where a module is, if it is one of these files."""
        return importlib.util.spec_from_file_location(name, self.files[name]) if name in self.files else None


def find_modules_in(files: dict[str, str]) -> None:
    """Let these modules, by name, be imported from these files, as :func:`load_file` did in another process."""
    sys.meta_path.insert(0, _FilesByName(files))


_loaded: dict[str, str] = {}


def loaded_files() -> dict[str, str]:
    """Return, by module name, the files that :func:`load_file` has imported in this process."""
    return dict(_loaded)


def load_file(place: str | Path) -> ModuleType:
    """Import a file under its stem; what lies beside it can be imported too, unless an installed module has its name.

    Its folder goes to the end of the path: a ``numpy.py`` or ``signal.py`` there is in nobody's way. Raises
    WorkflowLoadError if the name is taken, or, showing the frames of the file alone, if its code fails.
    """
    path = Path(place)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    name = path.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path.resolve()):
        _loaded[name] = str(path.resolve())
        return known
    if known is not None:
        raise WorkflowLoadError(f"{path} cannot be loaded as module {name!r}: that name is taken; rename the file")
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise WorkflowLoadError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if is_interrupt(error) or isinstance(error, XcorrError):
            raise
        raise failed_code(str(path), error) from error
    _loaded[name] = str(path.resolve())
    return module


def failed_code(where: str, error: BaseException) -> WorkflowLoadError:
    """Return the error for a user's code that raised: what it raised, and the frames of that code, not of ours."""
    ours = str(Path(__file__).parent.parent)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(("<frozen", ours))]
    text = "".join([*traceback.format_list(frames), *traceback.format_exception_only(error)])
    failure = WorkflowLoadError(f"{where} raised {type(error).__name__}: {error}")
    failure.traceback_text = text
    return failure
