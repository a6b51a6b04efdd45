"""The web API on a real server: what it answers, in every format, and what it refuses."""

import contextlib
import csv
import hashlib
import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from urllib.parse import quote

import numpy as np
import obspy
import pytest
import xarray
from conftest import ROOT
from web_server import TOKEN, Server, serving

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.core.errors import XcorrError
from xcorr.results.pair_table import PairTable
from xcorr.results.selection import Selection
from xcorr.web.app import create_app

CAMPAIGNS = "/api/v1/campaigns"
A, B = "XX.D00", "XX.D05"


def hashes(folder):
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.name.endswith(("-shm", "-wal"))
    }


# -- lists ---------------------------------------------------------------------------------------------------


def test_campaigns_and_what_they_hold(server):
    found = server.ask(CAMPAIGNS).json()["campaigns"]
    assert [c["id"] for c in found] == ["demo", "kept"]
    about = server.api("").json()
    assert about["results"]["components"] == ["ZZ"]
    assert about["report"]["pairs"] == 91
    assert about["running"] == "no"
    assert server.api("/status").json()["progress"]["state"] == "done"


@pytest.mark.parametrize(
    ("parameters", "where"),
    [
        ({}, ""),
        ({"sta1": "D00"}, "station_1 == 'XX.D00' or station_2 == 'XX.D00'"),
        ({"sta1": "XX.D0?", "sta2": "XX.D1?"}, None),
        ({"net": "YY"}, "network_1 == 'YY'"),
        ({"distance_km_min": 10, "distance_km_max": 20.5}, "distance_km >= 10 and distance_km <= 20.5"),
        ({"snr_min": 5, "n_windows_min": 22}, "snr >= 5 and n_windows >= 22"),
        ({"symmetry_max": 0.5, "where": "snr > 5 or snr < 4"}, "symmetry <= 0.5 and (snr > 5 or snr < 4)"),
    ],
)  # fmt: skip
def test_the_same_words_select_the_same_pairs_everywhere(server, demo, parameters, where):
    with results.open(demo) as r:
        table = PairTable(r)
        if where is None:
            expected = Selection(pairs=("XX.D0?-XX.D1?",)).rows(table)
        else:
            expected = Selection(where=where).rows(table)
        names = [(table.stations[table.ends[0][k]], table.stations[table.ends[1][k]]) for k in expected]
        picked = r.select(where=where or "", pairs=("XX.D0?-XX.D1?",) if where is None else ())
        assert list(zip(picked["station_1"], picked["station_2"], strict=True)) == names
    answer = server.api("/pairs", limit=1000, **parameters)
    if not names:
        assert answer.status == 204
        return
    assert [(p["station_1"], p["station_2"]) for p in answer.json()["items"]] == names


def test_pages_of_a_list_are_all_of_it_once(server):
    whole = server.api("/pairs", sort="-snr", limit=1000).json()
    snr = [p["snr"] for p in whole["items"]]
    known = [v for v in snr if v is not None]
    assert known == sorted(known, reverse=True)
    assert snr[len(known) :] == [None] * 13, "unknown ones last"
    parts, address = [], "/pairs?sort=-snr&limit=20"
    while address:
        part = server.ask(f"{CAMPAIGNS}/demo{address}")
        found = part.json()
        parts += found["items"]
        assert found["total"] == 91
        assert found["left_out"] == 91 - len(parts)
        address = f"/pairs?sort=-snr&limit=20&next={found['next']}" if found["next"] else ""
        assert ('rel="next"' in part.headers.get("link", "")) == bool(address)
    assert parts == whole["items"]


def test_formats_of_a_list_say_the_same(server):
    given = {"sort": "distance_km", "fields": "station_1,station_2,distance_km", "limit": 7}
    expected = server.api("/pairs", **given).json()["items"]
    assert list(expected[0]) == ["station_1", "station_2", "distance_km"]
    lines = server.api("/pairs", format="ndjson", **given).text.splitlines()
    assert [json.loads(line) for line in lines] == expected
    rows = list(csv.DictReader(io.StringIO(server.api("/pairs", format="csv", **given).text)))
    assert [{**r, "distance_km": float(r["distance_km"])} for r in rows] == expected


def test_stations(server, demo):
    found = server.api("/stations").json()["items"]
    with results.open(demo) as r:
        assert [s["id"] for s in found] == r.stations["id"].tolist()
    box = server.api("/stations", box="-180,0,180,90", format="geojson").json()
    assert [f["geometry"]["coordinates"] for f in box["features"]] == [[s["longitude"], s["latitude"]] for s in found]
    assert server.api("/stations", box="0,-90,10,-80").status == 204
    assert server.api("/stations", box="0,-90,10,-80", nodata=404).status == 404
    text = server.api("/stations", format="text", net="XX", station="D0*").text.splitlines()
    assert text[0].startswith("#Network|Station|Latitude")
    assert len(text) == 11, "the long names of FDSN web services are understood, too"


