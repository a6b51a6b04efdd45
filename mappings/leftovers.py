"""Finds and ends the threads and processes that elements have started and left running."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

_log = logging.getLogger("xcorr.mappings")


def warn_of_threads() -> bool:
    """Log which threads Python would wait for at the end; return whether there are any."""
    threads = [t.name for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
    if threads:
        _log.warning("elements have left threads running, which end now: %s", ", ".join(threads))
    return bool(threads)


def end_children() -> None:
    """Kill and log the children of this process in its session, except the servers of multiprocessing."""
    # private, because multiprocessing does not name its servers otherwise
    servers = (forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid)  # type: ignore[attr-defined]
    children = {p: name for p, name in _children().items() if p not in servers}
    if children:
        _log.warning("elements have left processes running, which end now: %s", ", ".join(children.values()))
    for process in children:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(process, signal.SIGKILL)


def _children() -> dict[int, str]:
    """Return the living children of this process in its session, with their names."""
    if not Path("/proc/self/stat").exists():
        return {}
    try:
        # WNOWAIT leaves an ended child for whoever started it
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return {}  # no children, so the slow search through all processes is not needed
    found = {}
    own, session = os.getpid(), os.getsid(0)
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            # from the last bracket, because a program's name may hold brackets and spaces
            head, _, tail = (entry / "stat").read_text().rpartition(")")
        except OSError:
            continue  # it has just ended
        state, parent, _, of = tail.split()[:4]
        # whoever put a child in a session of its own meant it to stay
        if int(parent) == own and int(of) == session and state != "Z":
            found[int(entry.name)] = f"{head.partition('(')[2]} ({entry.name})"
    return found
