"""A first map of a measurement at one period, in plane coordinates around the stations."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from xcorr.pes.dispersion.straight_rays import VelocityMap, velocity_map
from xcorr.pes.parameters import ParameterError
from xcorr.results.errors import ResultsError
from xcorr.results.reader import Results

if TYPE_CHECKING:
    import xarray

ACROSS = 12  # cells across the network, by default


@dataclasses.dataclass(frozen=True)
class MapOfPeriod:
    """A map at a period (s), and places [place, 2] (km, east and north of ``origin``) of the stations of its paths."""

    period_s: float
    velocity: str
    measurement: str
    components: str
    found: VelocityMap
    stations_km: np.ndarray
    paths: int
    origin: tuple[float, float]  # latitude, longitude


def at_period(of: xarray.Dataset, period_s: float) -> xarray.Dataset:
    """Return a measurement at the nearest period. Raises ResultsError for one outside of those measured."""
    periods = of["period"].values
    if not 0.95 * periods[0] <= period_s <= 1.05 * periods[-1]:
        raise ResultsError(f"period {period_s:g} s: {periods[0]:g} to {periods[-1]:g} s were measured")
    return of.sel(period=period_s, method="nearest")


def near_middle(longitudes: np.ndarray) -> np.ndarray:
    """Return longitudes on one side of the date line.

    >>> near_middle(np.array([179.0, -179.0])).tolist()
    [179.0, 181.0]
    """
    middle = float(np.degrees(np.angle(np.exp(1j * np.radians(longitudes[np.isfinite(longitudes)])).mean())))
    found: np.ndarray = middle % 360 + (longitudes - middle + 180) % 360 - 180
    return found


def map_of(
    results: Results, period_s: float, name: str = "", components: str = "", velocity: str = "phase",
    cell_km: float | None = None,
) -> MapOfPeriod:  # fmt: skip
    """Return the map of accepted velocities at the period nearest to the one given.

    ``velocity`` is ``phase`` or ``group``; ``cell_km`` the size of a cell (default: a twelfth of the network). Raises
    ResultsError if there are too few paths, or stations without coordinates.
    """
    from pyproj import Proj

    with results.dispersion as dispersion:
        of = at_period(dispersion.get(name, components), period_s)
    of = of.isel(pair=of[f"{velocity}_accepted"].values)
    places = np.stack(
        [[of[f"{key}_{k}"].values for key in ("longitude", "latitude")] for k in (1, 2)]
    )  # [end, 2, pair]
    known = np.isfinite(places).all(axis=(0, 1))
    of, places = of.isel(pair=known), places[..., known]
    if of.sizes["pair"] < 3:
        raise ResultsError(
            f"{velocity} velocities of {of.sizes['pair']} path(s) are accepted at {float(of['period']):g} s; a map "
            "needs 3 or more"
        )
    angle = np.angle(np.exp(1j * np.radians(places[:, 0])).mean())
    origin = float(places[:, 1].mean()), float(np.degrees(angle))
    plane = Proj(proj="aeqd", lat_0=origin[0], lon_0=origin[1], ellps="WGS84", units="km")
    east, north = plane(places[:, 0].ravel(), places[:, 1].ravel())
    ends = np.stack([np.reshape(east, (2, -1)), np.reshape(north, (2, -1))], axis=-1).transpose(1, 0, 2)
    size = cell_km or float(np.ptp(ends.reshape(-1, 2), axis=0).max()) / ACROSS
    value, error = (of[f"{velocity}_{what}"].values.astype(float) for what in ("km_s", "error_km_s"))
    try:
        found = velocity_map(ends, value, error, size)
    except ParameterError as problem:
        raise ResultsError(str(problem)) from None
    stations = np.unique(ends.reshape(-1, 2), axis=0)
    about = of.attrs["measurement"], of.attrs["components"]
    return MapOfPeriod(float(of["period"]), velocity, *about, found, stations, of.sizes["pair"], origin)
