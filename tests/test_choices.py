"""What people choose: sensors, channels, components, codes, times and lists as they write them."""

import bz2
import gzip
import shutil

import numpy as np
import obspy
import pytest
from archives import START, sds_path, settings, station_list, trace, waveform, write
from conftest import accounts_of

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.network.chunks import parse_time
from xcorr.network.station_list import StationListError, read_station_list
from xcorr.pes.reading.catalogue import read_catalogue
from xcorr.pes.reading.metadata import MetadataError, read_metadata
from xcorr.pes.reading.template import Template, TemplateError
from xcorr.settings import SettingsError
from xcorr.settings.toml import build, load


def run(tmp_path, source, codes=("AAA", "BBB"), name="x", listed=None, **sections):
    how = settings("unused", **{**sections, "data": {"source": source, **sections.get("data", {})}})
    stations = station_list(tmp_path, *codes)
    if listed:
        stations.write_text(listed)
    return run_campaign(stations, tmp_path / f"{name}.xcorr", how)


def put(root, code, data, channel="BHZ", location="", rate=10.0):
    """Write a channel of a location."""
    made = trace(code, data, rate, channel)
    made.stats.location = location
    path = sds_path(root, code, channel)
    path = path.with_name(f"XX.{code}.{location}.{channel}.D.2024.061")
    made.write(str(path), format="MSEED")


def alone(tmp_path, one, other, name, channels=("BHZ", "BHZ"), **sections):
    """Return the correlation of two records, each as the only channel of a station of its own."""
    root = tmp_path / f"alone-{name}"
    for code, data, channel in zip(("AAA", "BBB"), (one, other), channels, strict=True):
        write(root, code, data, channel=channel)
    run(tmp_path, f"sds:{root}", name=name, **sections)
    with results.open(tmp_path / f"{name}.xcorr") as found:
        components = channels[0][-1] + channels[1][-1]
        return found.get("XX.AAA", "XX.BBB", components).values


class TestSensors:
    def test_two_locations_are_two_sensors(self, tmp_path):
        shallow, deep, other = waveform(1), waveform(2), waveform(3)
        put(tmp_path / "sds", "AAA", shallow, location="00")
        put(tmp_path / "sds", "AAA", deep, location="10")
        write(tmp_path / "sds", "BBB", other)
        run(tmp_path, f"sds:{tmp_path / 'sds'}", data={"sensors": "location"})
        with results.open(tmp_path / "x.xcorr") as found:
            assert found.stations["id"].tolist() == ["XX.AAA:00", "XX.AAA:10", "XX.BBB"]
            for sensor, data in (("XX.AAA:00", shallow), ("XX.AAA:10", deep)):
                expected = alone(tmp_path, data, other, sensor[-2:])
                np.testing.assert_array_equal(found.get(sensor, "XX.BBB").values, expected)
            expected = alone(tmp_path, shallow, deep, "both")
            np.testing.assert_array_equal(found.get("XX.AAA:00", "XX.AAA:10").values, expected)

    def test_lines_with_locations_choose_sensors(self, tmp_path):
        for location in ("00", "10", "20"):
            put(tmp_path / "sds", "AAA", waveform(int(location)), location=location)
        write(tmp_path / "sds", "BBB")
        listed = "XX.AAA.00.BH?\nXX.AAA.20.BH?\nXX BBB\n"
        run(tmp_path, f"sds:{tmp_path / 'sds'}", listed=listed, data={"sensors": "location"})
        with results.open(tmp_path / "x.xcorr") as found:
            assert found.stations["id"].tolist() == ["XX.AAA:00", "XX.AAA:20", "XX.BBB"]

    def test_coordinates_and_pairs_are_those_of_the_station(self, tmp_path):
        for location in ("00", "10"):
            put(tmp_path / "sds", "AAA", waveform(int(location)), location=location)
        write(tmp_path / "sds", "BBB")
        listed = "network,station,latitude,longitude\nXX,AAA,46,8\nXX,BBB,46.5,8\n"
        run(
            tmp_path,
            f"sds:{tmp_path / 'sds'}",
            listed=listed,
            data={"sensors": "location"},
            correlate={"pairs": ["XX.AAA - XX.BBB"]},  # with blanks, as people write it
        )
        with results.open(tmp_path / "x.xcorr") as found:
            assert found.pairs[["station_1", "station_2"]].values.tolist() == [
                ["XX.AAA:00", "XX.BBB"],
                ["XX.AAA:10", "XX.BBB"],
            ]
            assert found.pairs["distance_m"].round(-2).tolist() == [55600.0, 55600.0]

    def test_a_later_day_goes_on_with_the_same_sensors(self, tmp_path):
        for location in ("00", "10"):
            put(tmp_path / "sds", "AAA", waveform(int(location)), location=location)
        write(tmp_path / "sds", "BBB")
        for end in ("2024-03-01T01:00:00", "2024-03-01T02:00:00"):
            finished = run(tmp_path, f"sds:{tmp_path / 'sds'}", data={"sensors": "location", "end": end})
        assert finished.report["shards_kept"] == 1
        with results.open(tmp_path / "x.xcorr") as found:
            assert len(found.stations) == 3
            assert len(found.pieces) == 2


