"""Where stations lie on a map: a plate carrée about the middle of the network, true to scale there."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from xcorr.results.framed import ticks
from xcorr.results.scale import KM_PER_DEGREE, scale_length


def places_of(table: np.ndarray, used: Collection[str]) -> tuple[list[dict[str, Any]], int, dict[str, Any]]:
    """Return the stations on the map (percent from left and top), how many have no place, and the map's frame.

    ``table`` is that of the stations of results. The frame has the scale, marks on the axes, and ``west``, ``north``,
    ``width``, ``height`` (degrees of latitude) and ``shrink`` (of longitudes), from which places are computed.
    """
    known = np.isfinite(table["latitude"] + table["longitude"])
    if not known.any():
        return [], len(table), {}
    table = table[known]
    y, shrink = table["latitude"], max(float(np.cos(np.radians(table["latitude"].mean()))), 0.05)
    middle = np.degrees(np.angle(np.exp(1j * np.radians(table["longitude"])).mean()))
    x = middle + (table["longitude"] - middle + 180) % 360 - 180  # on one side of the date line
    size = max(float(np.ptp(x)) * shrink, float(np.ptp(y)), 1e-3) * 1.3  # degrees of latitude
    width, height = max(np.ptp(x) * shrink * 1.3, size * 0.6), max(np.ptp(y) * 1.3, size * 0.45)
    west, north = x.mean() if len(x) == 1 else (x.min() + x.max()) / 2, (y.min() + y.max()) / 2
    west, north = west - width / shrink / 2, north + height / 2
    width_km = width * KM_PER_DEGREE
    frame = {
        "width": 600,
        "ratio": f"{width / height:.4f}",
        "scale_km": scale_length(width_km),
        "scale": round(100 * scale_length(width_km) / width_km, 2),
        "x": ticks(west, west + width / shrink),
        "y": ticks(north, north - height),
        "west": float(west),
        "north": float(north),
        "degrees": [float(width), float(height)],
        "shrink": shrink,
    }
    px, py = 100 * (x - west) * shrink / width, 100 * (north - y) / height
    places = [
        {"name": name, "x": round(float(a), 2), "y": round(float(b), 2), "used": name in used}
        for name, a, b in zip(table["id"].astype(str), px, py, strict=True)
    ]
    return places, int((~known).sum()), frame
