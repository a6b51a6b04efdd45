"""Writes the pages of the reference that are made from the code: settings and commands."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from xcorr.cli.program import main
from xcorr.core import installed
from xcorr.settings.toml import LISTS, SECTIONS

EXIT_CODES = """Exit codes of all commands: 0, done; 1, nothing was made, or an error; 2, wrong usage; 3 (`run`), done,
but some inputs failed, which the report names; 130, 143 and 129, ended by Ctrl-C, SIGTERM and SIGHUP, and what is
stored is kept.
"""
MADE = "<!-- made by docs/reference_pages.py -->\n\n"


def write(folder: Path) -> None:
    """Write the pages, unless they are the same already."""
    pages = {"settings.md": settings_page(), "commands.md": commands_page(), "library/elements.md": elements_page()}
    for name, text in pages.items():
        path = folder / name
        if not path.is_file() or path.read_text("utf-8") != text:  # else Sphinx would read the page again
            path.write_text(text, "utf-8")


def settings_page() -> str:
    """Return the page of all settings."""
    lines = [
        MADE + "# Settings\n",
        "Settings are in `xcorr.toml` beside the station list, or in a file named by `--config`.",
        "`--set section.key=value` changes one. `xcorr init` writes a file with all of them.",
        "A campaign keeps its settings in `campaign.toml`.\n",
    ]
    for section, kind in SECTIONS.items():
        lines += [f"## [{section}]\n", f"{inspect.getdoc(kind)}\n", *_table(kind, section)]
        for field in dataclasses.fields(kind):
            if "tables" in field.metadata:
                for name in installed.names(field.metadata["tables"]):
                    options = installed.load(field.metadata["tables"], name).Options
                    if dataclasses.fields(options):
                        lines += [f"### [{section}.{name}]\n", f"{inspect.getdoc(options)}\n"]
                        lines += _table(options, f"{section}.{name}")
    for section, kind in LISTS.items():
        lines += [f"## [[{section}]]\n", f"{inspect.getdoc(kind)} The table may be repeated.\n", *_table(kind, section)]
    return "\n".join(lines)


def _table(kind: Any, prefix: str) -> list[str]:
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(kind):
        if "doc" not in field.metadata:
            continue
        about, limits = field.metadata, []
        doc, choices = about["doc"], about.get("choices", ())
        for name, words in (("least", "at least"), ("most", "at most")):
            limits += [f"{words} {about[name]:g}"] if about.get(name) is not None else []
        more = f" One of: {', '.join(f'`{c}`' for c in choices)}." if choices else ""
        more += f" ({', '.join(limits)})" if limits else ""
        default = "" if field.default in (None, dataclasses.MISSING) else f"`{_plain(field.default)}`"
        rows.append(f"| `{prefix}.{field.name}` | {default} | {_escaped(doc)}{more} |")
    return [*rows, ""]


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_plain, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else f"{value}"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("[[", "\\[[")


def commands_page() -> str:
    """Return the page of all commands with their options."""
    with click.Context(main, info_name="xcorr") as context:
        listed = [f"| [`{' '.join(path)}`](#{'-'.join(path)}) | {command.get_short_help_str(90)} |"
                  for path, command in _commands(main, context, ("xcorr",)) if len(path) == 2]  # fmt: skip
        lines = [MADE + "# Commands\n", EXIT_CODES, "| command | what it does |", "|---|---|", *listed, ""]
        for path, command in _commands(main, context, ("xcorr",)):
            own = click.Context(command, info_name=" ".join(path))
            lines += [f"({'-'.join(path)})=", f"## {' '.join(path)}\n" if len(path) == 2 else f"### {' '.join(path)}\n"]
            lines += ["```text", command.get_help(own).rstrip(), "```", ""]
    return "\n".join(lines)


def _commands(
    group: click.Command, context: click.Context, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(group, click.Group):
        return
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        yield from _commands(command, click.Context(command, info_name=name, parent=context), (*path, name))


def elements_page() -> str:
    """Return the page of all registered elements of xcorr, and of the items that flow between them."""
    lines = [
        MADE + "# Elements of the main job\n",
        "[The elements as a library](../../elements.md) has examples of each family.\n",
        "```{eval-rst}",
    ]
    for name in installed.names("elements"):
        kind = installed.load("elements", name)
        if kind.__module__.startswith("xcorr."):
            lines.append(f".. autoclass:: {kind.__module__}.{kind.__qualname__}")
    return "\n".join([*lines, ".. automodule:: xcorr.pes.items", "```", ""])


if __name__ == "__main__":
    write(Path(__file__).parent / "reference")