class TestMostComplete:
    @pytest.mark.parametrize(("prefer", "used"), [("order", "00"), ("complete", "10")])
    def test_the_sensor_with_most_data(self, tmp_path, prefer, used):
        data = waveform(1).astype(float)
        gappy = trace("AAA", waveform(2))
        gappy.stats.location = "00"
        path = sds_path(tmp_path / "sds", "AAA").with_name("XX.AAA.00.BHZ.D.2024.061")
        obspy.Stream([gappy.slice(START, START + 900), gappy.slice(START + 1800)]).write(str(path), format="MSEED")
        put(tmp_path / "sds", "AAA", data, location="10")
        write(tmp_path / "sds", "BBB")
        finished = run(tmp_path, f"sds:{tmp_path / 'sds'}", data={"prefer": prefer})
        ids = {a["chunk"]: a["seed_id"] for a in accounts_of(finished.folder) if "AAA" in a["slot"]}
        assert ids == {0: f"XX.AAA.{used}.BHZ", 1: "XX.AAA.00.BHZ"}, "the second hour is whole in both"

    def test_components_come_from_one_sensor(self, tmp_path):
        for location, holes in (("00", "Z"), ("10", "NE")):
            for letter in "ZNE":
                seconds = 3000 if letter in holes else 3600
                put(tmp_path / "sds", "AAA", waveform(ord(letter), seconds), f"BH{letter}", location)
        for letter in "ZNE":
            write(tmp_path / "sds", "BBB", channel=f"BH{letter}")
        finished = run(
            tmp_path,
            f"sds:{tmp_path / 'sds'}",
            data={"prefer": "complete", "end": "2024-03-01T01:00:00"},
            correlate={"components": ["all"]},
        )
        used = {a["seed_id"].split(".")[2] for a in accounts_of(finished.folder) if "AAA" in a["slot"]}
        assert used == {"00"}, "00 lacks 600 s in all, 10 lacks 1200 s"


