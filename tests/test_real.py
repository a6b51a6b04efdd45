"""Real recordings: the Kansas week and the LHZ days, against chains written with ObsPy and plain NumPy."""

import json
import time

import numpy as np
import obspy
import pytest
import reference
import streams
from conftest import accounts_of

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.pes import NormalizeStation, TransformStation
from xcorr.pes.items import Segment
from xcorr.pes.preparing import whiten
from xcorr.pes.preparing.condition import Conditioning, condition
from xcorr.pes.preparing.normalize import Normalization
from xcorr.pes.preparing.whiten import Band, Whitening
from xcorr.pes.reading.clocks import nominal_rate
from xcorr.pes.reading.metadata import Metadata, inverse_response
from xcorr.pes.reading.segments import clean
from xcorr.provenance.campaign_lineage import CampaignLineage
from xcorr.provenance.document import write as write_provenance
from xcorr.settings.toml import build

BAND, EDGE_S, LENGTH, LAGS = (0.05, 0.4), 40.0, 3600, 120
KANSAS = ("A7K2", "B4Q8", "C9M3", "D2X6")


@pytest.fixture(scope="session")
def kansas(real_data, tmp_path_factory):
    from click.testing import CliRunner

    from xcorr.cli.program import main

    folder = tmp_path_factory.mktemp("kansas")
    where = folder / "stations.txt"
    where.write_text("".join(f"KS {c}\n" for c in KANSAS))
    result = CliRunner().invoke(
        main,
        ["run", str(where), "--source", f"files:{real_data}/kansas-3c-1hz",
         "--start", "2022-05-17", "--end", "2022-05-24",
         "--set", "condition.rate_hz=1", "--set", "condition.band_hz=[0.05,0.4]"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return folder / "stations.xcorr"


def plain_day(path):
    """ObsPy and NumPy only: zero runs cut out, each piece filtered forward and backward, one-bit."""
    raw = obspy.read(str(path))[0]
    assert raw.stats.npts == 86_400
    bad = np.zeros(86_400, bool)
    run = 0
    for t, x in enumerate([*raw.data, 1.0]):
        if x == 0:
            run += 1
        else:
            if run >= 60:
                bad[t - run : t] = True
            run = 0
    data, mask = np.zeros(86_400), np.zeros(86_400, bool)
    edges = np.flatnonzero(np.diff(np.r_[True, bad, True].astype(int)))
    for a, b in zip(edges[::2], edges[1::2], strict=True):
        piece = obspy.Trace(raw.data[a:b].astype(float), {"sampling_rate": 1.0})
        piece.detrend("demean").detrend("linear")
        edge = int(EDGE_S)
        piece.data[:edge] *= 0.5 - 0.5 * np.cos(np.pi * np.arange(edge) / edge)
        piece.data[-edge:] *= 0.5 + 0.5 * np.cos(np.pi * np.arange(1, edge + 1) / edge)
        piece.filter("bandpass", freqmin=BAND[0], freqmax=BAND[1], corners=4, zerophase=True)
        data[a + edge : b - edge] = piece.data[edge:-edge]
        mask[a + edge : b - edge] = True
    sigma = data[mask].std()
    used = [
        m.mean() >= 0.9 and np.abs(x).max() <= 10 * sigma
        for x, m in zip(data.reshape(24, LENGTH), mask.reshape(24, LENGTH), strict=True)
    ]
    return np.sign(data).reshape(24, LENGTH), np.array(used)


def test_kansas_week_agrees_with_a_plain_chain(real_data, kansas):
    days = {}
    for code in KANSAS:
        folder = real_data / "kansas-3c-1hz" / code / "2022"
        days[code] = [plain_day(folder / f"{code}.2022.{d}.0000.Z.sac") for d in range(137, 144)]
    with results.open(kansas) as found:
        assert len(found.pairs) == 6
        assert len(found.pieces) == 7
        for i, one in enumerate(KANSAS):
            for two in KANSAS[i + 1 :]:
                total, n = np.zeros(2 * LAGS + 1), 0
                for (x1, ok1), (x2, ok2) in zip(days[one], days[two], strict=True):
                    both = ok1 & ok2
                    day = reference.correlate_pair(x1, x2, both, LAGS, 1.0, BAND, 0.01, "phase")
                    total, n = total + both.sum() * day, n + both.sum()
                stack = found.get(f"KS.{one}", f"KS.{two}")
                assert stack.attrs["n_windows"] == n
                assert np.corrcoef(stack.values, total / n)[0, 1] >= 0.999


def test_kansas_zeros_are_reported_as_gaps(kansas):
    report = json.loads((kansas / "report.json").read_text())
    zeros = {(a["slot"], a["chunk"]): a["zeros_s"] for a in accounts_of(kansas) if a["zeros_s"]}
    assert set(zeros) == {("KS.B4Q8.Z", 0), ("KS.C9M3.Z", 0)}
    assert zeros["KS.B4Q8.Z", 0] == pytest.approx(0.20 * 86_400, rel=0.02)
    assert zeros["KS.C9M3.Z", 0] == pytest.approx(0.15 * 86_400, rel=0.05)
    assert sorted(report["ignored_files"])[0].endswith("LICENSE.fastxc")


def test_lhz_days_without_coordinates(real_data, tmp_path, invoke):
    where = tmp_path / "stations.txt"
    where.write_text("BK RUSS\nBK THIS\nBK YUBA\n")
    out = tmp_path / "out.xcorr"
    result = invoke(
        "run", where, "--source", f"files:{real_data}/lhz-mseed", "-o", out,
        "--set", "condition.rate_hz=1", "--set", "condition.band_hz=[0.02,0.2]",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    with results.open(out) as found:
        assert len(found.pieces) == 1
        assert np.isnan(found.pairs["distance_m"]).all()
        assert np.isfinite(found.gather()).all()
    assert invoke("plot", out).exit_code == 0
    assert (out / "section_ZZ_linear.png").stat().st_size > 10_000


def test_a_start_off_the_second_is_corrected(real_data):
    """YUBA starts 0.07186 s late: conditioned samples lie on whole seconds, shifted by exactly that."""
    trace = obspy.read(str(real_data / "lhz-mseed" / "YUBA.BK.LHZ.00.D.2022.002"))[0]
    rate, day = nominal_rate(trace.stats.sampling_rate), obspy.UTCDateTime(2022, 1, 2).ns
    assert trace.stats.starttime.ns - day == 71_860_000
    how = Conditioning(1.0, (0.02, 0.2), 4, 100.0)
    moved, mask = condition([Segment(trace.stats.starttime.ns, rate, trace.data)], day, 86_400, how)
    naive, _ = condition([Segment(day, rate, trace.data)], day, 86_400, how)
    inner = slice(2000, -2000)
    cross = np.fft.rfft(naive[inner]).conj() * np.fft.rfft(moved[inner])
    f = np.fft.rfftfreq(86_400 - 4000)
    use = (f > 0.04) & (f < 0.15)
    delay = -np.average(np.angle(cross[use]) / (2 * np.pi * f[use]), weights=np.abs(cross[use]))
    assert mask[2000:-2000].all()
    assert delay == pytest.approx(0.07186, abs=1e-4)


def step_by_step(trace, inventory, band):
    """ObsPy's chain: detrend, taper, remove the response, band-pass forward and backward."""
    trace = trace.copy()
    trace.detrend("linear")
    trace.taper(None, max_length=100.0)
    trace.remove_response(inventory, output="VEL", water_level=60, taper=False, zero_mean=False)
    trace.filter("bandpass", freqmin=band[0], freqmax=band[1], corners=4, zerophase=True)
    return trace.data


def test_fused_conditioning_agrees_with_obspy_and_is_faster(real_data):
    inventory = obspy.read_inventory(str(real_data / "lhz-mseed" / "CI_WBM.xml"))
    band, edge = (0.02, 0.2), 100.0
    trace = obspy.read(str(real_data / "lhz-mseed" / "CIWBM__LHZ___2022001.ms"))[0]
    day = obspy.UTCDateTime(2022, 1, 1).ns
    response = Metadata(inventory).response("CI.WBM..LHZ", trace.stats.starttime.ns)
    inverse = inverse_response(response, 1.0, 0.5, "velocity", 60.0)
    how = Conditioning(1.0, band, 4, edge)

    def fused():
        pieces = [Segment(trace.stats.starttime.ns, nominal_rate(1.0), trace.data)]
        segments = clean(pieces, day, day + 86_400 * 10**9).segments
        return condition(segments, day, 86_400, how, inverse)

    ours, mask = fused()
    theirs = step_by_step(trace, inventory, band)
    # ours lies on whole seconds, ObsPy's on the samples: move theirs by the 0.07186 s between the grids
    f = np.fft.rfftfreq(len(theirs))
    moved = np.fft.irfft(np.fft.rfft(theirs) * np.exp(2j * np.pi * f * (1 - 0.07186)), len(theirs))
    a, b = ours[1001:-1000], moved[1000:-1001]
    assert mask[1001:-1000].all()
    assert np.corrcoef(a, b)[0, 1] > 0.999
    assert np.std(a) / np.std(b) == pytest.approx(1, abs=0.01)
    assert 1e-9 < np.std(a) < 1e-4  # metres per second

    def seconds(call):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return min(times)

    ratio = seconds(lambda: step_by_step(trace, inventory, band)) / seconds(fused)
    assert ratio >= 5, f"only {ratio:.1f} times faster"  # 10 and more on a machine that does nothing else


NINE = ("ZZ", "RR", "TT", "RT", "TR", "ZR", "RZ", "ZT", "TZ")


@pytest.fixture(scope="module", params=["one-bit", "running-absolute-mean"])
def nine_components(real_data, tmp_path_factory, request):
    """The Kansas week turned to R, T, Z, whitened per channel and per station."""
    folder = tmp_path_factory.mktemp("nine")
    where = folder / "stations.txt"
    where.write_text("".join(f"KS {c}\n" for c in KANSAS))
    for per in ("channel", "station"):
        plain = {
            "data": {"source": f"files:{real_data}/kansas-3c-1hz", "start": "2022-05-17", "end": "2022-05-24"},
            "condition": {"rate_hz": 1.0, "band_hz": list(BAND)},
            "normalize": {"method": request.param, "per": per},
            "whiten": {"per": per},
            "correlate": {"components": list(NINE)},
        }
        assert run_campaign(where, folder / f"{per}.xcorr", build(plain)).exit_code == 0
    return folder


def test_love_and_rayleigh_waves_are_on_their_components(nine_components):
    for per in ("channel", "station"):
        with results.open(nine_components / f"{per}.xcorr") as found:
            near = np.abs(found.lags_s) <= 25
            rms = {p: np.sqrt(np.mean(found.gather(p)[:, near] ** 2)) for p in NINE}
            noise = {p: np.sqrt(np.mean(found.gather(p)[:, np.abs(found.lags_s) > 96] ** 2)) for p in NINE}
        for pair in ("ZZ", "RR", "TT", "ZR", "RZ"):
            assert rms[pair] > 5 * noise[pair]
        mixed = np.mean([rms[p] for p in ("RT", "TR", "ZT", "TZ")])
        assert np.mean([rms[p] for p in ("ZZ", "RR", "ZR", "RZ")]) > 1.6 * mixed, "Rayleigh waves: Z and R"
        assert rms["TT"] > 2.0 * mixed, "Love waves: T"


def test_ratios_of_components_are_kept_with_weights_per_station_only(real_data):
    """|E| / |Z| of the whitened spectra is that of the conditioned traces, or 1 with weights per channel."""
    traces = [obspy.read(str(next((real_data / "kansas-3c-1hz" / "A7K2").rglob(f"*.137.*.{c}.sac"))))[0] for c in "ZNE"]
    day, how = 1_652_745_600 * 10**9, Conditioning(1.0, BAND, 4, EDGE_S)
    made = [condition([Segment(day, nominal_rate(1.0), t.data)], day, 86_400, how) for t in traces]
    data, mask = np.array([m[0] for m in made]), np.array([m[1] for m in made])
    bands, verdict = (Band.of(3600, 120, 1.0, BAND),), np.zeros((3, 24), np.int8)
    verdict[:, [0, 23]] = 1
    grid = bands[0].grid
    plain = whiten.window_spectra(data.reshape(3, 24, 3600), grid)[:, 1:23]
    truth = np.abs(plain[2]) / np.abs(plain[0])
    inside = bands[0].taper() > 0.5
    for per in ("station", "channel"):
        item = streams.conditioned(0, data, mask, verdict == 0, 24, rate=1.0, components=3)
        (block,) = streams.run_chain(
            [item],
            NormalizeStation(Normalization("none")),
            TransformStation(bands, 3600, Whitening("phase", 0.02, per)),
        )
        white = block.spectra[0].swapaxes(1, 2)[:, 1:23]
        ratio = np.abs(white[2]) / np.maximum(np.abs(white[0]), 1e-12)
        expected = truth if per == "station" else np.ones_like(truth)
        np.testing.assert_allclose(ratio[:, inside], expected[:, inside], rtol=1e-4)
    assert np.median(truth[:, inside]) < 0.9 or np.median(truth[:, inside]) > 1.1


def test_kansas_lineage_names_files_windows_and_settings(kansas):
    by_slot = {(a["slot"], a["chunk"]): a for a in accounts_of(kansas)}
    with CampaignLineage(kansas) as found, results.open(kansas) as r:
        lineage = found.of_pair("KS.A7K2", "KS.C9M3")
        common = r.get("KS.A7K2", "KS.C9M3", stack=None)["n_windows"].values
        expected = {
            f"file:{path}"
            for code in ("A7K2", "C9M3")
            for day in np.flatnonzero(common)
            for path, _, _ in by_slot[f"KS.{code}.Z", day]["files"]
        }
        assert {n for n in lineage.entities if n.startswith("file:")} == expected
        assert len(expected) >= 2 * 7
        spectra = {n: a for n, a in lineage.entities.items() if n.startswith("TransformStation.output:")}
        days = [str(t)[:10].replace("-", "") for t in r.pieces[:, 0]]
        for name, attributes in spectra.items():
            day, code = days.index(name.split(":")[1][:8]), name.rpartition(".")[2]
            windows = by_slot[f"KS.{code}.Z", day]["windows"]
            told = dict(reversed(part.split(" ", 1)) for part in attributes["windows.Z"].split(", "))
            assert {r: int(n) for r, n in told.items()} == windows
        text = write_provenance(kansas, lineage, "json")
        assert "band_hz = [0.05, 0.4]" in json.dumps(json.loads(text)).encode().decode("unicode_escape")
        path = by_slot["KS.B4Q8.Z", 2]["files"][0][0]
        touched = found.of_file(path)
    stacks = {n.rpartition("/")[2] for n in touched.entities if n.startswith("stack:")}
    assert stacks == {"KS.A7K2-KS.B4Q8", "KS.B4Q8-KS.C9M3", "KS.B4Q8-KS.D2X6"}
    series = [n for n in touched.entities if n.startswith("series:")]
    in_days = {d for d in range(7) if path in [p for p, _, _ in by_slot["KS.B4Q8.Z", d]["files"]]}
    assert len(series) == 3 * len(in_days)


def test_velocity_changes_by_the_hour(real_data, tmp_path):
    """The week by the hour: runs, and has gaps where the data have."""
    from click.testing import CliRunner

    from xcorr.cli.program import main

    (tmp_path / "stations.txt").write_text("".join(f"KS {c}\n" for c in KANSAS))
    (tmp_path / "m.toml").write_text(
        '[[monitor]]\nname = "hourly"\nlag_s = [5.0, 60.0]\nmoving_s = 21600\nepsilon_max = 0.05\n'
        '[[monitor]]\nname = "phases"\nmethod = "mwcs"\nlag_s = [5.0, 60.0]\nwindow_s = 20.0\nmoving_s = 21600\n'
    )
    campaign = tmp_path / "stations.xcorr"
    for words in (
        ["run", tmp_path / "stations.txt", "--source", f"files:{real_data}/kansas-3c-1hz", "--start", "2022-05-17",
         "--end", "2022-05-24", "--set", "condition.rate_hz=1", "--set", "condition.band_hz=[0.05,0.4]",
         "--set", "stack.substack_s=3600", "--set", "window.length_s=1200", "--set", "window.step_s=600"],
        ["monitor", campaign, "-c", tmp_path / "m.toml"],
        ["plot", campaign, "--monitor", "all"],
        ["plot", campaign, "--interferogram", "hourly", "--pair", "KS.A7K2", "KS.C9M3"],
        ["plot", campaign, "--similarity", "hourly", "--pair", "KS.A7K2", "KS.C9M3"],
    ):  # fmt: skip
        done = CliRunner().invoke(main, [str(word) for word in words])
        assert done.exit_code == 0, done.output
    with results.open(campaign) as found, found.monitoring as of:
        changes = of.get("hourly")
        assert changes.sizes == {"time": 168, "pair": 6}
        windows = np.stack(
            [found.get(*p.split("-"), "ZZ", None)["n_windows"].values for p in changes["pair"].values], 1
        )
        assert (np.isfinite(changes["dvv"].values) == (windows > 0)).all()
        good = changes["flag"].values == 0
        assert 0.5 < good.mean() < 1
        assert np.abs(np.median(changes["dvv"].values[good])) < 0.01


def test_dispersion_of_four_stations(real_data, tmp_path):
    """Six pairs in a line, up to 18 km: no curve of the network comes out, and with one given no more than there is."""
    from click.testing import CliRunner

    from xcorr.cli.program import main

    (tmp_path / "stations.txt").write_text("".join(f"KS {c}\n" for c in KANSAS))
    (tmp_path / "curve.txt").write_text("".join(f"{period} {1.6 + 0.12 * period}\n" for period in (2.5, 3, 4, 5, 6)))
    campaign = tmp_path / "stations.xcorr"
    given = [
        "--set",
        f"dispersion.given.curve='{tmp_path}/curve.txt'",
        "--set",
        "dispersion.given.velocity_km_s=[1.0,4.0]",
    ]
    said = []
    for words in (
        ["run", tmp_path / "stations.txt", "--source", f"files:{real_data}/kansas-3c-1hz", "--start", "2022-05-17",
         "--end", "2022-05-24", "--set", "condition.rate_hz=1", "--set", "condition.band_hz=[0.05,0.4]",
         "--set", 'correlate.components=["ZZ","RR","TT"]', "--set", "whiten.per=station",
         "--set", "normalize.per=station", "--set", "stack.substack_s=21600"],
        ["dispersion", campaign],
        ["dispersion", campaign, *given],
        ["plot", campaign, "--bessel", "given", "--components", "TT"],
        ["plot", campaign, "--frequency-time", "given", "--components", "TT", "--pair", "KS.A7K2", "KS.D2X6"],
    ):  # fmt: skip
        done = CliRunner().invoke(main, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        said.append(done.output)
    assert said[1].count("give no curve of the network") == 3
    with results.open(campaign) as found, found.dispersion as of:
        values = of.get("given", "TT")
        assert values.sizes["pair"] == 6
        assert not values["phase_accepted"].values[:, values["period"].values > 6].any(), "beyond the curve"
        good = values["phase_accepted"].values
        assert np.isfinite(values["phase_error_km_s"].values[good]).all()
