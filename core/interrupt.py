"""Ctrl-C at a safe moment: SIGINT is noted when it comes, and raised where nothing is half done.

Python raises KeyboardInterrupt between any two instructions: in a callback from C, where it can end the process with
SIGSEGV, in a finalizer, where it is lost, or in the middle of cleaning up. While SIGINT is held, :func:`check` raises
it. Whoever presses Ctrl-C twice, or waits for :data:`PATIENCE_S`, gets it at once, except within :func:`shielded`.

Only the main thread receives signals; elsewhere everything here does nothing. A handler that a program has set for
SIGINT is left alone.
"""

from __future__ import annotations

import _thread
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

PATIENCE_S = 2.0  # that SIGINT may wait for a safe moment


class _State:
    """What is known of SIGINT in the main thread."""

    def __init__(self) -> None:
        self.noted = False  # it has come
        self.raised = False  # and been raised
        self.shields = 0
        self.told: list[Callable[[], None]] = []


_state = _State()


def is_interrupt(error: BaseException) -> bool:
    """Return whether an error is the KeyboardInterrupt of a signal, not one that an element raises by itself."""
    if not isinstance(error, KeyboardInterrupt) or threading.current_thread() is not threading.main_thread():
        return False
    handler = signal.getsignal(signal.SIGINT)
    return _state.noted if handler is _note else callable(handler)


def check() -> None:
    """Raise KeyboardInterrupt, once, if SIGINT has come; for safe moments of the main thread."""
    if _state.noted and not _state.raised and threading.current_thread() is threading.main_thread():
        _state.raised = True
        raise KeyboardInterrupt


@contextlib.contextmanager
def held(tell: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold SIGINT back within the block, which ends with a :func:`check`; ``tell()`` is called when it comes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    global _state
    outermost = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if outermost:
        _state = _State()
        signal.signal(signal.SIGINT, _note)
    state = _state
    if tell is not None:
        state.told.append(tell)
    try:
        yield
        check()
    except KeyboardInterrupt:
        state.raised = True
        raise
    finally:
        if tell is not None:
            state.told.remove(tell)
        if outermost:
            state.raised = True
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Let SIGINT wait within the block, however long and however often it comes: C code calls back into Python."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with held():
        state = _state
        state.shields += 1
        try:
            yield
        finally:
            state.shields -= 1


def _note(number: int, frame: Any) -> None:
    again, _state.noted = _state.noted, True
    if again:
        if not _state.shields:
            _state.raised = True
            raise KeyboardInterrupt
        return
    for tell in _state.told:
        tell()
    # not threading.Timer: a signal may come while the main thread holds the lock that starting one takes
    _thread.start_new_thread(_insist, (_state,))


def _insist(state: _State) -> None:
    """Send SIGINT again, unless it has been raised in time."""
    time.sleep(PATIENCE_S)
    main = threading.main_thread().ident
    while state.noted and not state.raised and main is not None:
        signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.1)
