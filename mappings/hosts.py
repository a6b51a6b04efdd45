"""What must be the same on all hosts of a run, and what identifies a host."""

from __future__ import annotations

import platform
import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("xcorr", "numpy", "scipy", "obspy", "h5py")


def host_id() -> str:
    """Return a text that identifies this host and its boot. Another boot of the same host has another text."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()} {boot.read_text().strip() if boot.exists() else ''}"


def software() -> dict[str, str]:
    """Return the versions of Python and of the packages that workers exchange objects of."""
    return {"Python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """Return the model of the processor, which decides the last bits of results."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
