"""Ctrl-C at a safe moment: SIGINT is noted when it comes, and raised when no step is half done.

By itself Python raises KeyboardInterrupt between any two instructions. In a callback from C this can end the process
with SIGSEGV, in a finalizer the interrupt is lost, and it may stop a cleanup half way. While SIGINT is held, it is only
noted, and :func:`check` raises KeyboardInterrupt. After a second Ctrl-C, or after :data:`PATIENCE_S`, it is raised at
once, except within :func:`shielded`.

Only the main thread receives signals, so the functions here do nothing in other threads. They do not replace a handler
that a program has set for SIGINT.
"""

from __future__ import annotations

import _thread
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

PATIENCE_S = 2.0  # longest time that SIGINT waits for a safe moment


class _State:
    """The state of SIGINT in the main thread."""

    def __init__(self) -> None:
        self.noted = False  # SIGINT has come
        self.raised = False  # KeyboardInterrupt has been raised for it
        self.shields = 0
        self.told: list[Callable[[], None]] = []


_state = _State()


def is_interrupt(error: BaseException) -> bool:
    """Return whether an error is the KeyboardInterrupt of a signal, not one that an element raises by itself."""
    if not isinstance(error, KeyboardInterrupt) or threading.current_thread() is not threading.main_thread():
        return False
    handler = signal.getsignal(signal.SIGINT)
    # SIG_IGN and SIG_DFL are not callable, and raise nothing
    return _state.noted if handler is _note else callable(handler)


def check() -> None:
    """Raise KeyboardInterrupt, once, if SIGINT has come; for safe moments of the main thread."""
    if _state.noted and not _state.raised and threading.current_thread() is threading.main_thread():
        _state.raised = True
        raise KeyboardInterrupt


@contextlib.contextmanager
def held(tell: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold SIGINT within the block, and :func:`check` at its end. ``tell()`` is called when SIGINT comes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    global _state
    outermost = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if outermost:
        _state = _State()  # a new object, because a thread of _insist may still watch the old one
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
            state.raised = True  # before the handler changes: _insist must not send SIGINT to the new one
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Hold SIGINT until the end of the block, even after repeated Ctrl-C. For C code that calls back into Python."""
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
    """Send SIGINT again after :data:`PATIENCE_S`, until KeyboardInterrupt has been raised."""
    time.sleep(PATIENCE_S)
    main = threading.main_thread().ident
    while state.noted and not state.raised and main is not None:
        signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.1)  # again after a while, because a shielded block lets it pass