class TestComponents:
    def test_autocorrelations_have_component_pairs_of_their_own(self, tmp_path):
        letters = "ZNE"
        for code in ("AAA", "BBB"):
            for k, letter in enumerate(letters):
                write(tmp_path / "sds", code, waveform(sum(map(ord, code)) + k), channel=f"BH{letter}")
        source = f"sds:{tmp_path / 'sds'}"
        own = ["ZZ", "NN", "ZN"]
        run(tmp_path, source, correlate={"autocorrelations": True, "autocorrelation_components": own})
        every = {"autocorrelations": True, "components": ["ZZ", "NN", "ZN"]}
        run(tmp_path, source, name="every", correlate=every)
        with results.open(tmp_path / "x.xcorr") as found, results.open(tmp_path / "every.xcorr") as full:
            assert found.components == ["NN", "ZN", "ZZ"]
            for first, second in (("AAA", "AAA"), ("BBB", "BBB"), ("AAA", "BBB")):
                for pair in own:
                    got = found.get(f"XX.{first}", f"XX.{second}", pair)
                    if first == second or pair == "ZZ":
                        expected = full.get(f"XX.{first}", f"XX.{second}", pair)
                        np.testing.assert_array_equal(got.values, expected.values)
                        assert got.attrs["n_windows"] == expected.attrs["n_windows"] > 0
                    else:
                        assert np.isnan(got.values).all()
                        assert got.attrs["n_windows"] == 0

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"autocorrelation_components": ["ZZ"]}, "needs correlate.autocorrelations = true"),
            ({"autocorrelation_components": ["RR"], "autocorrelations": True}, "different pairs of Z, N, E, H such"),
            ({"autocorrelation_components": [], "autocorrelations": True}, "different pairs"),
        ],
    )
    def test_what_cannot_be(self, given, message):
        with pytest.raises(SettingsError, match=message):
            build({"correlate": given})

    def test_one_station_alone(self, tmp_path):
        write(tmp_path / "sds", "AAA")
        run(tmp_path, f"sds:{tmp_path / 'sds'}", ["AAA"], correlate={"autocorrelations": True})
        with results.open(tmp_path / "x.xcorr") as found:
            values = found.get("XX.AAA", "XX.AAA").values
            assert len(found.pairs) == 1
            np.testing.assert_allclose(values, values[::-1], atol=1e-6)
            assert values.argmax() == len(values) // 2

    def test_hydrophones(self, tmp_path):
        vertical, pressure, other = waveform(1), waveform(2), waveform(3)
        write(tmp_path / "sds", "AAA", vertical)
        write(tmp_path / "sds", "AAA", pressure, channel="BDH")
        write(tmp_path / "sds", "BBB", other)
        data = {"channels": ["BH?", "BDH"]}
        run(tmp_path, f"sds:{tmp_path / 'sds'}", data=data, correlate={"components": ["ZZ", "HZ"]})
        expected = alone(tmp_path, pressure, other, "h", ("BDH", "BHZ"), data=data, correlate={"components": ["HZ"]})
        with results.open(tmp_path / "x.xcorr") as found:
            got = found.get("XX.AAA", "XX.BBB", "HZ").values
            np.testing.assert_array_equal(got, expected)
            # pressure is treated as any trace is: as if it were called Z
            np.testing.assert_array_equal(got, alone(tmp_path, pressure, other, "z"))
            assert found.get("XX.AAA", "XX.BBB").attrs["n_windows"] > 0

    @pytest.mark.filterwarnings("ignore:ObsPy can not map unit 'PA'")  # of from_paz
    def test_the_response_of_a_hydrophone_is_removed_to_pascal(self, tmp_path):
        from obspy.core import inventory as inv

        def response(units, gain):
            return inv.Response.from_paz([], [], gain, 0.5, units, "V", normalization_frequency=0.5)

        channels = [
            inv.Channel(code, "", 46.0, 8.0, 0.0, 0.0, 0.0, -90.0, sample_rate=10.0, response=response(units, gain))
            for code, units, gain in (("BHZ", "M/S", 1e9), ("BDH", "PA", 5e4))
        ]
        stations = [inv.Station(code, 46.0, 8.0, 0.0, channels=channels) for code in ("AAA", "BBB")]
        inventory = inv.Inventory([inv.Network("XX", stations)])
        inventory.write(str(tmp_path / "x.xml"), format="STATIONXML")
        for code in ("AAA", "BBB"):
            write(tmp_path / "sds", code, channel="BDH")
            write(tmp_path / "sds", code)
        plain = {
            "correlate": {"components": ["HH", "ZH", "ZZ"]},
            "normalize": {"method": "none"},
            "whiten": {"method": "none"},
        }
        data = {"channels": ["BH?", "BDH"], "metadata": str(tmp_path / "x.xml")}
        run(tmp_path, f"sds:{tmp_path / 'sds'}", name="a", data=data, condition={"response": "velocity"}, **plain)
        run(tmp_path, f"sds:{tmp_path / 'sds'}", name="b", data=data, **plain)
        with results.open(tmp_path / "a.xcorr") as a, results.open(tmp_path / "b.xcorr") as b:
            for pair, unit in (("HH", "Pa^2"), ("ZH", "(m/s) Pa"), ("ZZ", "(m/s)^2")):
                got, counts = (r.get("XX.AAA", "XX.BBB", pair) for r in (a, b))
                gain = (5e4 if pair[0] == "H" else 1e9) * (5e4 if pair[1] == "H" else 1e9)
                np.testing.assert_allclose(got.values * gain, counts.values, atol=0.01 * np.abs(counts.values).max())
                assert got.attrs["units"] == unit
                assert counts.attrs["units"] == "counts^2"

    def test_hydrophones_share_no_weights(self):
        with pytest.raises(SettingsError, match="normalize.per = 'station'.*hydrophones"):
            build({"correlate": {"components": ["ZH"]}, "normalize": {"per": "station"}})

    @pytest.mark.parametrize(
        ("pair", "unit"), [("ZZ", "(m/s)^2"), ("ZH", "(m/s) Pa"), ("HZ", "(m/s) Pa"), ("HH", "Pa^2")]
    )
    def test_units_of_pressure(self, pair, unit):
        plain = {
            "condition": {"response": "velocity"},
            "data": {"metadata": "x.xml"},
            "normalize": {"method": "none"},
            "whiten": {"method": "none"},
            "correlate": {"components": ["ZZ", "ZH", "HZ", "HH"]},
        }
        assert build(plain).units_of(pair) == unit


