"""Where the days of channels are in object stores: keys as templates, and the prefixes to list for some days."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Iterable, Mapping, Sequence

from xcorr.core.errors import XcorrError
from xcorr.pes.reading.day_files import Name
from xcorr.pes.reading.waveform import DAY_NS

FIELDS = {  # what a field of a template stands for
    "net": r"[A-Za-z0-9]+", "sta": r"[A-Za-z0-9_-]+", "loc": r"[A-Za-z0-9_-]*", "cha": r"[A-Za-z0-9]+",
    "year": r"\d{4}", "julday": r"\d{3}", "month": r"\d{2}", "day": r"\d{2}",
}  # fmt: skip
_FIELD = re.compile(r"\{(\w+)\}")
EPOCH = datetime.date(1970, 1, 1).toordinal()


class LayoutError(XcorrError, ValueError):
    """A layout that cannot be used."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Keys of day files, below a prefix of a bucket.

    ``template`` has the fields of FIELDS. ``filled`` are the lengths to which codes are filled with ``_``. ``bucket``,
    ``region`` and ``metadata`` (a template of StationXML) are those of a public archive. Raises LayoutError for a
    template that does not name a channel and a day.

    >>> LAYOUTS["scedc"].name("continuous_waveforms/2022/2022_001/CIWBM__LHZ___2022001.ms")[:4]
    ('CI', 'WBM', '', 'LHZ')
    """

    template: str
    filled: Mapping[str, int] = dataclasses.field(default_factory=dict)
    bucket: str = ""
    region: str = ""
    metadata: str = ""

    def __post_init__(self) -> None:
        there = set(_FIELD.findall(self.template))
        if unknown := there - FIELDS.keys():
            known = ", ".join(f"{{{name}}}" for name in FIELDS)
            raise LayoutError(
                f"layout {self.template!r}: the field {{{sorted(unknown)[0]}}} is not known; there are {known}"
            )
        if not {"net", "sta", "cha", "year"} <= there or not ({"julday"} <= there or {"month", "day"} <= there):
            raise LayoutError(
                f"layout {self.template!r}: needs {{net}}, {{sta}}, {{cha}}, {{year}}, and {{julday}} or {{month}} and "
                "{day}"
            )

    def name(self, key: str) -> Name | None:
        """Return the codes and the day of a key; None for a key of another form."""
        found = self._pattern().fullmatch(key)
        if found is None:
            return None
        codes = {k: v.rstrip("_") if k in self.filled else v for k, v in found.groupdict().items()}
        try:
            if "julday" in codes:
                first = datetime.date(int(codes["year"]), 1, 1).toordinal() + int(codes["julday"]) - 1
            else:
                first = datetime.date(int(codes["year"]), int(codes["month"]), int(codes["day"])).toordinal()
        except ValueError:
            return None
        location = codes.get("loc", "")
        return Name(
            codes["net"], codes["sta"], "" if location == "--" else location, codes["cha"], (first - EPOCH) * DAY_NS
        )

    def prefixes(self, stations: Iterable[tuple[str, str]], days: Sequence[int]) -> list[str]:
        """Return the prefixes that hold the keys of stations on days (numbers since 1970), as few as folders allow.

        A folder whose name has a field that is not known is listed whole.
        """
        found: dict[str, None] = {}
        for day in days:
            date = datetime.date.fromordinal(day + EPOCH)
            of_day = {"year": f"{date.year:04d}", "julday": f"{date.timetuple().tm_yday:03d}",
                      "month": f"{date.month:02d}", "day": f"{date.day:02d}"}  # fmt: skip
            for network, station in stations:
                known = dict(of_day)
                known |= {k: v for k, v in (("net", network), ("sta", station)) if not set(v) & set("*?[")}
                found[self._begin(known)] = None
        return list(found)

    def _begin(self, known: Mapping[str, str]) -> str:
        """Return the folders of the template up to the first field that is not known."""
        begin = ""
        for k, part in enumerate(_FIELD.split(self.template)):
            if k % 2 and part not in known:
                break
            begin += known[part].ljust(self.filled.get(part, 0), "_") if k % 2 else part
        else:
            return begin
        return begin[: begin.rfind("/") + 1]

    def _pattern(self) -> re.Pattern[str]:
        pattern, seen = "", set[str]()
        for k, part in enumerate(_FIELD.split(self.template)):
            if not k % 2:
                pattern += re.escape(part)
                continue
            content = rf"[A-Za-z0-9_-]{{{self.filled[part]}}}" if part in self.filled else FIELDS[part]
            pattern += f"(?P={part})" if part in seen else f"(?P<{part}>{content})"
            seen.add(part)
        return re.compile(pattern)


LAYOUTS = {
    # https://scedc.caltech.edu/data/cloud.html, https://ncedc.org/db/cloud.html
    "scedc": Layout(
        "continuous_waveforms/{year}/{year}_{julday}/{net}{sta}{cha}{loc}_{year}{julday}.ms",
        {"net": 2, "sta": 5, "cha": 3, "loc": 2}, "scedc-pds", "us-west-2", "FDSNstationXML/{net}/{net}_{sta}.xml",
    ),
    "ncedc": Layout(
        "continuous_waveforms/{net}/{year}/{year}.{julday}/{sta}.{net}.{cha}.{loc}.D.{year}.{julday}",
        {}, "ncedc-pds", "us-east-2", "FDSNstationXML/{net}/{net}.{sta}.xml",
    ),
    "sds": Layout("{year}/{net}/{sta}/{cha}.D/{net}.{sta}.{loc}.{cha}.D.{year}.{julday}"),
}  # fmt: skip


def layout_of(text: str) -> Layout:
    """Return a layout by its name, or by a template. Raises LayoutError for one that is neither."""
    if text in LAYOUTS:
        return LAYOUTS[text]
    if not _FIELD.search(text):
        raise LayoutError(
            f"layout {text!r}: must be one of {', '.join(LAYOUTS)}, or a template with {{net}}, {{sta}}, ..."
        )
    return Layout(text)