def test_availability_is_the_account_of_the_ledger(server, demo):
    from conftest import accounts_of

    expected = accounts_of(demo)
    found = server.api("/availability", limit=1000).json()["items"]
    assert [(a["slot"], a["status"], a["reason"]) for a in found] == [
        (a["slot"], a["status"], a["reason"]) for a in expected
    ]
    bad = server.api("/availability", status="unusable", sta="D13").json()["items"]
    assert len(bad) == 4
    assert all(a["slot"] == "XX.D13.Z" and "zeros" in a["reason"] for a in bad)
    assert len(server.api("/availability", reason="zeros*").json()["items"]) == 4
    late = server.api("/availability", start="2024-03-01T02:00:00", cha="BHZ", limit=5).json()
    assert {a["start"] for a in late["items"]} == {"2024-03-01T02:00:00Z"}
    rest = server.ask(f"{CAMPAIGNS}/demo/availability?start=2024-03-01T02:00:00&cha=BHZ&next={late['next']}").json()
    assert len(rest["items"]) == 28 - 5


def test_facets_count_what_the_list_has(server):
    found = server.api("/pairs/facets", snr_min=5).json()
    total = server.api("/pairs", snr_min=5).json()["total"]
    assert found["total"] == total == sum(n["count"] for n in found["networks"])
    for name, of in found["classes"].items():
        assert sum(of["counts"]) + of["unknown"] == total, name
    low, high = found["classes"]["snr"]["edges"][3:5]
    inside = server.api("/pairs", snr_min=low, snr_max=high).json()["total"]
    assert abs(inside - found["classes"]["snr"]["counts"][3]) <= 1


# -- correlations --------------------------------------------------------------------------------------------


def test_a_pair_is_what_python_gives(server, demo):
    with results.open(demo) as r:
        expected, turned, series = r.get(A, B), r.get(B, A), r.get(A, B, stack=None)
    found = server.api(f"/pairs/{A}/{B}").json()
    assert np.float32(found["values"]).tobytes() == expected.values.tobytes()
    assert np.float32(found["std_error"]).tobytes() == expected["std_error"].values.tobytes()
    other = server.api(f"/pairs/{B}/{A}").json()
    assert np.float32(other["values"]).tobytes() == np.ascontiguousarray(turned.values).tobytes()
    pieces = server.api(f"/pairs/{A}/{B}/series", start="2024-03-01T01:00:00", end="2024-03-01T03:00:00").json()
    assert pieces["time"] == ["2024-03-01T01:00:00.000Z", "2024-03-01T02:00:00.000Z"]
    assert np.float32(pieces["values"]).tobytes() == series.values[1:3].tobytes()


@pytest.mark.parametrize("reverse", ["false", "true"])
@pytest.mark.parametrize("kind", ["sac", "mseed", "nc", "csv"])
def test_downloads_equal_exports(server, demo, tmp_path, invoke, kind, reverse):
    name = {"nc": "netcdf"}.get(kind, kind)
    flags = ["--reverse"] if reverse == "true" else []
    chosen = ["--where", "snr > 9"]
    assert invoke("export", demo, "--format", name, "-o", tmp_path / "x", *chosen, *flags).exit_code == 0
    answer = server.api("/download", where="snr > 9", format=kind, reverse=reverse)
    with zipfile.ZipFile(io.BytesIO(answer.body)) as pack:
        assert pack.testzip() is None
        manifest = dict(line.split("  ")[::-1] for line in pack.read("manifest-sha256.txt").decode().splitlines())
        files = {n: pack.read(n) for n in pack.namelist() if n != "manifest-sha256.txt"}
    assert {n: hashlib.sha256(data).hexdigest() for n, data in files.items()} == manifest
    written = tmp_path / "x"
    if kind in ("sac", "mseed"):
        expected = {str(p.relative_to(written)): p for p in written.rglob("*") if p.is_file()}
        assert set(files) == set(expected)
        for n, path in expected.items():
            mine, theirs = obspy.read(io.BytesIO(files[n]))[0], obspy.read(str(path))[0]
            assert mine.data.tobytes() == theirs.data.tobytes()
            assert mine.id == theirs.id
            assert mine.stats.starttime == theirs.stats.starttime
    elif kind == "nc":
        (tmp_path / "mine.nc").write_bytes(files["correlations.nc"])
        mine, theirs = (xarray.load_dataset(p, engine="h5netcdf") for p in (tmp_path / "mine.nc", written))
        xarray.testing.assert_identical(mine, theirs)
    else:
        assert files["correlations.csv"] == written.read_bytes()
    assert server.api("/download", where="snr > 9", format=kind, estimate=1).json()["pairs"] >= 10


def test_one_pair_in_every_format_reads_back(server, demo, tmp_path):
    with results.open(demo) as r:
        expected = r.get(A, B)
    for kind in ("sac", "mseed"):
        trace = obspy.read(io.BytesIO(server.api(f"/pairs/{A}/{B}", format=kind).body))[0]
        assert trace.data.astype("f4").tobytes() == expected.values.tobytes()
    (tmp_path / "x.nc").write_bytes(server.api(f"/pairs/{A}/{B}/series", format="nc").body)
    assert xarray.load_dataset(tmp_path / "x.nc", engine="h5netcdf")["correlation"].shape == (1, 4, 481)
    assert server.api(f"/pairs/{A}/{B}", format="png").body.startswith(b"\x89PNG")
    assert b"<svg" in server.api(f"/pairs/{A}/{B}/series", format="svg").body


