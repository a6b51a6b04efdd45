"""Archives: what was selected or kept, as a folder, an SDS tree, an RO-Crate; checksums, resuming, provenance."""

import contextlib
import hashlib
import io
import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import obspy
import obspy.clients.filesystem.sds
import pytest
import xarray
from archives import settings, station_list, write
from conftest import ROOT
from web_server import serving

from xcorr import results
from xcorr.campaign import archive as module
from xcorr.campaign.archive import What, archive
from xcorr.campaign.run import run_campaign
from xcorr.provenance import history
from xcorr.provenance.destination import ArchiveError, Destination
from xcorr.provenance.store import reading
from xcorr.results.export import ExportError
from xcorr.results.selection import Selection
from xcorr.settings.toml import build, load
from xcorr.store.verify import problems

TERMS = """
    about hasPart mainEntity mentions name description datePublished license version identifier url encodingFormat
    contentSize programmingLanguage runtimePlatform instrument agent startTime endTime actionStatus object result error
    softwareVersion Dataset CreativeWork Person CreateAction SoftwareApplication SoftwareSourceCode ComputerLanguage
"""
CONTEXT = {  # of RO-Crate 1.1, the terms that are used here: https://w3id.org/ro/crate/1.1/context
    **{term: f"http://schema.org/{term}" for term in TERMS.split()},
    "File": "http://schema.org/MediaObject",
    "conformsTo": "http://purl.org/dc/terms/conformsTo",
    "ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow",
    "sha256": "https://w3id.org/ro/terms/workflow-run#sha256",
}


@pytest.fixture
def campaign(demo, tmp_path):
    shutil.copytree(demo, tmp_path / "c.xcorr")
    return tmp_path / "c.xcorr"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    place = tmp_path_factory.mktemp("kept")
    plain = load(ROOT / "configs" / "demo" / "xcorr.toml")
    plain["keep"] = [
        {"element": "ReadStation", "condition": "station == 'XX.D05'"},
        {"element": "ConditionStation", "condition": "station in ['XX.D05', 'XX.D06']"},
        {"element": "ConditionStation", "condition": "station == 'XX.D01'", "folder": f"file://{place}/far"},
    ]
    assert run_campaign(ROOT / "configs" / "demo" / "stations.txt", place / "k.xcorr", build(plain)).exit_code == 0
    return place / "k.xcorr"


def manifest(folder):
    lines = (Path(folder) / "manifest-sha256.txt").read_text().splitlines()
    return dict(line.split("  ")[::-1] for line in lines)


def check(folder):
    """Compare every file with the manifest, and the manifest with the files."""
    listed = manifest(folder)
    files = {str(p.relative_to(folder)): p for p in Path(folder).rglob("*") if p.is_file()}
    del files["manifest-sha256.txt"]
    assert set(files) == set(listed)
    assert {n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in files.items()} == listed


def test_a_folder_has_what_export_writes(campaign, tmp_path, invoke):
    done = archive(campaign, str(tmp_path / "a"), "folder", What(selection=Selection(where="snr > 8")))
    invoke("export", campaign, "--format", "sac", "-o", tmp_path / "e", "--where", "snr > 8")
    expected = {str(p.relative_to(tmp_path / "e")): p for p in (tmp_path / "e").rglob("*.sac")}
    check(tmp_path / "a")
    assert set(manifest(tmp_path / "a")) == set(expected)
    assert done.files == len(expected) > 5
    for name, path in expected.items():
        assert (tmp_path / "a" / name).read_bytes() == path.read_bytes()
    assert list(problems(campaign)) == [], "the record of the archive does not look like damage"
    with reading(campaign) as store:
        (row,) = history.archives(store)
    assert (row["destination"], row["files"]) == (str(tmp_path / "a"), done.files)
    text = invoke("prov", campaign, "--format", "provn").output
    assert str(tmp_path / "a") in text


