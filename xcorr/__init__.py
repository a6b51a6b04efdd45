"""Ambient-noise cross-correlation of seismic networks as a stream workflow.

>>> import xcorr
>>> xcorr.Settings().correlate.max_lag_s
120.0
"""

from __future__ import annotations

import importlib
from typing import Any

_PLACES = {
    "open": "xcorr.results",
    "run": "xcorr.campaign.main_job",
    "Results": "xcorr.results",
    "run_campaign": "xcorr.campaign.run",
    "Settings": "xcorr.settings",
    "build_settings": "xcorr.settings.toml:build",
}
__all__ = ["Results", "Settings", "__version__", "build_settings", "open", "run", "run_campaign"]


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that a program pays only for what it uses."""
    if name == "__version__":
        from importlib.metadata import version

        return version("xcorr")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    return getattr(importlib.import_module(module), attribute or name)
