"""What others add: a source and a mapping of another package, an element of one's own in the main job."""

import json
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from xcorr import results
from xcorr.results.compare import differences

MODULE = '''
import shutil
from pathlib import Path

import click

from xcorr.core.interrupt import held
from xcorr.core.loop import Worker
from xcorr.core.options import option
from xcorr.mappings import Engine, Outcome
from xcorr.mappings.engine import tell_progress
from xcorr.pes.correlating import tiles
from xcorr.pes.reading.sds import Sds, SdsOptions
from xcorr.pes.reading.source import Index, SourceError
import dataclasses


@dataclasses.dataclass(frozen=True)
class Options(SdsOptions):
    count: int = option(2, "A number.", least=1)


class Mirror(Sds):
    """An SDS archive whose references are not paths."""

    usage = "mirror:DIR"
    Options = Options

    def index(self, wanted):
        found = super().index(wanted)
        renamed = {k: [dataclasses.replace(c, path=f"m{self.options.count}!{c.path}") for c in v]
                   for k, v in found.coverages.items()}
        return dataclasses.replace(found, source=f"mirror:{self.place}", coverages=renamed)

    def read(self, reference, channels, start_ns, end_ns):
        return super().read(reference.partition("!")[2], channels, start_ns, end_ns)

    def fingerprint(self, reference):
        found = super().fingerprint(reference.partition("!")[2])
        return found and (reference, *found[1:])

    def rate_hz(self, reference):
        return super().rate_hz(reference.partition("!")[2])


def cross_spectra(*args):
    Path("products-made-here").touch()
    tiles.cross_spectra(*args)


to_lags = tiles.to_lags


@click.command()
def count_twice():
    """Count."""
    click.echo("1 2")


def write_names(pairs, target):
    target.write_text("\\n".join(f"{p.attrs['station_1']} {p.attrs['station_2']}" for p in pairs))


class Patient(Engine):
    """Runs everything in the calling thread."""

    most_workers = 1
    one_process = True
    Options = Options

    def __init__(self, count=2):
        self.count = count

    def choose_workers(self, asked):
        return 1

    def execute(self, plan, observers=()):
        worker = Worker(plan, observers=observers, tell=lambda numbers: tell_progress(observers, [numbers]))
        with held(tell=lambda: worker.give_up(KeyboardInterrupt())):
            worker.run()
        Path(f"executed-{self.count}").touch()
        return Outcome(worker.results, [worker.statistics()])
'''
ENTRIES = """[xcorr.arrays]
ours = extra_rooms

[xcorr.commands]
broken = no_such_module:command
count-twice = extra_rooms:count_twice

[xcorr.exports]
names = extra_rooms:write_names

[xcorr.sources]
mirror = extra_rooms:Mirror

[xcorr.mappings]
patient = extra_rooms:Patient
"""


@pytest.fixture(scope="module")
def extra(tmp_path_factory):
    """A package that is installed beside xcorr: a module, and what pip writes of it."""
    folder = tmp_path_factory.mktemp("extra")
    (folder / "extra_rooms.py").write_text(MODULE)
    info = folder / "extra_rooms-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extra-rooms\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    return folder


def program(*args, extra=None, data=None, cwd=None):
    environment = dict(os.environ)
    if extra is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(extra), environment.get("PYTHONPATH", "")])
    if data is not None:
        environment["XDG_DATA_HOME"] = str(data)
    command = [sys.executable, "-m", "xcorr", *map(str, args)]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_a_source_and_a_mapping_of_another_package(extra, demo, tmp_path):
    archive = ROOT / "data" / "demo" / "sds"
    options = (
        "--source",
        f"mirror:{archive}",
        "-m",
        "patient",
        "--set",
        "data.mirror.count=3",
        "--set",
        "run.patient.count=5",
    )
    where = ROOT / "configs" / "demo" / "stations.txt"
    ran = program("run", where, "-o", "x.xcorr", *options, extra=extra, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "executed-5").exists()
    assert list(differences(demo, tmp_path / "x.xcorr")) == []
    told = program("info", "x.xcorr", "--accounts", "--json", extra=extra, cwd=tmp_path)
    files = [name for line in told.stdout.splitlines() for name, _, _ in json.loads(line)["files"]]
    assert files
    assert all(name.startswith(f"m3!{archive}") for name in files)
    again = program("run", where, "-o", "x.xcorr", *options, "--refresh", extra=extra, cwd=tmp_path)
    assert "4 of them kept" in again.stdout
    planned = program("plan", where, "-o", "x.xcorr", *options, "--json", extra=extra, cwd=tmp_path)
    assert json.loads(planned.stdout)["bytes_read"] > 0
    toml = (tmp_path / "x.xcorr" / "campaign.toml").read_text()
    assert "mirror.count = 3" in toml
    assert "patient.count = 5" in toml
    listed = program("init", "new", extra=extra, cwd=tmp_path)
    assert listed.returncode == 0
    assert "# mirror.count = 2" in (tmp_path / "new" / "xcorr.toml").read_text()


