"""Earthquake catalogues: the times of events, from QuakeML or CSV."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from xcorr.core import XcorrError
from xcorr.core.files import read_text
from xcorr.core.interrupt import shielded
from xcorr.pes.reading.formats import read
from xcorr.pes.reading.times import time_ns


class CatalogueError(XcorrError, ValueError):
    """An earthquake catalogue cannot be read."""


def read_catalogue(path: str, smallest: float) -> list[int]:
    """Return the origin times (ns UTC), in order, of the events with at least the magnitude ``smallest``.

    A CSV file has a header with the columns ``time`` (ISO 8601) and ``magnitude`` or ``mag`` (USGS). ObsPy reads
    QuakeML. Raises CatalogueError, with file and line, if the catalogue cannot be read.
    """
    if not os.path.isfile(path):
        raise CatalogueError(f"quality.catalogue: {path!r} is no file")
    try:
        text = read_text(Path(path))
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueError(f"quality.catalogue: {path!r} cannot be read: {error}") from None
    if text.lstrip().startswith("<"):
        return _from_quakeml(path, smallest)
    rows = csv.DictReader(io.StringIO(text))
    names = [n.strip().lower() for n in rows.fieldnames or ()]
    magnitude = next((n for n in ("magnitude", "mag") if n in names), None)
    if "time" not in names or magnitude is None:
        raise CatalogueError(
            f"quality.catalogue: {path!r} lacks columns; it needs a header with columns time and magnitude"
        )
    rows.fieldnames = names
    times = []
    for number, row in enumerate(rows, 2):
        try:
            if float(row[magnitude]) >= smallest:
                times.append(time_ns(row["time"]))
        except (TypeError, ValueError) as error:
            raise CatalogueError(f"quality.catalogue: {path!r}, line {number}: {error}") from None
    return sorted(times)


def _from_quakeml(path: str, smallest: float) -> list[int]:
    try:
        with shielded():
            events = read("event", path)
    except Exception as error:  # ObsPy raises anything on garbage
        raise CatalogueError(f"quality.catalogue: {path!r} is no QuakeML: {type(error).__name__}: {error}") from None
    chosen = [e for e in events if e.magnitudes and (e.preferred_magnitude() or e.magnitudes[0]).mag >= smallest]
    return sorted((e.preferred_origin() or e.origins[0]).time.ns for e in chosen if e.origins)
