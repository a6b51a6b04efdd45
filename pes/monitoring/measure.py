"""Measures velocity changes of some pairs: moving stacks, references, a method, errors and flags."""

from __future__ import annotations

import dataclasses

import numpy as np

from xcorr.pes.items import Float32, Float64
from xcorr.pes.monitoring import mwcs, wavelet
from xcorr.pes.monitoring.by_stretching import ByStretching, Found, Pair
from xcorr.pes.monitoring.flags import EDGE, with_limits
from xcorr.pes.monitoring.interpolation import SLOTS
from xcorr.pes.monitoring.measurement import Measurement, S
from xcorr.pes.monitoring.references import Spans, mean, means
from xcorr.pes.monitoring.stretching import Slots

Values = dict[str, np.ndarray]  # by field, [piece, row]
KINDS = {"n_windows": np.int32, "flag": np.uint8}  # of fields; the others are float32
HALF_CYCLE = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class SeriesOfRows:
    """The series of consecutive rows of a campaign, the first of which is ``first_row``.

    ``series`` [piece, row, lag] float32, NaN without windows; ``n`` [piece, row] numbers of windows; ``times_ns``
    [piece, 2] starts and ends of the pieces in order; ``distances_m`` [row]. Rows ``skipped`` (numbers) have no data.
    """

    series: Float32
    n: np.ndarray
    times_ns: np.ndarray
    distances_m: Float64
    first_row: int = 0
    skipped: frozenset[int] = frozenset()