def test_the_script_fetches_what_it_says_and_resumes(server, tmp_path):
    script = server.api("/download", where="snr > 11", pack="script").text
    (tmp_path / "get.sh").write_text(script)
    how = {"cwd": tmp_path, "env": {**os.environ, "XCORR_TOKEN": TOKEN}, "check": True}
    if shutil.which("curl") is None:
        assert "CI" not in os.environ, "CI needs curl"
        pytest.skip("curl is not installed")
    subprocess.run(["sh", "get.sh"], **how)
    files = sorted(tmp_path.glob("*.sac"))
    assert len(files) == server.api("/pairs", where="snr > 11").json()["total"] > 1
    assert all(len(obspy.read(str(p))) == 1 for p in files)
    files[0].unlink()
    before = files[1].stat().st_mtime_ns
    subprocess.run(["sh", "get.sh"], **how)
    assert files[0].exists()
    assert files[1].stat().st_mtime_ns == before


def test_pictures_are_pictures(server):
    from PIL import Image

    for place in ("/gather?velocities=2,3&sta1=XX.D00", "/matrix", "/stations?format=png", "/availability?format=png",
                  f"/pairs/{A}/{B}/series?format=png"):  # fmt: skip
        image = Image.open(io.BytesIO(server.ask(f"{CAMPAIGNS}/demo{place}").body)).convert("RGB")
        assert len(image.getcolors(1 << 24)) > (3 if "availability" in place else 20), place
    for place in ("/gather?format=svg", "/matrix?format=svg&quantity=distance_km", "/availability?format=svg"):
        assert "<svg" in server.ask(f"{CAMPAIGNS}/demo{place}").text


def test_the_gather_at_a_glance_is_that_of_hdf5(demo):
    with results.open(demo) as r:
        rows = np.array([5, 80, 6, 7, 90, 5])
        assert r.gather(rows=rows, at_a_glance=True).tobytes() == r.gather()[rows].tobytes()


# -- provenance ----------------------------------------------------------------------------------------------


def test_runs_activity_items_and_kept(server, kept):
    assert [r["id"] for r in server.api("/runs", "kept").json()["runs"]] == [1]
    run = server.api("/runs/1", "kept").json()
    assert {e["name"] for e in run["elements"]} >= {"ReadStation", "CorrelateStrips"}
    assert sum(of["count"] for w in run["timeline"]["workers"] for of in w["elements"].values()) > 300
    names, address = [], "/runs/1/activity?element=ReadStation&limit=9"
    while address:
        part = server.ask(f"{CAMPAIGNS}/kept{address}").json()
        names += [i["id"] for i in part["items"]]
        address = f"/runs/1/activity?element=ReadStation&limit=9&next={part['next']}" if part["next"] else ""
    assert len(names) == len(set(names)) == 56
    some = server.api("/items", "kept", element="ConditionStation", where="windows_used < 6", limit=1000).json()
    assert 0 < len(some["items"]) < 10
    assert all(i["metadata"]["windows_used"] < 6 for i in some["items"])
    one = server.ask(f"{CAMPAIGNS}/kept/items/{some['items'][0]['id']}").json()
    assert one["used_by"][0]["element"] == "NormalizeStation"
    assert server.api("/items", where="windows_used < 6").status == 400, "the demo recorded no metadata"
    listed = server.api("/kept", "kept").json()["items"]
    assert len(listed) == 4
    for row in listed:
        data = server.ask(f"{CAMPAIGNS}/kept/kept/{row['key']}")
        assert hashlib.sha256(data.body).hexdigest() == row["sha256"]
        part = server.ask(f"{CAMPAIGNS}/kept/kept/{row['key']}", Range="bytes=10-19")
        assert (part.status, part.body) == (206, data.body[10:20])
    files = server.api("/inputs", limit=1000).json()["items"]
    assert len(files) == 14
    assert {t["name"] for t in server.api("/terms").json()["pairs"]} >= {"snr", "distance_km"}


def test_lineage_back_to_a_file_and_forward_again(server, demo):
    back = server.api("/lineage", pair=f"{A}-{B}", group="none", max_nodes=20000).json()
    files = [n["id"] for n in back["nodes"] if n["id"].startswith("file:")]
    assert len(files) == 2
    forward = server.api("/lineage", file=files[0].removeprefix("file:"), group="none", max_nodes=20000).json()
    stacks = {n["id"] for n in forward["nodes"] if n["id"].startswith("stack:")}
    assert f"stack:linear/main/ZZ/{A}-{B}" in stacks
    assert len(stacks) == 12
    few = server.api("/lineage", pair=f"{A}-{B}").json()
    assert len(few["nodes"]) < 20
    assert next(n for n in few["nodes"] if n["id"] == "ReadStation")["count"] == 8
    way = server.api("/lineage", pair=f"{A}-{B}", path_to=files[1]).json()
    assert {n["kind"] for n in way["nodes"]} >= {"file", "ReadStation", "stack"}
    cut = server.api("/lineage", pair=f"{A}-{B}", group="none", max_nodes=5).json()
    assert len(cut["nodes"]) == 5
    assert cut["left_out"] == len(back["nodes"]) - 5
    near = server.api("/lineage", pair=f"{A}-{B}", group="none", depth=1, max_nodes=20000).json()
    assert {n["kind"] for n in near["nodes"]} == {"stack", "StackRows", "series"}
    told = server.api("/lineage", pair=f"{A}-{B}", format="text", group="station").text
    assert "StackRows made stack:linear/main/ZZ/XX.D00-XX.D05 from 4 correlations" in told


