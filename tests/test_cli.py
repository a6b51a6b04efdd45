"""The command line besides run: init, info, plot, workflow run, pe; start-up time; packaging."""

import json
import os
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from archives import SETTINGS, station_list, waveform, write
from conftest import ROOT

from xcorr.settings.toml import build
from xcorr.store.verify import problems

HEAVY = ("numpy", "scipy", "obspy", "h5py", "matplotlib", "xarray", "pandas", "pyproj", "mpi4py")


def test_importing_xcorr_loads_nothing():
    code = "import sys, xcorr; print([m for m in sys.modules if m.split('.')[0] in " + repr(HEAVY) + "])"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.strip() == "[]"


def test_help_is_quick():
    script = Path(sys.executable).with_name("xcorr")

    def once():
        before = os.times()
        out = subprocess.run([script, "--help"], check=True, capture_output=True, text=True).stdout
        after = os.times()
        assert "stations.txt" in out
        used = after.children_user + after.children_system - before.children_user - before.children_system
        return min(used, after.elapsed - before.elapsed)

    assert min(once() for _ in range(8)) < 0.3


def test_every_command_has_help(invoke):
    for words in ([], ["run"], ["init"], ["info"], ["plot"], ["workflow"], ["workflow", "run"], ["pe"], ["pe", "list"]):
        result = invoke(*words, "--help")
        assert result.exit_code == 0
        assert "Usage" in result.output
    assert invoke("rum").exit_code == 2
    assert "version 0." in invoke("--version").output


def test_init_writes_files_to_start_from_and_never_overwrites(tmp_path, invoke):
    assert invoke("init", tmp_path / "new").exit_code == 0
    assert build(tomllib.loads((tmp_path / "new" / "xcorr.toml").read_text()))
    assert (tmp_path / "new" / "stations.txt").exists()
    again = invoke("init", tmp_path / "new")
    assert again.exit_code == 1
    assert "exists already" in again.output


def test_info(demo, invoke):
    text = invoke("info", demo).output
    for words in ("stations        14", "pairs           91", "-60 to 60 s, 481 samples", "rate_hz = 4.0"):
        assert words in text
    assert json.loads(invoke("info", demo, "--json").output)["components"] == ["ZZ"]
    missing = invoke("info", ROOT / "data")
    assert missing.exit_code == 1
    assert "no xcorr.h5; a finished run writes it" in missing.output


@pytest.mark.parametrize(
    "options", [(), ("--pair", "XX.D00", "XX.D01"), ("--availability",), ("--max-lag", "30", "-o", "other.png")]
)
def test_plot(demo, tmp_path, invoke, options, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("plot", demo, *options)
    assert result.exit_code == 0, result.output
    picture = Path(result.output.split()[-1])
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture.stat().st_size > 10_000


def test_two_figures_at_once_are_refused(demo, invoke):
    result = invoke("plot", demo, "--availability", "--pair", "XX.D00", "XX.D01")
    assert result.exit_code == 2
    assert "--pair and --availability are different figures; give one of them" in result.output


def test_lags_shown_of_a_pair(demo, tmp_path, invoke):
    pictures = [tmp_path / "whole.png", tmp_path / "part.png"]
    for picture, more in zip(pictures, ([], ["--max-lag", 20, "--components", "ZZ"]), strict=True):
        assert invoke("plot", demo, "--pair", "XX.D00", "XX.D01", "-o", picture, *more).exit_code == 0
    assert pictures[0].read_bytes() != pictures[1].read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        ("prov", "CAMPAIGN", "-o", "/nonexistent/x.json"),
        ("export", "CAMPAIGN", "--format", "csv", "-o", "/nonexistent/x.csv"),
        ("export", "CAMPAIGN", "--format", "netcdf", "-o", "/nonexistent/x.nc"),
        ("init", "/proc/x"),
        ("workflow", "draw", "xcorr.core.testing", "-o", "/nonexistent/x.dot"),
    ],
)
def test_a_place_that_cannot_be_written_is_named(demo, invoke, words):
    result = invoke(*(demo if word == "CAMPAIGN" else word for word in words))
    assert result.exit_code in (1, 2)
    assert result.output.startswith("error: ")


