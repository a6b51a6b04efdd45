"""Provenance: ``xcorr prov``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from xcorr.cli.options import EXISTING, OPTIONAL_PATH, write_out


class _WithDefault(click.Group):
    """A group whose command name may be left out: a first argument that is no command goes to the first command."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            args = [next(iter(self.commands)), *args]
        return super().resolve_command(ctx, args)


@click.group(cls=_WithDefault)
def prov() -> None:
    """Trace results to inputs and back. `xcorr prov CAMPAIGN` exports W3C PROV, `xcorr prov query CAMPAIGN` asks.

    \b
    xcorr prov net.xcorr                                        all runs, as PROV-JSON
    xcorr prov net.xcorr --pair XX.A-XX.B                       the inputs of a stack
    xcorr prov net.xcorr --file day.mseed --direction forward   the results made with a file
    """


@prov.command("export")
@click.argument("campaign", type=EXISTING)
@click.option("--pair", metavar="XX.A-XX.B", help="Export the lineage of this pair's stack.")
@click.option("--components", default="ZZ", show_default=True, help="Component pair of the stack.")
@click.option("--stack", "which", default="linear", show_default=True, help="Which stack.")
@click.option("--band", default="", help="A further band, by name.")
@click.option("--file", "path", help="Export the lineage of this waveform file.")
@click.option("--item", help="Export the lineage of the item recorded under this name.")
@click.option(
    "--direction", type=click.Choice(["back", "forward"]), help="To inputs or to results. Default: back; file: forward."
)
@click.option(
    "--format", "kind", type=click.Choice(["json", "provn", "xml", "turtle", "svg"]), default="json", show_default=True
)
@click.option("-o", "--output", type=OPTIONAL_PATH, help="File to write; default: the terminal.")
def prov_export(campaign: Path, kind: str, output: Path | None, **asked: Any) -> None:
    """Export all runs, or the lineage of one stack, file or item, as a W3C PROV document or a picture."""
    from xcorr.provenance import ask

    write_out(ask.export(campaign, kind, **asked), output)


@prov.command("query")
@click.argument("campaign", type=EXISTING)
@click.option("--made", metavar="XX.A-XX.B", help="Which files, windows and settings made this stack?")
@click.option("--touched-by", metavar="FILE", help="Which series and stacks used this file, and must be recomputed?")
@click.option("--where", metavar="CONDITION", help="Which stacks pass, such as 'snr > 10 and distance_km < 50'?")
@click.option("--kept", is_flag=True, help="Which items were kept, and by which rule?")
@click.option("--changed", is_flag=True, help="For which elements has the code changed since their last run?")
@click.option("--components", default="ZZ", show_default=True, help="Component pair of the stack.")
@click.option("--stack", "which", default="linear", show_default=True, help="Which stack.")
@click.option("--band", default="", help="A further band, by name.")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def prov_query(campaign: Path, as_json: bool, **asked: Any) -> None:
    """Ask one question."""
    from xcorr.provenance import ask

    answer = ask.query(campaign, **asked)
    click.echo(json.dumps(answer, indent=1) if as_json else ask.as_text(answer))