def test_an_archive_resumes_and_mends(campaign, tmp_path, monkeypatch):
    written = []

    class Interrupted(Exception):
        pass

    real = module.Destination.put

    def put(self, path, name):
        written.append(name)
        if len(written) == 60:
            raise Interrupted
        real(self, path, name)

    with monkeypatch.context() as patch:
        patch.setattr(module.Destination, "put", put)
        with pytest.raises(Interrupted):
            archive(campaign, str(tmp_path / "a"), "folder", What())
    again = archive(campaign, str(tmp_path / "a"), "folder", What())
    assert again.there >= 50
    assert again.files == 78
    check(tmp_path / "a")
    victim = next((tmp_path / "a").rglob("*.sac"))
    victim.write_bytes(victim.read_bytes()[:-4] + b"\x00\x00\x00\x01")
    third = archive(campaign, str(tmp_path / "a"), "folder", What())
    assert third.there == 77, "a file that was changed there is written again"
    check(tmp_path / "a")


def test_an_object_store(campaign, tmp_path):
    import fsspec

    done = archive(campaign, "memory://bucket/prefix", "folder", What(kind="netcdf"))
    assert (done.files, done.there) == (1, 0)
    assert archive(campaign, "memory://bucket/prefix", "folder", What(kind="netcdf")).files == 1
    (tmp_path / "x.nc").write_bytes(fsspec.filesystem("memory").cat_file("/bucket/prefix/correlations.nc"))
    with results.open(campaign) as r, xarray.open_dataset(tmp_path / "x.nc", engine="h5netcdf") as found:
        assert found["correlation"].shape == (78, len(r.lags_s))


def test_kept_items_go_to_an_archive_and_to_addresses(kept, tmp_path):
    far = sorted((kept.parent / "far").glob("k-*/ConditionStation/*.mseed"))
    assert len(far) == 4
    with reading(kept) as store:
        rows = history.kept(store)
    of_far = {Path(r["path"]).name: r["sha256"] for r in rows if "://" in r["path"]}
    assert {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in far} == of_far
    done = archive(kept, str(tmp_path / "a"), "folder", What(kept=True))
    assert (done.files, done.elsewhere) == (12, 4)
    check(tmp_path / "a")
    assert not list(kept.rglob("*.part"))


def test_kept_waveforms_as_sds(kept, tmp_path):
    archive(kept, str(tmp_path / "s"), "sds", What(kept=True))
    check(tmp_path / "s")
    client = obspy.clients.filesystem.sds.Client(str(tmp_path / "s" / "kept" / "ConditionStation"))
    start = obspy.UTCDateTime(2024, 3, 1)
    found = client.get_waveforms("XX", "D06", "", "BHZ", start, start + 4 * 3600)
    with reading(kept) as store:
        rows = [r for r in history.kept(store) if "XX.D06" in r["path"] and "ConditionStation" in r["path"]]
    expected = obspy.Stream([t for r in rows for t in obspy.read(r["path"])])
    assert sum(len(t) for t in found) == sum(len(t) for t in expected) > 0
    values = np.concatenate([t.data for t in expected.sort()])
    assert np.concatenate([t.data for t in found.sort()]).tobytes() == values.tobytes()


def test_no_sample_is_in_two_days(tmp_path):
    start = obspy.UTCDateTime(2024, 3, 1, 23, 0, 0, 70_000)
    trace = obspy.Trace(np.arange(72_000, dtype="i4"), {"sampling_rate": 10.0, "starttime": start, "station": "A"})
    trace.write(str(tmp_path / "x.mseed"), format="MSEED")
    items = [(tmp_path / "x.mseed", {})]
    days = [obspy.read(str(path)) for _, path, _ in map(copied, module._as_sds(tmp_path, items, tmp_path))]
    assert np.concatenate([t.data for day in days for t in day]).tolist() == list(range(72_000))


def copied(named):
    """The file is only there until the next one is asked for."""
    name, path, about = named
    other = path.with_name(name.replace("/", "_"))
    shutil.copy(path, other)
    return name, other, about


