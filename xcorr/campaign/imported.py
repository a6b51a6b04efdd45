"""Makes a campaign of the correlations of another program."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.campaign.assemble import Assembly, assemble, require_outside, shard_writer
from xcorr.campaign.merge_plan import IMPORTED
from xcorr.campaign.workflows import chained
from xcorr.core import WorkflowGraph, installed
from xcorr.imports.foreign import DAY_NS, STATION, Foreign, ForeignError, Pieces, naming
from xcorr.network.roster import Generation, Roster, generations_of
from xcorr.network.station_list import Station
from xcorr.network.survey import NOWHERE, Requested, Survey
from xcorr.pes.correlating.layout import Layout
from xcorr.pes.correlating.rows import CorrelationRows, StripEnd
from xcorr.pes.items import WINDOWS_USED, Chunk, SlotAccount
from xcorr.pes.reading.metadata import read_metadata
from xcorr.pes.reading.source import Index
from xcorr.pes.reading.waveform import NS
from xcorr.pes.stacking.stack import StackSource
from xcorr.settings import Settings, SettingsError
from xcorr.settings.recipe import Recipe
from xcorr.settings.toml import build, override
from xcorr.store.keep_ledger import KeepLedger

SETTABLE = ("stack", "run", "provenance")
NOT_HERE = "no correlation in the imported files"
LATE = 0.01  # of a piece: difference from the grid that is rounding


@dataclasses.dataclass(frozen=True)
class Made:
    """A campaign that was imported: its folder, numbers of stations, pairs with data and pieces, and notes."""

    folder: Path
    stations: int
    pairs: int
    pieces: int
    notes: tuple[str, ...]


def import_campaign(
    kind: str,
    path: Path,
    folder: Path,
    assignments: Sequence[str] = (),
    choice: str | None = None,
    metadata: str | None = None,
) -> Made:
    """Make a campaign of the files of another program, by the reader ``kind``; return what it has.

    ``assignments`` are settings in TOML (``condition.band_hz=[0.1,1.0]``), ``choice`` is one of several sets of files,
    ``metadata`` StationXML with coordinates of stations that have none in the files.
    Raises ForeignError for files that cannot be imported, CampaignError if the folder is another campaign.
    """
    path = path.resolve()
    if path.is_dir():
        require_outside(folder, path)
    with naming(path):
        foreign: Foreign = installed.load("imports", kind)(path, choice)
    pieces = foreign.pieces()
    _require_usable(foreign, pieces, assignments)
    known = read_metadata(metadata).places() if metadata is not None else {}
    for (network, code), places in known.items():
        if not foreign.places.get(f"{network}.{code}", NOWHERE).are_known:
            foreign.places[f"{network}.{code}"] = places[0].at
    grid = _grid(foreign, pieces)
    _require_once(pieces, grid)
    roster = _roster(foreign, pieces)
    settings = _settings(foreign, pieces, roster, grid, assignments)
    found = Survey(roster, _lines(roster), grid.chunks, generations_of(roster, settings), Index("", {}))
    recipe = Recipe(settings)

    def workflow(generation: Generation, todo: Sequence[Chunk]) -> WorkflowGraph:
        items = _Items(foreign, tuple(pieces), grid, roster, settings, generation.layout, tuple(todo))
        writer = shard_writer(folder.absolute(), recipe, found, generation)
        return chained(StackSource(items), writer, KeepLedger(str(folder.absolute())))

    about_files = {"path": str(path), "choice": choice, "metadata": metadata, "files": _fingerprint(path)}
    facts = {IMPORTED: json.dumps({"program": foreign.origin, **about_files})}
    what = Assembly(settings, found, facts, "importing", workflow, "WriteShards")
    about = {"imported": json.loads(facts[IMPORTED]) | {"notes": foreign.notes}}
    assemble(folder.absolute(), what, lambda report: about | {"warnings": foreign.notes})
    return Made(
        folder, len(roster.stations), len({_ends(p) for p in pieces}), len(grid.chunks) * grid.substacks,
        tuple(foreign.notes),
    )  # fmt: skip


def _fingerprint(path: Path) -> str:
    """Return a digest of the names, sizes and times of change of files, so that others are not mixed with them."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    lines = (f"{p} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in files)
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def _require_usable(foreign: Foreign, pieces: Sequence[Pieces], assignments: Sequence[str]) -> None:
    """Raise ForeignError for names and places that are impossible, and for settings that only the files can say."""
    for name in {name for p in pieces for name in (p.first, p.second)}:
        if not STATION.fullmatch(name):
            raise ForeignError(f"{foreign.path}: {name!r} is no station; it must be NET.STA, of letters and digits")
        at = foreign.places.get(name, NOWHERE)
        if at.are_known and (abs(at.latitude) > 90 or abs(at.longitude) > 360):
            raise ForeignError(f"{foreign.path}: {name} has impossible coordinates ({at.latitude}, {at.longitude})")
    for text in assignments:
        key = text.partition("=")[0].strip()
        if key == "stack.substack_s" or not (key == "condition.band_hz" or key.split(".")[0] in SETTABLE):
            raise ForeignError(
                f"--set {text}: the files say what was made; only condition.band_hz, stack.KEY, run.KEY and "
                "provenance.KEY can be set"
            )


