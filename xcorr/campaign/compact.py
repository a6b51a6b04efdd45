"""Joins the shards of each strip and month in one file: the same bits in fewer files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xcorr.campaign.stack import circumstances, stack_campaign
from xcorr.core.files import rename_synced
from xcorr.network.roster import Roster
from xcorr.network.survey import survey_of
from xcorr.pes.storing.shards import (
    COMPACT_FORMAT,
    VERSION,
    ShardError,
    compact_name,
    part_names,
    read_shard,
    require_space,
)
from xcorr.provenance.runs import recorded
from xcorr.settings.recipe import Recipe
from xcorr.store import folder as folders
from xcorr.store.derived import settle_all
from xcorr.store.ledger import Ledger
from xcorr.store.ledger_schema import Shard
from xcorr.store.lock import CampaignLock
from xcorr.store.reconcile import reconcile, remove_redundant, share
from xcorr.store.sqlite_files import telling_who_waits
from xcorr.store.tables import pair_table


def compact(folder: Path) -> tuple[int, int]:
    """Join the shards of each strip and month; return the numbers of files before and after.

    The old files are removed once the larger files are whole on disk, and ``xcorr.h5`` shows the series in them. Raises
    CampaignError if the folder holds no campaign, Locked while a run holds it, ShardError if the disk is full.
    """
    folder = folder.absolute()
    settings = folders.frozen_settings(folder)
    with CampaignLock(folder), telling_who_waits(folder):
        folders.remove_leftovers(folder)
        ledger = Ledger(folder, settings.hash(), not settings.stack.keep_series)
        try:
            reconcile(ledger)
            before = _files(folder)
            of_file: dict[str, list[Shard]] = {}
            for shard in ledger.shards():
                if shard.kept:
                    of_file.setdefault(compact_name(shard.name), []).append(shard)
            for name, shards in of_file.items():
                if len({s.path.partition("#")[0] for s in shards}) > 1:
                    ledger.move(_join(folder, name, shards))
            roster = Roster.from_json(ledger.fact("members"))
            if roster is not None and of_file:
                with recorded(folder, circumstances(settings)) as record:
                    found = survey_of(roster, settings)
                    stack_campaign(folder, Recipe(settings), found, pair_table(found), ledger, record)
            remove_redundant(ledger)
            settle_all(ledger)
            ledger.seal()
        finally:
            ledger.close()
    return before, _files(folder)


def _files(folder: Path) -> int:
    return sum(1 for _ in (folder / "shards").glob("*.h5"))


def _join(folder: Path, name: str, shards: Sequence[Shard]) -> list[tuple[str, int, int, str]]:
    """Write one file with these shards, in the order of time; return the new rows of the ledger."""
    import h5py

    require_space(folder, sum(s.bytes for s in shards))
    final, temporary = folder / name, folder / "shards" / f".{Path(name).name}.part"
    try:
        with h5py.File(temporary, "w", libver="latest") as target:
            target.attrs.update({"format": COMPACT_FORMAT, "version": VERSION})
            for shard in shards:
                file, _, part = shard.path.partition("#")
                with h5py.File(folder / file) as source:
                    old, new = source[part] if part else source, target.create_group(shard.part)
                    new.attrs.update(old.attrs)
                    for item in old:
                        source.copy(old[item], new, name=item)
        for shard in shards:
            content = read_shard(temporary, thorough=True, part=shard.part)
            if (content.path, content.id) != (shard.name, shard.id):
                raise ShardError(f"{temporary.name}: {shard.name} did not arrive whole; nothing was changed")
        if final.exists() and not set(part_names(final)) <= set(part_names(temporary)):
            raise ShardError(f"{name}: holds shards that the ledger does not know there; repeat xcorr run first")
        rename_synced(temporary, final)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    status = final.stat()
    return [
        (f"{name}#{s.part}", share(status.st_size, len(shards), k), status.st_mtime_ns, s.path)
        for k, s in enumerate(sorted(shards, key=lambda s: s.name))
    ]
