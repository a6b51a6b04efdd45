"""Paths of files as templates, such as ``{network}/{station}.{channel}.{julday}.sac``: the codes that names give."""

from __future__ import annotations

import os
import re

from xcorr.core.errors import XcorrError

CODES = ("network", "station", "location", "channel")
_SHORT = {"net": "network", "sta": "station", "loc": "location", "cha": "channel", "chan": "channel"}
_OTHERS = {"year": r"\d{4}", "julday": r"\d{1,3}", "month": r"\d{1,2}", "day": r"\d{1,2}", "hour": r"\d{1,2}"}
_FIELD = re.compile(r"\{(\w+)\}")


class TemplateError(XcorrError, ValueError):
    """A template that cannot be used."""


class Template:
    """A path with ``{network}``, ``{station}``, ``{location}`` and ``{channel}``, or ``{net}``, ``{sta}`` and so on.

    ``{year}``, ``{julday}``, ``{month}``, ``{day}`` and ``{hour}`` stand for numbers, and ``*`` and ``?`` for any
    text. A field that comes twice must be the same in both places. Raises TemplateError for other fields.

    >>> t = Template("arc/{net}/{sta}.{cha}.*")
    >>> t.glob, t.codes("arc/XX/A.BHZ.sac")
    ('arc/*/*.*.*', {'network': 'XX', 'station': 'A', 'channel': 'BHZ'})
    """

    def __init__(self, text: str) -> None:
        pattern, wild, seen = "", "", set[str]()
        for k, part in enumerate(_FIELD.split(os.path.normpath(text))):
            if not k % 2:
                pattern += "".join({"*": "[^/]*", "?": "[^/]"}.get(c, re.escape(c)) for c in part)
                wild += part
                continue
            name = _SHORT.get(part, part)
            if name not in CODES and name not in _OTHERS:
                known = ", ".join(f"{{{n}}}" for n in (*CODES, *_OTHERS))
                raise TemplateError(f"{text!r}: the field {{{part}}} is not known; there are {known}")
            content = _OTHERS.get(name, "[^/]*?" if name == "location" else "[^/]+?")
            pattern += f"(?P={name})" if name in seen else f"(?P<{name}>{content})"
            wild += "*"
            seen.add(name)
        self.names = tuple(n for n in CODES if n in seen)
        self.glob = wild
        self._pattern = re.compile(pattern)

    def codes(self, path: str) -> dict[str, str] | None:
        """Return the codes that a path gives, by their names; None for a path that the template does not fit."""
        found = self._pattern.fullmatch(os.path.normpath(path))
        return {n: found[n] for n in self.names} if found else None


def is_template(place: str) -> bool:
    """Return whether a place is a template, and not an existing file or folder with braces in its name."""
    return bool(_FIELD.search(place)) and not os.path.lexists(place)
