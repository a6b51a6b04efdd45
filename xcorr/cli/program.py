"""The program ``xcorr``: its commands, exit codes and errors. A command imports the heavy packages that it needs."""

from __future__ import annotations

import atexit
import gc
import os
import signal
from typing import Any

import click

from xcorr.cli import campaigns, prov, results, run, storm, workflows

os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")  # zeroing new huge pages costs more time than they save here
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # OpenBLAS's own threads are not used, but spin once started
gc.set_threshold(50_000)  # importing makes many objects and no garbage
atexit.register(gc.freeze)  # so that the collections at the end of the process skip these objects too

USAGE_ERRORS = (
    "SettingsError",
    "StationListError",
    "SourceError",
    "MetadataError",
    "CatalogueError",
    "FftError",
    "GraphError",
    "WorkflowLoadError",
    "RegistryError",
    "ProvenanceError",
)


class _Group(click.Group):
    """Turns an XcorrError or OSError into one message and an exit code: 2 for wrong usage, 1 for other errors."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            click.echo(str(error) or "interrupted", err=True)
            ctx.exit(128 + signal.SIGINT)
        except Exception as error:
            from xcorr.core.errors import XcorrError

            if isinstance(error, OSError) and not isinstance(error, XcorrError) and error.filename is not None:
                click.echo(f"error: {error.filename}: {error.strerror}", err=True)
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
    xcorr init                                  write stations.txt and xcorr.toml to start from
    xcorr run stations.txt --source sds:DIR     the main job
    xcorr plan stations.txt --source sds:DIR    forecast time, memory and space of a run
    xcorr info stations.xcorr                   show what the results hold
    xcorr plot stations.xcorr                   draw a record section
    xcorr status | verify | stack | export | pack   campaigns, see their --help
    xcorr prov stations.xcorr                   export provenance; prov query asks questions
    xcorr doctor                                check the installation, say how to repair it
    xcorr workflow | pe | registry | storm      other workflows, their elements, a Storm cluster

    Exit codes: 0 done; 1 no results, or an error; 2 wrong usage; 3 done, but some inputs failed; 130 interrupted.
    """


for command in (
    run.run,
    run.plan,
    run.doctor,
    campaigns.init,
    campaigns.status,
    campaigns.verify,
    campaigns.stack,
    campaigns.pack,
    results.info,
    results.plot,
    results.compare,
    results.export,
):
    main.add_command(command)
for group in (workflows.workflow, workflows.pe, workflows.registry, storm.storm, prov.prov):
    main.add_command(group)
