"""Provenance: recording, lineage, documents, rules of what is kept."""

import dataclasses
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import elements as e
import numpy as np
import obspy
import pytest
from archives import settings, station_list, write
from conftest import ROOT, accounts_of

from xcorr.campaign.run import run_campaign
from xcorr.core import GenericPE, GraphError, WorkflowGraph
from xcorr.core.derivation import parse_derivation
from xcorr.core.testing import ListSource
from xcorr.mappings import run
from xcorr.provenance import ask
from xcorr.provenance.campaign_lineage import CampaignLineage
from xcorr.provenance.document import document_of, document_of_runs
from xcorr.provenance.lineage import Lineage, item_lineage
from xcorr.provenance.runs import Circumstances, changed_elements, describe, recorded
from xcorr.provenance.store import INSERTS, NAME, ProvenanceError, create, folder_of, reading
from xcorr.results.compare import differences
from xcorr.results.where import ConditionError, Where
from xcorr.settings.tables import Keep
from xcorr.settings.toml import build, load
from xcorr.settings.written import to_toml
from xcorr.store import sqlite_files
from xcorr.store.ledger_reader import LedgerReader
from xcorr.store.verify import problems

LEVELS = ("off", "run", "element", "invocation", "item")
HERE = Path(__file__).parent


def demo_settings(**sections):
    plain = load(ROOT / "configs" / "demo" / "xcorr.toml")
    for section, keys in sections.items():
        plain[section] = keys if isinstance(keys, list) else {**plain.get(section, {}), **keys}
    return build(plain)


def run_demo(folder, **sections):
    return run_campaign(ROOT / "configs" / "demo" / "stations.txt", folder, demo_settings(**sections))


def names(lineage):
    return set(lineage.entities), set(lineage.activities), lineage.used, lineage.generated, lineage.derived


# -- recording ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_no_level_changes_a_result(demo, tmp_path, level):
    run_demo(tmp_path / "x.xcorr", provenance={"level": level})
    assert list(differences(demo, tmp_path / "x.xcorr")) == []
    if level == "off":
        assert not folder_of(tmp_path / "x.xcorr").exists()
        return
    assert [p.name for p in folder_of(tmp_path / "x.xcorr").iterdir()] == [NAME]
    with reading(tmp_path / "x.xcorr") as store:
        counts = {t: store.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in INSERTS}
        assert store.execute("SELECT status FROM run").fetchall() == [("done",)]
        done = store.execute("SELECT sum(received) FROM instance WHERE element = 'ReadStation'").fetchone()[0]
    assert counts["element"] == 11
    assert (done == 56) == (level != "run")
    assert (counts["invocation"] > 300) == (level in ("invocation", "item"))
    assert (counts["item"] > 300) == (level == "item")
    assert (counts["file"] == 14) == (level in ("invocation", "item"))


@pytest.fixture(scope="module")
def demo_lineages(demo):
    return lineages(demo)


def lineages(folder):
    """Return the lineage of every stack of a campaign."""
    with CampaignLineage(folder) as found:
        rows = [tuple(found.stations[k] for k in ends) for ends in found.ends]
        return {pair: names(found.of_pair(*pair)) for pair in rows}


@pytest.mark.parametrize("mapping", ["threads", "processes", "mpi", "dask"])
def test_every_mapping_has_the_same_lineage(demo_lineages, tmp_path, mapping):
    run_demo(tmp_path / "x.xcorr", run={"mapping": mapping, "workers": 2})
    assert lineages(tmp_path / "x.xcorr") == demo_lineages
    with reading(tmp_path / "x.xcorr") as store:
        ours = {n for (n,) in store.execute("SELECT id FROM invocation WHERE element != 'WriteShards'")}
    recorded_names = {a for _, activities, *_ in demo_lineages.values() for a in activities}
    chain = {a for a in recorded_names if a.startswith(("ReadStation(", "ConditionStation(", "TransformStation("))}
    assert chain <= ours, "what the ledger tells goes by the names that were recorded"


