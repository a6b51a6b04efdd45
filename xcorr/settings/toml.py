"""Settings from TOML, files and command line, and back."""

from __future__ import annotations

import dataclasses
import os
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from xcorr.core import installed
from xcorr.core.errors import nearest
from xcorr.core.files import read_text
from xcorr.pes.reading.source import absolute
from xcorr.settings.schema import Settings, SettingsError
from xcorr.settings.tables import Dispersion, FurtherBand, Insert, Keep, Monitor

LISTS: dict[str, Any] = {
    "bands": FurtherBand,
    "keep": Keep,
    "insert": Insert,
    "monitor": Monitor,
    "dispersion": Dispersion,
}  # tables that may be repeated
NAMED = {"monitor", "dispersion"}  # lists of tables that have names, by which --set finds them
SECTIONS: dict[str, Any] = {f.name: type(f.default) for f in dataclasses.fields(Settings) if f.name not in LISTS}
KINDS = {**SECTIONS, **LISTS}
Plain = dict[str, Any]
MOST = {"_s": 366 * 86_400, "_hz": 1e6, "_db": 1e3, "_km": 1e5, "_deg": 720}  # of settings with these units
MOST_NUMBER = 1e6
SHOWN = 200  # characters of a value in a message
RENAMED = {  # names in settings written before version 0.2
    "data.fdsn_retries": "fdsn.retries",
    "data.fdsn_requests_per_s": "fdsn.requests_per_s",
    "run.storm_nimbus": "storm.nimbus",
    "run.storm_keys": "storm.keys",
}


def load(path: Path) -> Plain:
    """Return the plain settings of a TOML file; paths in it become relative to the file's folder.

    Raises SettingsError for text that is not TOML.
    """
    try:
        plain = tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML: {error}") from None
    except RecursionError:
        raise SettingsError(f"{path}: tables or lists are nested too deeply") from None
    try:
        _sections(plain)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None
    data = plain.get("data", {})
    if "source" in data:
        data["source"] = absolute(data["source"], str(path.parent))
    for keys, key in ((data, "metadata"), (plain.get("quality", {}), "catalogue")):
        if key in keys:
            keys[key] = _relative(keys[key], path)
    for table in plain.get("dispersion", ()):
        if table.get("curve"):
            table["curve"] = _relative(table["curve"], path)
    return plain


def _relative(place: str, file: Path) -> str:
    return os.path.normpath(os.path.join(file.parent, place)) if place else place


def override(plain: Plain, assignments: Iterable[str]) -> Plain:
    """Return the settings with ``section.key=TOML_VALUE`` assignments applied.

    A value that is no TOML is taken as text. Raises SettingsError for an assignment of another form.
    """
    merged = {section: dict(keys) if isinstance(keys, Mapping) else keys for section, keys in plain.items()}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        section, dot, key = name.strip().partition(".")
        if not (equals and dot and key) or section in LISTS.keys() - NAMED:
            raise SettingsError(f"--set {assignment!r}: write section.key=value, for example condition.rate_hz=1")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        except RecursionError:
            raise SettingsError(f"--set {name.strip()}: the value is nested too deeply") from None
        if section in NAMED:
            merged[section] = _in_tables(section, merged.get(section, ()), key, value)
        else:
            merged.setdefault(section, {})[key] = value
    return merged


def _in_tables(section: str, tables: Iterable[Plain], key: str, value: Any) -> list[Plain]:
    """Return tables with a key set in all of them, or for ``NAME.key`` in that of a name, which is made if need be.

    >>> _in_tables("monitor", [{"name": "coda"}], "late.method", "mwcs")
    [{'name': 'coda'}, {'name': 'late', 'method': 'mwcs'}]
    """
    found = [dict(table) for table in tables]
    name, dot, inner = key.rpartition(".")
    default = LISTS[section]().name
    chosen = [table for table in found if not dot or table.get("name", default) == name]
    if not chosen:
        chosen = [{"name": name or default}]
        found += chosen
    for table in chosen:
        table[inner] = value
    return found


def build(plain: Mapping[str, Any]) -> Settings:
    """Return checked settings from plain data.

    Raises SettingsError for unknown sections and keys (with the nearest name) and for wrong values.
    """
    return Settings(**_sections(plain))


