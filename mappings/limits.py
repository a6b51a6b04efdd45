"""Limits of the system: the number of open files of a process, and the length of a socket's name."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from multiprocessing import process, util
from pathlib import Path

from xcorr.core import XcorrError

SOCKET_NAME = 107  # most bytes of a socket's path (sun_path of unix(7), without the final zero)
ROOM = 60  # of these, bytes for the names inside a temporary folder
PLACES = ("/tmp", "/var/tmp", "/dev/shm")


def allow_descriptors(needed: int) -> None:
    """Raise this process's limit of open files so that there is room for ``needed`` more.

    Raises XcorrError if the hard limit of the system is lower. The text says what to do.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    folder = Path("/proc/self/fd")
    wanted = needed + (len(os.listdir(folder)) if folder.exists() else 64)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise XcorrError(
                f"this run needs {wanted} open files in a process and the system allows {hard}: choose fewer workers "
                f"with -n, or let it have more (ulimit -n {wanted}, or LimitNOFILE of its service)"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def short_place() -> str:
    """Return a folder with a name short enough for sockets in its temporary folders, even if TMPDIR is long.

    Raises XcorrError if there is no such folder.
    """
    for place in (tempfile.gettempdir(), *PLACES):
        if len(os.fsencode(place)) + ROOM <= SOCKET_NAME and os.access(place, os.W_OK | os.X_OK):
            return place
    raise XcorrError(
        f"no folder for the sockets of workers: the name of TMPDIR has more than {SOCKET_NAME - ROOM} bytes, and "
        f"{', '.join(PLACES)} cannot be written; set TMPDIR to a folder with a shorter name"
    )


def shorten_sockets_of_multiprocessing() -> None:
    """Let multiprocessing make its sockets in a short folder, removed when this process ends."""
    # private: util.get_temp_dir of multiprocessing looks there, and has no setting
    config = process.current_process()._config  # type: ignore[attr-defined]
    if config.get("tempdir") is None and len(os.fsencode(tempfile.gettempdir())) + ROOM > SOCKET_NAME:
        config["tempdir"] = tempfile.mkdtemp(prefix="pymp-", dir=short_place())
        # as in util.get_temp_dir: after everything that uses the folder
        util.Finalize(None, shutil.rmtree, args=(config["tempdir"], True), exitpriority=-100)
