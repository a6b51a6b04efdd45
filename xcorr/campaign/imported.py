"""Makes a campaign of the correlations of another program."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xcorr.campaign.assemble import Assembly, assemble, require_outside, shard_writer
from xcorr.campaign.imported_items import Grid, Items, ends_of, grid_of, require_once
from xcorr.campaign.workflows import chained
from xcorr.core import WorkflowGraph, installed
from xcorr.imports.foreign import STATION, Foreign, ForeignError, Pieces, naming
from xcorr.network.roster import Generation, Roster, generations_of
from xcorr.network.station_list import Station
from xcorr.network.survey import NOWHERE, Requested, Survey
from xcorr.pes.items import Chunk
from xcorr.pes.reading.metadata import read_metadata
from xcorr.pes.reading.source import Index
from xcorr.pes.reading.waveform import NS
from xcorr.pes.stacking.stack import StackSource
from xcorr.settings import Settings, SettingsError
from xcorr.settings.recipe import Recipe
from xcorr.settings.toml import build, override
from xcorr.store.keep_ledger import KeepLedger
from xcorr.store.ledger_reader import IMPORTED

SETTABLE = ("stack", "run", "provenance")


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
    grid = grid_of(foreign, pieces)
    require_once(pieces, grid)
    roster = _roster(foreign, pieces)
    settings = _settings(foreign, pieces, roster, grid, assignments)
    found = Survey(roster, _lines(roster), grid.chunks, generations_of(roster, settings), Index("", {}))
    recipe = Recipe(settings)

    def workflow(generation: Generation, todo: Sequence[Chunk]) -> WorkflowGraph:
        items = Items(foreign, tuple(pieces), grid, roster, settings, generation.layout, tuple(todo))
        writer = shard_writer(folder.absolute(), recipe, found, generation)
        return chained(StackSource(items), writer, KeepLedger(str(folder.absolute())))

    def facts_now() -> dict[str, str]:
        about_files = {"path": str(path), "choice": choice, "metadata": metadata, "files": _fingerprint(path)}
        return {IMPORTED: json.dumps({"program": foreign.origin, **about_files})}

    facts = facts_now()
    what = Assembly(settings, found, facts, facts_now, "importing", workflow, "WriteShards")
    about = {"imported": json.loads(facts[IMPORTED]) | {"notes": foreign.notes}}
    assemble(folder.absolute(), what, lambda report: about | {"warnings": foreign.notes})
    return Made(
        folder, len(roster.stations), len({ends_of(p) for p in pieces}), len(grid.chunks) * grid.substacks,
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


def _settings(
    foreign: Foreign, pieces: Sequence[Pieces], roster: Roster, grid: Grid, assignments: Sequence[str]
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
        "stack": {"substack_s": piece_s} if grid.substacks > 1 else {},
    }
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
