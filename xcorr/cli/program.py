"""The program ``xcorr``: its commands, exit codes and errors. A command imports the heavy packages that it needs."""

from __future__ import annotations

import atexit
import errno
import gc
import os
import re
import signal
import sqlite3
import sys
from typing import Any

import click

from xcorr.core import installed

os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")  # zeroing new huge pages costs more time than they save here
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # OpenBLAS's own threads are not used, but spin once started
gc.set_threshold(50_000)  # importing makes many objects and no garbage
atexit.register(gc.freeze)  # so that the collections at the end of the process skip these objects too

FULL = "the disk is full; make room and run again: what is finished is kept, so the run resumes"
USAGE_ERRORS = (
    "SettingsError",
    "StationListError",
    "SourceError",
    "MetadataError",
    "CatalogueError",
    "FftError",
    "CompressionError",
    "GraphError",
    "WorkflowLoadError",
    "RegistryError",
    "ProvenanceError",
    "ConditionError",
)


def full_disk(error: BaseException | None) -> str:
    """Return what to do if a full disk is behind an error, of the system, SQLite or HDF5, here or in a worker."""
    while error is not None:
        if known := re.search(r"the disk of .* is full: .*", str(error)):  # the room that was needed is known
            return known[0]
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if full or any(text in str(error) for text in ("No space left on device", "database or disk is full")):
            return FULL
        error = error.__cause__ or error.__context__
    return ""


def _leave_at_once(code: int) -> None:
    """End the program, without the end of HDF5: it crashes where it cannot write what is left of a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    getattr(os._exit, "unnamed", os._exit)(code)


def _give_up(text: str) -> None:
    raise click.ClickException(text)


class _Group(click.Group):
    """Finds commands by entry point. Turns an XcorrError or OSError into one message and an exit code.

    The code is 2 for wrong usage, and 1 for other errors.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return installed.names("commands")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if not installed.has("commands", cmd_name):
            return None
        try:
            found: click.Command = installed.load("commands", cmd_name)
        except ImportError as error:  # of another package: it costs its own command, and no other
            text = f"this command cannot be loaded: {error}; install its package again"
            found = click.Command(cmd_name, help=text, callback=lambda: _give_up(text))
        return found

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            click.echo(str(error) or "interrupted", err=True)
            ctx.exit(128 + signal.SIGINT)
        except Exception as error:
            from xcorr.core.errors import XcorrError

            if isinstance(error, BrokenPipeError):  # whoever reads has enough: click ends quietly
                raise
            if text := full_disk(error):
                click.echo(f"error: {text}", err=True)
                _leave_at_once(1)
            if isinstance(error, OSError | sqlite3.Error) and not isinstance(error, XcorrError):
                name = getattr(error, "filename", None)
                click.echo(f"error: {name}: {getattr(error, 'strerror', '')}" if name else f"error: {error}", err=True)
                ctx.exit(1)
            if not isinstance(error, XcorrError):
                raise
            if traceback_text := getattr(error, "traceback_text", ""):
                click.echo(traceback_text, err=True)
            click.echo(f"error: {error}", err=True)
            ctx.exit(2 if type(error).__name__ in USAGE_ERRORS else 1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="xcorr")
def main() -> None:
    """Ambient-noise cross-correlations of a seismic network, from a station list to HDF5.

    \b
    xcorr demo                                  correlate sample data, draw a picture, say what to try next
    xcorr init [--preset NAME]                  write stations.txt and xcorr.toml to start from
    xcorr run stations.txt --source sds:DIR     the main job
    xcorr plan stations.txt --source sds:DIR    forecast time, memory and space of a run
    xcorr info stations.xcorr                   show what the results hold
    xcorr plot stations.xcorr                   draw a record section
    xcorr status | verify | stack | compact | export | pack   campaigns, see their --help
    xcorr prov stations.xcorr                   export provenance; prov query asks questions
    xcorr doctor                                check the installation, say how to repair it
    xcorr workflow | pe | registry | storm      other workflows, their elements, a Storm cluster

    Exit codes: 0 done; 1 no results, or an error; 2 wrong usage; 3 done, but some inputs failed; 130 interrupted.
    """
