"""Workflows, elements and the registry: ``xcorr workflow``, ``pe`` and ``registry``."""

from __future__ import annotations

import inspect
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xcorr.cli.options import EXISTING_FILE, OPTIONAL_PATH, write_out
from xcorr.core.errors import GraphError

if TYPE_CHECKING:
    from xcorr.core import WorkflowGraph


@click.group()
def workflow() -> None:
    """Run or draw any workflow of processing elements."""


@workflow.command("run")
@click.argument("module")
@click.option("-m", "--mapping", default="sequential", show_default=True, help="Mapping that runs the workflow.")
@click.option("-n", "--workers", type=click.IntRange(min=1), help="Number of workers.")
@click.option("-i", "--iterations", type=click.IntRange(min=0), help="Number of iterations of every source.")
@click.option("-d", "--data", help='Input as JSON: {"element": [{"input": value}, ...]} or {"element": iterations}.')
@click.option("-f", "--file", "data_file", type=EXISTING_FILE, help="File with the input as JSON, as for -d.")
@click.option("--provenance", type=OPTIONAL_PATH, help="Folder for a record of every invocation, for xcorr prov.")
@click.option("--plan", "plan_only", is_flag=True, help="Print the instances and their workers, and run nothing.")
def workflow_run(
    *,
    module: str,
    mapping: str,
    workers: int | None,
    iterations: int | None,
    data: str | None,
    data_file: Path | None,
    plan_only: bool,
    provenance: Path | None,
) -> None:
    """Run the graph of MODULE[:ATTRIBUTE], FILE.py[:ATTRIBUTE], a workflow file (FILE.toml) or a registered workflow.

    Prints the items of outputs that are not connected.
    """
    from xcorr.core import installed, make_plan
    from xcorr.core.loading import load_graph
    from xcorr.mappings import run

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    out = sys.stdout  # an element may put another in its place
    graph = load_graph(module)
    inputs = _inputs(graph, iterations, data, data_file)
    if plan_only:
        engine = installed.load("mappings", mapping)()
        click.echo(make_plan(graph, engine.choose_workers(workers), inputs).describe())
        return
    if provenance is None:
        outcome = run(graph, inputs, mapping, workers)
    else:
        from xcorr.provenance.runs import Circumstances, recorded
        from xcorr.store.lock import CampaignLock

        provenance = provenance.absolute()
        provenance.mkdir(parents=True, exist_ok=True)
        with (
            CampaignLock(provenance),
            recorded(provenance, Circumstances("item", mapping, workers, "", "", module)) as record,
        ):
            assert record is not None
            outcome = run(graph, inputs, mapping, workers, record.observers(graph))
    for element, ports in outcome.results.items():
        for port, items in ports.items():
            click.echo(f"{element}.{port}: {_shown(items)}", file=out)
    for s in outcome.statistics:
        click.echo(
            f"{s.element}[{s.instance}]: {s.received} received, {s.written} written, {s.seconds:.3f} s",
            err=True,
        )


@workflow.command("draw")
@click.argument("module")
@click.option("--format", "kind", type=click.Choice(["dot", "mermaid", "svg"]), default="dot", show_default=True)
@click.option("-o", "--output", type=OPTIONAL_PATH, help="File to write; default: the terminal.")
def workflow_draw(module: str, kind: str, output: Path | None) -> None:
    """Draw the graph of MODULE[:ATTRIBUTE] or FILE.py[:ATTRIBUTE]."""
    from xcorr.core.draw import FORMATS
    from xcorr.core.loading import load_graph

    write_out(FORMATS[kind](load_graph(module)), output)


def _shown(items: list[Any]) -> str:
    """Return items as text, whatever making it raises."""
    try:
        return str(items)
    except Exception as error:
        return f"{len(items)} item(s), which cannot be shown: {type(error).__name__}: {error}"


def _inputs(graph: WorkflowGraph, iterations: int | None, data: str | None, data_file: Path | None) -> dict[Any, Any]:
    if sum(x is not None for x in (iterations, data, data_file)) > 1:
        raise GraphError("several inputs were given; give input once: -i, -d or -f")
    try:
        text = data_file.read_text("utf-8") if data_file else data
    except UnicodeDecodeError as error:
        raise GraphError(f"{data_file}: the input is not text: {error}") from None
    if text is not None:
        try:
            given = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise GraphError(f"the input is not JSON: {error}") from None
        if not isinstance(given, dict):
            raise GraphError('the input must be a JSON object {"element": [{"input": value}, ...]}')
        return given
    if iterations is None:
        return {}
    elements, edges = graph.flattened()
    return {e: iterations for e in elements if not e.inputconnections and not any(x.target is e for x in edges)}


@click.group()
def pe() -> None:
    """List and show the registered processing elements."""


@pe.command("list")
def pe_list() -> None:
    """List the names of elements. No element is loaded or executed."""
    from xcorr.core import installed

    for name in installed.names("elements"):
        click.echo(f"{name:24} {installed.target('elements', name)}")


@pe.command("show")
@click.argument("name")
def pe_show(name: str) -> None:
    """Show an element's description, ports and parameters."""
    from xcorr.core import installed

    element = installed.load("elements", name)
    click.echo(f"{name}{inspect.signature(element)}\n\n{inspect.getdoc(element)}")


@click.group()
def registry() -> None:
    """Elements and workflows by name: built-in ones, those of installed packages, and your own."""


@registry.command("add")
@click.argument("source")
def registry_add(source: str) -> None:
    """Register the elements and workflows of FILE.py[:NAME], or a workflow file (FILE.toml), as your own."""
    from xcorr.core import registry

    for entry in registry.add(source):
        click.echo(f"{entry.name} {entry.version}: {entry.kind} {entry.content_hash[:12]}")


@registry.command("list")
def registry_list() -> None:
    """List all names. No code is executed."""
    _list()


@registry.command("search")
@click.argument("text")
def registry_search(text: str) -> None:
    """List the entries with TEXT in their name or description. No code is executed."""
    _list(text)


def _list(text: str = "") -> None:
    """List the entries of the registry that have a text in their name or description."""
    from xcorr.core import registry

    for entry in registry.entries():
        if text.lower() in f"{entry.name} {entry.docs}".lower():
            click.echo(f"{entry.name:24} {entry.kind:9} {entry.version:8} {entry.place:10} {entry.summary}")


@registry.command("show")
@click.argument("name")
def registry_show(name: str) -> None:
    """Show version, content hash, ports, parameters and description of NAME."""
    from xcorr.core import registry

    click.echo(registry.show(name))


@registry.command("remove")
@click.argument("name")
def registry_remove(name: str) -> None:
    """Remove one of your own elements or workflows from the registry."""
    from xcorr.core import registry

    registry.remove(name)
    click.echo(f"removed {name}")
