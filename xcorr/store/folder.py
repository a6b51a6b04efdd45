"""The campaign folder: the settings of the campaign, and the files that unfinished runs have left."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xcorr.core import XcorrError
from xcorr.core.files import replace_text
from xcorr.pes.reading import source
from xcorr.pes.reading.files import CAMPAIGN_MARK
from xcorr.pes.stacking.result_file import NAME as RESULTS
from xcorr.pes.stacking.sums_file import SUMS
from xcorr.settings.schema import Settings, SettingsError
from xcorr.settings.tables import Keep
from xcorr.settings.toml import build, load
from xcorr.settings.written import to_toml
from xcorr.store.ledger_reader import NAME as LEDGER
from xcorr.store.ledger_reader import LedgerError, LedgerReader
from xcorr.store.software import kernel, software
from xcorr.store.sqlite_files import BESIDE

FORMAT = 2  # of the folder; version 0.1.0 made format 1, and named no format
FORMAT_LINE = "# format: "
# Version 0.1.0 looks for the second line. It must find no hash of its own in a folder that it would damage: it
# deletes shards of a later version.
HASH_LINES = ("# identity: ", "# settings_hash: ")


class CampaignError(XcorrError, OSError):
    """The campaign folder cannot be used."""


def make_folder(folder: Path) -> None:
    """Make the folder of a campaign and its ``shards``. Raises CampaignError if it cannot be written."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise CampaignError(f"the path {str(folder)!r} is not valid UTF-8; choose another folder with -o") from None
    try:
        (folder / "shards").mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}.part"
        probe.touch()  # mkdir also succeeds if the folder exists and cannot be written
        probe.unlink()
    except OSError as error:
        raise CampaignError(
            f"cannot write the campaign folder {str(folder)!r}: {error.strerror}; choose another with -o"
        ) from error


def freeze_settings(folder: Path, settings: Settings) -> list[str]:
    """Write ``campaign.toml``, after checking that the settings are those of the campaign.

    Return a line if the file was lost or altered, and the data of the campaign show that the settings are the same.
    Raises CampaignError if the folder holds a campaign with other settings. The text lists the settings that differ.
    """
    known, repaired = folder / CAMPAIGN_MARK, []
    require_format(folder)
    if not known.exists() or recorded_hash(folder) != settings.hash():
        made_with = identity_of_data(folder)
        if made_with == settings.hash():
            repaired.append(f"{CAMPAIGN_MARK}: was lost or altered; written again")
        elif _holds_nothing(folder):
            _remove_empty_results(folder)
        elif known.exists() or made_with:
            what = difference(known, settings) if known.exists() else f"  (its {CAMPAIGN_MARK} is lost)"
            raise CampaignError(
                f"{folder} holds a campaign with other settings:\n{what}\nchoose another folder with -o, or remove it"
            )
    text = _campaign_text(settings)
    if repaired or not known.exists() or known.read_bytes() != text.encode():
        replace_text(known, text)
    return repaired


def _holds_nothing(folder: Path) -> bool:
    """Return whether a finished run has used no window, so that other settings cost nothing."""
    try:
        with contextlib.closing(LedgerReader(folder)) as ledger:
            shards = {str(p.relative_to(folder)) for p in (folder / "shards").glob("*.h5")}
            return ledger.is_whole() and shards <= ledger.known().keys() and not ledger.has_windows()
    except LedgerError:
        return False


def _remove_empty_results(folder: Path) -> None:
    """Remove what a run without any data has made; provenance and logs stay."""
    with contextlib.closing(LedgerReader(folder)) as ledger:
        shards = [folder / path for path in ledger.known()]
    for path in (*shards, folder / RESULTS, folder / SUMS, *(folder / f"{LEDGER}{end}" for end in ("", *BESIDE))):
        path.unlink(missing_ok=True)


def identity_of_data(folder: Path) -> str:
    """Return the settings' hash in a shard, or in the results; an empty text if there are none that can be read."""
    return next(_hashes(*sorted((folder / "shards").glob("*.h5")), folder / RESULTS), "")


def require_own_shards(folder: Path, settings_hash: str) -> None:
    """Raise CampaignError if there are shards, and all of other settings than those that ``campaign.toml`` says.

    The file was then altered, and the shards are good. A single shard of other settings came from another campaign.
    """
    hashes = _hashes(*sorted((folder / "shards").glob("*.h5")))
    first = next(hashes, settings_hash)
    if first != settings_hash and settings_hash not in hashes:
        raise CampaignError(
            f"{folder}: its shards were made with other settings than {CAMPAIGN_MARK} says, which was altered or "
            "damaged. Nothing was changed; repeat xcorr run with the settings of the campaign, which writes the file "
            "again"
        )


def _hashes(*files: Path) -> Iterator[str]:
    """Yield the settings' hash of each file of shards or results that can be read."""
    import h5py

    for file in files:
        with contextlib.suppress(OSError, KeyError, RuntimeError, StopIteration), h5py.File(file) as found:  # damaged?
            # in a file of several shards, each has its own
            of = found if "settings_hash" in found.attrs else found[next(iter(found))]
            yield str(of.attrs["settings_hash"])


