"""The entry point of the program ``xcorr``. It handles Ctrl-C and closed streams before it imports the rest."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
from typing import Any, NoReturn

NOTHING_BEGUN = "interrupted before anything was begun"
INTERRUPTED = 128 + signal.SIGINT  # the exit code that shells use
PATIENCE_S = 2.0  # time for threads of elements to end by themselves
end = os._exit  # kept, because _name_exits replaces os._exit


def main() -> NoReturn:
    """Run the command line, and leave with its exit code."""
    is_heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a job in the background ignores it
    if is_heeded:
        signal.signal(signal.SIGINT, _leave)
    _open_streams()
    faulthandler.enable(file=2)  # after a crash such as SIGSEGV, shows where in an element it happened
    _name_exits()

    from xcorr.core.interrupt import held

    heeded = []
    if is_heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # nohup has SIGHUP ignored
        heeded = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
        for number in heeded:
            signal.signal(number, _as_interrupt)
    code: Any = 0
    try:
        try:
            with contextlib.suppress(SystemExit), held():
                from xcorr.cli.program import main as cli

                try:
                    cli(prog_name="xcorr")
                except SystemExit as end:  # here, where signals are only noted
                    code = end.code
                    raise  # out of held(), which would raise for a signal that came after this end
        except KeyboardInterrupt:
            print(NOTHING_BEGUN, file=sys.stderr)  # a command that has begun says itself what it has stored
            code = INTERRUPTED
        _ignore(heeded)
    except KeyboardInterrupt:  # in the few instructions since the work has ended
        _ignore(heeded)
    if _asked is not None and code == INTERRUPTED:  # else the work had ended by itself when the signal came
        code = 128 + _asked
    _end_leftovers(code)
    sys.exit(code)


def _ignore(numbers: list[signal.Signals]) -> None:
    """Ignore signals from now on: the work has ended, and Python would let them kill its own end."""
    for number in (signal.SIGINT, *numbers):
        signal.signal(number, signal.SIG_IGN)


_asked: int | None = None  # the signal, other than SIGINT, that has asked for the end


def _as_interrupt(number: int, frame: Any) -> None:
    """Do for another signal what Ctrl-C does: batch systems send SIGTERM before they kill."""
    global _asked
    _asked = number
    signal.raise_signal(signal.SIGINT)


def _leave(number: int, frame: Any) -> NoReturn:
    os.write(2, f"{NOTHING_BEGUN}\n".encode())
    end(INTERRUPTED)


def _open_streams() -> None:
    """Open standard input, output and error where closed. Else the next file opened would take the free number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def _name_exits() -> None:
    """Make os._exit print its caller. Else an element could end the run silently, even with exit code 0."""
    own = os.getpid()

    def named(code: int) -> NoReturn:
        if os.getpid() == own:
            sys.stderr.write(f"error: os._exit({code}) ends the run here:\n")
            sys.stderr.flush()
            faulthandler.dump_traceback(file=2, all_threads=False)
            code = code or 1
        end(code)

    named.unnamed = end  # type: ignore[attr-defined]
    os._exit = named  # type: ignore[assignment]


def _end_leftovers(code: Any) -> None:
    """End the processes and threads that elements have left behind. Threads get some time to end by themselves."""
    if "xcorr.mappings.run" not in sys.modules:
        return
    import threading
    import time

    from xcorr.mappings.leftovers import end_children, warn_of_threads

    def insist() -> None:
        time.sleep(PATIENCE_S)
        if warn_of_threads():
            sys.stdout.flush()
            sys.stderr.flush()
            end(code if isinstance(code, int) and code else 1)

    end_children()
    threading.Thread(target=insist, daemon=True).start()


if __name__ == "__main__":
    main()
