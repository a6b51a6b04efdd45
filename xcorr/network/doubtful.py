"""Data that would stretch a campaign to years by an error: rates that cannot be used, clocks a GPS epoch early."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from xcorr.core.files import printable
from xcorr.pes.reading.source import Coverage, Index
from xcorr.pes.reading.waveform import DAY_NS, day_of

GPS_WEEKS = 1024  # after which the number of the week begins anew (IS-GPS-200, 20.3.3.3.1.1)
ERA_NS = GPS_WEEKS * 7 * DAY_NS
APART_NS = 5 * 366 * DAY_NS  # so long a time without any data separates two groups


def without_rollovers(index: Index) -> Index:
    """Return the index with files refused whose dates are a whole number of GPS epochs before those of all others.

    A receiver with a week number that has begun anew gives dates that are 1024 weeks, 19.6 years, too early. Such files
    are refused, and entered as unreadable, if they would lie among the other data with their date corrected, and if no
    data lie within 5 years around them.
    """
    every = sorted((c for found in index.coverages.values() for c in found if not c.refused), key=lambda c: c.start_ns)
    groups: list[list[Coverage]] = []
    end = 0
    for coverage in every:
        if not groups or coverage.start_ns - end > APART_NS:
            groups.append([])
            end = coverage.end_ns
        groups[-1].append(coverage)
        end = max(end, coverage.end_ns)
    if len(groups) < 2:
        return index
    spans = [(g[0].start_ns, max(c.end_ns for c in g)) for g in groups]
    weights = [(len({(c.network, c.station) for c in g}), sum(c.end_ns - c.start_ns for c in g)) for g in groups]
    main = max(range(len(groups)), key=lambda k: (weights[k], k))
    bad = {
        c.path: (
            f"{c.network}.{c.station}: its date {day_of(c.start_ns)} is {weeks} weeks before the other data, so that "
            "its GPS clock began anew; correct the date, or set data.start and data.end to use it as it is"
        )
        for k in range(main)
        for c in groups[k]
        if (weeks := _weeks_early(c, spans[main]))
    }
    return _with_refused(index, bad)


def _weeks_early(coverage: Coverage, span: tuple[int, int]) -> int:
    """Return the weeks by which a date must be later to lie within a time, to a day; 0 if no whole epoch does it."""
    for eras in (1, 2):
        if span[0] - DAY_NS <= coverage.start_ns + eras * ERA_NS <= span[1] + DAY_NS:
            return eras * GPS_WEEKS
    return 0


def _with_refused(index: Index, bad: dict[str, str]) -> Index:
    """Return the index with the data of some files refused."""
    if not bad:
        return index
    coverages = {
        key: [
            dataclasses.replace(c, refused=f"{printable(c.path)}: {bad[c.path]}") if c.path in bad else c for c in found
        ]
        for key, found in index.coverages.items()
    }
    return dataclasses.replace(index, coverages=coverages, unreadable={**index.unreadable, **bad})


def may_define_time(coverages: Sequence[Coverage], highest_hz: float) -> list[Coverage]:
    """Return the coverages with possible times, whose rate is not known, or high enough for ``highest_hz``.

    Others are never used. If an interval stands where a rate should, they would last for years.
    """
    return [c for c in coverages if not c.refused and (not c.rate_hz or c.rate_hz / 2 > highest_hz)]