def test_lineage_agrees_with_the_ledger(demo):
    with CampaignLineage(demo) as found:
        lineage = found.of_pair("XX.D00", "XX.D05")
    with_files = LedgerReader(demo)
    try:
        expected = {
            f"file:{path}"
            for _, a in with_files.accounts()
            if a.windows_used and a.seed_id.split(".")[1] in ("D00", "D05")
            for path, _, _ in a.files
        }
    finally:
        with_files.close()
    files = {n: a for n, a in lineage.entities.items() if n.startswith("file:")}
    assert set(files) == expected
    for name, attributes in files.items():
        content = Path(name.removeprefix("file:")).read_bytes()
        assert attributes["sha256"] == hashlib.sha256(content).hexdigest()
        assert attributes["bytes"] == len(content)
    assert lineage.problems() == []
    assert all("begun" in a for n, a in lineage.activities.items() if n.startswith("ReadStation("))


def test_forward_names_every_product_that_a_file_touched(demo):
    with CampaignLineage(demo) as found:
        path = next(p for _, a in found.ledger.accounts("slot = 5") for p, _, _ in a.files)
        touched = found.of_file(path)
        back = {pair: found.of_pair(*pair) for pair in [tuple(found.stations[k] for k in r) for r in found.ends]}
    by_back = {
        f"stack:linear/main/ZZ/{first}-{second}"
        for (first, second), lineage in back.items()
        if f"file:{path}" in lineage.entities
    }
    assert {n for n in touched.entities if n.startswith("stack:")} == by_back
    assert len(by_back) == 12
    with pytest.raises(ProvenanceError, match="no file that this campaign has read"), CampaignLineage(demo) as found:
        found.of_file("nowhere.mseed")


# -- patterns: golden graphs ---------------------------------------------------------------------------------


class Gather(GenericPE):
    """Writes a sum after every item, and once more at the end."""

    def __init__(self, derivation="single", inputs=("input",)):
        super().__init__()
        for name in inputs:
            self._add_input(name, grouping=[0] if derivation == "grouped" else None)
        self._add_output("output")
        self.derivation = derivation

    def _process(self, inputs):
        return {"output": repr(inputs)}


GOLDEN = {  # of the product of the last input: which of the inputs 0 1 2 3 it comes from
    "single": [3],
    "accumulated": [0, 1, 2, 3],
    "grouped": [1, 3],
    "sliding(2)": [2, 3],
}


@pytest.mark.parametrize("pattern", GOLDEN)
def test_patterns(tmp_path, pattern):
    graph = WorkflowGraph()
    graph.connect(ListSource([("a", 0), ("b", 1), ("a", 2), ("b", 3)]), "output", Gather(pattern), "input")
    record(tmp_path, graph)
    sources, products = written(tmp_path, "ListSource"), written(tmp_path, "Gather")
    assert len(sources) == len(products) == 4
    back = item_lineage(tmp_path, products[3])
    wanted = {sources[k] for k in GOLDEN[pattern]}
    activity = f"Gather({sources[3]})"
    assert {s for p, s in back.derived if p == products[3]} == wanted
    assert {s for a, s in back.used if a == activity} == wanted
    assert (products[3], activity) in back.generated
    assert back.problems() == []
    for k, source in enumerate(sources):
        forward = item_lineage(tmp_path, source, "forward")
        for j, product in enumerate(products):
            expected = source in {s for p, s in item_lineage(tmp_path, product).derived if p == product}
            assert (product in forward.entities) == expected, (k, j)


def test_one_of_every_input(tmp_path):
    graph = WorkflowGraph()
    join = Gather("n-by-1", ("left", "right"))
    left, right = ListSource([1, 2, 3]), ListSource([10, 20])
    left.name, right.name = "left", "right"
    graph.connect(left, "output", join, "left")
    graph.connect(right, "output", join, "right")
    record(tmp_path, graph)
    last = written(tmp_path, "Gather")[-1]
    back = item_lineage(tmp_path, last)
    assert {s for p, s in back.derived if p == last} == {written(tmp_path, "left")[-1], written(tmp_path, "right")[-1]}


def test_what_is_written_at_the_end_comes_from_all(tmp_path):
    from xcorr.core.testing import ListSink

    graph = WorkflowGraph()
    graph.connect(ListSource([1, 2, 3]), "output", ListSink(), "input")
    record(tmp_path, graph)
    (total,) = written(tmp_path, "ListSink")
    assert {s for p, s in item_lineage(tmp_path, total).derived if p == total} == set(written(tmp_path, "ListSource"))


