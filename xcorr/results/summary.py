"""What results hold, in a few lines."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xcorr.results.reader import Results


def facts(results: Results) -> dict[str, str]:
    """Return what the results hold, by name."""
    start, end = (str(t)[:19] for t in (results.pieces[0, 0], results.pieces[-1, 1]))
    try:
        bad = len(results.report.get("errors", ()))
        failed = f"{bad} input(s), in .report" if bad else ""
    except OSError as error:  # such as ReportDamaged
        failed = f"not known: {error}"
    found = {
        "stations": str(len(results.dataset("stations"))),
        "pairs": str(len(results.dataset("pairs"))),
        "components": ", ".join(results.components),
        "stacks": ", ".join(results.stacks),
        "bands": ", ".join(results.bands[1:]),
        "pieces": f"{len(results.pieces)}, {start} to {end}",
        "lags": f"{results.lags_s[0]:g} to {results.lags_s[-1]:g} s",
        "units": results.units,
        "failed": failed,
    }
    return {name: value for name, value in found.items() if value}


def as_text(results: Results) -> str:
    """Return where the results are and what they hold."""
    if not results.file:
        return f"<xcorr.Results {str(results.path)!r}, closed>"
    lines = "".join(f"\n  {name:10}  {value}" for name, value in facts(results).items())
    return f"<xcorr.Results {str(results.path)!r}{lines}>"


def as_html(results: Results) -> str:
    """Return the same as a table, for notebooks."""
    if not results.file:
        return html.escape(as_text(results))
    cells = "".join(
        f"<tr><th style='text-align:left'>{name}</th><td style='text-align:left'>{html.escape(value)}</td></tr>"
        for name, value in facts(results).items()
    )
    return f"<b>xcorr.Results</b> {html.escape(str(results.path))}<table>{cells}</table>"
