"""Campaigns that are merged give the bits of one run over all lists and days; what cannot be is refused."""

import contextlib
import dataclasses
import filecmp
import json
import shutil
import sys

import h5py
import numpy as np
import obspy
import pytest
from archives import START, sds_path, settings, trace
from conftest import ROOT
from interruptions import interrupt, killed_and_repeated

from xcorr import results
from xcorr.campaign.compact import compact
from xcorr.campaign.merge import merge
from xcorr.campaign.merge_parts import MergeError
from xcorr.campaign.merge_plan import MIXED, Gathered
from xcorr.campaign.run import run_campaign
from xcorr.campaign.stack import restack
from xcorr.core import XcorrError
from xcorr.pes.items import SlotAccount
from xcorr.pes.reading.read import NO_FILE
from xcorr.pes.storing.write_shards import WriteShards
from xcorr.results.compare import differences
from xcorr.store.folder import CampaignError
from xcorr.store.ledger_reader import LedgerReader
from xcorr.store.lock import CampaignLock
from xcorr.store.report import read_report
from xcorr.store.verify import problems

DAYS = 4
AT = {
    "AAA": (10.0, 20.0),
    "BBB": (10.3, 20.1),
    "CCC": (10.1, 20.4),
    "DDD": (10.2, 20.6),
    "EEE": (30.0, 40.0),
    "FFF": (30.2, 40.0),
}
WHEN = {"BBB": {0, 1}, "DDD": {2, 3}}  # days with data; the others have all


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two components of six stations for four days, of which two have data only on some."""
    root = tmp_path_factory.mktemp("merging") / "sds"
    for k, code in enumerate(AT):
        for day in WHEN.get(code, range(DAYS)):
            for j, letter in enumerate("ZN"):
                noise = np.random.default_rng([k, day, j]).standard_normal(86_400).astype(np.float32)
                one = trace(code, noise, 1.0, f"BH{letter}", START + day * 86_400)
                one.write(str(sds_path(root, code, f"BH{letter}", 61 + day)), format="MSEED")
    return root


def listed(path, *codes):
    path.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"XX,{c},{AT[c][0]},{AT[c][1]}\n" for c in codes or AT)
    (path / "stations.csv").write_text("network,station,latitude,longitude\n" + lines)
    return path / "stations.csv"


def how(archive, first, last, **sections):
    limits = {"start": f"2024-03-{first + 1:02d}", "end": f"2024-03-{last + 1:02d}", "chunk_s": 86_400}
    plain = {
        "condition": {"rate_hz": 1.0, "band_hz": [0.05, 0.4], "response": "none"},
        "window": {"length_s": 7200.0, "step_s": 7200.0},
        "correlate": {"max_lag_s": 30.0, "block": 8, "components": ["ZZ", "ZN", "NN"]},
        "stack": {"substack_s": 43_200, "methods": ["linear", "pws"]},
    }
    for section, keys in sections.items():
        plain[section] = plain[section] | keys
    return settings(archive, data=limits | {"channels": ["BH?"]}, **plain)


def made(archive, place, first, last, *codes, **sections):
    """Run a campaign of some days and stations; return its folder."""
    finished = run_campaign(listed(place, *codes), place / "x.xcorr", how(archive, first, last, **sections))
    assert finished.exit_code in (0, 3)
    return finished.folder


@pytest.fixture(scope="module")
def whole(archive, tmp_path_factory):
    return made(archive, tmp_path_factory.mktemp("whole"), 0, DAYS)


@pytest.fixture(scope="module")
def months(archive, tmp_path_factory):
    """The same as two campaigns; BBB is only in the first of them, DDD only in the second."""
    root = tmp_path_factory.mktemp("months")
    return made(archive, root / "a", 0, 2), made(archive, root / "b", 2, DAYS)


def require_same(whole, merged):
    """The same results, shards, ledger and lines of the list. Of absent stations, less is known than one run knows."""
    assert list(differences(whole, merged)) == []
    with contextlib.closing(LedgerReader(whole)) as a, contextlib.closing(LedgerReader(merged)) as b:
        for (start, expected), (_, got) in zip(a.accounts(), b.accounts(), strict=True):
            if expected.status == "absent":
                expected = SlotAccount(expected.slot, 0, "absent", NO_FILE)
            assert got == expected, start
        present = [s for s in a.shards() if s.id in {other.id for other in b.shards()}]
        for shard in present:
            assert filecmp.cmp(whole / shard.path, merged / shard.path, shallow=False)
        assert len(present) >= len(a.shards()) - 1
        assert a.fact("members") == b.fact("members")
        assert [(r.text, r.status, r.stations) for r in a.requested()] == [
            (r.text, r.status, r.stations) for r in b.requested()
        ]
    assert list(problems(merged)) == []


@pytest.mark.parametrize("mapping", ["sequential", "processes"])
def test_days_give_the_bits_of_one_run(archive, whole, months, tmp_path, mapping):
    rosters = [len(results.open(folder).stations) for folder in months]
    assert rosters == [5, 5]
    done = merge(months, tmp_path / "m.xcorr", mapping, 2)
    assert (done.stations, done.pairs, done.chunks) == (6, 15, DAYS)
    require_same(whole, tmp_path / "m.xcorr")
    again = run_campaign(listed(tmp_path), tmp_path / "m.xcorr", how(archive, 0, DAYS))
    assert again.report["shards_kept"] == again.report["shards"] == 2 * DAYS
    assert again.report["workers"]["items"] == {}


def test_the_order_in_which_they_are_named_does_not_matter(whole, months, tmp_path):
    merge(months[::-1], tmp_path / "m.xcorr")
    require_same(whole, tmp_path / "m.xcorr")


@pytest.mark.slow
def test_merged_campaigns_merge(archive, whole, tmp_path):
    days = [made(archive, tmp_path / str(day), day, day + 1) for day in range(DAYS)]
    merge(days[:3], tmp_path / "abc.xcorr")
    merge([tmp_path / "abc.xcorr", days[3]], tmp_path / "m.xcorr")
    require_same(whole, tmp_path / "m.xcorr")


def test_pairs_give_the_bits_of_one_run(archive, tmp_path):
    """Two groups of stations that are too far from each other for pairs between them."""
    near = {"correlate": {"distance_km": [0.0, 200.0]}}
    parts = [
        made(archive, tmp_path / "near", 0, 2, "AAA", "BBB", "CCC", **near),
        made(archive, tmp_path / "far", 0, 2, "EEE", "FFF", **near),
    ]
    whole = made(archive, tmp_path / "whole", 0, 2, "AAA", "BBB", "CCC", "EEE", "FFF", **near)
    merge(parts, tmp_path / "m.xcorr")
    assert list(differences(whole, tmp_path / "m.xcorr")) == []
    with results.open(tmp_path / "m.xcorr") as merged:
        assert len(merged.pairs) == 4


@pytest.mark.slow
def test_grown_and_compacted_campaigns(archive, whole, tmp_path):
    """Stations that came later are in another order of rows; shards may be in larger files."""
    folder = made(archive, tmp_path / "a", 0, 2, "AAA", "CCC", "EEE")
    run_campaign(listed(tmp_path / "a"), folder, how(archive, 0, 2))
    compact(folder)
    other = made(archive, tmp_path / "b", 2, DAYS, "AAA", "CCC", "EEE", "BBB", "DDD", "FFF")
    merge([folder, other], tmp_path / "m.xcorr")
    with results.open(whole) as a, results.open(tmp_path / "m.xcorr") as b:
        names = list(b.stations["id"])
        assert names.index("XX.CCC") < names.index("XX.EEE") < names.index("XX.BBB")
        reversed_too = 0
        for one, two in a.pairs[["station_1", "station_2"]].itertuples(index=False):
            for components in ("ZZ", "NN"):
                expected, got = (r.get(one, two, components, None).data for r in (a, b))
                turned = names.index(one) > names.index(two)  # correlations of reversed pairs round differently
                np.testing.assert_allclose(got, expected, rtol=0, atol=1e-8 if turned else 0)
            reversed_too += names.index(one) > names.index(two)
        assert reversed_too
    assert list(problems(tmp_path / "m.xcorr")) == []


def test_an_interrupted_merge_goes_on(whole, months, tmp_path):
    folder = tmp_path / "m.xcorr"
    interrupt(lambda: merge(months, folder), WriteShards, 30)
    kept = {p: p.stat().st_mtime_ns for p in (folder / "shards").glob("*.h5")}
    assert len(kept) > 0
    merge(months, folder)
    assert all(p.stat().st_mtime_ns == kept[p] for p in kept)
    require_same(whole, folder)
    merge(months, folder)
    require_same(whole, folder)


@pytest.mark.slow
def test_a_killed_merge_goes_on(whole, months, tmp_path):
    command = [sys.executable, "-m", "xcorr", "merge", *map(str, months), "-o", str(tmp_path / "m.xcorr")]
    killed_and_repeated(command, [0.3 + 0.05 * k for k in range(20)])
    require_same(whole, tmp_path / "m.xcorr")


def test_part_of_a_chunk_is_computed_again_by_the_next_run(archive, whole, tmp_path, caplog):
    limits = ("2024-03-01", "2024-03-02T08:00:00"), ("2024-03-02T08:00:00", "2024-03-05")
    parts = []
    for k, (start, end) in enumerate(limits):
        chosen = how(archive, 0, DAYS)
        chosen = dataclasses.replace(chosen, data=dataclasses.replace(chosen.data, start=start, end=end))
        parts.append(run_campaign(listed(tmp_path / str(k)), tmp_path / str(k) / "x.xcorr", chosen).folder)
    merge(parts, tmp_path / "m.xcorr")
    assert "chunk 20240302T000000: the campaigns have other parts of it" in caplog.text
    warned = json.loads((tmp_path / "m.xcorr" / "report.json").read_text())["warnings"]
    assert any("chunk 20240302T000000: the campaigns have other parts of it" in line for line in warned)
    assert list(differences(whole, tmp_path / "m.xcorr"))
    run_campaign(listed(tmp_path), tmp_path / "m.xcorr", how(archive, 0, DAYS))
    restack(tmp_path / "m.xcorr")  # its phase-weighted stacks are behind
    assert list(differences(whole, tmp_path / "m.xcorr")) == []


def refused(parts, folder, match, kind=MergeError):
    with pytest.raises(kind, match=match):
        merge(parts, folder)
    assert not folder.exists() or kind is CampaignError


def test_what_cannot_be_merged_is_refused(archive, months, tmp_path):
    out = tmp_path / "m.xcorr"
    other = made(archive, tmp_path / "other", 2, 3, condition={"band_hz": [0.1, 0.4]})
    refused(
        [months[0], other], out, r"have other settings:\n  condition.band_hz: \(0.05, 0.4\) in the first, \(0.1, 0.4\)"
    )
    few = made(archive, tmp_path / "few", 2, 3, "AAA", "CCC")
    refused([months[0], few], out, r"the pair XX.AAA and XX.BBB is in no campaign of the chunk 20240303T000000: add b")
    turned = made(archive, tmp_path / "turned", 2, 3, "CCC", "AAA", "DDD", "EEE", "FFF")
    refused([months[0], turned], out, "XX.AAA and XX.CCC are in another order in another campaign")
    gone = tmp_path / "gone.xcorr"
    shutil.copytree(months[1], gone)
    next((gone / "shards").glob("*.h5")).unlink()
    (gone / "ledger.sqlite").unlink()
    refused([months[0], gone], out, "ledger.sqlite: missing; repeat xcorr run first")
    dropped = made(archive, tmp_path / "dropped", 2, 3, stack={"keep_series": False})
    refused([months[0], dropped], out, "its series were not kept")
    with CampaignLock(months[1]):
        refused(months, out, "a run is changing it")
    refused(months, months[0], "is read, and is not changed", CampaignError)
    refused(months, months[0] / "inside", "lies in .* which is not changed", CampaignError)
    refused(months, other, "exists; choose another folder with -o", CampaignError)
    incomplete = tmp_path / "incomplete.xcorr"
    shutil.copytree(months[1], incomplete)
    next((incomplete / "shards").glob("*.h5")).unlink()
    refused([months[0], incomplete], out, "1 shard.* lacking.*repeat xcorr run first")
    with pytest.raises(XcorrError, match="bogus"):
        merge(months, out, "bogus")
    assert not out.exists()


def test_other_places_are_refused(archive, months, tmp_path):
    listed(tmp_path / "moved")
    text = (tmp_path / "moved" / "stations.csv").read_text().replace("30.2", "30.3")
    (tmp_path / "moved" / "stations.csv").write_text(text)
    finished = run_campaign(tmp_path / "moved" / "stations.csv", tmp_path / "x.xcorr", how(archive, 2, 3))
    refused([months[0], finished.folder], tmp_path / "m.xcorr", "XX.FFF has other coordinates than")


def test_a_damaged_shard_is_named_and_nothing_is_half_done(months, tmp_path):
    bad = tmp_path / "bad.xcorr"
    shutil.copytree(months[1], bad)
    shard = sorted((bad / "shards").glob("*.h5"))[0]
    with h5py.File(shard) as file:
        place = file["series/ZZ"].id.get_chunk_info(0).byte_offset
    content = bytearray(shard.read_bytes())
    content[place + 100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(XcorrError, match=f"{shard.name}.*damaged"):
        merge([months[0], bad], tmp_path / "m.xcorr")
    assert not list(tmp_path.glob("m.xcorr/**/.*.part"))
    assert not (tmp_path / "m.xcorr" / "xcorr.h5").exists()
    shutil.copy(months[1] / "shards" / shard.name, shard)
    merge([months[0], bad], tmp_path / "m.xcorr")


def test_the_command(whole, months, tmp_path, invoke):
    done = invoke("merge", *months, "-o", tmp_path / "m.xcorr", "-m", "threads", "-n", "2")
    assert done.exit_code == 0, done.output
    assert f"wrote {tmp_path / 'm.xcorr'}: 6 stations, 15 pairs, {DAYS} chunk(s)" in done.output
    require_same(whole, tmp_path / "m.xcorr")


def test_other_data_in_the_same_folders_are_not_mixed(archive, tmp_path):
    """A repeated merge goes on only where the campaigns are what they were, and the merged one was not continued."""
    folder, out = made(archive, tmp_path / "a", 0, 2, "AAA", "CCC"), tmp_path / "m.xcorr"
    merge([folder], out)
    run_campaign(listed(tmp_path / "a", "AAA", "BBB", "CCC"), folder, how(archive, 0, 2))
    with pytest.raises(CampaignError, match="was made of other data .*, or has been continued"):
        merge([folder], out)
    merge([folder], tmp_path / "n.xcorr")
    run_campaign(listed(tmp_path / "n", "AAA", "BBB", "CCC", "EEE"), tmp_path / "n.xcorr", how(archive, 0, 2))
    with pytest.raises(CampaignError, match="was made of other data .*, or has been continued"):
        merge([folder], tmp_path / "n.xcorr")
    assert list(problems(tmp_path / "n.xcorr")) == []


def test_data_that_only_the_second_has_are_taken(archive, whole, tmp_path):
    """The first campaign was made when the archive lacked a station's data of a day that both have."""
    sparse = tmp_path / "sds"
    shutil.copytree(archive, sparse)
    for file in sparse.rglob("*.CCC..*.062"):
        file.unlink()
    first = made(sparse, tmp_path / "a", 0, 3)
    second = made(archive, tmp_path / "b", 1, DAYS)
    for order in ([first, second], [second, first]):
        merge(order, tmp_path / f"{order[0].parent.name}.xcorr")
        assert list(differences(whole, tmp_path / f"{order[0].parent.name}.xcorr")) == []


