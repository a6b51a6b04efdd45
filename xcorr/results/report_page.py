"""``report.html``: what a campaign asked for, got, left out and made, on one page that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcorr.core.files import replace_text
from xcorr.observers.progress import busy_shares
from xcorr.pes.items import WINDOW_REASONS, Float32
from xcorr.pes.stacking.result_file import NAME as RESULTS
from xcorr.results import Results

SECTION_PAIRS = 200  # shown of each component pair, evenly by distance
SECTION_WIDTH = 600  # lags shown, at most
MANY = 50  # rows that are read together in the time of one
LABELLED = 60  # stations, up to which the map has names
LISTED = 100  # lines and errors; all are in report.json
STYLE = """body{font:15px/1.45 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse}
td,th{padding:.15rem .8rem .15rem 0;text-align:left;vertical-align:top}td.n{text-align:right}
img{image-rendering:pixelated;width:100%;border:1px solid #ccc}i.bar{display:inline-block;height:.7rem;background:#47a}
figure{margin:0 0 1.5rem}figcaption{color:#555}svg text{font-size:11px}"""


def prepare_pictures() -> None:
    """Import what :func:`write_page` makes pictures with."""
    from PIL import Image

    Image.preinit()


def write_page(folder: Path, report: Mapping[str, Any]) -> None:
    """Write ``report.html`` from the report and ``xcorr.h5`` of a campaign."""
    title = f"Campaign {folder.resolve().name}"
    with Results(folder / RESULTS) as results:
        parts = [
            f"<h1>{html.escape(title)}</h1>",
            _summary(report),
            "<h2>Stations</h2>",
            _map(results, report),
            "<h2>Record sections</h2>",
            *(_section(results, pair) for pair in results.components),
        ]
    parts += ["<h2>Availability</h2>", _availability(report), "<h2>Windows</h2>", _windows(report)]
    parts += ["<h2>Throughput</h2>", _throughput(report), "<h2>Not used</h2>", _problems(report)]
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
    text = f"{head}<style>{STYLE}</style><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    replace_text(folder / "report.html", text)


def _table(rows: Iterable[Sequence[Any]], head: Sequence[str] = ()) -> str:
    """Return an HTML table; numbers are aligned to the right, texts escaped."""
    lines = ["<tr>" + "".join(f"<th>{html.escape(h)}</th>" for h in head) + "</tr>"] if head else []
    for row in rows:
        cells = [_cell(c) for c in row]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>{''.join(lines)}</table>"


class _Html(str):
    """Text that is HTML already."""


def _cell(value: Any) -> str:
    if isinstance(value, int):
        return f'<td class="n">{value:,}</td>'
    return f"<td>{value if isinstance(value, _Html) else html.escape(str(value))}</td>"


def _summary(report: Mapping[str, Any]) -> str:
    windows = report["windows"]
    return _table(
        [
            ("made", report["created"]),
            ("software", report["software"]),
            ("settings", report["settings_hash"]),
            ("stations", f"{report['stations_asked']} lines asked, {report['stations_used']} stations used"),
            ("pairs", f"{report['pairs']:,}, {report['pairs_with_data']:,} with data, in {report['chunks']} chunk(s)"),
            ("windows", f"{windows['used']:,} used, {sum(windows.values()) - windows['used']:,} rejected"),
            ("results", f"{report['bytes_written'] / 1e6:.1f} MB in {report['shards']} shard(s)"),
            ("warnings", "; ".join([*report["repaired"], *report["warnings"]]) or "none"),
        ]
    )


def _map(results: Results, report: Mapping[str, Any]) -> str:
    """Return the map of the stations, longitudes shortened by the cosine of the mean latitude."""
    table = results.dataset("stations")
    known = np.isfinite(table["latitude"] + table["longitude"])
    if not known.any():
        return "<p>No station has coordinates: give them in the list (CSV) or with StationXML.</p>"
    table = table[known]
    used = {c["slot"].rpartition(".")[0] for c in report["channel_chunk"] if c["windows"][0]}
    x, y = table["longitude"] * np.cos(np.radians(table["latitude"].mean())), table["latitude"]
    size = max(np.ptp(x), np.ptp(y)) or 1.0
    px, py = 30 + 540 * (x - x.min()) / size, 20 + 400 * (y.max() - y) / max(np.ptp(y), size * 400 / 540)
    dots = []
    for name, a, b in zip(table["id"].astype(str), px, py, strict=True):
        fill, label = "#d33" if name in used else "none", html.escape(name)
        place = f'cx="{a:.1f}" cy="{b:.1f}" r="4"'
        dots.append(f'<circle {place} fill="{fill}" stroke="#d33"><title>{label}</title></circle>')
        if len(table) <= LABELLED:
            dots.append(f'<text x="{a + 6:.1f}" y="{b + 4:.1f}">{label}</text>')
    legend = f"{len(table)} stations; filled: with data. Without coordinates: {int((~known).sum())}."
    picture = f'<svg viewBox="0 0 680 440" width="680" role="img" aria-label="map">{"".join(dots)}</svg>'
    return f"<figure>{picture}<figcaption>{legend}</figcaption></figure>"


def _section(results: Results, components: str) -> str:
    """Return the picture of a component pair's stacks, by distance from top to bottom, lags from left to right."""
    group = results.file[f"stacks/{results.stacks[0]}/{components}"]
    rows = np.flatnonzero(group["n_windows"][...])
    distance = results.file["pairs"]["distance_m"][...][rows] / 1000
    rows = rows[np.argsort(distance, kind="stable")]  # unknown distances come last, in the order of the list
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), SECTION_PAIRS)).round().astype(int))]
    if not len(rows):
        return f"<p>{components}: no pair has data.</p>"
    width = len(results.lags_s)
    lags = np.unique(np.linspace(0, width - 1, min(width, SECTION_WIDTH)).round().astype(int))
    mean = group["mean"]
    few = len(rows) * MANY < len(mean)  # then rows are read one by one, else all at once
    gather = np.array([mean[int(row)] for row in rows])[:, lags] if few else mean[...][rows][:, lags]
    peak = np.abs(gather).max(axis=1, keepdims=True)
    scaled = np.divide(gather, peak, out=np.zeros_like(gather), where=peak > 0)
    known = distance[np.isfinite(distance)]
    reach = f"{known.min():.1f} to {known.max():.1f} km, nearest on top" if len(known) else "in the order of the list"
    return _figure(
        _diverging(scaled),
        f"{components}, {results.stacks[0]} stack: {len(rows)} of {len(distance)} pairs, {reach}; lags "
        f"{results.lags_s[0]:g} to {results.lags_s[-1]:g} s, each pair scaled to its maximum.",
    )


