"""Loads a workflow graph from a module or a file, for the command line."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from xcorr.core import registry
from xcorr.core.errors import WorkflowLoadError, XcorrError
from xcorr.core.files import failed_code, load_file
from xcorr.core.graph import CompositePE, WorkflowGraph
from xcorr.core.interrupt import is_interrupt
from xcorr.core.workflow_file import read_workflow


def load_graph(source: str) -> WorkflowGraph:
    """Return the graph of ``MODULE[:ATTRIBUTE]``, ``FILE.py[:ATTRIBUTE]``, ``FILE.toml`` or a registered name.

    Without an attribute, the module must hold exactly one graph that is not a composite. An attribute may be a graph,
    or a function without parameters that returns a graph. Raises WorkflowLoadError if there is no such module, file,
    attribute or graph, or if the code of the module fails. The error then shows the frames of that code.
    """
    place, _, attribute = source.partition(":")
    if place.endswith(".toml"):
        return read_workflow(Path(place))
    if not attribute and any(e.name == source and e.kind == "workflow" for e in registry.entries()):
        return _checked(source, registry.load(source))
    module = _load_module(place)
    if attribute:
        if not hasattr(module, attribute):
            raise WorkflowLoadError(f"{place} has no attribute {attribute!r}")
        return _checked(source, getattr(module, attribute))
    graphs = {k: v for k, v in vars(module).items() if isinstance(v, WorkflowGraph) and not _is_composite(v)}
    if len({id(g) for g in graphs.values()}) != 1:
        have = f"{len(graphs)} workflow graphs ({', '.join(graphs)})" if graphs else "no workflow graph"
        raise WorkflowLoadError(f"{place} has {have}; name one as {place}:ATTRIBUTE")
    return next(iter(graphs.values()))


def _checked(source: str, found: object) -> WorkflowGraph:
    if callable(found) and not isinstance(found, WorkflowGraph):
        try:
            found = found()
        except BaseException as error:
            if is_interrupt(error) or isinstance(error, XcorrError):
                raise
            raise failed_code(source, error) from error
    if not isinstance(found, WorkflowGraph):
        raise WorkflowLoadError(f"{source} is a {type(found).__name__}, not a WorkflowGraph")
    return found


def _is_composite(graph: WorkflowGraph) -> bool:
    return isinstance(graph, CompositePE) or bool(graph.inputmappings or graph.outputmappings)


def _load_module(place: str) -> ModuleType:
    path = Path(place)
    if path.suffix == ".py" or path.is_file():
        if not path.is_file():
            raise WorkflowLoadError(f"there is no file {place!r}")
        return load_file(path)
    # only of the top package: find_spec of a submodule would import its parents
    if importlib.util.find_spec(place.partition(".")[0]) is None:
        raise WorkflowLoadError(f"there is no module and no file {place!r}")
    try:
        return importlib.import_module(place)
    except BaseException as error:
        if is_interrupt(error) or isinstance(error, XcorrError):
            raise
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and (place == missing or place.startswith(missing + ".")):
            raise WorkflowLoadError(f"there is no module {place!r}") from error
        raise failed_code(place, error) from error
