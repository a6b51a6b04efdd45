"""The registry of elements and workflows, and workflow files."""

import sys

import pytest

from xcorr.core import GraphError, WorkflowLoadError, registry
from xcorr.core.errors import RegistryError
from xcorr.core.loading import load_graph
from xcorr.mappings import run

OWN = '''"""Mine."""
from xcorr.core import IterativePE


class Scale(IterativePE):
    """Multiplies by a factor.

    Nothing else.
    """

    version = "1.2"

    def __init__(self, factor=2):
        super().__init__()
        self.factor = factor

    def _process(self, data):
        return self.factor * data


class _Hidden(IterativePE):
    pass
'''
WORKFLOW = """
name = "scaled"
version = "3"
docs = "Scales three numbers."
[elements.numbers]
use = "xcorr.core.testing:ListSource"
parameters = { items = [1, 2, 3] }
[elements.tenfold]
use = "Scale"
parameters = { factor = 10 }
[elements.more]
use = "Scale"
[[connections]]
from = "numbers.output"
to = "tenfold.input"
[[connections]]
from = "tenfold.output"
to = "more.input"
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty store, and a folder with the user's files."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "scaled.toml").write_text(WORKFLOW)
    yield tmp_path
    for name in [n for n in sys.modules if n.startswith(("mine", "loud", "other"))]:
        del sys.modules[name]  # the next test has the same content at another place


def test_add_list_search_show_remove(home, invoke):
    assert "Scale 1.2: element" in invoke("registry", "add", home / "mine.py").output
    assert "scaled 3: workflow" in invoke("registry", "add", home / "scaled.toml").output
    listed = invoke("registry", "list").output
    assert "Multiplies by a factor." in listed
    assert "ConditionStation" in listed
    assert "_Hidden" not in listed
    assert invoke("registry", "search", "FACTOR").output.startswith("Scale")
    assert "ReadStation" not in invoke("registry", "search", "factor").output
    shown = invoke("registry", "show", "Scale").output
    assert "Scale(factor=2)" in shown
    assert "input input: any" in shown
    assert "Nothing else." in shown
    assert invoke("registry", "remove", "Scale").output == "removed Scale\n"
    assert "Scale " not in invoke("registry", "list").output
    assert invoke("registry", "show", "Scale").exit_code == 2


def test_files_that_are_no_longer_named_go(home, invoke):
    invoke("registry", "add", home / "mine.py")
    (home / "mine.py").write_text(OWN.replace("1.2", "1.3"))
    assert "Scale 1.3: element" in invoke("registry", "add", home / "mine.py").output
    assert len(list((home / "data").rglob("mine_*.py"))) == 1


def test_a_stored_workflow_that_was_edited_is_refused(home, invoke):
    invoke("registry", "add", home / "mine.py")
    invoke("registry", "add", home / "scaled.toml")
    stored = next((home / "data").rglob("scaled_*.toml"))
    stored.write_text(WORKFLOW.replace("[1, 2, 3]", "[7]"))
    result = invoke("workflow", "run", "scaled")
    assert (result.exit_code, "is not what was added" in result.output) == (2, True)


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe"])
def test_a_workflow_file_that_is_no_toml_is_refused(home, invoke, content):
    (home / "bad.toml").write_bytes(content)
    result = invoke("registry", "add", home / "bad.toml")
    assert (result.exit_code, result.output.startswith("error: ")) == (2, True)


def test_installed_ones_are_described_without_being_executed(home, monkeypatch):
    import importlib

    def refuse(*_, **__):
        raise AssertionError("something was imported")

    monkeypatch.setattr("importlib.metadata.EntryPoint.load", refuse)
    monkeypatch.setattr(importlib, "import_module", refuse)
    known = {e.name: e for e in registry.entries()}
    assert known["ConditionStation"].summary.startswith("Conditions a")
    assert known["ConditionStation"].parameters[:2] == ("conditioning", "windowing")
    assert len(known["ConditionStation"].content_hash) == 64
    assert all(e.docs for e in known.values())


def test_listing_executes_nothing_of_the_users(home):
    loud = f"""
from pathlib import Path
with Path({str(home / "executed")!r}).open("a") as file:
    file.write("x")
