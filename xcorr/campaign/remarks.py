"""What a run says beside its results: files and metadata that changed, another machine, coordinates that are stale."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xcorr.network.survey import Survey
from xcorr.pes.reading.waveform import day_of
from xcorr.pes.stacking.result_file import NAME as RESULTS
from xcorr.store.ledger import Ledger
from xcorr.store.software import kernel, software


def has_other_places(folder: Path, found: Survey) -> bool:
    """Return whether the results have other coordinates than the campaign, as after a run that was cut short."""
    import h5py

    try:
        with h5py.File(folder / RESULTS) as file:
            table = file["stations"][...]
    except (OSError, KeyError):  # there are none, or damaged ones: they are made anyway
        return False
    known = np.array([(s.coordinates.latitude, s.coordinates.longitude) for s in found.stations[: len(table)]])
    there = np.stack([table["latitude"], table["longitude"]], axis=1)
    return not np.array_equal(known, there, equal_nan=True)


def new_files(changed: list[tuple[int, int]], names: list[str]) -> list[str]:
    """Return a warning of channels whose files are new or have changed since they were read."""
    if not changed:
        return []
    slot, first = changed[0]
    channels, chunks = len({s for s, _ in changed}), len({start for _, start in changed})
    return [
        f"files of {channels} channel(s) in {chunks} chunk(s) are new or have changed, such as {names[slot]} on "
        f"{day_of(first)}; --refresh reads them again"
    ]


def other_metadata(changed: list[tuple[int, int]], names: list[str]) -> list[str]:
    """Return an error if results were made with metadata that say something else now."""
    if not changed:
        return []
    slot, first = changed[0]
    return [
        f"{len({s for s, _ in changed})} channel(s), such as {names[slot]} on {day_of(first)}, were correlated with "
        "other station metadata (response, direction or place) than those of now; --refresh correlates them again, if "
        "their series were kept"
    ]


def other_kernel(ledger: Ledger) -> list[str]:
    """Return a warning if the campaign was begun with other libraries or another processor: bits may differ."""
    now, before = f"{software()}; {kernel()}", ledger.fact("kernel")
    if before in ("", now):
        ledger.keep_fact("kernel", now)
        return []
    return [f"this campaign was begun with {before}, this run has {now}; the last bits of new shards may differ"]
