"""Object stores as a source: a real S3 server on the loopback, and what goes wrong between it and us."""

import numpy as np
import pytest
from archives import START, sds_path, trace, waveform, write
from conftest import ROOT, accounts_of
from object_store import BUCKET, storing

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.pes.reading.layouts import LAYOUTS, LayoutError, layout_of
from xcorr.pes.reading.s3 import S3, S3Options
from xcorr.pes.reading.source import SourceError, Wanted, open_source
from xcorr.pes.reading.waveform import DAY_NS
from xcorr.settings.toml import build, load, override

DAY = 19_783  # 2024-03-01


@pytest.fixture(scope="module")
def server():
    with storing() as store:
        store.make()
        yield store


@pytest.fixture
def store(server, monkeypatch):
    """The store of the module, without requests and faults so far."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    server.requests.clear()
    server.faults.clear()
    server.signatures.clear()
    server.most_at_once = 0
    return server


def put_tree(store, folder, prefix):
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            store.put(f"{prefix}/{path.relative_to(folder)}", path.read_bytes())


# -- layouts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "key", "name"),
    [
        ("scedc", "continuous_waveforms/2022/2022_001/CIWBM__LHZ___2022001.ms", ("CI", "WBM", "", "LHZ")),
        ("scedc", "continuous_waveforms/2016/2016_183/CIABCDEHNZ10_2016183.ms", ("CI", "ABCDE", "10", "HNZ")),
        ("ncedc", "continuous_waveforms/BK/2022/2022.002/RUSS.BK.LHZ.00.D.2022.002", ("BK", "RUSS", "00", "LHZ")),
        ("ncedc", "continuous_waveforms/BG/2023/2023.022/CLV.BG.DPN..D.2023.022", ("BG", "CLV", "", "DPN")),
        ("sds", "2024/XX/D00/BHZ.D/XX.D00..BHZ.D.2024.061", ("XX", "D00", "", "BHZ")),
        ("{year}/{month}/{day}/{net}.{sta}.{cha}.mseed", "2024/03/01/XX.A.BHZ.mseed", ("XX", "A", "", "BHZ")),
    ],
)
def test_names_of_archives(layout, key, name):
    of = layout_of(layout).name(key)
    assert of[:4] == name
    for wrong in (key + ".gz", "x" + key, key.replace("2", "x"), key.replace("/", "//", 1)):
        assert layout_of(layout).name(wrong) is None


def test_prefixes_are_folders_of_days():
    stations = [("CI", "ADO"), ("CI", "ARV")]
    assert LAYOUTS["scedc"].prefixes(stations, [DAY, DAY + 1]) == [
        "continuous_waveforms/2024/2024_061/", "continuous_waveforms/2024/2024_062/",
    ]  # fmt: skip
    assert LAYOUTS["ncedc"].prefixes([("BK", "A"), ("NC", "B")], [DAY]) == [
        "continuous_waveforms/BK/2024/2024.061/", "continuous_waveforms/NC/2024/2024.061/",
    ]  # fmt: skip
    assert LAYOUTS["sds"].prefixes([("XX", "A")], range(DAY, DAY + 300)) == ["2024/XX/A/"]
    assert LAYOUTS["sds"].prefixes([("XX", "*")], [DAY]) == ["2024/XX/"]
    assert LAYOUTS["ncedc"].prefixes([("*", "A")], [DAY]) == ["continuous_waveforms/"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scedd", "must be one of"), ("{net}/{sta}", "needs {net}"), ("{net}{sta}{cha}{year}{foo}", "not known"),
        ("{net}.{sta}.{cha}.{year}{month}", "needs {net}"),
    ],
)  # fmt: skip
def test_layouts_that_cannot_be(text, words):
    with pytest.raises(LayoutError, match=words):
        layout_of(text)


# -- the same as on disk -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mapping", ["sequential", "threads", "processes"])
def test_the_demo_from_a_store_has_the_bits_of_the_archive(store, demo, tmp_path, mapping):
    if not store.client.list_objects_v2(Bucket=BUCKET, Prefix="demo/").get("KeyCount"):
        put_tree(store, ROOT / "data" / "demo" / "sds", "demo")
    plain = load(ROOT / "configs" / "demo" / "xcorr.toml")
    given = [f"data.source='s3://{BUCKET}/demo?layout=sds'", f"run.mapping='{mapping}'", "run.workers=2"]
    assert (
        run_campaign(
            ROOT / "configs" / "demo" / "stations.txt", tmp_path / "c.xcorr", build(override(plain, given))
        ).exit_code
        == 0
    )
    with results.open(demo) as a, results.open(tmp_path / "c.xcorr") as b:
        assert a.gather().tobytes() == b.gather().tobytes()
        assert len(b.pieces) == 4
    gets = store.gets()
    files = len(list((ROOT / "data" / "demo" / "sds").rglob("*.061")))
    assert len(set(gets)) == files
    assert len(gets) == files or mapping != "sequential", "one request for each channel and day"
    assert len(store.lists()) == 15, "one for each station of the list and year"


def test_archives_of_california(store, tmp_path, real_data, monkeypatch):
    """Real recordings by their real names: the pair of SCEDC's and NCEDC's archives, with StationXML of SCEDC."""
    folder = real_data / "lhz-mseed"
    store.make("scedc-pds")
    for day in (1, 2, 3):
        name = f"CIWBM__LHZ___2022{day:03d}.ms"
        store.put(f"continuous_waveforms/2022/2022_{day:03d}/{name}", (folder / name).read_bytes(), "scedc-pds")
    store.put("FDSNstationXML/CI/CI_WBM.xml", (folder / "CI_WBM.xml").read_bytes(), "scedc-pds")
    source = open_source("s3:scedc")
    wanted = Wanted((("CI", "WBM"),), (("LH?", "*"),), (18_993) * DAY_NS, (18_996) * DAY_NS)
    index = source.index(wanted)
    assert [c.start_ns // DAY_NS for c in index.coverages["CI", "WBM"]] == [18_993, 18_994, 18_995]
    assert b"WBM" in source.metadata(wanted, True)
    store.make("ncedc-pds")
    for code in ("RUSS", "THIS", "YUBA"):
        name = f"{code}.BK.LHZ.00.D.2022.002"
        store.put(f"continuous_waveforms/BK/2022/2022.002/{name}", (folder / name).read_bytes(), "ncedc-pds")
    (tmp_path / "stations.txt").write_text("BK RUSS\nBK THIS\nBK YUBA\n")
    how = {"data": {"source": "s3:ncedc", "channels": ["LH?"], "start": "2022-01-02", "end": "2022-01-03"},
           "condition": {"rate_hz": 0.5, "band_hz": [0.02, 0.2]}}  # fmt: skip
    store.requests.clear()
    assert run_campaign(tmp_path / "stations.txt", tmp_path / "c.xcorr", build(how)).exit_code == 0
    assert len([g for g in store.gets() if "continuous" in g]) == 3
    assert len(store.lists()) == 1
    with results.open(tmp_path / "c.xcorr") as found:
        assert found.gather().shape[0] == 3
        assert np.isfinite(found.gather()).all()


# -- faults --------------------------------------------------------------------------------------------------


def archive_of(store, tmp_path, name, codes=("A", "B", "C")):
    """A day of some stations in the store, and their list."""
    for code in codes:
        write(tmp_path / "sds", code)
    put_tree(store, tmp_path / "sds", name)
    (tmp_path / "stations.txt").write_text("".join(f"XX {c}\n" for c in codes))
    return f"s3://{BUCKET}/{name}?layout=sds"


def settings_of(source, **more):
    plain = {
        "data": {"source": source, "channels": ["BH?"], "chunk_s": 7200, "start": "2024-03-01",
                 "end": "2024-03-01T02:00:00", "s3": {"retries": 1, "timeout_s": 2.0, **more}},
        "condition": {"rate_hz": 4.0, "band_hz": [0.1, 1.0]}, "window": {"length_s": 600.0, "step_s": 600.0},
        "correlate": {"max_lag_s": 30.0},
    }  # fmt: skip
    return build(plain)


@pytest.mark.parametrize(
    ("fault", "words"),
    [(403, "403"), (503, "503"), ("slow", ""), ("half", "")],
)
def test_one_object_that_cannot_be_had(store, tmp_path, fault, words):
    """It costs itself only, is told, and the next run gets it: the same bits as without the fault."""
    source = archive_of(store, tmp_path, f"fault-{fault}")
    settings = settings_of(source)
    assert run_campaign(tmp_path / "stations.txt", tmp_path / "whole.xcorr", settings).exit_code == 0
    store.faults["XX.B..BHZ"] = fault
    run_campaign(tmp_path / "stations.txt", tmp_path / "c.xcorr", settings)
    by_code = {a["seed_id"]: a for a in accounts_of(tmp_path / "c.xcorr")}
    failed = by_code["XX.B..BHZ"]
    assert failed["status"] == "failed"
    assert words in failed["reason"]
    assert by_code["XX.A..BHZ"]["status"] == "used"
    store.faults.clear()
    store.requests.clear()
    assert run_campaign(tmp_path / "stations.txt", tmp_path / "c.xcorr", settings).exit_code == 0
    assert any("XX.B" in path for path in store.gets()), "the next run tries again"
    with results.open(tmp_path / "c.xcorr") as a, results.open(tmp_path / "whole.xcorr") as b:
        assert a.gather().tobytes() == b.gather().tobytes()


def test_faults_that_pass(store, tmp_path):
    source = archive_of(store, tmp_path, "passing")
    store.faults["XX.B..BHZ"] = [503, 500]
    assert run_campaign(tmp_path / "stations.txt", tmp_path / "c.xcorr", settings_of(source, retries=4)).exit_code == 0
    assert all(a["status"] == "used" for a in accounts_of(tmp_path / "c.xcorr"))


def test_an_object_that_changed_or_went_since_it_was_listed(store, tmp_path):
    source = open_source(archive_of(store, tmp_path, "changing"), {"s3": {"retries": 0}})
    wanted = Wanted((("XX", "A"), ("XX", "B")), (("BHZ", ""),), DAY * DAY_NS, (DAY + 1) * DAY_NS)
    index = source.index(wanted)
    (a,), (b,) = index.coverages["XX", "A"], index.coverages["XX", "B"]
    key = a.path.rpartition("#")[0]
    other = trace("A", waveform(7))
    other.write(str(tmp_path / "other"), format="MSEED")
    store.put(f"changing/{key}", (tmp_path / "other").read_bytes())
    store.client.delete_object(Bucket=BUCKET, Key=f"changing/{b.path.rpartition('#')[0]}")
    with pytest.raises(OSError, match="has changed since it was listed"):
        source.read(a.path, [], DAY * DAY_NS, (DAY + 1) * DAY_NS)
    gone = source.read(b.path, [], DAY * DAY_NS, (DAY + 1) * DAY_NS)
    assert gone.waveforms == []
    assert "not there any more" in gone.notes[0]
    now = open_source(source_address(source)).index(wanted)
    assert source.fingerprint(a.path) != source.fingerprint(now.coverages["XX", "A"][0].path)
    assert source.fingerprint(a.path)[0] == key
    assert ("XX", "B") not in now.coverages


def source_address(source):
    return f"s3:{source.place}"


def test_refresh_reads_what_changed(store, tmp_path, invoke):
    source = archive_of(store, tmp_path, "refresh")
    settings = settings_of(source)
    assert run_campaign(tmp_path / "stations.txt", tmp_path / "c.xcorr", settings).exit_code == 0
    store.requests.clear()
    assert run_campaign(tmp_path / "stations.txt", tmp_path / "c.xcorr", settings, refresh=True).exit_code == 0
    assert store.gets() == [], "nothing has changed"
    trace("B", waveform(7)).write(str(sds_path(tmp_path / "sds", "B")), format="MSEED")
    put_tree(store, tmp_path / "sds", "refresh")
    assert run_campaign(tmp_path / "stations.txt", tmp_path / "c.xcorr", settings, refresh=True).exit_code == 0
    assert any("XX.B" in path for path in store.gets())
    local = settings_of(f"sds:{tmp_path / 'sds'}")
    assert run_campaign(tmp_path / "stations.txt", tmp_path / "d.xcorr", local).exit_code == 0
    with results.open(tmp_path / "c.xcorr") as a, results.open(tmp_path / "d.xcorr") as b:
        assert a.gather().tobytes() == b.gather().tobytes()


def test_a_store_that_refuses_the_list(store, tmp_path, invoke):
    archive_of(store, tmp_path, "refused")
    store.faults["list-type"] = 403
    asked = tmp_path / "stations.txt", "--source", f"s3://{BUCKET}/refused?layout=sds", "--start", "2024-03-01"
    asked += "--end", "2024-03-02", "--set", "data.s3.retries=0"
    said = invoke("run", *asked)
    assert said.exit_code == 2
    assert "403" in said.output
    assert not (tmp_path / "stations.xcorr" / "xcorr.h5").exists()
    said = invoke("doctor", *asked)
    assert said.exit_code == 1
    assert "MISSING  source" in said.output
    assert "403" in said.output
    store.faults.clear()
    assert "3 with data" in invoke("doctor", *asked).output


def test_no_credentials_in_what_is_written(store, tmp_path, monkeypatch, capfd):
    key, secret = "AKIAOPENLYSECRET", "wJalrXUtnFEMIsecretsecretsecret"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    source = archive_of(store, tmp_path, "secret")
    store.faults["XX.B..BHZ"] = 403
    run_campaign(tmp_path / "stations.txt", tmp_path / "c.xcorr", settings_of(source))
    assert any("XX.A" in path for path in store.gets())
    printed = "".join(capfd.readouterr())
    for path in [p for p in (tmp_path / "c.xcorr").rglob("*") if p.is_file()]:
        content = path.read_bytes()
        assert secret.encode() not in content, path
        assert b"Signature=" not in content, path
        assert key.encode() not in content, path
    assert key not in printed
    assert secret not in printed


def test_how_requests_are_sent(store, tmp_path, monkeypatch):
    address = archive_of(store, tmp_path, "how", "ABCDEFGH")
    wanted = Wanted((("XX", "*"),), (("BHZ", ""),), DAY * DAY_NS, (DAY + 1) * DAY_NS)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")

    def signatures(**options):
        store.signatures.clear()
        open_source(address, {"s3": options}).index(wanted)
        return " ".join(store.signatures)

    assert "us-east-1" in signatures()
    assert "eu-south-2" in signatures(region="eu-south-2")
    assert signatures(access="anonymous") == ""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(SourceError, match="AccessKeyId"):
        signatures()
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert signatures() == ""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert signatures(endpoint=store.address) == ""
    for at_once in (1, 4):
        source = open_source(address, {"s3": {"endpoint": store.address, "at_once": at_once}})
        references = [c.path for every in source.index(wanted).coverages.values() for c in every]
        store.faults["XX."] = "late"
        store.most_at_once = 0
        source.prefetch(references)
        for reference in references:
            source.read(reference, [], DAY * DAY_NS, (DAY + 1) * DAY_NS)
        assert store.most_at_once == at_once
        store.faults.clear()


# -- usage ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("s3:sced", "write s3:NAME with one of scedc, ncedc"), ("s3://bucket/x", "write s3:NAME"),
        ("s3://bucket?layout=nope", "must be one of"), ("s3://bucket?layout={net}", "needs"), ("s3:x", "write s3:NAME"),
        ("s3://bucket?layout=sds&x=1", "write s3:NAME"),
    ],
)  # fmt: skip
def test_addresses_that_cannot_be(address, words):
    with pytest.raises(SourceError, match=words):
        open_source(address)


def test_times_are_needed():
    source = S3("scedc", S3Options())
    with pytest.raises(SourceError, match="needs data.start and data.end"):
        source.index(Wanted((("CI", "ADO"),)))
    with pytest.raises(SourceError, match="too many"):
        source.index(Wanted((("CI", "ADO"),), (), 0, 10**6 * DAY_NS))


def test_the_last_record_of_the_day_before(store, tmp_path):
    """A day's file that runs on into the next day: used if it is asked for, as an archive on disk does."""
    for code in ("A", "B"):
        data = waveform(ord(code), seconds=93_600)
        path = sds_path(tmp_path / "sds", code)
        trace(code, data[:864_300]).write(str(path), format="MSEED")
        rest = trace(code, data[864_300:], start=START + 86_430)
        rest.write(str(sds_path(tmp_path / "sds", code, day=62)), format="MSEED")
    put_tree(store, tmp_path / "sds", "spill")
    (tmp_path / "stations.txt").write_text("XX A\nXX B\n")
    found = {}
    for name, source, spill in (
        ("disk", f"sds:{tmp_path / 'sds'}", False), ("with", f"s3://{BUCKET}/spill?layout=sds", True),
        ("without", f"s3://{BUCKET}/spill?layout=sds", False),
    ):  # fmt: skip
        plain = settings_of(source, spill=spill).as_dict()
        plain["data"] |= {"start": "2024-03-02", "end": "2024-03-02T02:00:00"}
        assert run_campaign(tmp_path / "stations.txt", tmp_path / f"{name}.xcorr", build(plain)).exit_code == 0
        with results.open(tmp_path / f"{name}.xcorr") as r:
            found[name] = r.gather().tobytes()
    assert found["disk"] == found["with"] != found["without"]


def test_memory_is_bounded(store, tmp_path, monkeypatch):
    monkeypatch.setattr("xcorr.pes.reading.s3.RECENT", 100_000)
    source = open_source(archive_of(store, tmp_path, "memory", "ABCDEFGH"))
    wanted = Wanted((("XX", "*"),), (("BHZ", ""),), DAY * DAY_NS, (DAY + 1) * DAY_NS)
    references = [c.path for every in source.index(wanted).coverages.values() for c in every]
    assert len(references) == 8
    for reference in references * 2:
        assert source.read(reference, [], DAY * DAY_NS, (DAY + 1) * DAY_NS).waveforms
    assert sum(map(len, source._recent.values())) <= 100_000
    assert source._coming == {}