"""
    (home / "loud.py").write_text(OWN + loud)
    registry.add(str(home / "loud.py"))
    assert (home / "executed").read_text() == "x", "once, when it was added"
    assert any(e.name == "Scale" for e in registry.entries())
    assert (home / "executed").read_text() == "x"


def test_new_content_needs_a_new_version(home):
    registry.add(str(home / "mine.py"))
    first = registry.find("Scale").content_hash
    (home / "mine2.py").write_text(OWN + "\n# other\n")
    with pytest.raises(RegistryError, match="give the new one another version"):
        registry.add(str(home / "mine2.py"))
    (home / "mine3.py").write_text(OWN.replace('"1.2"', '"1.3"'))
    registry.add(str(home / "mine3.py"))
    assert registry.find("Scale").version == "1.3"
    assert registry.find("Scale").content_hash != first


@pytest.mark.parametrize(
    ("text", "message"),
    [("x = 1\n", "defines no element"), (OWN.replace("Scale", "ReadStation"), "taken by an installed one")],
)
def test_what_cannot_be_added(home, text, message):
    (home / "other.py").write_text(text)
    with pytest.raises(RegistryError, match=message):
        registry.add(str(home / "other.py"))
    with pytest.raises(RegistryError, match="there is no file"):
        registry.add(str(home / "nowhere.py"))
    assert [e for e in registry.entries() if e.place == registry.OWN] == []
    assert list((registry.folder() / "files").iterdir()) == []


@pytest.mark.parametrize("mapping", ["sequential", "processes", "mpi", "dask"])
def test_a_workflow_file_recombines_registered_elements(home, invoke, mapping):
    registry.add(str(home / "mine.py"))
    outcome = run(load_graph(str(home / "scaled.toml")), None, mapping, 2 if mapping != "sequential" else None)
    assert sorted(outcome.results["more"]["output"]) == [20, 40, 60]
    registry.add(str(home / "scaled.toml"))
    done = invoke("workflow", "run", "scaled", "-m", mapping)
    assert done.exit_code == 0, done.output
    assert "more.output: [20, 40, 60]" in done.output


def test_a_built_in_element_in_a_workflow_file(home):
    (home / "x.toml").write_text(
        '[elements.source]\nuse = "xcorr.core.testing:ListSource"\nparameters = { items = [] }\n'
        '[elements.normalize]\nuse = "NormalizeStation"\n'
        '[[connections]]\nfrom = "source.output"\nto = "normalize.input"\n'
    )
    assert run(load_graph(str(home / "x.toml"))).results == {}


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ('use = "Scale"', 'use = "Skale"', RegistryError, "did you mean 'Scale'"),
        ("factor = 10", "faktor = 10", WorkflowLoadError, "faktor"),
        ('to = "more.input"', 'to = "mor.input"', WorkflowLoadError, "did you mean 'more'"),
        ('to = "more.input"', 'to = "more.inputs"', GraphError, "did you mean 'input'"),
        ("[[connections]]", "[[connection]]", WorkflowLoadError, "did you mean 'connections'"),
        ("xcorr.core.testing:ListSource", "xcorr.core.testing:Nothing", WorkflowLoadError, "Nothing"),
        ('from = "tenfold.output"\nto', "to", WorkflowLoadError, "write from and to"),
        ('name = "scaled"', "name =", WorkflowLoadError, "scaled.toml"),
    ],
)
def test_a_wrong_workflow_file(home, old, new, error, message):
    registry.add(str(home / "mine.py"))
    (home / "scaled.toml").write_text(WORKFLOW.replace(old, new))
    with pytest.raises(error, match=message):
        load_graph(str(home / "scaled.toml"))


def test_a_file_of_the_store_that_was_changed_by_hand_is_refused(home):
    registry.add(str(home / "mine.py"))
    stored = registry.folder() / "files" / registry.find("Scale").target.partition(":")[0]
    stored.write_text(stored.read_text() + "# x\n")
    with pytest.raises(WorkflowLoadError, match="is not what was added"):
        registry.load("Scale")


def test_provenance_of_any_workflow(home, invoke):
    registry.add(str(home / "mine.py"))
    done = invoke("workflow", "run", home / "scaled.toml", "--provenance", home / "prov")
    assert done.exit_code == 0, done.output
    from xcorr.provenance.store import reading

    with reading(home / "prov") as store:
        (name,) = store.execute("SELECT id FROM product WHERE element = 'more' LIMIT 1").fetchone()
        assert store.execute("SELECT version FROM element WHERE name = 'more'").fetchone() == ("1.2",)
    answer = invoke("prov", home / "prov", "--item", name, "--format", "provn")
    assert answer.exit_code == 0, answer.output
    assert answer.output.count("wasDerivedFrom(") == 2