@pytest.mark.parametrize(
    ("text", "said"), [("sliding(0)", "is not known"), ("acumulated", "did you mean 'accumulated'")]
)
def test_an_unknown_pattern_is_refused(text, said):
    with pytest.raises(GraphError, match=said):
        parse_derivation(text, "element 'x'")


def record(folder, graph, mapping="sequential", workers=None, level="item"):
    with recorded(folder, Circumstances(level, mapping, workers, "", "", "")) as it:
        return run(graph, None, mapping, workers, it.observers(graph))


def written(folder, element):
    """Return the names of what an element wrote, in order."""
    with reading(folder) as store:
        return [n for (n,) in store.execute("SELECT id FROM product WHERE element = ? ORDER BY rowid", (element,))]


@pytest.mark.parametrize("mapping", ["threads", "processes", "mpi", "dask"])
def test_names_of_any_workflow_are_the_same_on_every_mapping(tmp_path, mapping):
    def graph():
        made = WorkflowGraph()
        affine, explode = e.Affine(3), e.Explode(4)
        made.connect(e.Pairs(20, 1), "output", affine, "input")
        made.connect(affine, "output", explode, "input")
        return made

    record(tmp_path / "one", graph())
    record(tmp_path / "two", graph(), mapping, 3)
    for element in ("Pairs", "Affine", "Explode"):
        assert sorted(written(tmp_path / "one", element)) == sorted(written(tmp_path / "two", element))
    product = written(tmp_path / "one", "Explode")[7]
    assert names(item_lineage(tmp_path / "one", product)) == names(item_lineage(tmp_path / "two", product))
    assert len(item_lineage(tmp_path / "one", product).entities) == 3