class TestCodesFromNames:
    def files(self, tmp_path, names, header=("", "", "", "")):
        for name, seed in names.items():
            made = trace("", waveform(seed))
            made.stats.network, made.stats.station, made.stats.location, made.stats.channel = header
            path = tmp_path / "f" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            made.write(str(path), format="SAC")

    def test_codes_by_template(self, tmp_path):
        self.files(tmp_path, {"XX/AAA/2024.061.BHZ.sac": 1, "XX/BBB/2024.061.BHZ.sac": 2, "notes/readme.sac": 3})
        run(tmp_path, f"files:{tmp_path}/f/{{net}}/{{sta}}/{{year}}.{{julday}}.{{cha}}.sac")
        expected = alone(tmp_path, waveform(1), waveform(2), "sds")
        with results.open(tmp_path / "x.xcorr") as found:
            assert found.stations["id"].tolist() == ["XX.AAA", "XX.BBB"]
            np.testing.assert_array_equal(found.get("XX.AAA", "XX.BBB").values, expected)

    def test_blank_codes_of_miniseed(self, tmp_path):
        (tmp_path / "f").mkdir()
        for code, seed in (("AAA", 1), ("BBB", 2)):
            made = trace("", waveform(seed), channel="")
            made.write(str(tmp_path / "f" / f"XX_{code}_BHZ.mseed"), format="MSEED")
        run(tmp_path, f"files:{tmp_path}/f/{{net}}_{{sta}}_{{cha}}.mseed")
        with results.open(tmp_path / "x.xcorr") as found:
            assert found.get("XX.AAA", "XX.BBB").attrs["n_windows"] == 12

    def test_what_a_header_has_stays(self, tmp_path):
        self.files(tmp_path, {"AAA_1.sac": 1, "BBB_1.sac": 2}, ("XX", "", "", "BHZ"))
        run(tmp_path, f"files:{tmp_path}/f/{{station}}_*.sac")
        with results.open(tmp_path / "x.xcorr") as found:
            assert found.stations["id"].tolist() == ["XX.AAA", "XX.BBB"]

    @pytest.mark.parametrize(("trust", "code"), [("name", "AAA"), ("header", "CCC")])
    def test_which_counts_where_they_disagree(self, tmp_path, trust, code):
        self.files(tmp_path, {"AAA.sac": 1}, ("XX", "CCC", "", "BHZ"))
        self.files(tmp_path, {"BBB.sac": 2}, ("XX", "", "", "BHZ"))
        source = f"files:{tmp_path}/f/{{station}}.sac"
        finished = run(tmp_path, source, ("AAA", "BBB", "CCC"), data={"files.trust": trust})
        with results.open(finished.folder) as found:
            assert found.stations["id"].tolist() == sorted(["XX.BBB", f"XX.{code}"])

    def test_a_disagreement_is_named(self, tmp_path):
        self.files(tmp_path, {"AAA.sac": 1}, ("XX", "CCC", "", "BHZ"))
        self.files(tmp_path, {"BBB.sac": 2, "DDD.sac": 3}, ("XX", "", "", "BHZ"))
        finished = run(tmp_path, f"files:{tmp_path}/f/{{station}}.sac", ("AAA", "BBB", "CCC", "DDD"))
        (text,) = finished.report["unreadable"]
        assert "the station 'CCC', its name 'AAA'; set data.files.trust" in text
        assert finished.exit_code == 3

    def test_templates(self):
        t = Template("a/{net}.{sta}.{loc}.{cha}/{net}.{sta}.*")
        assert t.codes("a/XX.A_B..BHZ/XX.A_B.sac") == {
            "network": "XX",
            "station": "A_B",
            "location": "",
            "channel": "BHZ",
        }
        assert t.codes("a/XX.A..BHZ/XX.B.sac") is None
        assert Template("x[1]/{sta}").codes("x[1]/A") == {"station": "A"}
        with pytest.raises(TemplateError, match="{statoin} is not known; there are {network}"):
            Template("{statoin}.sac")


