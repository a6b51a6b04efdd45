"""Time comes from the records: drifting clocks, wrong rates in headers, and the rates that SAC's float32 stands for."""

import io
from fractions import Fraction

import numpy as np
import obspy
import pytest
from archives import START, settings, station_list, trace, write
from conftest import accounts_of

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.pes.preparing.condition import Conditioning, condition
from xcorr.pes.reading.clocks import nominal_rate, rational, to_segments
from xcorr.pes.reading.waveform import NS, Waveform, meant, of_trace
from xcorr.pes.reading.waveform_file import read_waveforms

T0 = START.ns
RATES = (75, 100, 120, 125, 128, 250, 256, 300, 500, 512, 1000)


def wave(start_ns, count, rate_hz, last_ns=None, first=0):
    last = start_ns + round((count - 1) * NS / rate_hz) if last_ns is None else last_ns
    return Waveform("XX", "A", "", "BHZ", start_ns, last, rate_hz, np.arange(first, first + count), count)


def records(times_ns, count, header_hz, true_hz):
    """Waveforms of single records that begin at the times of a clock, and whose header has another rate."""
    return [wave(t, count, header_hz, t + round((count - 1) * NS / true_hz), k * count) for k, t in enumerate(times_ns)]


def drifting(seconds, header_hz, true_hz, count=400):
    step = count * NS / true_hz
    return records([T0 + round(k * step) for k in range(int(seconds * true_hz) // count)], count, header_hz, true_hz)


def times_of(segments):
    """Time of every sample, ns after the start, by its number."""
    return {
        int(v): s.start_ns - T0 + float(k / s.rate_hz) * NS for s in segments for k, v in list(enumerate(s.data))[::97]
    }


@pytest.mark.parametrize("ppm", [-300, -20, 20, 150, 5000])
def test_a_drift_is_followed(ppm):
    true = 100 * (1 + ppm * 1e-6)
    segments, (drift,) = to_segments(drifting(3600, 100.0, true))
    assert len(segments) == 1
    for number, time in times_of(segments).items():
        assert time == pytest.approx(number * NS / true, abs=0.1 * NS / true)
    assert drift.ppm == pytest.approx(ppm, abs=0.5)
    assert drift.seconds == pytest.approx(3600 * ppm * 1e-6, rel=0.02)


def test_a_file_of_one_segment_has_the_rate_of_its_ends():
    count, true = 360_000, 100.01
    segments, (drift,) = to_segments([wave(T0, count, 100.0, T0 + round((count - 1) * NS / true))])
    assert times_of(segments)[97 * 3000] == pytest.approx(97 * 3000 * NS / true, abs=1e6)
    assert drift.ppm == pytest.approx(100, abs=0.1)


def test_clocks_that_fit_keep_their_rate_and_starts():
    apart = [wave(T0, 1000, 100.0), wave(T0 + 10 * NS + 7_000_000, 1000, 100.0)]
    for made in (drifting(3600, 100.0, 100.0), apart):
        segments, drifts = to_segments(made)
        assert not drifts
        assert {s.rate_hz for s in segments} == {100}
        assert segments[0].start_ns == T0
    assert [s.start_ns - T0 for s in segments] == [0, 10 * NS + 7_000_000]


def test_jitter_of_record_times_is_no_drift(rng):
    even = drifting(3600, 100.0, 100.0)
    starts = [w.start_ns + int(j) for w, j in zip(even, rng.integers(-2_000_000, 2_000_000, len(even)), strict=True)]
    moved = [wave(start, 400, 100.0, None, 400 * k) for k, start in enumerate(starts)]
    segments, drifts = to_segments(moved)
    assert (len(segments), drifts) == (1, [])


def test_an_uneven_drift_is_cut_where_it_bends():
    """The clock is right for an hour and then 100 ppm fast."""
    steps = [4 * NS] * 900 + [round(4 * NS / 1.0001)] * 900
    times = T0 + np.concatenate([[0], np.cumsum(steps)[:-1]])
    segments, drifts = to_segments(records(times.tolist(), 400, 100.0, 100.0))
    assert len(segments) > 1
    assert drifts
    truth = {int(400 * k): t - T0 for k, t in enumerate(times.tolist())}
    for s in segments:
        for k in range(0, len(s.data), 400):
            time = s.start_ns - T0 + float(k / s.rate_hz) * NS
            assert time == pytest.approx(truth[int(s.data[k])], abs=NS / 100 * 0.75)


def test_records_at_intervals_are_no_lower_rate():
    """Five minutes of data every fifteen minutes: gaps, not a third of the rate."""
    made = [wave(T0 + k * 900 * NS, 30_000, 100.0, None, k * 30_000) for k in range(20)]
    segments, drifts = to_segments(made)
    assert (len(segments), drifts) == (20, [])
    assert {s.rate_hz for s in segments} == {100}


def test_a_gap_stays_a_gap_beside_a_drift():
    made = drifting(3600, 100.0, 100.01)
    segments, drifts = to_segments(made[:400] + made[500:])
    assert len(segments) == len(drifts) == 2
    for number, time in times_of(segments).items():
        assert time == pytest.approx(number * NS / 100.01, abs=1e6)


def test_a_rate_that_snaps_is_believed_only_as_far_as_it_fits():
    """39.9999 Hz in a header stands for 40 Hz, unless the times of a day say otherwise."""
    count = 3_456_000
    assert to_segments([wave(T0, count, 39.9999, T0 + round((count - 1) * NS / 40))])[0][0].rate_hz == 40
    (segment,), (drift,) = to_segments([wave(T0, count, 39.9999)])
    assert float(segment.rate_hz) == pytest.approx(39.9999, rel=2e-8)
    assert drift.seconds == pytest.approx(-0.216, abs=0.001)
    assert to_segments([wave(T0, 2400, 39.9999)])[0][0].rate_hz == 40


@pytest.mark.parametrize("rate", [*RATES, *(1 / r for r in RATES)])
def test_sac_holds_the_rate_that_its_float32_stands_for(tmp_path, rate):
    path = str(tmp_path / "x.sac")
    made = obspy.Trace(np.arange(5000, dtype=np.float32), {"sampling_rate": rate, "starttime": START})
    made.write(path, format="SAC")
    (found,), wrong, notes = read_waveforms(path)
    assert (wrong, notes) == ([], [])
    assert nominal_rate(found.rate_hz) == Fraction(rate).limit_denominator(1000)
    assert abs(found.drift) < 1e-3


def test_rates_that_mean_something():
    assert meant(float(np.float32(1 / 3))) == Fraction(1, 3)
    assert meant(40.0001) == Fraction(400001, 10000)
    for rate, count in ((99.9987, 8_640_000), (0.99997, 86_400), (123.456, 10_000)):
        assert abs(float(rational(rate, count)) / rate - 1) * count <= 0.05
    assert rational(40.0, 10**8) == 40


def test_masked_integers_become_gaps():
    data = np.ma.array(np.arange(100), mask=np.arange(100) % 10 == 0)
    found = of_trace(obspy.Trace(data, {"sampling_rate": 4.0, "starttime": START}))
    assert np.isnan(found.data[::10]).all()
    assert (found.data[1:10] == np.arange(1, 10)).all()


def test_a_condition_of_an_odd_rate_gives_the_wave_at_its_time():
    """A wave of 0.25 Hz, sampled at a rate near 20 Hz that no simple fraction stands for, comes out where it is."""
    true = rational(20 * (1 + 77e-6), 72_000)
    t = np.arange(72_000) / float(true)
    segments, _ = to_segments([wave(T0, 72_000, 20.0, T0 + round(t[-1] * NS))])
    segments = [type(s)(s.start_ns, s.rate_hz, np.sin(2 * np.pi * 0.25 * t)) for s in segments]
    data, mask = condition(segments, T0, 14_400, Conditioning(4.0, (0.05, 1.0), 4, 40.0))
    inside = np.flatnonzero(mask)
    assert len(inside) > 13_000
    assert np.abs(data[inside] - np.sin(2 * np.pi * 0.25 * inside / 4.0)).max() < 2e-3


def with_record_times(made, true_hz, path, reclen=512):
    """Write a trace whose records have the times of a true rate, and a header with the trace's own rate."""
    out = io.BytesIO()
    for k in range(0, len(made.data), 200):
        part = made.copy()
        part.data = made.data[k : k + 200]
        part.stats.starttime = made.stats.starttime + k / true_hz
        part.write(out, format="MSEED", reclen=reclen, encoding="STEIM2")
    path.write_bytes(out.getvalue())


@pytest.mark.parametrize("drift", ["resample", "refuse"])
def test_the_lag_of_a_drifting_station_is_right(tmp_path, drift):
    """Station B runs at 10.003 Hz and says 10 Hz: without its records' times its lags walk by 2 s in two hours."""
    true, seconds = 10.003, 7200
    fine = np.random.default_rng(3).standard_normal((seconds + 200) * 20)
    smooth = np.convolve(fine, np.hanning(21), "same")

    def at(times):
        return (300 * np.interp(times, np.arange(len(smooth)) / 20, smooth)).astype(np.int32)

    write(tmp_path / "sds", "AAA", at(np.arange(seconds * 10) / 10 + 100))
    made = trace("BBB", at(np.arange(int(seconds * true)) / true + 97))  # what A hears, 3 s later
    path = write(tmp_path / "sds", "BBB")
    with_record_times(made, true, path)
    how = settings(tmp_path / "sds", data={"drift": drift}, stack={"substack_s": 600})
    finished = run_campaign(station_list(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr", how)
    account = next(a for a in accounts_of(finished.folder) if a["slot"] == "XX.BBB.Z")
    if drift == "refuse":
        assert (account["status"], finished.exit_code) == ("failed", 1)
        assert "+300 ppm" in account["reason"]
        return
    assert finished.exit_code == 0
    assert "+300 ppm from the header's rate, 2.16 s over the data" in account["note"]
    assert any(g["kind"] == "note" and "+300 ppm" in g["reason"] for g in finished.report["reasons"])
    with results.open(finished.folder) as found:
        pieces = found.get("XX.AAA", "XX.BBB", "ZZ", None)
        used = pieces.n_windows.to_numpy() > 0
        peaks = pieces.lag_s.to_numpy()[np.abs(pieces.to_numpy()).argmax(axis=1)][used]
    assert used.sum() >= 8
    assert np.abs(peaks - 3.0).max() <= 0.25
