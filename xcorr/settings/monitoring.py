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
from xcorr.settings.tables import Dispersion, Monitor

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


def band_of(settings: Settings, of: Monitor | Dispersion) -> tuple[float, float]:
    """Return the band (Hz) of the series or stacks that are measured."""
    known = {"": settings.whiten_band_hz, **{b.name: b.band_hz for b in settings.bands}}
    if of.band not in known:
        names = ", ".join(name for name in known if name) or "no further bands"
        table = type(of).__name__.lower()
        raise SettingsError(f"[[{table}]] {of.name}: band = {of.band!r}: there are {names}")
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
    if of.reference in ("rolling", "several") and of.reference_length_s < settings.substack_s:
        raise SettingsError(
            f"[[monitor]] {of.name}: reference_length_s = {of.reference_length_s:g}: must be at least the length of a "
            f"piece, {settings.substack_s} s"
        )
    own = max(float(settings.substack_s), of.moving_s)
    gap = own if of.reference_gap_s is None else of.reference_gap_s
    if of.reference == "rolling" and gap < own:
        raise SettingsError(
            f"[[monitor]] {of.name}: reference_gap_s = {gap:g}: the reference would hold what is compared with it; at "
            f"least {own:g} s, the length of the piece or moving stack"
        )
    spans = of.reference_length_s, gap, of.smooth_s, of.smooth_strength
    return Reference(of.reference, limits[0], limits[1], *spans)


def check_monitor(settings: Settings) -> None:
    """Raise SettingsError for a measurement that cannot be made of the series of these settings."""
    names = [m.name for m in settings.monitor]
    for of in settings.monitor:
        where = f"[[monitor]] {of.name}"
        if re.fullmatch(r"[A-Za-z0-9_-]+", of.name) is None or names.count(of.name) > 1:
            raise SettingsError(f"{where}: names must be different, of letters, digits, _ and -")
        if of.name in ("stations", "pairs", "pieces", "all"):
            raise SettingsError(f"{where}: is the name of a table of the file, or of all measurements; choose another")
        if len({*of.components}) < len(of.components):
            raise SettingsError(f"{where}: components = {list(of.components)}: lists a pair twice")
        there = {*settings.component_pairs}
        for pair in of.components:
            valid = len(pair) == 2 and set(pair) <= set("ZNEHRT") and there.issuperset(stored_pairs(pair))
            if not valid:
                raise SettingsError(
                    f"{where}: components = {list(of.components)}: must be pairs that can be made of those that are "
                    f"correlated, {', '.join(settings.component_pairs)}"
                )
            if set(pair) & set("RT") and pair not in settings.stacked_pairs and settings.rotation_doubts:
                raise SettingsError(f"{where}: {pair}: {'; '.join(settings.rotation_doubts)}")
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
        rate, most = settings.condition.rate_hz, settings.samples(settings.correlate.max_lag_s)
        text = how.window.problem(0.0, how.largest_stretch, rate, most) if of.velocity_km_s is None else ""
        if text:
            raise SettingsError(f"{where}: {text}; use earlier lags or a smaller epsilon_max")
        if how.mwcs is not None:
            _check_windows(settings, where, how, how.mwcs)


def _check_windows(settings: Settings, where: str, how: Measurement, of: Mwcs) -> None:
    """Raise SettingsError for moving windows that are too few, or whose spectra are too short."""
    rate = settings.condition.rate_hz
    first, last = how.window.samples(0.0, rate)
    length, step = round(of.window_s * rate), max(1, round(of.step_s * rate))
    count = (2 if how.window.sides == "both" else 1) * max(0, (last - first + 1 - length) // step + 1)
    least = 2 if of.through_origin else 3
    if count < least:
        raise SettingsError(
            f"{where}: lags from {first / rate:g} to {last / rate:g} s have {count} window(s) of window_s = "
            f"{of.window_s:g} every {of.step_s:g} s; a line needs {least}; take shorter windows or more lags"
        )
    bins = int((of.band_hz[1] - of.band_hz[0]) * 2 * length / rate)
    if bins < 2 or not 1 <= of.smooth_bins <= max(1, bins // 2):
        raise SettingsError(
            f"{where}: windows of {of.window_s:g} s have {bins} spectral bins in {of.band_hz[0]:g} to "
            f"{of.band_hz[1]:g} Hz; there must be at least 2, and smooth_bins = {of.smooth_bins} from 1 to half of them"
        )