def test_options_that_choose_among_results(tmp_path, invoke):
    """What is asked for on the command line is what is answered."""
    for code in ("AAA", "BBB"):
        for channel in ("BHZ", "BHN"):
            write(tmp_path / "sds", code, waveform(len(code + channel) + ord(code[0])), channel=channel)
    config, folder = tmp_path / "own.toml", tmp_path / "x.xcorr"
    config.write_text(TWO_BANDS)
    stations = station_list(tmp_path, "AAA", "BBB")
    words = ["run", stations, "-c", config, "--source", f"sds:{tmp_path}/sds", "-o", folder, "-m", "sequential"]
    refused = invoke(*words, "--memory", "1MB")
    assert (refused.exit_code, "run.memory = '1MB'" in refused.output) == (2, True)
    assert invoke(*words, "--memory", "2GB").exit_code == 0
    assert "2 of them kept" in invoke(*words, "--refresh").output
    assert "0 chunk(s) at once" not in invoke("plan", *words[1:], "--refresh").output
    tables = set()
    for more in ([], ["--stack", "pws"], ["--band", "low"], ["--stack", "pws", "--band", "low"]):
        target = tmp_path / f"{len(tables)}.csv"
        assert invoke("export", folder, "--format", "csv", "-o", target, *more).exit_code == 0
        tables.add(target.read_bytes())
    assert len(tables) == 4
    chosen = ["--components", "NN", "--stack", "pws", "--band", "low"]
    text = invoke("prov", folder, "--pair", "XX.AAA-XX.BBB", *chosen).output
    assert "stack:pws/low/NN/XX.AAA-XX.BBB" in text
    file = next((tmp_path / "sds").rglob("*AAA..BHN*"))
    assert "stack:pws/low/NN" in invoke("prov", folder, "--file", file, "--direction", "forward").output
    assert "leave --direction out" in invoke("prov", folder, "--file", file, "--direction", "back").output
    made = invoke("prov", "query", folder, "--made", "XX.AAA-XX.BBB", "--components", "NN", "--stack", "pws").output
    assert "BHN" in made
    assert "BHZ" not in made
    assert invoke("prov", "query", folder, "--kept").output == "nothing\n"


TWO_BANDS = """
[data]
channels = ["BH?"]
start = "2024-03-01"
end = "2024-03-01T02:00:00"
chunk_s = 3600
[condition]
band_hz = [0.1, 1.0]
[window]
length_s = 600.0
step_s = 600.0
[correlate]
components = ["ZZ", "NN"]
max_lag_s = 30.0
[stack]
methods = ["linear", "pws"]
[[bands]]
name = "low"
band_hz = [0.1, 0.5]
"""


def test_plot_of_what_is_not_there(demo, invoke):
    result = invoke("plot", demo, "--pair", "XX.D00", "XX.NOPE")
    assert (result.exit_code, "no station 'XX.NOPE'" in result.output) == (1, True)
    result = invoke("plot", demo, "--pair", "XX.D00", "XX.D13")
    assert (result.exit_code, "have no stack of ZZ" in result.output) == (1, True)


GRAPH = """
from xcorr.core import IterativePE, ProducerPE, WorkflowGraph

class Numbers(ProducerPE):
    def __init__(self):
        ProducerPE.__init__(self)
        self.counter = 0
    def _process(self, inputs):
        self.counter += 1
        return self.counter

class Double(IterativePE):
    stateless = True

    def _process(self, data):
        return 2 * data

graph = WorkflowGraph()
graph.connect(Numbers(), "output", Double(), "input")
lonely = WorkflowGraph()
lonely.add(Double())
"""


def test_workflow_run(tmp_path, invoke):
    path = tmp_path / "my_workflow.py"
    path.write_text(GRAPH)
    assert "2 workflow graphs (graph, lonely); name one" in invoke("workflow", "run", path).output
    result = invoke("workflow", "run", f"{path}:graph", "-i", 3)
    assert result.exit_code == 0, result.output
    assert "Double.output: [2, 4, 6]" in result.output
    result = invoke("workflow", "run", f"{path}:lonely", "-d", '{"Double": [{"input": 21}]}')
    assert "Double.output: [42]" in result.output
    (tmp_path / "in.json").write_text('{"Double": [{"input": 1}, {"input": 2}]}')
    result = invoke("workflow", "run", f"{path}:lonely", "-f", tmp_path / "in.json")
    assert "Double.output: [2, 4]" in result.output


