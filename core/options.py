"""Options that are declared: a dataclass whose fields say default, meaning and what is allowed."""

from __future__ import annotations

import dataclasses
from typing import Any


def option(default: Any, doc: str, *, choices: tuple[str, ...] = (), least: float | None = None) -> Any:
    """Declare a field of a dataclass of options: its default, its meaning and reason, and what is allowed."""
    return dataclasses.field(default=default, metadata={"doc": doc, "choices": choices, "least": least})


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """What has no options."""
