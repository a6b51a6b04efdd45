"""The Storm cluster for development: ``xcorr storm``."""

from __future__ import annotations

import sys

import click


@click.group()
def storm() -> None:
    """A Storm cluster on this host, for development. While the cluster is up, runs with -m storm use it."""


@storm.command("up")
def storm_up() -> None:
    """Start ZooKeeper, Nimbus and a supervisor. Needs Java 17, and the first time Maven (for Storm's jars)."""
    from xcorr.mappings.storm_cluster import OPEN_TO_ALL, up

    click.echo(f"note: {OPEN_TO_ALL}", err=True)
    state = up()
    click.echo(f"Nimbus at {state['nimbus']}, files and logs in {state['folder']}")


@storm.command("down")
def storm_down() -> None:
    """Stop the cluster and everything that it runs."""
    from xcorr.mappings.storm_cluster import down

    click.echo("the cluster has ended" if down() else "the cluster was not up")


@storm.command("status")
def storm_status() -> None:
    """Show whether the cluster is up, its free slots and its topologies (exit code 1: not up)."""
    from xcorr.mappings.storm_cluster import status
    from xcorr.mappings.storm_nimbus import Nimbus

    state = status()
    if state is None:
        click.echo("not up")
        sys.exit(1)
    nimbus = Nimbus(state["nimbus"])
    supervisors, free = nimbus.slots()
    click.echo(f"Nimbus at {nimbus.address}: {supervisors} supervisor(s), {free} free slot(s)")
    for name, how in nimbus.topologies().items():
        click.echo(f"{name}: {how}")
