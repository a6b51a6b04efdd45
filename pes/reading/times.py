"""Times as people write them: ISO 8601, with a day of the month or of the year."""

from __future__ import annotations

import datetime
import re

_BY_DAY = re.compile(r"(\d{4})[-.,/ ]?(\d{3})(?:[T ,.:/](.+))?")


def time_ns(text: str) -> int:
    """Return nanoseconds UTC of a time; without an offset the time is UTC. Raises ValueError for another text.

    >>> time_ns("2022-05-17T06:00:00") == time_ns("2022-137T06:00:00") == time_ns("2022,137,06:00:00")
    True
    """
    text = text.strip()
    by_day = _BY_DAY.fullmatch(text)
    if by_day:
        year, day, clock = int(by_day[1]), int(by_day[2]), by_day[3] or "00:00:00"
        date = datetime.date(year, 1, 1) + datetime.timedelta(days=day - 1)
        if date.year != year:
            raise ValueError(f"the year {year} has no day {day}")
        text = f"{date.isoformat()}T{clock}"
    time = datetime.datetime.fromisoformat(text)
    time = time.replace(tzinfo=datetime.UTC) if time.tzinfo is None else time.astimezone(datetime.UTC)
    whole = time.replace(microsecond=0)
    return int(whole.timestamp()) * 1_000_000_000 + time.microsecond * 1000
