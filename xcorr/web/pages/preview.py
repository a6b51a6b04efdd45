"""Small pictures of kept items."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.results.figures import encoded
from xcorr.results.figures.style import new_figure, with_defaults
from xcorr.web.problems import Problem

MOST_POINTS = 4000


@with_defaults
def preview(path: Path) -> bytes:
    """Return a picture (PNG) of miniSEED, or of the first arrays in a NumPy archive. Raises Problem 404 for others."""
    traces = _waveforms(path) if path.suffix == ".mseed" else _arrays(path)
    figure, all_axes = new_figure(5, 1.1 * len(traces), rows=len(traces))
    for axes, (name, values) in zip(np.atleast_1d(all_axes), traces, strict=True):
        if values.ndim == 1:
            axes.plot(values[:: max(1, len(values) // MOST_POINTS)], color="black", linewidth=0.5)
        else:
            axes.imshow(values[:500, :500], aspect="auto", cmap="viridis", interpolation="nearest")
        axes.set_title(name, fontsize="x-small", loc="left")
        axes.tick_params(labelsize="xx-small")
    return encoded(figure, "png")


def _waveforms(path: Path) -> list[tuple[str, np.ndarray]]:
    import obspy

    return [(trace.id, np.asarray(trace.data)) for trace in obspy.read(str(path), format="MSEED")[:4]]


def _arrays(path: Path) -> list[tuple[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            found: list[tuple[str, Any]] = [(name, archive[name]) for name in archive.files[:4]]
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise Problem(404, f"{path.name} cannot be drawn: {error}") from None
    drawn = [(n, np.abs(v).reshape(-1, v.shape[-1])) for n, v in found if v.size and v.ndim and v.dtype.kind in "fciu"]
    if not drawn:
        raise Problem(404, f"{path.name} holds nothing that can be drawn")
    return [(name, values[0] if len(values) == 1 else values) for name, values in drawn]
