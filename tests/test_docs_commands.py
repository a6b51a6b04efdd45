"""Every xcorr command in README and docs runs as written, in a folder of its own, on every mapping."""

import re
import shlex
import sqlite3
import subprocess
import sys
import zipfile

import obspy
import pytest
from archives import START, trace, waveform, write
from conftest import ROOT
from foreign_files import write_msnoise, write_noisepy, write_yam
from web_server import TOKEN, serving

CAMPAIGNS = "/api/v1/campaigns"
MADE = ("docs/reference/", "docs/_build/")  # by the build of the site
FOUND = ["README.md", *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md")))]
PAGES = [page for page in FOUND if not page.startswith(MADE)]
MENTIONS = {  # of a command, not commands
    f"xcorr {name}"
    for name in (
        "run",
        "plan",
        "status",
        "compact",
        "verify",
        "stack",
        "plot",
        "export",
        "pack",
        "serve",
        "archive",
        "monitor",
        "dispersion",
        "demo",
        "export --dispersion waves",
        "merge",
        "import",
        "info",
    )
}
ELSEWHERE = {  # and why
    "workflow run module": "the name of anybody's module",
    "nimbus.example.org": "needs a cluster of somebody's",
    "xcorr storm ": "tests/test_storm.py",
    "$SLURM_": "tests/test_slurm.py",
    "xcorr serve ": "tests/test_web_api.py",
    "s3://": "tests/test_archive.py",
    "--kept": "tests/test_archive.py",
    "--start $start": "tests/test_slurm.py",
    "months/": "tests/test_slurm.py",
    "cluster.json": "tests/test_dask.py",
}
STATIONS = {"XX": ("A", "B", "C"), "CI": ("ADO", "ARV")}
LIST = "".join(f"{network} {code}\n" for network, codes in STATIONS.items() for code in codes)


def commands(page):
    """Return the commands of a page in order: lines of its blocks, and those in the text."""
    text = (ROOT / page).read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.S | re.M)
    found = [line.strip() for block in blocks for line in block.splitlines() if re.match(r"xcorr [a-z]", line)]
    plain = re.sub(r"^```\w*\n(.*?)^```", "", text, flags=re.S | re.M)
    found += re.findall(r"`(xcorr [^`]+)`", plain)
    return [c for c in found if c not in MENTIONS and not any(part in c for part in ELSEWHERE)]


def file_of(page, name, language):
    """Return the block of a page that a file's name announces."""
    text = (ROOT / page).read_text()
    return re.search(rf"`{re.escape(name)}`[^\n]*:\n\n```{language}\n(.*?)^```", text, re.S | re.M)[1]


@pytest.fixture
def folder(tmp_path, monkeypatch, invoke):
    """A working folder as the pages take for granted."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in sys.modules if n.startswith(("FILE", "mine"))]:
        monkeypatch.delitem(sys.modules, name)  # of another folder, in an earlier test
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "own"))
    seconds = 4 * 3600
    for network, codes in STATIONS.items():
        for code in codes:
            data = waveform(sum(map(ord, code)), seconds=seconds)
            path = write(tmp_path / "archive", code, data)
            if network != "XX":
                target = tmp_path / "archive" / "2024" / network / code / "BHZ.D" / path.name.replace("XX.", "CI.")
                target.parent.mkdir(parents=True)
                made = trace(code, data)
                made.stats.network = network
                made.write(str(target), format="MSEED")
                path.unlink()
    inventory = obspy.Inventory(networks=[])
    inventory.write("archive/stations.xml", format="STATIONXML")
    obspy.Stream([trace(c, waveform(k), start=START) for k, c in enumerate("AB")]).write("day.mseed", format="MSEED")
    (tmp_path / "stations.txt").write_text(LIST)
    (tmp_path / "mine.py").write_text(file_of("docs/provenance.md", "mine.py", "python"))
    (tmp_path / "scaled.toml").write_text(file_of("docs/provenance.md", "scaled.toml", "toml"))
    measure = re.search(r"^```toml\n(.*?)^```", (ROOT / "docs/monitoring.md").read_text(), re.S | re.M)[1]
    (tmp_path / "measure.toml").write_text(measure)
    (tmp_path / "FILE.py").write_text((ROOT / "README.md").read_text().split("```python\n")[2].split("print(")[0])
    return tmp_path


def prepare(page, folder, invoke):
    """Make the campaigns that a page takes for granted."""
    text = " ".join(commands(page))
    if "net.xcorr" in text and "-o net.xcorr" not in text:
        short = ["--set", "window.length_s=600.0", "--set", "window.step_s=600.0"]
        done = invoke("run", "stations.txt", "--source", "files:day.mseed", "-o", "net.xcorr", *short)
        assert done.exit_code == 0, done.output
    if "CCF" in text:
        write_noisepy(folder / "CCF")
        write_msnoise(folder / "PROJECT")
        write_yam(folder / "correlations.h5")
        obspy.Inventory(networks=[]).write("stations.xml", format="STATIONXML")
    if "jan.xcorr feb.xcorr" in text:
        for name, hours in (("jan", (0, 2)), ("feb", (2, 4))):
            limits = [f"--{end}=2024-03-01T{hour:02d}:00:00" for end, hour in zip(("start", "end"), hours, strict=True)]
            command = ["run", "stations.txt", "--source", "sds:archive", "--set", "data.chunk_s=7200", *limits]
            assert invoke(*command, "-o", f"{name}.xcorr").exit_code == 0
    if "A.xcorr B.xcorr" in text:
        for name in ("A", "B"):
            assert invoke("run", "stations.txt", "--source", "sds:archive", "-o", f"{name}.xcorr").exit_code == 0


def arguments(command, mapping, folder):
    """Return a command's arguments, with a mapping where it runs something and says none."""
    words = shlex.split(command, comments=True)[1:]
    if "NAME" in words:
        with sqlite3.connect(folder / "net.xcorr" / "provenance" / "store.sqlite") as store:
            (name,) = store.execute("SELECT id FROM product LIMIT 1").fetchone()
        words[words.index("NAME")] = name
    words = [{"FILE": "FILE.py", "MAPPING": mapping, "N": "2"}.get(w, w) for w in words]
    if (words[0] in ("run", "monitor", "dispersion") or words[:2] == ["workflow", "run"]) and "-m" not in words:
        words += ["-m", mapping, "-n", "2"]
    return words


