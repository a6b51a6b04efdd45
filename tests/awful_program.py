"""A workflow with an element that does something awful: ``awful_program.py`` is loaded by ``xcorr workflow run``.

``AWFUL_WAY`` names what it does, ``AWFUL_WHEN`` the phase: ``init``, ``preprocess``, ``process``, ``postprocess``. The
moment goes to the file ``AWFUL_TIME``.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from elements import chain

from xcorr.core import IterativePE
from xcorr.core.testing import ListSink, ListSource

WAY, WHEN, TIME = (os.environ.get(f"AWFUL_{name}", "") for name in ("WAY", "WHEN", "TIME"))


class Own(BaseException):
    """An exception that is no Exception."""


class Nasty(Exception):
    """One whose text cannot be made, and that cannot be pickled."""

    def __init__(self):
        super().__init__(lambda: None)

    def __str__(self):
        raise RuntimeError("no text")


class Stubborn:
    """An item that nobody can pickle, copy or show."""

    def __reduce__(self):
        raise Own("pickled")

    def __repr__(self):
        raise Own("shown")


class Trap:
    """An item that ends whoever unpickles it."""

    def __reduce__(self):
        return os._exit, (7,)


def deeper(n):
    return deeper(n + 1) + 1


def left_thread():
    threading.Thread(target=lambda: time.sleep(1000), name="left thread").start()


def left_fork():
    if os.fork() == 0:
        time.sleep(1000)
        os._exit(0)


def printed():
    for _ in range(5000):
        print("x" * 1000)
    raise ValueError("told to fail")


def raising(error):
    def raise_it():
        raise error

    return raise_it


RAISED = {
    "SystemExit": SystemExit(0),
    "SystemExit-text": SystemExit("text"),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "GeneratorExit": GeneratorExit(),
    "CancelledError": asyncio.CancelledError(),
    "StopIteration": StopIteration(),
    "MemoryError": MemoryError(),
    "Own": Own("own"),
    "Nasty": Nasty(),
}
WAYS = {
    **{name: raising(error) for name, error in RAISED.items()},
    "exit-0": lambda: os._exit(0),
    "exit-3": lambda: os._exit(3),
    "sys-exit": sys.exit,
    "SIGSEGV": lambda: ctypes.string_at(0),
    "SIGABRT": os.abort,
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGTERM": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "recursion": lambda: deeper(0),
    "stubborn": Stubborn,
    "trap": Trap,
    "generator": lambda: (i for i in range(3)),
    "gigabyte": lambda: np.zeros(1 << 27),
    "thread": left_thread,
    "fork": left_fork,
    "program": lambda: subprocess.Popen(["sleep", "1000"]) and None,
    "printed": printed,
}


class Awful(IterativePE):
    """Does it once, at item 3."""

    worker = 0

    def __init__(self):
        super().__init__()
        self.way, self.when, self.time = WAY, WHEN, TIME  # tasks of Storm have another environment
        self.act("init")

    def act(self, when):
        if when == self.when:
            Path(self.time).write_text(str(time.time()))
            return WAYS[self.way]()
        return None

    def preprocess(self):
        self.act("preprocess")

    def _process(self, item):
        made = self.act("process") if item == 3 else None
        return item if made is None else made

    def postprocess(self):
        self.act("postprocess")


class Last(ListSink):
    """Keeps the number of items, elsewhere than where they come from."""

    worker = 1

    def postprocess(self):
        self.write("output", len(self._received))


def graph():
    return chain(ListSource(range(6)), Awful(), Last())
