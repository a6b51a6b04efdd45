"""Checks the installation and the machine, and says how to repair what is missing."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from xcorr.core import XcorrError
from xcorr.settings import Settings

NEEDED = ("numpy", "obspy", "h5py", "pyproj", "xarray", "matplotlib", "jinja2", "click", "threadpoolctl", "pillow")
OPTIONAL = {
    "prov": "pip install 'xcorr[provenance]', for xcorr prov",
    "mpi4py": "pip install 'xcorr[mpi-local]' (or 'xcorr[mpi]' with an MPI of the system), for -m mpi",
    "thriftpy2": "pip install 'xcorr[storm]', for -m storm",
    "distributed": "pip install 'xcorr[dask]', for -m dask",
    "h5netcdf": "pip install 'xcorr[export]', for xcorr export --format netcdf",
    "zarr": "pip install 'xcorr[export]', for xcorr export --format zarr",
    "pyasdf": "pip install 'xcorr[export]', for xcorr export --format asdf",
    "hdf5plugin": "pip install 'xcorr[compression]', for stack.compression = \"lz4\"",
}
IMPORTED_AS = {"pillow": "PIL"}
LITTLE_BYTES = 1 << 30


class Finding(NamedTuple):
    """The result of one check: whether all is well, what was found, and the cure. Nothing runs without ``needed``."""

    name: str
    well: bool
    found: str
    cure: str = ""
    needed: bool = False


def examine(folder: Path) -> Iterator[Finding]:
    """Yield findings about this installation and this machine; ``folder`` is where results would go."""
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", sys.version_info >= (3, 11), python, "install Python 3.11 or newer", True)
    for name in NEEDED:
        yield _package(name, f"pip install {name}", needed=True)
    for name, cure in OPTIONAL.items():
        yield _package(name, cure)
    mpiexec = shutil.which("mpiexec") or shutil.which("mpiexec", path=os.path.dirname(sys.executable))
    yield Finding("mpiexec", mpiexec is not None, mpiexec or "not found", OPTIONAL["mpi4py"])
    for program, what in (("java", "Java 17 (openjdk-17-jre-headless)"), ("mvn", "Maven (maven)")):
        place = shutil.which(program)
        yield Finding(program, place is not None, place or "not found", f"install {what}, for xcorr storm up")
    yield from _machine(folder)


def _package(name: str, cure: str, needed: bool = False) -> Finding:
    try:
        importlib.import_module(IMPORTED_AS.get(name, name))
        return Finding(name, True, version(name), "", needed)
    except (ImportError, PackageNotFoundError, OSError, RuntimeError) as error:  # a library may be missing below it
        return Finding(name, False, f"{type(error).__name__}: {error}".splitlines()[0], cure, needed)


def _machine(folder: Path) -> Iterator[Finding]:
    from xcorr.mappings.engine import available_cores
    from xcorr.store.software import kernel

    yield Finding("processor", True, f"{available_cores()} core(s), {kernel()}")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield Finding("memory", memory > 2 * LITTLE_BYTES, f"{memory / 1e9:.1f} GB", "more memory, or fewer stations")
    place = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    yield Finding(
        "disk", free > LITTLE_BYTES, f"{free / 1e9:.1f} GB free at {place}", "free some space, or choose another folder"
    )
    writable = os.access(place, os.W_OK)
    yield Finding(
        "folder", writable, f"{place} can {'' if writable else 'not '}be written", "choose another folder", True
    )


def examine_source(stations: Path, settings: Settings) -> Iterator[Finding]:
    """Yield findings about a station list and its source."""
    from xcorr.campaign.own_metadata import own_metadata
    from xcorr.network.survey import survey_list

    try:
        with own_metadata(stations, stations.with_suffix(".xcorr"), settings) as complete:
            found = survey_list(stations, complete)
    except (XcorrError, OSError) as error:
        yield Finding("source", False, str(error), "see xcorr run --help", True)
        return
    absent = [r for r in found.requested if r.status == "absent"]
    yield Finding(
        "stations",
        not absent,
        f"{len(found.stations)} with data, {len(absent)} of {len(found.requested)} lines without",
        "; ".join(f"line {r.line} ({r.text}): {r.reason}" for r in absent[:3]),
    )
    days = [c.start_ns for c in found.chunks]
    yield Finding("chunks", True, f"{len(days)} with data, {found.rows} pair(s)")
    for concern in found.concerns:
        yield Finding("data", False, concern.text, needed=concern.fatal)
    unplaced = [s.name for s in found.stations if not s.coordinates.are_known]
    cure = "give coordinates in the list (CSV) or with --metadata; distances need coordinates"
    yield Finding("coordinates", not unplaced, f"{len(unplaced)} station(s) without", cure)
    bad = found.index.unreadable
    first = next(iter(bad.items()), ("", ""))
    yield Finding("files", not bad, f"{len(bad)} unreadable", f"{first[0]}: {first[1]}")