def frozen_settings(folder: Path, even_altered: bool = False) -> Settings:
    """Return the settings of a campaign as run.

    Raises CampaignError if there are none, or if they are not those that the file itself says (unless
    ``even_altered``): what other settings say of these data would be wrong.
    """
    if not (folder / CAMPAIGN_MARK).is_file():
        raise CampaignError(
            f"there is no campaign in {str(folder)!r}: no {CAMPAIGN_MARK}; name a folder that xcorr run has made"
        )
    require_format(folder)
    settings = build(load(folder / CAMPAIGN_MARK))
    if (made := as_recorded(folder, settings)) is not None:
        return made
    if not even_altered:
        raise CampaignError(
            f"{folder / CAMPAIGN_MARK} was altered or is damaged: its settings are not those whose hash it has; repeat "
            "xcorr run with the settings of the campaign, which writes the file again"
        )
    return settings


def as_recorded(folder: Path, settings: Settings) -> Settings | None:
    """Return settings with the hash that ``campaign.toml`` names; None if they are others.

    The hash is of the catalogue's path as it was given, perhaps relative to a folder; the file has the absolute path.
    """
    recorded, given = recorded_hash(folder), settings.quality.catalogue
    paths = [given]
    if given is not None:
        parts = os.path.abspath(given).split(os.sep)
        ends = [os.sep.join(parts[-k:]) for k in range(1, len(parts))]
        paths += [os.path.abspath(given), *(up + end for end in ends for up in ("", "./", "../", "../../"))]
    for path in paths:
        made = dataclasses.replace(settings, quality=dataclasses.replace(settings.quality, catalogue=path))
        if made.hash() == recorded:
            return made
    return None


def with_campaigns_numbers(folder: Path, settings: Settings) -> Settings:
    """Return settings with the numbers of a campaign where they say "auto", if its settings can be read."""
    try:
        made = settings if _holds_nothing(folder) else settings.with_those_of(frozen_settings(folder))
        return as_recorded(folder, made) or made
    except (CampaignError, SettingsError):  # freeze_settings says what is wrong
        return settings


def difference(known: Path, settings: Settings, where: tuple[str, str] = ("there", "now")) -> str:
    """Return a text with one line for each setting that differs from those in a file."""
    try:
        old, new = build(load(known)).identity(), settings.identity()
    except SettingsError as error:
        return f"  (its campaign.toml cannot be read: {error})"
    flat: list[dict[str, Any]] = []
    for plain in (old, new):
        flat.append({})
        for section, keys in plain.items():
            flat[-1] |= (
                {f"{section}.{key}": v for key, v in keys.items()} if isinstance(keys, dict) else {section: keys}
            )
    lines = [
        f"  {name}: {flat[0].get(name, 'default')!r} {where[0]}, {flat[1].get(name, 'default')!r} {where[1]}"
        for name in {**flat[0], **flat[1]}
        if flat[0].get(name) != flat[1].get(name)
    ]
    same = f"  (the settings are the same, but {known.name} has an identity that is not theirs: it was changed)"
    return "\n".join(lines) or same


def recorded_hash(folder: Path) -> str:
    """Return the settings' hash that ``campaign.toml`` names."""
    return next(filter(None, (_comment(folder, line) for line in HASH_LINES)), "")


def require_format(folder: Path) -> None:
    """Raise CampaignError if a later version of xcorr has made the campaign."""
    found = _comment(folder, FORMAT_LINE) if (folder / CAMPAIGN_MARK).exists() else ""
    if found.isdigit() and int(found) > FORMAT:
        raise CampaignError(
            f"{folder} is a campaign of format {found}, and this version of xcorr knows formats 1 to {FORMAT}; "
            "use the version that made the campaign, or a later one"
        )


def _comment(folder: Path, name: str) -> str:
    """Return the text after a name at the beginning of a line of ``campaign.toml``; an empty text without the line."""
    lines = (folder / CAMPAIGN_MARK).read_text("utf-8", "replace").splitlines()
    return next((line.removeprefix(name) for line in lines if line.startswith(name)), "")


def leftovers(folder: Path, kept: Sequence[Keep] = ()) -> list[Path]:
    """Return the files that a run has not finished. ``kept``: the [[keep]] rules, which name more folders."""
    of_rules = {folder / place / rule.element for rule in kept for place in ("kept", rule.folder)}
    places = {folder, folder / "shards", *of_rules}
    return sorted(path for place in places for path in place.glob(".*.part"))


def remove_leftovers(folder: Path, kept: Sequence[Keep] = ()) -> None:
    """Remove the unfinished files of runs that have ended. The caller must hold the lock of the campaign."""
    for path in leftovers(folder, kept):
        path.unlink(missing_ok=True)


def _campaign_text(settings: Settings) -> str:
    head = [
        "# The settings of this campaign as run; written by xcorr.",
        f"{FORMAT_LINE}{FORMAT}",
        f"{HASH_LINES[0]}{settings.hash()}",
        f"# software: {software()}",
        f"# kernel: {kernel()}",
        "",
    ]
    plain = absolute(settings).as_dict()
    if plain["quality"]["catalogue"] is not None:
        plain["quality"]["catalogue"] = os.path.abspath(plain["quality"]["catalogue"])
    return "\n".join(head) + to_toml(settings.without_later_defaults(plain))


def absolute(settings: Settings) -> Settings:
    """Return the settings with absolute source and metadata, because workers may run in another folder."""
    data = settings.data
    if data.source:
        data = dataclasses.replace(data, source=source.absolute(data.source, os.getcwd()))
    if data.metadata is not None:
        data = dataclasses.replace(data, metadata=os.path.abspath(data.metadata))
    return dataclasses.replace(settings, data=data)