class Measurer:
    """Measures pairs as a :class:`Measurement` says, on series of one rate and largest lag (samples).

    ``window`` has the first and the last lag (samples) that any pair needs; the weights of stretches are made once.
    ``step_ns`` is the time from piece to piece where none is absent.
    """

    def __init__(self, how: Measurement, rate_hz: float, max_lag: int, window: tuple[int, int], step_ns: int) -> None:
        self.how, self.rate_hz, self.max_lag, self.step_ns = how, rate_hz, max_lag, step_ns
        self._stretching = ByStretching(how, rate_hz, max_lag, window) if how.method == "stretching" else None

    def references(self, of: SeriesOfRows) -> Float32:
        """Return the references of rows that stay the same for all pieces, [reference, row, lag]; NaN without data."""
        kind, length = self.how.reference.kind, round(self.how.reference.length_s * S)
        if kind == "whole":
            return mean(of.series, of.n)[0][None]
        if kind == "period":
            limits = np.array([self.how.reference.start_ns]), np.array([self.how.reference.end_ns])
            return means(of.series, of.n, Spans.between(of.times_ns, *limits))[0]
        if kind == "several":
            numbers = np.arange(of.times_ns[0, 0] // length, -(-of.times_ns[-1, 1] // length))
            return means(of.series, of.n, Spans.between(of.times_ns, numbers * length, (numbers + 1) * length))[0]
        return np.empty((0, *of.series.shape[1:]), np.float32)

    def __call__(self, of: SeriesOfRows, wanted: np.ndarray, references: Float32) -> Values:
        """Return what was measured of the pieces ``wanted`` (numbers), by field, [piece, row].

        The other pieces serve in moving stacks and rolling references. ``references`` are those of :meth:`references`.
        """
        moved, windows = self._moved(of, wanted)
        rows = of.series.shape[1]
        found = {name: np.zeros((len(wanted), rows), KINDS.get(name, np.float32)) for name in self.how.fields}
        slots = Slots.of(of.times_ns[wanted, 0], self.step_ns)
        stretched, batch = list[Float32](), slice(0, rows)
        whole, shared = np.empty((0, 0), np.float32), None
        for row in range(rows):
            slot = (of.first_row + row) % SLOTS
            if self._stretching is not None and (row == 0 or slot == 0):  # the next batch of references
                batch = slice(row, min(row + SLOTS - slot, rows))
                stretched = [self._stretching.stretched(one, slot) for one in references[:, batch]]
                whole = self._whole(of, references, batch)
                if self.how.window.velocity_km_s is None:  # all pairs have the same lags
                    shared = self._stretching.precision(whole, self.how.window.samples(0.0, self.rate_hz))
            limits = self.how.window.limits_s(float(of.distances_m[row]))
            if row in of.skipped or not np.isfinite(limits[1]):
                values: Found = {}
            else:
                window = self.how.window.samples(float(of.distances_m[row]), self.rate_hz)
                if self._stretching is None:
                    values = self._by_phase(moved[:, row], references[0, row], window)
                else:
                    at = slice(row - batch.start, row - batch.start + 1)
                    if shared is None:
                        precision = self._stretching.precision(whole[at], window)
                    else:
                        precision = shared[0][at], shared[1][at], shared[2][at]
                    pair = Pair(moved[:, row], slots, window, precision)
                    own = [one[row - batch.start] for one in stretched]
                    values = self._of_pair(self._stretching, pair, of, row, wanted, references, own)
            for name, value in self._flagged(values, windows[:, row] * (row not in of.skipped)).items():
                found[name][:, row] = value
        return found

    def coefficients(self, of: SeriesOfRows) -> Float32:
        """Return the coefficients of stretching with one reference, [piece, step], of the first row."""
        assert self._stretching is not None
        slots = Slots.of(of.times_ns[:, 0], self.step_ns)
        window = self.how.window.samples(float(of.distances_m[0]), self.rate_hz)
        pieces = self._moved(of, np.arange(len(of.series)))[0][:, 0]
        stretched = self._stretching.stretched(self.references(of)[0][:1])[0]
        return self._stretching.coefficients(pieces, slots, window, stretched)

    def _moved(self, of: SeriesOfRows, wanted: np.ndarray) -> tuple[Float32, np.ndarray]:
        """Return what is compared: pieces, or moving stacks that end with them. Pieces without windows stay NaN."""
        n = of.n[wanted]
        if not self.how.moving_s:
            return of.series if len(wanted) == len(of.series) else of.series[wanted], n
        spans = Spans.before(of.times_ns, round(self.how.moving_s * S))
        moved, windows = means(of.series, of.n, Spans(spans.first[wanted], spans.stop[wanted]))
        moved[n == 0] = np.nan
        return moved, np.where(n > 0, windows, 0)

    def _of_pair(
        self,
        by: ByStretching,
        pair: Pair,
        of: SeriesOfRows,
        row: int,
        wanted: np.ndarray,
        references: Float32,
        stretched: list[Float32],
    ) -> Found:
        kind = self.how.reference.kind
        if kind == "rolling":
            return by.rolling(pair, self._rolling_references(of, row, wanted))
        if kind == "none":
            return by.without(pair, of.times_ns[wanted].mean(axis=1) / S)
        if kind == "several":
            return by.several(pair, references[:, row], stretched)
        return by.fixed(pair, stretched[0])

    def _whole(self, of: SeriesOfRows, references: Float32, rows: slice) -> Float32:
        """Return the sum of the references, or without any the mean of all pieces, [row, lag], for their spectra."""
        if self.how.reference.kind == "none":
            return mean(of.series[:, rows], of.n[:, rows])[0]
        whole: Float32 = np.nansum(references[:, rows], axis=0, initial=0)
        return whole

    def _rolling_references(self, of: SeriesOfRows, row: int, wanted: np.ndarray) -> Float32:
        how = self.how.reference
        spans = Spans.before(of.times_ns, round(how.length_s * S), round(how.gap_s * S))
        only = slice(row, row + 1)
        return means(of.series[:, only], of.n[:, only], Spans(spans.first[wanted], spans.stop[wanted]))[0][:, 0]

    def _by_phase(self, pieces: Float32, reference: Float32, window: tuple[int, int]) -> Found:
        """Return what the phases of cross-spectra say of the pieces."""
        if self.how.method == "mwcs":
            how = self.how.mwcs
            assert how is not None
            of = mwcs.delays(pieces, reference, window, self.how.window.sides, self.rate_hz, how)
            dvv, error, coefficient, delay = mwcs.slopes(of, how)
            highest = how.band_hz[1]
        else:
            by = self.how.wavelet
            assert by is not None
            of_lags = window, self.how.window.sides, self.rate_hz, by
            dvv, error, coefficient, delay = wavelet.slopes(pieces, reference, *of_lags)
            highest = by.band_hz[1]
        with np.errstate(invalid="ignore"):  # waves that moved further may be taken for those one cycle away
            odd = np.where(np.abs(dvv) * window[1] / self.rate_hz * highest > HALF_CYCLE, EDGE, 0)
        return {"dvv": dvv, "error": error, "coefficient": coefficient, "delay_s": delay, "odd": odd}

    def _flagged(self, values: Found, windows: np.ndarray) -> Values:
        """Return the fields [piece] of a pair, with flags; without values, those of a pair without data."""
        nothing = np.full(len(windows), np.nan)
        found = {name: values.get(name, nothing) for name in self.how.fields if name not in KINDS}
        least = self.how.least_coefficient, self.how.least_windows
        odd = values.get("odd", np.zeros(len(windows), np.uint8))
        flag = with_limits(odd, found["dvv"], found["coefficient"], windows, least)
        return {**found, "n_windows": windows, "flag": flag}


def window_of_all(how: Measurement, distances_m: Float64, rate_hz: float) -> tuple[int, int]:
    """Return the first and the last lag (samples) that any pair needs."""
    known = distances_m[np.isfinite(distances_m)]
    ends = (float(known.min()), float(known.max())) if how.window.velocity_km_s and len(known) else (0.0, 0.0)
    limits = [how.window.samples(distance, rate_hz) for distance in ends]
    return min(low for low, _ in limits), max(high for _, high in limits)
