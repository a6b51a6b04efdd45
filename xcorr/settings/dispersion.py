"""Measurements of dispersion, computed once from their settings."""

from __future__ import annotations

import re

import numpy as np

from xcorr.pes.dispersion import measure
from xcorr.pes.parameters import ParameterError
from xcorr.settings.monitoring import band_of
from xcorr.settings.schema import Settings, SettingsError
from xcorr.settings.tables import Dispersion

PERIODS = 30  # by default
MEASURED = ("ZZ", "RR", "TT")  # component pairs whose spectra are known
MOST = 1000  # periods


def dispersion_of(settings: Settings, of: Dispersion) -> measure.Dispersion:
    """Return what a table of the settings asks for. Raises SettingsError for what cannot be."""
    try:
        return measure.Dispersion(
            periods_of(settings, of),
            of.velocity_km_s,
            of.least_snr,
            of.least_wavelengths_phase,
            of.least_wavelengths_group,
            of.least_wavelengths_spectrum,
            of.most_difference,
        )
    except ParameterError as error:
        raise SettingsError(f"[[dispersion]] {of.name}: {error}") from None


def periods_of(settings: Settings, of: Dispersion) -> tuple[float, ...]:
    """Return the periods (s), rising: those of the table, or equally far apart in logarithm over the band."""
    if of.periods_s:
        return of.periods_s
    low, high = band_of(settings, of)
    taper = settings.taper_hz((low, high)) if settings.whiten.method != "none" else 0.0
    return tuple(np.geomspace(1 / (high - taper), 1 / (low + taper), PERIODS).round(6).tolist())


def components_of(settings: Settings, of: Dispersion) -> tuple[str, ...]:
    """Return the component pairs that are measured."""
    return of.components or tuple(pair for pair in MEASURED if pair in settings.stacked_pairs)


def stack_of(settings: Settings, of: Dispersion) -> str:
    """Return the stack that is measured."""
    methods = settings.stack.methods
    return of.stack or ("linear" if "linear" in methods else methods[0])


def check_dispersion(settings: Settings) -> None:
    """Raise SettingsError for a measurement that cannot be made of the stacks of these settings."""
    names = [m.name for m in settings.dispersion]
    for of in settings.dispersion:
        where = f"[[dispersion]] {of.name}"
        if re.fullmatch(r"[A-Za-z0-9_-]+", of.name) is None or names.count(of.name) > 1:
            raise SettingsError(f"{where}: names must be different, of letters, digits, _ and -")
        if of.name in ("stations", "pairs", "all"):
            raise SettingsError(f"{where}: is the name of a table of the file, or of all measurements; choose another")
        there = [pair for pair in MEASURED if pair in settings.stacked_pairs]
        wrong = [pair for pair in of.components if pair not in there]
        if wrong or len({*of.components}) < len(of.components):
            raise SettingsError(
                f"{where}: components = {list(of.components)}: must be of those that are stacked, "
                f"{', '.join(there) or 'none of ZZ, RR, TT'}, each once; "
                'xcorr stack CAMPAIGN --set \'stack.components=["ZZ", "RR", "TT"]\' makes others'
            )
        if not components_of(settings, of):
            raise SettingsError(f"{where}: none of ZZ, RR and TT is stacked, so there is nothing to measure")
        if of.stack and of.stack not in settings.stack.methods:
            raise SettingsError(f"{where}: stack = {of.stack!r}: there are {', '.join(settings.stack.methods)}")
        low, high = band_of(settings, of)
        if len(of.periods_s) > MOST:
            raise SettingsError(f"{where}: periods_s: {len(of.periods_s)} are more than {MOST}")
        how = dispersion_of(settings, of)
        outside = [p for p in how.periods_s if not 1 / high - 1e-9 <= p <= 1 / low + 1e-9]
        if outside:
            raise SettingsError(
                f"{where}: periods_s: {outside[0]:g} s is not in the band {low:g} to {high:g} Hz, "
                f"{1 / high:g} to {1 / low:g} s"
            )