def _ends(piece: Pieces) -> tuple[str, ...]:
    return tuple(sorted((piece.first, piece.second)))


@dataclasses.dataclass(frozen=True)
class _Grid:
    """The chunks, and the substacks in each; ``piece_ns`` is the length of a piece."""

    chunks: tuple[Chunk, ...]
    substacks: int
    piece_ns: int

    @property
    def chunk_ns(self) -> int:
        return self.piece_ns * self.substacks

    def place(self, start_ns: int | None) -> tuple[int, int]:
        """Return start of the chunk (ns) and substack of a piece. Raises ForeignError if it is not on the grid."""
        first = self.chunks[0].start_ns
        number, late = divmod((first if start_ns is None else start_ns) - first, self.piece_ns)
        if late > self.piece_ns / 2:
            number, late = number + 1, late - self.piece_ns
        if abs(late) > LATE * self.piece_ns:
            raise ForeignError(
                f"pieces are not at equal distances: one begins {late / NS:g} s after a multiple of "
                f"{self.piece_ns / NS:g} s from the first; import them apart"
            )
        chunk, substack = divmod(number, self.substacks)
        return first + chunk * self.chunk_ns, substack


def _grid(foreign: Foreign, pieces: Sequence[Pieces]) -> _Grid:
    """Return chunks of a day, cut into pieces; or chunks of one piece, where pieces are a day or longer."""
    known = [p for p in pieces if p.starts is not None]
    if not known:
        foreign.note("the time of these correlations is not known: they are entered as of the day 1970-01-01")
        return _Grid((Chunk(0, 0, DAY_NS, 0, DAY_NS),), 1, DAY_NS)
    lengths = Counter(p.length_ns for p in known)
    length = lengths.most_common(1)[0][0]
    if len(lengths) > 1:
        others = ", ".join(f"{ns / NS:g} s" for ns in sorted(lengths) if ns != length)
        foreign.note(f"pieces of {others} are entered as pieces of {length / NS:g} s, which most have")
    if length % NS or length <= 0:
        raise ForeignError(f"pieces of {length / NS:g} s: only whole seconds can be imported")
    starts = np.unique(np.concatenate([p.starts for p in known]))
    whole = length >= DAY_NS or DAY_NS % length
    size = length if whole else DAY_NS
    first = int(starts[0]) if whole else int(starts[0]) // DAY_NS * DAY_NS
    if not whole and (int(starts[0]) - first) % length > LATE * length:
        first, size = int(starts[0]), length
    grid = _Grid((Chunk(0, first, first + size, first, first + size),), size // length, length)
    begins = sorted({grid.place(int(start))[0] for start in starts})
    return dataclasses.replace(grid, chunks=tuple(Chunk(k, t, t + size, t, t + size) for k, t in enumerate(begins)))


def _require_once(pieces: Sequence[Pieces], grid: _Grid) -> None:
    """Raise ForeignError if a pair has two correlations of the same time and components."""
    seen: set[tuple[Any, ...]] = set()
    for piece in pieces:
        turned = piece.first > piece.second
        components = piece.components[::-1] if turned else piece.components
        for start in [None] if piece.starts is None else piece.starts.tolist():
            own = (*_ends(piece), components, *grid.place(start))
            if own in seen:
                raise ForeignError(
                    f"{piece.first} and {piece.second}, {piece.components}: two correlations of the same time; import "
                    "the files of one stack, filter or location at a time"
                )
            seen.add(own)


def _settings(
    foreign: Foreign, pieces: Sequence[Pieces], roster: Roster, grid: _Grid, assignments: Sequence[str]
) -> Settings:
    """Return settings that describe what was imported; most of those of processing are not known."""
    number = {s.name: k for k, s in enumerate(roster.stations)}
    rate, own = foreign.lags.rate_hz, sorted({p.components for p in pieces if p.first == p.second})
    cross = sorted(
        {p.components[:: -1 if number[p.first] > number[p.second] else 1] for p in pieces if p.first != p.second}
    )
    piece_s, band = grid.piece_ns // NS, foreign.band_hz or (rate / 100, 0.4 * rate)
    window_s = float(min(max(piece_s, math.ceil(2 * foreign.lags.most / rate)), grid.chunk_ns // NS))
    plain: dict[str, Any] = {
        "data": {"chunk_s": grid.chunk_ns // NS},
        "condition": {"rate_hz": rate, "band_hz": list(band), "response": "none"},
        "window": {"length_s": window_s, "step_s": window_s},
        "correlate": {
            "max_lag_s": foreign.lags.most / rate,
            "components": cross or own,
            "autocorrelations": bool(own),
            **({"autocorrelation_components": own} if own else {}),
        },
        "stack": {"substack_s": piece_s if grid.substacks > 1 else 0},
    }
    if grid.substacks == 1:
        del plain["stack"]
    if foreign.band_hz is None and not any(a.partition("=")[0].strip() == "condition.band_hz" for a in assignments):
        foreign.note("the band of these correlations is not known: say it with --set condition.band_hz=[LOW,HIGH]")
    settings = override(plain, assignments)
    try:
        return build(settings)
    except SettingsError as error:
        raise ForeignError(
            f"{foreign.path}: pieces of {piece_s} s with lags to {foreign.lags.most / rate:g} s at {rate:g} Hz cannot "
            f"be a campaign: {error}"
        ) from error


def _roster(foreign: Foreign, pieces: Sequence[Pieces]) -> Roster:
    """Return the stations, each pair's first before its second where that is possible; else in the order of names."""
    after: dict[str, set[str]] = defaultdict(set)
    names = sorted({name for p in pieces for name in (p.first, p.second)})
    for piece in pieces:
        if piece.first != piece.second:
            after[piece.second].add(piece.first)
    order: list[str] = []
    left = list(names)
    while left:
        free = next((name for name in left if not after[name] - set(order)), left[0])
        order.append(free)
        left.remove(free)
    if not all(foreign.places.get(name, NOWHERE).are_known for name in names):
        foreign.note("coordinates of stations are not known: distances and maps are lacking")
    parts = ((name, *name.split(".", 1)) for name in order)
    stations = (Station(net, code, foreign.places.get(name, NOWHERE)) for name, net, code in parts)
    return Roster(tuple(stations), (len(order),))


def _lines(roster: Roster) -> tuple[Requested, ...]:
    return tuple(Requested(k, f"{s.network} {s.code}", "used", "", (s.name,)) for k, s in enumerate(roster.stations, 1))


@dataclasses.dataclass(frozen=True)
class _Items:
    """The rows and ends of strips, as :class:`xcorr.pes.WriteShards` takes them, made one after another."""

    foreign: Foreign
    pieces: tuple[Pieces, ...]
    grid: _Grid
    roster: Roster
    settings: Settings
    layout: Layout
    todo: tuple[Chunk, ...]

    def __len__(self) -> int:
        """Return the number of strips."""
        return sum(len(chunk.wanted or ()) for chunk in self.todo)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Items:
        """Return the same object, which needs no copy because it never changes."""
        return self

    def __iter__(self) -> Iterator[CorrelationRows | StripEnd]:
        """Yield the items of all strips, by chunk."""
        number = {s.name: k for k, s in enumerate(self.roster.stations)}
        strip_of = {row: strip for strip in self.layout.strips for row in self.layout.strip_rows(strip)}
        in_chunk: dict[int, list[tuple[int, Pieces, list[tuple[int, int]]]]] = defaultdict(list)
        for piece in self.pieces:
            i, j = number[piece.first], number[piece.second]
            row = self.layout.row(min(i, j), max(i, j))
            starts = [None] if piece.starts is None else piece.starts.tolist()
            of: dict[int, list[tuple[int, int]]] = defaultdict(list)
            for k, start in enumerate(starts):
                begin, substack = self.grid.place(start)
                of[begin].append((k, substack))
            for begin, which in of.items():
                in_chunk[begin].append((row, piece, which))
        for chunk in self.todo:
            here = sorted(in_chunk[chunk.start_ns], key=lambda entry: entry[0])
            for strip in chunk.wanted or ():
                windows: dict[int, int] = {}
                rows = [entry for entry in here if strip_of[entry[0]] == strip]
                yield from self._rows(chunk, strip, rows, number, windows)
                yield StripEnd(chunk, strip, self._accounts(chunk, strip, windows))

    def _rows(
        self,
        chunk: Chunk,
        strip: int,
        rows: Sequence[tuple[int, Pieces, list[tuple[int, int]]]],
        number: dict[str, int],
        windows: dict[int, int],
    ) -> Iterator[CorrelationRows]:
        """Yield the rows of a strip; enter the numbers of windows by slot."""
        offset, letters = self.layout.strip_rows(strip).start, self.settings.components
        for row, piece, which in rows:
            with naming(piece.key):
                data, counts = self.foreign.read(piece.key, np.array([k for k, _ in which]))
            turned = number[piece.first] > number[piece.second]
            components = piece.components[::-1] if turned else piece.components
            total = 0
            for k, (_, substack) in enumerate(which):
                n, values = int(counts[k]), data[k, ::-1] if turned else data[k]
                if not np.isfinite(values).all():
                    self.foreign.note("correlations that are not finite numbers are left out")
                    continue
                total += n
                yield CorrelationRows(
                    chunk, strip, "", components, substack, row - offset,
                    np.ascontiguousarray(values, np.float32)[None], np.array([n], np.int32),
                )  # fmt: skip
            for station, letter in zip((piece.first, piece.second), piece.components, strict=True):
                slot = number[station] * len(letters) + letters.index(letter)
                windows[slot] = max(windows.get(slot, 0), total)

    def _accounts(self, chunk: Chunk, strip: int, windows: dict[int, int]) -> tuple[SlotAccount, ...]:
        letters = len(self.settings.components)
        slots = [s * letters + k for s in self.layout.stations_needed(strip) for k in range(letters)]
        return tuple(
            SlotAccount(slot, chunk.index, "used", windows={WINDOWS_USED: windows[slot]})
            if slot in windows
            else SlotAccount(slot, chunk.index, "absent", NOT_HERE)
            for slot in slots
        )