@pytest.mark.parametrize(
    ("content", "arguments", "code", "message"),
    [
        (None, [], 2, "there is no file"),
        ("x = 1\n", [], 2, "has no workflow graph"),
        (GRAPH, [":other"], 2, "has no attribute 'other'"),
        (GRAPH, [":Numbers"], 2, "not a WorkflowGraph"),
        (GRAPH, [":lonely"], 2, "'Double' has no input: connect 'input' or give it data"),
        (GRAPH, [":graph", "-d", "{"], 2, "not JSON"),
        (GRAPH, [":graph", "-d", '{"Nmbers": 1}'], 2, "did you mean 'Numbers'"),
        (GRAPH, [":graph", "-d", "{}", "-i", "2"], 2, "give input once"),
        (GRAPH.replace("2 * data", "2 / 0"), [":graph"], 1, "ZeroDivisionError: division by zero"),
    ],
)
def test_workflow_run_explains(tmp_path, invoke, content, arguments, code, message):
    path = tmp_path / "flow_with_a_problem.py"
    if content is not None:
        path.write_text(content)
    attribute, *rest = arguments or [""]
    result = invoke("workflow", "run", f"{path}{attribute}", *rest)
    sys.modules.pop("flow_with_a_problem", None)
    assert result.exit_code == code, result.output
    assert message in result.output


def test_an_import_error_inside_a_workflow_is_its_own(tmp_path, invoke):
    path = tmp_path / "flow_that_imports.py"
    path.write_text("import no_such_package_at_all\n")
    result = invoke("workflow", "run", path)
    assert result.exit_code == 2
    frames = [line for line in result.output.splitlines() if line.startswith("  File ")]
    assert frames == [f'  File "{path}", line 1, in <module>']  # of the user's file, not of ours
    assert "raised ModuleNotFoundError: No module named 'no_such_package_at_all'" in result.output
    result = invoke("workflow", "run", "no_such_workflow_module")
    assert (result.exit_code, "no module and no file 'no_such_workflow_module'" in result.output) == (2, True)


def test_elements_are_listed_and_shown(invoke):
    listed = invoke("pe", "list").output
    for name in ("ReadStation", "CorrelateStrips", "WriteShards"):
        assert name in listed
        shown = invoke("pe", "show", name)
        assert shown.exit_code == 0
        assert len(shown.output.splitlines()) > 2
    wrong = invoke("pe", "show", "ReadStations")
    assert (wrong.exit_code, "did you mean 'ReadStation'" in wrong.output) == (2, True)


