"""The examples in docstrings and in docs/elements.md run."""

import doctest
import importlib
import pkgutil

import pytest
from conftest import ROOT

import xcorr.core
import xcorr.pes

MODULES = [f"{p.__name__}.{m.name}" for p in (xcorr.core, xcorr.pes) for m in pkgutil.iter_modules(p.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_elements_are_used_alone_in_the_docs():
    page = ROOT / "docs" / "elements.md"
    done = doctest.testfile(str(page), module_relative=False)
    assert done.failed == 0
    assert done.attempted > 40
    for name in xcorr.pes.__all__:
        assert f"{name}(" in page.read_text(), f"docs/elements.md does not use {name}"
