"""Selective storage: intermediate items that pass a rule are kept while the run goes on, with their provenance."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.core import Observer, Plan
from xcorr.core.errors import nearest
from xcorr.core.observe import InstanceStatistics
from xcorr.pes.items import (
    ROWS_METADATA,
    STATION_METADATA,
    ConditionedStation,
    CorrelationRows,
    RawStation,
    SpectraBlock,
)
from xcorr.pes.segments import NS
from xcorr.pes.shards import sync_and_rename
from xcorr.pes.waveform_file import write_miniseed
from xcorr.provenance.condition import Condition
from xcorr.provenance.recorder import metadata_of
from xcorr.provenance.store import INSERTS, ProvenanceError, create, worker_file
from xcorr.settings import Keep

KEEPABLE: dict[str, tuple[Any, tuple[str, ...]]] = {  # what an element's output holds, and what it says of itself
    "ReadStation": (RawStation, STATION_METADATA),
    "ConditionStation": (ConditionedStation, STATION_METADATA),
    "NormalizeStation": (ConditionedStation, STATION_METADATA),
    "TransformStation": (SpectraBlock, STATION_METADATA),
    "CorrelateStrips": (CorrelationRows, ROWS_METADATA),
}


TEXTS = ("chunk", "station", "network", "band", "components")  # metadata that are texts; others are numbers


def check_rules(rules: Sequence[Keep]) -> list[Condition]:
    """Return the conditions of rules. Raises ProvenanceError for an unknown element, port, field or operator."""
    conditions = []
    for rule in rules:
        if rule.element not in KEEPABLE:
            raise ProvenanceError(
                f"keep.element = {rule.element!r}: no element whose items can be kept"
                f"{nearest(rule.element, KEEPABLE)}; there are {', '.join(KEEPABLE)}"
            )
        if rule.port != "output":
            raise ProvenanceError(f"keep.port = {rule.port!r}: {rule.element} has the port 'output' alone")
        fields = KEEPABLE[rule.element][1]
        conditions.append(Condition(rule.condition, fields))
        conditions[-1]({name: "" if name in TEXTS else 0 for name in fields})  # can its values be compared?
    return conditions


class Keeper(Observer):
    """Keeps what rules ask for, below ``folder`` of the campaign unless a rule names a place of its own."""

    def __init__(self, campaign: Path, run: int, rules: Sequence[Keep]) -> None:
        self.campaign, self.run, self.rules = campaign, run, tuple(rules)

    def at_work(self, plan: Plan, worker: int) -> Observer:
        """Return the keeper of a worker."""
        return _OfWorker(self, worker)


class _OfWorker(Observer):
    def __init__(self, of: Keeper, worker: int) -> None:
        self.of, self.worker = of, worker
        self.rules = list(zip(of.rules, check_rules(of.rules), strict=True))

    def wrote(self, statistics: InstanceStatistics, port: str, item: Any) -> None:
        """Keep an item if a rule says so."""
        for rule, condition in self.rules:
            known = rule.element == statistics.element and rule.port == port
            if known and isinstance(item, KEEPABLE[rule.element][0]) and condition(metadata_of(item)):
                self._keep(rule, f"{rule.element}.{port}:{item.identity}", item)

    def _keep(self, rule: Keep, name: str, item: Any) -> None:
        suffix, write = WRITERS[type(item)]
        folder = self.of.campaign / rule.folder / rule.element
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / (item.identity.replace("/", "_") + suffix)
        temporary = folder / f".{path.name}.{os.getpid()}.part"
        write(item, temporary)
        digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
        size = temporary.stat().st_size
        sync_and_rename(temporary, path)
        text = f"{rule.element}.{rule.port} where {rule.condition or 'always'}"
        database = create(worker_file(self.of.campaign, self.of.run, self.worker), indexed=False)
        try:
            row = self.of.run, name, str(path), size, digest, text
            database.execute(INSERTS["kept"].replace("IGNORE", "REPLACE"), row)
        finally:
            database.close()


def _write_traces(item: RawStation | ConditionedStation, path: Path) -> None:
    """Write miniSEED: the segments as read, or the valid parts of conditioned traces."""
    traces = []
    if isinstance(item, RawStation):
        for channel in item.channels:
            traces += [
                _trace(item.station, channel.account.seed_id, s.start_ns, float(s.rate_hz), s.data)
                for s in channel.segments
            ]
    else:
        used = [a for a in item.accounts if a.status == "used"]
        for account, data, mask in zip(used, item.data, item.mask, strict=True):
            edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
            for first, stop in edges.reshape(-1, 2).tolist():
                start = item.chunk.start_ns + round(first * NS / item.rate_hz)
                traces.append(_trace(item.station, account.seed_id, start, item.rate_hz, data[first:stop]))
    write_miniseed(traces, path)


def _trace(station: str, seed_id: str, start_ns: int, rate_hz: float, data: np.ndarray) -> Any:
    import obspy

    network, code = station.split(".")
    _, _, location, channel = seed_id.split(".") if seed_id.count(".") == 3 else ("", "", "", "")
    header: dict[str, Any] = {"network": network, "station": code, "location": location, "channel": channel}
    header |= {"starttime": obspy.UTCDateTime(ns=start_ns), "sampling_rate": rate_hz}
    return obspy.Trace(np.ascontiguousarray(data), header)


def _write_spectra(item: SpectraBlock, path: Path) -> None:
    bands = {f"spectra_{k}": spectra.swapaxes(1, 2) for k, spectra in enumerate(item.spectra)}
    with path.open("wb") as file:
        np.savez(file, slots=np.array(item.slots), valid=item.valid, **bands)  # type: ignore[arg-type]


def _write_rows(item: CorrelationRows, path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, data=item.data, n_windows=item.n_windows, first_row=item.first_row)


WRITERS: dict[type, tuple[str, Callable[[Any, Path], None]]] = {
    RawStation: (".mseed", _write_traces),
    ConditionedStation: (".mseed", _write_traces),
    SpectraBlock: (".npz", _write_spectra),
    CorrelationRows: (".npz", _write_rows),
}
