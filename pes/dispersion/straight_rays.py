"""A first map: velocities on a grid from those of paths, as straight rays, by least squares.

Damping and smoothing as in Barmin, Ritzwoller & Levshin (2001, Pure Appl. Geophys. 158), on square cells, with rays
that are straight in the plane.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy  # its parts are imported when they are first used

from xcorr.pes.items import Float64
from xcorr.pes.parameters import ParameterError

STEPS = 8  # points of a ray in a cell
MOST_CELLS = 40_000


@dataclasses.dataclass(frozen=True)
class Cells:
    """Square cells of ``size_km``; the first is at x0, y0 (km, its lower left corner). Values are [y, x]."""

    x0: float
    y0: float
    size_km: float
    shape: tuple[int, int]

    @classmethod
    def around(cls, places_km: Float64, size_km: float) -> Cells:
        """Return cells that hold places [place, 2]. Raises ParameterError if they are too many."""
        low, high = places_km.min(axis=0) - size_km / 2, places_km.max(axis=0) + size_km / 2
        columns, rows = np.maximum(1, np.ceil((high - low) / size_km)).astype(int).tolist()
        if rows * columns > MOST_CELLS:
            raise ParameterError(f"{rows} x {columns} cells of {size_km:g} km are too many; take larger ones")
        return cls(float(low[0]), float(low[1]), size_km, (rows, columns))

    def lengths(self, ends_km: Float64) -> scipy.sparse.csr_array:
        """Return the lengths (km) of straight rays in cells, [ray, cell]; ``ends_km`` are [ray, end, 2]."""
        length = np.hypot(*(ends_km[:, 1] - ends_km[:, 0]).T)
        count = int(np.ceil(length.max() / self.size_km)) * STEPS
        along = (np.arange(count) + 0.5) / count
        points = ends_km[:, :1] + (ends_km[:, 1:] - ends_km[:, :1]) * along[:, None]
        column, row = (((points - (self.x0, self.y0)) / self.size_km).astype(int)).transpose(2, 0, 1)
        cell = np.clip(row, 0, self.shape[0] - 1) * self.shape[1] + np.clip(column, 0, self.shape[1] - 1)
        ray = np.repeat(np.arange(len(length)), count)
        values = np.repeat(length / count, count)
        size = len(length), self.shape[0] * self.shape[1]
        return scipy.sparse.coo_array((values, (ray, cell.ravel())), size).tocsr()

    def checkerboard(self, cells: int) -> Float64:
        """Return a pattern of 1 and -1, each of some cells in square, [y, x]."""
        rows, columns = np.indices(self.shape)
        return np.where((rows // cells + columns // cells) % 2, -1.0, 1.0)

    def roughness(self) -> scipy.sparse.csr_array:
        """Return differences between neighbouring cells, [difference, cell]."""
        number = np.arange(self.shape[0] * self.shape[1]).reshape(self.shape)
        pairs = np.concatenate(
            [
                np.stack([number[:, 1:].ravel(), number[:, :-1].ravel()], axis=1),
                np.stack([number[1:].ravel(), number[:-1].ravel()], axis=1),
            ]
        )
        rows = np.arange(len(pairs))
        found = scipy.sparse.coo_array((np.ones(len(pairs)), (rows, pairs[:, 0])), (len(pairs), number.size))
        return (found - scipy.sparse.coo_array((np.ones(len(pairs)), (rows, pairs[:, 1])), found.shape)).tocsr()


@dataclasses.dataclass(frozen=True)
class VelocityMap:
    """A map: velocities (km/s) and numbers of rays [y, x]; what of a checkerboard comes back; misfits of the rays (s).

    ``checkerboard`` and ``recovered`` [y, x] are relative changes of slowness.
    """

    cells: Cells
    velocity_km_s: Float64
    rays: Float64
    checkerboard: Float64
    recovered: Float64
    residual_s: Float64


def velocity_map(
    ends_km: Float64,
    velocity_km_s: Float64,
    error_km_s: Float64,
    size_km: float,
    damping: float = 0.2,
    smoothing: float = 1.0,
    board: int = 2,
) -> VelocityMap:
    """Return the map of velocities of paths [ray] between ends [ray, end, 2] (km).

    Slowness is sought as a relative change from the mean. ``damping`` and ``smoothing`` are weights of this change and
    of its differences between cells beside data of their own errors, for rays of the mean length. ``board``: cells of
    a square of the checkerboard. Raises ParameterError for fewer than 3 rays or cells that are too many.
    """
    from scipy.sparse.linalg import factorized  # which scipy.sparse does not import itself

    if len(ends_km) < 3:
        raise ParameterError(f"a map needs 3 paths or more; there are {len(ends_km)}")
    cells = Cells.around(ends_km.reshape(-1, 2), size_km)
    matrix = cells.lengths(ends_km)
    length = np.asarray(matrix.sum(axis=1)).ravel()
    time = length / velocity_km_s
    known = np.where(np.isfinite(error_km_s), error_km_s, 0)
    error = np.maximum(time * known / velocity_km_s, 0.005 * time)
    mean = float((time / error).sum() / (length / error).sum())  # slowness
    scaled = scipy.sparse.diags_array(mean / error) @ matrix
    typical = float(np.sqrt((scaled**2).sum() / scaled.shape[1]))
    extra = [
        damping * typical * scipy.sparse.eye_array(scaled.shape[1]),
        smoothing * typical * cells.roughness(),
    ]
    whole = scipy.sparse.vstack([scaled, *extra]).tocsr()
    solve = factorized((whole.T @ whole).tocsc())

    def inverted(data: Float64) -> Float64:
        found: Float64 = solve(scaled.T @ data)
        return found

    change = inverted((time - mean * length) / error)
    pattern = 0.05 * cells.checkerboard(board).ravel()
    recovered = inverted(scaled @ pattern)
    residual = time - mean * (matrix @ (1 + change))
    rays = np.asarray((matrix > 0).sum(axis=0), float).ravel()
    shape = cells.shape
    return VelocityMap(
        cells,
        (1 / (mean * (1 + change))).reshape(shape),
        rays.reshape(shape),
        pattern.reshape(shape),
        recovered.reshape(shape),
        residual,
    )