def test_what_cannot_be_archived(campaign, kept, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in campaign.rglob("*")}
    for place in (campaign, campaign / "sub", campaign.parent / "c.xcorr" / ".." / "c.xcorr"):
        with pytest.raises(ArchiveError, match="lies in the campaign itself"):
            archive(campaign, str(place), "rocrate", What())
    assert {p: p.stat().st_mtime_ns for p in campaign.rglob("*")} == before
    with pytest.raises(ArchiveError, match="no item was kept"):
        archive(campaign, str(tmp_path / "a"), "folder", What(kept=True))
    with pytest.raises(ArchiveError, match="only kept waveforms"):
        archive(campaign, str(tmp_path / "a"), "sds", What())
    with pytest.raises(ArchiveError, match="cannot be opened"):
        archive(campaign, "nothing://x/y", "folder", What())
    with pytest.raises(ExportError, match="no pair with data"):
        archive(campaign, str(tmp_path / "a"), "folder", What(selection=Selection(where="snr > 1000")))
    shutil.copytree(kept, tmp_path / "moved.xcorr")
    hidden = kept.with_name("hidden")
    kept.rename(hidden)
    try:
        assert archive(tmp_path / "moved.xcorr", str(tmp_path / "b"), "folder", What(kept=True)).files == 12
        victim = next((tmp_path / "moved.xcorr" / "kept").rglob("*.mseed"))
        victim.write_bytes(victim.read_bytes()[:-1] + b"x")
        for layout in ("folder", "sds"):
            with pytest.raises(ArchiveError, match="is not what was kept"):
                archive(tmp_path / "moved.xcorr", str(tmp_path / "c"), layout, What(kept=True))
        victim.unlink()
        with pytest.raises(ArchiveError, match="was kept, and is gone"):
            archive(tmp_path / "moved.xcorr", str(tmp_path / "c"), "folder", What(kept=True))
    finally:
        hidden.rename(kept)


def test_names_that_would_be_the_same_are_refused(tmp_path):
    for code in ("A", "B", "C"):
        write(tmp_path / "sds", code)
    folder = tmp_path / "x.xcorr"
    assert run_campaign(station_list(tmp_path, "A", "B", "C"), folder, settings(tmp_path / "sds")).exit_code == 0
    import h5py

    with h5py.File(folder / "xcorr.h5", "r+") as file:
        table = file["stations"][...]
        table["id"] = [b"XX.A", b"XX.A#1", b"XX.A_1"]
        file["stations"][...] = table
    with pytest.raises(ExportError, match="two pairs would have the name"):
        archive(folder, str(tmp_path / "a"), "folder", What())
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_crate_passes_the_official_validator(campaign, tmp_path, monkeypatch, kind):
    """roc-validator, with the part of the context that is used, because there is no network here."""
    import rdflib.plugins.shared.jsonld.context as jsonld
    from rocrate_validator import services
    from rocrate_validator.models import Severity, ValidationSettings
    from rocrate_validator.utils.http import HttpRequester

    class Served:
        status_code, headers, text = 200, {"Content-Type": "application/ld+json"}, json.dumps({"@context": CONTEXT})
        content = text.encode()

        def json(self):
            return {"@context": CONTEXT}

    load_source = jsonld.source_to_json
    monkeypatch.setattr(HttpRequester, "get", lambda self, *a, **k: Served(), raising=False)

    def known(source, *a, **k):
        is_ours = "w3id.org/ro/crate" in str(source)
        return ({"@context": CONTEXT}, None) if is_ours else load_source(source, *a, **k)

    monkeypatch.setattr(jsonld, "source_to_json", known)
    place = tmp_path / "crate"
    if kind == "folder":
        archive(campaign, str(place), "rocrate", What(kind="netcdf"))
        check(place)
    else:
        with serving(campaign) as server:
            answer = server.api("/rocrate", "c")
        with zipfile.ZipFile(io.BytesIO(answer.body)) as pack:
            pack.extractall(place)
        check(place)
    found = services.validate(
        ValidationSettings(
            rocrate_uri=str(place), profile_identifier="workflow-run-crate-0.5", requirement_severity=Severity.REQUIRED
        )
    )
    assert [f"{i.check.identifier}: {i.message}" for i in found.get_issues()] == []
    from prov.model import ProvDocument

    assert len(list(ProvDocument.deserialize(str(place / "prov.json")).get_records())) > 10


