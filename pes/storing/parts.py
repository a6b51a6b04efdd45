"""Values of ranges of rows, each in a file of its own until all are there: an interrupted run goes on where it was."""

from __future__ import annotations

import abc
import dataclasses
import os
import shutil
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from xcorr.core import GenericPE, XcorrError
from xcorr.core.files import rename_synced


class PartError(XcorrError, RuntimeError):
    """A part that cannot be used."""


def write_part(place: Path, key: str, first_row: int, values: Mapping[str, np.ndarray]) -> None:
    """Keep the values of the range that begins at a row, by name. ``key`` names the work that the range belongs to."""
    path = place / key / f"{first_row}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with temporary.open("wb") as file:
        np.savez(file, **values)  # type: ignore[arg-type]  # names of arrays, not its option
    rename_synced(temporary, path)


def parts_there(place: Path, key: str) -> set[int]:
    """Return the first rows of the ranges that are kept and whole. What is damaged is removed."""
    found = set()
    for path in (place / key).glob("*.npz"):
        try:
            with zipfile.ZipFile(path) as file:
                is_whole = file.testzip() is None
        except (zipfile.BadZipFile, OSError, ValueError):
            is_whole = False
        if is_whole and path.stem.isdigit():
            found.add(int(path.stem))
        else:
            path.unlink()
    return found


def remove_parts(place: Path, besides: Collection[str] = ()) -> None:
    """Remove parts of other work than ``besides``."""
    if place.is_file():
        place.unlink()
    for path in place.glob("*"):
        if path.name not in besides:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if place.is_dir() and not any(place.iterdir()):
        place.rmdir()


def read_parts(place: Path, key: str) -> Iterator[tuple[int, Mapping[str, np.ndarray]]]:
    """Yield the first row and the values of every range, in order. Raises PartError for a damaged one."""
    for path in sorted((place / key).glob("*.npz"), key=lambda p: int(p.stem)):
        try:
            with np.load(path) as values:
                yield int(path.stem), dict(values)
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            path.unlink(missing_ok=True)
            raise PartError(f"{path}: is damaged ({error}) and was removed; repeat the command") from error


@dataclasses.dataclass(frozen=True, slots=True)
class MeasuredRows:
    """What was made of a range of rows: arrays by their paths in the file that they are for."""

    first_row: int
    values: Mapping[str, np.ndarray]

    @property
    def identity(self) -> str:
        """The first row."""
        return str(self.first_row)


class KeepParts(GenericPE):
    """Keeps each :class:`MeasuredRows` as a part of the work :meth:`_key`, in the folder ``parts`` of the campaign."""

    parts: ClassVar[str]

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._add_input("input", grouping="global")
        self.folder = folder

    @abc.abstractmethod
    def _key(self) -> str:
        """Return what names the work."""

    def process(self, inputs: dict[str, Any]) -> None:
        """Keep the values of a range of rows."""
        item: MeasuredRows = inputs["input"]
        write_part(Path(self.folder, self.parts), self._key(), item.first_row, item.values)


class AssembleParts(KeepParts):
    """Keeps parts, and makes the file ``file_name`` of them at the end; it becomes visible when complete."""

    file_name: ClassVar[str]

    @abc.abstractmethod
    def _assemble(self, temporary: Path) -> None:
        """Write the file of all parts."""

    def _postprocess(self) -> None:
        temporary = Path(self.folder, f".{self.file_name}.{os.getpid()}.part")
        self._assemble(temporary)
        self._publish(temporary, self.file_name)
        remove_parts(Path(self.folder, self.parts))

    def _publish(self, temporary: Path, name: str) -> None:
        """Make a finished file visible."""
        rename_synced(temporary, Path(self.folder, name))