def run_page(page, mapping, folder, invoke):
    prepare(page, folder, invoke)
    for command in commands(page):
        words = arguments(command, mapping, folder)
        done = invoke(*words)
        assert done.exit_code == 0, f"{page}: {command}: {done.output}"
        if words[0] == "init":
            (folder / words[1] / "stations.txt").write_text(LIST)


WITH_COMMANDS = [page for page in PAGES if commands(page)]
WITH_RUNS = [page for page in WITH_COMMANDS if any(" run " in c or " dispersion " in c for c in commands(page))]


def test_there_are_commands():
    assert sum(len(commands(page)) for page in PAGES) > 30
    assert {"README.md", "docs/campaigns.md", "docs/provenance.md", "docs/storm.md"} <= set(WITH_RUNS)


def slow_but(quick):
    return [p if p in quick else pytest.param(p, marks=pytest.mark.slow) for p in WITH_COMMANDS]


@pytest.mark.parametrize("page", slow_but({"README.md", "docs/provenance.md"}))
def test_commands_run_as_written(page, folder, invoke):
    run_page(page, "sequential", folder, invoke)


@pytest.mark.slow
@pytest.mark.parametrize("mapping", ["threads", "processes", "mpi", "dask", "storm"])
@pytest.mark.parametrize("page", WITH_RUNS)
def test_commands_run_as_written_on_every_mapping(page, mapping, folder, invoke):
    run_page(page, mapping, folder, invoke)


def test_curl_examples_run_as_written(folder, invoke):
    """Every line with curl in docs/web.md, of a real server; the paths of the archive are those of this folder."""
    block = re.search(r"^```\n(H=.*?)^```", (ROOT / "docs/web.md").read_text(), re.S | re.M)[1]
    lines = [line for line in block.splitlines() if line.startswith("curl")]
    assert len(lines) > 10
    assert invoke("run", "stations.txt", "--source", "sds:archive", "-o", "net.xcorr").exit_code == 0
    with serving(folder / "net.xcorr") as server:
        head = f'export XCORR_TOKEN={TOKEN}; H="Authorization: Bearer $XCORR_TOKEN"; A={server.base}{CAMPAIGNS}\n'
        for line in lines:
            endless = "/events" in line  # ended after some seconds, with code 124
            command = (
                line.partition(" #")[0].replace("/archive", f"{folder}/archive").replace("curl ", "curl --fail -sS ", 1)
            )
            shell = ["sh", "-c", f"{head}{'timeout 3 ' * endless}{command}"]
            done = subprocess.run(shell, capture_output=True, text=True)
            assert done.returncode == 124 * endless, (line, done.stderr)
            assert "event: progress" in done.stdout or not endless
    assert obspy.read("ADO_ARV.sac")[0].stats.network == "CI"
    with zipfile.ZipFile("best.zip") as best, zipfile.ZipFile("crate.zip") as crate:
        assert "manifest-sha256.txt" in best.namelist()
        assert "ro-crate-metadata.json" in crate.namelist()
    assert (folder / "net.h5").read_bytes() == (folder / "net.xcorr" / "xcorr.h5").read_bytes()
