"""Known truths: delays by every method, plane waves, an isotropic field, rotation, selection, bands, orientation."""

import hashlib
import os
from pathlib import Path

import numpy as np
import obspy
import pytest
import scipy.signal
import scipy.special
from archives import sds_path, settings, station_list, trace, waveform, write
from conftest import accounts_of
from obspy.core.inventory import Channel, Inventory, Network
from obspy.core.inventory import Station as InventoryStation
from streams import correlate, correlate_all

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.network.pairs import chosen_pairs
from xcorr.network.requests import Requests
from xcorr.network.station_list import Station
from xcorr.network.survey import survey_list
from xcorr.pes.preparing import estimator
from xcorr.pes.preparing.estimator import METHODS
from xcorr.pes.reading.waveform import Coordinates
from xcorr.provenance import ask
from xcorr.settings import SettingsError
from xcorr.settings.sections import Correlate

RATE, LENGTH, LAGS, BAND = 4.0, 2400, 80, (0.05, 1.5)


def delayed(x, seconds):
    """The same noise later, by any fraction of a sample; periodic."""
    f = np.fft.rfftfreq(len(x), 1 / RATE)
    return np.fft.irfft(np.fft.rfft(x) * np.exp(-2j * np.pi * f * seconds), len(x))


@pytest.mark.parametrize("delay_s", [0.0, 2.5, -2.5, 1.1, -6.83])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_delay_and_its_sign(rng, method, delay_s):
    sos = scipy.signal.butter(4, (0.1, 1.2), "bandpass", fs=RATE, output="sos")
    x = scipy.signal.sosfiltfilt(sos, rng.standard_normal(8 * LENGTH))
    found, _ = correlate(
        [x, delayed(x, delay_s)], LAGS, BAND, length=LENGTH, whitening="none", taper=0.05, method=method
    )
    (c,) = found["ZZ"][0]
    fine = scipy.signal.resample(c, 100 * len(c))
    peak = np.arange(len(fine))[fine.argmax()] / 100 / RATE - LAGS / RATE
    assert peak == pytest.approx(delay_s, abs=0.02), "the lag of the peak, to a tenth of a sample"


def test_methods_that_need_amplitudes_refuse_whitening():
    for method in ("coherency", "deconvolution", "phase"):
        for whitening in ("phase", "running-mean"):
            with pytest.raises(SettingsError, match=f'must be "none" with correlate.method = "{method}".*'):
                settings("x", correlate={"method": method}, whiten={"method": whitening})
    assert estimator.METHODS[0] == "cross-correlation"


def plane_wave(source, places, azimuth_deg, speed):
    """Records of a plane wave that travels towards an azimuth, at places (east, north) in km."""
    direction = np.array([np.sin(np.deg2rad(azimuth_deg)), np.cos(np.deg2rad(azimuth_deg))])
    return [delayed(source, float(p @ direction) / speed) for p in places]


@pytest.mark.parametrize("azimuth_deg", [0.0, 90.0, 215.0])
def test_plane_waves_arrive_later_where_they_travel_to(rng, azimuth_deg):
    places = np.array([[0.0, 0.0], [12.0, 0.0], [3.0, 14.0], [-8.0, -5.0]])
    found, _ = correlate(
        plane_wave(rng.standard_normal(8 * LENGTH), places, azimuth_deg, 3.0), LAGS, BAND, length=LENGTH
    )
    direction = np.array([np.sin(np.deg2rad(azimuth_deg)), np.cos(np.deg2rad(azimuth_deg))])
    row = 0
    for i in range(4):
        for j in range(i + 1, 4):
            fine = scipy.signal.resample(found["ZZ"][0][row], 100 * (2 * LAGS + 1))
            lag = fine.argmax() / 100 / RATE - LAGS / RATE
            assert lag == pytest.approx((places[j] - places[i]) @ direction / 3.0, abs=0.03)
            row += 1


