"""Reads miniSEED with EarthScope's libmseed (pymseed), which reads in many threads at once.

Whole files are read at once. Where something is wrong in a file, or the times of its records do not fit its rate, it is
read again record by record, so that a damaged record costs itself only, and every record has its own time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from pymseed import MiniSEEDError, MS3Record, MS3TraceList, get_error_messages, sourceid2nslc

from xcorr.pes.reading.miniseed_headers import is_plain
from xcorr.pes.reading.waveform import Answer, Waveform

# the header of a record of version 2, or of version 3 (FDSN miniSEED 3, section "Description of record")
RECORD = re.compile(rb"[0-9 \x00]{6}[DRQM][ \x00]|MS\x03")
NUMBERS = frozenset("ifd")  # libmseed's letters for samples that are integers, floats and doubles; "t" is text
SMALLEST = 48  # bytes of a record: its fixed header
SEARCHED = 1 << 16  # bytes at the begin of a file in which records are looked for behind something else
FEW, MANY = 20, 10_000  # records that are tried; places that are named as damaged


def is_miniseed(head: bytes) -> bool:
    """Return whether a file that begins with these bytes (8 or more) holds miniSEED."""
    return RECORD.match(head) is not None and head[:6] != bytes(6)


def holds_miniseed(content: bytes) -> bool:
    """Return whether there are records in a file that begins with something else, such as padding or damage."""
    return any(
        isinstance(record, MS3Record) and record.samplecnt
        for _, (_, record) in zip(range(FEW), _records(content[:SEARCHED]), strict=False)
    )


def read_miniseed(content: Any, start_ns: int | None = None, end_ns: int | None = None) -> Answer:
    """Return the waveforms with samples within a time, and one line for each kind of thing that was wrong.

    ``content`` is the content of a file as bytes, or mapped. Waveforms may hold more samples than asked for. If the
    times of records disagree with the rate by more than a sample, each record is a waveform of its own.
    """
    waveforms = _at_once(content, start_ns, end_ns)
    return _by_record(content, start_ns, end_ns) if waveforms is None else Answer(waveforms, [], [])


def _at_once(content: Any, start_ns: int | None, end_ns: int | None) -> list[Waveform] | None:
    """Return the waveforms of a file in which nothing is wrong, else None; its records then tell what it is."""
    get_error_messages()  # what another file has left in this thread
    try:
        # records first and samples later: libmseed would grow its arrays record by record
        with MS3TraceList.from_buffer(content, record_list=True, **_times(start_ns, end_ns)) as found:
            waveforms = [_of_segment(trace.sourceid, s) for trace in found for s in trace if s.samplecnt]
        messages, length = get_error_messages(), MS3Record.parse(content).reclen
    except MiniSEEDError:
        return None
    steady = not messages and all(map(_is_steady, waveforms)) and not _breaks_often(waveforms)
    return waveforms if steady and is_plain(content, length, waveforms, start_ns is None is end_ns) else None


def read_headers(content: Any) -> list[Waveform]:
    """Return waveforms without their samples. What is damaged is left out; reading the samples tells of it."""
    try:
        with MS3TraceList.from_buffer(content, unpack_data=False) as found:
            return [_of_segment(trace.sourceid, s, False) for trace in found for s in trace if s.samplecnt]
    except MiniSEEDError:
        records = [r for _, r in _records(content) if isinstance(r, MS3Record)]
        if not records:
            raise
        waveforms = [_of_record(r, False) for r in records]
        return [w for w in waveforms if w.samples]


def _times(start_ns: int | None, end_ns: int | None) -> dict[str, str]:
    """Return a selection of time for libmseed."""
    given = {"starttime": start_ns, "endtime": end_ns}
    return {name: f"{np.datetime64(ns, 'ns')}Z" for name, ns in given.items() if ns is not None}


def _of_segment(sourceid: str, segment: Any, with_data: bool = True) -> Waveform:
    data = segment.create_numpy_array_from_recordlist() if with_data else np.zeros(0, np.int32)
    return Waveform(*_codes(sourceid), segment.starttime, segment.endtime, segment.samprate, data, segment.samplecnt)


def _codes(sourceid: str) -> tuple[str, str, str, str]:
    """Return network, station, location and channel of an FDSN source identifier.

    Stations of some archives have ``_`` in their codes, although it separates the codes of such an identifier.

    >>> _codes("FDSN:XX_A_1_00_B_H_Z")
    ('XX', 'A_1', '00', 'BHZ')
    """
    network, *of_station = sourceid.split("_")
    if len(of_station) > 5:
        *head, location, band, sensor, last = of_station
        return network.partition(":")[2].strip(), "_".join(head).strip(), location.strip(), band + sensor + last
    network, station, location, channel = sourceid2nslc(sourceid)
    return network.strip(), station.strip(), location.strip(), channel.strip() if channel.strip("_ ") else ""


def _is_steady(waveform: Waveform) -> bool:
    """Return whether the times of the first and the last sample fit the rate, to a sample."""
    return abs(waveform.drift) <= 1.0


def _breaks_often(waveforms: list[Waveform]) -> bool:
    """Return whether a channel is in so many pieces that its rate may be wrong."""
    return len(waveforms) > 20 * len({w.seed_id for w in waveforms})


def _by_record(content: Any, start_ns: int | None, end_ns: int | None) -> Answer:
    waveforms: list[Waveform] = []
    wrong: dict[str, list[int]] = {}
    first, last = -(2**63) if start_ns is None else start_ns, 2**63 if end_ns is None else end_ns
    total = 0
    for offset, record in _records(content):
        if isinstance(record, str):
            wrong.setdefault(record, []).append(offset)
            continue
        total += 1
        if not record.samplecnt or record.endtime < first or record.starttime > last:
            continue
        get_error_messages()
        try:
            record.unpack_data()
            messages = get_error_messages()
        except (MiniSEEDError, ValueError) as error:
            messages = [_brief(error)]
        if messages:
            reason = re.sub(r"^Error: |FDSN:\S+: |Warning: |, Last sample.*", "", messages[-1])
            wrong.setdefault(f"is damaged: {reason}", []).append(offset)
        elif record.sampletype in NUMBERS:
            waveforms.append(_of_record(record, True))
    lines = [
        f"{len(at)} of {total} records {text}" if text.startswith("is damaged") else f"{text} (at byte {at[0]})"
        for text, at in wrong.items()
    ]
    return Answer(waveforms, lines, [])


def _of_record(record: MS3Record, with_data: bool) -> Waveform:
    data = np.asarray(record.np_datasamples).copy() if with_data else np.zeros(0, np.int32)
    times = record.starttime, record.endtime, record.samprate
    return Waveform(*_codes(record.sourceid), *times, data, record.samplecnt)


def _records(content: Any) -> Iterator[tuple[int, MS3Record | str]]:
    """Yield the offset and header of every record, or what is wrong at an offset."""
    view, offset, bad = memoryview(content), 0, 0
    usual = _usual_length(content)
    while offset < len(view):
        try:
            record = MS3Record.parse(view[offset:])
            if record.reclen < SMALLEST:
                raise MiniSEEDError(-1, f"a record of {record.reclen} bytes")
            if SMALLEST <= usual < record.reclen and RECORD.match(view[offset + usual : offset + usual + 8]):
                yield offset, f"a record says that it has {record.reclen} bytes, and the next begins after {usual}"
                offset += usual
                continue
            yield offset, record
            offset += record.reclen
        except (MiniSEEDError, ValueError) as error:
            bad += 1
            following = RECORD.search(content, offset + 1) if bad < MANY else None
            stop = following.start() if following else len(view)
            if bytes(view[offset:stop]).strip(b"\0 "):  # padding is no damage
                is_record = RECORD.match(view[offset : offset + 8])
                no_data = f"{stop - offset} bytes are no miniSEED"
                yield offset, f"a record cannot be read: {_brief(error)}" if is_record else no_data
            offset = stop


def _usual_length(content: Any) -> int:
    """Return the length of most of the first records: the distance of their headers. 0 if there is one record only."""
    found = [m.start() for m, _ in zip(RECORD.finditer(content), range(FEW), strict=False)]
    return sorted(np.diff(found).tolist())[len(found) // 2 - 1] if len(found) > 1 else 0


def _brief(error: Exception) -> str:
    return str(error).split(" :: ")[0].split("\n")[0][:120]
