"""Settings from what is given for a run: a file, names of the command line, sections."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xcorr.core.errors import nearest
from xcorr.settings.schema import Settings, SettingsError
from xcorr.settings.toml import KINDS, Plain, build, load

SHORT = {  # names of the command line, and the settings that they stand for
    **{key: ("data", key) for key in ("source", "metadata", "start", "end")},
    **{key: ("run", key) for key in ("mapping", "workers", "memory")},
}


def plain_of(stations: Path, config: Path | None) -> Plain:
    """Return the plain settings of a file; by default of ``xcorr.toml`` beside the list, if there is one."""
    beside = stations.parent / "xcorr.toml"
    config = config or (beside if beside.is_file() else None)
    return load(config) if config else {}


def with_short_names(plain: Plain, given: Mapping[str, Any]) -> Plain:
    """Return plain settings with those of :data:`SHORT` that are given; None stands for nothing given."""
    merged = {section: dict(keys) if isinstance(keys, Mapping) else keys for section, keys in plain.items()}
    for name, (section, key) in SHORT.items():
        if given.get(name) is not None:
            merged.setdefault(section, {})[key] = str(given[name]) if isinstance(given[name], Path) else given[name]
    return merged


def settings_given(plain: Plain, given: Mapping[str, Any]) -> Settings:
    """Return checked settings: plain ones, sections given as dictionaries, and :data:`SHORT` names.

    Raises SettingsError for unknown names, with the nearest one, and as :func:`xcorr.settings.toml.build`.
    """
    merged = with_short_names(plain, given)
    for name, keys in given.items():
        if name in SHORT:
            continue
        if name not in KINDS:
            homes = [s for s, kind in KINDS.items() if name in getattr(kind, "__dataclass_fields__", {})]
            where = "; ".join(f"{home}={{{name!r}: ...}}" for home in homes)
            there = f"; write {where}" if homes else nearest(name, (*KINDS, *SHORT))
            raise SettingsError(f"unknown setting {name!r}{there}; there are {', '.join((*SHORT, *KINDS))}")
        if isinstance(keys, Mapping):
            merged[name] = {**merged.get(name, {}), **keys}
        else:
            merged[name] = keys  # a list of tables, or an error
    return build(merged)
