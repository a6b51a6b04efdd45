"""Station lists: ``NET STA`` per line, ``NET.STA.LOC.CHA`` patterns, CSV with coordinates, FDSN station text."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import math
import re
from pathlib import Path

from xcorr.core import XcorrError
from xcorr.core.files import read_text
from xcorr.pes.reading.times import time_ns
from xcorr.pes.reading.waveform import Coordinates, Place

CSV_COLUMNS = {  # and other names that people give them
    "network": "net network_code netcode",
    "station": "sta stn station_code stationcode code",
    "location": "loc location_code locid",
    "channel": "cha chan chn channel_code channels",
    "latitude": "lat y stla latitude_deg lat_deg",
    "longitude": "lon long lng x stlo longitude_deg lon_deg",
    "elevation_m": "elevation elev ele elv z stel height altitude alt elev_m",
    "starttime": "start start_date startdate start_time begin on",
    "endtime": "end end_date enddate end_time off",
}
_DEGREES = ("degrees", "degree", "deg", "°", "decimal degrees", "wgs84", "degrees_north", "degrees_east", "n", "e")
UNITS = {"latitude": _DEGREES, "longitude": _DEGREES, "elevation_m": ("metres", "m", "meters", "meter", "metre")}
SENSOR = ":"  # between the code of a station and a location that counts as a station of its own
_NAMES = {alias: name for name, more in CSV_COLUMNS.items() for alias in (name, *more.split())}
_CODE = re.compile(r"[A-Za-z0-9_*?\-]*")


class StationListError(XcorrError, ValueError):
    """A station list that cannot be used; the text gives file, line number and line."""


@dataclasses.dataclass(frozen=True, slots=True)
class ListRow:
    """One line of a station list. Codes may hold ``*`` and ``?``; location and channel None mean any."""

    line: int
    text: str
    network: str
    station: str
    location: str | None = None
    channel: str | None = None
    place: Place | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Station:
    """A station of the campaign; ``channels`` holds the (channel, location) patterns that its lines ask for.

    Data outside ``within`` (ns) are not its own, but those of the same station at another place.
    """

    network: str
    code: str
    coordinates: Coordinates
    channels: tuple[tuple[str | None, str | None], ...] = ((None, None),)
    within: tuple[int, int] = (-(2**62), 2**62)

    @property
    def source_code(self) -> str:
        """Its code in the source."""
        return self.index_code.partition(SENSOR)[0]

    @property
    def index_code(self) -> str:
        """Its code without the number of its place; with the location, if each is a sensor of its own."""
        return self.code.partition("@")[0]

    @property
    def name(self) -> str:
        """``NET.STA``."""
        return f"{self.network}.{self.code}"


def read_station_list(path: Path) -> list[ListRow]:
    """Return every station line of a list.

    Raises StationListError for an empty list or a line of another form, FileNotFoundError if there is no list.
    """
    try:
        lines = read_text(path).splitlines()
    except UnicodeDecodeError as error:
        raise StationListError(f"{path}: not a text file: {error}") from None
    rows: list[ListRow] = []
    header: tuple[str, list[str]] | None = None
    for number, line in enumerate(lines, 1):
        text = line.strip(" \r\n") if header and header[0] == "\t" else line.strip()
        try:
            columns = _header(text) if not rows and header is None else None
            if columns is not None:
                header = columns
            elif text and not text.startswith("#"):
                rows.append(_row(number, text, header))
        except ValueError as error:
            raise StationListError(f"{path}, line {number}: {text!r}: {error}") from None
    if not rows:
        raise StationListError(f"{path}: the list holds no station; write one per line, for example 'CI WBM'")
    return rows


def _header(text: str) -> tuple[str, list[str]] | None:
    """Return the separator and the column names of a CSV or FDSN text header line, or None.

    Columns that nothing is known of keep their names, and are not used.
    """
    separator = next((s for s in "|;,\t" if s in text), "")
    if not separator or (text.startswith("#") and separator != "|"):
        return None
    cells = next(csv.reader([text.lstrip("# ")], delimiter=separator))
    names = [re.sub(r"[^a-z0-9]+", "_", re.sub(r"\(.*|\[.*", "", c.lower())).strip("_") for c in cells]
    known = [_NAMES.get(n, n) for n in names]
    for name, cell in zip(known, cells, strict=True):
        unit = re.search(r"[(\[](.*?)[)\]]", cell)
        if unit and name in UNITS and unit[1].strip().lower() not in UNITS[name]:
            raise ValueError(f"the header's column {cell.strip()!r}: write {name} in {UNITS[name][0]}")
    if "station" not in known or not {"network", "latitude", "location", "channel"} & set(known):
        return None
    for name, cell in zip(known, cells, strict=True):
        if known.count(name) > 1:
            raise ValueError(f"two columns of the header are the {name}")
        alike = [] if name in CSV_COLUMNS else difflib.get_close_matches(name, _NAMES, 1, 0.8)
        if alike:
            raise ValueError(
                f"the header's column {cell.strip()!r} is not known (did you mean {alike[0]!r}?); rename or remove it"
            )
    return separator, known


def _row(number: int, text: str, header: tuple[str, list[str]] | None) -> ListRow:
    if "|" in text and (header is None or header[0] == "|"):
        names = header[1] if header else ["network", "station", "latitude", "longitude", "elevation_m"]
        return _from_columns(number, text, names, [c.strip() for c in text.split("|")], exact=False)
    if header is not None:
        cells = [c.strip() for c in next(csv.reader([text], delimiter=header[0]))]
        return _from_columns(number, text, header[1], cells, exact=True)
    words = text.partition("#")[0].split()
    parts = words[0].split(".") if len(words) == 1 else words
    if len(words) == 1 and len(parts) in (2, 4):
        network, station, *rest = parts
        location, channel = (_code(r, True) for r in rest) if rest else (None, None)
        return ListRow(number, text, _network(network), _code(station), location, channel)
    if len(words) == 2:
        return ListRow(number, text, _network(words[0]), _code(words[1]))
    raise ValueError(
        "write 'NET STA', 'NET.STA' or 'NET.STA.LOC.CHA' (with * and ?), "
        "or begin the file with a CSV header network,station,..."
    )


def _from_columns(number: int, text: str, names: list[str], cells: list[str], exact: bool) -> ListRow:
    if (exact and len(cells) != len(names)) or len(cells) < 2:
        raise ValueError(f"{len(cells)} columns where the header has {len(names)}; give a value for every column")
    at = dict(zip(names, cells, strict=False))
    place = None
    if at.get("latitude") or at.get("longitude"):
        latitude, longitude = (_number(at.get(k, ""), k, m) for k, m in (("latitude", 90), ("longitude", 360)))
        elevation = _number(at["elevation_m"], "elevation_m", 1e5) if at.get("elevation_m") else math.nan
        times = {f"{end}_ns": _time(at[f"{end}time"]) for end in ("start", "end") if at.get(f"{end}time")}
        place = Place(Coordinates(latitude, longitude, elevation), **times)
    location = _code(at["location"].replace("--", ""), True) if "location" in at else None
    channel = _code(at["channel"]) if at.get("channel") else None
    network, dot, station = at["station"].rpartition(".")
    if "network" in at:
        network, station = at["network"], at["station"]
    elif not dot:
        raise ValueError("the header has no column network; add one, or write stations as NET.STA")
    return ListRow(number, text, _network(network), _code(station), location, channel, place)


def _time(text: str) -> int:
    """Return ns of a time; an end such as 2599-12-31 stands for none."""
    try:
        return max(-(2**62), min(2**62, time_ns(text)))
    except ValueError:
        raise ValueError(f"{text!r} is not a time such as 2015-03-01T00:00:00 or 2015-060") from None


def _network(text: str) -> str:
    """Return a network code; a blank one, as in SAC files without a network, may be written ``--`` or ``.``."""
    return "" if text in ("", ".") else _code(text)


def _code(text: str, may_be_empty: bool = False) -> str:
    if not _CODE.fullmatch(text) or not (text or may_be_empty):
        raise ValueError(f"{text!r} is not a code; a code has letters, digits, _, -, * and ?")
    return "" if text == "--" else text


def _number(text: str, name: str, largest: float) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} {text!r} is not a number") from None
    if not abs(value) <= largest:
        raise ValueError(f"{name} {text!r} is out of range; write a number from -{largest:g} to {largest:g}")
    return value
