"""miniSEED with libmseed: the samples that ObsPy gives, whatever the order of records; damage costs a record."""

import io

import numpy as np
import obspy
import pytest
from archives import START

from xcorr.pes.reading.clocks import to_segments
from xcorr.pes.reading.miniseed import read_headers, read_miniseed
from xcorr.pes.reading.segments import clean
from xcorr.pes.reading.waveform import of_trace

RECLEN = 512
DAY = 86_400 * 10**9


def day(rng, code="AAA", rate=5.0, channel="BHZ", start=START, seconds=7200):
    """A trace with a gap, as records."""
    data = rng.integers(-500, 500, int(seconds * rate)).astype(np.int32)
    header = {"network": "XX", "station": code, "channel": channel, "sampling_rate": rate, "starttime": start}
    whole = obspy.Trace(data, header)
    return obspy.Stream([whole.slice(endtime=start + 3000), whole.slice(starttime=start + 3300)])


def written(stream, **how):
    out = io.BytesIO()
    stream.write(out, format="MSEED", **{"reclen": RECLEN, "encoding": "STEIM2", **how})
    return out.getvalue()


def cut(content):
    return [content[k : k + RECLEN] for k in range(0, len(content), RECLEN)]


def empty(record):
    """A record without samples: a log, or a detection."""
    return record[:30] + b"\0\0" + record[32:]


def flipped(record, quality):
    return record[:6] + quality + record[7:]


def shuffled(records, rng):
    return [records[k] for k in rng.permutation(len(records))]


def order(kind, records, others, rng):
    """The records of a file as somebody may have written it."""
    return {
        "in order": records,
        "shuffled": shuffled(records, rng),
        "doubled": [r for record in records for r in (record, record)],
        "doubled later": records + records,
        "quality flips": [flipped(r, b"DRQM"[k % 4 : k % 4 + 1]) for k, r in enumerate(records)],
        "multiplexed": [r for pair in zip(records, others, strict=False) for r in pair],
        "empty ones": [r for record in records for r in (empty(record), record)],
        "all of it": shuffled([*records, *records[::3], *others, *map(empty, records[::5])], rng),
    }[kind]


def cleaned(waveforms, code="AAA"):
    mine = [w for w in waveforms if w.station == code and w.samples]
    return clean(to_segments(mine)[0], START.ns, START.ns + DAY)


@pytest.mark.parametrize(
    "kind",
    ["in order", "shuffled", "doubled", "doubled later", "quality flips", "multiplexed", "empty ones", "all of it"],
)
def test_any_order_of_records_gives_what_obspy_gives(rng, kind):
    stream = day(rng)
    content = b"".join(order(kind, cut(written(stream)), cut(written(day(rng, "BBB"))), rng))
    found = read_miniseed(content)
    assert found.wrong == []
    mine = cleaned(found.waveforms)
    known = cleaned([of_trace(t) for t in obspy.read(io.BytesIO(content), format="MSEED")])
    assert [(s.start_ns, s.rate_hz, s.data.tobytes()) for s in mine.segments] == [
        (s.start_ns, s.rate_hz, s.data.astype(mine.segments[0].data.dtype).tobytes()) for s in known.segments
    ]
    assert [s.data.tolist() for s in mine.segments] == [t.data.tolist() for t in stream]


@pytest.mark.parametrize("encoding", ["STEIM1", "STEIM2", "INT16", "INT32", "FLOAT32", "FLOAT64"])
@pytest.mark.parametrize("order_of_bytes", ["<", ">"])
def test_encodings(rng, encoding, order_of_bytes):
    stream = day(rng)
    for trace in stream:
        trace.data = trace.data.astype({"INT16": "i2", "FLOAT32": "f4", "FLOAT64": "f8"}.get(encoding, "i4"))
    (first, second), wrong, _ = read_miniseed(written(stream, encoding=encoding, byteorder=order_of_bytes))
    assert not wrong
    assert (first.data == stream[0].data).all()
    assert (second.data == stream[1].data).all()
    assert second.start_ns == stream[1].stats.starttime.ns