def test_campaigns_with_other_data_of_a_day_are_said(archive, tmp_path):
    """The first campaign was made when the archive had half of a station's day."""
    short = tmp_path / "sds"
    shutil.copytree(archive, short)
    for file in short.rglob("*.CCC..*.062"):
        stream = obspy.read(str(file))
        start = stream[0].stats.starttime
        stream.trim(start, start + 30_000).write(str(file), format="MSEED")
    parts = [made(short, tmp_path / "a", 0, 3), made(archive, tmp_path / "b", 1, DAYS)]
    merge(parts, tmp_path / "m.xcorr")
    (text,) = [w for w in read_report(tmp_path / "m.xcorr")["warnings"] if MIXED in w]
    assert text.startswith("2 channel(s) and chunk(s): ")
    run_campaign(listed(tmp_path / "m"), tmp_path / "m.xcorr", how(archive, 0, DAYS), refresh=True)
    assert MIXED not in str(read_report(tmp_path / "m.xcorr")["warnings"])
    merge([*parts[1:], made(archive, tmp_path / "c", 0, 3)], tmp_path / "n.xcorr")
    assert MIXED not in str(read_report(tmp_path / "n.xcorr")["warnings"])


def test_a_campaign_that_changes_while_it_is_merged_is_refused(archive, months, tmp_path, monkeypatch):
    folder = made(archive, tmp_path / "a", 0, 2, "AAA", "CCC")
    check = Gathered.check

    def changing(self):
        check(self)
        run_campaign(listed(tmp_path / "a", "AAA", "BBB", "CCC"), folder, how(archive, 0, 2))

    monkeypatch.setattr(Gathered, "check", changing)
    with pytest.raises(CampaignError, match="has changed meanwhile, so that it is of both; remove it"):
        merge([folder], tmp_path / "m.xcorr")


