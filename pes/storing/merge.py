"""Joins a new shard with the one that it replaces: a good result stays where the new one has less.

Files may have left the archive, or have been emptied, since the old shard was made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from xcorr.pes.correlating.layout import Layout
from xcorr.pes.items import Bool, SlotAccount
from xcorr.pes.reading.used_metadata import place_and_channels


def joined(new: Iterable[SlotAccount], old: Iterable[SlotAccount]) -> tuple[tuple[SlotAccount, ...], frozenset[int]]:
    """Return the accounts of a joined shard, and the slots whose old results are kept.

    An old account stays where the new one has fewer windows that are used; its ``stale`` then says why. It does not
    stay if it was made with other metadata, or of data that are now those of another place: then it is wrong.
    """
    before = {account.slot: account for account in old}
    accounts, kept = [], set()
    for account in new:
        known = before.pop(account.slot, None)
        is_corrected = known is not None and not account.is_error and corrects(known.metadata, account.metadata)
        if known is None or known.windows_used <= account.windows_used or is_corrected:
            accounts.append(account)
            continue
        why = f"{account.status}: {account.reason}" if account.reason else account.status
        text = f"{known.windows_used} windows are kept; the inputs now give {account.windows_used} ({why})"
        reason = known.reason
        if account.status == "failed" and account.reason not in reason:  # an error: the next run tries again
            reason = "; ".join(filter(None, [reason, account.reason]))
        accounts.append(dataclasses.replace(known, chunk=account.chunk, stale=text, reason=reason))
        kept.add(account.slot)
    return tuple(accounts), frozenset(kept)


def corrects(old: str, new: str) -> bool:
    """Return whether metadata, as in :attr:`SlotAccount.metadata`, say something else than those used before.

    Accounts without data name no channels, and those of earlier versions neither: they correct no channel.
    """
    (old_place, before), (place, now) = map(place_and_channels, (old, new))
    return old_place != place or bool(before and now and before != now)


def rows_of(layout: Layout, strip: int, components: str, slots: frozenset[int]) -> Bool:
    """Return which rows of a strip, for a component pair, have one of the slots."""
    rows, letters = layout.strip_rows(strip), layout.components
    wanted = np.array(sorted(slots))
    found = np.zeros(len(rows), bool)
    for station, letter in zip(layout.pair_indices(), components, strict=True):
        slot = station[rows.start : rows.stop] * len(letters) + letters.index(letter)
        found |= np.isin(slot, wanted)
    return found


def keep_better(
    old: Any, paths: Mapping[str, str], series: Any, rows: Mapping[str, np.ndarray], concerned: Bool
) -> None:
    """Copy from an old shard (h5py) the correlations of more windows than the new ones, of the rows concerned.

    ``paths`` say where the old shard has the ``series``, and each of the values [substack, row] in ``rows``; ``series``
    is the new dataset [substack, row, lag].
    """
    count = "series_n_windows"
    better = concerned & (old[paths[count]][...] > rows[count])
    for substack, which in enumerate(better):
        places = np.flatnonzero(which)
        for place in places:
            series[substack, place] = old[paths["series"]][substack, place]
        for kind, values in rows.items():
            values[substack, places] = old[paths[kind]][substack][places]
