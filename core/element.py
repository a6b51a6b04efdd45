"""The processing element (PE): the base class of every step of a workflow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from xcorr.core.errors import GraphError
from xcorr.core.grouping import GroupBy, stable_hash
from xcorr.core.product import Product

NAME, TYPE, GROUPING = "name", "type", "grouping"
_log = logging.getLogger("xcorr.workflow")


class GenericPE:
    """A processing element with named inputs and outputs; the programming model is dispel4py's.

    A subclass declares its ports in the constructor and overrides :meth:`process` or :meth:`_process`.
    An instance is a copy of the object, so instances do not share state that the constructor has made. The engine calls
    on each instance:

    ``preprocess()`` once, before the first item;
    ``process({port: item})`` once for each item that arrives, with exactly one port;
    ``postprocess()`` exactly once, after the last item. It may still write.

    Outputs are returned as ``{port: item}`` or written with :meth:`write` at any time.

    Class attributes
    ----------------
    stateless : True if the outputs of an item depend on this item alone. There is then one instance per worker. The
        class that defines ``process`` or ``_process`` declares this. A class that overrides these methods, or
        ``postprocess``, must declare it again.
    keyed : True if the outputs of a group-by element depend on the key alone. There is then one instance per worker.
    on_error : ``"fail"`` ends the run. ``"skip"`` drops the item, counts it, and writes what :meth:`skipped` returns.
        ``"retry(n)"`` tries n more times, then fails. Under ``"skip"`` and ``"retry(n)"``, the outputs of an item are
        sent only when its ``process`` has succeeded.
    worker : index of the worker to run on, modulo the number of workers; None lets the plan choose.
    derivation : which inputs an output comes from, for provenance: ``"single"``, the current item; ``"accumulated"``,
        all items so far; ``"grouped"``, all items so far with the same :meth:`derivation_key`; ``"sliding(n)"``, the
        last n items; ``"n-by-1"``, the last item of every input. Outputs of ``postprocess`` come from all items.
    version : version of the element, for the registry and provenance.
    covers : more modules whose code decides the outputs. Provenance says when one of them has changed. The element's
        own module, and the modules of its package that it imports, need not be listed.
    products : which outputs can be kept (:class:`xcorr.core.product.Product`), by port.
    unit : the unit that the element counts, for progress, such as ``"windows"``. It adds its counts to ``self.units``.
    in_common : a dictionary that all instances in one process share; empty when a run begins. Threads share one, so use
        locks. Processes, ranks and Storm workers each have their own. Use it for objects that are costly to keep twice,
        and never for values that outputs depend on.
    items_left : for a source that knows it: the number of items still to write, including the current one. The last
        items are then distributed so that workers end together.
    open_groups : for a source: how many groups of items (see :meth:`group_of`) may be under way at once.
    """

    stateless: ClassVar[bool | None] = None
    keyed: ClassVar[bool] = False
    on_error: str = "fail"
    worker: int | None = None
    open_groups: int | None = None
    items_left: int | None = None
    derivation: str = "single"
    version: str = "1"
    covers: ClassVar[tuple[str, ...]] = ()
    products: ClassVar[Mapping[str, Product]] = {}
    unit: ClassVar[str] = ""
    units: float = 0.0
    instance, instances = 0, 1  # number of this copy of the element, and number of copies; the engine sets both

    def __init__(self, numprocesses: int = 1) -> None:
        self.inputconnections: dict[str, dict[str, Any]] = {}
        self.outputconnections: dict[str, dict[str, Any]] = {}
        self.numprocesses = numprocesses
        self.in_common: dict[str, Any] = {}
        self._name = type(self).__name__
        self._named = False
        self.id = self._name

    @property
    def name(self) -> str:
        """Name in the graph: the class name unless set; default names that clash get a suffix."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name, self._named, self.id = name, True, name

    def _suggest_name(self, name: str) -> None:
        """Set a default name. If several elements have it, they get different suffixes, and no error is raised."""
        self._name, self._named, self.id = name, False, name

    def _add_input(self, name: str, grouping: Any = None, tuple_type: Any = None) -> None:
        """Declare an input; ``grouping`` says which instance an item goes to (:mod:`xcorr.core.grouping`)."""
        self.inputconnections[name] = {NAME: name}
        if grouping is not None:
            self.inputconnections[name][GROUPING] = grouping
        if tuple_type is not None:
            self.inputconnections[name][TYPE] = tuple_type

    def _add_output(self, name: str, tuple_type: Any = None) -> None:
        """Declare an output."""
        self.outputconnections[name] = {NAME: name}
        if tuple_type is not None:
            self.outputconnections[name][TYPE] = tuple_type

    def setInputTypes(self, types: dict[str, Any]) -> None:
        """Receive the types of the inputs (dispel4py); for overriding."""

    def getOutputTypes(self) -> dict[str, Any]:
        """Return the declared type of each output (dispel4py).

        Raises GraphError if an output declares none.
        """
        for name, output in self.outputconnections.items():
            if TYPE not in output:
                raise GraphError(f"{self.id}: output {name!r} declares no type")
        return {name: output[TYPE] for name, output in self.outputconnections.items()}

    def preprocess(self) -> None:
        """Prepare an instance before its first item."""
        self._preprocess()

    def _preprocess(self) -> None:
        """Prepare an instance; for overriding."""

    def process(self, inputs: dict[str, Any]) -> dict[str, Any] | None:
        """Work on one arrival, ``{port: item}``; return ``{port: item}`` to write, or None."""
        outputs: dict[str, Any] | None = self._process(inputs)
        return outputs

    def _process(self, inputs: Any) -> Any:
        """Work on one arrival; for overriding."""
        return None

    def postprocess(self) -> None:
        """Finish an instance after its last item."""
        self._postprocess()

    def _postprocess(self) -> None:
        """Finish an instance; for overriding."""

    def skipped(self, inputs: dict[str, Any], error: Exception) -> dict[str, Any] | None:
        """Return what to write in place of an item that ``on_error = "skip"`` dropped; nothing by default."""
        return None

    def group_of(self, item: Any) -> Any:
        """Return the group an item written by this source belongs to (used with ``open_groups``)."""
        return None

    def derivation_key(self, item: Any) -> Any:
        """Return the key of an input under ``derivation = "grouped"``: by default that of its group-by."""
        groupings = (p.get(GROUPING) for p in self.inputconnections.values())
        grouping = next((g for g in groupings if isinstance(g, list | tuple | GroupBy)), None)
        if grouping is None:
            raise GraphError(f"{self.id}: derivation 'grouped' needs an input with group-by, or derivation_key")
        return (grouping if isinstance(grouping, GroupBy) else GroupBy(tuple(grouping))).key(item)

    def owns(self, key: Any) -> bool:
        """Return whether items with this key come to this instance under (multi-key) group-by."""
        # must be the rule by which routes choose the instance
        return stable_hash(key) % self.instances == self.instance

    def write(self, name: str, data: Any) -> None:
        """Write ``data`` to output ``name``, now.

        Raises GraphError if there is no such output or the element is not running.
        """
        self._emit(name, data)

    _emit: Callable[[str, Any], None]  # set on each instance by the engine

    def log(self, message: Any) -> None:
        """Log a line at level INFO under the element's name (logger ``xcorr.workflow``)."""
        _log.info("%s: %s", self.id, message)

    def __getattr__(self, attribute: str) -> Any:
        """Explain a write outside of a run, and a constructor that did not call its base class's."""
        if attribute == "_emit":
            raise GraphError(f"{type(self).__name__} wrote while it was not running in a workflow")
        if attribute in ("inputconnections", "outputconnections", "_name"):
            raise GraphError(f"{type(self).__name__}.__init__ does not call the constructor of its base class")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {attribute!r}")
