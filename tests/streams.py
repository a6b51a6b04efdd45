"""Runs parts of the application's stream on arrays."""

from __future__ import annotations

import numpy as np

from xcorr.core import GenericPE, WorkflowGraph
from xcorr.mappings import run
from xcorr.pes import CorrelateStrips, TransformStation
from xcorr.pes.correlating.layout import Layout
from xcorr.pes.correlating.rows import CorrelationRows, StripEnd
from xcorr.pes.items import Chunk, ConditionedStation, SlotAccount, Tombstone
from xcorr.pes.preparing.estimator import Estimator
from xcorr.pes.preparing.whiten import Band, Whitening
from xcorr.pes.preparing.windows import LOW_COVERAGE, USED

CHUNK = Chunk(0, 0, 86_400 * 10**9, 0, 86_400 * 10**9)


class Items(GenericPE):
    """A source of given items."""

    def __init__(self, items):
        super().__init__()
        self._add_output("output")
        self.items = items

    def process(self, inputs):
        for item in self.items:
            self.write("output", item)


def run_chain(items, *elements, mapping="sequential", workers=None):
    """Return what comes out of a chain of elements fed with items."""
    graph = WorkflowGraph()
    previous = Items(items)
    for element in elements:
        graph.connect(previous, "output", element, "input")
        previous = element
    outcome = run(graph, mapping=mapping, workers=workers)
    return outcome.results.get(elements[-1].id, {}).get("output", [])


def conditioned(number, data, mask=None, valid=None, windows=1, strips=(0,), rate=4.0, components=1):
    """A ConditionedStation of one or more slots: data [slot, sample]."""
    data = np.atleast_2d(np.asarray(data, np.float32))
    mask = np.ones(data.shape, bool) if mask is None else np.atleast_2d(mask)
    verdict = np.full((len(data), windows), USED, np.int8)
    if valid is not None:
        verdict[~np.atleast_2d(valid)] = LOW_COVERAGE
    accounts = tuple(SlotAccount(number * components + k, 0, "used") for k in range(len(data)))
    return ConditionedStation(CHUNK, f"XX.S{number}", strips, accounts, rate, data * mask, mask, verdict)


def correlate(data, lags, band, *, pairs=("ZZ",), **options):
    """Correlate stations as :func:`correlate_all` does, in one band, all windows together.

    Returns {pair: (correlations [row, lag], windows [row])} over all rows, and the accounts seen.
    """
    out, ends = correlate_all(data, lags, {"": band}, pairs=pairs, **options)
    return {p: (out["", p][0][0], out["", p][1][0]) for p in pairs}, ends


def correlate_all(
    data,
    lags,
    bands,
    *,
    rate=4.0,
    length=None,
    valid=None,
    masks=None,
    whitening="phase",
    taper=0.01,
    smooth=0.02,
    per="channel",
    components=("Z",),
    pairs=("ZZ",),
    block=8,
    absent=(),
    instances=None,
    mapping="sequential",
    workers=None,
    substacks=None,
    chosen=None,
    **how,
):
    """Correlate stations: data [station, slot, sample] (or [station, sample]), windows of ``length`` side by side.

    Returns {(band, pair): (correlations [substack, row, lag], windows [substack, row])}, and the ends of strips.
    ``how`` goes to the estimator.
    """
    data = np.asarray(data)
    data = data[:, None, :] if data.ndim == 2 else data
    stations, _, samples = data.shape
    length = length or samples
    count = samples // length
    layout = Layout(stations, components, pairs, block, chosen)
    made = tuple(Band.of(length, lags, rate, hz, taper, name) for name, hz in bands.items())
    estimator = Estimator(
        unbiased=whitening == "none" and how.get("method") not in ("coherency", "deconvolution"), **how
    )
    if estimator.method == "phase":
        made = tuple(b.whole() for b in made)
    items = []
    for s in range(stations):
        strips = layout.strips_of(s)
        if s in absent:
            accounts = tuple(SlotAccount(s * len(components) + k, 0, "absent") for k in range(len(components)))
            items.append(Tombstone(CHUNK, f"XX.S{s}", strips, accounts))
        else:
            v = None if valid is None else np.broadcast_to(valid[s], (len(components), count))
            m = None if masks is None else masks[s]
            items.append(conditioned(s, data[s], m, v, count, strips, rate, len(components)))
    names = tuple(f"XX.S{s}" for s in range(stations))
    auto = chosen is not None and bool(np.diag(chosen).any()) and estimator.keeps_power
    correlator = CorrelateStrips(layout, made, count, names, estimator, substacks)
    if instances is not None:  # that many copies share the strips, whatever the number of workers
        correlator.keyed, correlator.numprocesses = False, instances
    rows = run_chain(
        items,
        TransformStation(made, length, Whitening(whitening, smooth, per), estimator, auto, substacks),
        correlator,
        mapping=mapping,
        workers=workers,
    )
    shape = len(substacks or (0,)), layout.rows
    out = {
        (b, p): (np.full((*shape, 2 * lags + 1), np.nan, np.float32), np.zeros(shape, int))
        for b in bands
        for p in pairs
    }
    for r in rows:
        if isinstance(r, CorrelationRows):
            first = layout.strip_rows(r.strip).start + r.first_row
            where = r.substack, slice(first, first + len(r.data))
            series, n = out[r.band, r.components]
            assert np.isnan(series[where]).all(), "rows came twice"
            series[where], n[where] = r.data, r.n_windows
    ends = [r for r in rows if isinstance(r, StripEnd)]
    assert sorted(e.strip for e in ends) == list(layout.strips)
    return out, ends