def _sections(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections, with each key checked by itself. :class:`Settings` checks the rules between keys."""
    sections: dict[str, Any] = {}
    for section, keys in plain.items():
        if section in LISTS:
            sections[section] = _tables(section, keys)
            continue
        if section not in SECTIONS:
            raise SettingsError(f"unknown section [{section}]{nearest(section, KINDS)}; there are {', '.join(KINDS)}")
        if not isinstance(keys, Mapping):
            raise SettingsError(f"{section} = {keys!r}: is a section, not a key; write [{section}] and its keys below")
        sections[section] = SECTIONS[section](**_values(section, keys, SECTIONS[section]))
    return sections


def _tables(name: str, tables: Any) -> tuple[Any, ...]:
    if not isinstance(tables, list | tuple) or not all(isinstance(t, Mapping) for t in tables):
        raise SettingsError(f"{name} = {tables!r}: is not a list of tables; write [[{name}]] and the keys below it")
    return tuple(LISTS[name](**_values(name, table, LISTS[name])) for table in tables)


def _values(section: str, keys: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """Return the checked values of a section, or of a table in a section; the dataclass ``kind`` declares them."""
    fields = {f.name: f for f in dataclasses.fields(kind)}
    tables = next((f for f in fields.values() if "tables" in f.metadata), None)
    if tables is not None:
        del fields[tables.name]
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    of_tables: dict[str, Plain] = {}
    for key, given in flat(section, keys):
        name = f"{section}.{key}"
        table, dot, inner = key.partition(".")
        if dot and hints.get(table) == dict[str, Any]:
            values.setdefault(table, {})[inner] = given
        elif dot and tables is not None:
            of_tables.setdefault(table, {})[inner] = given
        elif key in fields:
            values[key] = _checked(name, given, hints[key], fields[key].metadata)
        else:
            raise SettingsError(
                f"unknown setting {name}{_nearest_key(section, key, fields)}; [{section}] has {', '.join(fields)}"
            )
    if tables is not None:
        found = {table: _options(section, table, given, tables) for table, given in of_tables.items()}
        values[tables.name] = {table: options for table, options in found.items() if options}
    return values


def _options(section: str, table: str, keys: Plain, field: dataclasses.Field[Any]) -> Plain:
    """Return the checked options of a source or mapping, without defaults. Its class declares the options."""
    kind = field.metadata["tables"]
    if table not in installed.names(kind):
        raise SettingsError(
            f"unknown table [{section}.{table}]{nearest(table, installed.names(kind))}; the {kind} that are installed "
            f"are {', '.join(installed.names(kind))}"
        )
    declared = installed.load(kind, table).Options
    values = _values(f"{section}.{table}", keys, declared)
    return {f.name: values[f.name] for f in dataclasses.fields(declared) if values.get(f.name, f.default) != f.default}


def _checked(name: str, given: Any, kind: Any, allowed: Mapping[str, Any]) -> Any:
    """Return a value as the type of its setting. Raises SettingsError if the value is not allowed."""
    value = _convert(name, given, kind)
    choices, least, most = allowed["choices"], allowed["least"], allowed.get("most")
    if most is None:  # larger numbers are mistakes, which would cost hours or all memory
        most = next((limit for unit, limit in MOST.items() if name.endswith(unit)), MOST_NUMBER)
    for single in value if isinstance(value, tuple) else (value,):
        if choices and single not in choices:
            raise SettingsError(
                f"{name} = {given!r}: must be one of {', '.join(choices)}{nearest(str(single), choices)}"
            )
        if least is not None and single is not None and single < least:
            raise SettingsError(f"{name} = {given!r}: must be at least {least:g}")
        if isinstance(single, int | float) and abs(single) > most:
            raise SettingsError(f"{name} = {_shown(given)}: must be at most {most:g}")
    return value


def flat(section: str, keys: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield keys and values. A key in an inner table becomes ``table.key``; an old name becomes the new one."""
    for key, given in keys.items():
        if isinstance(given, Mapping):
            yield from ((f"{key}.{inner}", value) for inner, value in given.items())
        else:
            yield RENAMED.get(f"{section}.{key}", key), given


def _nearest_key(section: str, key: str, fields: Iterable[str]) -> str:
    here = nearest(key, fields)
    if here:
        return here.replace("'", f"'{section}.", 1)
    every = {f.name: f"{s}.{f.name}" for s, kind in SECTIONS.items() for f in dataclasses.fields(kind) if f.metadata}
    return f" (did you mean {every[key]!r}?)" if key in every else ""


def _convert(name: str, given: Any, kind: Any) -> Any:
    """Return a TOML value as the type of its setting, or raise."""
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    for option in options:
        if typing.get_origin(option) is tuple:
            items = typing.get_args(option)
            listed = [given] if isinstance(given, str) else given
            if isinstance(listed, list | tuple) and (items[-1] is Ellipsis or len(listed) == len(items)):
                wanted = [items[0]] * len(listed) if items[-1] is Ellipsis else items
                return tuple(_convert(name, g, w) for g, w in zip(listed, wanted, strict=True))
        elif option is float and isinstance(given, int | float) and not isinstance(given, bool):
            if abs(given) < float("inf"):
                return float(given)
        elif option is str and hasattr(given, "isoformat"):
            return str(given.isoformat())
        elif isinstance(given, option) and not (isinstance(given, bool) and option is not bool):
            return given
    raise SettingsError(f"{name} = {_shown(given)}: must be {_describe(kind)}")


def _shown(given: Any) -> str:
    """Return a value as text, the middle of a long one left out."""
    text = repr(given)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _describe(kind: Any) -> str:
    names = {str: "text", float: "a number", int: "a whole number", bool: "true or false"}
    options = [
        o for o in (typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)) if o is not type(None)
    ]
    words = []
    for option in options:
        items = typing.get_args(option)
        if not items:
            words.append(names[option])
        elif items[-1] is Ellipsis:
            words.append(f"a list of {names[items[0]].removeprefix('a ')}s")
        else:
            words.append(f"a list of {len(items)} numbers")
    return " or ".join(words)
