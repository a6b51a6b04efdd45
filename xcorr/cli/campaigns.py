"""Campaigns: ``xcorr status``, ``verify``, ``stack``, ``compact``, ``merge`` and ``pack``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from xcorr.cli.options import EXISTING


@click.command()
@click.argument("campaign", type=EXISTING)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def status(campaign: Path, as_json: bool) -> None:
    """Show the progress of a campaign, which may be running in another terminal."""
    from xcorr.store.verify import state

    found = state(campaign)
    if as_json:
        click.echo(json.dumps(found))
        return
    windows = {reason: n for reason, n in found["windows"].items() if n}
    state_of = found["progress"].get("state", "")
    ended = f" (the last run: {state_of})" if state_of and found["running"] == "no" else ""
    click.echo(f"running    {found['running']}{ended}")
    for line in _progress_lines(found["progress"]) if found["running"] != "no" else []:
        click.echo(line)
    click.echo(f"shards     {found['shards']} of {found['shards_expected']}, {found['chunks']} chunk(s)")
    click.echo(f"bytes      {found['bytes'] / 1e6:.1f} MB")
    click.echo("windows    " + (", ".join(f"{n} {reason}" for reason, n in windows.items()) or "none yet"))
    click.echo(f"failed     {found['failed']} channel(s) in chunks")
    click.echo(f"results    {found['results']}")


def _progress_lines(published: dict[str, Any]) -> list[str]:
    """Return what a running campaign has published, in words."""
    if not published:
        return []
    items, expected = published.get("items", {}), published.get("expected", {})
    done = ", ".join(f"{name} {items.get(name, 0)} of {n}" for name, n in expected.items())
    lines = [f"phase      {published['phase']}" + (f": {done}" if done else "")]
    if (left := published.get("seconds_left")) is not None:
        lines.append(f"time left  {left:.0f} s")
    return lines


@click.command()
@click.argument("campaign", type=EXISTING)
@click.option("--quick", is_flag=True, help="Compare only sizes and times of change with the ledger.")
def verify(campaign: Path, quick: bool) -> None:
    """Read every byte of a campaign and name what is missing or damaged (exit code 1). A new run repairs it."""
    from xcorr.pes.storing import aside
    from xcorr.provenance.history import kept_that_are_lost
    from xcorr.store.verify import behind, dispersion_behind, monitor_behind, problems

    for text in behind(campaign):
        series = any((campaign / "shards").glob("*.h5"))
        click.echo(f"note: stack {text}" + ("; xcorr stack brings it up to date" if series else ""))
    if lacking := monitor_behind(campaign):
        click.echo(f"note: {lacking}; xcorr monitor brings them up to date")
    if older := dispersion_behind(campaign):
        click.echo(f"note: {older}; xcorr dispersion brings it up to date")
    for text in kept_that_are_lost(campaign):
        click.echo(f"note: {text}")
    for name in aside.names(campaign):
        click.echo(f"note: {aside.ASIDE}/{name} was set aside by an earlier run; remove it if you do not need it")
    bad = "problem(s); xcorr run with the same list makes again what it can"
    sys.exit(tell(problems(campaign, quick), bad, "everything is there" + ("" if quick else " and whole")))


@click.command()
@click.argument("campaign", type=EXISTING)
@click.option("--set", "assignments", multiple=True, metavar="stack.KEY=VALUE", help="New stack settings, in TOML.")
@click.option("--components", help="Component pairs to stack too, such as RR,TT: R and T are made of stored N and E.")
@click.option("--insist", is_flag=True, help="Make R and T even where N and E had different weights.")
def stack(campaign: Path, assignments: tuple[str, ...], components: str | None, insist: bool) -> None:
    """Make new stacks from the stored series of a campaign, without reading waveforms."""
    from xcorr.campaign.stack import restack

    if components:
        assignments = (*assignments, f"stack.components={components.replace(' ', '').split(',')}")
    click.echo(f"wrote {restack(campaign, assignments, insist)}")


@click.command()
@click.argument("campaign", type=EXISTING)
def compact(campaign: Path) -> None:
    """Join the shards of each strip of pairs and month in one file. The data keep their bits."""
    from xcorr.campaign.compact import compact as join

    before, after = join(campaign)
    click.echo(f"{before} file(s) of shards became {after}")


@click.command()
@click.argument("campaigns", type=EXISTING, nargs=-1, required=True)
@click.option("-o", "--output", "folder", required=True, type=click.Path(path_type=Path), help="Folder to make.")
@click.option("-m", "--mapping", default="sequential", show_default=True, help="Mapping, as in xcorr run.")
@click.option("-n", "--workers", type=click.IntRange(min=1), help="Number of workers.")
def merge(campaigns: tuple[Path, ...], folder: Path, mapping: str, workers: int | None) -> None:
    """Make one campaign of several, of the same settings, which cover other days or other pairs.

    Its results are those, to the bit, of one run over all days and lists; chunks within which campaigns meet are
    computed again by the next xcorr run. The campaigns stay as they are.
    """
    from xcorr.campaign.merge import merge as join
    from xcorr.mappings import engine

    def work() -> int:
        made = join(campaigns, folder, mapping, workers)
        click.echo(f"wrote {made.folder}: {made.stations} stations, {made.pairs} pairs, {made.chunks} chunk(s)")
        return 0

    sys.exit(engine(mapping).lead(work))  # which under mpiexec only rank 0 does


@click.command()
@click.argument("campaign", type=EXISTING)
def pack(campaign: Path) -> None:
    """Make xcorr.h5 independent of the shards: copy the series from the shards into it."""
    from xcorr.store.pack import pack as make

    click.echo(f"{campaign / 'xcorr.h5'}: {make(campaign) / 1e6:.1f} MB")


def tell(lines: Iterable[str], bad: str, good: str) -> int:
    """Print each line as it comes, then a summary. Return 1 if there were lines, else 0."""
    count = 0
    for line in lines:
        click.echo(line)
        count += 1
    click.echo(f"{count} {bad}" if count else good)
    return 1 if count else 0
