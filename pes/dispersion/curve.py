"""A dispersion curve: phase velocity by frequency, and the wavenumbers and group velocities that follow."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import scipy  # its parts are imported when they are first used

from xcorr.pes.items import Float64
from xcorr.pes.parameters import ParameterError


@dataclasses.dataclass(frozen=True)
class Curve:
    """Phase velocities (km/s) at frequencies (Hz, rising), and their errors. Between them k is a cubic spline of f.

    Beyond its ends the slowness goes on as it does there, by at most a tenth.
    """

    frequency_hz: Float64
    phase_km_s: Float64
    error_km_s: Float64

    def wavenumber(self, frequency_hz: Float64) -> Float64:
        """Return angular wavenumbers k (rad/km)."""
        return 2 * np.pi * frequency_hz / self.phase(frequency_hz)

    def phase(self, frequency_hz: Float64) -> Float64:
        """Return phase velocities (km/s)."""
        if len(self.frequency_hz) == 1:
            return np.full(np.shape(frequency_hz), self.phase_km_s[0])
        slowness = scipy.interpolate.CubicSpline(self.frequency_hz, 1 / self.phase_km_s)
        inside = np.clip(frequency_hz, self.frequency_hz[0], self.frequency_hz[-1])
        there = slowness(inside)
        beyond = slowness(inside, 1) * (frequency_hz - inside) / there
        found: Float64 = 1 / (there * (1 + 0.1 * np.tanh(beyond / 0.1)))
        return found

    def group(self, frequency_hz: Float64) -> Float64:
        """Return group velocities d omega / d k (km/s)."""
        step = 1e-4 * self.frequency_hz[-1]
        f = np.asarray(frequency_hz)
        found: Float64 = 4 * np.pi * step / (self.wavenumber(f + step) - self.wavenumber(f - step))
        return found

    def is_possible(self, frequency_hz: Float64) -> bool:
        """Return whether phase and group velocities are those of waves: positive, and the group not far faster."""
        phase, group = self.phase(frequency_hz), self.group(frequency_hz)
        return bool((phase > 0).all() and (group > 0).all() and (group < 3 * phase.max()).all())

    def error(self, frequency_hz: Float64) -> Float64:
        """Return the errors of phase velocities (km/s)."""
        found: Float64 = np.interp(frequency_hz, self.frequency_hz, self.error_km_s)
        return found

    def covers(self, frequency_hz: Float64) -> np.ndarray:
        """Return whether frequencies are inside the curve."""
        inside: np.ndarray = (frequency_hz >= self.frequency_hz[0]) & (frequency_hz <= self.frequency_hz[-1])
        return inside


def read_curve(path: Path) -> Curve:
    """Read a curve from a text file: lines of period (s) and phase velocity (km/s), separated by commas or spaces.

    Lines that begin with ``#``, and a first line of words, are skipped; so are further columns. Raises ParameterError
    for a file that is none.
    """
    rows: list[tuple[float, float]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        words = re.split(r"[\s,;]+", line.strip())
        if not words[0] or words[0][0] == "#" or (number == 1 and words[0][0].isalpha()):
            continue
        try:
            values = [float(word) for word in words[:2]]
        except ValueError:
            values = []
        if len(values) < 2 or not all(np.isfinite(v) and v > 0 for v in values):
            raise ParameterError(f"{path}: line {number}, {line!r}: must be a period (s) and a phase velocity (km/s)")
        rows.append((1 / values[0], values[1]))
    rows.sort()
    frequency, velocity = np.array(rows).T if rows else np.empty((2, 0))
    if not len(frequency) or (np.diff(frequency) <= 0).any():
        raise ParameterError(f"{path}: must have lines of period (s) and phase velocity (km/s), each period once")
    return Curve(frequency, velocity, np.zeros(len(frequency)))
