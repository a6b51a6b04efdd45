"""What an element says of what it writes: for rules of what is kept, and for files of what is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Product:
    """Items of an output that can be kept.

    kind : their class; other items of the output are not kept.
    metadata : names and types of the values of their ``metadata``, which conditions may name.
    suffix : of the files they are kept in.
    write : writes one item to a file.
    """

    kind: type[Any]
    metadata: Mapping[str, type]
    suffix: str
    write: Callable[[Any, Path], None]
