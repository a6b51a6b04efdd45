"""The site says what is there: every setting, every command, every public object; its commands and tables are true."""

import dataclasses
import importlib
import inspect
import json
import re
import shlex
import sys
from types import SimpleNamespace

import click
import pytest
from conftest import ROOT

import xcorr
from xcorr.cli.program import main
from xcorr.core import installed
from xcorr.settings.toml import KINDS, SECTIONS

sys.path.insert(0, str(ROOT / "docs"))
import conf
import reference_pages

PAGES = sorted((ROOT / "docs").rglob("*.md"), key=str)
PACKAGES = ("xcorr", "xcorr.core", "xcorr.mappings", "xcorr.results", "xcorr.results.figures")


def settings():
    """All settings by name."""
    for section, kind in KINDS.items():
        for field in dataclasses.fields(kind):
            if "tables" in field.metadata:
                for name in installed.names(field.metadata["tables"]):
                    options = installed.load(field.metadata["tables"], name).Options
                    yield from (f"{section}.{name}.{f.name}" for f in dataclasses.fields(options))
            else:
                yield f"{section}.{field.name}"


def test_every_setting_is_in_the_reference():
    page = reference_pages.settings_page()
    assert [name for name in settings() if f"| `{name}` |" not in page] == []
    assert len(SECTIONS) >= 10


def test_every_command_is_in_the_reference():
    page = reference_pages.commands_page()
    names = installed.names("commands")
    assert len(names) > 20
    assert [name for name in names if f"## xcorr {name}\n" not in page] == []
    assert "### xcorr prov query\n" in page
    assert "Exit codes of all commands" in page


def shell_commands():
    """Return (page, command) of what tutorials and consoles show: lines that begin with $ or !."""
    for page in PAGES:
        for line in re.findall(r"^(?:\$ |!)(?:[A-Z_]+=\S+ )*(xcorr [^\n]+)", page.read_text(), re.M):
            yield page.name, re.split(r" [|>&]|2>|  #|; ", line)[0]


def parsed(command):
    """Parse a command against the real command line, without running it. Raises click.UsageError."""
    words = shlex.split(command)[1:]
    found, context = main, click.Context(main, info_name="xcorr")
    while isinstance(found, click.Group) and words and not words[0].startswith("-"):
        sub = found.get_command(context, words[0])
        if sub is None:
            if found is main:
                raise click.UsageError(f"no command {words[0]}")
            break  # prov takes a campaign itself
        found, context, words = sub, click.Context(sub, info_name=words[0], parent=context), words[1:]
    found.make_parser(context).parse_args(list(words))


@pytest.mark.parametrize(("page", "command"), sorted(set(shell_commands())))
def test_commands_in_tutorials_and_consoles_parse(page, command):
    parsed(command)


def test_a_wrong_command_does_not_parse():
    for wrong in (
        "xcorr ran stations.txt",
        "xcorr run stations.txt --sauce sds:x",
        "xcorr prov query --maid A-B",
    ):
        with pytest.raises(click.UsageError):
            parsed(wrong)


def test_tables_for_people_who_move_name_settings_that_exist():
    text = (ROOT / "docs" / "howto" / "moving.md").read_text()
    text = text.partition("## dispel4py")[0]
    known, named = set(settings()), set()
    for row in re.findall(r"^\| .* \| (.*) \| .*\|$", text, re.M):
        named |= set(re.findall(r"`([a-z]+\.[a-z_]+)", row))
    assert len(named) > 30
    assert named - known == set()


def test_recipes_are_settings(tmp_path):
    """Every TOML block of the recipes builds, on its own or, where it only adds a measure, beside defaults."""
    import tomllib

    from xcorr.settings.toml import build

    blocks = re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs" / "howto" / "recipes.md").read_text(), re.S | re.M)
    assert len(blocks) >= 6
    (tmp_path / "earthquakes.xml").write_text("")
    for block in blocks:
        build(tomllib.loads(block))


def public():
    """Return (package, name, object) of every public object."""
    for name in installed.names("elements"):
        yield "xcorr.pes", name, installed.load("elements", name)
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            if not name.startswith("__"):
                yield package, name, getattr(module, name)


def documented():
    """Return the modules, and single objects, that the pages of the library document."""
    pages = [p for p in (ROOT / "docs" / "reference" / "library").glob("*.md") if p.name != "elements.md"]
    text = "".join([reference_pages.elements_page(), *(p.read_text() for p in pages)])
    return set(re.findall(r"automodule:: (\S+)", text)), set(re.findall(r"auto(?:function|class):: (\S+)", text))


@pytest.mark.parametrize(("package", "name", "what"), [pytest.param(*p, id=".".join(p[:2])) for p in public()])
def test_every_public_object_is_documented(package, name, what):
    if inspect.ismodule(what) or not (inspect.isclass(what) or callable(what)):
        return
    text = inspect.getdoc(what) or ""
    assert len(text) > 20
    modules, single = documented()
    places = {f"{package}.{name}", f"{what.__module__}.{name}"}
    assert package in modules or what.__module__ in modules or places & single


def raising(function):
    """Return whether a function raises an error of xcorr itself, for what it was given."""
    source = inspect.getsource(function)
    return re.search(r"^\s+raise [A-Z]\w+Error\(", source, re.M) is not None


def functions():
    modules, _ = documented()
    for module in sorted(modules):
        for name, found in vars(importlib.import_module(module)).items():
            if inspect.isfunction(found) and not name.startswith("_") and found.__module__.startswith("xcorr"):
                yield f"{found.__module__}.{name}", found


def test_functions_that_raise_say_so():
    assert len(dict(functions())) > 100
    silent = [name for name, found in functions() if raising(found) and "aise" not in (inspect.getdoc(found) or "")]
    assert silent == []


def test_docstrings_become_lists_and_keep_their_bars():
    lines = ["Parameters", "----------", "stations : a |list|, or", "    its ``a|b`` lines.", "", "Raises."]
    conf.plain(None, "function", "f", None, None, lines)
    assert lines[:4] == ["**Parameters**", "", "- ``stations``: a \\|list\\|, or", "  its ``a|b`` lines."]
    assert lines[-1] == "Raises."


def test_downloaded_notebooks_stand_alone(tmp_path):
    folder = tmp_path / "_downloads" / "1"
    folder.mkdir(parents=True)
    text = (
        "A page. ({nb-download}`x.ipynb` is it.) See [Scale](../scale.md), ![a](b.png) and [ObsPy](https://obspy.org)."
    )
    book = {"cells": [{"cell_type": "markdown", "source": [text]}, {"cell_type": "code", "source": ["a[0](1)"]}]}
    (folder / "x.ipynb").write_text(json.dumps(book))
    conf.alone(SimpleNamespace(outdir=tmp_path), None)
    written, code = json.loads((folder / "x.ipynb").read_text())["cells"]
    assert "".join(written["source"]) == "A page. See Scale, a and [ObsPy](https://obspy.org)."
    assert code["source"] == ["a[0](1)"]


def test_the_version_is_in_one_place():
    import tomllib

    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == xcorr.__version__
