"""The software and the processor of this machine, which decide the last bits of results."""

from __future__ import annotations

import functools
import platform
from importlib.metadata import version

SOFTWARE = ("xcorr", "numpy", "obspy", "h5py")


@functools.cache
def software() -> str:
    """Return the names and versions that decide results, as one line."""
    return ", ".join(f"{name} {version(name)}" for name in SOFTWARE)


def kernel() -> str:
    """Return processor and BLAS kernel, which decide the last bits."""
    import threadpoolctl

    # of NumPy alone: another package may bring one of its own, which is loaded when it is first needed
    every = [i for i in threadpoolctl.threadpool_info() if i["user_api"] == "blas"]
    libraries = [i for i in every if "numpy" in i["filepath"]] or every
    names = [f"{i['internal_api']} {i['version']} {i.get('architecture', '')}".strip() for i in libraries]
    # sorted, so that another order of loading causes no warning
    return ", ".join([platform.machine(), *sorted(set(names))])