class TestAsPeopleWriteThem:
    def rows(self, tmp_path, text, encoding="utf-8"):
        path = tmp_path / "list.csv"
        path.write_bytes(text.encode(encoding))
        return read_station_list(path)

    @pytest.mark.parametrize(
        "header",
        [
            "network,station,latitude,longitude,elevation_m",
            "net,sta,lat,lon,elev",
            "Network,Station,Latitude,Longitude,Elevation (m)",
            "Network Code,Station Code,LAT,LONG,altitude",
            "NET,STN,Latitude [deg],Longitude [deg],z",
        ],
    )
    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    def test_headers(self, tmp_path, header, separator):
        text = f"{header}\nXX,AAA,46.5,8.25,510\n".replace(",", separator)
        (row,) = self.rows(tmp_path, text)
        assert (row.network, row.station) == ("XX", "AAA")
        assert (row.place.at.latitude, row.place.at.longitude, row.place.at.elevation_m) == (46.5, 8.25, 510.0)

    def test_columns_that_mean_nothing_here(self, tmp_path):
        (row,) = self.rows(tmp_path, 'id,Station,Site name,lat,lon\n1,XX.AAA,"Here, there",46.5,8.25\n')
        assert (row.network, row.station, row.place.at.longitude) == ("XX", "AAA", 8.25)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("station,lat,lon\nAAA,1,2\n", "no column network; add one, or write stations as NET.STA"),
            ("net,sta,lat,lon,Elevation (km)\nXX,A,1,2,3\n", "write elevation_m in metres"),
            ("net,sta,Latitude (rad),lon\nXX,A,1,2\n", "write latitude in degrees"),
            ("net,sta,lat,latitude\nXX,A,1,2\n", "two columns of the header are the latitude"),
            ("net,sta,lat,longtiude\nXX,A,1,2\n", "'longtiude' is not known.*did you mean 'longitude'"),
        ],
    )
    def test_what_is_refused(self, tmp_path, text, message):
        with pytest.raises(StationListError, match=message):
            self.rows(tmp_path, text)

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
    def test_byte_order_marks(self, tmp_path, encoding):
        assert len(self.rows(tmp_path, "net,sta\nXX,AAA\n", encoding)) == 1
        (tmp_path / "x.toml").write_bytes("[condition]\nrate_hz = 2\nband_hz = [0.1, 0.5]\n".encode(encoding))
        assert load(tmp_path / "x.toml")["condition"]["rate_hz"] == 2
        (tmp_path / "events.csv").write_bytes("time,mag\n2024-03-01,6\n".encode(encoding))
        assert read_catalogue(str(tmp_path / "events.csv"), 5.0) == [START.ns]

    def test_underscores_in_codes(self, tmp_path):
        for code in ("A_1", "B_2"):
            write(tmp_path / "sds", code)
        run(tmp_path, f"sds:{tmp_path / 'sds'}", ("A_1", "B_2"))
        with results.open(tmp_path / "x.xcorr") as found:
            assert found.get("XX.A_1", "XX.B_2").attrs["n_windows"] > 0

    @pytest.mark.parametrize(
        "text",
        ["2024-061", "2024,061", "2024.061", "2024061", "2024-061T00:00:00Z", "2024,061,00:00:00", "2024-03-01"],
    )
    def test_days_of_the_year(self, tmp_path, text):
        assert parse_time(text, "data.start") == START.ns
        (tmp_path / "events.csv").write_text(f'time,mag\n"{text}",6\n')
        assert read_catalogue(str(tmp_path / "events.csv"), 5.0) == [START.ns]
        rows = self.rows(tmp_path, f"net;sta;lat;lon;start\nXX;A;1;2;{text}\n")
        assert rows[0].place.start_ns == START.ns

    @pytest.mark.parametrize("text", ["2023-366", "2024-000", "2024-61"])
    def test_days_that_there_are_not(self, text):
        with pytest.raises(SettingsError, match="data.start.*must be a time such as"):
            parse_time(text, "data.start")

    def test_packed_files_in_sds(self, tmp_path):
        plain = alone(tmp_path, waveform(1), waveform(2), "plain")
        for code, seed, module, end in (("AAA", 1, gzip, ".gz"), ("BBB", 2, bz2, ".bz2")):
            path = write(tmp_path / "sds", code, waveform(seed))
            path.with_name(path.name + end).write_bytes(module.compress(path.read_bytes()))
            path.unlink()
        run(tmp_path, f"sds:{tmp_path / 'sds'}")
        with results.open(tmp_path / "x.xcorr") as found:
            np.testing.assert_array_equal(found.get("XX.AAA", "XX.BBB").values, plain)

    def test_a_folder_of_metadata(self, tmp_path, demo, caplog):
        from conftest import ROOT

        (tmp_path / "meta" / "deep").mkdir(parents=True)
        shutil.copy(ROOT / "data" / "demo" / "stations.xml", tmp_path / "meta" / "deep")
        (tmp_path / "meta" / "README").write_text("What these are.\n")
        expected = read_metadata(str(ROOT / "data" / "demo" / "stations.xml")).places()
        assert read_metadata(str(tmp_path / "meta")).places() == expected
        assert "1 file(s) hold no station metadata" in caplog.text
        (tmp_path / "meta" / "other.xml").write_text("<FDSNStationXML")
        with pytest.raises(MetadataError, match=r"other\.xml"):
            read_metadata(str(tmp_path / "meta"))
        shutil.rmtree(tmp_path / "meta" / "deep")
        (tmp_path / "meta" / "other.xml").unlink()
        (tmp_path / "meta" / "NOTES").write_text("nothing")
        with pytest.raises(MetadataError, match="none of 2 files"):
            read_metadata(str(tmp_path / "meta"))
