"""Text files that appear at once; Python files imported as modules, so that other processes can do the same."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from xcorr.core.errors import WorkflowLoadError


def replace_text(path: Path, text: str) -> None:
    """Write a text file so that it is seen whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_text(text)
    temporary.replace(path)


def load_file(path: Path) -> ModuleType:
    """Import a file under its stem, with its folder on the path, so that other processes can do the same."""
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = path.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path.resolve()):
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
    except BaseException:
        del sys.modules[name]
        raise
    return module
