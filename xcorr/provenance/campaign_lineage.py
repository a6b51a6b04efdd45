"""Lineage of a campaign's stacks, from its ledger: which files, channels, windows and settings made a pair's stack."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from xcorr.pes.items import Chunk
from xcorr.pes.preparing.orient import stored_pairs
from xcorr.pes.reading.waveform import NS
from xcorr.pes.storing.shards import name_of
from xcorr.provenance.lineage import Lineage
from xcorr.provenance.store import ProvenanceError, reading
from xcorr.results import Results
from xcorr.store.folder import frozen_settings
from xcorr.store.ledger_reader import LedgerReader

AT_ONCE = 500  # names in one question to the store
CHAIN = ("ReadStation", "ConditionStation", "NormalizeStation", "TransformStation")


class CampaignLineage:
    """Finds the lineage of stacks and files in one campaign. Use it in a ``with`` block.

    ``results`` are those of the campaign, if they are open already.
    """

    def __init__(self, folder: Path, results: Results | None = None) -> None:
        self.folder, self.settings = folder, frozen_settings(folder)
        self._open = contextlib.ExitStack()
        self.results = results or self._open.enter_context(Results(folder))
        self.ledger = self._open.enter_context(contextlib.closing(LedgerReader(folder, thorough=results is None)))
        self.generation = {s.name: s.generation for s in self.ledger.shards()}
        self.stations = self.results.dataset("stations")["id"].astype(str).tolist()
        self.starts = self.results.dataset("pieces")["start_ns"]
        self.shards = self.results.dataset("shards")
        self._account = functools.lru_cache(maxsize=None)(self.ledger.account)
        self._ends = functools.lru_cache(maxsize=None)(self._ends_of)
        self._shards_of = functools.lru_cache(maxsize=None)(self._find_shards)
        try:
            self.store: sqlite3.Connection | None = self._open.enter_context(reading(folder))
        except ProvenanceError:
            self.store = None  # recorded at level "off"; the ledger is enough

    def __enter__(self) -> CampaignLineage:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files, and forget what was looked up; it refers to this object, which would stay in memory."""
        self._open.__exit__(kind, error, trace)  # the store says of an error whether it is damaged
        del self._account, self._ends, self._shards_of

    @functools.cached_property
    def ends(self) -> np.ndarray:
        """The numbers of both stations of every pair."""
        return np.asarray(self.results.file["pairs"].fields(["station_1", "station_2"])[...])

    def _ends_of(self, row: int) -> tuple[int, int]:
        found = self.results.file["pairs"][row]
        return int(found["station_1"]), int(found["station_2"])

    # -- back -----------------------------------------------------------------------------------------------

    def of_pair(
        self, first: str, second: str, components: str = "ZZ", stack: str = "linear", band: str = ""
    ) -> Lineage:
        """Return the lineage of a pair's stack, back to files. Raises ResultsError if there is no such stack."""
        about = self.results.get(first, second, components, stack, band).attrs
        row = self.results.row(first, second)
        found = Lineage()
        self._add_stack(found, row, components, stack, band, about)
        self._describe(found)
        return found

    def _add_stack(
        self, found: Lineage, row: int, components: str, stack: str, band: str, about: dict[str, Any]
    ) -> None:
        first, second = (self.stations[k] for k in self._ends(row))
        place = f"{band or 'main'}/{components}/{first}-{second}"
        product = f"stack:{stack}/{place}"
        pieces = [
            self._add_piece(found, row, part, piece, windows, band)
            for part, piece, windows in self._pieces(row, components, band)
        ]
        found.step(product, f"StackRows:{stack}/{place}", pieces)
        found.entities[product] |= {
            "file": str(self.results.path),
            "n_windows": int(about["n_windows"]),
            "snr": float(about["snr"]),
        }

    def _pieces(self, row: int, components: str, band: str) -> Iterator[tuple[str, int, int]]:
        """Yield component pair, number and windows of every stored piece with windows that is part of a stack."""
        for part in stored_pairs(components):
            if not self.results.has_series(part, band):
                raise ProvenanceError(f"{self.folder}: the series were not kept, so their lineage is not known")
            windows = self.results.windows(part, band, slice(row, row + 1))[:, 0]
            for piece in np.flatnonzero(windows):
                yield part, int(piece), int(windows[piece])

    def _add_piece(self, found: Lineage, row: int, components: str, piece: int, windows: int, band: str) -> str:
        numbers = self._ends(row)
        first, second = (self.stations[k] for k in numbers)
        chunk_start, shard = self._shard(row, piece)
        name = f"{Chunk(0, chunk_start, 0, 0, 0).name}.{self.generation.get(name_of(shard), 0):02d}"
        at = f"{name}/{(int(self.starts[piece]) - chunk_start) // NS}/{band or 'main'}/{components}/{first}-{second}"
        spectra = [
            self._add_station(found, k, chunk_start, name, letter)
            for k, letter in zip(numbers, components, strict=True)
        ]
        found.step(f"series:{at}", f"CorrelateStrips:{at}", list(dict.fromkeys(spectra)))
        found.entities[f"series:{at}"] |= {"file": shard, "n_windows": windows}
        return f"series:{at}"

    def _shard(self, row: int, piece: int) -> tuple[int, str]:
        """Return the start of a piece's chunk (ns) and the shard that holds a row of it."""
        size = self.settings.data.chunk_s * NS
        start = int(self.starts[piece]) // size * size
        if start not in (found := self._shards_of(row)):
            raise ProvenanceError(f"{self.folder}: no shard holds row {row} in the chunk that begins at {start}")
        return start, found[start]

    def _find_shards(self, row: int) -> dict[int, str]:
        """Return the shards that hold a row, by the start of their chunk (ns)."""
        s = self.shards
        holding = s[(s["first_row"] <= row) & (row < s["first_row"] + s["rows"])]
        starts = self.starts[holding["piece"]].tolist()
        return {start: path.decode() for start, path in zip(starts, holding["path"], strict=True)}

    def _add_station(self, found: Lineage, number: int, start: int, chunk: str, letter: str) -> str:
        """Add the chain from a station's files to its spectra in a chunk; return the name of the spectra."""
        identity, letters = f"{chunk}/{self.stations[number]}", self.settings.components
        before = f"StationSource.output:{identity}"
        found.entities.setdefault(before, {})
        account = self._account(start, number * len(letters) + letters.index(letter))
        for k, element in enumerate(CHAIN):
            activity, product = f"{element}({before})", f"{element}.output:{identity}"
            files = [f"file:{path}" for path, _, _ in account.files] if k == 0 else []
            found.step(product, activity, [before, *files])
            before = product
        for path, size, mtime in account.files:
            found.entities[f"file:{path}"] |= {"bytes": size, "mtime_ns": mtime}
        found.entities[before][f"windows.{letter}"] = ", ".join(f"{n} {r}" for r, n in account.windows.items())
        found.entities[before][f"channel.{letter}"] = account.seed_id
        return before

    # -- forward --------------------------------------------------------------------------------------------

    def of_file(self, path: str) -> Lineage:
        """Return every product that used a waveform file. Raises ProvenanceError if the campaign never read it."""
        wanted = os.path.abspath(path)
        letters, found = self.settings.components, Lineage()
        name = json.dumps(os.path.basename(path))[1:-1]  # as in the ledger
        named = self.ledger.accounts("instr(files, ?)", (name,))
        hits = [(start, a) for start, a in named if any(os.path.abspath(file) == wanted for file, _, _ in a.files)]
        if not hits:
            raise ProvenanceError(f"{path}: no file that this campaign has read")
        if not self.results.has_series(self.settings.component_pairs[0]):
            raise ProvenanceError(f"{self.folder}: the series were not kept, so their lineage is not known")
        for start, slot in [(start, account.slot) for start, account in hits if account.windows_used]:
            self._touched_by(found, start, slot // len(letters), letters[slot % len(letters)], wanted)
        found.entities.setdefault(f"file:{wanted}", {})
        self._describe(found)
        return found

    def _touched_by(self, found: Lineage, start: int, number: int, letter: str, path: str) -> None:
        """Add the stacks of a station's pairs that have pieces of this chunk made with this component."""
        size = self.settings.data.chunk_s * NS
        inside = np.flatnonzero(self.starts // size * size == start)
        if not len(inside):
            return
        pieces, every = slice(int(inside[0]), int(inside[-1]) + 1), slice(0, len(self.ends))
        rows = np.flatnonzero((self.ends["station_1"] == number) | (self.ends["station_2"] == number))
        for band in self.results.bands:
            made: dict[int, dict[str, list[str]]] = {}  # names of series, by row and stored component pair
            for part in dict.fromkeys(p for c in self.results.components for p in stored_pairs(c)):
                windows = self.results.windows(part, band, every, pieces)[pieces][:, rows]
                for piece, k in np.argwhere(windows):
                    row = int(rows[k])
                    if any(part[e] == letter and self.ends[row][e] == number for e in (0, 1)):
                        name = self._add_piece(
                            found, row, part, pieces.start + int(piece), int(windows[piece, k]), band
                        )
                        made.setdefault(row, {}).setdefault(part, []).append(name)
            for components in self.results.components:
                for row, of_part in made.items():
                    hits = [name for part in stored_pairs(components) for name in of_part.get(part, ())]
                    if hits:
                        self._add_stacks_of(found, row, components, band, hits)

    def _add_stacks_of(self, found: Lineage, row: int, components: str, band: str, pieces: list[str]) -> None:
        first, second = (self.stations[k] for k in self._ends(row))
        for stack in self.results.stacks:
            place = f"{stack}/{band or 'main'}/{components}/{first}-{second}"
            found.step(f"stack:{place}", f"StackRows:{place}", pieces)

    # -- attributes -----------------------------------------------------------------------------------------

    def _describe(self, found: Lineage) -> None:
        """Add recorded attributes: times and workers of invocations, checksums of files."""
        if self.store is None:
            return
        names = list(found.activities)
        for first in range(0, len(names), AT_ONCE):
            part = names[first : first + AT_ONCE]
            query = f"SELECT id, worker, begun, ended FROM invocation WHERE id IN ({', '.join('?' * len(part))})"
            for name, *values in sorted(self.store.execute(query, part), key=lambda row: row[2]):  # the latest counts
                found.activities[name] |= dict(zip(("worker", "begun", "ended"), values, strict=True))
        for name, attributes in found.entities.items():
            if name.startswith("file:"):
                row = self.store.execute(
                    "SELECT sha256 FROM file WHERE path = ? AND bytes = ? AND mtime_ns = ?",
                    (name.removeprefix("file:"), attributes.get("bytes"), attributes.get("mtime_ns")),
                ).fetchone()
                if row:
                    attributes["sha256"] = row[0]