# -- size, crashes, documents --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_million_invocations(tmp_path):
    code = (
        "import resource, sys\nsys.path.insert(0, sys.argv[2])\nfrom pathlib import Path\n"
        "from test_provenance import million\nmillion(Path(sys.argv[1]))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(HERE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900)
    assert int(done.stdout.split()[-1]) < 400_000, "kilobytes, imports of this module included"
    with reading(tmp_path) as store:
        assert store.execute("SELECT count(*) FROM invocation").fetchone()[0] >= 1_000_000
    product = written(tmp_path, "Affine1")[250_000]
    begin = time.perf_counter()
    found = item_lineage(tmp_path, product)
    assert time.perf_counter() - begin < 1.0
    assert len(found.entities) == 3
    begin = time.perf_counter()
    assert len(item_lineage(tmp_path, written(tmp_path, "Pairs")[7], "forward").entities) == 3


def million(folder):
    graph = WorkflowGraph()
    first, second = e.Affine(3), e.Affine(5)
    graph.connect(e.Pairs(500_000, 1), "output", first, "input")
    graph.connect(first, "output", second, "input")
    record(folder, graph, level="invocation")


def test_a_kill_leaves_what_was_going_on(tmp_path):
    for code in ("AAA", "BBB"):
        write(tmp_path / "sds", code)
    program = tmp_path / "stuck.py"
    program.write_text(
        "import sys, time\nfrom pathlib import Path\n"
        f"sys.path.insert(0, {str(HERE)!r})\n"
        "from archives import settings, station_list\n"
        "from xcorr.campaign.run import run_campaign\n"
        "from xcorr.pes.preparing.prepare import ConditionStation\n"
        "import xcorr.provenance.recorder as r\nr.BATCH_S = 0.0\n"
        "def stuck(self, item):\n    print('here', flush=True)\n    time.sleep(60)\n"
        "original = ConditionStation.step\n"
        "count = []\n"
        "def step(self, item):\n    count.append(1)\n"
        "    return original(self, item) if len(count) < 4 else stuck(self, item)\n"
        "ConditionStation.step = step\n"
        f"root = Path({str(tmp_path)!r})\n"
        "run_campaign(station_list(root, 'AAA', 'BBB'), root / 'x.xcorr', settings(root / 'sds'))\n"
    )
    process = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"here\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with reading(tmp_path / "x.xcorr") as store:
        assert store.execute("SELECT status, ended FROM run").fetchall() == [("running", None)]
        done = store.execute("SELECT count(*) FROM invocation WHERE element = 'TransformStation'").fetchone()[0]
        under_way = {n for (n,) in store.execute("SELECT element FROM invocation WHERE status = 'under way'")}
    assert done == 3
    assert "ReadStation" in under_way or "StationSource" in under_way
    finished = run_campaign(station_list(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr", settings(tmp_path / "sds"))
    assert finished.exit_code == 0
    with reading(tmp_path / "x.xcorr") as store:
        assert [s for (s,) in store.execute("SELECT status FROM run ORDER BY id")] == ["running", "done"]
        assert store.execute("SELECT count(*) FROM invocation WHERE run = 1").fetchone()[0] > 0, "taken in by the next"


@pytest.mark.parametrize("kind", ["json", "provn", "xml", "turtle", "svg"])
def test_documents_are_valid_by_their_own_readers(demo, tmp_path, invoke, kind):
    target = tmp_path / f"lineage.{kind}"
    answer = invoke("prov", demo, "--pair", "XX.D00-XX.D01", "--format", kind, "-o", target)
    assert answer.exit_code == 0, answer.output
    text = target.read_text()
    if kind == "provn":
        assert text.startswith("document")
        assert text.rstrip().endswith("endDocument")
        assert text.count("wasGeneratedBy(") > 20
    elif kind == "turtle":
        import rdflib

        graph = rdflib.Graph().parse(data=text, format="turtle")
        assert len(list(graph.triples((None, rdflib.URIRef("http://www.w3.org/ns/prov#wasDerivedFrom"), None)))) > 20
    elif kind == "svg":
        from xml.etree import ElementTree

        shapes = {node.tag.rpartition("}")[2] for node in ElementTree.fromstring(text).iter()}
        assert {"rect", "ellipse", "line"} <= shapes
    else:
        from prov.model import ProvDocument

        again = ProvDocument.deserialize(content=text, format=kind)
        with CampaignLineage(demo) as found:
            assert again == document_of(demo, found.of_pair("XX.D00", "XX.D01"))


def test_the_document_of_all_runs(demo, invoke):
    from prov.model import ProvActivity, ProvDocument

    text = invoke("prov", demo).output
    document = ProvDocument.deserialize(content=text, format="json")
    assert document == document_of_runs(demo)
    (activity,) = document.get_records(ProvActivity)
    assert activity.get_startTime() < activity.get_endTime()


def test_damage_is_not_exported():
    broken = Lineage()
    broken.step("b", "x", ["a"])
    assert broken.problems() == []
    broken.derived.add(("a", "b"))
    assert broken.problems() == ["something is derived from itself"]
    broken.used.add(("y", "a"))
    broken.activities["x"] |= {"begun": 2.0, "ended": 1.0}
    assert {"y is not defined", "x ends before it begins"} <= set(broken.problems())


def test_questions(demo, invoke):
    made = json.loads(invoke("prov", "query", demo, "--made", "XX.D00-XX.D05", "--json").output)
    assert {Path(row["file"]).name.split(".")[1] for row in made if "file" in row} == {"D00", "D05"}
    assert any("coverage" in row.get("windows.Z", "") for row in made), "what was left out, and why"
    file = next(row["file"] for row in made if "file" in row)
    touched = invoke("prov", "query", demo, "--touched-by", file).output
    assert "stack:linear/main/ZZ/XX.D00-XX.D01" in touched
    near = json.loads(invoke("prov", "query", demo, "--where", "snr > 3 and distance_km < 20", "--json").output)
    assert near
    assert all(row["snr"] > 3 and row["distance_km"] < 20 for row in near)
    every = ask.query(demo, where="snr > 3 or not snr > 3")
    assert len(every) == 91
    assert invoke("prov", "query", demo, "--changed").output == "nothing\n"
    assert "ask one question" in invoke("prov", "query", demo).output
    assert "no field 'snt'" in invoke("prov", "query", demo, "--where", "snt > 3").output
    assert invoke("prov", "query", demo, "--where", "snt > 3").exit_code == 2


def test_a_changed_element_is_reported(tmp_path, monkeypatch):
    sys.path.insert(0, str(tmp_path))
    (tmp_path / "own_element.py").write_text(
        "from xcorr.core import IterativePE\nclass Own(IterativePE):\n"
        "    def _process(self, data):\n        return data\n"
    )
    import own_element

    graph = WorkflowGraph()
    graph.connect(ListSource([1]), "output", own_element.Own(), "input")
    record(tmp_path / "x", graph)
    assert changed_elements(tmp_path / "x") == []
    (tmp_path / "own_element.py").write_text("class Own:\n    pass\n")
    assert changed_elements(tmp_path / "x") == ["Own: own_element has changed since the last run"]
    sys.path.remove(str(tmp_path))


# -- rules ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mapping", ["sequential", "processes"])
def test_a_rule_keeps_exactly_what_it_says(demo, tmp_path, mapping):
    rule = {"element": "ConditionStation", "condition": "windows_rejected > 0 or station == 'XX.D03'"}
    spectra = {"element": "TransformStation", "condition": "chunk == '20240301T000000'", "folder": "spectra"}
    workers = 1 if mapping == "sequential" else 2
    how = {"run": {"mapping": mapping, "workers": workers}}
    finished = run_demo(tmp_path / "x.xcorr", keep=[rule, spectra], **how)
    assert list(differences(demo, tmp_path / "x.xcorr")) == []
    rows = accounts_of(finished.folder)
    expected = {c["slot"].rpartition(".")[0] for c in rows if c["windows"].keys() - {"used"}}
    kept = ask.query(tmp_path / "x.xcorr", kept=True)
    paths = [Path(row["path"]) for row in kept]
    stations = [p.stem.partition("_")[2] for p in paths if p.suffix == ".mseed"]
    assert sorted(stations) == sorted([*expected, *["XX.D03"] * 4])
    for path in (arrays := [p for p in paths if p.suffix == ".npz"]):
        held = np.load(path)
        assert held["spectra_0"].shape[:2] == held["valid"].shape  # [slot, window, bin]
        assert (held["spectra_0"].any(axis=2) == held["valid"]).all()
    assert len(arrays) == 13
    for row, path in zip(kept, paths, strict=True):
        assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        lineage = item_lineage(tmp_path / "x.xcorr", row["item"])
        assert any(name.startswith("ReadStation.output:") for name in lineage.entities)
    stream = obspy.read(str(next(p for p in paths if p.stem.endswith("XX.D03"))))
    assert {t.stats.sampling_rate for t in stream} == {demo_settings().condition.rate_hz}
    assert all(t.data.dtype == np.float32 and np.ptp(t.data) > 0 for t in stream)
    on_disk = {p for p in (tmp_path / "x.xcorr").rglob("*") if p.suffix in (".mseed", ".npz")}
    assert on_disk == set(paths)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"element": "ConditionStations"}, "did you mean 'ConditionStation'"),
        ({"element": "ConditionStation", "port": "out"}, "has the port 'output' alone"),
        ({"element": "ConditionStation", "condition": "snr > 3"}, "no field 'snr'"),
        ({"element": "ConditionStation", "condition": "gaps ** 2 > 3"}, "is not allowed"),
        ({"element": "ConditionStation", "condition": "gaps >"}, "not understood"),
        ({"element": "ConditionStation", "condition": "station in 'XX.A'"}, "write a list"),
        ({"element": "ConditionStation", "condition": "windows_used > '20'"}, "not supported"),
        ({"element": "ConditionStation", "condition": "__import__('os')"}, "is not allowed"),
        ({"element": "ConditionStation", "condition": "'a'"}, "neither true nor false"),
        ({"element": "ConditionStation", "condition": "[1, 2]"}, "neither true nor false"),
        ({"element": "ConditionStation", "condition": "gaps in [[1, 2], [3]]"}, "inhomogeneous"),
    ],
)
def test_a_wrong_rule_is_an_error_before_the_start(tmp_path, rule, message):
    with pytest.raises((ProvenanceError, ConditionError), match=message):
        run_demo(tmp_path / "x.xcorr", keep=[rule])
    assert not (tmp_path / "x.xcorr").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("a == 1", True),
        ("a != 1 or b < 2.5", True),
        ("not (a >= 1 and b > 0)", False),
        ("c in ['x', 'y']", True),
        ("c not in ('x',)", False),
        ("0 < a <= 1", True),
        ("a > -1", True),
        ("flag", False),
    ],
)
def test_conditions(text, expected):
    assert Where(text, ("a", "b", "c", "flag"))({"a": 1, "b": 2.0, "c": "x", "flag": False}) is expected


