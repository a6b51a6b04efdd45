"""What the commands do; :mod:`xcorr.cli` parses and calls."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xcorr.core import XcorrError

if TYPE_CHECKING:
    from xcorr.settings import Settings


class AlreadyThere(XcorrError, FileExistsError):
    """A file that would be overwritten."""


STATIONS_EXAMPLE = """# One station per line: NET STA, or NET.STA.LOC.CHA with * and ?.
# CI WBM
# CI.*
"""


def run(
    *,
    stations: Path,
    config: Path | None,
    output: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
    refresh: bool,
    **options: Any,
) -> int:
    """Run a campaign and print its summary; return the exit code."""
    from xcorr.ahead import begin

    begin(options["mapping"], options["workers"])
    settings = _settings(stations, config, assignments, options)
    folder = (output or stations.with_suffix(".xcorr")).absolute()
    if settings.run.mapping == "mpi":
        from xcorr.mappings.mpi import on_rank_0

        return on_rank_0(lambda: _run_and_tell(stations, folder, settings, as_json, refresh))
    return _run_and_tell(stations, folder, settings, as_json, refresh)


def _settings(
    stations: Path, config: Path | None, assignments: tuple[str, ...], options: Mapping[str, Any]
) -> Settings:
    """Return the settings of a run: command line beats file beats default."""
    from xcorr.settings_file import build, load, override

    beside = stations.parent / "xcorr.toml"
    config = config or (beside if beside.is_file() else None)
    plain = load(config) if config else {}
    for section, keys in (("data", ("source", "metadata", "start", "end")), ("run", ("mapping", "workers", "memory"))):
        for key in keys:
            if options.get(key) is not None:
                plain.setdefault(section, {})[key] = options[key]
    return build(override(plain, assignments))


def plan(
    *,
    stations: Path,
    config: Path | None,
    output: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
    refresh: bool,
    **options: Any,
) -> None:
    """Print what a run would take."""
    import dataclasses
    import tempfile

    from xcorr.campaign_run import look_around
    from xcorr.ledger import NAME, Ledger, read_ledger
    from xcorr.members import Members
    from xcorr.plan import calibrated, forecast, worker_count
    from xcorr.work import plan_work

    settings = _settings(stations, config, assignments, options)
    folder = output or stations.with_suffix(".xcorr")
    with tempfile.TemporaryDirectory() as nowhere:
        ledger = read_ledger(folder) if (folder / NAME).exists() else Ledger(Path(nowhere))
        found = look_around(stations, settings, Members.from_json(ledger.fact("members")))
        todo = plan_work(found, ledger, settings, refresh)
        ledger.close()
    made = forecast(settings, found, todo, calibrated(settings, folder), worker_count(settings))
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(made)))
        return
    click.echo(f"stations   {made.stations}, {made.pairs} pairs, {made.chunks} chunk(s)")
    click.echo(f"work       {made.flops / 1e9:.1f} GFLOP in products and inverse transforms")
    click.echo(f"reading    {made.bytes_read / 1e6:.1f} MB")
    click.echo(f"writing    {made.bytes_written / 1e6:.1f} MB in {made.files} files")
    click.echo(f"memory     {made.memory_bytes / 1e6:.0f} MB at most, {made.open_chunks} chunk(s) at once")
    click.echo(f"time       {made.seconds:.1f} s on {made.workers} worker(s) of {settings.run.mapping}")


def doctor(*, stations: Path | None, config: Path | None, assignments: tuple[str, ...], **options: Any) -> int:
    """Print what works and the cures; return 1 if something needed does not."""
    from xcorr.doctor import examine, examine_source

    findings = list(examine(stations.parent if stations else Path()))
    if stations is not None:
        findings += examine_source(stations, _settings(stations, config, assignments, options))
    for f in findings:
        click.echo(f"{'ok     ' if f.well else 'MISSING' if f.needed else 'lacking'}  {f.name:14} {f.found}")
        if not f.well and f.cure:
            click.echo(f"{'':25}{f.cure}")
    return 1 if any(f.needed and not f.well for f in findings) else 0


def _run_and_tell(stations: Path, folder: Path, settings: Settings, as_json: bool, refresh: bool) -> int:
    from xcorr.campaign_run import run_campaign

    style = "json" if as_json else "bar" if sys.stderr is not None and sys.stderr.isatty() else "line"
    finished = run_campaign(stations, folder, settings, style, refresh)
    brief = {k: v for k, v in finished.report.items() if k not in ("requested", "channel_chunk")}
    if as_json:
        click.echo(json.dumps({"event": "summary", **brief, "folder": str(folder), "exit_code": finished.exit_code}))
    else:
        click.echo(summary(finished.report, folder))
    return finished.exit_code


def kept(*, stations: Path, output: Path | None, **options: Any) -> str:
    """Return what an interrupted run leaves, as a sentence."""
    import contextlib

    from xcorr.ledger import NAME, LedgerError, read_ledger

    folder = output or stations.with_suffix(".xcorr")
    if not (folder / NAME).exists():
        return "nothing was made yet"
    try:
        with contextlib.closing(read_ledger(folder)) as ledger:
            made, expected = len(ledger.shards()), ledger.fact("expected")
    except LedgerError as error:
        return str(error)
    of_all = f" of {expected}" if expected else ""
    return f"{made}{of_all} shard(s) are kept in {folder}; the same command goes on from there"


def summary(report: Mapping[str, Any], folder: Path) -> str:
    """Return the summary of a run for people."""
    windows = report["windows"]
    rejected = [f"{count} {reason}" for reason, count in windows.items() if reason != "used" and count]
    absent = [r for r in report["requested"] if r["status"] == "absent"]
    lines = [
        f"stations   {report['stations_asked']} asked, {report['stations_used']} used",
        f"pairs      {report['pairs']}, {report['pairs_with_data']} with data, in {report['chunks']} chunk(s)",
        f"windows    {windows['used']} used, {sum(windows.values()) - windows['used']} rejected"
        + (f" ({', '.join(rejected)})" if rejected else ""),
        "channels   " + ", ".join(f"{n} {status}" for status, n in sorted(report["slots_by_status"].items())),
        f"results    {report['bytes_written'] / 1e6:.1f} MB in {report['shards']} shard(s)"
        + (f", {report['shards_kept']} of them kept," if report["shards_kept"] else "")
        + f" and {folder / 'xcorr.h5'}",
        f"time       {report['seconds']:.1f} s" + _busy(report),
    ]
    lines += [f"repaired   {text}" for text in report["repaired"][:10]]
    lines += [f"warning    {text}" for text in report["warnings"]]
    lines += [f"absent     line {r['line']}: {r['text']} ({r['reason']})" for r in absent[:10]]
    lines += [f"           and {len(absent) - 10} more, in report.json"] * (len(absent) > 10)
    lines += [f"failed     {error}" for error in report["errors"][:10]]
    lines += [f"           and {len(report['errors']) - 10} more, in report.json"] * (len(report["errors"]) > 10)
    return "\n".join(lines)


def _busy(report: Mapping[str, Any]) -> str:
    from xcorr.progress import busy_shares

    workers = report["workers"]
    shares = [f"{share:.0%}" for share in busy_shares(workers).values()]
    moved = sum(workers["bytes_moved"].values()) / 1e6
    return f"; {len(shares)} worker(s), busy {', '.join(shares)}" + (
        f"; {moved:.0f} MB moved between them" if moved else ""
    )


def init(folder: Path) -> list[Path]:
    """Write the files to start from; return their paths. Raises AlreadyThere rather than overwrite."""
    from xcorr.settings import Settings
    from xcorr.settings_file import to_toml

    texts = {"stations.txt": STATIONS_EXAMPLE, "xcorr.toml": to_toml(Settings().as_dict(), comment=True)}
    for name in texts:
        if (folder / name).exists():
            raise AlreadyThere(f"{folder / name} exists already; remove it or choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in texts]


def info(path: Path, as_json: bool) -> None:
    """Print what results hold."""
    from xcorr import results

    with results.open(path) as found:
        pieces = found.pieces
        facts = {
            "file": str(found.path),
            "stations": len(found.stations),
            "pairs": len(found.pairs),
            "components": found.components,
            "stacks": found.stacks,
            "pieces": len(pieces),
            "start": str(pieces[0, 0])[:19],
            "end": str(pieces[-1, 1])[:19],
            "lags": f"{found.lags_s[0]:g} to {found.lags_s[-1]:g} s, {len(found.lags_s)} samples",
            **{k: str(found.attributes[k]) for k in ("created", "software", "settings_hash", "lag_convention")},
        }
        settings = str(found.attributes["settings"])
    if as_json:
        click.echo(json.dumps(facts))
    else:
        for name, value in facts.items():
            click.echo(f"{name:15} {', '.join(value) if isinstance(value, list) else value}")
        click.echo("\n" + settings)


def plot(
    *,
    results: Path,
    output: Path | None,
    pair: tuple[str, str] | None,
    availability: bool,
    components: str,
    max_lag: float | None,
) -> Path:
    """Draw a figure of results; return the path of the picture."""
    from xcorr import plots
    from xcorr.results import Results, ResultsError

    folder = results if results.is_dir() else results.parent
    name = "availability" if availability else "-".join(pair) if pair else "section"
    target = output or folder / f"{name}.png"
    if availability:
        report = folder / "report.json"
        if not report.is_file():
            raise ResultsError(f"there is no report.json in {str(folder)!r}; a finished run writes it")
        plots.availability(json.loads(report.read_text()), target)
        return target
    with Results(results) as found:
        if pair:
            plots.pair(found, target, *pair, components, max_lag)
        else:
            plots.record_section(found, target, components, max_lag)
    return target


def status(folder: Path, as_json: bool) -> None:
    """Print where a campaign stands."""
    from xcorr.verify import state

    found = state(folder)
    if as_json:
        click.echo(json.dumps(found))
        return
    windows = {reason: n for reason, n in found["windows"].items() if n}
    click.echo(f"running    {found['running']}")
    click.echo(f"shards     {found['shards']} of {found['shards_expected']}, {found['chunks']} chunk(s)")
    click.echo(f"bytes      {found['bytes'] / 1e6:.1f} MB")
    click.echo("windows    " + (", ".join(f"{n} {reason}" for reason, n in windows.items()) or "none yet"))
    click.echo(f"failed     {found['failed']} channel(s) in chunks")
    click.echo(f"results    {found['results']}")


def verify(folder: Path) -> int:
    """Print what is wrong with a campaign; return 0 if nothing is."""
    from xcorr.verify import problems

    return _tell(
        problems(folder), "problem(s); running the campaign again repairs them", "everything is there and whole"
    )


def compare(first: Path, second: Path) -> int:
    """Print how two results differ; return 0 if they do not."""
    from xcorr.compare import differences

    return _tell(differences(first, second), "dataset(s) differ", "all datasets are the same to the bit")


def _tell(lines: Iterable[str], bad: str, good: str) -> int:
    """Print lines as they come, and what they come to; return 0 if there are none."""
    count = 0
    for line in lines:
        click.echo(line)
        count += 1
    click.echo(f"{count} {bad}" if count else good)
    return 1 if count else 0