def test_prov_reads_back(server):
    from prov.model import ProvDocument

    documents = []
    for kind, name in (("provjson", "json"), ("xml", "xml"), ("turtle", "rdf")):
        text = server.api("/lineage", pair=f"{A}-{B}", format=kind).text
        how = {"rdf_format": "turtle"} if name == "rdf" else {}
        documents.append(ProvDocument.deserialize(content=text, format=name, **how))
    assert documents[0] == documents[1]
    counts = [(len(list(d.get_records())), len({r.identifier for r in d.get_records()})) for d in documents]
    assert counts[0][1] == counts[2][1]


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "status", "words"),
    [
        ("/pairs?limt=3", 400, "limt: no such parameter (did you mean 'limit'?)"),
        ("/pairs?limit=0", 400, "limit = '0': input should be greater than or equal to 1"),
        ("/pairs?where=snr+%3E", 400, "not understood"),
        ("/pairs?where=snow+%3E+1", 400, "did you mean 'snr'?"),
        ("/pairs?sort=snow", 400, "is no field"),
        ("/pairs?fields=snow", 400, "no such field"),
        ("/pairs?snr_min=5&snr_max=3", 400, "is larger than"),
        ("/pairs?next=abc", 400, "no place that an answer has given"),
        ("/pairs?components=QQ", 400, "no stack 'linear' of 'QQ'"),
        ("/pairs/XX.D00/XX.D99", 404, "did you mean"),
        ("/pairs/XX.D00/XX.D13", 404, "no window of both"),
        ("/pairs/XX.D00/XX.D01?components=RR", 400, "no components 'RR'"),
        ("/pairs/XX.D00/XX.D01/series?start=yesterday", 400, "write a time"),
        ("/pairs/XX.D00/XX.D01/series?start=2030-01-01", 404, "no correlations"),
        ("/stations?box=1,2,3", 400, "west,south,east,north"),
        ("/gather?lag_min=3&lag_max=1", 400, "is not smaller than"),
        ("/gather?velocities=fast", 400, "km/s"),
        ("/lineage", 400, "name one product"),
        ("/lineage?pair=XX.D00", 400, "does not name two stations"),
        ("/lineage?file=nowhere.mseed", 404, "no file that this campaign has read"),
        ("/lineage?item=nothing", 404, "no item"),
        ("/runs/7", 404, "no run 7; there are 1 to 1"),
        ("/runs/one", 400, "n = 'one'"),
        ("/kept/abc", 404, "no kept item"),
        ("/download?sta1=NO.NE", 404, "no pair"),
    ],
)
def test_what_is_wrong_is_named(server, place, status, words):
    answer = server.ask(f"{CAMPAIGNS}/demo{place}")
    assert answer.status == status
    assert answer.text.startswith(f"Error {status}: ")
    assert words in answer.text
    assert place.partition("?")[0] in answer.text
    problem = server.ask(f"{CAMPAIGNS}/demo{place}", Accept="application/json")
    assert problem.headers["content-type"] == "application/problem+json"
    assert words in problem.json()["detail"]


def test_changed_data_begin_a_list_anew(demo, tmp_path):
    folder = tmp_path / "x.xcorr"
    shutil.copytree(demo, folder)
    with serving(folder) as server:
        following = server.api("/pairs", "x", limit=5).json()["next"]
        os.utime(folder / "xcorr.h5")
        answer = server.ask(f"{CAMPAIGNS}/x/pairs?limit=5&next={following}")
        assert answer.status == 410
        assert "begin anew" in answer.text


def test_entity_tags(server):
    for place in ("/pairs?limit=3", "/gather", f"/pairs/{A}/{B}?format=sac", "/lineage?pair=XX.D00-XX.D01", ""):
        first = server.ask(f"{CAMPAIGNS}/demo{place}")
        again = server.ask(f"{CAMPAIGNS}/demo{place}", If_None_Match=first.headers["etag"])
        assert (again.status, again.body) == (304, b""), place
        assert server.ask(f"{CAMPAIGNS}/demo{place}", If_None_Match='"other"').status == 200


