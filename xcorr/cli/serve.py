"""The web application: ``xcorr serve``."""

from __future__ import annotations

from pathlib import Path

import click

from xcorr.cli.options import EXISTING


@click.command()
@click.argument("campaigns", nargs=-1, required=True, type=EXISTING)
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0: any free port.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; others need --allow-host.")
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="Another name by which clients call it.")
@click.option("--root-path", default="", metavar="/PATH", help="Path under which a reverse proxy shows the server.")
def serve(campaigns: tuple[Path, ...], port: int, host: str, hosts: tuple[str, ...], root_path: str) -> None:
    """Show campaigns in a browser, and over a web API. Nothing is changed. Ctrl-C ends it.

    The address that is printed holds a token; scripts send it as "Authorization: Bearer TOKEN". XCORR_TOKEN sets it.
    """
    from xcorr.web.serve import serve as run

    run(campaigns, host, port, hosts, root_path.rstrip("/"), click.echo)
