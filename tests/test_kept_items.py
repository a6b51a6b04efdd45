"""Files of kept items: what is in them, to the sample."""

from fractions import Fraction

import numpy as np
import obspy

from xcorr.pes.items import Chunk, ConditionedStation, RawChannel, RawStation, Segment, SlotAccount
from xcorr.pes.preparing.kept_items import CONDITIONED
from xcorr.pes.reading.kept_items import RAW

START = 1_709_251_200_000_000_000  # 2024-03-01
CHUNK = Chunk(0, START, START + 3600 * 10**9, START, START + 3600 * 10**9)
ACCOUNT = SlotAccount(0, 0, "used", seed_id="XX.AAA.00.BHZ")


def test_segments_are_kept_at_their_own_times(tmp_path):
    data = np.arange(100, dtype=np.int32)
    begin = START + 12_345_678_000
    item = RawStation(CHUNK, "XX.AAA", (0,), (RawChannel(ACCOUNT, (Segment(begin, Fraction(20), data),)),))
    RAW.write(item, tmp_path / "x.mseed")
    (trace,) = obspy.read(str(tmp_path / "x.mseed"))
    assert (trace.id, trace.stats.sampling_rate) == ("XX.AAA.00.BHZ", 20.0)
    assert trace.stats.starttime.ns == begin
    np.testing.assert_array_equal(trace.data, data)


def test_each_valid_piece_of_a_conditioned_trace_begins_at_its_sample(tmp_path):
    rate, mask = 4.0, np.zeros((1, 400), bool)
    mask[0, 10:100] = mask[0, 101:102] = mask[0, 300:] = True
    data = np.arange(400, dtype=np.float32)[None]
    item = ConditionedStation(CHUNK, "XX.AAA", (0,), (ACCOUNT,), rate, data, mask, np.zeros((1, 1), np.int8))
    CONDITIONED.write(item, tmp_path / "x.mseed")
    traces = sorted(obspy.read(str(tmp_path / "x.mseed")), key=lambda t: t.stats.starttime)
    first = [round((t.stats.starttime.ns - START) / 1e9 * rate) for t in traces]
    assert first == [10, 101, 300]
    for k, trace in zip(first, traces, strict=True):
        assert trace.stats.starttime.ns == START + k * 250_000_000, "to the nanosecond"
        np.testing.assert_array_equal(trace.data, data[0, k : k + len(trace.data)])
    assert [len(t.data) for t in traces] == [90, 1, 100]
