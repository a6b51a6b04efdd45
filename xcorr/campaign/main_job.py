"""The main job as one call."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xcorr.campaign.run import NOTHING, run_campaign
from xcorr.core import XcorrError
from xcorr.mappings import engine
from xcorr.results import Results
from xcorr.settings import Settings, SettingsError
from xcorr.settings.given import plain_of, settings_given
from xcorr.store.report import reason_line

MOST = 5  # reasons in a message


class SomeFailed(UserWarning):
    """A run is done, but some inputs failed; ``report`` of the results names them."""


class NothingUsed(XcorrError, RuntimeError):
    """A run is done, and no pair has data."""


def run(
    stations: str | os.PathLike[str] | Sequence[str],
    output: str | os.PathLike[str] | None = None,
    settings: Settings | str | os.PathLike[str] | None = None,
    *,
    progress: str | None = None,
    refresh: bool = False,
    refresh_metadata: bool = False,
    **given: Any,
) -> Results:
    """Correlate all pairs of stations, as ``xcorr run`` does, and return the results.

    Parameters
    ----------
    stations : the path of a list, or a sequence of its lines, such as ``["CI.ADO", "CI.ARV"]``.
    output : the folder of the campaign. Default: ``<list>.xcorr`` beside the list. The same call, repeated, computes
        only what is missing.
    settings : a TOML file, or settings. Default: ``xcorr.toml`` beside the list, if there is one.
    progress : ``"bar"``, ``"line"`` or ``"json"`` shows progress on standard error, in notebooks below the cell.
    refresh, refresh_metadata : as ``--refresh`` and ``--refresh-metadata``.
    given : ``source``, ``metadata``, ``start``, ``end``, ``mapping``, ``workers``, ``memory`` as on the command line,
        and sections of the settings as dictionaries: ``condition={"rate_hz": 1.0, "band_hz": (0.05, 0.4)}``. They
        override those of a file.

    Raises XcorrError if there is nothing to correlate (NothingUsed: nothing that can be used), or a setting cannot be.
    Warns with SomeFailed if inputs failed, as exit code 3 says. A script needs no ``if __name__ == "__main__"`` for
    ``processes``.
    """
    with _list_of(stations, output) as (path, folder):
        chosen = _settings(path, settings, given)

        def work() -> int:
            finished = run_campaign(path, folder, chosen, progress, refresh, refresh_metadata)
            if finished.exit_code == NOTHING:
                why = [reason_line(group) for group in finished.report["reasons"][:MOST]]
                raise NothingUsed("\n  ".join([f"no pair has data; {folder / 'report.json'} says why", *why]))
            bad = finished.report["errors"]
            if bad:
                more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
                text = f"some inputs failed: {bad[0]}{more}; .report of the results names them"
                warnings.warn(text, SomeFailed, stacklevel=4)
            return finished.exit_code

        engine(chosen.run.mapping).lead(work)
    return Results(folder)


@contextlib.contextmanager
def _list_of(
    stations: str | os.PathLike[str] | Sequence[str], output: str | os.PathLike[str] | None
) -> Iterator[tuple[Path, Path]]:
    """Give the path of the list, and the folder of the campaign."""
    if isinstance(stations, str | os.PathLike):
        path = Path(stations)
        yield path, Path(output) if output is not None else path.with_suffix(".xcorr")
        return
    if output is None:
        raise SettingsError("output is needed where stations are not a file: name the folder of the campaign")
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "stations.txt")
        path.write_text("".join(f"{line}\n" for line in stations), "utf-8")
        yield path, Path(output)


def _settings(stations: Path, settings: Settings | str | os.PathLike[str] | None, given: dict[str, Any]) -> Settings:
    if isinstance(settings, Settings):
        return settings_given(settings.as_dict(), given) if given else settings
    return settings_given(plain_of(stations, None if settings is None else Path(settings)), given)
