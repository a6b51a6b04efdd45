"""Lets workers begin to import what elements need while the command line still imports its own part."""

from __future__ import annotations

from xcorr.mappings import warm_up

MODULES = ("h5py", "obspy.io.mseed.core", *(f"xcorr.pes.{m}" for m in ("read", "prepare", "correlate", "shards")))


def begin(mapping: str | None, workers: int | None) -> None:
    """Let a mapping begin, if it has something to prepare and there is more than one worker."""
    if mapping is not None and workers != 1:
        warm_up(mapping, MODULES)