def test_an_export_format_of_another_package(extra, demo, tmp_path):
    made = program("export", demo, "--format", "names", "-o", tmp_path / "names.txt", extra=extra, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert len((tmp_path / "names.txt").read_text().splitlines()) == 78
    refused = program("export", demo, "--format", "names", "-o", tmp_path / "again.txt", cwd=tmp_path)
    assert refused.returncode == 2
    assert "'names' is not one of asdf, csv, mseed, netcdf, sac, zarr" in refused.stderr


def test_options_of_others_are_checked(extra, tmp_path):
    where = ROOT / "configs" / "demo" / "stations.txt"
    ran = program("run", where, "--set", "data.mirror.count=0", "-o", "x.xcorr", extra=extra, cwd=tmp_path)
    assert ran.returncode == 2
    assert "data.mirror.count = 0: must be at least 1" in ran.stderr
    ran = program("run", where, "--set", "data.mirror.cout=1", "-o", "x.xcorr", extra=extra, cwd=tmp_path)
    assert "unknown setting data.mirror.cout" in ran.stderr
    ran = program("run", where, "--set", "data.mirror.count=1", "-o", "x.xcorr", cwd=tmp_path)
    assert ran.returncode == 2
    assert "unknown table [data.mirror]" in ran.stderr
    assert "fdsn, files, s3, sds" in ran.stderr
    ran = program("run", where, "--source", "mirror:x", "-o", "x.xcorr", cwd=tmp_path)
    assert "sds:DIR (SeisComP archive)" in ran.stderr
    assert not (tmp_path / "x.xcorr").exists()


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A registry with an element of one's own."""
    folder = tmp_path_factory.mktemp("own")
    page = (ROOT / "docs" / "elements.md").read_text()
    (folder / "scale.py").write_text(re.search(r"`scale\.py`:\n\n```python\n(.*?)^```", page, re.S | re.M)[1])
    assert program("registry", "add", folder / "scale.py", data=folder).returncode == 0
    return folder


def config(folder, text):
    demo = ROOT / "configs" / "demo"
    plain = (demo / "xcorr.toml").read_text().replace("../../data", str(ROOT / "data"))
    (folder / "xcorr.toml").write_text(
        plain.replace('method = "one-bit"', 'method = "none"').replace('"phase"', '"none"') + text
    )
    (folder / "stations.txt").write_text((demo / "stations.txt").read_text())
    return folder / "stations.txt"


@pytest.fixture(scope="module")
def unscaled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unscaled")
    assert program("run", config(folder, ""), "-o", folder / "x.xcorr").returncode == 0
    return folder / "x.xcorr"


@pytest.mark.parametrize(
    "mapping", ["sequential", "processes", *(pytest.param(m, marks=pytest.mark.slow) for m in ("mpi", "dask"))]
)
def test_an_element_of_ones_own_in_the_main_job(own, unscaled, tmp_path, mapping):
    text = '\n[[insert]]\nelement = "Scale"\nafter = "ConditionStation"\nparameters = { factor = 4.0 }\n'
    where = config(tmp_path, text)
    ran = program("run", where, "-o", "x.xcorr", "-m", mapping, "-n", 2, data=own, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    with results.open(tmp_path / "x.xcorr") as scaled, results.open(unscaled) as plain:
        rows = plain.gather("ZZ")
        assert (scaled.gather("ZZ") == 16 * rows)[rows == rows].all(), "a power of two changes no digit"
    shown = program("prov", tmp_path / "x.xcorr", "--format", "provn")
    assert "Scale" in shown.stdout
    assert "factor" in (tmp_path / "x.xcorr" / "campaign.toml").read_text()
    assert program("prov", "query", tmp_path / "x.xcorr", "--changed", data=own).stdout == "nothing\n"
    assert program("verify", tmp_path / "x.xcorr").returncode == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('element = "Scale"\nafter = "Correlate"', "no element of the main job that writes on"),
        ('element = "Scal"\nafter = "ReadStation"', "did you mean 'Scale'"),
        ('element = "Scale"\nafter = "ReadStation"\nparameters = { factr = 1 }', "insert.parameters"),
        ('element = "StackSource"\nafter = "ReadStation"', "insert.parameters"),
    ],
)
def test_an_element_that_cannot_stand_there(own, tmp_path, text, message):
    ran = program("run", config(tmp_path, f"\n[[insert]]\n{text}\n"), "-o", "x.xcorr", data=own, cwd=tmp_path)
    assert ran.returncode == 2
    assert message in ran.stderr
    assert not (tmp_path / "x.xcorr").exists()


def test_a_changed_module_behind_an_element_is_named(demo, tmp_path):
    """An edit of whiten.py concerns TransformStation: its source is covered too."""
    import shutil

    copy = tmp_path / "tree"
    for name in ("xcorr", "core", "pes", "mappings"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    changed = copy / "pes" / "preparing" / "whiten.py"
    changed.write_text(changed.read_text() + "\n# another\n")
    assert program("prov", "query", demo, "--changed").stdout == "nothing\n"
    said = program("prov", "query", demo, "--changed", extra=copy, cwd=tmp_path).stdout
    assert "TransformStation: xcorr.pes.preparing.whiten has changed since the last run" in said
    assert "ReadStation" not in said


def test_a_command_of_another_package(extra):
    assert program("count-twice", extra=extra).stdout == "1 2\n"
    every = program("--help", extra=extra)
    assert "count-twice" in every.stdout, every.stderr
    assert "this command cannot be loaded" in every.stdout, "and the others go on"
    assert "No module named 'no_such_module'; install its package again" in program("broken", extra=extra).stderr


def test_products_and_lags_by_another_package(extra, demo, tmp_path):
    where = ROOT / "configs" / "demo" / "stations.txt"
    ran = program("run", where, "-o", "x.xcorr", "--set", "run.arrays=ours", extra=extra, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "products-made-here").exists()
    assert list(differences(demo, tmp_path / "x.xcorr")) == []
    missing = program("run", where, "-o", "y.xcorr", "--set", "run.arrays=their", cwd=tmp_path)
    assert missing.returncode == 2
    assert "no array is called 'their'" in missing.stderr
    assert not (tmp_path / "y.xcorr").exists()
