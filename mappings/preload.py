"""The module that the server of processes imports before it forks workers. It imports the modules of the elements.

The server gets the search path of this process. Without it, the server of Python 3.11 would not find the modules, and
each worker would import them again.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys

VARIABLE = "XCORR_PRELOAD"


def said(modules: set[str]) -> str:
    """Return the value of the environment variable that tells the server which modules to import."""
    return json.dumps({"path": sys.path, "modules": sorted(modules)})


def preload(path: list[str], modules: list[str]) -> None:
    """Take a search path, and import modules as far as that is possible."""
    sys.path[:] = path
    for name in modules:
        with contextlib.suppress(Exception, SystemExit):  # the worker that needs the module will raise the error
            importlib.import_module(name)


def reseed() -> None:
    """Give this process random numbers of its own: all forks of a server would draw the same."""
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


if VARIABLE in os.environ:
    preload(**json.loads(os.environ.pop(VARIABLE)))