def test_a_station_that_had_no_pair_was_not_read(archive, tmp_path):
    near = {"correlate": {"distance_km": [0.0, 30.0]}}  # AAA and DDD are 70 km apart, BBB and AAA 35
    parts = [
        made(archive, tmp_path / "a", 0, 2, "CCC", "DDD", "EEE", "FFF", **near),
        made(archive, tmp_path / "b", 2, DAYS, "CCC", "DDD", "EEE", "FFF", **near),
    ]
    merge(parts, tmp_path / "m.xcorr")
    with contextlib.closing(LedgerReader(tmp_path / "m.xcorr")) as ledger:
        reasons = {a.reason for _, a in ledger.accounts() if a.status == "absent"}
    assert "had no pair in the campaign that was merged, which did not read it" in reasons


def test_odd_paths_and_a_lost_report(whole, months, tmp_path):
    for k, folder in enumerate(months):
        shutil.copytree(folder, tmp_path / "a#b" / f"{k}#.xcorr")
    (tmp_path / "a#b" / "0#.xcorr" / "report.json").unlink()
    (tmp_path / "a#b" / "1#.xcorr" / "report.json").write_text("[1, 2]")
    merge(sorted((tmp_path / "a#b").iterdir()), tmp_path / "m.xcorr")
    require_same(whole, tmp_path / "m.xcorr")
    report = json.loads((tmp_path / "m.xcorr" / "report.json").read_text())
    assert sum("is lost or damaged" in line for line in report["warnings"]) == 2


def test_stacks_that_one_campaign_has_are_made(archive, whole, months, tmp_path):
    """Those asked for later (xcorr stack), too."""
    first = made(archive, tmp_path / "a", 0, 2, stack={"methods": ["linear"]})
    merge([first, months[1]], tmp_path / "m.xcorr")
    assert list(differences(whole, tmp_path / "m.xcorr")) == []


@pytest.mark.parametrize("version", ["0.1.0", "folder-2"])
def test_campaigns_of_earlier_versions_merge(tmp_path, version):
    old = tmp_path / "old.xcorr"
    shutil.copytree(ROOT / "tests" / "campaigns" / version, old)
    before = {p: p.read_bytes() for p in old.rglob("*") if p.is_file()}
    merge([old], tmp_path / "m.xcorr")
    assert {p: p.read_bytes() for p in old.rglob("*") if p.is_file()} == before
    with results.open(old) as a, results.open(tmp_path / "m.xcorr") as b:
        for first, second in a.pairs[["station_1", "station_2"]].itertuples(index=False):
            np.testing.assert_array_equal(a.get(first, second, stack=None), b.get(first, second, stack=None))
    assert list(problems(tmp_path / "m.xcorr")) == []
