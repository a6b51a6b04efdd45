"""Lets workers import what elements need while the command line still imports its own part."""

from __future__ import annotations

from xcorr.mappings import engine

ELEMENTS = ("reading.read", "preparing.transform", "correlating.correlate", "storing.shards")
MODULES = ("h5py", "obspy.io.mseed.core", *(f"xcorr.pes.{m}" for m in ELEMENTS))


def begin(mapping: str | None, workers: int | None) -> None:
    """Let a mapping begin, if it has something to prepare and there is more than one worker."""
    if mapping is not None and workers != 1:
        engine(mapping).warm_up(MODULES)
