"""What the commands of workflows, elements and Storm do; :mod:`xcorr.cli_tools` parses and calls."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import click

from xcorr.core import WorkflowGraph
from xcorr.core.errors import GraphError


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
    """Load and run a workflow, and print the outputs that nothing is connected to."""
    from xcorr.core import make_plan, registry
    from xcorr.core.loading import load_graph
    from xcorr.mappings import run

    graph = load_graph(module)
    inputs = _inputs(graph, iterations, data, data_file)
    if plan_only:
        engine = registry.load("mappings", mapping)()
        click.echo(make_plan(graph, engine.choose_workers(workers), inputs).describe())
        return
    if provenance is None:
        outcome = run(graph, inputs, mapping, workers)
    else:
        from xcorr.lock import CampaignLock
        from xcorr.provenance.runs import Circumstances, recorded

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
            click.echo(f"{element}.{port}: {items}")
    for s in outcome.statistics:
        click.echo(
            f"{s.element}[{s.instance}]: {s.received} received, {s.written} written, {s.seconds:.3f} s",
            err=True,
        )


def workflow_draw(module: str, kind: str, output: Path | None) -> None:
    """Write or print the picture of a workflow."""
    from xcorr.core.draw import FORMATS
    from xcorr.core.loading import load_graph

    write_out(FORMATS[kind](load_graph(module)), output)


def write_out(text: str, output: Path | None) -> None:
    """Write a text to a file, or to the terminal."""
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text)
        click.echo(f"wrote {output}")


def _inputs(graph: WorkflowGraph, iterations: int | None, data: str | None, data_file: Path | None) -> dict[Any, Any]:
    if sum(x is not None for x in (iterations, data, data_file)) > 1:
        raise GraphError("give input once: -i, -d or -f")
    text = data_file.read_text() if data_file else data
    if text is not None:
        try:
            given = json.loads(text)
        except json.JSONDecodeError as error:
            raise GraphError(f"the input is not JSON: {error}") from None
        if not isinstance(given, dict):
            raise GraphError('the input must be a JSON object {"element": [{"input": value}, ...]}')
        return given
    if iterations is None:
        return {}
    elements, edges = graph.flattened()
    return {e: iterations for e in elements if not e.inputconnections and not any(x.target is e for x in edges)}


def storm_status() -> int:
    """Print the state of the shared Storm cluster; return 0 if it is up."""
    from xcorr.mappings.storm_cluster import status
    from xcorr.mappings.storm_nimbus import Nimbus

    state = status()
    if state is None:
        click.echo("not up")
        return 1
    nimbus = Nimbus(state["nimbus"])
    supervisors, free = nimbus.slots()
    click.echo(f"Nimbus at {nimbus.address}: {supervisors} supervisor(s), {free} free slot(s)")
    for name, how in nimbus.topologies().items():
        click.echo(f"{name}: {how}")
    return 0


def registry_list(text: str = "") -> None:
    """List the entries of the registry that have a text in their name or description."""
    from xcorr.core import catalog

    for entry in catalog.entries():
        if text.lower() in f"{entry.name} {entry.docs}".lower():
            click.echo(f"{entry.name:24} {entry.kind:9} {entry.version:8} {entry.place:10} {entry.summary}")


def pe_show(name: str) -> None:
    """Print an element's description, parameters and ports."""
    from xcorr.core import registry

    element = registry.load("elements", name)
    click.echo(f"{name}{inspect.signature(element)}\n\n{inspect.getdoc(element)}")
