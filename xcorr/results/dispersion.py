"""Dispersion of a campaign, read from ``dispersion.h5``: labelled arrays, tables, the curve of the network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xcorr.pes.dispersion import flags
from xcorr.pes.dispersion.dispersion import FAR
from xcorr.pes.dispersion.dispersion_file import FORMAT, MEANING, NAME, VERSION, Network, read_network
from xcorr.results.measured_file import MeasuredFile

if TYPE_CHECKING:
    import pandas
    import xarray

    from xcorr.settings.tables import Dispersion

UNITS = {name: "km/s" for name in MEANING if name.endswith("km_s")} | {"snr": "1", "wavelengths": "1"}
NOTABLE = 0.1  # difference of a given curve, as a share, from which on cycles may be wrong
AT_ONCE = 65_536  # pairs whose flags are counted at once


class Dispersions(MeasuredFile):
    """The velocities that ``xcorr dispersion`` has measured. Raises ResultsError if there are none."""

    file_name, file_format, file_version = NAME, FORMAT, VERSION
    command, what = "xcorr dispersion", "velocities"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        asked = json.loads(self.file.attrs["names"])  # in the order of the settings
        self.names.sort(key=lambda name: asked.index(name) if name in asked else len(asked))

    def settings(self, name: str = "", components: str = "") -> Dispersion:
        """Return the settings that a measurement was made with."""
        from xcorr.settings.tables import Dispersion

        return Dispersion(**self._settings(name, components))

    def network(self, name: str = "", components: str = "") -> Network:
        """Return the curve of the network, and sums of the spectra of all pairs; see :meth:`spectra` for means."""
        return read_network(self.group(name, components))

    def spectra(self, name: str = "", components: str = "") -> xarray.DataArray:
        """Return the mean real spectra of the pairs of each distance [distance_km, frequency_hz], in order."""
        import xarray

        network = self.network(name, components)
        of = network.spectra
        order = np.argsort(of.distance_km / of.count)
        return xarray.DataArray(
            (of.spectra / of.count[:, None])[order],
            {
                "distance_km": (of.distance_km / of.count)[order],
                "frequency_hz": network.frequency_hz,
                "n_pairs": ("distance_km", of.count[order].astype(int)),
            },
            ("distance_km", "frequency_hz"),
            "spectrum",
        )

    def get(
        self, name: str = "", components: str = "", pairs: Sequence[str] = (), rows: np.ndarray | None = None
    ) -> xarray.Dataset:
        """Return a measurement as a dataset [pair, period].

        Its variables are those of ``MEANING`` in ``pes/dispersion/dispersion_file.py``, and ``phase_accepted`` and
        ``group_accepted``. Default: the first measurement, ZZ or the first component pair, and all pairs with data.
        ``pairs`` are names such as ``XX.A-XX.B``, in either order; ``rows`` are those of the campaign.
        """
        import xarray

        group = self.group(name, components)
        stations, table = self.file["stations"][...], self.file["pairs"][...]
        first, second = self._ends()
        flag = group["flag"][...]
        chosen = self._rows(first, second, lambda: ((flag & flags.NO_DATA) == 0).any(axis=1), pairs, rows)
        dims = ("pair", "period")
        variables: dict[str, Any] = {}
        for field, meaning in MEANING.items():
            values = flag[chosen] if field == "flag" else group[field][...][chosen]
            units = {"units": UNITS[field]} if field in UNITS else {}
            variables[field] = (dims, values, {"long_name": meaning, **units})
        for what, mask in (("phase", flags.PHASE), ("group", flags.GROUP)):
            variables[f"{what}_accepted"] = (
                dims,
                (flag[chosen] & mask) == 0,
                {"long_name": f"{what} velocity is good"},
            )
        network = self.network(name, components)
        periods = group["periods_s"][...]
        for what in ("phase", "group"):
            curve = network.curve
            values = np.full(len(periods), np.nan) if curve is None else getattr(curve, what)(1 / periods)
            of_curve = {"long_name": f"{what} velocity of the network", "units": "km/s"}
            variables[f"network_{what}_km_s"] = ("period", values, of_curve)
        ends = {
            f"{key}_{number}": ("pair", stations[key][table[f"station_{number}"][chosen]])
            for number in (1, 2)
            for key in ("latitude", "longitude")
        }
        return xarray.Dataset(
            variables,
            {
                "pair": first[chosen].astype(object) + "-" + second[chosen].astype(object),
                "period": ("period", periods, {"units": "s"}),
                "station_1": ("pair", first[chosen].astype(object)),
                "station_2": ("pair", second[chosen].astype(object)),
                "distance_km": ("pair", table["distance_m"][chosen] / 1000, {"units": "km"}),
                **ends,
            },
            self._attributes(group),
        )

    def table(
        self, name: str = "", components: str = "", pairs: Sequence[str] = (), rows: np.ndarray | None = None
    ) -> pandas.DataFrame:
        """Return a measurement as a table with a row for each pair and period that has data."""
        found = self.get(name, components, pairs, rows)
        frame = found.drop_vars(["network_phase_km_s", "network_group_km_s"]).to_dataframe().reset_index()
        return frame[(frame["flag"] & flags.NO_DATA) == 0].reset_index(drop=True)


def tallies(path: Path) -> list[str]:
    """Return lines for each measurement: the network's curve, how many velocities are accepted, and why others not."""
    import h5py

    lines = []
    with h5py.File(path) as file:
        for name, of in file.items():
            for pair, group in of.items() if isinstance(of, h5py.Group) else ():
                counted = np.zeros(1 << len(flags.WORDS), np.int64)
                for low in range(0, len(group["flag"]), AT_ONCE):
                    counted += np.bincount(group["flag"][low : low + AT_ONCE].ravel(), minlength=len(counted))
                every = np.arange(len(counted))
                accepted = [int(counted[(every & mask) == 0].sum()) for mask in (flags.PHASE, flags.GROUP)]
                total = int(counted[(every & flags.NO_DATA) == 0].sum())
                lines.append(f"{name} {pair}: {_curve_words(read_network(group))}")
                if not total:
                    continue
                lines.append(f"  {total} value(s): {accepted[0]} phase and {accepted[1]} group velocities are accepted")
                lines.append("  reasons, of which a value may have several:")
                for bit, words in flags.WORDS.items():
                    number = int(counted[(every & bit > 0) & ((every & flags.NO_DATA) == 0)].sum())
                    if number and bit != flags.NO_DATA:
                        lines.append(f"    {number}: {words}")
    return lines


def _curve_words(of: Network) -> str:
    pairs = int(of.spectra.count.sum())
    if of.curve is None:
        return f"the spectra of {pairs} pair(s) give no curve of the network; give one (dispersion.curve)"
    f, c = of.curve.frequency_hz, of.curve.phase_km_s
    differs = f"; it is up to {100 * of.differs:.0f} % off that of the spectra" if of.differs > NOTABLE else ""
    if of.differs > FAR:
        differs += ", so that no number of cycles is certain: give a better curve, or none"
    what = f"given{differs}" if of.is_given else f"fitted to the spectra of {pairs} pair(s)"
    return f"network {c[-1]:.3f} km/s at {1 / f[-1]:.2f} s to {c[0]:.3f} km/s at {1 / f[0]:.2f} s, {what}"
