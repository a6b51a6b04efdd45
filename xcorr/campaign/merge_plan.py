"""Where the rows of a merged campaign are in the campaigns that it is made of."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from xcorr.campaign.merge_parts import MergeError, Part
from xcorr.network.places import metres
from xcorr.network.roster import Generation, Roster, generations_of
from xcorr.network.survey import Requested
from xcorr.pes.correlating.layout import Layout
from xcorr.pes.items import Chunk, Int64, SlotAccount
from xcorr.pes.reading.read import NO_FILE
from xcorr.pes.stacking.gather import GatherRequest, RowsOf
from xcorr.settings import Settings
from xcorr.store.ledger_reader import IMPORTED, LedgerReader

NOT_READ = "had no pair in the campaign that was merged, which did not read it"
MIXED = "campaigns that were merged have other data of it, and rows are of either"
FAR_M = 0.5  # coordinates that differ by more are of different places


def merged_roster(parts: Sequence[Part]) -> Roster:
    """Return the stations of all campaigns, in the order of one run over all of them.

    Stations keep the order that they have in every campaign; where that leaves a choice, they are in the order of the
    lines of the lists. Raises MergeError if no order fits, or if places differ.
    """
    if all(p.roster == parts[0].roster for p in parts):
        return parts[0].roster
    stations: dict[str, Any] = {}
    line: dict[str, int] = {}
    texts = list(dict.fromkeys(row.text for part in parts for row in part.requested))
    number = {text: k for k, text in enumerate(texts)}
    for part in parts:
        lines = part.lines_of()
        for station in part.roster.stations:
            known = stations.setdefault(station.name, station)
            line.setdefault(station.name, number[lines[station.name]] if station.name in lines else -1)
            _require_same_place(known, station, part)
    left, order = [list(p.names) for p in parts], list[str]()
    while any(left):
        later = {name for names in left for name in names[1:]}
        heads = {names[0] for names in left if names} - later
        if not heads:
            raise MergeError(
                f"the stations {' and '.join(sorted({names[0] for names in left if names}))} are in another order in "
                f"another campaign ({', '.join(str(p.folder) for p in parts)}); a pair has one direction, so they "
                "cannot be merged"
            )
        order.append(min(heads, key=lambda name: (line[name], name)))
        left = [[n for n in names if n != order[-1]] for names in left]
    return Roster(tuple(stations[name] for name in order), (len(order),))


def _require_same_place(known: Any, station: Any, part: Part) -> None:
    a, b = known.coordinates, station.coordinates
    same = metres(a, b) <= FAR_M if a.are_known and b.are_known else a.are_known == b.are_known
    if not same:
        raise MergeError(
            f"{part.folder}: {station.name} has other coordinates than in the campaigns before; xcorr run "
            "--refresh-metadata gives it those of the metadata"
        )


def merged_lines(parts: Sequence[Part]) -> tuple[Requested, ...]:
    """Return the lines of the lists of all campaigns, each once, with all stations that it brought."""
    found: dict[str, Requested] = {}
    for row in (row for part in parts for row in part.requested):
        known = found.get(row.text)
        if known is None:
            found[row.text] = row
        elif row.status == "used":
            stations = tuple(dict.fromkeys([*(known.stations if known.status == "used" else ()), *row.stations]))
            found[row.text] = dataclasses.replace(row, stations=tuple(sorted(stations)))
    rows = tuple(found.values())
    if len({row.line for row in rows}) == len(rows):
        return rows
    return tuple(dataclasses.replace(row, line=k) for k, row in enumerate(rows, 1))


@dataclasses.dataclass(frozen=True)
class _Place:
    """Rows ``at`` of the shards of a strip of campaign number ``part``, which become the rows ``to`` of a strip."""

    part: int
    generation: int
    strip: int
    at: Int64
    to: Int64
    over: bool


@dataclasses.dataclass(frozen=True)
class Gathered:
    """The strips of a generation that are to be gathered, each made only when it is asked for."""

    parts: tuple[Part, ...]
    roster: Roster
    generation: Generation
    settings: Settings
    todo: tuple[tuple[Chunk, tuple[int, ...]], ...]

    def __len__(self) -> int:
        """Return the number of strips."""
        return sum(len(strips) for _, strips in self.todo)

    def check(self) -> None:
        """Raise MergeError if there are pairs that a campaign of the same chunk has not looked for."""
        for chunk in {self._having(chunk): chunk for chunk, _ in self.todo}.values():
            for strip in self.generation.layout.strips:
                self._places(chunk, strip)

    def __iter__(self) -> Iterator[GatherRequest]:
        """Yield the strips in the order of chunks."""
        letters, layout = len(self.settings.components), self.generation.layout
        known: dict[tuple[tuple[int, ...], int], list[_Place]] = {}
        for chunk, strips in self.todo:
            having = self._having(chunk)
            accounts = self._accounts(having, chunk)
            for strip in strips:
                if (having, strip) not in known:
                    known[having, strip] = self._places(chunk, strip)
                found = tuple(self._rows_of(place, chunk) for place in known[having, strip])
                slots = (s * letters + c for s in layout.stations_needed(strip) for c in range(letters))
                yield GatherRequest(chunk, strip, found, tuple(accounts[slot] for slot in slots))

    def __deepcopy__(self, memo: dict[int, Any]) -> Gathered:
        """Return the same object, which needs no copy because it never changes."""
        return self

    def _having(self, chunk: Chunk) -> tuple[int, ...]:
        """Return the numbers of the campaigns that have a chunk: first those that have most of its time."""
        found = [k for k, part in enumerate(self.parts) if chunk.start_ns in part.shards]
        return tuple(sorted(found, key=lambda k: -self.parts[k].span_ns(chunk.start_ns)))

    @functools.cached_property
    def _known(self) -> list[_Known]:
        lines = {name: text for part in self.parts for name, text in part.lines_of().items()}
        return [_Known(part, self.roster, self.settings, lines) for part in self.parts]

    def _places(self, chunk: Chunk, strip: int) -> list[_Place]:
        """Return where the rows of a strip are. Raises MergeError if a campaign has not looked for one of them."""
        layout, having = self.generation.layout, self._having(chunk)
        rows = layout.strip_rows(strip)
        i, j = (numbers[rows.start : rows.stop] for numbers in layout.pair_indices())
        found, left, asked = list[_Place](), np.ones(len(rows), bool), np.zeros(len(rows), bool)
        for k in reversed(having):  # so that what the first has counts
            found += self._known[k].take(k, i, j, left)
            asked |= self._known[k].asked[i] & self._known[k].asked[j]
        for row in np.flatnonzero(left & ~asked)[:1]:
            a, b = (self.roster.stations[int(numbers[row])].name for numbers in (i, j))
            first = self.parts[having[0]]
            do = "import the files of both together"
            if not first.facts[IMPORTED]:
                do = f"add both to the list of {first.folder}, and repeat xcorr run there"
            raise MergeError(f"the pair {a} and {b} is in no campaign of the chunk {chunk.name}: {do}")
        return found

    def _rows_of(self, place: _Place, chunk: Chunk) -> RowsOf:
        part = self.parts[place.part]
        path = next(
            s.path for s in part.shards[chunk.start_ns] if (s.generation, s.strip) == (place.generation, place.strip)
        )
        return RowsOf(str(part.folder), path, place.at, place.to, place.over)

    def _accounts(self, having: Sequence[int], chunk: Chunk) -> dict[int, SlotAccount]:
        """Return the account of every slot in a chunk: the one with most windows, of equal ones the first."""
        letters, found = len(self.settings.components), dict[int, SlotAccount]()
        for k in having:
            new = {int(own): station for station, own in enumerate(self._known[k].own) if own >= 0}
            with contextlib.closing(LedgerReader(self.parts[k].folder, thorough=False)) as ledger:
                for _, account in ledger.accounts("start_ns = ?", (chunk.start_ns,)):
                    station, letter = divmod(account.slot, letters)
                    slot = new[station] * letters + letter
                    before = found.get(slot, account)
                    if slot not in found or account.windows_used > before.windows_used:
                        found[slot] = dataclasses.replace(account, slot=slot, chunk=chunk.index)
                    both = before.windows_used and account.windows_used
                    if both and _data(before) != _data(account) and MIXED not in found[slot].note:
                        note = "; ".join(filter(None, (found[slot].note, MIXED)))
                        found[slot] = dataclasses.replace(found[slot], note=note)
        for slot in range(len(self.roster.stations) * letters):
            known = any(self._known[k].own[slot // letters] >= 0 for k in having)
            found.setdefault(slot, SlotAccount(slot, chunk.index, "absent", NOT_READ if known else NO_FILE))
        return found


def _data(account: SlotAccount) -> tuple[Any, ...]:
    """Return what an account says of the data, apart from the names of files."""
    return account.samples, account.gaps, account.gap_s, account.zeros_s, account.windows


class _Known:
    """A campaign, and where it has the pairs of the merged one.

    ``own`` [station] is the number that a station of the merged campaign has in it, or -1. ``asked`` [station] is True
    for those that its list asks for, also where it found no data. ``lines`` are those that brought a station anywhere.
    """

    def __init__(self, part: Part, roster: Roster, settings: Settings, lines: Mapping[str, str]) -> None:
        number = {name: k for k, name in enumerate(part.names)}
        self.own = np.array([number.get(s.name, -1) for s in roster.stations])
        self.layouts = [g.layout for g in generations_of(part.roster, settings)]
        self.rows = [_row_numbers(layout) for layout in self.layouts]
        texts = {row.text for row in part.requested}
        self.asked = (self.own >= 0) | np.array([lines.get(s.name) in texts for s in roster.stations])

    def take(self, part: int, i: Int64, j: Int64, left: np.ndarray) -> Iterator[_Place]:
        """Yield where this campaign has rows, and mark them as not ``left`` [row] any more."""
        own_i, own_j = self.own[i], self.own[j]
        for generation, (layout, rows) in enumerate(zip(self.layouts, self.rows, strict=True)):
            inside = (own_i >= 0) & (own_j >= 0) & (own_i < len(rows)) & (own_j < len(rows))
            at = np.full(len(i), -1)
            at[inside] = rows[own_i[inside], own_j[inside]]
            for strip in layout.strips:
                of_strip = layout.strip_rows(strip)
                to = np.flatnonzero((at >= of_strip.start) & (at < of_strip.stop))
                if len(to):
                    over = not left[to].all()
                    left[to] = False
                    yield _Place(part, generation, strip, at[to] - of_strip.start, to, over)


def _row_numbers(layout: Layout) -> Int64:
    """Return the row of every pair [station, station], -1 where there is none."""
    rows = np.full(layout.matrix.shape, -1, np.int64)
    rows[layout.pair_indices()] = np.arange(layout.rows)
    return rows