@pytest.mark.parametrize("level", ["invocation", "off"])
def test_a_file_that_cannot_be_read_costs_itself(tmp_path, monkeypatch, level):
    import builtins

    for code in ("AAA", "BBB", "CCC"):
        write(tmp_path / "sds", code)
    usual = builtins.open

    def refuse(path, *rest, **more):
        if "CCC" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path, *rest, **more)

    monkeypatch.setattr(builtins, "open", refuse)
    how = settings(tmp_path / "sds", provenance={"level": level})
    finished = run_campaign(station_list(tmp_path, "AAA", "BBB", "CCC"), tmp_path / "x.xcorr", how)
    assert finished.exit_code == 3
    assert finished.report["pairs_with_data"] == 1


@pytest.mark.parametrize("grouping", ["all", "global", None])
def test_an_item_keeps_its_name_on_every_way(tmp_path, grouping):
    """To several instances, some of them here: what is called first must not give its name to the next."""

    class_of = Relay(2, grouping)
    graph = WorkflowGraph()
    graph.connect(ListSource(range(6)), "output", class_of, "input")
    graph.connect(class_of, "output", Gather(), "input")
    record(tmp_path, graph, "threads", 2)
    sources = set(written(tmp_path, "ListSource"))
    with reading(tmp_path) as store:
        taken = {n for (n,) in store.execute("SELECT input FROM invocation WHERE element = 'Relay'")}
        last = {n for (n,) in store.execute("SELECT input FROM invocation WHERE element = 'Gather'")}
    assert taken == sources
    assert last == set(written(tmp_path, "Relay"))