def test_head_is_get_without_body(server):
    for address in (f"{CAMPAIGNS}/demo/pairs", f"{CAMPAIGNS}/demo/xcorr.h5", f"{CAMPAIGNS}/demo/download", "/c/demo"):
        head = server.ask(address, "HEAD")
        assert (head.status, head.body) == (200, b""), address
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        answer = server.ask(f"{CAMPAIGNS}/demo", method)
        assert answer.status == 405
        assert answer.headers["allow"] == "GET, HEAD"
    for _ in range(10):  # places of downloads are given back
        assert server.ask(f"{CAMPAIGNS}/demo/download", "HEAD").status == 200


def test_ranges_of_the_result_file(server, demo):
    data = (demo / "xcorr.h5").read_bytes()
    part = server.ask(f"{CAMPAIGNS}/demo/xcorr.h5", Range="bytes=100-")
    assert (part.status, part.body) == (206, data[100:])
    assert server.ask(f"{CAMPAIGNS}/demo/xcorr.h5", Range=f"bytes={len(data) + 5}-").status == 416


# -- who may ask ---------------------------------------------------------------------------------------------


def test_no_token_or_a_wrong_one(server):
    for address in ("/", "/docs", CAMPAIGNS, f"{CAMPAIGNS}/demo/xcorr.h5", "/static/xcorr.css", "/c/demo"):
        assert server.ask(address, token=None).status == 401
        assert server.ask(address, token="wrong" * 4).status == 401
        assert server.ask(f"{address}?token=wrong", token=None).status == 401
        assert server.ask(address, token=None, Cookie="xcorr-00000000=abc").status == 401


def test_the_token_leaves_the_address(server):
    answer = server.ask(f"/c/demo/pairs?token={TOKEN}&snr_min=3", token=None)
    assert answer.status == 303
    assert answer.headers["location"] == "/c/demo/pairs?snr_min=3"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert server.ask("/c/demo", token=None, Cookie=cookie.partition(";")[0]).status == 200
    assert server.ask(f"{CAMPAIGNS}?token={TOKEN}", token=None).status == 200
    for path in ("//evil.example/x", "/\\evil.example"):
        away = server.ask(f"{path}?token={TOKEN}", token=None)
        assert away.status == 404 or away.headers["location"] == "/evil.example/x"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]"])
def test_other_host_names_are_refused(server, host):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        head = f"GET {CAMPAIGNS} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close"
        raw.sendall(f"{head}\r\n\r\n".encode())
        assert raw.recv(100).split()[1] in (b"403", b"400")
    assert server.ask(CAMPAIGNS, host=f"localhost:{server.port}").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/..%2f..%2fetc%2fpasswd", "/static/..%2f..%2fapp.py", "/static/%2e%2e/app.py", "/static//etc/passwd",
        f"{CAMPAIGNS}/..%2f..", f"{CAMPAIGNS}/demo/kept/..%2f..%2fcampaign.toml", "/static/..\\app.py", "/c/demo%00",
        f"{CAMPAIGNS}/demo/kept/%2fetc%2fpasswd", f"{CAMPAIGNS}/demo/items/..%2f..%2fledger", "/c/demo/kept/..%2fx.png",
    ],
)  # fmt: skip
def test_paths_that_lead_elsewhere(server, path):
    assert server.ask(path).status == 404


def test_a_kept_item_that_is_a_link_elsewhere_is_not_given(kept, tmp_path):
    folder = tmp_path / "k.xcorr"
    shutil.copytree(kept, folder)
    store = folder / "provenance" / "store.sqlite"
    import sqlite3

    with sqlite3.connect(store) as database:
        for (path,) in database.execute("SELECT path FROM kept").fetchall():
            own = folder / "kept" / "ConditionStation" / os.path.basename(path)
            own.unlink()
            own.symlink_to("/etc/passwd")
            database.execute("UPDATE kept SET path = ? WHERE path = ?", (str(own), path))
    with serving(folder) as server:
        rows = server.api("/kept", "k").json()["items"]
        assert len(rows) == 4
        assert {server.ask(f"{CAMPAIGNS}/k/kept/{r['key']}").status for r in rows} == {404}


def test_headers_of_security(server):
    for address in ("/", "/c/demo", CAMPAIGNS, "/static/xcorr.css", "/nope"):
        headers = server.ask(address).headers
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
    report = server.api("/report").headers["content-security-policy"]
    assert "script-src" not in report
    assert report.startswith("default-src 'none'")


def test_serving_changes_nothing(demo, kept, tmp_path):
    folders = [tmp_path / "a.xcorr", tmp_path / "b.xcorr"]
    for folder, source in zip(folders, (demo, kept), strict=True):
        shutil.copytree(source, folder)
    before = [hashes(folder) for folder in folders]
    with serving(*folders) as server:
        seen, todo = set(), ["/", "/docs"]
        while todo and len(seen) < 400:
            address = todo.pop()
            if address in seen or not address.startswith("/"):
                continue
            seen.add(address)
            answer = server.ask(address)
            assert answer.status in (200, 204, 303, 404), (address, answer.text)
            if "text/html" in answer.headers.get("content-type", ""):
                import html
                import re

                found = re.findall(r'(?:href|src|action|data-json|data-events|data-land)="([^"#]+)"', answer.text)
                todo += [html.unescape(a) for a in found if "events" not in a]
        assert len(seen) > 100
    assert [hashes(folder) for folder in folders] == before


