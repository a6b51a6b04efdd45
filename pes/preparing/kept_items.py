"""The products of the elements between reading and correlating, for [[keep]] rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xcorr.core.product import Product
from xcorr.pes.items import STATION_METADATA, ConditionedStation, SpectraBlock
from xcorr.pes.reading.kept_items import trace
from xcorr.pes.reading.waveform import NS
from xcorr.pes.reading.waveform_file import write_miniseed


def _write_traces(item: ConditionedStation, path: Path) -> None:
    """Write the valid parts of conditioned traces, as miniSEED."""
    traces = []
    used = [a for a in item.accounts if a.status == "used"]
    for account, data, mask in zip(used, item.data, item.mask, strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
        for first, stop in edges.reshape(-1, 2).tolist():
            start = item.chunk.start_ns + round(first * NS / item.rate_hz)
            traces.append(trace(item.station, account.seed_id, start, item.rate_hz, data[first:stop]))
    write_miniseed(traces, path)


def _write_spectra(item: SpectraBlock, path: Path) -> None:
    # items have the order that correlators pack; files have windows before bins
    bands = {f"spectra_{k}": spectra.swapaxes(1, 2) for k, spectra in enumerate(item.spectra)}
    with path.open("wb") as file:
        np.savez(file, slots=np.array(item.slots), valid=item.valid, **bands)  # type: ignore[arg-type]


CONDITIONED = Product(ConditionedStation, STATION_METADATA, ".mseed", _write_traces)
SPECTRA = Product(SpectraBlock, STATION_METADATA, ".npz", _write_spectra)
