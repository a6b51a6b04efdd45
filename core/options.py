"""Declared options: dataclasses whose fields have a default, a meaning and allowed values."""

from __future__ import annotations

import dataclasses
from typing import Any


def option(
    default: Any,
    doc: str,
    *,
    choices: tuple[str, ...] = (),
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """Declare a field of a dataclass of options: default, meaning and reason, allowed choices, least and most."""
    return dataclasses.field(default=default, metadata={"doc": doc, "choices": choices, "least": least, "most": most})


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """The options of a source or mapping that has none."""
