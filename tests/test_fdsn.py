"""Waveforms from a real FDSN web service on loopback (portable-fdsnws-dataselect)."""

import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import obspy
import pytest
from archives import START, settings, station_list, trace, waveform, write
from conftest import accounts_of

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.pes.reading.fdsn import Service, ServiceError
from xcorr.pes.reading.source import SourceError

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
    service = Service(server.address, requests_per_s=5.0)
    start = time.monotonic()
    for _ in range(4):
        service.waveforms([("XX", "AAA", "", "BHZ")], START.ns, START.ns + 10**10)
    assert time.monotonic() - start >= 0.6


def test_a_service_that_comes_back_is_asked_again(server):
    service = Service(server.address, retries=4)
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
    (found,), wrong = service.waveforms([("XX", "AAA", "", "BHZ")], START.ns, START.ns + 60 * 10**9)
    assert not wrong
    thread.join()
    assert again
    assert np.array_equal(found.data[:100], waveform(sum(map(ord, "AAA")))[:100])


def test_what_is_no_service_or_has_nothing(server, tmp_path, invoke):
    with pytest.raises(SourceError, match="no FDSN dataselect service answers there"):
        Service(f"http://127.0.0.1:{free_port()}")
    assert Service(server.address).waveforms([("ZZ", "NONE", "*", "BHZ")], START.ns, START.ns + 10**9) == ([], [])
    gone = Service(server.address, retries=0)
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
