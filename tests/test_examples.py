"""The examples in docstrings and in docs/elements.md run."""

import doctest
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import xcorr
from xcorr.core import installed

FOUND = [(m.name, m.module_finder.find_spec(m.name)) for m in pkgutil.walk_packages(xcorr.__path__, "xcorr.")]
MODULES = ["xcorr", *(name for name, spec in FOUND if ">>>" in Path(spec.origin).read_text())]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    done = doctest.testmod(importlib.import_module(name))
    assert done.failed == 0
    assert done.attempted > 0


def test_elements_are_used_alone_in_the_docs():
    page = ROOT / "docs" / "elements.md"
    done = doctest.testfile(str(page), module_relative=False)
    assert done.failed == 0
    assert done.attempted > 40
    for name in installed.names("elements"):
        shown = page.read_text() + (installed.load("elements", name).__doc__ or "").partition(">>>")[2]
        assert f"{name}(" in shown, f"neither docs/elements.md nor its docstring has an example of {name}"


def test_every_benchmark_finds_what_it_imports():
    folder = ROOT / "benchmarks"
    names = sorted(p.stem for p in folder.glob("*.py"))
    subprocess.run([sys.executable, "-c", f"import {', '.join(names)}"], cwd=folder, check=True, timeout=60)