def test_the_command(campaign, tmp_path, invoke):
    answer = invoke("archive", campaign, tmp_path / "a", "--pairs", "XX.D00-*.*", "--format", "mseed")
    assert answer.exit_code == 0, answer.output
    assert "12 file(s)" in answer.output
    refused = invoke("archive", campaign, campaign)
    assert refused.exit_code == 1
    assert "choose another destination" in refused.output
    subprocess.run(["sha256sum", "-c", "--quiet", "manifest-sha256.txt"], cwd=tmp_path / "a", check=True)


def test_kept_and_insist_on_the_command_line(kept, tmp_path, invoke):
    answer = invoke("archive", kept, tmp_path / "a", "--kept")
    assert "12 file(s)" in answer.output
    assert "4 item(s) are kept at other addresses" in answer.output
    for code in ("AAA", "BBB"):
        for channel in ("BHZ", "BHN", "BHE"):
            write(tmp_path / "sds", code, channel=channel)
    (tmp_path / "list.csv").write_text("network,station,latitude,longitude\nXX,AAA,40,-100\nXX,BBB,41,-100\n")
    doubtful = settings(tmp_path / "sds", correlate={"components": ["all"]})  # N and E have weights of their own
    assert run_campaign(tmp_path / "list.csv", tmp_path / "x.xcorr", doubtful).exit_code == 0
    refused = invoke("archive", tmp_path / "x.xcorr", tmp_path / "b", "--components", "TT")
    assert refused.exit_code == 1
    assert "insist" in refused.output
    assert not (tmp_path / "b").exists()
    assert invoke("archive", tmp_path / "x.xcorr", tmp_path / "b", "--components", "TT", "--insist").exit_code == 0
    check(tmp_path / "b")


def test_days_are_made_one_after_another(tmp_path):
    """Two items that share a day, and one over midnight: each sample once, in the file of its day."""
    start = obspy.UTCDateTime(2024, 3, 1, 22)
    for k in range(3):
        data = np.arange(k * 36_000, (k + 1) * 36_000, dtype="i4")
        header = {"sampling_rate": 10.0, "starttime": start + k * 3600 + 0.03, "station": "A", "network": "XX"}
        obspy.Trace(data, header).write(str(tmp_path / f"{k}.mseed"), format="MSEED")
    items = [(tmp_path / f"{k}.mseed", {}) for k in range(3)]
    days = [(name, obspy.read(str(path))) for name, path, _ in map(copied, module._as_sds(tmp_path, items, tmp_path))]
    assert [name[-3:] for name, _ in days] == ["061", "062"]
    assert np.concatenate([t.data for _, day in days for t in day]).tolist() == list(range(108_000))
    assert all(t.stats.starttime.julday == int(name[-3:]) for name, day in days for t in day)


def test_destinations_in_campaigns_are_refused(campaign, kept, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in kept.rglob("*")}
    for place in (kept, kept / "kept", f"file://{kept}", f"file://localhost{kept}/x"):
        with pytest.raises(ArchiveError, match="lies in another campaign"):
            archive(campaign, str(place), "folder", What())
    with pytest.raises(ArchiveError, match="lies in the campaign itself"):
        archive(campaign, f"file://{campaign}/x", "folder", What())
    assert {p: p.stat().st_mtime_ns for p in kept.rglob("*")} == before


def test_two_rules_of_one_element_keep_apart(tmp_path):
    """Two rules may keep the same items in different folders; an archive has both."""
    plain = load(ROOT / "configs" / "demo" / "xcorr.toml")
    plain["keep"] = [
        {"element": "ConditionStation", "condition": "station == 'XX.D01'", "folder": "good"},
        {"element": "ConditionStation", "condition": "station in ['XX.D01', 'XX.D02']", "folder": "all"},
    ]
    folder = tmp_path / "two.xcorr"
    assert run_campaign(ROOT / "configs" / "demo" / "stations.txt", folder, build(plain)).exit_code == 0
    for layout, count in (("folder", 12), ("sds", None), ("rocrate", None)):
        done = archive(folder, str(tmp_path / layout), layout, What(kept=True))
        assert count in (None, done.files)
        check(tmp_path / layout)
        parts = {p.name for p in (tmp_path / layout / ("data" if layout == "rocrate" else "")).iterdir() if p.is_dir()}
        assert parts == {"good", "all"}
        assert archive(folder, str(tmp_path / layout), layout, What(kept=True)).there >= done.files - 4


