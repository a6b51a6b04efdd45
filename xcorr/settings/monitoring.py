"""Measurements of velocity changes, computed once from their settings."""

from __future__ import annotations

import re

from xcorr.pes.monitoring.lag_windows import LagWindow
from xcorr.pes.monitoring.measurement import Measurement, Reference
from xcorr.pes.monitoring.mwcs import Mwcs
from xcorr.pes.monitoring.wavelet import Wavelet
from xcorr.pes.parameters import ParameterError
from xcorr.pes.preparing.orient import stored_pairs
from xcorr.pes.reading.times import time_ns
from xcorr.settings.schema import Settings, SettingsError
from xcorr.settings.tables import Monitor

PERIODS, STEPS = 2, 4  # of the default window of moving-window cross-spectra: its length in periods, its steps


def measurement_of(settings: Settings, of: Monitor) -> Measurement:
    """Return what a table of the settings asks for. Raises SettingsError for what cannot be."""
    band = of.band_hz or band_of(settings, of)
    window_s = of.window_s or PERIODS / band[0]
    try:
        return Measurement(
            window_of(settings, of),
            of.method,
            _reference(settings, of),
            of.epsilon_max,
            of.steps,
            of.moving_s,
            of.least_coefficient,
            of.least_windows,
            of.compare_sides,
            Mwcs(
                band,
                window_s,
                of.step_s or window_s / STEPS,
                of.smooth_bins,
                of.least_coherence,
                of.most_error_s,
                of.most_delay_s,
                of.through_origin,
            )
            if of.method == "mwcs"
            else None,
            Wavelet(band, of.least_coherence, of.through_origin) if of.method == "wavelet" else None,
        )
    except ParameterError as error:
        raise SettingsError(f"[[monitor]] {of.name}: {error}") from None


def window_of(settings: Settings, of: Monitor) -> LagWindow:
    """Return the lags that are compared."""
    most = settings.correlate.max_lag_s
    first, last = of.lag_s or (most / 4, 3 * most / 4)
    return LagWindow(first, last, of.velocity_km_s, of.sides)


def band_of(settings: Settings, of: Monitor) -> tuple[float, float]:
    """Return the band (Hz) of the series that are measured."""
    known = {"": settings.whiten_band_hz, **{b.name: b.band_hz for b in settings.bands}}
    if of.band not in known:
        names = ", ".join(name for name in known if name) or "no further bands"
        raise SettingsError(f"[[monitor]] {of.name}: band = {of.band!r}: there are {names}")
    return known[of.band]


def components_of(settings: Settings, of: Monitor) -> tuple[str, ...]:
    """Return the component pairs that are measured."""
    return of.components or settings.outputs


def _reference(settings: Settings, of: Monitor) -> Reference:
    limits = [0, 0]
    if of.reference == "period":
        for k, (key, text) in enumerate((("start", of.reference_start), ("end", of.reference_end))):
            if text is None:
                raise SettingsError(f"[[monitor]] {of.name}: reference = 'period' needs reference_{key}")
            try:
                limits[k] = time_ns(text)
            except ValueError:
                raise SettingsError(f"[[monitor]] {of.name}: reference_{key} = {text!r}: is not a time") from None
    if of.reference == "rolling" and of.reference_length_s < settings.substack_s:
        raise SettingsError(
            f"[[monitor]] {of.name}: reference_length_s = {of.reference_length_s:g}: must be at least the length of a "
            f"piece, {settings.substack_s} s"
        )
    spans = of.reference_length_s, of.reference_gap_s, of.smooth_s, of.smooth_strength
    return Reference(of.reference, limits[0], limits[1], *spans)


def check_monitor(settings: Settings) -> None:
    """Raise SettingsError for a measurement that cannot be made of the series of these settings."""
    names = [m.name for m in settings.monitor]
    for of in settings.monitor:
        where = f"[[monitor]] {of.name}"
        if re.fullmatch(r"[A-Za-z0-9_-]+", of.name) is None or names.count(of.name) > 1:
            raise SettingsError(f"{where}: names must be different, of letters, digits, _ and -")
        if of.name in ("stations", "pairs", "pieces"):
            raise SettingsError(f"{where}: is the name of a table of the file; choose another one")
        there = {*settings.component_pairs}
        for pair in of.components:
            valid = len(pair) == 2 and set(pair) <= set("ZNEHRT") and there.issuperset(stored_pairs(pair))
            if not valid:
                raise SettingsError(
                    f"{where}: components = {list(of.components)}: must be pairs that can be made of those that are "
                    f"correlated, {', '.join(settings.component_pairs)}"
                )
        if of.moving_s and of.moving_s < settings.substack_s:
            raise SettingsError(
                f"{where}: moving_s = {of.moving_s:g}: must be 0, or at least the length of a piece, "
                f"{settings.substack_s} s"
            )
        low, high = of.band_hz or band_of(settings, of)
        nyquist = settings.condition.rate_hz / 2
        if not 0 < low < high < nyquist:
            raise SettingsError(f"{where}: band_hz = ({low:g}, {high:g}): needs 0 < f1 < f2 < {nyquist:g} Hz")
        how = measurement_of(settings, of)
        if of.velocity_km_s is None:
            largest = how.epsilon_max if of.method == "stretching" else 0.0
            if text := how.window.problem(
                0.0, largest, settings.condition.rate_hz, settings.samples(settings.correlate.max_lag_s)
            ):
                raise SettingsError(f"{where}: {text}; use earlier lags or a smaller epsilon_max")