def test_listing_loads_no_element():
    code = (
        "from click.testing import CliRunner as R; from xcorr.cli.program import main; import sys; "
        "R().invoke(main, ['pe', 'list']); print([m for m in sys.modules if m.startswith('xcorr.pes')])"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.strip() == "[]"


def test_packages_are_the_folders():
    for folder in {p.parent for base in ("xcorr", "core", "mappings", "pes") for p in (ROOT / base).rglob("*.py")}:
        assert (folder / "__init__.py").exists(), f"{folder} would be left out of the wheel"
    for name in ("core", "pes", "mappings"):
        link = ROOT / "xcorr" / name
        assert link.is_symlink()
        assert link.resolve() == ROOT / name


def test_registered_elements_exist_and_are_all_ours():
    from xcorr import pes
    from xcorr.core import GenericPE, installed

    for name in installed.names("elements"):
        assert issubclass(getattr(pes, name), GenericPE)


def test_workflow_plan_and_draw(tmp_path, invoke):
    path = tmp_path / "flow_to_draw.py"
    path.write_text(GRAPH)
    result = invoke("workflow", "run", f"{path}:graph", "--plan", "-m", "threads", "-n", 3)
    assert "Double: 3 instance(s) on worker(s) 0, 1, 2" in result.output
    assert invoke("workflow", "draw", f"{path}:graph").output.startswith("digraph")
    assert invoke("workflow", "draw", f"{path}:graph", "--format", "mermaid").output.startswith("flowchart")
    assert invoke("workflow", "draw", f"{path}:graph", "--format", "svg", "-o", tmp_path / "g.svg").exit_code == 0
    assert (tmp_path / "g.svg").read_text().startswith("<svg")


def test_doctor_names_what_works_and_what_the_source_holds(tmp_path, invoke, monkeypatch):
    import archives

    archives.write(tmp_path / "sds", "AAA")
    archives.write(tmp_path / "sds", "BBB")
    stations = archives.station_list(tmp_path, "AAA", "BBB", "GONE")
    result = invoke("doctor", stations, "--source", f"sds:{tmp_path}/sds")
    assert result.exit_code == 0, result.output
    expected = (
        "ok       numpy",
        "ok       memory",
        "lacking  stations       2 with data, 1 of 3 lines without",
        "line 3 (XX GONE): no such station in the source",
        "2 station(s) without",
        "ok       files",
    )
    for words in expected:
        assert words in result.output
    result = invoke("doctor", stations, "--source", f"sds:{tmp_path}/nowhere")
    assert result.exit_code == 1
    assert "MISSING  source" in result.output

    import xcorr.campaign.doctor

    monkeypatch.setattr(
        xcorr.campaign.doctor, "OPTIONAL", {"no_such_package": "pip install it", "mpi4py": "pip install mpi"}
    )
    result = invoke("doctor")
    assert result.exit_code == 0
    assert "lacking  no_such_package" in result.output
    assert "pip install it" in result.output


QUICK = (("2>&-", "sequential"), (">&- 2>&- <&-", "processes"))
CLOSED = [
    (c, m)
    for c in ("2>&-", ">&-", "<&-", ">&- 2>&- <&-")
    for m in ("sequential", "threads", "processes", "mpi", "dask")
]


@pytest.mark.parametrize(
    ("closed", "mapping"), [case if case in QUICK else pytest.param(*case, marks=pytest.mark.slow) for case in CLOSED]
)
def test_closed_streams_end_no_run_and_harm_no_file(tmp_path, closed, mapping):
    for code in ("AAA", "BBB"):
        write(tmp_path / "archive", code)
    station_list(tmp_path, "AAA", "BBB")
    program = [str(Path(sys.executable).with_name("xcorr")), "run", "stations.txt", "--source", "sds:archive"]
    options = [f"--set={s}.{k}={v!r}" for s, keys in SETTINGS.items() for k, v in keys.items()]
    command = shlex.join([*program, "-m", mapping, *options])
    done = subprocess.run(
        ["bash", "-c", f"{command} {closed}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(problems(tmp_path / "stations.xcorr")) == []
    assert "Traceback" not in done.stderr


def test_an_exit_of_the_users_file_is_an_error(tmp_path):
    for k, text in enumerate(("import sys; sys.exit(0)", "raise KeyboardInterrupt", "raise GeneratorExit")):
        (tmp_path / f"leaves{k}.py").write_text(text + "\n")
        command = [str(Path(sys.executable).with_name("xcorr")), "workflow", "run", str(tmp_path / f"leaves{k}.py")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert f"leaves{k}.py raised" in done.stderr


def test_the_public_face_is_there_and_costs_nothing_before_it_is_used():
    code = (
        "import sys, xcorr\nloaded = [m for m in ('numpy', 'obspy', 'click', 'h5py') if m in sys.modules]\n"
        "print(loaded, [name for name in xcorr.__all__ if getattr(xcorr, name) is None], xcorr.__version__)\n"
        "print(xcorr.build_settings({'condition': {'rate_hz': 2.0, 'band_hz': [0.1, 0.5]}}).condition.rate_hz)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.splitlines() == [f"[] [] {version('xcorr')}", "2.0"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("SLURM_JOB_NUM_NODES", "the job has 3 hosts; start mpiexec xcorr run"),
        ("SLURM_STEP_NUM_TASKS", "srun started 3 tasks that are not ranks of one MPI"),
    ],
)
def test_jobs_of_slurm_without_ranks(tmp_path, invoke, monkeypatch, name, words):
    """The same on a real SLURM is in test_slurm.py."""
    monkeypatch.setenv(name, "3")
    given = (ROOT / "configs" / "demo" / "stations.txt", "-c", ROOT / "configs" / "demo" / "xcorr.toml")
    refused = invoke("run", *given, "-o", tmp_path / "c.xcorr", "-m", "mpi", "-n", "2")
    assert refused.exit_code == 1
    assert words in refused.output
    assert invoke("run", *given, "-o", tmp_path / "c.xcorr", "-m", "threads", "-n", "2").exit_code == 0


def test_texts_are_utf_8_in_every_locale(tmp_path):
    """``xcorr init`` writes letters that the C locale does not have."""
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "xcorr", "init", tmp_path / "mine"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "mine" / "xcorr.toml").read_bytes().decode("utf-8")
    assert not text.isascii(), "the test needs a letter beyond ASCII"
    assert tomllib.loads(text)
