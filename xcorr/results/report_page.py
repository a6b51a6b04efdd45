"""``report.html``: the stations, results, rejected windows and errors of a campaign, on one page."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xcorr.core.files import replace_text
from xcorr.observers.progress import busy_shares
from xcorr.pes.reading.waveform import DAY_NS
from xcorr.pes.stacking.result_file import NAME as RESULTS
from xcorr.results.framed import diverging, ticks
from xcorr.results.map_frame import places_of
from xcorr.results.reader import Results
from xcorr.results.scale import evenly
from xcorr.store.accounts import Availability, availability
from xcorr.store.report import reason_line

if TYPE_CHECKING:
    import jinja2

SECTION_PAIRS = 200  # most pairs shown of each component pair, chosen evenly by distance
SECTION_WIDTH = 600  # most lags shown
MANY = 50  # reading one row alone takes as long as reading so many rows together
LABELLED = 60  # most stations for which the map shows names
LISTED = 100  # most lines, and most errors, shown; report.json has all
ROWS_LABELLED, COLUMNS_LABELLED, ROW_PX = 24, 4, 14
WORST = 10  # most channels shown in the list of rejected windows


def prepare_page() -> None:
    """Import what :func:`write_page` needs."""
    from PIL import Image

    Image.preinit()
    _template()


@functools.cache
def _template() -> jinja2.Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent / "templates"
    return Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined).get_template(
        "report.html"
    )


def write_page(folder: Path, report: Mapping[str, Any]) -> None:
    """Write ``report.html`` from the report and ``xcorr.h5`` of a campaign."""
    seen = availability(folder)
    used = {name.rpartition(".")[0] for name, share in zip(seen.slots, seen.share, strict=True) if np.nanmax(share) > 0}
    with Results(folder / RESULTS) as results:
        places, unplaced, frame = places_of(results.dataset("stations"), used)
        sections = [_section(results, pair) for pair in results.components]
        stack = results.main_stack
    lost = [(f"line {r['line']}", r["text"], r["reason"]) for r in report["requested"] if r["status"] != "used"]
    why = [(g["kind"], "", reason_line(g)) for g in report["reasons"]]
    bad = report["unreadable"]
    listed = [*lost[:LISTED], *why[:LISTED], *(("failed", "", e) for e in bad[:LISTED])]
    workers = report["workers"]
    text = _template().render(
        title=f"Campaign {folder.resolve().name}",
        report=report,
        windows_total=max(sum(report["windows"].values()), 1),
        places=places,
        unplaced=unplaced,
        map=frame,
        labelled=LABELLED,
        sections=sections,
        stack=stack,
        channels=seen.slots,
        availability=_picture_of(seen) if seen.slots else None,
        worst=_worst(seen),
        rate=report["windows"]["used"] / max(workers["seconds"], 1e-3),
        shares=[*_shares(workers)],
        lost=listed,
        more=len(lost) + len(why) + len(bad) - len(listed),
    )
    replace_text(folder / "report.html", text)


def _section(results: Results, components: str) -> dict[str, Any]:
    """Return the picture of a component pair's stacks, by distance from top to bottom, lags from left to right."""
    group = results.file[f"stacks/{results.main_stack}/{components}"]
    rows = np.flatnonzero(group["n_windows"][...])
    distance = results.file["pairs"]["distance_m"][...][rows] / 1000
    rows = rows[np.argsort(distance, kind="stable")]  # unknown distances come last, in the order of the list
    rows = rows[evenly(len(rows), SECTION_PAIRS)]
    if not len(rows):
        return {"components": components, "picture": None}
    shown_km = results.file["pairs"]["distance_m"][...][rows] / 1000
    width = len(results.lags_s)
    lags = evenly(width, SECTION_WIDTH)
    mean = group["mean"]
    few = len(rows) * MANY < len(mean)  # few rows are read one by one, many rows by reading all rows at once
    gather = np.array([mean[int(row)] for row in rows])[:, lags] if few else mean[...][rows][:, lags]
    peak = np.abs(gather).max(axis=1, keepdims=True)
    known = distance[np.isfinite(distance)]
    return {
        "components": components,
        "picture": _picture(diverging(np.divide(gather, peak, out=np.zeros_like(gather), where=peak > 0))),
        "shown": len(rows),
        "pairs": len(distance),
        "reach": f"{known.min():.1f} to {known.max():.1f} km, nearest on top"
        if len(known)
        else "in the order of the list",
        "x": ticks(results.lags_s[0], results.lags_s[-1]),
        "y": [
            (round(100 * (k + 0.5) / len(rows), 2), f"{shown_km[k]:.1f}")
            for k in evenly(len(rows), ROWS_LABELLED)
            if np.isfinite(shown_km[k])
        ],
        "y_label": "distance (km)" if len(known) else "",
    }


def _picture_of(seen: Availability) -> dict[str, Any]:
    """Return the picture of the share of windows used, channels from top to bottom, chunks from left to right."""
    share = np.nan_to_num(seen.share)[..., None]
    image = np.where(np.isnan(seen.share)[..., None], 235, np.array([235, 235, 235]) - np.array([190, 90, 175]) * share)
    image[seen.failed] = 210, 50, 50
    made = _picture(image.astype(np.uint8).repeat(max(1, 12 // len(seen.slots)), axis=0))
    slots, chunks = len(seen.slots), len(seen.starts_ns)
    starts = np.array(seen.starts_ns, "datetime64[ns]")
    unit = "D" if all(ns % DAY_NS == 0 for ns in seen.starts_ns) else "m"
    made["height"] = min(480, max(140, ROW_PX * slots))
    columns, rows = evenly(chunks, COLUMNS_LABELLED), evenly(slots, made["height"] // ROW_PX)
    return made | {
        "x": [(round(100 * (k + 0.5) / chunks, 2), str(starts[k].astype(f"M8[{unit}]"))) for k in columns],
        "y": [(round(100 * (k + 0.5) / slots, 2), seen.slots[k]) for k in rows],
    }


def _picture(image: np.ndarray) -> dict[str, Any]:
    """Return an image [row, column, 3] as PNG in base64, and the height (px) to show it with."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=2)
    return {"data": base64.b64encode(buffer.getvalue()).decode(), "height": min(480, max(140, 4 * len(image)))}


def _worst(seen: Availability) -> list[tuple[str, int]]:
    """Return the channels with the most rejected windows, and the number of these windows."""
    most = sorted(((n, name) for n, name in zip(seen.rejected.tolist(), seen.slots, strict=True) if n), reverse=True)
    return [(name, n) for n, name in most[:WORST]]


def _shares(workers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield how busy every worker was, and the megabytes that moved over every connection between workers."""
    for worker, share in busy_shares(dict(workers)).items():
        yield f"worker {worker}", f"{share:.0%} busy"
    for name, size in workers["bytes_moved"].items():
        yield name, f"{size / 1e6:.1f} MB"