def test_who_is_let_in_from_elsewhere(demo, invoke, monkeypatch):
    refused = invoke("serve", demo, "--host", "0.0.0.0")
    assert refused.exit_code == 1
    assert "--allow-host" in refused.output
    monkeypatch.setenv("XCORR_TOKEN", "short")
    assert "can be guessed" in invoke("serve", demo).output
    monkeypatch.delenv("XCORR_TOKEN")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        answer = invoke("serve", demo, "--port", taken.getsockname()[1])
        assert "choose another with --port" in answer.output
    with serving(demo, options=("--host", "0.0.0.0", "--allow-host", "noise.example")) as server:
        assert server.ask(CAMPAIGNS, host="noise.example").status == 200
        assert server.ask(CAMPAIGNS, host="other.example").status == 403


def test_campaigns_that_cannot_be_served(demo, tmp_path):
    shutil.copytree(demo, tmp_path / "demo.xcorr")
    with pytest.raises(XcorrError, match="would both be called 'demo'"):
        create_app([demo, tmp_path / "demo.xcorr"], TOKEN)
    with pytest.raises(XcorrError, match="there is no campaign"):
        create_app([tmp_path], TOKEN)


def test_a_campaign_without_results_or_provenance_is_shown(demo, tmp_path):
    folder = tmp_path / "bare.xcorr"
    shutil.copytree(demo, folder)
    for name in ("xcorr.h5", "report.json", "progress.json"):
        (folder / name).unlink()
    shutil.rmtree(folder / "provenance")
    with serving(folder) as server:
        assert "no results yet" in server.ask("/c/bare").text
        for place in ("/pairs", "/gather", "/xcorr.h5", "/runs", "/kept"):
            assert server.api(place, "bare").status == 404
        assert server.api("/availability", "bare").status == 200
        for page in ("", "/availability", "/runs", "/kept", "/lineage"):
            assert server.ask(f"/c/bare{page}").status == 200


def test_without_the_packages_it_says_what_to_install(demo):
    code = "import sys; sys.modules['fastapi'] = None; from xcorr.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "serve", demo], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'xcorr[web]'" in done.stderr


# -- found by attacks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "status"),
    [
        ("/availability?end=2599-12-31", 200), ("/availability?start=0001-01-01", 200),
        ("/availability?end=1677-01-01", 204),
        ("/pairs?where=snr", 400), ("/pairs?where=-True", 400), ("/pairs?where=station_1", 400),
        (f"/pairs?where=snr+%3E+{'-' * 1500}1", 400), (f"/pairs?where={'(' * 900}1{')' * 900}", 400),
        ("/availability?format=png&status=failed", 400), ("/availability?box=0,0,1,1", 204),
        ("/stations?cha=XXX", 204), ("/stations?cha=BHZ&start=2024-03-01T03:30:00", 200),
        ("/stations?start=2030-01-01", 204),
        ("/runs/1/activity?next=W1tbMV0se30sMSwxXSwiYWN0aXZpdHkiXQ", 400),
        ("/availability?next=W1sxMDAwMDAwMDAwMDAwMDAwMDAwMDAwMCwxXSwiYWNjb3VudHMiXQ", 400),
    ],
)  # fmt: skip
def test_awkward_questions(server, place, status):
    assert server.ask(f"{CAMPAIGNS}/demo{place}").status == status


def test_formats_without_pages_give_everything(server):
    assert len(server.api("/stations", format="text", limit=3).text.splitlines()) == 15
    assert len(server.api("/stations", format="geojson", limit=3).json()["features"]) == 14


def test_every_bar_of_the_facets_leads_to_its_pairs(server):
    import re
    from html import unescape

    text = server.ask("/c/demo/pairs").text
    bars = re.findall(r'<a href="([^"]+)" aria-label="[^"]*: (\d+) pairs">', text)
    classes = server.api("/pairs/facets").json()["classes"]
    assert len(bars) == sum(count > 0 for of in classes.values() for count in of["counts"])
    for address, count in bars:
        assert int(count) > 0
        page = server.ask(unescape(address)).text
        assert f'role="status">{int(count):,} pairs' in page, address


def test_one_campaign_that_cannot_be_read_costs_no_other(demo, tmp_path):
    for name in ("half", "cut"):
        shutil.copytree(demo, tmp_path / f"{name}.xcorr")
    (tmp_path / "half.xcorr" / "xcorr.h5").unlink()
    (tmp_path / "cut.xcorr" / "xcorr.h5").write_bytes((demo / "xcorr.h5").read_bytes()[:5000])
    with serving(demo, tmp_path / "half.xcorr", tmp_path / "cut.xcorr", options=("--root-path", "/x")) as server:
        found = server.ask(CAMPAIGNS).json()["campaigns"]
        assert [c.get("pairs") for c in found] == ["91", None, None]
        assert "cannot be read" in found[2]["problem"]
        assert server.ask("/").text.count("<tr>") == 4
        assert server.ask("/api/v1/campaigns/demo/pairs?snr_min=").status == 400
        assert server.ask(f"/api/v1/campaigns?token={TOKEN}", token=None).status == 200
        assert 'href="/x/c/demo/pairs"' in server.ask("/c/demo").text


