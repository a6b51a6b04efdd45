"""Questions about provenance, for the command line and for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xcorr.provenance.campaign_lineage import CampaignLineage
from xcorr.provenance.document import write
from xcorr.provenance.lineage import Lineage, item_lineage
from xcorr.provenance.runs import changed_elements
from xcorr.provenance.store import ProvenanceError, reading
from xcorr.results import Results, ResultsError
from xcorr.results.pair_table import PairTable, require_stack
from xcorr.results.selection import Selection

Answer = list[dict[str, Any]]


def lineage(
    campaign: Path,
    pair: str | None = None,
    path: str | None = None,
    item: str | None = None,
    direction: str | None = None,
    components: str = "ZZ",
    which: str = "linear",
    band: str = "",
) -> Lineage | None:
    """Return the lineage of a pair's stack (back), a waveform file (forward) or a recorded item; None if none is named.

    Raises ProvenanceError if more than one is named, if the direction is not possible, or if the file or item is not
    known.
    """
    if sum(x is not None for x in (pair, path, item)) > 1:
        raise ProvenanceError("several products were named; name one product: --pair, --file or --item")
    if (pair and direction == "forward") or (path and direction == "back"):
        raise ProvenanceError(
            "the lineage of a stack goes only back, and the lineage of a file only forward; leave --direction out"
        )
    if item is not None:
        return item_lineage(campaign, item, direction or "back")
    if pair is None and path is None:
        return None
    with CampaignLineage(campaign) as found:
        if path is not None:
            return found.of_file(path)
        first, second = ends_of(pair or "")
        return found.of_pair(first, second, components, which, band)


def ends_of(pair: str) -> tuple[str, str]:
    """Return the stations of ``XX.A-XX.B``. Raises ProvenanceError for another form."""
    first, dash, second = pair.partition("-")
    if not (dash and first and second):
        raise ProvenanceError(f"pair {pair!r}: does not name two stations; write XX.A-XX.B")
    return first, second


def export(campaign: Path, kind: str, **asked: Any) -> str:
    """Return the lineage of a product as text in a format; all runs if no product is named."""
    return write(campaign, lineage(campaign, **asked), kind)


def query(
    campaign: Path,
    made: str | None = None,
    touched_by: str | None = None,
    where: str | None = None,
    kept: bool = False,
    changed: bool = False,
    components: str = "ZZ",
    which: str = "linear",
    band: str = "",
) -> Answer:
    """Return the answer to one question, a row each. Raises ProvenanceError for none or several."""
    if sum(bool(x) for x in (made, touched_by, where, kept, changed)) != 1:
        raise ProvenanceError(
            "no question, or several; ask one question: --made, --touched-by, --where, --kept or --changed"
        )
    if changed:
        return [{"changed": line} for line in changed_elements(campaign)]
    if kept:
        with reading(campaign) as store:
            rows = store.execute("SELECT path, bytes, sha256, rule, id FROM kept ORDER BY path").fetchall()
        return [dict(zip(("path", "bytes", "sha256", "rule", "item"), row, strict=True)) for row in rows]
    if where:
        with Results(campaign) as results:
            try:
                require_stack(results, components, which, band)
            except ResultsError as error:
                raise ProvenanceError(str(error)) from None
            table = PairTable(results, components, which, band)
            return [table.pair(int(row)) for row in Selection(where=where).rows(table)]
    with CampaignLineage(campaign) as found:
        if made:
            return _inputs(found.of_pair(*ends_of(made), components, which, band))
        return [{"product": name} for name in _products(found.of_file(touched_by or ""))]


def _inputs(of: Lineage) -> Answer:
    """Return the files, and the windows of every channel and chunk, that a stack was made of."""
    files = [
        {"file": name.removeprefix("file:"), **attributes}
        for name, attributes in sorted(of.entities.items())
        if name.startswith("file:")
    ]
    spectra = [
        {"spectra": name.partition(":")[2], **attributes}
        for name, attributes in sorted(of.entities.items())
        if name.startswith("TransformStation.output:")
    ]
    return [*files, *spectra]


def _products(of: Lineage) -> list[str]:
    return sorted(name for name in of.entities if name.startswith(("stack:", "series:")))


def as_text(answer: Answer) -> str:
    """Return an answer as text, one line for each row."""
    lines = ["  ".join(f"{name}={value}" for name, value in row.items() if value != "") for row in answer]
    return "\n".join(lines) if lines else "nothing"
