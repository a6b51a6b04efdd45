"""Settings written as TOML, with the meaning of each key if wanted."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from xcorr.core import installed
from xcorr.settings.toml import LISTS, SECTIONS, Plain, flat

LISTS_EXAMPLE = """# Further bands of the spectra, each with its own series and stacks.
# [[bands]]
# name = "low"
# band_hz = [0.05, 0.2]

# Intermediate items that are kept, with their provenance.
# [[keep]]
# element = "ConditionStation"
# condition = "windows_used > 20 and network == 'XX'"
# folder = "kept"

# Your own elements in the main job, from the registry (xcorr registry add).
# [[insert]]
# element = "Scale"
# after = "ConditionStation"
# parameters = { factor = 2.0 }

# Velocity changes that xcorr monitor measures, each with a name.
# [[monitor]]
# name = "coda"
# method = "stretching"
# lag_s = [20.0, 80.0]
# reference = "period"
# reference_start = "2024-01-01"
# reference_end = "2024-04-01"

# Phase and group velocities that xcorr dispersion measures, each with a name.
# [[dispersion]]
# name = "waves"
# periods_s = [2.0, 3.0, 4.0, 6.0, 8.0]
# velocity_km_s = [1.0, 5.0]
"""


def to_toml(plain: Plain, comment: bool = False) -> str:
    """Return settings as TOML text; with ``comment``, each key's meaning above it and defaults commented out."""
    lines: list[str] = []
    for section, keys in plain.items():
        if section in LISTS:
            for table in keys:
                lines += [f"[[{section}]]", *(f"{key} = {_toml(v)}" for key, v in table.items() if v is not None), ""]
            continue
        if comment:
            lines.append(f"# {SECTIONS[section].__doc__}")
        lines.append(f"[{section}]")
        if comment:
            lines += _commented(SECTIONS[section], keys)
        else:
            lines += [f"{key} = {_toml(value)}" for key, value in flat(section, keys) if value is not None]
        lines.append("")
    return "\n".join([*lines, LISTS_EXAMPLE] if comment else lines)


def _commented(kind: Any, keys: Mapping[str, Any], table: str = "") -> Iterator[str]:
    """Yield the lines of a section with the meaning of every key, options of sources and mappings included."""
    for field in dataclasses.fields(kind):
        if "tables" in field.metadata:
            for name in installed.names(field.metadata["tables"]):
                options = installed.load(field.metadata["tables"], name).Options
                yield from _commented(options, keys.get(name, {}), f"{name}.")
            continue
        value = keys.get(field.name, field.default)
        choices = field.metadata["choices"]
        allowed = f" One of: {', '.join(choices)}." if choices else ""
        yield f"# {f'{table[:-1]}: ' if table else ''}{field.metadata['doc']}{allowed}"
        if value is None:
            yield f"# {table}{field.name} ="
        else:
            yield f"{'# ' if value == field.default else ''}{table}{field.name} = {_toml(value)}"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(v)}" for key, v in value.items()) + " }" if value else "{}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # also a basic string of TOML
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)
