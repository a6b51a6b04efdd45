"""Connections of this process to Dask clusters, kept for all its runs."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import importlib.util
import json
import logging
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xcorr.core import XcorrError
from xcorr.mappings.dask_host import TOPIC

INSTALL = "pip install 'xcorr[dask]'"
CONNECT_S = 8.0


class DaskError(XcorrError, RuntimeError):
    """Dask is not installed, or its cluster cannot be used."""


# reports of workers of a run, or addresses of Dask workers that have begun it; or the address of one that has gone
Event = list[bytes | str] | str
listeners: dict[str, Callable[[Event], None]] = {}  # of runs, by name
_lock = threading.Lock()
_clients: dict[tuple[str | None, int], Any] = {}  # by scheduler, and threads of a cluster of its own
_owner = os.getpid()  # of the connections


def client(scheduler: str | None, threads: int) -> Any:
    """Return a client of a scheduler, or of a cluster in this process with so many threads, which ends with it.

    ``scheduler`` is an address or the path of a scheduler file. Raises DaskError if Dask is not installed, or if no
    scheduler answers.
    """
    global _owner
    if scheduler is not None:
        scheduler = scheduler.rstrip("/")  # as Dask writes addresses
    if _clients and os.getpid() != _owner:
        raise DaskError(
            "this process was forked of one that is connected to Dask, and has not the threads of Dask; start it by "
            'multiprocessing.get_context("spawn")'
        )
    key = (scheduler, threads if scheduler is None else 0)
    with _lock:
        _owner = os.getpid()
        if key in _clients and _clients[key].status != "running":  # its scheduler has gone
            with contextlib.suppress(Exception):  # of any kind that is still under way in it
                _clients.pop(key).close(timeout=1)
        if key not in _clients:
            if importlib.util.find_spec("distributed") is None:
                raise DaskError(f"the dask mapping needs Dask: {INSTALL}")
            _clients[key] = _same(_own(threads) if scheduler is None else _connected(scheduler))
        return _clients[key]


def _same(new: Any) -> Any:
    """Return the client that this process has of a scheduler, known by another name or not; else the new one."""
    for known in _clients.values():
        if known.status == "running" and _id_of(known) == _id_of(new):
            new.close()
            return known
    logging.getLogger("distributed.client").addFilter(_is_news)
    new.subscribe_topic(TOPIC, _heard)
    new.subscribe_topic("all", _seen)  # a topic of Dask's own
    _at_exit(lambda: _closed(new))
    return new


def _id_of(client: Any) -> str:
    """Return the name of a client's scheduler, which may have several addresses."""
    return str(client.scheduler_info(n_workers=0)["id"])


def _at_exit(end: Callable[[], object]) -> None:
    """Call something when this process ends, and not when one ends that was forked of it."""
    owner = os.getpid()
    atexit.register(lambda: end() if os.getpid() == owner else None)


def _closed(found: Any) -> None:
    """Close a client, which must hear nothing more before."""
    if found.status == "running":
        for topic in (TOPIC, "all"):
            found.unsubscribe_topic(topic)
        found.close()


def threads(of: Any) -> dict[str, int]:
    """Return the numbers of threads of the Dask workers that take tasks, by address."""
    workers = of.scheduler_info(n_workers=-1)["workers"]
    return {address: about["nthreads"] for address, about in workers.items() if about["status"] == "running"}


def _is_news(record: logging.LogRecord) -> bool:
    """Return False for the traceback of a client that looked for its scheduler when it was closed."""
    return not (record.exc_info and record.exc_info[0] is asyncio.CancelledError)


def _heard(event: tuple[float, Any]) -> None:
    if isinstance(event[1], list | tuple) and event[1] and event[1][0] in listeners:  # else it is of another program
        listeners[event[1][0]](list(event[1][1:]))


def _seen(event: tuple[float, Any]) -> None:
    if isinstance(event[1], dict) and event[1].get("action") == "remove-worker":
        for listen in list(listeners.values()):
            listen(str(event[1]["worker"]))


def _own(threads: int) -> Any:
    import distributed

    dask: Any = distributed  # which has no types
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="xcorr-dask-"))
        cluster = stack.enter_context(
            dask.LocalCluster(
                n_workers=1,
                threads_per_worker=threads,
                processes=False,  # its worker only starts processes, and need not import the caller's script
                memory_limit=0,
                dashboard_address="127.0.0.1:0",
                local_directory=scratch,
                scheduler_kwargs={"local_directory": scratch},
            )
        )
        found = stack.enter_context(dask.Client(cluster, set_as_default=False))
        _at_exit(stack.pop_all().close)
    return found


def _connected(scheduler: str) -> Any:
    import distributed

    dask: Any = distributed
    if "://" not in scheduler and not _is_scheduler_file(Path(scheduler)):
        raise DaskError(
            f"run.dask.scheduler: {scheduler!r} is neither an address such as tcp://host:8786 nor a scheduler file"
        )
    how = {"address": scheduler} if "://" in scheduler else {"scheduler_file": scheduler}
    try:
        found = dask.Client(**how, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise DaskError(f"run.dask.scheduler: no Dask scheduler answers at {scheduler} ({error})") from error
    return found


def _is_scheduler_file(path: Path) -> bool:
    """Return whether a file names a scheduler, as Dask's scheduler files do."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "address" in content
