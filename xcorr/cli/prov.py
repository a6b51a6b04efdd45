"""Provenance: ``xcorr prov``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from xcorr.cli.options import EXISTING, OPTIONAL_PATH, write_out


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
    from xcorr.provenance import ask

    write_out(ask.export(campaign, kind, **asked), output)


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
    from xcorr.provenance import ask

    answer = ask.query(campaign, **asked)
    click.echo(json.dumps(answer, indent=1) if as_json else ask.as_text(answer))
