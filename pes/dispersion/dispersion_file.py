"""``dispersion.h5``: velocities [pair, period] of every measurement and component pair, and the network's curve."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.pes.dispersion.array_curve import Binned
from xcorr.pes.dispersion.curve import Curve
from xcorr.pes.dispersion.flags import NO_CURVE, NO_DATA, WORDS
from xcorr.pes.dispersion.measure import FIELDS, KINDS
from xcorr.pes.items import Float64
from xcorr.pes.storing.parts import read_parts

FORMAT, VERSION = "xcorr-dispersion", 1
NAME, PARTS = "dispersion.h5", "dispersion.parts"
CHUNK = 1024  # pairs of an HDF5 chunk
MEANING = {
    "phase_km_s": "phase velocity: the mean of both methods where both are valid",
    "phase_error_km_s": "standard error of phase_km_s: noise or resampling, sides, and methods together",
    "group_km_s": "group velocity",
    "group_error_km_s": "standard error of group_km_s: noise or resampling, and sides together",
    "snr": "largest amplitude of the filtered waves over the rms of noise behind them",
    "wavelengths": "distance in wavelengths",
    "branch": "cycles by which the phase is further from the network's than the nearest one",
    "flag": "sum of " + ", ".join(f"{number}: {text}" for number, text in WORDS.items()),
    "ftan_km_s": "phase velocity by frequency-time analysis",
    "spectral_km_s": "phase velocity by the fit of the spectrum",
    "crossing_km_s": "phase velocity by zero crossings of the spectrum, as a check",
}
FILLS: dict[str, Any] = {"branch": 0, "flag": NO_DATA}


@dataclasses.dataclass(frozen=True)
class Network:
    """What all pairs say together: sums of spectra at frequencies (Hz), and the curve, or None if there is none.

    ``is_given``: the curve is the user's, and ``differs`` by this share at most from that which the spectra give.
    """

    frequency_hz: Float64
    spectra: Binned
    curve: Curve | None
    is_given: bool = False
    differs: float = 0.0


@dataclasses.dataclass(frozen=True)
class DispersionTable:
    """A measurement of one component pair in the file, what it was made with (attributes), and its network."""

    path: str
    periods_s: tuple[float, ...]
    about: Mapping[str, Any]
    network: Network

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the values."""
        return FIELDS

    @property
    def periods(self) -> int:
        """The number of periods."""
        return len(self.periods_s)


@dataclasses.dataclass(frozen=True)
class DispersionTables:
    """What the file holds besides values: tables of the campaign, and measurements.

    ``tables`` are measured now; ``kept`` are groups of the file that is replaced, which are copied. ``key`` names the
    work.
    """

    stations: np.ndarray
    pairs: np.ndarray
    tables: tuple[DispersionTable, ...]
    kept: tuple[str, ...]
    attributes: Mapping[str, Any]
    key: str


def assemble(folder: Path, of: DispersionTables, temporary: Path) -> None:
    """Put all parts, and what is copied from the file that is replaced, together in a new file."""
    import h5py

    with h5py.File(temporary, "w", libver="latest") as file:
        file.attrs.update({"format": FORMAT, "version": VERSION, **of.attributes})
        for name, rows in (("stations", of.stations), ("pairs", of.pairs)):
            _checked(file, name, rows)
        for table in of.tables:
            _add(file, table, len(of.pairs))
        if of.kept:
            with h5py.File(folder / NAME) as old:
                for name in of.kept:
                    old.copy(old[name], file, name=name)
        for first_row, values in read_parts(folder / PARTS, of.key):
            for path, value in values.items():
                file[path][first_row : first_row + len(value)] = value


def _checked(group: Any, name: str, data: np.ndarray) -> Any:
    """Add a dataset with checksums."""
    return group.create_dataset(name, data=data, **({"chunks": True, "fletcher32": True} if data.size else {}))


def _add(file: Any, table: DispersionTable, pairs: int) -> None:
    group = file.create_group(table.path)
    group.attrs.update(table.about)
    _checked(group, "periods_s", np.array(table.periods_s))
    shape = pairs, table.periods
    for name in table.fields:
        kind, fill = KINDS.get(name, np.float32), FILLS.get(name, np.nan)
        if name == "flag" and table.network.curve is None:
            fill |= NO_CURVE
        chunks = (max(1, min(CHUNK, pairs)), shape[1])
        made = group.create_dataset(name, shape, kind, chunks=chunks, fletcher32=True, fillvalue=fill)
        made.attrs["meaning"] = MEANING[name]
    of = table.network
    network = group.create_group("network")
    network.attrs["differs"] = of.differs
    network.attrs["curve"] = "none" if of.curve is None else "given" if of.is_given else "fitted"
    used = of.spectra.count > 0
    _checked(network, "frequency_hz", of.frequency_hz)
    for field in dataclasses.fields(Binned):
        value = getattr(of.spectra, field.name)
        _checked(network, field.name, value[used] if len(value) == len(used) else value)
    if of.curve is not None:
        for field in dataclasses.fields(Curve):
            _checked(network, f"curve_{field.name}", getattr(of.curve, field.name))


def read_network(group: Any) -> Network:
    """Return the network of a group of the file."""
    of = group["network"]
    names = [field.name for field in dataclasses.fields(Curve)]
    curve = Curve(*(of[f"curve_{name}"][...] for name in names)) if f"curve_{names[0]}" in of else None
    sums = Binned(*(of[field.name][...] for field in dataclasses.fields(Binned)))
    return Network(of["frequency_hz"][...], sums, curve, of.attrs["curve"] == "given", float(of.attrs["differs"]))
