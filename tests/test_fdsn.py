"""Waveforms from a real FDSN web service on loopback (portable-fdsnws-dataselect)."""

import contextlib
import http.server
import io
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import obspy
import pytest
from archives import START, settings, station_list, trace, waveform, write
from conftest import accounts_of
from obspy.core.inventory import Channel, Inventory, Network, Response, Site, Station

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.pes.reading.fdsn import FdsnOptions, Service, ServiceError
from xcorr.pes.reading.source import SourceError
from xcorr.store.lock import CampaignLock, Locked

CODES = ("AAA", "BBB", "CCC", "DDD")
COLUMNS = """network TEXT, station TEXT, location TEXT, channel TEXT, quality TEXT, version INTEGER, starttime TEXT,
    endtime TEXT, samplerate REAL, filename TEXT, byteoffset INTEGER, bytes INTEGER, hash TEXT, timeindex TEXT,
    timespans TEXT, timerates TEXT, format TEXT, filemodtime TEXT, updated TEXT, scanned TEXT"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def index(folder, archive):
    """Index an archive as mseedindex would: one row per contiguous piece of a channel."""
    with sqlite3.connect(folder / "index.sqlite") as database:
        database.execute(f"CREATE TABLE tsindex ({COLUMNS})")
        for path in sorted(archive.rglob("*.061")):
            for piece in obspy.read(str(path), headonly=True):
                s = piece.stats
                row = [s.network, s.station, s.location, s.channel, "D", 1, str(s.starttime)[:-1], str(s.endtime)[:-1]]
                row += [s.sampling_rate, str(path), 0, path.stat().st_size, "", None, None, None, "2", "", "", ""]
                database.execute(f"INSERT INTO tsindex VALUES ({','.join('?' * 20)})", row)

        database.execute(
            "CREATE TABLE tsindex_summary AS SELECT network, station, location, channel, min(starttime) AS earliest, "
            "max(endtime) AS latest, 'now' AS updt FROM tsindex GROUP BY 1, 2, 3, 4"
        )


class Server:
    def __init__(self, folder, archive):
        self.folder, self.port = folder, free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        index(folder, archive)
        (folder / "server.ini").write_text(
            f"[index_db]\npath = {folder}/index.sqlite\ntable = tsindex\nsummary_table = tsindex_summary\n"
            f"[server]\ninterface = 127.0.0.1\nport = {self.port}\n"
            f"[logging]\npath = {folder}/server.log\nlevel = DEBUG\n"
        )
        program = Path(sys.executable).with_name("portable-fdsnws-dataselect")
        self.process = subprocess.Popen(
            [program, folder / "server.ini"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.address}/fdsnws/dataselect/1/version", timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("the FDSN server did not start")

    def requests(self):
        return (self.folder / "server.log").read_text().count("Starting data return")

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def archive(tmp_path):
    for code in CODES[:3]:
        write(tmp_path / "sds", code)
    whole = waveform(5)
    pieces = obspy.Stream([trace("DDD", whole[:30_000]), trace("DDD", whole[42_000:], start=START + 4200)])
    path = write(tmp_path / "sds", "DDD")
    pieces.write(str(path), format="MSEED")
    return tmp_path / "sds"


@pytest.fixture
def server(tmp_path, archive):
    folder = tmp_path / "server"
    folder.mkdir()
    server = Server(folder, archive)
    yield server
    server.stop()


def over_the_web(server, **sections):
    data = {"source": f"fdsn:{server.address}", **sections.pop("data", {})}
    return settings("x", data=data, **sections)


def test_the_web_gives_what_the_archive_gives(server, archive, tmp_path):
    stations = station_list(tmp_path, *CODES, "GONE")
    here = run_campaign(stations, tmp_path / "here.xcorr", settings(archive))
    web = run_campaign(stations, tmp_path / "web.xcorr", over_the_web(server))
    assert (here.exit_code, web.exit_code) == (0, 0)
    accounts = {(a["slot"], a["chunk"]): a for a in accounts_of(web.folder)}
    assert accounts["XX.GONE.Z", 0]["status"] == "absent"
    assert accounts["XX.DDD.Z", 0]["gap_s"] == pytest.approx(600, abs=1)
    assert accounts["XX.DDD.Z", 1]["seed_id"] == "XX.DDD..BHZ"
    with results.open(tmp_path / "here.xcorr") as a, results.open(tmp_path / "web.xcorr") as b:
        for i, first in enumerate(CODES):
            for second in CODES[i + 1 :]:
                for stack in ("linear", None):
                    x, y = (
                        a.get(first="XX." + first, second="XX." + second, stack=stack),
                        b.get(first="XX." + first, second="XX." + second, stack=stack),
                    )
                    assert x.values.tobytes() == y.values.tobytes()


def test_components_are_asked_for_together_and_kinds_in_order(server, tmp_path):
    made = over_the_web(server, data={"channels": ["HH?", "BH?"]}, correlate={"components": ["ZZ", "NN"]})
    finished = run_campaign(station_list(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr", made)
    # 2 stations x 2 chunks x (HH: nothing; BH: something); N is absent, which costs no further request
    assert server.requests() == 8
    assert {a["slot"]: a["status"] for a in accounts_of(finished.folder)} == {
        "XX.AAA.Z": "used", "XX.BBB.Z": "used", "XX.AAA.N": "absent", "XX.BBB.N": "absent"
    }  # fmt: skip


def test_a_service_that_dies_costs_what_it_did_not_give(server, tmp_path):
    made = over_the_web(server, data={"fdsn.retries": 1, "fdsn.requests_per_s": 3.0})

    def kill_after_three():
        while server.requests() < 3:
            time.sleep(0.01)
        server.stop()

    thread = threading.Thread(target=kill_after_three)
    thread.start()
    finished = run_campaign(station_list(tmp_path, *CODES), tmp_path / "x.xcorr", made)
    thread.join()
    assert finished.exit_code == 3
    status = [a["status"] for a in accounts_of(finished.folder)]
    assert status.count("used") >= 2
    assert status.count("failed") >= 4
    assert any("failed 2 requests" in e for e in finished.report["errors"])


def test_requests_keep_the_rate(server):
    service = Service(server.address, FdsnOptions(requests_per_s=5.0))
    start = time.monotonic()
    for _ in range(4):
        service.waveforms([("XX", "AAA", "", "BHZ")], START.ns, START.ns + 10**10)
    assert time.monotonic() - start >= 0.6


def test_a_service_that_comes_back_is_asked_again(server):
    service = Service(server.address, FdsnOptions(retries=4))
    server.stop()
    again = []

    def restart():
        time.sleep(0.8)
        server.process = subprocess.Popen(
            [Path(sys.executable).with_name("portable-fdsnws-dataselect"), server.folder / "server.ini"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        again.append(True)

    thread = threading.Thread(target=restart)
    thread.start()
    (found,), wrong, _ = service.waveforms([("XX", "AAA", "", "BHZ")], START.ns, START.ns + 60 * 10**9)
    assert not wrong
    thread.join()
    assert again
    assert np.array_equal(found.data[:100], waveform(sum(map(ord, "AAA")))[:100])


def test_what_is_no_service_or_has_nothing(server, tmp_path, invoke):
    with pytest.raises(SourceError, match="no FDSN dataselect service answers there"):
        Service(f"http://127.0.0.1:{free_port()}")
    assert Service(server.address).waveforms([("ZZ", "NONE", "*", "BHZ")], START.ns, START.ns + 10**9) == ([], [], [])
    gone = Service(server.address, FdsnOptions(retries=0))
    server.stop()
    with pytest.raises(ServiceError, match="failed 1 requests"):
        gone.waveforms([("XX", "AAA", "", "BHZ")], START.ns, START.ns + 10**9)
    stations = station_list(tmp_path, "AAA", "BBB")
    result = invoke("run", stations, "--source", f"fdsn:{server.address}")
    assert result.exit_code == 2
    assert "needs data.start and data.end" in result.output
    (tmp_path / "stations.txt").write_text("XX A*\n")
    result = invoke(
        "run", stations, "--source", f"fdsn:{server.address}", "--start", "2024-03-01", "--end", "2024-03-02"
    )
    assert result.exit_code == 2
    assert "a web service needs names without" in result.output


class Proxy(http.server.BaseHTTPRequestHandler):
    """Passes requests on to a real server, and does to some of them what services do."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.pass_on(None)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "/station/1/query" in self.path:
            self.server.about.append(body.decode())
            self.answer(*self.server.stations(body.decode()))
            return
        self.server.bodies.append(body.decode())
        if not self.server.harm(self, body.decode()):
            self.pass_on(body)

    def pass_on(self, body):
        try:
            with urllib.request.urlopen(self.server.address + self.path, data=body, timeout=20) as answer:
                self.answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            self.answer(error.code, error.read())

    def answer(self, status, content, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def proxy(server):
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    made.daemon_threads = True
    made.address, made.bodies, made.harm = server.address, [], lambda *_: False
    made.about, made.stations = [], lambda _: (404, b"no station service here")
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def through(proxy, **sections):
    data = {"source": f"fdsn:http://127.0.0.1:{proxy.server_address[1]}", **sections.pop("data", {})}
    return settings("x", data=data, **sections)


def seconds_asked(body):
    start, end = (obspy.UTCDateTime(t) for t in body.split()[4:6])
    return end - start


def test_a_request_that_is_too_large_is_divided(proxy, archive, tmp_path):
    def too_large(handler, body):
        if seconds_asked(body) > 1000:
            handler.answer(413, b"too much")
            return True
        return False

    proxy.harm = too_large
    stations = station_list(tmp_path, "AAA", "BBB")
    made = through(proxy, data={"fdsn.requests_per_s": 1000.0})
    here = run_campaign(stations, tmp_path / "here.xcorr", settings(archive))
    web = run_campaign(stations, tmp_path / "web.xcorr", made)
    assert (web.exit_code, web.report["errors"]) == (0, [])
    with results.open(here.folder) as a, results.open(web.folder) as b:
        assert (a.get("XX.AAA", "XX.BBB").to_numpy() == b.get("XX.AAA", "XX.BBB").to_numpy()).all()
    proxy.harm = lambda handler, _: handler.answer(413, b"never enough") or True
    (service,) = [Service(f"http://127.0.0.1:{proxy.server_address[1]}", FdsnOptions(requests_per_s=1e4))]
    with pytest.raises(ServiceError, match="refuses: HTTP 413: never enough"):
        service.waveforms([("XX", "AAA", "", "BHZ")], START.ns, START.ns + 3600 * 10**9)
    assert len(proxy.bodies) < 200


@pytest.mark.parametrize(("status", "asked"), [(400, 1), (401, 1), (403, 1), (500, 3), (503, 3)])
def test_refusals_are_not_repeated_and_failures_are(proxy, tmp_path, status, asked):
    proxy.harm = lambda handler, body: " AAA " in body and (handler.answer(status, b"no <b>way</b>\nmore") or True)
    made = through(proxy, data={"fdsn.retries": 2, "fdsn.requests_per_s": 1000.0, "end": "2024-03-01T01:00:00"})
    finished = run_campaign(station_list(tmp_path, "AAA", "BBB", "CCC"), tmp_path / "x.xcorr", made)
    assert finished.exit_code == 3
    assert len([b for b in proxy.bodies if " AAA " in b]) == asked
    assert any(f"HTTP {status}: no <b>way</b>" in e and "more" not in e for e in finished.report["errors"])
    assert finished.report["pairs_with_data"] == 1


def test_a_service_says_when_to_come_again(proxy):
    times = []

    def busy(handler, _):
        times.append(time.monotonic())
        return len(times) == 1 and (handler.answer(429, b"later", Retry_After="2") or True)

    proxy.harm = busy
    service = Service(f"http://127.0.0.1:{proxy.server_address[1]}")
    assert service.waveforms([("XX", "AAA", "", "BHZ")], START.ns, START.ns + 10**10).waveforms
    assert times[1] - times[0] >= 2


@pytest.mark.parametrize("how", ["a byte a second", "nothing at all", "less than it said"])
def test_a_service_that_sends_too_slowly_costs_itself(proxy, tmp_path, how):
    def slow(handler, body):
        if " AAA " not in body:
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(0 if how == "less than it said" else 30):
                if how == "a byte a second":
                    handler.wfile.write(b"x")
                    handler.wfile.flush()
                time.sleep(0.25)
        return True

    proxy.harm = slow
    data = {"fdsn.retries": 1, "fdsn.timeout_s": 1.0, "fdsn.requests_per_s": 1000.0, "end": "2024-03-01T01:00:00"}
    begin = time.monotonic()
    finished = run_campaign(
        station_list(tmp_path, "AAA", "BBB", "CCC"), tmp_path / "x.xcorr", through(proxy, data=data)
    )
    assert time.monotonic() - begin < 20
    (error,) = [e for e in finished.report["errors"] if "XX.AAA.Z" in e]
    assert "failed 2 requests" in error
    assert finished.report["pairs_with_data"] == 1


@pytest.mark.parametrize(
    ("components", "letters"), [(["ZZ"], "Z3UVW"), (["NN", "EE"], "NE12UVW"), (["ZZ", "NE"], "Z3UVWNE12")]
)
def test_only_the_components_wanted_are_asked_for(proxy, tmp_path, components, letters):
    made = through(proxy, correlate={"components": components}, data={"channels": ["BH?"]})
    run_campaign(station_list(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr", made)
    asked = {line.split()[3] for body in proxy.bodies for line in body.splitlines()}
    assert asked == {f"BH{letter}" for letter in letters}


def about_stations(gain=1e3, latitude=40.0):
    """A station service, as StationXML of what a request names, and only with responses if it asks for them."""

    def answer(body):
        level, *lines = body.splitlines()
        chosen = Inventory(source="x")
        for code, north in (("AAA", latitude), ("BBB", 41.0)):
            response = Response.from_paz([0j], [-1 + 1j, -1 - 1j], gain, input_units="M/S", output_units="COUNTS")
            where = {"latitude": north, "longitude": -100.0, "elevation": 0.0, "depth": 0.0, "location_code": ""}
            made = Channel("BHZ", azimuth=0.0, dip=-90.0, sample_rate=10.0, **where)
            made.response = response if level == "level=response" else None
            if any(line.split()[1:4] == [code, "--", "BHZ"] for line in lines):
                chosen += Inventory(
                    [Network("XX", [Station(code, north, -100.0, 0.0, channels=[made], site=Site("x"))])]
                )
        out = io.BytesIO()
        chosen.write(out, format="STATIONXML")
        return 200, out.getvalue()

    return answer


@pytest.mark.parametrize("response", ["none", "velocity"])
def test_coordinates_and_responses_come_from_the_service(proxy, tmp_path, invoke, response):
    proxy.stations = about_stations()
    stations = station_list(tmp_path, "AAA", "BBB")
    condition = {"rate_hz": 4.0, "band_hz": [0.1, 1.0], "response": response}
    made = through(proxy, condition=condition)
    finished = run_campaign(stations, tmp_path / "x.xcorr", made)
    assert finished.exit_code == 0, finished.report
    assert finished.report["warnings"] == []
    (asked,) = proxy.about
    assert asked.startswith("level=channel" if response == "none" else "level=response")
    with results.open(finished.folder) as found:
        assert found.pairs["distance_m"][0] == pytest.approx(111_044, abs=10)
        before = found.get("XX.AAA", "XX.BBB").to_numpy()
    assert run_campaign(stations, tmp_path / "x.xcorr", made).exit_code == 0
    assert len(proxy.about) == 1  # the campaign has its own copy
    assert invoke("verify", finished.folder).exit_code == 0
    proxy.stations = about_stations(gain=2e3, latitude=42.0)
    taken = run_campaign(stations, tmp_path / "x.xcorr", made, refresh_metadata=True)
    with results.open(finished.folder) as found:
        assert found.pairs["azimuth_deg"][0] == pytest.approx(180)
        assert (found.get("XX.AAA", "XX.BBB").to_numpy() == before).all()
    assert taken.exit_code == (0 if response == "none" else 3)
    assert invoke("verify", finished.folder).exit_code == 0


def test_a_service_without_a_station_service_gives_waveforms(proxy, tmp_path, caplog):
    finished = run_campaign(station_list(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr", through(proxy))
    assert finished.exit_code == 0
    with results.open(finished.folder) as found:
        assert np.isnan(found.pairs["distance_m"][0])
    (said,) = finished.report["warnings"]
    assert said.startswith("the source gave no station metadata")
    proxy.stations = lambda _: (500, b"broken")
    made = through(proxy, data={"fdsn.retries": 0})
    assert run_campaign(station_list(tmp_path, "AAA", "BBB"), tmp_path / "y.xcorr", made).exit_code == 0
    assert "no station metadata from" in caplog.text
    assert "HTTP 500: broken" in caplog.text


@pytest.mark.parametrize("answer", [b"<html>out of order</html>", b"\xff\xfe\x00\x01", b"<FDSNStationXML>"])
def test_an_answer_that_is_no_stationxml_is_as_good_as_none(proxy, tmp_path, caplog, answer):
    proxy.stations = lambda _: (200, answer)
    stations, folder = station_list(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr"
    finished = run_campaign(stations, folder, through(proxy))
    assert (finished.exit_code, finished.report["errors"]) == (0, [])
    assert f"its answer {answer!r} is not readable" in caplog.text
    assert finished.report["warnings"][0].startswith("the source gave no station metadata")
    assert not (folder / "stations.xml").exists()


@pytest.mark.parametrize("answer", [(503, b"busy"), (200, b"<html>")])
def test_metadata_that_cannot_be_refreshed_stay(proxy, tmp_path, answer):
    proxy.stations = about_stations()
    stations, folder = station_list(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr"
    made = through(proxy, data={"fdsn.retries": 0})
    run_campaign(stations, folder, made)
    before = (folder / "stations.xml").read_bytes()
    proxy.stations = lambda _: answer
    again = run_campaign(stations, folder, made, refresh_metadata=True)
    assert (again.exit_code, again.report["errors"]) == (0, [])
    assert (folder / "stations.xml").read_bytes() == before
    with results.open(folder) as found:
        assert found.pairs["distance_m"][0] == pytest.approx(111_044, abs=10)


def test_a_campaign_that_is_locked_keeps_its_metadata(proxy, tmp_path):
    proxy.stations = about_stations()
    stations, folder = station_list(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr"
    run_campaign(stations, folder, through(proxy))
    before = (folder / "stations.xml").read_bytes()
    proxy.stations = about_stations(latitude=42.0)
    with CampaignLock(folder), pytest.raises(Locked):
        run_campaign(stations, folder, through(proxy), refresh_metadata=True)
    assert (folder / "stations.xml").read_bytes() == before


def test_metadata_of_the_user_stay_where_they_are_in_any_encoding(proxy, tmp_path):
    _, content = about_stations()("level=channel\nXX AAA -- BHZ\nXX BBB -- BHZ")
    text = content.decode().replace("encoding='UTF-8'", "encoding='UTF-16'")
    (tmp_path / "stations.xml").write_bytes(text.encode("utf-16"))
    made = through(proxy, data={"metadata": str(tmp_path / "stations.xml")})
    finished = run_campaign(station_list(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr", made)
    assert finished.exit_code == 0
    with results.open(finished.folder) as found:
        assert found.pairs["distance_m"][0] == pytest.approx(111_044, abs=10)
    assert not (finished.folder / "stations.xml").exists()
    assert proxy.about == []


def test_metadata_of_a_service_in_any_encoding(proxy, tmp_path):
    def answer(body):
        status, content = about_stations()(body)
        text = content.decode().replace("encoding='UTF-8'", "encoding='UTF-16'")
        return status, text.encode("utf-16")

    proxy.stations = answer
    finished = run_campaign(station_list(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr", through(proxy))
    assert finished.exit_code == 0
    with results.open(finished.folder) as found:
        assert found.pairs["distance_m"][0] == pytest.approx(111_044, abs=10)