def test_version_3(rng):
    from pymseed import MS3TraceList

    data = rng.integers(-500, 500, 20_000).astype(np.int32)
    made = MS3TraceList()
    made.add_data("FDSN:XX_AAA__B_H_Z", data, "i", 20.0, starttime=START.ns)
    content = b"".join(map(bytes, made.generate(format_version=3)))
    assert read_miniseed(content[:-10]).wrong
    (found,), wrong, _ = read_miniseed(content)
    assert not wrong
    assert (found.seed_id, found.start_ns, found.rate_hz) == ("XX.AAA..BHZ", START.ns, 20.0)
    assert (found.data == data).all()


DAMAGE = {
    "zeros within": lambda c: c[: RECLEN * 30 + 200] + bytes(30) + c[RECLEN * 30 + 230 :],
    "bits within": lambda c: c[: RECLEN * 30 + 72] + b"\xff" * 32 + c[RECLEN * 30 + 104 :],
    "300 stray bytes": lambda c: c[: RECLEN * 30] + b"\x07" * 300 + c[RECLEN * 30 :],
    "a foreign block": lambda c: c[: RECLEN * 30] + b"\x07" * RECLEN + c[RECLEN * 31 :],
    "no header": lambda c: c[: RECLEN * 30] + b"\xff" * 48 + c[RECLEN * 30 + 48 :],
    "cut short": lambda c: c[:-100],
    "padded": lambda c: c + bytes(5000),
    "bytes at the end": lambda c: c + b"not miniSEED",
    "a length of many records": lambda c: c[: RECLEN * 30 + 54] + b"\x0e" + c[RECLEN * 30 + 55 :],
    "an impossible length": lambda c: c[: RECLEN * 30 + 54] + b"\xff" + c[RECLEN * 30 + 55 :],
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_costs_a_record_and_is_named_in_a_line(rng, kind):
    stream = day(rng)
    content = DAMAGE[kind](written(stream))
    found = read_miniseed(content)
    lost = sum(len(t) for t in stream) - sum(len(s.data) for s in cleaned(found.waveforms).segments)
    assert lost <= (0 if kind in ("300 stray bytes", "padded", "bytes at the end") else 700)
    assert len(found.wrong) == (kind not in ("padded", "an impossible length"))
    assert found.wrong or not lost
    assert all(len(line) < 200 and "\n" not in line for line in found.wrong)
    whole = {s.start_ns: s.data for s in cleaned(found.waveforms).segments}
    for trace in stream:
        for start, data in whole.items():
            first = round((start - trace.stats.starttime.ns) * 5 / 1e9)
            if 0 <= first < len(trace):
                assert (data == trace.data[first : first + len(data)]).all()
    assert {w.seed_id for w in read_headers(content)} == {"XX.AAA..BHZ"}


def test_a_file_of_garbage_after_a_header_is_named(rng):
    head = written(day(rng))[:48]
    found = read_miniseed(head + bytes(rng.integers(0, 256, 100_000, np.uint8)))
    assert found.waveforms == []
    assert 1 <= len(found.wrong) <= 20


def test_a_time_is_selected(rng):
    content = written(day(rng, seconds=7200))
    start = START.ns + 4000 * 10**9
    found = read_miniseed(content, start, start + 60 * 10**9)
    (found,) = found.waveforms
    assert found.start_ns <= start
    assert found.last_ns >= start + 60 * 10**9
    assert found.samples < 2000
    assert read_miniseed(content, START.ns + 2 * DAY, START.ns + 3 * DAY).waveforms == []


def test_a_file_of_one_record_with_a_damaged_length_has_an_end(rng):
    """No second header tells how long records are."""
    content = bytearray(written(day(rng))[:RECLEN])
    right = content[54]
    for exponent in range(256):
        content[54] = exponent
        found = read_miniseed(bytes(content))
        behind = read_miniseed(bytes(content) + b"\7" * 300)
        assert behind.wrong, f"{exponent}: something stands behind the record"
        assert len(found.waveforms) <= 1
        assert found.waveforms or found.wrong, f"{exponent}: nothing is lost without a word"
        if exponent == right:
            assert (len(found.waveforms), found.wrong) == (1, [])