class Relay(GenericPE):
    """Passes items on, from several instances."""

    def __init__(self, instances, grouping):
        super().__init__(instances)
        self._add_input("input", grouping=grouping)
        self._add_output("output")

    def _process(self, inputs):
        return {"output": inputs["input"]}


def test_garbage_of_a_crash_is_put_aside(tmp_path, caplog):
    graph = WorkflowGraph()
    graph.connect(ListSource([1]), "output", Gather(), "input")
    record(tmp_path, graph)
    (folder_of(tmp_path) / "run-00009-worker-0.sqlite").write_bytes(b"garbage" * 1000)
    (folder_of(tmp_path) / "run-00009-worker-1.sqlite").touch()
    with reading(tmp_path) as store:
        assert store.execute("SELECT count(*) FROM run").fetchone() == (1,)
    record(tmp_path, graph)
    assert "cannot be read" in caplog.text
    assert [p.name for p in folder_of(tmp_path).glob("run-*")] == ["run-00009-worker-0.damaged"]


def test_what_is_kept_again_has_its_new_checksum(tmp_path):
    for code in ("AAA", "BBB"):
        write(tmp_path / "sds", code)
    how = dataclasses.replace(
        settings(tmp_path / "sds"), keep=(Keep("ConditionStation", condition="station == 'XX.AAA'"),)
    )
    stations = station_list(tmp_path, "AAA", "BBB")
    run_campaign(stations, tmp_path / "x.xcorr", how)
    before = ask.query(tmp_path / "x.xcorr", kept=True)
    write(tmp_path / "sds", "AAA", np.random.default_rng(9).integers(-99, 99, 72_000).astype(np.int32))
    run_campaign(stations, tmp_path / "x.xcorr", how, refresh=True)
    after = ask.query(tmp_path / "x.xcorr", kept=True)
    assert [r["path"] for r in after] == [r["path"] for r in before]
    for row in after:
        assert row["sha256"] == hashlib.sha256(Path(row["path"]).read_bytes()).hexdigest()
    assert after != before


