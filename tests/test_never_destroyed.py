"""Nothing that may be the only copy of a result is destroyed, whatever happens to archive, list and ledger."""

import dataclasses
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from archives import sds_path, settings, station_list, write
from conftest import accounts_of

from xcorr import results
from xcorr.campaign.compact import compact
from xcorr.campaign.run import run_campaign
from xcorr.core.errors import XcorrError
from xcorr.pes.storing.shards import ShardBusy
from xcorr.store.folder import CampaignError
from xcorr.store.ledger_reader import LedgerError
from xcorr.store.verify import problems

CODES = ("AAA", "BBB", "CCC")
ELSEWHERE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from archives import settings
from xcorr.campaign.run import run_campaign
from xcorr.pes.storing.shards import ShardBusy

folder = Path(sys.argv[2])
try:
    run_campaign(folder / "stations.txt", folder / "x.xcorr", settings(folder / "sds"))
except ShardBusy as error:
    print(error)
"""


@pytest.fixture
def made(tmp_path):
    """An archive of three stations and one day, and a campaign of its two chunks."""
    for code in (*CODES, "DDD"):
        write(tmp_path / "sds", code)
    how = settings(tmp_path / "sds")
    run_campaign(station_list(tmp_path, *CODES), tmp_path / "x.xcorr", how)
    return tmp_path, how


def held(folder):
    """What the results hold: series and windows by pair, and the accounts that have windows."""
    with results.open(folder) as found:
        pairs = found.pairs[["station_1", "station_2"]].itertuples(index=False, name=None)
        series = {p: found.get(*p, stack=None) for p in pairs}
        return {p: (s.values.tobytes(), s.coords["n_windows"].values.tolist()) for p, s in series.items()}


def windows(finished):
    return {(a["slot"], a["chunk"]): a["windows"].get("used", 0) for a in accounts_of(finished.folder)}


def go_on(made, *codes, refresh=False):
    folder, how = made
    return run_campaign(station_list(folder, *codes), folder / "x.xcorr", how, refresh=refresh)


def nothing_lost(before, after):
    return all(after[pair] == value for pair, value in before.items())


def test_a_flag_flipped_in_the_ledger_removes_no_shard(made):
    folder, _ = made
    before = held(folder / "x.xcorr")
    with sqlite3.connect(folder / "x.xcorr" / "ledger.sqlite") as ledger:
        ledger.execute("UPDATE shard SET kept = 0")
    finished = go_on(made, *CODES)
    assert finished.exit_code == 0
    assert len(list((folder / "x.xcorr" / "shards").glob("*.h5"))) == 2
    assert held(folder / "x.xcorr") == before


def test_a_damaged_shard_is_set_aside(made):
    folder, _ = made
    before = held(folder / "x.xcorr")
    shard = sorted((folder / "x.xcorr" / "shards").glob("*.h5"))[0]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    finished = go_on(made, *CODES)
    assert f"aside/{shard.name}.0" in finished.report["repaired"][0]
    assert finished.report["aside"] == [f"{shard.name}.0"]
    assert (folder / "x.xcorr" / "aside" / f"{shard.name}.0").read_bytes() == content
    assert held(folder / "x.xcorr") == before


def test_a_damaged_ledger_is_set_aside(made):
    folder, _ = made
    before = held(folder / "x.xcorr")
    (folder / "x.xcorr" / "ledger.sqlite").write_bytes(b"no database" * 1000)
    go_on(made, *CODES)
    assert (folder / "x.xcorr" / "aside" / "ledger.sqlite.0").read_bytes() == b"no database" * 1000
    assert held(folder / "x.xcorr") == before
    assert list(problems(folder / "x.xcorr")) == []


@pytest.mark.parametrize("how", ["open elsewhere", "a failing disk"])
def test_a_shard_that_cannot_be_read_now_is_no_damaged_one(made, monkeypatch, how):
    folder, _ = made
    shards = sorted((folder / "x.xcorr" / "shards").glob("*.h5"))
    before = [p.read_bytes() for p in shards]
    for path in shards:
        path.touch()  # so that it is read again
    if how == "open elsewhere":
        with h5py.File(shards[0], "r+"):
            command = [sys.executable, "-c", ELSEWHERE, str(Path(__file__).parent), str(folder)]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert re.match(".* cannot be read now: .*nothing was changed, try again later", said)
    else:

        def fail(name, item):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr("xcorr.pes.storing.shards.read_all", fail)
        with pytest.raises(ShardBusy, match="Input/output error; nothing was changed"):
            go_on(made, *CODES)
    assert [p.read_bytes() for p in shards] == before
    assert not (folder / "x.xcorr" / "aside").exists()


def test_a_file_that_was_emptied_takes_nothing_away(made):
    folder, _ = made
    before, first = held(folder / "x.xcorr"), windows(go_on(made, *CODES))
    sds_path(folder / "sds", "AAA").write_bytes(b"")
    for _ in range(2):
        finished = go_on(made, *CODES, refresh=True)
        assert held(folder / "x.xcorr") == before
        assert windows(finished) == first
        assert len(finished.report["stale"]) == 2, "one channel in two chunks"
        assert "the inputs now give 0" in finished.report["stale"][0]
        assert finished.report["windows"]["used"] == sum(first.values())


def test_a_truncated_file_takes_nothing_away(made):
    folder, _ = made
    before = held(folder / "x.xcorr")
    path = sds_path(folder / "sds", "BBB")
    path.write_bytes(path.read_bytes()[: 3 * path.stat().st_size // 5 // 4096 * 4096])
    finished = go_on(made, *CODES, refresh=True)
    assert held(folder / "x.xcorr") == before
    assert finished.report["stale"]


def test_files_that_left_the_archive_take_nothing_away_when_another_is_read_again(tmp_path):
    """One channel fails; before the next run tries it again, the files of the others are purged."""
    for code in CODES:
        write(tmp_path / "sds", code)
    good = sds_path(tmp_path / "sds", "CCC").read_bytes()
    sds_path(tmp_path / "sds", "CCC").write_bytes(b"garbage" * 1000)
    made = tmp_path, settings(tmp_path / "sds")
    first = go_on(made, *CODES)
    assert first.exit_code == 3
    before = held(tmp_path / "x.xcorr")[("XX.AAA", "XX.BBB")]
    sds_path(tmp_path / "sds", "CCC").write_bytes(good)
    sds_path(tmp_path / "sds", "BBB").write_bytes(b"")
    finished = go_on(made, *CODES)
    after = held(tmp_path / "x.xcorr")
    assert after[("XX.AAA", "XX.BBB")] == before
    assert np.sum(after[("XX.AAA", "XX.CCC")][1]) > 0, "what came is used"
    assert {a for a, n in windows(finished).items() if n} == {(f"XX.{c}.Z", k) for c in CODES for k in (0, 1)}


def test_a_station_added_after_files_were_purged_takes_nothing_away(made):
    folder, _ = made
    before, first = held(folder / "x.xcorr"), windows(go_on(made, *CODES))
    sds_path(folder / "sds", "AAA").write_bytes(b"")
    finished = go_on(made, *CODES, "DDD")
    assert nothing_lost(before, held(folder / "x.xcorr"))
    now = windows(finished)
    assert {key: now[key] for key in first} == first, "the report tells what is in the results"
    assert list(problems(folder / "x.xcorr")) == []


def test_better_inputs_replace_what_was_poorer(made):
    """What is kept is only what is better."""
    folder, _ = made
    whole = sds_path(folder / "sds", "BBB").read_bytes()
    before = held(folder / "x.xcorr")
    other = folder / "y.xcorr"
    sds_path(folder / "sds", "BBB").write_bytes(whole[: len(whole) // 2 // 4096 * 4096])
    poor = run_campaign(station_list(folder, *CODES), other, made[1])
    assert poor.report["windows"]["used"] < 3 * 12
    sds_path(folder / "sds", "BBB").write_bytes(whole)
    run_campaign(station_list(folder, *CODES), other, made[1], refresh=True)
    assert held(other) == before


def test_results_older_than_the_shards_are_named_and_mended(made):
    folder, _ = made
    old = (folder / "x.xcorr" / "xcorr.h5").read_bytes()
    report = (folder / "x.xcorr" / "report.json").read_bytes()
    go_on(made, *CODES, "DDD")
    after = held(folder / "x.xcorr")
    (folder / "x.xcorr" / "xcorr.h5").write_bytes(old)
    (folder / "x.xcorr" / "report.json").write_bytes(report)
    said = list(problems(folder / "x.xcorr"))
    assert said == ["xcorr.h5: older than the shards, or of others", "report.json: older than the shards, or of others"]
    go_on(made, *CODES, "DDD")
    assert list(problems(folder / "x.xcorr")) == []
    assert held(folder / "x.xcorr") == after


def test_shards_that_were_exchanged_are_named_and_mended(made):
    folder, _ = made
    before = held(folder / "x.xcorr")
    one, two = sorted((folder / "x.xcorr" / "shards").glob("*.h5"))
    contents = one.read_bytes(), two.read_bytes()
    one.write_bytes(contents[1])
    two.write_bytes(contents[0])
    said = list(problems(folder / "x.xcorr"))
    assert [f"{p.name}: holds another strip or chunk than its name says" for p in (one, two)] == said[:2]
    finished = go_on(made, *CODES)
    assert finished.report["shards_kept"] == 2, "nothing is computed again"
    assert finished.report["aside"] == []
    assert list(problems(folder / "x.xcorr")) == []
    assert held(folder / "x.xcorr") == before


@pytest.mark.parametrize("content", [b"no database" * 1000, b""])
def test_a_damaged_provenance_store_is_named_and_set_aside(made, content):
    folder, _ = made
    store = folder / "x.xcorr" / "provenance" / "store.sqlite"
    whole = store.read_bytes()
    store.write_bytes(content or whole[: len(whole) // 2])
    assert [p for p in problems(folder / "x.xcorr") if p.startswith("provenance/store.sqlite: damaged")]
    assert go_on(made, *CODES).exit_code == 0
    assert (folder / "x.xcorr" / "aside" / "store.sqlite.0").exists()
    assert list(problems(folder / "x.xcorr")) == []


@pytest.mark.parametrize("name", ["report.json", "report.html", "xcorr.h5"])
def test_what_is_missing_is_named_and_mended(made, name):
    folder, _ = made
    (folder / "x.xcorr" / name).unlink()
    assert f"{name}: missing" in list(problems(folder / "x.xcorr"))
    go_on(made, *CODES)
    assert list(problems(folder / "x.xcorr")) == []


def rot(path):
    """Flip a bit of the accounts of a shard, which keeps its size and time of change."""
    times = path.stat()
    with h5py.File(path) as file:
        at = file["accounts"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[at + 5] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_bits_that_rot_in_a_shard_that_is_done_again_end_no_run(made):
    """The shard looks unchanged, so that only the one who joins the new with the old sees it."""
    folder, _ = made
    before = held(folder / "x.xcorr")
    shard = sorted((folder / "x.xcorr" / "shards").glob("*.h5"))[0]
    rot(shard)
    write(folder / "sds", "AAA")  # the same samples, another time
    assert go_on(made, *CODES, refresh=True).exit_code == 0
    assert (folder / "x.xcorr" / "aside" / f"{shard.name}.0").exists()
    assert held(folder / "x.xcorr") == before
    assert list(problems(folder / "x.xcorr")) == []


def test_bits_that_rot_beside_a_damaged_shard_end_no_run(tmp_path):
    """The accounts of a chunk are taken from the shards that are left; one of these may be damaged too."""
    codes = [f"S{k:02d}" for k in range(12)]
    for code in codes:
        write(tmp_path / "sds", code)
    made = tmp_path, settings(tmp_path / "sds")
    go_on(made, *codes)
    before = held(tmp_path / "x.xcorr")
    one, two = sorted((tmp_path / "x.xcorr" / "shards").glob("*.h5"))[:2]
    assert one.name[:15] == two.name[:15], "two strips of a chunk"
    one.write_bytes(one.read_bytes()[:1000])
    rot(two)
    finished = go_on(made, *codes)
    assert finished.exit_code == 0
    assert sorted(finished.report["aside"]) == [f"{one.name}.0", f"{two.name}.0"]
    assert held(tmp_path / "x.xcorr") == before
    assert list(problems(tmp_path / "x.xcorr")) == []


@pytest.mark.parametrize("how", ["garbage", "a flipped row"])
def test_a_ledger_that_nothing_can_restore_is_not_begun_anew(tmp_path, how):
    """Without series the ledger alone knows what was made: a new one would have everything done again, or lost."""
    for code in CODES:
        write(tmp_path / "sds", code)
    lean = settings(tmp_path / "sds", stack={"keep_series": False})
    run_campaign(station_list(tmp_path, *CODES), tmp_path / "x.xcorr", lean)
    ledger, stacks = tmp_path / "x.xcorr" / "ledger.sqlite", (tmp_path / "x.xcorr" / "xcorr.h5").read_bytes()
    if how == "garbage":
        ledger.write_bytes(b"no database" * 1000)
    else:
        with sqlite3.connect(ledger) as database:
            database.execute("UPDATE channel_chunk SET samples = samples + 1")
    harmed = ledger.read_bytes()
    with pytest.raises(LedgerError, match="no shards to restore it from"):
        run_campaign(station_list(tmp_path, *CODES), tmp_path / "x.xcorr", lean)
    assert ledger.read_bytes() == harmed
    assert (tmp_path / "x.xcorr" / "xcorr.h5").read_bytes() == stacks


def test_a_damaged_shard_makes_no_result_older(made):
    folder, _ = made
    shard = sorted((folder / "x.xcorr" / "shards").glob("*.h5"))[0]
    shard.write_bytes(shard.read_bytes()[:1000])
    (said,) = problems(folder / "x.xcorr")
    assert said.startswith(f"{shard.name}: damaged")


def test_new_stacks_are_never_of_less(made, invoke):
    folder, _ = made
    shard = sorted((folder / "x.xcorr" / "shards").glob("*.h5"))[0]
    before = held(folder / "x.xcorr")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    for _ in range(2):
        done = invoke("stack", folder / "x.xcorr", "--set", 'stack.methods=["linear","pws"]')
        assert done.exit_code == 1
        assert "1 shard(s) are lacking, or were damaged and set aside; repeat xcorr run" in done.output
    go_on(made, *CODES)
    assert held(folder / "x.xcorr") == before
    assert invoke("stack", folder / "x.xcorr", "--set", 'stack.methods=["linear","pws"]').exit_code == 0


def test_a_file_that_can_no_longer_be_read_is_an_error_until_it_can(made):
    folder, _ = made
    before, path = held(folder / "x.xcorr"), sds_path(folder / "sds", "BBB")
    good = path.read_bytes()
    path.write_bytes(b"garbage" * 1000)
    for refresh in (True, False, False):
        finished = go_on(made, *CODES, refresh=refresh)
        assert finished.exit_code == 3, "somebody has to look"
        assert len(finished.report["stale"]) == len(finished.report["errors"]) == 2
        assert held(folder / "x.xcorr") == before
    path.write_bytes(good)
    finished = go_on(made, *CODES)
    assert (finished.exit_code, finished.report["stale"], finished.report["errors"]) == (0, [], [])
    assert held(folder / "x.xcorr") == before


@pytest.mark.parametrize("how", ["lost", "emptied", "altered"])
def test_settings_that_were_lost_let_no_others_in(made, how):
    folder, settings_made = made
    before, toml = held(folder / "x.xcorr"), folder / "x.xcorr" / "campaign.toml"
    text = toml.read_text()
    if how == "lost":
        toml.unlink()
    else:
        toml.write_text("" if how == "emptied" else text.replace("kurtosis = 0.0", "kurtosis = 9.0"))
    said = []
    try:
        said += problems(folder / "x.xcorr")
    except XcorrError as error:
        said.append(str(error))
    assert any("campaign.toml" in line for line in said)
    other = dataclasses.replace(settings_made, window=dataclasses.replace(settings_made.window, step_s=300.0))
    shards = sorted(p.read_bytes() for p in (folder / "x.xcorr" / "shards").iterdir())
    with pytest.raises(CampaignError, match="holds a campaign with other settings"):
        run_campaign(station_list(folder, *CODES), folder / "x.xcorr", other)
    assert sorted(p.read_bytes() for p in (folder / "x.xcorr" / "shards").iterdir()) == shards
    finished = go_on(made, *CODES)
    assert finished.report["shards_kept"] == 2
    assert held(folder / "x.xcorr") == before
    assert toml.read_text() == text
    assert list(problems(folder / "x.xcorr")) == []


def test_a_quick_look_names_what_changed_or_is_missing(made, invoke):
    folder, _ = made
    assert list(problems(folder / "x.xcorr", quick=True)) == []
    shard = sorted((folder / "x.xcorr" / "shards").iterdir())[0]
    os.utime(shard)
    (folder / "x.xcorr" / "report.html").unlink()
    told = invoke("verify", "--quick", folder / "x.xcorr")
    assert told.exit_code == 1
    assert told.output.splitlines()[:2] == [
        f"{shard.name}: not in the ledger, or changed since",
        "report.html: missing, or changed since the last run",
    ]
    go_on(made, *CODES)
    assert invoke("verify", "--quick", folder / "x.xcorr").output == "everything is there\n"


def test_a_run_with_nothing_to_do_does_not_bless_what_has_rotted(made):
    folder, _ = made
    path = folder / "x.xcorr" / "campaign.toml"
    status, text = path.stat(), path.read_text()
    path.write_text(text.replace("# software: ", "# softwbre: "))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert list(problems(folder / "x.xcorr")) == ["campaign.toml: damaged, or not what the last run made"]
    go_on(made, *CODES)
    assert path.read_text() == text
    assert list(problems(folder / "x.xcorr")) == []


@pytest.mark.parametrize("name", ["shard", "xcorr.h5", "sums.h5"])
def test_what_rots_unseen_is_mended_once_verify_has_named_it(tmp_path, name):
    for code in CODES:
        write(tmp_path / "sds", code)
    how = settings(tmp_path / "sds", data={"chunk_s": 600}, window={"length_s": 100.0, "step_s": 100.0})
    folder = tmp_path / "x.xcorr"
    run_campaign(station_list(tmp_path, *CODES), folder, how)
    before = held(folder)
    path = sorted((folder / "shards").iterdir())[2] if name == "shard" else folder / name
    place = {"shard": "series/ZZ", "xcorr.h5": "stacks/linear/ZZ/mean", "sums.h5": "ZZ/weighted"}[name]
    with h5py.File(path) as file:
        at = file[place].id.get_chunk_info(0).byte_offset
    data, status = bytearray(path.read_bytes()), path.stat()
    data[at + 7] ^= 8
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert any(line.startswith(f"{path.name}: damaged") for line in list(problems(folder)))
    run_campaign(station_list(tmp_path, *CODES), folder, how)
    assert list(problems(folder)) == []
    assert held(folder) == before
    assert not (folder / "doubts.json").exists()


def test_settings_that_are_not_text_any_more_are_written_again(made):
    folder, _ = made
    path = folder / "x.xcorr" / "campaign.toml"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"# software: x", b"# software: \xf8"))
    assert path.read_bytes() != whole
    go_on(made, *CODES)
    assert path.read_bytes() == whole


def touched(folder):
    """Give all shards another time of change, as a copy has."""
    for path in (folder / "shards").iterdir():
        os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("spoil", ["altered", "empty"])
@pytest.mark.parametrize(
    "arguments", [("compact",), ("stack", "--set", 'stack.methods=["linear", "pws"]'), ("monitor",), ("dispersion",)]
)
def test_an_altered_campaign_file_condemns_no_shard(made, invoke, spoil, arguments):
    root, how = made
    folder, mark = root / "x.xcorr", root / "x.xcorr" / "campaign.toml"
    before, text = sorted((p.name, p.read_bytes()) for p in (folder / "shards").iterdir()), mark.read_text()
    mark.write_text("" if spoil == "empty" else text.replace("max_lag_s = ", "max_lag_s = 1"))
    assert mark.read_text() != text
    touched(folder)
    done = invoke(arguments[0], folder, *arguments[1:])
    assert done.exit_code != 0
    assert "campaign.toml" in done.output
    assert sorted((p.name, p.read_bytes()) for p in (folder / "shards").iterdir()) == before
    assert run_campaign(root / "stations.txt", folder, how).exit_code == 0
    assert mark.read_text() == text
    assert list(problems(folder)) == []


@pytest.mark.parametrize("spoil", ["altered", "empty"])
def test_an_altered_campaign_file_says_nothing_about_the_data(made, invoke, tmp_path, spoil):
    root, _ = made
    folder, mark = root / "x.xcorr", root / "x.xcorr" / "campaign.toml"
    mark.write_text("" if spoil == "empty" else mark.read_text().replace("max_lag_s = ", "max_lag_s = 1"))
    for command in (
        ("merge", folder, "-o", tmp_path / "merged.xcorr"),
        ("archive", folder, tmp_path / "archive"),
        ("plot", folder, "--availability", "-o", tmp_path / "a.png"),
    ):
        done = invoke(*command)
        assert done.exit_code != 0, command
        assert "campaign.toml was altered or is damaged" in done.output
    assert not (tmp_path / "merged.xcorr").exists()
    assert any("campaign.toml" in line for line in problems(folder))


def test_a_single_shard_of_another_campaign_is_set_aside(made, tmp_path):
    root, how = made
    folder = root / "x.xcorr"
    other = settings(root / "sds", correlate={"max_lag_s": 20.0})
    run_campaign(root / "stations.txt", root / "y.xcorr", other)
    shard = sorted((folder / "shards").iterdir())[0]
    expected = shard.read_bytes()
    shard.write_bytes((root / "y.xcorr" / "shards" / shard.name).read_bytes())
    finished = run_campaign(root / "stations.txt", folder, how)
    assert any("made with other settings" in line for line in finished.report["repaired"])
    assert shard.stat().st_size == len(expected)
    assert list(problems(folder)) == []


@pytest.mark.parametrize("text", ["", "[]", "null", "5", '"x"', "\ud83d"])
def test_a_damaged_report_stops_nobody(made, invoke, text):
    root, _ = made
    folder = root / "x.xcorr"
    (folder / "report.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    for command in ("info", "verify"):
        done = invoke(command, folder)
        assert "report.json: damaged" in done.output, command
        assert done.exit_code == (command == "verify")


def test_an_archive_that_was_moved_has_not_changed(made):
    root, _ = made
    (root / "sds").rename(root / "elsewhere")
    finished = run_campaign(root / "stations.txt", root / "x.xcorr", settings(root / "elsewhere"))
    assert finished.exit_code == 0
    assert finished.report["warnings"] == []


@pytest.mark.parametrize("given", ["events.csv", "./events.csv", "absolute"])
def test_a_catalogue_has_one_identity_by_whatever_path_it_is_named(tmp_path, monkeypatch, given):
    """The identity of a campaign has the path as it was given, its file the absolute path."""
    for code in CODES:
        write(tmp_path / "sds", code)
    (tmp_path / "events.csv").write_text("time,magnitude\n2024-02-29T20:00:00,8\n")
    monkeypatch.chdir(tmp_path)
    listed, folder, named = station_list(tmp_path, *CODES), tmp_path / "x.xcorr", str(tmp_path / "events.csv")
    first = settings(tmp_path / "sds", quality={"catalogue": named if given == "absolute" else given})
    run_campaign(listed, folder, first)
    assert list(problems(folder)) == []
    before = len(list((folder / "shards").iterdir()))
    touched(folder)
    assert compact(folder) == (before, 1)
    for again in {named, given} - {"absolute"}:
        assert run_campaign(listed, folder, settings(tmp_path / "sds", quality={"catalogue": again})).exit_code == 0
    assert list(problems(folder)) == []
    assert list(folder.glob("aside/*")) == []
