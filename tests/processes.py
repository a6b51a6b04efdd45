"""Processes of this host that carry a mark in their environment, and shared memory that no process has."""

import contextlib
import os
from pathlib import Path


def marked(mark):
    """Return the numbers of the processes with a text in their environment that have not ended."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            is_ours = mark.encode() in (entry / "environ").read_bytes()
            alive = (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            continue  # it has just ended
        if is_ours and alive:
            found.append(int(entry.name))
    return sorted(found)


def nobodys(names):
    """The shared memory and semaphores that no living process has open: other tests, beside this one, have some."""
    mapped = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):  # it has ended
            mapped |= {line.split()[4] for line in maps.read_text().splitlines() if "/dev/shm/" in line}
    found = set()
    for name in names:
        with contextlib.suppress(OSError):  # it is gone
            if str(os.stat(f"/dev/shm/{name}").st_ino) not in mapped:  # glibc maps semaphores under another name
                found.add(name)
    return found