def test_campaigns_that_keep_at_one_address_keep_apart(tmp_path):
    plain = load(ROOT / "configs" / "demo" / "xcorr.toml")
    plain["keep"] = [{"element": "ConditionStation", "condition": "True", "folder": f"file://{tmp_path}/far"}]
    for name, bands in (("one", [0.1, 1.0]), ("two", [0.2, 0.8])):
        plain["condition"]["band_hz"] = bands
        folder = tmp_path / f"{name}.xcorr"
        assert run_campaign(ROOT / "configs" / "demo" / "stations.txt", folder, build(plain)).exit_code == 0
        with reading(folder) as store:
            for row in history.kept(store):
                assert (
                    hashlib.sha256(Path(row["path"].removeprefix("file://")).read_bytes()).hexdigest() == row["sha256"]
                )
    with reading(tmp_path / "one.xcorr") as store:  # still as they were kept
        for row in history.kept(store):
            assert hashlib.sha256(Path(row["path"].removeprefix("file://")).read_bytes()).hexdigest() == row["sha256"]


def test_lost_kept_items_are_told_and_kept_again(kept, tmp_path, invoke):
    folder = tmp_path / "l.xcorr"
    shutil.copytree(kept, folder)
    gone, altered = sorted((folder / "kept" / "ConditionStation").glob("*.mseed"))[:2]
    digest = {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in (gone, altered)}
    gone.unlink()
    altered.write_bytes(altered.read_bytes()[:-1] + b"x")
    with pytest.raises(ArchiveError, match=r"remove shards/\S+_\*\.h5"):
        archive(folder, str(tmp_path / "a"), "folder", What(kept=True))
    told = invoke("verify", folder)
    assert f"note: {gone}: was kept, and is gone" in told.output
    assert f"note: {altered}: is not what was kept" in told.output
    for path in (gone, altered):
        for shard in (folder / "shards").glob(f"{path.name.partition('.')[0]}_*.h5"):
            shard.unlink()
    again = run_campaign(ROOT / "configs" / "demo" / "stations.txt", folder, build(load(folder / "campaign.toml")))
    assert again.exit_code == 0
    assert {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in (gone, altered)} == digest
    assert archive(folder, str(tmp_path / "a"), "folder", What(kept=True)).files == 12


def test_two_archives_at_once_in_one_folder(campaign, tmp_path):
    with contextlib.closing(Destination(str(tmp_path / "a"))) as other:
        other.hold()
        with pytest.raises(ArchiveError, match="another archive is being written there"):
            archive(campaign, str(tmp_path / "a"), "folder", What())
    assert archive(campaign, str(tmp_path / "a"), "folder", What(kind="netcdf")).files == 1
    archive(campaign, str(tmp_path / "a"), "folder", What())
    check(tmp_path / "a")


def test_a_campaign_that_cannot_be_written_is_archived_with_a_note(campaign, tmp_path, invoke, monkeypatch):
    def refused(*_):
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(module, "CampaignLock", refused)
    answer = invoke("archive", campaign, tmp_path / "a")
    assert answer.exit_code == 0
    assert "could not record this archive" in answer.output
    check(tmp_path / "a")


def test_kept_takes_no_choice_of_correlations(kept, tmp_path, invoke):
    (tmp_path / "k.xcorr").mkdir()
    for given in (("--pairs", "XX.*-XX.*"), ("--format", "mseed"), ("--insist",), ("--where", "snr > 1")):
        refused = invoke("archive", kept, tmp_path / "a", "--kept", *given)
        assert refused.exit_code == 2, given
        assert "chooses correlations" in refused.output
    shutil.copytree(kept, tmp_path / "c.xcorr")
    (tmp_path / "c.xcorr" / "xcorr.h5").unlink()
    assert invoke("archive", tmp_path / "c.xcorr", tmp_path / "a", "--kept").exit_code == 0
