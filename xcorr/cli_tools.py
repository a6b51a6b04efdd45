"""The command line of workflows, elements, the registry, Storm and provenance."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import click

OPTIONAL_PATH = click.Path(path_type=Path)
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
EXISTING = click.Path(exists=True, path_type=Path)


@click.group()
def workflow() -> None:
    """Any workflow of processing elements."""


@workflow.command("run")
@click.argument("module")
@click.option("-m", "--mapping", default="sequential", show_default=True, help="How to run.")
@click.option("-n", "--workers", type=click.IntRange(min=1), help="Number of workers.")
@click.option("-i", "--iterations", type=click.IntRange(min=0), help="Iterations of every source.")
@click.option("-d", "--data", help='Input as JSON: {"element": [{"input": value}, ...]} or {"element": iterations}.')
@click.option("-f", "--file", "data_file", type=EXISTING_FILE, help="The same, from a file.")
@click.option("--provenance", type=OPTIONAL_PATH, help="Folder to record every invocation in; ask with xcorr prov.")
@click.option("--plan", "plan_only", is_flag=True, help="Print instances and placement instead of running.")
def workflow_run(**given: Any) -> None:
    """Run the graph of MODULE[:ATTRIBUTE], FILE.py[:ATTRIBUTE], a workflow file (FILE.toml) or a registered workflow.

    Prints what nothing else takes.
    """
    from xcorr import command_tools

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    command_tools.workflow_run(**given)


@workflow.command("draw")
@click.argument("module")
@click.option("--format", "kind", type=click.Choice(["dot", "mermaid", "svg"]), default="dot", show_default=True)
@click.option("-o", "--output", type=OPTIONAL_PATH, help="File to write; default: the terminal.")
def workflow_draw(module: str, kind: str, output: Path | None) -> None:
    """Draw the graph of MODULE[:ATTRIBUTE] or FILE.py[:ATTRIBUTE]."""
    from xcorr import command_tools

    command_tools.workflow_draw(module, kind, output)


@click.group()
def storm() -> None:
    """A Storm cluster on this host, for development; runs with -m storm use it while it is up."""


@storm.command("up")
def storm_up() -> None:
    """Start ZooKeeper, Nimbus and a supervisor (Java 17; the first time Maven, for Storm's jars)."""
    from xcorr.mappings.storm_cluster import OPEN_TO_ALL, up

    click.echo(f"note: {OPEN_TO_ALL}", err=True)
    state = up()
    click.echo(f"Nimbus at {state['nimbus']}, files and logs in {state['folder']}")


@storm.command("down")
def storm_down() -> None:
    """End it, and everything it runs."""
    from xcorr.mappings.storm_cluster import down

    click.echo("ended" if down() else "it was not up")


@storm.command("status")
def storm_status() -> None:
    """Say whether it is up, its free slots and topologies (exit code 1: not up)."""
    from xcorr import command_tools

    sys.exit(command_tools.storm_status())


@click.group()
def pe() -> None:
    """The processing elements that are registered."""


@pe.command("list")
def pe_list() -> None:
    """List names; nothing is loaded or executed."""
    from xcorr.core import registry

    for name in registry.names("elements"):
        click.echo(f"{name:24} {registry.target('elements', name)}")


@pe.command("show")
@click.argument("name")
def pe_show(name: str) -> None:
    """Show an element's description, ports and parameters."""
    from xcorr import command_tools

    command_tools.pe_show(name)


@click.group()
def registry() -> None:
    """Elements and workflows by name: the built-in ones, those of installed packages, and your own."""


@registry.command("add")
@click.argument("source")
def registry_add(source: str) -> None:
    """Add the elements and workflows of FILE.py[:NAME], or a workflow file (FILE.toml), to your own."""
    from xcorr.core import catalog

    for entry in catalog.add(source):
        click.echo(f"{entry.name} {entry.version}: {entry.kind} {entry.content_hash[:12]}")


@registry.command("list")
def registry_list() -> None:
    """List all names; nothing is executed."""
    from xcorr import command_tools

    command_tools.registry_list()


@registry.command("search")
@click.argument("text")
def registry_search(text: str) -> None:
    """List what has TEXT in its name or description; nothing is executed."""
    from xcorr import command_tools

    command_tools.registry_list(text)


@registry.command("show")
@click.argument("name")
def registry_show(name: str) -> None:
    """Show version, content hash, ports, parameters and description."""
    from xcorr.core import catalog

    click.echo(catalog.show(name))


@registry.command("remove")
@click.argument("name")
def registry_remove(name: str) -> None:
    """Remove one of your own."""
    from xcorr.core import catalog

    catalog.remove(name)
    click.echo(f"removed {name}")


class _WithDefault(click.Group):
    """A group whose command may be left out: what is none of its commands is an argument of the first."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            args = [next(iter(self.commands)), *args]
        return super().resolve_command(ctx, args)


@click.group(cls=_WithDefault)
def prov() -> None:
    """What came from what. `xcorr prov CAMPAIGN` exports W3C PROV, `xcorr prov query CAMPAIGN` asks.

    \b
    xcorr prov net.xcorr                                        all runs, as PROV-JSON
    xcorr prov net.xcorr --pair XX.A-XX.B                       what made a stack
    xcorr prov net.xcorr --file day.mseed --direction forward   what a file had a part in
    """


@prov.command("export")
@click.argument("campaign", type=EXISTING)
@click.option("--pair", metavar="XX.A-XX.B", help="The stack of a pair.")
@click.option("--components", default="ZZ", show_default=True, help="Component pair of the stack.")
@click.option("--stack", "which", default="linear", show_default=True, help="Which stack.")
@click.option("--band", default="", help="A further band, by name.")
@click.option("--file", "path", help="A waveform file.")
@click.option("--item", help="An item, by the name it was recorded with.")
@click.option("--direction", type=click.Choice(["back", "forward"]), help="Default: back; of a file, forward.")
@click.option(
    "--format", "kind", type=click.Choice(["json", "provn", "xml", "turtle", "svg"]), default="json", show_default=True
)
@click.option("-o", "--output", type=OPTIONAL_PATH, help="File to write; default: the terminal.")
def prov_export(campaign: Path, kind: str, output: Path | None, **asked: Any) -> None:
    """Export all runs, or the lineage of one product, as a W3C PROV document or a picture."""
    from xcorr import command_tools
    from xcorr.provenance import ask

    text = ask.export(campaign, kind, **asked)
    command_tools.write_out(text, output)


@prov.command("query")
@click.argument("campaign", type=EXISTING)
@click.option("--made", metavar="XX.A-XX.B", help="Which files, windows and settings made this stack?")
@click.option("--touched-by", metavar="FILE", help="Which products must be made again if this file was bad?")
@click.option("--where", metavar="CONDITION", help="Which stacks pass, such as 'snr > 10 and distance_km < 50'?")
@click.option("--kept", is_flag=True, help="Which items were kept, by which rule?")
@click.option("--changed", is_flag=True, help="Which elements' code has changed since the last run?")
@click.option("--components", default="ZZ", show_default=True, help="Component pair of the stack.")
@click.option("--stack", "which", default="linear", show_default=True, help="Which stack.")
@click.option("--band", default="", help="A further band, by name.")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def prov_query(campaign: Path, as_json: bool, **asked: Any) -> None:
    """Ask one question."""
    import json

    from xcorr.provenance import ask

    answer = ask.query(campaign, **asked)
    click.echo(json.dumps(answer, indent=1) if as_json else ask.as_text(answer))
