"""Checks the rules between settings. Each setting has been checked by itself before."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from xcorr.pes.preparing import whiten
from xcorr.pes.preparing.orient import stored_pairs
from xcorr.pes.reading.source import Source, SourceError, source_class
from xcorr.pes.storing.smaller import ALL_BITS
from xcorr.settings import Settings, SettingsError
from xcorr.settings.monitoring import check_monitor

Require = Callable[[bool, str, Any, str], None]


def check(s: Settings) -> None:
    """Raise SettingsError for settings that exclude each other. The text names key, value and rule."""

    def require(holds: bool, key: str, value: Any, rule: str) -> None:
        if not holds:
            raise SettingsError(f"{key} = {value!r}: {rule}")

    low, high = s.condition.band_hz
    nyquist = s.condition.rate_hz / 2
    require(
        0 < low < high < nyquist,
        "condition.band_hz",
        s.condition.band_hz,
        f"needs 0 < f1 < f2 < {nyquist:g} Hz, half of condition.rate_hz",
    )
    require(
        not s.keep or s.provenance.level != "off",
        "keep",
        [k.element for k in s.keep],
        'is not possible with provenance.level = "off"; set another level',
    )
    low, high = s.whiten_band_hz
    require(0 < low < high < nyquist, "whiten.band_hz", s.whiten.band_hz, f"needs 0 < f1 < f2 < {nyquist:g} Hz")
    require(
        s.stack.series_bits == ALL_BITS or s.stack.compression != "none",
        "stack.series_bits",
        s.stack.series_bits,
        'needs stack.compression = "lz4" or "gzip", without which fewer bits save no space',
    )
    require(len(s.stack.methods) > 0, "stack.methods", s.stack.methods, "must name at least one method")
    _check_durations(s, require)
    require(s.correlate.block % 8 == 0, "correlate.block", s.correlate.block, "must be a multiple of 8")
    _check_components(s, require)
    for section in ("normalize", "whiten"):
        given = getattr(s, section)
        require(
            given.method == "none" or given.per == "channel" or "H" not in s.components or s.components == ("H",),
            f"{section}.per",
            given.per,
            'must be "channel" with hydrophones (H), whose pressure shares no weights with ground motion',
        )
    require(
        s.condition.response == "none" or s.data.metadata is not None or _has_metadata(s.data.source),
        "condition.response",
        s.condition.response,
        "needs the responses: set data.metadata to a StationXML file",
    )
    _check_methods(s, require)
    _check_bands(s, require)
    check_monitor(s)
    if s.dispersion:
        from xcorr.settings.dispersion import check_dispersion  # here, because its modules take a while to import

        check_dispersion(s)


def _check_components(s: Settings, require: Require) -> None:
    """Check the component pairs of pairs of stations and of autocorrelations."""
    c = s.correlate
    for key, given, letters in (
        ("components", c.components, "ZNEHRT"),
        ("autocorrelation_components", c.autocorrelation_components, "ZNEH"),
    ):
        listed = ("ZZ",) if given is None or given == ("all",) else given
        valid = all(len(p) == 2 and set(p) <= set(letters) for p in listed) and len({*listed}) == len(listed) > 0
        rule = f'must list different pairs of {", ".join(letters)} such as "ZZ", or be "all"'
        require(valid, f"correlate.{key}", given, rule)
    there = {*s.component_pairs}
    require(
        all(len(p) == 2 and set(p) <= set("ZNEHRT") and there.issuperset(stored_pairs(p)) for p in s.stack.components),
        "stack.components",
        s.stack.components,
        f"must list pairs that can be made of those that are correlated, {', '.join(s.component_pairs)}",
    )
    require(
        c.autocorrelation_components is None or c.autocorrelations,
        "correlate.autocorrelation_components",
        c.autocorrelation_components,
        "needs correlate.autocorrelations = true",
    )


def _has_metadata(address: str | None) -> bool:
    """Return whether a source may have metadata of its own."""
    try:
        return address is not None and source_class(address).metadata is not Source.metadata
    except SourceError:
        return False


def _check_durations(s: Settings, require: Require) -> None:
    """Check lengths of chunks, windows, lags and edges against each other and the sampling rate."""
    for key, value in (
        ("condition.edge_s", s.condition.edge_s),
        ("normalize.window_s", s.normalize.window_s),
        ("whiten.taper_hz", s.whiten.taper_hz),
        ("whiten.smooth_hz", s.whiten.smooth_hz),
        ("correlate.smooth_hz", s.correlate.smooth_hz),
    ):
        is_number = isinstance(value, float) and value >= 0
        unit = {"s": "seconds", "hz": "Hz"}[key.rpartition("_")[2]]
        require(is_number or value == "auto", key, value, f'must be "auto" or a number of {unit}')
    for key, value in (
        ("data.chunk_s", s.data.chunk_s),
        ("window.length_s", s.window.length_s),
        ("window.step_s", s.window.step_s),
        ("correlate.max_lag_s", s.correlate.max_lag_s),
    ):
        whole = math.isclose(value * s.condition.rate_hz, s.samples(value), abs_tol=1e-6)
        require(whole, key, value, f"must be a whole number of samples at {s.condition.rate_hz:g} Hz")
    require(
        s.window.length_s <= s.data.chunk_s,
        "window.length_s",
        s.window.length_s,
        f"is longer than a chunk ({s.data.chunk_s} s)",
    )
    require(s.window.min_coverage <= 1, "window.min_coverage", s.window.min_coverage, "is a share, must be at most 1")
    require(
        0 < s.correlate.max_lag_s < s.window.length_s,
        "correlate.max_lag_s",
        s.correlate.max_lag_s,
        f"must be positive and below window.length_s ({s.window.length_s:g} s)",
    )


def _check_methods(s: Settings, require: Require) -> None:
    """Check the kind of correlation, whitening, the selection of pairs and the pieces against each other."""
    c, method = s.correlate, s.correlate.method
    require(
        method == "cross-correlation" or s.whiten.method == "none",
        "whiten.method",
        s.whiten.method,
        f'must be "none" with correlate.method = "{method}": '
        + (
            "phasors have no amplitude to whiten"
            if method == "phase"
            else "with whitened spectra its result would be the cross-correlation"
        ),
    )
    require(
        not (method == "phase" and s.bands),
        "bands",
        [b.name for b in s.bands],
        'must be empty with correlate.method = "phase", which has one band',
    )
    require(
        method != "phase" or c.amplitude != "energy",
        "correlate.amplitude",
        c.amplitude,
        'must be "none" or "peak" with correlate.method = "phase", which is normalised already',
    )
    if c.distance_km is not None:
        require(
            0 <= c.distance_km[0] <= c.distance_km[1], "correlate.distance_km", c.distance_km, "needs 0 <= d1 <= d2"
        )
    for pattern in c.pairs:
        require(
            pattern.count("-") == 1 and all("." in end for end in pattern.split("-")),
            "correlate.pairs",
            pattern,
            'must name two stations, such as "XX.A-XX.B"; * and ? are allowed',
        )
    require(
        s.data.chunk_s % s.substack_s == 0 and s.substack_s >= s.window.step_s,
        "stack.substack_s",
        s.stack.substack_s,
        f"must divide data.chunk_s ({s.data.chunk_s} s) and be at least window.step_s ({s.window.step_s:g} s)",
    )


def _check_bands(s: Settings, require: Require) -> None:
    nyquist = s.condition.rate_hz / 2
    names = [b.name for b in s.bands]
    for band in s.bands:
        good = re.fullmatch(r"[A-Za-z0-9_.-]+", band.name) is not None and names.count(band.name) == 1
        require(good, "bands.name", band.name, "must be different names of letters, digits, _ . and -")
        low, high = band.band_hz
        require(0 < low < high < nyquist, "bands.band_hz", band.band_hz, f"needs 0 < f1 < f2 < {nyquist:g} Hz")
    if s.normalize.band_hz is not None:
        low, high = s.normalize.band_hz
        require(
            0 < low < high < nyquist, "normalize.band_hz", s.normalize.band_hz, f"needs 0 < f1 < f2 < {nyquist:g} Hz"
        )
    sizes = s.samples(s.window.length_s), s.samples(s.correlate.max_lag_s)
    for key, band_hz in (("whiten.band_hz", s.whiten_band_hz), *(("bands.band_hz", b.band_hz) for b in s.bands)):
        try:
            whiten.spectral_grid(*sizes, s.condition.rate_hz, band_hz)
        except ValueError as error:
            raise SettingsError(f"{key} = {band_hz!r}: {error}") from None
