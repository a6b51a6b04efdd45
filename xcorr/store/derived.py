"""The files that are made from shards, and the other files of a campaign: which are whole, and of which shards.

The ledger has a mark of each: size, time of change, and a digest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from xcorr.core.files import rename_synced
from xcorr.pes.dispersion.dispersion import WriteDispersion
from xcorr.pes.dispersion.dispersion_file import NAME as DISPERSION
from xcorr.pes.monitoring.monitor import WriteMonitor
from xcorr.pes.monitoring.monitor_file import NAME as MONITOR
from xcorr.pes.reading.files import CAMPAIGN_MARK
from xcorr.pes.stacking.result_file import NAME as RESULTS
from xcorr.pes.stacking.result_file import WriteResults
from xcorr.pes.stacking.sums_file import SUMS
from xcorr.pes.storing.shards import read_all
from xcorr.store import doubts
from xcorr.store.ledger import Ledger
from xcorr.store.ledger_reader import LedgerReader

STATIONS = "stations.xml"  # metadata that came from the source itself
MARKED = (
    RESULTS, SUMS, MONITOR, DISPERSION, CAMPAIGN_MARK, STATIONS, "report.json", "report.html",
    "provenance/store.sqlite",
)  # fmt: skip
MEASURED = {MONITOR: "xcorr monitor", DISPERSION: "xcorr dispersion"}  # files that commands make; they can be removed
PUBLISHED = (RESULTS, SUMS, MONITOR, DISPERSION)  # files whose marks :func:`publish` enters
DIFFERS = "damaged, or not what the last run made"


class _EntersMarks:
    """Enters the mark of each file before the file is visible."""

    folder: str

    def _publish(self, temporary: Path, name: str) -> None:
        with contextlib.closing(Ledger(Path(self.folder))) as ledger:
            publish(ledger, temporary, Path(self.folder, name))


class WriteMarkedResults(_EntersMarks, WriteResults):
    """Writes results as :class:`WriteResults` does, and enters their marks."""


class WriteMarkedMonitor(_EntersMarks, WriteMonitor):
    """Writes velocity changes as :class:`WriteMonitor` does, and enters their mark."""


class WriteMarkedDispersion(_EntersMarks, WriteDispersion):
    """Writes dispersion as :class:`WriteDispersion` does, and enters its mark."""


def publish(ledger: Ledger, temporary: Path, final: Path) -> None:
    """Make a finished file visible. Its mark is entered before, beside that of the file that it replaces."""
    set_marks(ledger, final.name, [_mark(temporary), *_marks(ledger, final.name)[:1]])
    rename_synced(temporary, final)


def set_marks(ledger: Ledger, name: str, marks: list[dict[str, Any]]) -> None:
    """Enter the marks that a file may have: two while it is replaced, else one."""
    ledger.keep_fact(f"marks of {name}", json.dumps(marks))


def settle(ledger: Ledger, path: Path) -> None:
    """Enter the mark that a whole file has now, and no other.

    A file that looks as one of its marks says keeps this mark: a new digest would call good what has rotted since. A
    file that is damaged, or is not what was published, keeps its old marks.
    """
    if not path.is_file():
        return
    marks = _marks(ledger, path.name)
    made = next((m for m in marks if (m["bytes"], m["mtime_ns"]) == _looks(path)), None)
    if made is None:
        try:
            made = _mark(path)
        except Exception:  # HDF5 raises anything on damage; the old marks stay, so that verify names the file
            return
        if path.name in PUBLISHED and marks and made["digest"] not in [m["digest"] for m in marks]:
            return  # nobody has published this content
    set_marks(ledger, path.name, [made])


def settle_all(ledger: Ledger) -> None:
    """Enter the marks of all files of a campaign besides shards and ledger, at the end of a run."""
    for name in MARKED:
        path = ledger.folder / name
        if path.with_name(f"{path.name}-wal").exists():  # somebody reads it: SQLite may still move pages within it
            set_marks(ledger, path.name, [])
        else:
            settle(ledger, path)


def damaged_measurements(ledger: Ledger) -> list[str]:
    """Return a line for each file of a measurement that is not what its command made, with the cure."""
    there = {name: command for name, command in MEASURED.items() if (ledger.folder / name).exists()}
    return [
        f"{name}: {DIFFERS}; {command} measures what is in it again"
        for name, command in there.items()
        if not is_ours(ledger, ledger.folder / name)
    ]


def is_ours(ledger: Ledger, path: Path) -> bool:
    """Return whether a file is one that was marked. If it only looks changed, read it in full, and mark it again.

    A campaign that was copied has other times of change. Earlier versions entered no marks.
    """
    if not path.is_file():
        return False
    if _marks(ledger, path.name) and looks_marked(ledger, path) and path.name not in doubts.noted(ledger.folder):
        return True
    if damage(ledger, path):
        return False
    settle(ledger, path)
    return True


def looks_marked(ledger: LedgerReader, path: Path) -> bool:
    """Return whether a file has the size and time of change of one of its marks; True without marks."""
    marks = _marks(ledger, path.name)
    if not marks or not path.is_file():
        return not marks
    return _looks(path) in [(m["bytes"], m["mtime_ns"]) for m in marks]


def damage(ledger: LedgerReader, path: Path) -> str:
    """Read a whole file, and return what is wrong with it; an empty text if nothing is."""
    return unreadable(path) or (DIFFERS if differs(ledger, path) else "")


def differs(ledger: LedgerReader, path: Path) -> bool:
    """Return whether a file that can be read is none of those that were marked."""
    marks = _marks(ledger, path.name)
    return bool(marks) and digest(path) not in [m["digest"] for m in marks]


def unreadable(path: Path) -> str:
    """Compare all checksums of an HDF5 file; return why it cannot be read, an empty text if it can."""
    import h5py

    try:
        with h5py.File(path) as file:
            file.visititems(read_all)
        digest(path)
    except Exception as error:  # HDF5 raises anything on damage
        return f"damaged: {type(error).__name__}: {error}".splitlines()[0]
    return ""


def _marks(ledger: LedgerReader, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ledger.fact(f"marks of {name}") or "[]")
    return found


def _looks(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _mark(path: Path) -> dict[str, Any]:
    size, mtime = _looks(path)
    return {"bytes": size, "mtime_ns": mtime, "digest": digest(path)}


def digest(path: Path) -> str:
    """Return a digest of a file: of all its bytes, or of an HDF5 file what this format keeps without checksum.

    These are names, types, attributes, links to shards, and data without a checksum.
    """
    if path.suffix not in (".h5", ".part"):
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    import h5py

    made = hashlib.blake2b(digest_size=16)

    def add(name: str, item: Any) -> None:
        told = [name, sorted((k, repr(v)) for k, v in item.attrs.items())]
        if isinstance(item, h5py.Dataset):
            told += [item.shape, str(item.dtype)]
            if item.is_virtual:
                told += [(*s.vspace.get_regular_hyperslab(), s.file_name, s.dset_name) for s in item.virtual_sources()]
            elif not item.chunks and item.shape is not None:
                told.append(item[...].tobytes())
        made.update(repr(told).encode())

    with h5py.File(path) as file:
        add("/", file)
        file.visititems(add)
    return made.hexdigest()


@dataclasses.dataclass(frozen=True, slots=True)
class Stacks:
    """What a result file says of its stacks: ``of`` [method] are digest of shards, pieces and parameters.

    ``paths`` are those of the shards whose series the file shows; empty if the file shows none, or has copies.
    ``components`` are the component pairs.
    """

    shards_digest: str
    pieces: int
    rows: int
    of: dict[str, dict[str, Any]]
    paths: frozenset[str]
    components: tuple[str, ...] = ()

    def behind(self) -> dict[str, str]:
        """Return the methods whose stacks lack data that the campaign has, and what they lack."""
        return {
            method: f"stacked from {about['pieces']} of {self.pieces} pieces"
            if about["pieces"] != self.pieces
            else "stacked before some of the pieces were made again, or pairs were added"
            for method, about in self.of.items()
            if about.get("shards_digest", self.shards_digest) != self.shards_digest
        }


def read_stacks(folder: Path) -> Stacks:
    """Return what the result file of a campaign says of its stacks. Raises OSError or KeyError if it is damaged."""
    import h5py

    with h5py.File(folder / RESULTS) as file:
        of = {}
        for method, group in file["stacks"].items():
            of[method] = {name: v.item() if hasattr(v, "item") else v for name, v in group.attrs.items()}
        shows = "series" in file and all(data.is_virtual for data in file["series"].values())
        paths = frozenset(path.decode() for path in file["shards"]["path"]) if shows else frozenset()
        components = tuple(next(iter(file["stacks"].values())))
        digest = str(file.attrs.get("shards_digest", ""))
        return Stacks(digest, len(file["pieces"]), len(file["pairs"]), of, paths, components)
