"""Workflow files: elements, parameters and connections in TOML, recombined without writing Python.

::

    name = "doubled"
    [elements.numbers]
    use = "xcorr.core.testing:ListSource"     # module:Class, or a registered name
    parameters = { items = [1, 2, 3] }
    [elements.double]
    use = "Double"
    [[connections]]
    from = "numbers.output"
    to = "double.input"
"""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xcorr.core.element import GenericPE
from xcorr.core.errors import WorkflowLoadError, XcorrError, nearest
from xcorr.core.files import failed_code
from xcorr.core.graph import WorkflowGraph
from xcorr.core.interrupt import is_interrupt

SECTIONS = ("name", "version", "docs", "elements", "connections")


def read_workflow(path: Path) -> WorkflowGraph:
    """Return the graph that a file describes.

    Raises WorkflowLoadError for text that is not TOML, and for unknown keys, elements or parameters. Raises GraphError
    for connections that are not possible.
    """
    try:
        plain = tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WorkflowLoadError(f"{path}: {error}") from None
    for key in plain:
        if key not in SECTIONS:
            raise WorkflowLoadError(f"{path}: unknown key {key!r}{nearest(key, SECTIONS)}; there are {SECTIONS}")
    described = plain.get("elements")
    if not isinstance(described, Mapping) or not described:
        raise WorkflowLoadError(f"{path}: no elements; describe each in a table [elements.NAME] with use = ...")
    elements = {name: _element(path, name, about) for name, about in described.items()}
    graph = WorkflowGraph()
    for element in elements.values():
        graph.add(element)
    for connection in plain.get("connections", ()):
        if not isinstance(connection, Mapping) or set(connection) != {"from", "to"}:
            raise WorkflowLoadError(
                f"{path}: connection {connection!r}: lacks an end or has more keys; "
                "write from and to, each as 'element.port'"
            )
        source, output = _end(path, connection["from"], elements)
        target, input = _end(path, connection["to"], elements)
        graph.connect(source, output, target, input)
    return graph


def _element(path: Path, name: str, about: Any) -> GenericPE:
    if not isinstance(about, Mapping) or "use" not in about or set(about) - {"use", "parameters"}:
        raise WorkflowLoadError(
            f"{path}: [elements.{name}] = {about!r}: needs the key use, may have parameters, and no other keys"
        )
    kind, parameters = _kind(path, name, about["use"]), about.get("parameters", {})
    try:
        element = kind(**parameters)
    except BaseException as error:
        if is_interrupt(error) or isinstance(error, XcorrError):
            raise
        raise failed_code(f"{path}: [elements.{name}]: {about['use']}", error) from error
    element.name = name
    return element


def _kind(path: Path, name: str, use: Any) -> type[GenericPE]:
    """Return the class that a file names. Only element classes are allowed, so that a file cannot run other code."""
    from xcorr.core import registry  # imported here, because the registry imports this module

    module, colon, attribute = str(use).partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute) if colon else registry.load(str(use))
    except (ImportError, AttributeError, ValueError) as error:
        raise WorkflowLoadError(f"{path}: [elements.{name}]: use = {use!r}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, GenericPE)):
        raise WorkflowLoadError(
            f"{path}: [elements.{name}]: use = {use!r} is no class of processing elements; name one as module:Class, "
            "or one that xcorr registry list shows"
        )
    return found


def _end(path: Path, text: Any, elements: Mapping[str, GenericPE]) -> tuple[GenericPE, str]:
    name, dot, port = str(text).partition(".")
    if not dot or name not in elements:
        raise WorkflowLoadError(
            f"{path}: connection end {text!r}{nearest(name, elements)}: is not element.port; "
            f"the elements are {', '.join(elements)}"
        )
    return elements[name], port
