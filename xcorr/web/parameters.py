"""The parameters of requests. Each has the same name and meaning wherever it stands."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from xcorr.results.pair_table import FIELDS
from xcorr.results.selection import Selection
from xcorr.results.where import Where

LAST_NS = 1 << 62
Codes = Annotated[str, Field(max_length=2000, description="Codes separated by commas; * and ? stand for any letters.")]


def _time(text: str) -> str:
    if text:
        try:
            datetime.datetime.fromisoformat(text)
        except ValueError:
            raise ValueError("write a time as 2024-03-01 or 2024-03-01T12:00:00 (UTC)") from None
    return text


Time = Annotated[
    str, Field(max_length=40, description="Time (UTC), such as 2024-03-01T12:00:00."), AfterValidator(_time)
]


def as_ns(text: str, default: int) -> int:
    """Return a time as nanoseconds since 1970 UTC; the default for an empty text."""
    if not text:
        return default
    found = datetime.datetime.fromisoformat(text)
    found = found if found.tzinfo else found.replace(tzinfo=datetime.UTC)
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    ns = (found - epoch) // datetime.timedelta(microseconds=1) * 1000
    return max(-LAST_NS, min(ns, LAST_NS))  # services write an open end as 2599-12-31


class Asked(BaseModel):
    """Parameters that are not known are refused."""

    model_config = ConfigDict(extra="forbid")


class Listed(Asked):
    """How a list is given."""

    limit: int = Field(100, ge=1, le=1000, description="Most items of one answer.")
    next: str = Field("", max_length=400, description="Where to go on: what the last answer gave as next.")
    fields: str = Field("", max_length=400, description="Fields wanted, separated by commas. Default: all.")
    nodata: Literal["204", "404"] = Field("204", description="Status of an answer without any item.")


class OfStack(Asked):
    """Which correlations."""

    components: str = Field("", max_length=8, description="Component pair, such as ZZ. Default: ZZ, or the first.")
    stack: str = Field("", max_length=60, description="Which stack. Default: linear, or the first.")
    band: str = Field("", max_length=60, description="A further band, by name. Default: the main one.")


class Pairs(OfStack):
    """Which pairs: all that pass every parameter given."""

    sta1: Codes = Field("", description="One station: NET.STA, or STA alone; with * and ?; separated by commas.")
    sta2: Codes = Field("", description="The other station, in either order.")
    net: Codes = Field("", description="Networks of both stations, with * and ?, separated by commas.")
    distance_km_min: float | None = Field(None, ge=0, le=1e5)
    distance_km_max: float | None = Field(None, ge=0, le=1e5)
    azimuth_min: float | None = Field(None, ge=0, le=360, description="Azimuth from station 1 to 2, from here ...")
    azimuth_max: float | None = Field(None, ge=0, le=360, description="... clockwise to here.")
    snr_min: float | None = Field(None, ge=-1e9, le=1e9)
    snr_max: float | None = Field(None, ge=-1e9, le=1e9)
    symmetry_min: float | None = Field(None, ge=-1, le=1)
    symmetry_max: float | None = Field(None, ge=-1, le=1)
    n_windows_min: int | None = Field(None, ge=0)
    n_windows_max: int | None = Field(None, ge=0)
    where: str = Field("", max_length=2000, description="Condition, such as: snr > 10 and distance_km < 50.")

    @model_validator(mode="after")
    def _both(self) -> Self:
        for name in ("distance_km", "snr", "symmetry", "n_windows"):
            low, high = getattr(self, f"{name}_min"), getattr(self, f"{name}_max")
            if low is not None and high is not None and low > high:
                raise ValueError(f"{name}_min = {low} is larger than {name}_max = {high}")
        return self

    def selection(self) -> Selection:
        """Return the selection that the parameters stand for. Raises ConditionError for a condition that is none."""
        conditions = [f"({Where(self.where, FIELDS).plain})"] if self.where.strip() else []
        for name in ("distance_km", "snr", "symmetry", "n_windows"):
            for end, sign in (("min", ">="), ("max", "<=")):
                if (value := getattr(self, f"{name}_{end}")) is not None:
                    conditions.append(f"{name} {sign} {value!r}")
        azimuth = None
        if self.azimuth_min is not None or self.azimuth_max is not None:
            azimuth = self.azimuth_min or 0.0, 360.0 if self.azimuth_max is None else self.azimuth_max
        pairs = tuple(f"{a}-{b}" for a in _stations(self.sta1) for b in _stations(self.sta2))
        return Selection(
            None,
            azimuth,
            pairs if self.sta1 or self.sta2 else (),
            tuple(code.strip() for code in self.net.split(",") if code.strip()),
            " and ".join(conditions),
        )

    def given(self) -> dict[str, Any]:
        """Return the parameters that are not the defaults, as text for an address."""
        return {name: value for name, value in self.model_dump(exclude_defaults=True).items() if value != ""}


def _stations(text: str) -> list[str]:
    codes = [code.strip() for code in text.split(",") if code.strip()] or ["*.*"]
    return [code if "." in code else f"*.{code}" for code in codes]


class Channels(Listed):
    """Which channels."""

    net: Codes = ""
    sta: Codes = ""
    loc: Codes = Field("", description="Location codes; -- for an empty one.")
    cha: Codes = Field("", description="Channel codes, such as BHZ; * and ? stand for any letters.")
    box: str = Field("", max_length=100, description="West, south, east, north in degrees, such as -10,40,5,50.")
    start: Time = ""
    end: Time = ""
    sort: str = Field("", max_length=40, description="Field to sort by; with - before it from the largest.")

    def corners(self) -> tuple[float, float, float, float] | None:
        """Return west, south, east and north of the box."""
        if not self.box:
            return None
        west, south, east, north = (float(part) for part in self.box.split(","))
        return west, south, east, north

    @model_validator(mode="after")
    def _box(self) -> Self:
        try:
            corners = self.corners()
        except ValueError:
            raise ValueError(f"box = {self.box!r}: write west,south,east,north, such as -10,40,5,50") from None
        if corners:
            west, south, east, north = corners
            if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
                raise ValueError(f"box = {self.box!r}: longitudes within 180 degrees, latitudes within 90, south first")
        return self