def test_the_spectrum_of_an_isotropic_field_is_j0(rng):
    """Aki (1957): the azimuthally averaged cross spectrum of waves from everywhere is J0(omega r / c)."""
    speed, windows, sources = 3.0, 40, 90
    places = np.array([[0.0, 0.0], [4.0, 0.0], [7.0, 3.0], [-2.0, 9.0]])
    records = np.zeros((4, windows * LENGTH))
    for azimuth in np.arange(sources) * 360 / sources:
        records += plane_wave(rng.standard_normal(windows * LENGTH), places, azimuth, speed)
    found, _ = correlate(
        records, 320, BAND, length=LENGTH, whitening="none", taper=0.0, method="coherency", smooth_hz=0.2
    )
    row, errors = 0, []
    for i in range(4):
        for j in range(i + 1, 4):
            c = found["ZZ"][0][row]
            r = np.linalg.norm(places[j] - places[i])
            for f in (0.2, 0.4, 0.6, 0.8):  # a narrow band around f: waves with their mean coherency
                lag = np.arange(-320, 321) / RATE
                window = np.exp(-0.5 * (lag / 25) ** 2)
                spectrum = np.sum(c * window * np.cos(2 * np.pi * f * lag))
                expected = scipy.special.j0(2 * np.pi * f * r / speed)
                errors.append(spectrum - expected)
            row += 1
    assert np.std(errors) < 0.06
    assert abs(np.mean(errors)) < 0.03


def three_components(rng, stations=4, windows=6):
    common = rng.standard_normal((3, windows * LENGTH + 60))
    shifts = rng.integers(0, 30, stations)
    data = np.array([common[:, s : s + windows * LENGTH] for s in shifts]) + rng.standard_normal(
        (stations, 3, windows * LENGTH)
    )
    return data * np.array([1.0, 2.0, 0.5])[:, None]


@pytest.mark.parametrize("whitening", ["none", "phase", "running-mean"])
def test_rotation_after_is_rotation_before(rng, whitening):
    """With weights per station only if they do not depend on the frame: unwhitened exactly; see docs for whitened."""
    from xcorr.pes.preparing.orient import rotated, stored_pairs

    data, azimuth = three_components(rng, 2), 37.0
    az = np.deg2rad(azimuth)
    turned = data.copy()
    turned[:, 1] = np.cos(az) * data[:, 1] + np.sin(az) * data[:, 2]
    turned[:, 2] = -np.sin(az) * data[:, 1] + np.cos(az) * data[:, 2]
    every = tuple(a + b for a in "ZNE" for b in "ZNE")
    how = {"length": LENGTH, "components": ("Z", "N", "E"), "pairs": every, "whitening": whitening, "per": "station"}
    before = _with_weights_of(data, turned, how)
    after, _ = correlate(data.astype(np.float32), LAGS, BAND, **how)
    tensor = {pair: after[pair][0] for pair in every}
    for pair in ("RR", "TT", "RT", "TR", "RZ", "ZT"):
        letters = pair.translate(str.maketrans("RT", "NE"))
        got = rotated({p: tensor[p] for p in stored_pairs(pair)}, np.array([azimuth]), pair)
        scale = max(np.abs(before[p]).max() for p in every)
        np.testing.assert_allclose(got[0], before[letters], atol=1e-5 * scale, rtol=0)


