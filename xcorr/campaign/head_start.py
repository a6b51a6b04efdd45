"""Lets workers import the modules of elements early, while the command line still imports its own modules."""

from __future__ import annotations

from xcorr.mappings import engine

ELEMENTS = ("reading.read", "preparing.transform", "correlating.correlate", "storing.write_shards")
MODULES = ("h5py", "obspy.io.mseed.core", *(f"xcorr.pes.{m}" for m in ELEMENTS))


def begin(mapping: str | None, workers: int | None) -> None:
    """Let the named mapping import the modules of elements, unless the run has one worker."""
    if mapping is not None and workers != 1:
        engine(mapping).warm_up(MODULES)
