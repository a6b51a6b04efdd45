"""Size of the series of a campaign, and speed of writing and reading them, by compression and bits kept.

    python benchmarks/smaller.py CAMPAIGN [--mb 100]

The series are written as shards have them, repeated to so many megabytes. Prints a line of JSON for each combination:
size and seconds relative to series without compression, in the same run (best of three), and the rms of the errors of
rounding relative to the rms of the series.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from xcorr import results
from xcorr.pes.storing.shards import chunk_shape
from xcorr.pes.storing.smaller import ALL_BITS, COMPRESSIONS, dataset_options, require, rounded


def series_of(campaign: Path, size: float) -> np.ndarray:
    """Return all series of a campaign [row, lag] that have windows, repeated to about ``size`` bytes."""
    with results.open(campaign) as found:
        every = [found.file[f"series/{c}"][...].reshape(-1, len(found.lags_s)) for c in found.file["series"]]
    rows = np.concatenate(every)
    rows = rows[np.isfinite(rows).all(axis=1)]
    return np.tile(rows, (max(1, round(size / rows.nbytes)), 1))


def measure(rows: np.ndarray, compression: str, path: Path) -> tuple[int, float, float]:
    """Return the bytes in the file, and the seconds of writing and of reading."""
    begin = time.perf_counter()
    with h5py.File(path, "w", libver="latest") as file:
        how = {"chunks": chunk_shape(rows.shape[1], len(rows)), **dataset_options(compression)}
        data = file.create_dataset("series", data=rows, **how)
        size = data.id.get_storage_size()
    written = time.perf_counter() - begin
    with h5py.File(path) as file:
        begin = time.perf_counter()
        found = file["series"][...]
        read = time.perf_counter() - begin
    assert found.tobytes() == rows.tobytes()
    path.unlink()
    return size, written, read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", type=Path)
    parser.add_argument("--mb", type=float, default=100.0)
    given = parser.parse_args()
    require("lz4")
    whole = series_of(given.campaign, given.mb * 1e6)
    combinations = [(c, bits) for bits in (ALL_BITS, 12, 10, 8) for c in COMPRESSIONS if c != "none"]
    for compression, bits in [("none", ALL_BITS), *combinations]:
        rows = rounded(whole, bits)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "series.h5")
            tried = [(*measure(rows, compression, path), *measure(whole, "none", path)) for _ in range(3)]
        size, write, read, plain_size, plain_write, plain_read = (min(values) for values in zip(*tried, strict=True))
        said = {"compression": compression, "bits": bits, "size": size / plain_size, "write": write / plain_write}
        said |= {"read": read / plain_read, "error": float(np.std(rows - whole) / np.std(whole))}
        print(json.dumps({k: float(f"{v:.3g}") if isinstance(v, float) else v for k, v in said.items()}), flush=True)


if __name__ == "__main__":
    main()
