"""Finds the strips that a campaign still lacks, and checks that the disk has room for them."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from xcorr.network.requests import slots_of
from xcorr.network.survey import Survey
from xcorr.pes.items import Chunk, SlotAccount, SlotRequest
from xcorr.pes.reading.metadata import read_metadata
from xcorr.pes.reading.source import Fingerprint, Source, open_source
from xcorr.pes.reading.used_metadata import Digests, place_and_channels, place_word
from xcorr.settings import Settings
from xcorr.store.folder import CampaignError
from xcorr.store.ledger_reader import LedgerReader
from xcorr.store.ledger_schema import Shard

FEW = 100_000  # accounts: of larger campaigns, only --refresh compares the files of all


@dataclasses.dataclass(frozen=True, slots=True)
class Remaining:
    """The work that remains: for each generation, the chunks, each with the strips that it lacks.

    ``without_series`` is the number of shards that would be recomputed, but cannot be, because their series are in the
    stacks already and were removed. ``changed`` lists slot and start (ns) of channels whose files are new, or have
    changed, and which are not read again; ``other_metadata`` those whose response or direction is another one now.
    """

    todo: dict[int, list[Chunk]]
    without_series: int
    changed: list[tuple[int, int]]
    other_metadata: list[tuple[int, int]]


def what_remains(found: Survey, ledger: LedgerReader, settings: Settings, refresh: bool = False) -> Remaining:
    """Return the work that remains.

    A strip is recomputed if more time of its chunk is wanted now, or if one of its stations failed. With ``refresh``,
    a strip is also recomputed if the input files of one of its stations have changed. A station that has no data in
    the source any more causes no recomputation: its stored results stay.
    """
    shards = {(s.start_ns, s.generation, s.strip): s for s in ledger.shards()}
    starts = sorted({c.start_ns for c in found.chunks} | {s.start_ns for s in shards.values()})
    again: dict[int, set[int]] = {}
    letters, slots = len(settings.components), slots_of(found, settings)
    chunk_at = {c.start_ns: c for c in found.chunks}
    source = open_source(found.index.source, settings.data.options)
    looks = refresh or len(starts) * len(found.stations) * letters <= FEW
    changed: list[tuple[int, int]] = []
    other_metadata: list[tuple[int, int]] = []
    said = _metadata_now(found, settings)
    for start, account in ledger.accounts(files=looks):
        number = account.slot // letters
        if start not in chunk_at or not found.stations[number].channels:
            continue
        differs = (looks or not account.seed_id) and _changed(
            account, slots(number, chunk_at[start]), account.slot % letters, source
        )
        is_other = account.status == "used" and said(account, number, chunk_at[start]) != account.metadata
        if account.is_error or (refresh and (differs or is_other)):
            again.setdefault(start, set()).add(number)
        elif differs and not is_other:
            changed.append((account.slot, start))
        if is_other:
            other_metadata.append((account.slot, start))
    todo: dict[int, list[Chunk]] = {}
    without_series = 0
    fixed_starts: set[int] = set()
    for generation in found.generations:
        layout = generation.layout
        needed = {strip: set(layout.stations_needed(strip)) for strip in layout.strips}
        for chunk in found.chunks:
            of_chunk = {strip: shards.get((chunk.start_ns, generation.number, strip)) for strip in layout.strips}
            lacking = [
                strip
                for strip, shard in of_chunk.items()
                if not _is_done(shard, chunk) or needed[strip] & again.get(chunk.start_ns, set())
            ]
            fixed = [strip for strip in lacking if (shard := of_chunk[strip]) is not None and not shard.kept]
            without_series += len(fixed)
            fixed_starts |= {chunk.start_ns} if fixed else set()
            lacking = [strip for strip in lacking if strip not in fixed]
            if lacking:
                made = dataclasses.replace(
                    chunk,
                    index=starts.index(chunk.start_ns),
                    strips=-(-layout.blocks // layout.blocks_per_strip),
                    wanted=tuple(lacking),
                    generation=generation.number,
                )
                todo.setdefault(generation.number, []).append(made)
    if refresh:  # the others are computed again now
        other_metadata = [(slot, start) for slot, start in other_metadata if start in fixed_starts]
    return Remaining(todo, without_series, changed, other_metadata)


def _metadata_now(found: Survey, settings: Settings) -> Callable[[SlotAccount, int, Chunk], str]:
    """Return a function of an account, the number of its station and its chunk: what its metadata would be now."""
    metadata = read_metadata(settings.data.metadata)
    digests = Digests(metadata, settings.condition.response, settings.condition.band_hz)
    in_files = {
        f"{c.network}.{c.station}.{c.location}.{c.channel}"
        for every in found.index.coverages.values()
        for c in every
        if c.turned
    }

    def said(account: SlotAccount, number: int, chunk: Chunk) -> str:
        place = place_word(found.stations[number].within, chunk)
        _, channels = place_and_channels(account.metadata)  # accounts of earlier versions name none
        now = [digests.of(c, chunk.start_ns, chunk.end_ns, c in in_files) for c in channels]
        return " ".join(filter(None, [place, *now]))

    return said


def _is_done(shard: Shard | None, chunk: Chunk) -> bool:
    return shard is not None and shard.data_start_ns <= chunk.data_start_ns and chunk.data_end_ns <= shard.data_end_ns


def _changed(account: SlotAccount, slots: Sequence[SlotRequest], own: int, source: Source) -> bool:
    """Return whether a slot would now be read from other files; ``own`` is its index among its station's slots.

    A slot that was rotated from several channels was read from the files of all these channels.
    """
    if not account.seed_id:
        return bool(slots[own].candidates)
    now = {c.seed_id: _marks(map(source.fingerprint, c.files)) for slot in slots for c in slot.candidates}
    of_slot, before = now.pop(account.seed_id, set()), _marks(account.files)
    rest = before - of_slot
    return not of_slot <= before or rest != set().union(*(f for f in now.values() if f & rest)) - of_slot


def _marks(files: Iterable[Fingerprint | None]) -> set[tuple[Any, ...] | None]:
    """Return name, size and time of files, without their folders: an archive that was moved has not changed."""
    return {file and (file[0].rpartition("/")[2], *file[1:]) for file in files}


def check_space(folder: Path, needed: int) -> None:
    """Raise CampaignError if the disk lacks the space that a run needs."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CampaignError(
            f"{folder}: the run would write {needed / 1e6:.1f} MB and the disk has {free / 1e6:.1f} MB free; "
            "free some space, choose another folder with -o, or ask for fewer pairs, lags or stacks"
        )
