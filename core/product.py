"""Products: an element's description of items that can be kept, for [[keep]] rules and for writing files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Product:
    """Items of an output that can be kept.

    kind : class of these items. Other items of the output are not kept.
    metadata : names and types of the values in the ``metadata`` of the items. Conditions may use these names.
    suffix : suffix of the files in which the items are kept.
    write : function that writes one item to a file.
    """

    kind: type[Any]
    metadata: Mapping[str, type]
    suffix: str
    write: Callable[[Any, Path], None]
