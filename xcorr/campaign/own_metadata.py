"""Station metadata that come with the waveforms: a web service has both. A campaign keeps its own copy."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

from xcorr.core.files import replace_text
from xcorr.network.survey import metadata_of_source
from xcorr.settings import Settings
from xcorr.store.derived import STATIONS


@contextlib.contextmanager
def own_metadata(list_path: Path, folder: Path, settings: Settings, again: bool = False) -> Iterator[Settings]:
    """Give settings with the metadata of the source, if no others are set; nothing is written to the folder.

    They are those that the campaign has already, unless they are to be fetched ``again``.
    """
    known = folder / STATIONS
    if settings.data.metadata is not None or settings.data.source is None:
        yield settings
    elif known.exists() and not again:
        yield _with(settings, known)
    else:
        content = metadata_of_source(list_path, settings)
        with tempfile.TemporaryDirectory() as nowhere:
            if content is not None:
                (Path(nowhere) / STATIONS).write_bytes(content)
            yield _with(settings, Path(nowhere) / STATIONS) if content else settings


def keep_metadata(folder: Path, settings: Settings) -> Settings:
    """Copy metadata of the source to the folder of the campaign; return the settings with this copy."""
    place = settings.data.metadata
    if place is None or Path(place).name != STATIONS or Path(place).parent == folder:
        return settings
    replace_text(folder / STATIONS, Path(place).read_text(encoding="utf-8"))
    return _with(settings, folder / STATIONS)


def _with(settings: Settings, path: Path) -> Settings:
    return dataclasses.replace(settings, data=dataclasses.replace(settings.data, metadata=str(path)))
