"""The roster (the stations of a campaign in fixed order), and the generations of its pairs."""

from __future__ import annotations

import dataclasses
import json

from xcorr.network.pairs import chosen_pairs
from xcorr.network.station_list import Station
from xcorr.pes.correlating.layout import Layout
from xcorr.pes.reading.waveform import Coordinates
from xcorr.settings import Settings


@dataclasses.dataclass(frozen=True)
class Roster:
    """The stations of a campaign in their order, which never changes: later ones are appended.

    ``bounds`` holds their number after each run that brought new ones.
    """

    stations: tuple[Station, ...]
    bounds: tuple[int, ...]

    def to_json(self, generation: int) -> str:
        """Return the roster up to a generation as text."""
        bounds = self.bounds[: generation + 1]
        places = [dataclasses.astuple(s.coordinates) for s in self.stations]
        rows = [[s.network, s.code, *p] for s, p in zip(self.stations[: bounds[-1]], places, strict=False)]
        return json.dumps({"bounds": bounds, "stations": rows})

    @classmethod
    def from_json(cls, text: str) -> Roster | None:
        """Return the roster that a text holds; None for no text."""
        if not text.strip():
            return None
        plain = json.loads(text)
        # without channels, which come from the list of the present run
        stations = [Station(network, code, Coordinates(*place), ()) for network, code, *place in plain["stations"]]
        return cls(tuple(stations), tuple(plain["bounds"]))


@dataclasses.dataclass(frozen=True)
class Generation:
    """The pairs that came with the same stations: their layout, and the row of the campaign at which they begin."""

    number: int
    layout: Layout
    first_row: int


def joined(found: dict[tuple[str, str], Station], roster: Roster | None, new_places: bool = False) -> Roster:
    """Return the roster with new stations at the end.

    Stations that it has already keep their coordinates, unless ``new_places`` are to be taken.
    """
    if roster is None:
        return Roster(tuple(found.values()), (len(found),))
    old = []
    for s in roster.stations:
        now = found.get((s.network, s.code))
        keeps = now is None or not new_places or not now.coordinates.are_known
        old.append(
            s if now is None else dataclasses.replace(now, coordinates=s.coordinates if keeps else now.coordinates)
        )
    known = {(s.network, s.code) for s in old}
    new = [s for key, s in found.items() if key not in known]
    bounds = (*roster.bounds, len(old) + len(new)) if new else roster.bounds
    return Roster((*old, *new), bounds)


def generations_of(roster: Roster, settings: Settings) -> tuple[Generation, ...]:
    """Return the generations of a campaign. A pair belongs to the generation that brought its second station."""
    chosen = chosen_pairs(roster.stations, settings.correlate)
    made: list[Generation] = []
    first_row = before = 0
    for number, count in enumerate(roster.bounds):
        mask = chosen[:count, :count].copy()
        mask[:, :before] = False  # pairs of two old stations belong to earlier generations
        layout = Layout(
            count,
            settings.components,
            settings.component_pairs,
            settings.correlate.block,
            mask,
            settings.own_pairs,
            settings.cross_pairs,
        )
        made.append(Generation(number, layout, first_row))
        first_row, before = first_row + layout.rows, count
    return tuple(made)