def test_components_made_afterwards_have_a_page_and_a_lineage(tmp_path):
    from archives import settings, write

    for code in ("AAA", "BBB"):
        for channel in ("BHZ", "BHN", "BHE"):
            write(tmp_path / "sds", code, channel=channel)
    (tmp_path / "list.csv").write_text("network,station,latitude,longitude\nXX,AAA,40,-100\nXX,BBB,41,-100\n")
    how = settings(
        tmp_path / "sds", correlate={"components": ["all"]}, normalize={"per": "station"}, whiten={"per": "station"}
    )
    assert run_campaign(tmp_path / "list.csv", tmp_path / "\u65e5\u672c.xcorr", how).exit_code == 0
    with serving(tmp_path / "\u65e5\u672c.xcorr") as server:
        name = "%E6%97%A5%E6%9C%AC"
        assert server.ask(f"{CAMPAIGNS}/{name}/xcorr.h5").status == 200
        page = server.ask(f"/c/{name}/pair/XX.AAA/XX.BBB?components=TT")
        assert page.status == 200
        assert "StackRows made stack:linear/main/TT/XX.AAA-XX.BBB" in page.text
        told = server.api("/lineage", name, pair="XX.AAA-XX.BBB", components="RT").json()
        assert {n["kind"] for n in told["nodes"]} >= {"file", "series", "stack"}


def test_clicks_beside_a_picture_lead_back(server):
    for place in ("matrix-at", "gather", "availability"):
        answer = server.ask(f"/c/demo/{place}?at.x=1&at.y=1")
        assert answer.status in (200, 303), place
        if answer.status == 303:
            assert server.ask(answer.headers["location"]).status == 200


def test_commands_that_are_shown_are_quoted(server):
    import shlex
    from html import unescape

    evil = "station_1 != '; touch X; '"
    text = unescape(server.ask(f"/c/demo/pairs?where={evil.replace(' ', '+').replace(';', '%3B')}&net=X*").text)
    line = next(one for one in text.splitlines() if "xcorr export" in one).partition("xcorr export")[2]
    words = shlex.split(line.partition("</code>")[0])
    assert f"({evil})" in words
    assert words[words.index("--network") + 1] == "X*"


def test_a_run_that_begins_changes_the_entity_tag(demo, tmp_path):
    from xcorr.store.lock import CampaignLock

    shutil.copytree(demo, tmp_path / "x.xcorr")
    with serving(tmp_path / "x.xcorr") as server:
        tag = server.api("", "x").headers["etag"]
        with CampaignLock(tmp_path / "x.xcorr"):
            answer = server.ask(f"{CAMPAIGNS}/x", If_None_Match=tag)
            assert answer.status == 200
            assert answer.json()["running"].startswith("process")


# -- found by reading ----------------------------------------------------------------------------------------


def test_the_command_of_a_lineage_is_quoted(server):
    import shlex
    from html import unescape

    evil = "x'; touch Y; '"
    for kind in ("file", "item"):
        text = unescape(server.ask(f"/c/demo/lineage?{kind}={quote(evil)}").text)
        line = next(one for one in text.splitlines() if "xcorr prov demo" in one).partition("xcorr prov")[2]
        words = shlex.split(line.partition("</code>")[0])
        assert words[words.index(f"--{kind}") + 1] == evil


def test_the_script_leaves_out_pairs_without_data(server):
    script = server.api("/download", pack="script").text
    assert script.count("\nget '") + script.count("\nget http") == 78
    assert "XX.D13" not in script
    assert server.api("/download", estimate=1).json()["pairs"] == 78


def test_a_download_that_cannot_be_completed_ends_early(demo, tmp_path):
    import h5py

    shutil.copytree(demo, tmp_path / "x.xcorr")
    with h5py.File(tmp_path / "x.xcorr" / "xcorr.h5") as file:
        info = file["stacks/linear/ZZ/mean"].id.get_chunk_info(0)
    with (tmp_path / "x.xcorr" / "xcorr.h5").open("r+b") as file:
        file.seek(info.byte_offset + 100)
        file.write(b"\xff\x00\xff\x00")
    with serving(tmp_path / "x.xcorr") as server:
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            server.api("/download", "x", format="sac")
        answer = server.api(f"/pairs/{A}/{B}", "x")
        assert answer.status == 500
        assert "xcorr verify says what is damaged" in answer.text
        assert server.api("/stations", "x").status == 200, "the server goes on"


