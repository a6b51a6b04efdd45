"""The files that a path, folder or glob stands for."""

from __future__ import annotations

import fnmatch
import glob
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from xcorr.core.files import printable

NOT_DATA = ("/proc", "/sys", "/dev")  # files there have no end, or wait for somebody to write


def files_at(place: str, most: int | None = None, unreadable: dict[str, str] | None = None) -> list[str]:
    """Return the regular files at a path, in a folder and the folders below it, or that match a glob, sorted.

    ``**`` in a glob stands for any number of folders. Links to folders are followed, and every folder is searched once,
    so that links in a circle do no harm. The search ends after ``most`` files. Folders that cannot be read are entered
    in ``unreadable`` with the reason.
    """
    bad: dict[str, str] = {} if unreadable is None else unreadable
    place = _escaped(place)
    head, several, tail = place.partition("**")
    if several:
        wanted = ("**" + tail).split("/")
        found = (
            path
            for folder in glob.glob(head or ".")
            for path in _below(folder, bad)
            if _matches(os.path.relpath(path, folder).split(os.sep), wanted)
        )
    else:
        places = glob.glob(place)
        found = (
            path for at in places for path in (_below(at, bad) if os.path.isdir(at) else [at] if _is_data(at) else [])
        )
    return sorted(set(itertools.islice(found, most)))


def _escaped(place: str) -> str:
    """Return a glob in which the folders and files that exist under their very names are no patterns."""
    parts = place.split(os.sep)
    for k in range(len(parts), 0, -1):
        start = os.sep.join(parts[:k])
        if start and os.path.lexists(start):
            return os.sep.join([glob.escape(start), *parts[k:]])
    return place


def _below(folder: str, unreadable: dict[str, str]) -> Iterator[str]:
    def note(error: OSError) -> None:
        unreadable[str(error.filename)] = f"the folder cannot be read: {error.strerror}"

    seen: set[tuple[int, int]] = set()
    not_data = {os.stat(place).st_dev for place in NOT_DATA if os.path.exists(place)} - {os.stat("/").st_dev}
    for at, folders, names in os.walk(folder, onerror=note, followlinks=True):
        try:
            status = os.stat(at)
        except OSError as error:  # it has just gone
            note(error)
            continue
        if (status.st_dev, status.st_ino) in seen or status.st_dev in not_data:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        regular = {entry.name for entry in listed(at, os.DirEntry.is_file, unreadable)}
        yield from (os.path.join(at, name) for name in names if name in regular)


def listed(
    folder: str | Path, is_wanted: Callable[[os.DirEntry[str]], bool], unreadable: dict[str, str], whose: str = ""
) -> list[os.DirEntry[str]]:
    """Return what is wanted in a folder, by name, such as ``os.DirEntry.is_dir``, also through links.

    A folder that cannot be read, each link that leads nowhere, and each pipe, socket or device is entered in
    ``unreadable`` with the reason.
    """
    found = []
    try:
        with os.scandir(folder) as entries:  # which mostly knows without another call for each
            for entry in entries:
                try:
                    if is_wanted(entry):
                        found.append(entry)
                    elif text := _out_of_reach(entry):
                        unreadable[entry.path] = f"{whose}{text}"
                except OSError as error:
                    unreadable[entry.path] = f"{whose}it cannot be looked at: {error.strerror}"
    except OSError as error:
        unreadable[str(folder)] = f"{whose}the folder cannot be read: {error.strerror}"
    return sorted(found, key=lambda entry: entry.name)


def _out_of_reach(entry: os.DirEntry[str]) -> str:
    """Return why what an entry stands for cannot be read; an empty text for a file or a folder."""
    if entry.is_file() or entry.is_dir():
        return ""
    if entry.is_symlink() and not os.path.exists(entry.path):
        return f"it is a link to {printable(os.readlink(entry.path))}, which is not there"
    return "it is a pipe, a socket or a device"


def _is_data(path: str) -> bool:
    return os.path.isfile(path) and not os.path.realpath(path).startswith(NOT_DATA)


def _matches(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Return whether the parts of a path match those of a glob."""
    if not wanted or wanted == ["**"]:
        return not parts or bool(wanted)
    if wanted[0] == "**":
        return any(_matches(parts[k:], wanted[1:]) for k in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], wanted[0]) and _matches(parts[1:], wanted[1:])
