"""The campaigns that are merged: their settings, stations and shards, as they are on disk."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import defaultdict
from pathlib import Path

from xcorr.network.roster import Roster
from xcorr.network.survey import Requested
from xcorr.pes.storing.shards import digest_of
from xcorr.settings import Settings
from xcorr.store.folder import CampaignError, frozen_settings
from xcorr.store.ledger_reader import IMPORTED, LedgerError, LedgerReader
from xcorr.store.ledger_schema import Shard
from xcorr.store.lock import is_running


class MergeError(CampaignError):
    """Campaigns that cannot be merged."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A campaign that is merged: its folder, settings, stations, the lines of its list, and its shards by chunk."""

    folder: Path
    settings: Settings
    roster: Roster
    requested: tuple[Requested, ...]
    shards: dict[int, list[Shard]]
    facts: dict[str, str]

    @property
    def names(self) -> list[str]:
        """The names of its stations, in order."""
        return [s.name for s in self.roster.stations]

    def span_ns(self, start_ns: int) -> int:
        """Return how much time of a chunk was wanted (ns)."""
        shard = self.shards[start_ns][0]
        return shard.data_end_ns - shard.data_start_ns

    def lines_of(self) -> dict[str, str]:
        """Return the line that brought each station."""
        found = {name: row.text for row in reversed(self.requested) for name in row.stations}
        moved = {name: found[own] for name in self.names if (own := name.partition("@")[0]) in found}
        return found | moved  # of a station that was moved, each place is a station


def read_part(folder: Path) -> Part:
    """Return a campaign that is to be merged. Raises MergeError if it is not complete, or a run is changing it."""
    folder = folder.resolve()
    settings = frozen_settings(folder)
    if is_running(folder):
        raise MergeError(f"{folder}: a run is changing it; wait for its end")
    try:
        reader = LedgerReader(folder)
    except LedgerError as error:
        raise MergeError(f"{folder}: {error}; repeat xcorr run first") from error
    with contextlib.closing(reader) as ledger:
        roster, shards = Roster.from_json(ledger.fact("members")), ledger.shards()
        if roster is None or not shards:
            raise MergeError(f"{folder} has no correlations; run it first")
        lacking = ledger.counts()["shards_expected"] - len(shards)
        if lacking or not ledger.is_whole():
            raise MergeError(f"{folder} lacks {lacking} shard(s), or its ledger is damaged; repeat xcorr run first")
        if not all(s.kept for s in shards):
            raise MergeError(
                f"{folder}: its series were not kept (stack.keep_series = false), and only they are merged"
            )
        missing = [s.path for s in shards if not (folder / s.path.partition("#")[0]).is_file()]
        if missing:
            raise MergeError(
                f"{folder}: {len(missing)} shard(s) are lacking, such as {missing[0]}; repeat xcorr run first"
            )
        by_chunk: dict[int, list[Shard]] = defaultdict(list)
        for shard in shards:
            by_chunk[shard.start_ns].append(shard)
        facts = {name: ledger.fact(name) for name in ("kernel", IMPORTED)}
        facts["shards"] = digest_of((s.name, s.id) for s in shards)
        return Part(folder, settings, roster, tuple(ledger.requested()), dict(by_chunk), facts)
