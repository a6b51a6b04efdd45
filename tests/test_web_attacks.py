"""What the second attack on the web application found."""

import json
import os
import shutil
import sqlite3

import numpy as np
import pytest
from web_server import serving

from xcorr import results
from xcorr.web.campaigns import Campaign
from xcorr.web.routes.pictures import GatherOf, gather_picture

CAMPAIGNS = "/api/v1/campaigns"
A, B = "XX.D00", "XX.D05"


def test_brackets_do_not_lead_out_of_a_condition(server):
    answer = server.api("/pairs", where="snr > 0) or (snr > 0", distance_km_max=1)
    assert answer.status == 400
    assert server.api("/pairs", where="snr > 0 or snr <= 0", distance_km_max=1).status == 204


def test_an_altered_kept_file_is_not_given(kept, tmp_path):
    """A copy gives its own file, not that of the campaign it was copied from."""
    folder = tmp_path / "k.xcorr"
    shutil.copytree(kept, folder)
    altered, gone, *others = sorted((folder / "kept" / "ConditionStation").glob("*.mseed"))
    altered.write_bytes(altered.read_bytes()[:-1] + b"x")
    gone.unlink()
    with serving(folder) as server:
        rows = {os.path.basename(r["path"]): r for r in server.api("/kept", "k").json()["items"]}
        answer = server.ask(f"{CAMPAIGNS}/k/kept/{rows[altered.name]['key']}")
        assert answer.status == 500
        assert "SHA-256 differs" in answer.text
        assert server.ask(f"{CAMPAIGNS}/k/kept/{rows[gone.name]['key']}").status == 404
        whole = server.ask(f"{CAMPAIGNS}/k/kept/{rows[others[0].name]['key']}")
        assert whole.body == others[0].read_bytes()
        same = server.ask(f"{CAMPAIGNS}/k/kept/{rows[others[0].name]['key']}", If_None_Match=whole.headers["etag"])
        assert same.status == 304


def test_what_comes_next_is_of_the_same_question(server):
    following = server.api("/runs/1/activity", element="ReadStation", limit=9).json()["next"]
    assert server.api("/runs/1/activity", element="ReadStation", limit=9, next=following).status == 200
    assert server.api("/runs/1/activity", element="ConditionStation", limit=9, next=following).status == 410
    following = server.api("/items", "kept", element="ConditionStation", limit=9).json()["next"]
    assert server.api("/items", "kept", element="ReadStation", limit=9, next=following).status == 410


def test_runs_that_were_killed_are_stopped(demo, tmp_path, invoke):
    shutil.copytree(demo, tmp_path / "x.xcorr")
    with sqlite3.connect(tmp_path / "x.xcorr" / "provenance" / "store.sqlite") as store:
        store.execute("UPDATE run SET status = 'running', ended = NULL")
    progress = json.loads((demo / "progress.json").read_text())
    (tmp_path / "x.xcorr" / "progress.json").write_text(json.dumps({**progress, "state": "interrupted"}))
    with serving(tmp_path / "x.xcorr") as server:
        assert {r["status"] for r in server.api("/runs", "x").json()["runs"]} == {"stopped"}
        assert server.api("/runs/1", "x").json()["status"] == "stopped"
        assert server.api("/status", "x").json()["progress"]["state"] == "interrupted"
    assert "running    no (the last run: interrupted)" in invoke("status", tmp_path / "x.xcorr").output


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": 1}', '{"format": 1, "state": "running", "items": 3}', "{"])
def test_a_damaged_progress_file_is_no_progress(demo, tmp_path, invoke, text):
    shutil.copytree(demo, tmp_path / "x.xcorr")
    (tmp_path / "x.xcorr" / "progress.json").write_text(text)
    assert invoke("status", tmp_path / "x.xcorr").exit_code == 0
    with serving(tmp_path / "x.xcorr") as server:
        assert server.api("/status", "x").json()["progress"] == {}
        assert server.ask("/c/x").status == 200


def test_a_damaged_provenance_store_costs_no_other_page(demo, tmp_path):
    shutil.copytree(demo, tmp_path / "x.xcorr")
    store = tmp_path / "x.xcorr" / "provenance" / "store.sqlite"
    whole = store.read_bytes()
    for damaged, runs in ((b"no database" * 1000, {500}), (b"", {500}), (whole[: len(whole) // 2], {200, 500})):
        store.write_bytes(damaged)
        with serving(tmp_path / "x.xcorr") as server:
            for place in ("", "/pairs", "/gather", "/availability", "/runs", "/lineage", "/kept", f"/pair/{A}/{B}"):
                assert server.ask(f"/c/x{place}").status == 200, place
            assert server.api("/pairs", "x").status == 200
            assert server.api("/runs", "x").status in runs


def test_a_sample_of_a_gather(server, demo):
    _, rows = gather_picture(Campaign(demo), GatherOf(sample=10))
    with results.open(demo) as r:
        distances = r.pairs["distance_m"].to_numpy()[rows]
    assert len(rows) == 10
    assert (np.diff(distances) >= 0).all()
    assert server.api("/gather", sample=10).status == 200
    assert "sample=2000" in server.ask("/c/demo").text


@pytest.mark.parametrize(
    ("given", "words"),
    [(("--root-path", "noise"), "as /noise"), (("--allow-host", "x.example:443"), "without scheme and port"),
     (("--allow-host", "https://x.example"), "without scheme and port")],
)  # fmt: skip
def test_options_of_a_proxy_are_checked(demo, invoke, given, words):
    refused = invoke("serve", demo, *given)
    assert refused.exit_code == 1
    assert words in refused.output


def test_files_that_did_not_change_are_not_sent_again(server):
    for place in ("/xcorr.h5", "/report"):
        tag = server.api(place).headers["etag"]
        assert server.ask(f"{CAMPAIGNS}/demo{place}", If_None_Match=tag).status == 304


def test_the_lineage_of_a_file_is_what_was_made_with_it(server):
    path = server.api("/inputs", limit=1).json()["items"][0]["path"]
    found = server.api("/lineage", file=path, group="none", max_nodes=20000).json()
    files = {n["id"] for n in found["nodes"] if n["id"].startswith("file:")}
    assert files == {f"file:{path}"}
    assert any("CorrelateStrips" in n["id"] for n in found["nodes"])


def test_no_page_says_nan(server):
    for first, second in ((A, B), ("XX.D00", "XX.D13")):
        text = server.ask(f"/c/demo/pair/{first}/{second}").text
        assert ">nan" not in text.lower()