def test_what_workers_write_changes_the_entity_tags(demo, tmp_path):
    from xcorr.provenance.store import create, worker_file

    shutil.copytree(demo, tmp_path / "x.xcorr")
    with serving(tmp_path / "x.xcorr") as server:
        places = ("/runs", "/runs/1", "/items", "/kept?nodata=404", "/lineage?pair=XX.D00-XX.D01")
        tags = [server.ask(f"{CAMPAIGNS}/x{p}").headers.get("etag") for p in places]
        with contextlib.closing(create(worker_file(tmp_path / "x.xcorr", 1, 3), indexed=False)) as store:
            row = (1, "Late(x)", "ReadStation", 0, 3, 99, "input", "x", "", 1.8e9, 1.8e9, "done")
            store.execute(f"INSERT INTO invocation VALUES ({', '.join('?' * 12)})", row)
        for place, tag in zip(places, tags, strict=True):
            assert server.ask(f"{CAMPAIGNS}/x{place}", If_None_Match=tag or '"x"').status in (200, 404), place
        names = [i["id"] for i in server.api("/runs/1/activity", "x", element="ReadStation").json()["items"]]
        assert "Late(x)" in names


def test_terms_are_the_fields_that_conditions_take(server):
    for term in server.api("/terms").json()["pairs"]:
        value = "'x'" if term["type"] == "str" else "1"
        assert server.api("/pairs", where=f"{term['name']} != {value}", limit=1).status == 200, term


def test_a_channel_that_is_not_there_is_said(server):
    page = server.ask("/c/demo/availability?slot=XX.D99.Z&at=2024-03-01T00:00:00Z")
    assert page.status == 200
    assert "no channel &#39;XX.D99.Z&#39;" in page.text
    page = server.ask("/c/demo/availability?slot=XX.D00.Z&at=2024-03-09T00:00:00Z")
    assert "has no account" in page.text


def test_azimuths_go_through_north(server, demo):
    with results.open(demo) as r:
        azimuth = r.pairs["azimuth_deg"].to_numpy()
    found = server.api("/pairs", azimuth_min=300, azimuth_max=40, limit=1000).json()
    assert found["total"] == int(((azimuth >= 300) | (azimuth <= 40)).sum()) > 0
    assert server.api("/pairs", azimuth_min=10, azimuth_max=90).json()["total"] == int(
        ((azimuth >= 10) & (azimuth <= 90)).sum()
    )


def test_scale_bins_and_lags_of_a_gather(server):
    pictures = [
        server.ask(f"{CAMPAIGNS}/demo/gather?{how}").body
        for how in ("", "norm=all", "bins=10", "lag_min=-20&lag_max=20", "velocities=2", "sta1=XX.D00")
    ]
    assert len(set(pictures)) == len(pictures)
    assert server.ask(f"{CAMPAIGNS}/demo/matrix?quantity=n_windows").body != server.ask(f"{CAMPAIGNS}/demo/matrix").body


def test_the_other_lag_sign_of_one_pair(server, demo):
    with results.open(demo) as r:
        expected = r.get(A, B).values[::-1]
    found = server.api(f"/pairs/{A}/{B}", reverse="true").json()
    assert np.float32(found["values"]).tobytes() == np.ascontiguousarray(expected).tobytes()
    assert found["positive_lag"] == "2 to 1"


def test_networks_select_on_the_command_line_too(demo, tmp_path, invoke):
    assert "wrote 78 correlations" in invoke("export", demo, "--format", "csv", "-o", tmp_path / "a.csv",
                                             "--network", "X*").output  # fmt: skip
    refused = invoke("export", demo, "--format", "csv", "-o", tmp_path / "b.csv", "--network", "YY")
    assert refused.exit_code == 1
    assert invoke("plot", demo, "--network", "X?", "--where", "snr > 5", "-o", tmp_path / "p.png").exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("mapping", ["sequential", "processes", "mpi", "dask"])
def test_servers_killed_beside_a_run_change_nothing(demo, tmp_path, mapping):
    """Servers that are asked and killed at random moments, while runs and reruns of a campaign go on."""
    import random
    import signal
    import time

    from xcorr.results.compare import differences

    rng, folder = random.Random(5), tmp_path / "x.xcorr"
    xcorr = [sys.executable, "-m", "xcorr"]
    arguments = [ROOT / "configs" / "demo" / "stations.txt", "-o", folder, "-m", mapping, "-n", "2"]
    environment = {**os.environ, "XCORR_TOKEN": TOKEN}
    for _ in range(4):
        with subprocess.Popen([*xcorr, "run", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
            while not (folder / "campaign.toml").exists():
                time.sleep(0.01)
            while run.poll() is None:
                command = [*xcorr, "serve", folder, "--port", "0"]
                server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
                line = server.stdout.readline()
                if line:
                    port = int(line.rpartition(":")[2].partition("/")[0])
                    for place in ("", "/events?once=1", "/availability", "/runs"):
                        with contextlib.suppress(OSError, http.client.HTTPException):
                            Server(port).api(place, "x")
                    time.sleep(rng.uniform(0, 0.3))
                server.send_signal(signal.SIGKILL)
                server.wait()
                server.stdout.close()
            assert run.returncode == 0
        assert list(differences(demo, folder)) == []
        for victim in sorted((folder / "shards").glob("*.h5"))[: rng.randint(1, 4)]:
            victim.unlink()
    assert subprocess.run([*xcorr, "run", *arguments], capture_output=True).returncode == 0
    assert subprocess.run([*xcorr, "verify", folder], capture_output=True).returncode == 0
