"""Files that look damaged are set aside, and never removed: each may be the only copy of a result."""

from __future__ import annotations

from pathlib import Path

ASIDE = "aside"


def set_aside(file: Path) -> Path:
    """Move a file of a campaign to the folder ``aside`` beside it, or beside its folder; return its new path."""
    folder = file.parent.parent if file.parent.name in ("shards", "provenance") else file.parent
    (folder / ASIDE).mkdir(exist_ok=True)
    number = 0
    while (place := folder / ASIDE / f"{file.name}.{number}").exists():
        number += 1
    return file.rename(place)


def names(folder: Path) -> list[str]:
    """Return the names of the files of a campaign that were set aside. Nothing needs them, and nothing removes them."""
    return sorted(path.name for path in (folder / ASIDE).glob("*"))
