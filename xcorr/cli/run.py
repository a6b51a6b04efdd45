"""The main job, its forecast and its checks: ``xcorr run``, ``plan`` and ``doctor``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xcorr.cli.options import EXISTING_FILE, run_options, settings_of, source_options

if TYPE_CHECKING:
    from xcorr.settings import Settings

SHOWN = 10  # most lines of each kind in the summary; report.json holds all


@click.command()
@click.argument("stations", type=EXISTING_FILE)
@source_options
@run_options
def run(**given: Any) -> None:
    """Correlate all pairs of the stations of a list.

    STATIONS is a file with one station per line: NET STA, or NET.STA.LOC.CHA (with * and ?). It may also be a CSV file
    with coordinates, or FDSN station text. The results are written to a folder: xcorr.h5 (open this file), shards and
    report.json. Repeat the same command to resume after a crash, or to add new days and new stations. The command line
    overrides the settings file, and the file overrides the defaults. `xcorr init` writes a file with all settings.
    """
    try:
        sys.exit(_run(**given))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted: {kept(**given)}") from None


def _run(
    *,
    stations: Path,
    config: Path | None,
    output: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
    refresh: bool,
    refresh_metadata: bool,
    **options: Any,
) -> int:
    """Run a campaign and print its summary; return the exit code."""
    from xcorr.campaign.head_start import begin
    from xcorr.mappings import engine

    begin(options["mapping"], options["workers"])
    settings = settings_of(stations, config, assignments, options)
    folder = (output or stations.with_suffix(".xcorr")).absolute()
    flags = refresh, refresh_metadata
    return engine(settings.run.mapping).lead(lambda: _run_and_tell(stations, folder, settings, as_json, *flags))


def _run_and_tell(
    stations: Path, folder: Path, settings: Settings, as_json: bool, refresh: bool, refresh_metadata: bool
) -> int:
    from xcorr.campaign.run import run_campaign

    style = "json" if as_json else "bar" if sys.stderr is not None and sys.stderr.isatty() else "line"
    finished = run_campaign(stations, folder, settings, style, refresh, refresh_metadata)
    brief = {k: v for k, v in finished.report.items() if k != "requested"}
    if as_json:
        click.echo(json.dumps({"event": "summary", **brief, "folder": str(folder), "exit_code": finished.exit_code}))
    else:
        click.echo(summary(finished.report, folder))
    return finished.exit_code


def kept(*, stations: Path, output: Path | None, **options: Any) -> str:
    """Return a sentence that says what an interrupted run has stored."""
    import contextlib

    from xcorr.store.ledger_reader import NAME, LedgerError, LedgerReader

    folder = output or stations.with_suffix(".xcorr")
    if not (folder / NAME).exists():
        return "nothing was made yet"
    try:
        with contextlib.closing(LedgerReader(folder)) as ledger:
            made, expected = len(ledger.shards()), ledger.fact("expected")
    except LedgerError as error:
        return str(error)
    of_all = f" of {expected}" if expected else ""
    return f"{made}{of_all} shard(s) are kept in {folder}; repeat the same command to resume"


def summary(report: Mapping[str, Any], folder: Path) -> str:
    """Return the summary of a run for people."""
    from xcorr.store.report import reason_line

    windows = report["windows"]
    rejected = [f"{count} {reason}" for reason, count in windows.items() if reason != "used" and count]
    absent = [r for r in report["requested"] if r["status"] == "absent"]
    lines = [
        f"stations   {report['stations_asked']} asked, {report['stations_used']} used",
        f"pairs      {report['pairs']}, {report['pairs_with_data']} with data, in {report['chunks']} chunk(s)",
        f"windows    {windows['used']} used, {sum(windows.values()) - windows['used']} rejected"
        + (f" ({', '.join(rejected)})" if rejected else ""),
        "channels   "
        + ", ".join(f"{n} {status}" for status, n in sorted(report["slots_by_status"].items()))
        + (", each counted once a chunk" if report["chunks"] > 1 else ""),
        f"results    {report['bytes_written'] / 1e6:.1f} MB in {report['shards']} shard(s)"
        + (f", {report['shards_kept']} of them kept," if report["shards_kept"] else "")
        + f" and {folder / 'xcorr.h5'}",
        f"time       {report['seconds']:.1f} s" + _busy(report),
    ]
    lines += [f"repaired   {text}" for text in report["repaired"][:SHOWN]]
    lines += [f"warning    {text}" for text in report["warnings"]]
    lines += [f"absent     {_asked(r)} (line {r['line']}): {r['reason']}" for r in absent[:SHOWN]]
    lines += [f"           and {len(absent) - SHOWN} more, in report.json"] * (len(absent) > SHOWN)
    reasons = report["reasons"]
    lines += [f"{g['kind']:10} {reason_line(g)}" for g in reasons[:SHOWN]]
    lines += [f"           and {len(reasons) - SHOWN} more reasons, in report.json"] * (len(reasons) > SHOWN)
    for name, word in (("stale", "kept"), ("aside", "aside"), ("behind", "behind")):
        lines += [f"{word:10} {text}" for text in report[name][:SHOWN]]
        lines += [f"           and {len(report[name]) - SHOWN} more, in report.json"] * (len(report[name]) > SHOWN)
    bad = report["unreadable"]
    lines += [f"failed     {error}" for error in bad[:SHOWN]]
    lines += [f"           and {len(bad) - SHOWN} more, in report.json"] * (len(bad) > SHOWN)
    return "\n".join(lines)


def _asked(row: Mapping[str, Any]) -> str:
    """Return a line of the station list as ``NET.STA``, if it is of two words."""
    words = row["text"].split()
    return ".".join(words) if len(words) == 2 else str(row["text"])


def _busy(report: Mapping[str, Any]) -> str:
    from xcorr.observers.progress import busy_shares

    workers = report["workers"]
    shares = [f"{share:.0%}" for share in busy_shares(workers).values()]
    if not shares:  # nothing was left to compute
        return ""
    moved = sum(workers["bytes_moved"].values()) / 1e6
    return f"; {len(shares)} worker(s), busy {', '.join(shares)}" + (
        f"; {moved:.0f} MB moved between them" if moved else ""
    )


@click.command()
@click.argument("stations", type=EXISTING_FILE)
@source_options
@run_options
def plan(
    *,
    stations: Path,
    config: Path | None,
    output: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
    refresh: bool,
    refresh_metadata: bool,
    **options: Any,
) -> None:
    """Forecast what `xcorr run` needs with the same options: operations, bytes, files, memory and time.

    The first forecast on a machine, or with new settings, measures the speed for some seconds.
    """
    import dataclasses
    import tempfile

    from xcorr.campaign.calibration import calibrated
    from xcorr.campaign.forecast import forecast, worker_count
    from xcorr.campaign.own_metadata import own_metadata
    from xcorr.campaign.remaining import what_remains
    from xcorr.core.files import printable
    from xcorr.network.roster import Roster
    from xcorr.network.survey import require_possible, survey_list
    from xcorr.settings.recipe import Recipe
    from xcorr.store.ledger import Ledger
    from xcorr.store.ledger_reader import NAME, LedgerReader

    settings = settings_of(stations, config, assignments, options)
    folder = output or stations.with_suffix(".xcorr")
    with (
        tempfile.TemporaryDirectory() as nowhere,
        own_metadata(stations, folder, settings, refresh_metadata) as complete,
    ):
        # elsewhere, because a forecast must not make the folder
        ledger = LedgerReader(folder) if (folder / NAME).exists() else Ledger(Path(nowhere))
        found = survey_list(stations, complete, Roster.from_json(ledger.fact("members")), refresh_metadata)
        todo = what_remains(found, ledger, complete, refresh).todo
        ledger.close()
    if not (folder / NAME).exists():
        require_possible(found)
    made = forecast(Recipe(settings), found, todo, calibrated(settings, folder), worker_count(settings))
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(made)))
        return
    click.echo(f"stations   {made.stations}, {made.pairs} pairs, {made.chunks} chunk(s)")
    click.echo(f"work       {made.flops / 1e9:.1f} GFLOP in products and inverse transforms")
    click.echo(f"reading    {made.bytes_read / 1e6:.1f} MB")
    click.echo(f"writing    {made.bytes_written / 1e6:.1f} MB in {made.files} files")
    click.echo(f"memory     {made.memory_bytes / 1e6:.0f} MB at most, {made.open_chunks} chunk(s) at once")
    click.echo(f"time       {made.seconds:.1f} s on {made.workers} worker(s) of {settings.run.mapping}")
    for concern in found.concerns:
        click.echo(f"warning    {concern.text}")
    for path, reason in found.index.unreadable.items():
        click.echo(f"unreadable {printable(path)}: {reason}")


@click.command()
@click.argument("stations", type=EXISTING_FILE, required=False)
@source_options
def doctor(*, stations: Path | None, config: Path | None, assignments: tuple[str, ...], **options: Any) -> None:
    """Check the installation and, with STATIONS, the source. Say how to repair what fails (then exit code 1)."""
    from xcorr.campaign.doctor import examine, examine_source

    findings = list(examine(stations.parent if stations else Path()))
    if stations is not None:
        findings += examine_source(stations, settings_of(stations, config, assignments, options))
    for f in findings:
        click.echo(f"{'ok     ' if f.well else 'MISSING' if f.needed else 'lacking'}  {f.name:14} {f.found}")
        if not f.well and f.cure:
            click.echo(f"{'':25}{f.cure}")
    sys.exit(1 if any(f.needed and not f.well for f in findings) else 0)
