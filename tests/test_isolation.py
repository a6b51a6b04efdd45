"""What lies in the current folder is not run: modules there, a workflow file that names other code, old provenance."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from archives import SETTINGS, write
from conftest import ROOT

from xcorr.cli.program import main
from xcorr.core import WorkflowLoadError
from xcorr.core.workflow_file import read_workflow

NAMES = (
    "numpy signal socket json random queue selectors logging struct tempfile subprocess multiprocessing threading "
    "obspy h5py mpi4py matplotlib click scipy ctypes bisect pickle string hashlib"
).split()
TRAP = "open({!r}, 'a').write(__name__ + '\\n')\nraise RuntimeError('taken from the current folder')\n"
MAPPINGS = ("sequential", "threads", "processes", "mpi", "dask")
GRAPH = """
from xcorr.core import IterativePE, ProducerPE, WorkflowGraph

class Numbers(ProducerPE):
    def _process(self):
        for i in range(4):
            self.write("output", i)

class Square(IterativePE):
    stateless = True

    def _process(self, x):
        import random, string, queue  # found late
        return x * x

graph = WorkflowGraph()
graph.connect(Numbers(), "output", Square(), "input")
"""


@pytest.fixture
def trapped(tmp_path):
    """A current folder full of modules that must not be imported, with an archive and a list."""
    folder = tmp_path / "here"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(TRAP.format(str(tmp_path / "touched")))
    (folder / "sitecustomize.py").write_text(TRAP.format(str(tmp_path / "touched")))
    (folder / "matplotlibrc").write_text("text.usetex: True\n")
    for code in ("AAA", "BBB"):
        write(folder / "archive", code)
    lines = "network,station,latitude,longitude\nXX,AAA,10.0,20.0\nXX,BBB,10.0,20.1\n"
    (folder / "stations.txt").write_text(lines)
    (folder / "flow.py").write_text(GRAPH)
    return folder


def call(folder, *arguments):
    command = [str(Path(sys.executable).with_name("xcorr")), *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


def options():
    return [f"--set={s}.{k}={v!r}" for s, keys in SETTINGS.items() for k, v in keys.items()]


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_no_mapping_imports_from_the_current_folder(trapped, tmp_path, mapping):
    done = call(trapped, "workflow", "run", "flow.py", "-m", mapping, "-n", 2)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "touched").exists(), (tmp_path / "touched").read_text()
    for value in (0, 1, 4, 9):
        assert str(value) in done.stdout
    done = call(trapped, "run", "stations.txt", "--source", "sds:archive", "-m", mapping, "-n", 2, *options())
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "touched").exists(), (tmp_path / "touched").read_text()


@pytest.mark.slow
def test_no_command_imports_from_the_current_folder(trapped, tmp_path):
    asked = ["stations.txt", "--source", "sds:archive", *options()]
    net = trapped / "stations.xcorr"
    every = (
        ["plan", *asked],
        ["doctor", *asked],
        ["run", *asked],
        ["info", net],
        ["plot", net],
        ["plot", net, "--availability"],
        ["status", net],
        ["verify", net],
        ["stack", net],
        ["export", net, "--format", "sac", "-o", "sac"],
        ["demo", "of-xcorr"],
        ["compact", net],
        ["pack", net],
        ["prov", net],
        ["prov", "query", net, "--changed"],
        ["monitor", net],
        ["dispersion", net],
        ["archive", net, tmp_path / "archived"],
        ["merge", net, "-o", "merged"],
        ["import", "sac", "sac", "-o", "imported"],
        ["workflow", "draw", "flow.py"],
        ["registry", "list"],
        ["pe", "show", "ReadStation"],
    )
    assert {arguments[0] for arguments in every} | {"init", "compare", "storm", "serve"} == set(
        main.list_commands(None)
    )
    for arguments in every:
        done = call(trapped, *arguments)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        assert not (tmp_path / "touched").exists(), f"{arguments}: {(tmp_path / 'touched').read_text()}"
    command = [Path(sys.executable).with_name("xcorr"), "serve", net, "--port", "0"]
    with subprocess.Popen(command, cwd=trapped, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert "http://127.0.0.1:" in server.stdout.readline()
        server.terminate()
    assert not (tmp_path / "touched").exists(), (tmp_path / "touched").read_text()


@pytest.mark.parametrize("use", ["subprocess:Popen", "os:system", "builtins:exec", "xcorr.core:WorkflowGraph"])
@pytest.mark.parametrize(
    "command", [["workflow", "run"], ["workflow", "draw"], ["workflow", "run", "--plan"], ["registry", "add"]]
)
def test_a_workflow_file_calls_nothing_but_elements(tmp_path, invoke, monkeypatch, use, command):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    path = tmp_path / "flow.toml"
    argument = {"subprocess:Popen": "args", "os:system": "command", "builtins:exec": "source"}.get(use, "x")
    path.write_text(
        f'[elements.a]\nuse = "{use}"\nparameters = {{ {argument} = "touch {tmp_path / "touched"}" }}\n'
        '[elements.b]\nuse = "xcorr.core.testing:ListSink"\n'
    )
    done = invoke(*command, path)
    assert done.exit_code == 2
    assert "is no class of processing elements" in done.output
    assert not (tmp_path / "touched").exists()
    with pytest.raises(WorkflowLoadError, match="no class of processing elements"):
        read_workflow(path)


def test_provenance_names_no_module_that_is_imported(demo, tmp_path, invoke):
    import shutil

    copy = Path(shutil.copytree(demo, tmp_path / "copy.xcorr"))
    module = tmp_path / "trap_module.py"
    module.write_text(f"open({str(tmp_path / 'touched')!r}, 'w')\nclass Element: pass\n")
    recorded = "UPDATE source SET module = 'trap_module' WHERE module = 'xcorr.pes.reading.read'"
    with sqlite3.connect(copy / "provenance" / "store.sqlite") as store:
        store.execute("UPDATE element SET class = 'trap_module:Element' WHERE name = 'ReadStation'")
        store.execute(recorded)
    sys.path.insert(0, str(tmp_path))
    try:
        done = invoke("prov", "query", copy, "--changed")
    finally:
        sys.path.remove(str(tmp_path))
    assert "ReadStation: trap_module has changed" in done.output
    assert not (tmp_path / "touched").exists()


def test_a_folder_of_ones_own_is_searched_last(tmp_path, invoke):
    (tmp_path / "beside.py").write_text("factor = 3\n")
    (tmp_path / "json.py").write_text("raise RuntimeError('not this one')\n")
    flow = GRAPH.replace("import random, string, queue  # found late", "import json, beside").replace(
        "x * x", "x * beside.factor"
    )
    (tmp_path / "tripled.py").write_text(flow)
    for mapping in MAPPINGS:
        done = call(ROOT, "workflow", "run", tmp_path / "tripled.py", "-m", mapping, "-n", "2")
        assert done.returncode == 0, done.stderr
        assert sorted(json.loads(done.stdout.partition(":")[2])) == [0, 3, 6, 9]