def _diverging(values: Float32) -> np.ndarray:
    """Return colours [row, column, 3] for values from -1 (blue) through 0 (white) to 1 (red)."""
    strength = np.sqrt(np.abs(np.nan_to_num(values)))
    image = np.full((*values.shape, 3), 255.0)
    image[..., 1] -= 200 * strength
    image[..., 2] -= np.where(values > 0, 200 * strength, 0)
    image[..., 0] -= np.where(values < 0, 200 * strength, 0)
    return image.astype(np.uint8)


def _availability(report: Mapping[str, Any]) -> str:
    """Return the picture of the share of windows used, channels from top to bottom, chunks from left to right."""
    names = sorted({c["slot"] for c in report["channel_chunk"]})
    if not names:
        return "<p>Nothing was read.</p>"
    row = {name: k for k, name in enumerate(names)}
    image = np.full((len(names), report["chunks"], 3), 235, np.uint8)
    for c in report["channel_chunk"]:
        total = sum(c["windows"])
        share = c["windows"][0] / total if total else 0.0
        failed = c["status"] == "failed"
        colour = (210, 50, 50) if failed else (235 - 190 * share, 235 - 90 * share, 235 - 175 * share)
        image[row[c["slot"]], c["chunk"]] = np.array(colour, np.uint8)
    text = (
        f"{len(names)} channels ({html.escape(names[0])} on top, {html.escape(names[-1])} at the bottom), "
        f"{report['chunks']} chunk(s) from left to right. Green: share of windows used; grey: none; red: failed."
    )
    return _figure(image.repeat(max(1, 12 // len(names)), axis=0), text)


def _figure(image: np.ndarray, caption: str) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=2)
    data = base64.b64encode(buffer.getvalue()).decode()
    height = min(480, max(120, 4 * len(image)))
    picture = f'<img style="height:{height}px" alt="" src="data:image/png;base64,{data}">'
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _windows(report: Mapping[str, Any]) -> str:
    counts = report["windows"]
    total = max(sum(counts.values()), 1)
    rows = [
        (reason, counts[reason], _Html(f'<i class="bar" style="width:{20 * counts[reason] / total:.2f}rem"></i>'))
        for reason in WINDOW_REASONS
        if counts[reason]
    ]
    worst: dict[str, int] = {}
    for c in report["channel_chunk"]:
        worst[c["slot"]] = worst.get(c["slot"], 0) + sum(c["windows"][1:])
    most = sorted(((n, name) for name, n in worst.items() if n), reverse=True)[:10]
    by_channel = "; ".join(f"{html.escape(name)} {n}" for n, name in most)
    return _table(rows, ("verdict", "windows")) + (f"<p>Most rejected: {by_channel}.</p>" if most else "")


def _throughput(report: Mapping[str, Any]) -> str:
    workers = report["workers"]
    if not workers["items"]:
        return f"<p>Everything was there already: {report['seconds']} s to look.</p>"
    rate = report["windows"]["used"] / max(workers["seconds"], 1e-3)
    pace = f"{workers['seconds']:.1f} s of it at work, {rate:,.0f} windows a second"
    text = f"<p>{report['seconds']} s in all, {pace}.</p>"
    shares = [(f"worker {w}", f"{share:.0%} busy") for w, share in busy_shares(workers).items()]
    moved = [(name, f"{size / 1e6:.1f} MB") for name, size in workers["bytes_moved"].items()]
    return text + _table(workers["items"].items(), ("element", "items")) + _table([*shares, *moved])


def _problems(report: Mapping[str, Any]) -> str:
    lost = [(f"line {r['line']}", r["text"], r["reason"]) for r in report["requested"] if r["status"] != "used"]
    rows: list[Sequence[Any]] = [*lost[:LISTED], *(("failed", "", e) for e in report["errors"][:LISTED])]
    more = len(lost) + len(report["errors"]) - len(rows)
    if not rows:
        return "<p>Every line of the list was used, and no input failed.</p>"
    return _table(rows) + (f"<p>{more} more are in report.json.</p>" if more > 0 else "")
