"""Station metadata that come with the waveforms: a web service has both. A campaign keeps its own copy."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

from xcorr.core.files import replace_bytes
from xcorr.network.survey import metadata_of_source
from xcorr.pes.reading.metadata import MetadataError, read_metadata
from xcorr.settings import Settings
from xcorr.store.derived import STATIONS

_log = logging.getLogger("xcorr")


@contextlib.contextmanager
def own_metadata(list_path: Path, folder: Path, settings: Settings, again: bool = False) -> Iterator[Settings]:
    """Give settings with the metadata of the source, if no others are set; nothing is written to the folder.

    They are those that the campaign has already, unless they are to be fetched ``again``, and can be.
    """
    if settings.data.metadata is not None or settings.data.source is None:
        yield settings
        return
    known = folder / STATIONS
    with tempfile.TemporaryDirectory() as nowhere:
        fetched = Path(nowhere) / STATIONS
        if (again or not known.exists()) and _fetch(list_path, settings, fetched):
            yield _with(settings, fetched)
        else:
            yield _with(settings, known) if known.exists() else settings


def keep_metadata(folder: Path, settings: Settings) -> Settings:
    """Copy metadata of the source to the folder of the campaign; return the settings with this copy."""
    place = settings.data.metadata
    if place is None or Path(place).parent == folder:
        return settings
    replace_bytes(folder / STATIONS, Path(place).read_bytes())
    return _with(settings, folder / STATIONS)


def _fetch(list_path: Path, settings: Settings, path: Path) -> bool:
    """Write the metadata of the source to a file; return whether it has any. What is no StationXML is warned of."""
    content = metadata_of_source(list_path, settings)
    if content is None:
        return False
    path.write_bytes(content)
    try:
        read_metadata(str(path))
    except MetadataError:
        _log.warning("no station metadata from %s: its answer %r is not readable", settings.data.source, content[:80])
        return False
    return True


def _with(settings: Settings, path: Path) -> Settings:
    return dataclasses.replace(settings, data=dataclasses.replace(settings.data, metadata=str(path)))