def _with_weights_of(data, turned, how):
    """Correlate the turned traces in float64 with the whitening weights of the traces before turning."""
    import reference
    import scipy.fft

    nfft = scipy.fft.next_fast_len(LENGTH + LAGS, real=True)
    frequency = np.arange(nfft // 2 + 1) * RATE / nfft
    taper = reference.taper(frequency, BAND, 0.01)
    inside = (frequency >= BAND[0] - 1e-9) & (frequency <= BAND[1] + 1e-9)
    half = max(0, round((0.02 * nfft / RATE - 1) / 2))
    cut = [x.reshape(2, 3, -1, LENGTH) for x in (data, turned)]
    sums = {a + b: 0.0 for a in "ZNE" for b in "ZNE"}
    for w in range(cut[0].shape[2]):
        spectra = []
        for s in range(2):
            old, new = (np.fft.rfft(c[s, :, w], nfft) / np.sqrt(LENGTH) for c in cut)
            size = np.abs(old).mean(axis=0)
            if how["whitening"] == "none":
                weight = np.ones(len(size))
            elif how["whitening"] == "phase":
                weight = 1 / size
            else:
                bins = np.flatnonzero(inside)
                smooth = np.array([size[max(b - half, bins[0]) : min(b + half, bins[-1]) + 1].mean() for b in bins])
                weight = np.zeros(len(size))
                weight[bins] = 1 / np.maximum(smooth, 1e-3 * smooth.mean())
            spectra.append(new * weight * taper)
        for pair in sums:
            x1, x2 = spectra[0]["ZNE".index(pair[0])], spectra[1]["ZNE".index(pair[1])]
            time = np.fft.irfft(np.conj(x1) * x2, nfft)
            sums[pair] = sums[pair] + np.concatenate([time[nfft - LAGS :], time[: LAGS + 1]])
    count = cut[0].shape[2]
    scale = LENGTH / (LENGTH - np.abs(np.arange(-LAGS, LAGS + 1))) if how["whitening"] == "none" else 1.0
    return {pair: total / count * scale for pair, total in sums.items()}


def test_love_and_rayleigh_waves_come_out_on_their_components(rng):
    """Rayleigh motion along the path, Love motion across it, from stations in any direction of each other."""
    from xcorr.pes.preparing.orient import rotated, stored_pairs

    azimuth = 63.0
    az = np.deg2rad(azimuth)
    rayleigh, love = rng.standard_normal((2, 8 * LENGTH))
    data = []
    for arrival in (0.0, 1.0):
        radial, transverse = delayed(rayleigh, 10 * arrival), delayed(love, 6 * arrival)
        north = np.cos(az) * radial - np.sin(az) * transverse
        east = np.sin(az) * radial + np.cos(az) * transverse
        vertical = np.imag(scipy.signal.hilbert(radial))
        data.append([vertical, north, east])
    every = tuple(a + b for a in "ZNE" for b in "ZNE")
    found, _ = correlate(
        np.array(data, np.float32), LAGS, BAND, length=LENGTH, components=("Z", "N", "E"), pairs=every, whitening="none"
    )
    c = {
        p: rotated({q: found[q][0] for q in stored_pairs(p)}, np.array([azimuth]), p)[0]
        for p in ("RR", "TT", "RT", "RZ")
    }
    lag = np.arange(-LAGS, LAGS + 1) / RATE
    assert lag[c["RR"].argmax()] == 10.0
    assert lag[c["TT"].argmax()] == 6.0
    assert np.abs(c["RT"]).max() < 0.1 * c["RR"].max()
    assert np.abs(c["RZ"]).max() > 0.5 * c["RR"].max()


STATIONS = tuple(
    Station(network, code, Coordinates(40.0 + lat, 5.0 + lon))
    for network, code, lat, lon in (
        ("AA", "N", 0.0, 0.0),
        ("AA", "NE", 0.1, 0.1),
        ("BB", "S", -0.3, 0.0),
        ("BB", "E", 0.0, 1.0),
    )
)


def names_of(chosen):
    return {f"{STATIONS[i].code}-{STATIONS[j].code}" for i, j in zip(*np.nonzero(chosen), strict=True)}


@pytest.mark.parametrize(
    ("wanted", "pairs"),
    [
        ({}, "N-NE N-S N-E NE-S NE-E S-E"),
        ({"autocorrelations": True}, "N-NE N-S N-E NE-S NE-E S-E N-N NE-NE S-S E-E"),
        ({"networks": "within"}, "N-NE S-E"),
        ({"networks": "within", "autocorrelations": True}, "N-NE S-E N-N NE-NE S-S E-E"),
        ({"networks": "between"}, "N-S N-E NE-S NE-E"),
        ({"pairs": ("AA.N-BB.*",)}, "N-S N-E"),
        ({"pairs": ("BB.S-AA.N*", "AA.NE-AA.N")}, "N-NE N-S NE-S"),
        ({"distance_km": (0.0, 40.0)}, "N-NE N-S"),
        ({"distance_km": (30.0, 80.0)}, "N-S NE-S NE-E"),
        ({"azimuth_deg": (170.0, 190.0)}, "N-S"),
        ({"azimuth_deg": (350.0, 10.0)}, "N-S"),
        ({"azimuth_deg": (80.0, 105.0)}, "N-E NE-E"),
        ({"azimuth_deg": (0.0, 360.0)}, "N-NE N-S N-E NE-S NE-E S-E"),
    ],
)
def test_selection_of_pairs(wanted, pairs):
    assert names_of(chosen_pairs(STATIONS, Correlate(**wanted))) == set(pairs.split())


def test_selection_by_distance_needs_coordinates():
    lost = (*STATIONS, Station("AA", "LOST", Coordinates(np.nan, np.nan)))
    with pytest.raises(SettingsError, match=r"correlate.distance_km needs coordinates, which AA.LOST lack"):
        chosen_pairs(lost, Correlate(distance_km=(0, 1)))


def test_selected_pairs_have_the_bits_they_have_among_all(rng):
    data = rng.standard_normal((20, 2 * LENGTH)).astype(np.float32)
    every, _ = correlate(data, LAGS, BAND, length=LENGTH)
    chosen = np.triu(rng.random((20, 20)) < 0.2, 1)
    chosen[5] = chosen[:, 5] = False
    some, _ = correlate(data, LAGS, BAND, length=LENGTH, chosen=chosen)
    i, j = np.triu_indices(20, 1)
    assert some["ZZ"][0].tobytes() == every["ZZ"][0][chosen[i, j]].tobytes()


def test_autocorrelations_keep_their_amplitude_unless_asked(rng):
    data = rng.standard_normal((3, 4 * LENGTH)) * np.array([[1.0], [2.0], [5.0]])
    kept, _ = correlate_all(data, LAGS, {"": BAND}, length=LENGTH, chosen=np.eye(3, dtype=bool))
    white, _ = correlate_all(
        data, LAGS, {"": BAND}, length=LENGTH, chosen=np.eye(3, dtype=bool), whiten_autocorrelations=True
    )
    zero_lag = kept["", "ZZ"][0][0, :, LAGS]
    np.testing.assert_allclose(zero_lag / zero_lag[0], [1, 4, 25], rtol=0.1)
    assert np.ptp(white["", "ZZ"][0][0, :, LAGS]) < 1e-6


def test_two_bands_from_one_pass_are_two_runs(tmp_path):
    write(tmp_path / "sds", "AAA")
    write(tmp_path / "sds", "BBB")
    stations = station_list(tmp_path, "AAA", "BBB")
    for method in ("phase", "running-mean", "none"):
        base = settings(tmp_path / "sds", whiten={"method": method, "band_hz": [0.3, 0.9]})
        both = settings(tmp_path / "sds", whiten={"method": method, "band_hz": [0.3, 0.9]})
        import dataclasses

        from xcorr.settings.tables import FurtherBand

        both = dataclasses.replace(both, bands=(FurtherBand("low", (0.1, 0.35)), FurtherBand("high", (0.5, 0.95))))
        run_campaign(stations, tmp_path / f"{method}-both.xcorr", both)
        run_campaign(stations, tmp_path / f"{method}-main.xcorr", base)
        for name, band in (("low", [0.1, 0.35]), ("high", [0.5, 0.95])):
            alone = settings(tmp_path / "sds", whiten={"method": method, "band_hz": band})
            run_campaign(stations, tmp_path / f"{method}-{name}.xcorr", alone)
            with (
                results.open(tmp_path / f"{method}-both.xcorr") as a,
                results.open(tmp_path / f"{method}-{name}.xcorr") as b,
            ):
                for stack in (None, "linear"):
                    got = a.get("XX.AAA", "XX.BBB", stack=stack, band=name).values
                    assert got.tobytes() == b.get("XX.AAA", "XX.BBB", stack=stack).values.tobytes()
        with results.open(tmp_path / f"{method}-both.xcorr") as a, results.open(tmp_path / f"{method}-main.xcorr") as b:
            assert a.bands == ["", "high", "low"]
            assert a.get("XX.AAA", "XX.BBB").values.tobytes() == b.get("XX.AAA", "XX.BBB").values.tobytes()


def test_locations_in_order_of_preference(tmp_path):
    root = tmp_path / "sds"
    for code in ("AAA", "BBB"):
        for location, seed in (("00", 1), ("10", 2), ("", 3)):
            data = waveform(seed + sum(map(ord, code)))
            one = trace(code, data)
            one.stats.location = location
            path = sds_path(root, code)
            one.write(str(path.with_name(f"XX.{code}.{location}.BHZ.D.2024.061")), format="MSEED")
    for locations, expected in ((["10", "00"], "10"), (["", "10"], ""), (["*"], "")):
        made = settings(root, data={"locations": locations})
        found = survey_list(station_list(tmp_path, "AAA", "BBB"), made)
        first = next(iter(Requests(found, made, found.generations[0].layout, found.chunks))).slots[0].candidates[0]
        assert first.location == expected


def inventory(tmp_path, channels):
    """StationXML with {channel: (azimuth, dip)} for stations AAA and BBB."""
    made = []
    for code, coordinates in (("AAA", (40.0, 5.0)), ("BBB", (40.2, 5.3))):
        parts = [
            Channel(c, "", *coordinates, elevation=0, depth=0, azimuth=azimuth, dip=dip, sample_rate=10)
            for c, (azimuth, dip) in channels.items()
        ]
        made.append(
            InventoryStation(code, *coordinates, elevation=0, channels=parts, creation_date=obspy.UTCDateTime(2000))
        )
    path = tmp_path / "stations.xml"
    Inventory([Network("XX", stations=made)]).write(str(path), format="STATIONXML")
    return path


def directions(channels):
    angles = np.deg2rad(list(channels.values()))
    return np.array([[-np.sin(d), np.cos(d) * np.cos(a), np.cos(d) * np.sin(a)] for a, d in angles])


UVW = {"BHU": (90.0, -35.264), "BHV": (210.0, -35.264), "BHW": (330.0, -35.264)}


@pytest.mark.parametrize(
    ("channels", "components"),
    [
        ({"BHZ": (0.0, -90.0), "BH1": (33.0, 0.0), "BH2": (123.0, 0.0)}, "all"),
        ({"BHZ": (0.0, 90.0), "BH1": (211.0, 0.0), "BH2": (301.0, 0.0)}, "all"),
        ({"BHZ": (0.0, -90.0), "BH1": (33.0, 0.0), "BH2": (123.0, 0.0)}, ["NN"]),
        ({"BHZ": (0.0, -90.0), "BHN": (12.0, 0.0), "BHE": (102.0, 0.0)}, "all"),
        (UVW, "all"),
        (UVW, ["ZZ"]),
    ],
)
def test_channels_of_any_direction_give_z_n_e(tmp_path, channels, components):
    """The same ground motion recorded along Z N E and along other directions has the same correlations."""
    for kind in ("turned", "straight"):
        (tmp_path / kind).mkdir()
    matrix = directions(channels)
    for seed, code in enumerate(("AAA", "BBB")):
        motion = np.array([1000.0 * waveform(10 * seed + k) for k in range(3)])
        for channel, x in zip(channels, matrix @ motion, strict=True):
            write(tmp_path / "turned" / "sds", code, x.astype(np.float64), channel=channel)
        for letter, x in zip("ZNE", motion, strict=True):
            write(tmp_path / "straight" / "sds", code, x, channel=f"BH{letter}")
    stations = station_list(tmp_path, "AAA", "BBB")
    both = []
    for kind in ("turned", "straight"):
        how = {"correlate": {"components": components}, "normalize": {"method": "none"}, "whiten": {"method": "none"}}
        made = settings(tmp_path / kind / "sds", **how)
        if kind == "turned":
            made = settings(tmp_path / kind / "sds", data={"metadata": str(inventory(tmp_path, channels))}, **how)
        finished = run_campaign(stations, tmp_path / f"{kind}.xcorr", made)
        assert finished.exit_code == 0, finished.report["errors"]
        with results.open(tmp_path / f"{kind}.xcorr") as found:
            both.append({p: found.get("XX.AAA", "XX.BBB", p).values for p in found.components})
    for pair, expected in both[1].items():
        scale = max(np.abs(v).max() for v in both[1].values())
        np.testing.assert_allclose(both[0][pair], expected, atol=2e-4 * scale)


def test_files_of_channels_that_only_turn_others_are_known(tmp_path):
    channels = {"BHZ": (0.0, -90.0), "BH1": (33.0, 0.0), "BH2": (123.0, 0.0)}
    for code in ("AAA", "BBB"):
        for channel in channels:
            path = write(tmp_path / "sds", code, waveform(len(code + channel)), channel=channel)
    data = {"metadata": str(inventory(tmp_path, channels))}
    made = settings(tmp_path / "sds", data=data, correlate={"components": ["NN"]}, provenance={"level": "item"})
    stations, folder = station_list(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr"
    run_campaign(stations, folder, made)
    files = {str(p) for p in (tmp_path / "sds").rglob("*.BH[12].*061")}
    rows = [r for r in ask.query(folder, made="XX.AAA-XX.BBB", components="NN") if "file" in r]
    assert {r["file"] for r in rows} == files
    for row in rows:
        assert row["sha256"] == hashlib.sha256(Path(row["file"]).read_bytes()).hexdigest()
    assert ask.query(folder, touched_by=str(path), components="NN")
    assert run_campaign(stations, folder, made, refresh=True).report["shards_kept"] == 2
    os.utime(path)  # BH2, of which there is no slot
    assert run_campaign(stations, folder, made, refresh=True).report["shards_kept"] == 0


def test_channels_1_and_2_without_metadata_fail_with_the_reason(tmp_path):
    for code in ("AAA", "BBB"):
        for channel in ("BHZ", "BH1", "BH2"):
            write(tmp_path / "sds", code, channel=channel)
    made = settings(tmp_path / "sds", correlate={"components": ["ZZ", "NN"]})
    finished = run_campaign(station_list(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr", made)
    assert finished.exit_code == 3
    reasons = {a["slot"]: a["reason"] for a in accounts_of(finished.folder) if a["status"] == "failed"}
    assert set(reasons) == {"XX.AAA.N", "XX.BBB.N"}
    assert "the direction of XX.AAA..BH1 is not known: set data.metadata" in reasons["XX.AAA.N"]


def test_radial_and_transverse_in_results_are_the_rotation_of_the_tensor(tmp_path):
    for k, code in enumerate(("AAA", "BBB", "CCC")):
        for c, letter in enumerate("ZNE"):
            write(tmp_path / "sds", code, waveform(3 * k + c), channel=f"BH{letter}")
    (tmp_path / "list.csv").write_text(
        "network,station,latitude,longitude\nXX,AAA,40,5\nXX,BBB,40.3,5.1\nXX,CCC,40.3,5.1\n"
    )
    every = settings(tmp_path / "sds", correlate={"components": "all"}, whiten={"per": "station"})
    turned = settings(
        tmp_path / "sds", correlate={"components": ["ZZ", "RR", "TT", "RZ", "ZT"]}, whiten={"per": "station"}
    )
    for name, made in (("every", every), ("turned", turned)):
        assert run_campaign(tmp_path / "list.csv", tmp_path / f"{name}.xcorr", made).exit_code == 0
    with results.open(tmp_path / "every.xcorr") as a, results.open(tmp_path / "turned.xcorr") as b:
        az = np.deg2rad(a.get("XX.AAA", "XX.BBB").attrs["azimuth_deg"])
        weight = {"R": {"N": np.cos(az), "E": np.sin(az)}, "T": {"N": -np.sin(az), "E": np.cos(az)}, "Z": {"Z": 1.0}}
        for pair in ("RR", "TT", "RZ", "ZT", "ZZ"):
            for stack in ("linear", None):
                got = b.get("XX.AAA", "XX.BBB", pair, stack)
                expected = sum(
                    p * q * a.get("XX.AAA", "XX.BBB", m + n, stack).values
                    for m, p in weight[pair[0]].items()
                    for n, q in weight[pair[1]].items()
                )
                np.testing.assert_allclose(got.values, expected, atol=1e-5 * np.abs(expected).max())
        swapped = b.get("XX.BBB", "XX.AAA", "ZR").values
        np.testing.assert_array_equal(swapped, -b.get("XX.AAA", "XX.BBB", "RZ").values[::-1])
        assert np.isnan(b.get("XX.BBB", "XX.CCC", "RR").values).all(), "no direction at zero distance"
        assert b.get("XX.BBB", "XX.CCC", "RR").attrs["n_windows"] == 0
        assert np.isfinite(b.get("XX.BBB", "XX.CCC", "ZZ").values).all()


def test_unchunked_equals_chunked_away_from_the_edges_of_chunks(tmp_path):
    """Chunks are conditioned alone: windows away from their edges do not notice."""
    for code in ("AAA", "BBB"):
        write(tmp_path / "sds", code)
    stations = station_list(tmp_path, "AAA", "BBB")
    series = []
    for chunk_s in (7200, 3600):
        how = {"data": {"chunk_s": chunk_s, "start": "2024-03-01T00:00:00"}, "condition": {"edge_s": 40.0}}
        how |= {"stack": {"substack_s": 600}, "normalize": {"method": "none"}, "whiten": {"method": "none"}}
        run_campaign(stations, tmp_path / f"{chunk_s}.xcorr", settings(tmp_path / "sds", **how))
        with results.open(tmp_path / f"{chunk_s}.xcorr") as found:
            series.append(found.get("XX.AAA", "XX.BBB", stack=None).values)
    inner = [1, 2, 3, 4, 7, 8, 9, 10]
    scale = np.abs(series[0][inner]).max()
    np.testing.assert_allclose(series[1][inner], series[0][inner], atol=2e-3 * scale)


def test_correlation_is_obspys_with_the_other_sign(rng):
    from obspy.signal.cross_correlation import correlate as theirs

    sos = scipy.signal.butter(4, (0.1, 1.2), "bandpass", fs=RATE, output="sos")
    data = scipy.signal.sosfilt(sos, rng.standard_normal((2, LENGTH)))
    window = scipy.signal.windows.tukey(LENGTH, 0.2)
    data = data * window
    found, _ = correlate(data, LAGS, (0.01, 1.9), whitening="none", taper=0.0)
    expected = theirs(data[1], data[0], LAGS, demean=False, normalize=None) / (
        LENGTH - np.abs(np.arange(-LAGS, LAGS + 1))
    )
    # 0.01 Hz to 1.9 Hz holds all but 1e-3 of the signals
    np.testing.assert_allclose(found["ZZ"][0][0], expected, atol=2e-3 * np.abs(expected).max())


def test_rotation_is_obspys(rng):
    from obspy.signal.rotate import rotate_ne_rt

    from xcorr.pes.preparing.orient import rotated

    north, east = rng.standard_normal((2, 50))
    for azimuth in (0.0, 33.0, 181.0, 299.0):
        radial, transverse = rotate_ne_rt(north, east, (azimuth + 180) % 360)  # ObsPy asks for the back-azimuth
        one = np.ones(50)
        tensor = {"NZ": (north * one)[None], "EZ": (east * one)[None]}
        for pair, expected in (("RZ", radial), ("TZ", transverse)):
            np.testing.assert_allclose(rotated(tensor, np.array([azimuth]), pair)[0], expected, atol=1e-12)


def test_running_mean_is_obspys_away_from_the_ends(rng):
    from obspy.signal.util import smooth

    from xcorr.pes.transforms.running_mean import running_mean

    x = rng.standard_normal(300)
    got = running_mean(x, np.ones(300), 7)
    expected = (14 * smooth(x, 7) + x) / 15  # ObsPy leaves out the sample in the middle
    np.testing.assert_allclose(got[7:-7], expected[7:-7], atol=1e-12)
