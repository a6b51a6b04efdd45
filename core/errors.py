"""The errors that this project raises on purpose: XcorrErrors that are also the built-in errors callers expect."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class XcorrError(Exception):
    """Base of all errors raised on purpose. The text says what was found, what is allowed, and what to do."""


class GraphError(XcorrError, ValueError):
    """A workflow graph that cannot be run: unknown port, cycle, name set twice, element without input."""


class WorkflowLoadError(XcorrError, ImportError):
    """A workflow could not be loaded from the module or file that was named.

    ``traceback_text`` shows where the user's own code failed. It is empty if no code of the user failed.
    """

    traceback_text = ""


class ElementError(XcorrError, RuntimeError):
    """An element failed while running.

    Attributes
    ----------
    element, phase : name of the element; ``preprocess``, ``process``, ``skipped`` or ``postprocess``
    instance, instances : number of the copy of the element, and number of copies
    item : shortened text of the item that was processed
    traceback_text : the original traceback, from the process in which the element failed
    """

    def __init__(
        self,
        element: str,
        phase: str,
        instance: int,
        instances: int,
        item: str,
        cause: str,
        traceback_text: str,
    ) -> None:
        # all arguments, because pickle makes an error again from them
        super().__init__(element, phase, instance, instances, item, cause, traceback_text)
        self.element, self.phase, self.item = element, phase, item
        self.instance, self.instances = instance, instances
        self.cause_text, self.traceback_text = cause, traceback_text

    def __str__(self) -> str:
        """One line for people; the traceback is in ``traceback_text``."""
        on_item = f" on item {self.item}" if self.item else ""
        return (
            f"element {self.element!r} (instance {self.instance} of {self.instances}) failed in "
            f"{self.phase}{on_item}: {self.cause_text}"
        )


class RegistryError(XcorrError, KeyError):
    """A name that is not registered."""

    def __str__(self) -> str:
        """Return the message itself: KeyError would show its repr."""
        return str(self.args[0])


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known name nearest to ``name``, or an empty text."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""
