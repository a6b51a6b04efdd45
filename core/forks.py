"""Ends a process that an element has forked and that came back into the run."""

from __future__ import annotations

import os
from typing import NoReturn


class Forks:
    """Knows when this process is a fork of one that ran elements: an element has forked, and both sides came back."""

    returned = False

    def note(self) -> None:
        """Note that this process has just been forked."""
        self.returned = True

    def end(self, element: str) -> NoReturn:
        """End this process, which would do again what the other one does."""
        text = f"error: element {element!r} has forked, and its child came back into the run: the child ends\n"
        os.write(2, text.encode())  # not sys.stderr, which an element may have replaced
        os._exit(1)  # no cleanup, because files and connections belong to the other side


forks = Forks()
os.register_at_fork(after_in_child=forks.note)
