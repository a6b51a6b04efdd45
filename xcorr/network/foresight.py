"""What a run would refuse, or do otherwise than a user may think: found before it, from a few headers of each kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from xcorr.network.channels import COMPONENT_OF, patterns_of, preference
from xcorr.network.reasons import some
from xcorr.network.station_list import Station
from xcorr.pes.reading.metadata import Metadata, MetadataError
from xcorr.pes.reading.source import Coverage, Index, Source
from xcorr.pes.reading.waveform import DAY_NS
from xcorr.settings import Settings

PROBED = 2  # files of each channel code whose headers are read
PERIODS = 5  # of the lowest frequency, that a window must hold at least
NAMED = 5  # most names in a message
LEAST_LIMIT = 1e-3  # of amplitudes, in multiples of what is usual in a trace
OWN_DIRECTION = "ZNEH"  # last letters that say where a channel points, or that it has no direction
WRONG_RATE = 1e-3  # relative: so much may the rate of the metadata differ from that of the data


@dataclasses.dataclass(frozen=True, slots=True)
class Concern:
    """Something to know before a run. A new campaign is refused for what is ``fatal``."""

    text: str
    fatal: bool = False


def concerns(
    stations: Sequence[Station], index: Index, source: Source, metadata: Metadata, settings: Settings
) -> tuple[Concern, ...]:
    """Return what is to be known of the stations of a campaign before it is run."""
    wanted = {} if index.of_requests else {s.name: _wanted(s, index, settings) for s in stations}
    return (
        *_rates(wanted, source, metadata, settings),
        *_components(wanted, settings),
        *_directions(wanted, metadata, settings),
        *_responses(wanted, metadata, settings),
        *_no_metadata(source, metadata, settings),
        *_rotation(stations, settings),
        *_lengths(settings),
        *(Concern(text, fatal=True) for text in leaves_nothing(settings)),
    )


def _wanted(station: Station, index: Index, settings: Settings) -> list[Coverage]:
    patterns = patterns_of(station.channels, settings)
    found = index.coverages.get((station.network, station.index_code), [])
    return [c for c in found if not c.refused and preference(c, patterns, settings.components) is not None]


def _rates(
    wanted: dict[str, list[Coverage]], source: Source, metadata: Metadata, settings: Settings
) -> Iterator[Concern]:
    """Yield channels whose rate is too low for the band, or differs from that of the metadata."""
    by_code: dict[str, list[Coverage]] = {}
    for found in wanted.values():
        for coverage in found:
            by_code.setdefault(coverage.channel, []).append(coverage)
    highest = settings.condition.band_hz[1]
    known: dict[str, set[float]] = {}
    for code, found in by_code.items():
        probes = found[:: max(1, -(-len(found) // PROBED))]
        for probe in probes:
            rate = probe.rate_hz or source.rate_hz(probe.path)
            if rate:
                known.setdefault(code, set()).add(rate)
                yield from _other_rate(probe, rate, metadata)
    slow = {code: rates for code, rates in known.items() if max(rates) / 2 <= highest}
    if slow:
        listed = ", ".join(f"{code} {max(rates):g} Hz" for code, rates in sorted(slow.items()))
        yield Concern(
            f"{listed}: too low for condition.band_hz = {list(settings.condition.band_hz)}, which needs more than "
            f"{2 * highest:g} Hz; set condition.band_hz (and condition.rate_hz) lower, or other data.channels",
            fatal=slow.keys() == by_code.keys(),
        )


def _other_rate(probe: Coverage, rate_hz: float, metadata: Metadata) -> Iterator[Concern]:
    seed_id = f"{probe.network}.{probe.station}.{probe.location}.{probe.channel}"
    listed = metadata.sampling_rate(seed_id, probe.start_ns)
    if listed and abs(listed / rate_hz - 1) > WRONG_RATE:
        yield Concern(f"{seed_id} has {rate_hz:g} Hz, and {listed:g} Hz in the station metadata; the data are believed")


def _components(wanted: dict[str, list[Coverage]], settings: Settings) -> Iterator[Concern]:
    """Yield components that no station has."""
    letters = {COMPONENT_OF[c.channel[-1]] for found in wanted.values() for c in found}
    lacking = [c for c in settings.components if c not in letters]
    if lacking and letters:
        codes = sorted({c.channel for found in wanted.values() for c in found})
        yield Concern(
            f"no station has a channel for {', '.join(lacking)} (there are {some(codes, NAMED)}), so that a part of "
            f"correlate.components = {list(settings.outputs)} will have no data; change them or data.channels"
        )


def _directions(wanted: dict[str, list[Coverage]], metadata: Metadata, settings: Settings) -> Iterator[Concern]:
    """Yield channels whose direction is not known, so that they fail in every chunk."""
    unknown, by_name = [], []
    for found in wanted.values():
        for coverage in {c.channel: c for c in found}.values():
            seed_id = f"{coverage.network}.{coverage.station}.{coverage.location}.{coverage.channel}"
            if coverage.turned or metadata.orientation(seed_id, coverage.start_ns):
                continue
            if coverage.channel[-1] not in OWN_DIRECTION:
                unknown.append(seed_id)
            elif metadata.given and coverage.channel[-1] in "NE":
                by_name.append(seed_id)
    if unknown:
        yield Concern(
            f"the direction of {some(unknown, NAMED)} is not known: set data.metadata to a StationXML file with it"
        )
    if by_name:
        yield Concern(f"the station metadata do not give the direction of {some(by_name, NAMED)}; their names give it")


def _responses(wanted: dict[str, list[Coverage]], metadata: Metadata, settings: Settings) -> Iterator[Concern]:
    """Yield channels without a response at the begin of their data, if responses are to be removed."""
    if settings.condition.response == "none" or not metadata.given:
        return
    lacking = {}
    for found in wanted.values():
        for coverage in {(c.location, c.channel): c for c in reversed(found)}.values():
            seed_id = f"{coverage.network}.{coverage.station}.{coverage.location}.{coverage.channel}"
            try:
                metadata.response(seed_id, max(coverage.start_ns, coverage.end_ns - DAY_NS))
            except MetadataError as error:
                lacking[seed_id] = str(error)
    if lacking:
        first = next(iter(lacking.values()))
        yield Concern(f"{len(lacking)} channel(s) have no response, so that they will fail: {first}")


def _no_metadata(source: Source, metadata: Metadata, settings: Settings) -> Iterator[Concern]:
    """Yield that there are no station metadata, if they are needed, or if the source may have some."""
    if metadata.given:
        return
    if settings.condition.response != "none":
        yield Concern(
            "condition.response needs station metadata, and the source has none; set data.metadata", fatal=True
        )
    elif type(source).metadata is not Source.metadata:
        yield Concern(
            "the source gave no station metadata, so that coordinates are those of the list, and channels point where "
            "their names say; set data.metadata to a StationXML file"
        )


def _rotation(stations: Sequence[Station], settings: Settings) -> Iterator[Concern]:
    """Yield what stands in the way of radial and transverse components."""
    if not any(c in pair for pair in settings.stacked_pairs for c in "RT"):
        return
    unplaced = [s.name for s in stations if not s.coordinates.are_known]
    if unplaced:
        yield Concern(
            f"correlate.components = {list(settings.stacked_pairs)} need coordinates, and {some(unplaced, NAMED)} "
            f"{'has' if len(unplaced) == 1 else 'have'} none; give them in the list (CSV with latitude and longitude) "
            "or with --metadata",
            fatal=True,
        )
    yield from map(Concern, settings.rotation_doubts)


def _lengths(settings: Settings) -> Iterator[Concern]:
    """Yield lengths and widths that do not go with the band."""
    longest = 1 / settings.condition.band_hz[0]
    for key, value, least in (
        ("correlate.max_lag_s", settings.correlate.max_lag_s, longest),
        ("window.length_s", settings.window.length_s, PERIODS * longest),
    ):
        if value < least:
            yield Concern(
                f"{key} = {value:g} is too short for periods up to {longest:g} s (condition.band_hz = "
                f"{list(settings.condition.band_hz)}); set at least {least:g}",
                fatal=True,
            )
    for low, high in (settings.whiten_band_hz, *(b.band_hz for b in settings.bands)):
        taper = settings.taper_hz((low, high))
        if 2 * taper > high - low:
            yield Concern(
                f"whiten.taper_hz = {taper:g}: two flanks are wider than the band from {low:g} to {high:g} Hz; "
                f'set it to less than {(high - low) / 2:g}, or to "auto"',
                fatal=True,
            )


def leaves_nothing(settings: Settings) -> list[str]:
    """Return why limits would leave nothing of traces, windows or stacks.

    These are no rules of the settings, so that campaigns of earlier versions with such limits can be read.
    """
    q, n, stack, texts = settings.quality, settings.normalize, settings.stack, []
    for method, key, value in (("clip", "clip_n", n.clip_n), ("mute", "mute_factor", n.mute_factor)):
        if n.method == method and value < LEAST_LIMIT:
            texts.append(f"normalize.{key} = {value:g} leaves only zeros; set at least {LEAST_LIMIT:g}")
    if "selective" in stack.methods and stack.selective_threshold > 1:
        texts.append(f"stack.selective_threshold = {stack.selective_threshold:g} accepts no piece; set at most 1")
    if q.sta_lta > 0 and not 0 < q.sta_s < q.lta_s:
        texts.append(f"quality.sta_s = {q.sta_s:g}: needs 0 < sta_s < lta_s (here {q.lta_s:g} s) with quality.sta_lta")
    return texts
