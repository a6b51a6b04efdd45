"""Files that ``xcorr verify`` has found damaged, although they look unchanged: the next run reads them in full.

Bits may rot on a disk without a change of size or time. A run alone would not notice: it trusts files that look as the
ledger says.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path

from xcorr.core.files import replace_text

NAME = "doubts.json"


def note(folder: Path, names: Iterable[str]) -> None:
    """Note the names of damaged files for the next run, where the folder can be written."""
    with contextlib.suppress(OSError):
        replace_text(folder / NAME, json.dumps(sorted(names)) + "\n")


def noted(folder: Path) -> frozenset[str]:
    """Return the names of the files that are to be read in full."""
    try:
        return frozenset(map(str, json.loads((folder / NAME).read_text("utf-8"))))
    except (OSError, ValueError, TypeError):
        return frozenset()


def clear(folder: Path) -> None:
    """Forget all doubts, at the end of a run."""
    (folder / NAME).unlink(missing_ok=True)
