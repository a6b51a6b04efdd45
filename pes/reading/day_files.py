"""Files of one channel and day whose names say which: what their headers may say otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from xcorr.core.files import printable
from xcorr.pes.reading.waveform import DAY_NS, NS, Answer, Waveform, day_of

SLACK_NS = 3_600 * NS  # the last record of a day's file may run on into the next day
MARGIN_NS = 10 * NS  # a chunk is read with a little more at both ends


class Name(NamedTuple):
    """What the name of a file says."""

    network: str
    station: str
    location: str
    channel: str
    start_ns: int

    @property
    def seed_id(self) -> str:
        """``NET.STA.LOC.CHA``."""
        return ".".join(self[:4])


def read_day(
    read: Callable[[int | None, int | None], Answer],
    name: Name,
    base: str,
    start_ns: int,
    end_ns: int,
    trust: str = "refuse",
    advise: Callable[[str, str], str] = lambda choices, what: "",
) -> Answer:
    """Return the waveforms of a file with a name, and what was wrong, such as headers that contradict the name.

    ``read`` gives those of a time, or with None all; ``base`` is the file's name in messages. ``trust`` says what
    counts if name and headers disagree (refuse, name), and ``advise`` how another choice is set.
    """
    own_day = name.start_ns < end_ns - MARGIN_NS and start_ns + MARGIN_NS < name.start_ns + DAY_NS
    # the whole file in its own day, else data of other times would be lost without a word
    found, wrong, notes = read(*((None, None) if own_day else (start_ns, end_ns)))
    if own_day:
        if wrong and not any(w.start_ns < end_ns - MARGIN_NS and w.last_ns >= start_ns + MARGIN_NS for w in found):
            found = []  # what is damaged may have been of this time: else the chunk would count as one without data
        wrong = [*wrong, *(f"{printable(base)}: {text}" for text in _contradictions(found, name, trust, advise))]
        found = [w for w in found if _may_be_of(w, name)]
    if trust == "name" and len({w.seed_id for w in found}) == 1:
        network, station, location, channel, _ = name
        codes = {"network": network, "station": station, "location": location, "channel": channel}
        found = [dataclasses.replace(w, **codes) for w in found]  # type: ignore[arg-type]  # all are texts
    return Answer(found, wrong, notes)


def _contradictions(
    found: Sequence[Waveform], name: Name, trust: str, advise: Callable[[str, str], str]
) -> Iterator[str]:
    """Yield what headers hold that the name of their file does not say."""
    ids = sorted({w.seed_id for w in found})
    others = [i for i in ids if i != name.seed_id]
    if others and (trust == "refuse" or len(ids) > 1):
        held = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        also = "also " if name.seed_id in ids else ""
        choices = '"header" or "name"' if len(ids) == 1 else '"header"'
        yield f"its headers {also}say {held}{advise(choices, 'it')}"
    first, stop = name.start_ns - SLACK_NS, name.start_ns + DAY_NS + SLACK_NS
    outside = [w for w in found if w.start_ns < first or w.last_ns > stop]
    if outside:
        days = sorted({day_of(t) for w in outside for t in (w.start_ns, w.last_ns)})
        held = f"it holds samples from {days[0]} to {days[-1]}, outside its name's {day_of(name.start_ns)}"
        advice = advise('"header"', "them")
        yield f"{held}, of which not all may be used{advice}"


def _may_be_of(waveform: Waveform, name: Name) -> bool:
    """Return whether some samples are of the day of a name."""
    return waveform.start_ns < name.start_ns + DAY_NS and waveform.last_ns >= name.start_ns