def test_questions_without_series(tmp_path, invoke):
    for code in ("AAA", "BBB"):
        write(tmp_path / "sds", code)
    lean = settings(tmp_path / "sds", stack={"keep_series": False})
    run_campaign(station_list(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr", lean)
    file = next((tmp_path / "sds").rglob("*AAA*061"))
    for options in (["--touched-by", file], ["--made", "XX.AAA-XX.BBB"], ["--where", "snr > 0", "--band", "no"]):
        answer = invoke("prov", "query", tmp_path / "x.xcorr", *options)
        assert answer.exit_code == 2
        assert "were not kept" in answer.output or "in band 'no'" in answer.output


def test_a_store_that_is_in_use_is_not_damaged(tmp_path, monkeypatch):
    graph = WorkflowGraph()
    graph.connect(ListSource([1]), "output", Gather(), "input")
    record(tmp_path, graph)
    monkeypatch.setattr(sqlite_files, "_is_local", lambda _: False)  # else readers and writers do not meet
    path = folder_of(tmp_path) / "run-00009-worker-0.sqlite"
    other = create(path, indexed=False)
    other.execute("BEGIN EXCLUSIVE")
    connect = sqlite3.connect
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{**k, "timeout": 0.1}))
        with pytest.raises(ProvenanceError, match="cannot be taken into the provenance store now: database is locked"):
            record(tmp_path, graph)
    other.close()
    record(tmp_path, graph)
    assert not list(folder_of(tmp_path).glob("run-*")), "taken in, not put aside"


def test_half_kept_items_of_a_killed_run_go_with_the_next(demo, tmp_path):
    for code in ("AAA", "BBB"):
        write(tmp_path / "sds", code)
    how = dataclasses.replace(settings(tmp_path / "sds"), keep=(Keep("ConditionStation", folder="aside"),))
    stations, folder = station_list(tmp_path, "AAA", "BBB"), tmp_path / "x.xcorr"
    run_campaign(stations, folder, how)
    half = folder / "aside" / "ConditionStation" / ".x.mseed.77.part"
    half.touch()
    assert list(problems(folder)) == [f"{half.name}: left over from a run that was ended"]
    run_campaign(stations, folder, how)
    assert not half.exists()


def test_a_lineage_that_is_too_long_is_not_cut_short(tmp_path, monkeypatch):
    graph = WorkflowGraph()
    graph.connect(ListSource(list(range(20))), "output", Gather("accumulated"), "input")
    record(tmp_path, graph)
    monkeypatch.setattr("xcorr.provenance.lineage.MOST", 10)
    with pytest.raises(ProvenanceError, match="is of more than 10 items"):
        item_lineage(tmp_path, written(tmp_path, "Gather")[-1])


def test_a_comparison_that_cannot_be_is_an_error():
    with pytest.raises(ConditionError, match="not supported"):
        Where("c > 1", ("c",))({"c": "x"})


def test_a_condition_of_several_lines_can_be_written_and_read_again():
    import tomllib

    made = build({"keep": [{"element": "ReadStation", "condition": "(gaps > 1\n and station == 'X\"\\')\t"}]})
    assert build(tomllib.loads(to_toml(made.as_dict()))) == made


@dataclasses.dataclass
class Held:
    values: np.ndarray
    inner: object = None


def test_parameters_say_what_they_hold_and_print_no_array():
    """Nor does one that holds itself, or a class, keep a run from being recorded."""
    ring = Held(np.zeros(3))
    ring.inner = ring
    items = [Held(np.zeros((2, 5), np.float32)), np.arange(4), Held, ring]
    text = json.loads(describe(ListSource(items), {})[-1])["items"]
    assert "Held(values=array(float32, (2, 5)), inner=None)" in text
    assert "array(int64, (4,))" in text
    assert "class" in text
    assert "Held(...)" in text


def test_sources_that_change_while_a_program_runs(tmp_path, monkeypatch):
    """As in notebooks and servers: an edit is seen, even under the old time; a module that was renamed is left out."""
    from xcorr.core.source_files import digests, modules_behind

    package = tmp_path / "changing"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "element.py").write_text("from changing import helper\n")
    (package / "helper.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    behind = modules_behind("changing.element")
    before = digests(behind)
    assert set(before) == {"changing", "changing.element", "changing.helper"}
    status = (package / "helper.py").stat()
    (package / "helper.py").write_text("x = 2\n")
    os.utime(package / "helper.py", ns=(status.st_atime_ns, status.st_mtime_ns))
    after = digests(behind)
    assert {m for m in before if before[m] != after[m]} == {"changing.helper"}
    (package / "helper.py").rename(package / "helpers.py")
    assert set(digests(behind)) == {"changing", "changing.element"}
