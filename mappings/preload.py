"""What the server of processes imports before it forks workers: the modules of the elements.

The server finds them where this process does. In Python 3.11 it does not by itself: each worker would import them anew.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys

VARIABLE = "XCORR_PRELOAD"


def said(modules: set[str]) -> str:
    """Return the value of the variable that has the server import some modules."""
    return json.dumps({"path": sys.path, "modules": sorted(modules)})


def _preload(path: list[str], modules: list[str]) -> None:
    sys.path[:] = path
    for name in modules:
        with contextlib.suppress(ImportError):  # the worker that needs it says so
            importlib.import_module(name)


if VARIABLE in os.environ:
    _preload(**json.loads(os.environ.pop(VARIABLE)))
