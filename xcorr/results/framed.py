"""Large arrays as pictures with axes, in milliseconds: the values as colours, one pixel or more for each.

Matplotlib draws every other figure. It takes a second for a thousand traces, too long for pages that follow a search.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import zlib
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from xcorr.results.errors import ResultsError
from xcorr.results.scale import evenly

if TYPE_CHECKING:
    from PIL import Image

RIGHT, TOP, BOTTOM = 30, 34, 58  # px around the image
FONT_PX, LETTER_PX = 13, 7
# nine colours of Matplotlib's viridis, from dark to bright (van der Walt & Smith 2015)
VIRIDIS = np.array(
    [
        *((68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141)),
        *((39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37)),
    ]
)
NOTHING = (232, 232, 232)


def diverging(values: np.ndarray) -> np.ndarray:
    """Return colours [row, column, 3] for values from -1 (blue) through 0 (white) to 1 (red); grey where NaN."""
    strength = np.sqrt(np.abs(np.clip(np.nan_to_num(values), -1, 1)))
    image = np.full((*values.shape, 3), 255.0)
    image[..., 1] -= 200 * strength
    image[..., 2] -= np.where(values > 0, 200 * strength, 0)
    image[..., 0] -= np.where(values < 0, 200 * strength, 0)
    image[np.isnan(values)] = NOTHING
    return image.astype(np.uint8)


def sequential(values: np.ndarray) -> np.ndarray:
    """Return colours [row, column, 3] for values from 0 (dark) to 1 (bright); grey where NaN."""
    table = np.stack([np.interp(np.linspace(0, 8, 256), np.arange(9), VIRIDIS[:, c]) for c in range(3)], 1)
    image = table.astype(np.uint8)[(255 * np.clip(np.nan_to_num(values), 0, 1)).astype(np.uint8)]
    image[np.isnan(values)] = NOTHING
    return np.asarray(image)


def ticks(first: float, last: float, most: int = 5) -> list[tuple[float, str]]:
    """Return round numbers between the ends of an axis, as percent of its length and text."""
    low, high = sorted((first, last))
    if not high > low:
        return [(50.0, f"{low:.10g}")]
    power = 10.0 ** np.floor(np.log10((high - low) / most))
    step = next(m * power for m in (1, 2, 5, 10) if m * power * most >= (high - low) * (1 - 1e-9))
    values = np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step
    return [(round(100 * (v - first) / (last - first), 2), f"{round(v, 9) + 0.0:.10g}") for v in values.tolist()]


def names_along(names: list[str], most: int, width: int = 0) -> list[tuple[float, str]]:
    """Return at most so many names of rows or columns, evenly apart, as percent of the axis and text.

    ``width`` (px) is the room that names beside one another have.
    """
    count = len(names)
    if width and names:
        most = max(2, min(most, width // (LETTER_PX * (2 + max(map(len, names))))))
    return [(round(100 * (k + 0.5) / count, 3), names[k]) for k in evenly(count, most)]


@dataclasses.dataclass(frozen=True)
class Framed:
    """An image [row, column, 3] of uint8 with axes; ``x`` and ``y`` are marks on them, in percent from left and top."""

    image: np.ndarray
    title: str
    x: list[tuple[float, str]]
    y: list[tuple[float, str]]
    x_label: str
    y_label: str
    width: int = 800
    height: int = 560
    lines: tuple[tuple[float, float, float, float], ...] = ()  # ends x, y, x, y in percent

    @property
    def left(self) -> int:
        """Pixels left of the image: room for the marks of the axis."""
        return 16 + LETTER_PX * max((len(text) for _, text in self.y), default=0)

    def cell(self, px: float, py: float) -> tuple[int, int] | None:
        """Return row and column at a place of the picture (px from left and top); None outside of the image."""
        rows, columns = self.image.shape[:2]
        row, column = (py - TOP) / self.height * rows, (px - self.left) / self.width * columns
        return (int(row), int(column)) if 0 <= row < rows and 0 <= column < columns else None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture (px)."""
        return self.width + self.left + RIGHT, self.height + TOP + BOTTOM

    def _scaled(self) -> Image.Image:
        from PIL import Image

        found = Image.fromarray(self.image)
        smaller = self.image.shape[0] > self.height or self.image.shape[1] > self.width
        return found.resize((self.width, self.height), Image.Resampling.BOX if smaller else Image.Resampling.NEAREST)

    def png(self) -> bytes:
        """Return the picture as PNG."""
        from PIL import Image, ImageDraw, ImageFont

        made, left = Image.new("RGB", self.size, "white"), self.left
        made.paste(self._scaled(), (left, TOP))
        draw, font = ImageDraw.Draw(made), ImageFont.load_default(FONT_PX)
        bottom = TOP + self.height
        draw.rectangle((left - 1, TOP - 1, left + self.width, bottom), outline="black")
        for place, text in self.x:
            at = left + place / 100 * self.width
            draw.line((at, bottom, at, bottom + 4), fill="black")
            draw.text((at, bottom + 6), text, "black", font, anchor="ma")
        for place, text in self.y:
            at = TOP + place / 100 * self.height
            draw.line((left - 5, at, left - 1, at), fill="black")
            draw.text((left - 7, at), text, "black", font, anchor="rm")
        for x1, y1, x2, y2 in self.lines:
            draw.line((*self._at(x1, y1), *self._at(x2, y2)), fill=(0, 110, 60), width=2)
        draw.text((left + self.width / 2, self.size[1] - 6), self.x_label, "black", font, anchor="md")
        draw.text((6, self.size[1] - 6), f"y: {self.y_label}", "black", font, anchor="ld")
        draw.text((left + self.width / 2, 6), self.title, "black", font, anchor="ma")
        return _encoded(made)

    def encoded(self, kind: str) -> bytes:
        """Return the picture as ``png`` or ``svg``."""
        return self.png() if kind == "png" else self.svg().encode()

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return self.left + x / 100 * self.width, TOP + y / 100 * self.height

    def svg(self) -> str:
        """Return the picture as SVG, with axes and texts as such."""
        width, height = self.size
        left, bottom, data = self.left, TOP + self.height, base64.b64encode(_encoded(self._scaled())).decode()
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
            f' font-family="sans-serif" font-size="{FONT_PX}">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            f'<image x="{left}" y="{TOP}" width="{self.width}" height="{self.height}"'
            f' href="data:image/png;base64,{data}"/>',
            f'<rect x="{left}" y="{TOP}" width="{self.width}" height="{self.height}" fill="none" stroke="black"/>',
        ]
        for place, text in self.x:
            at = left + place / 100 * self.width
            parts.append(f'<path d="M{at:.1f} {bottom}v4" stroke="black"/>')
            parts.append(f'<text x="{at:.1f}" y="{bottom + 18}" text-anchor="middle">{escape(text)}</text>')
        for place, text in self.y:
            at = TOP + place / 100 * self.height
            parts.append(f'<path d="M{left} {at:.1f}h-4" stroke="black"/>')
            parts.append(f'<text x="{left - 7}" y="{at + 4:.1f}" text-anchor="end">{escape(text)}</text>')
        for line in self.lines:
            (x1, y1), (x2, y2) = self._at(*line[:2]), self._at(*line[2:])
            parts.append(f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#006e3c" stroke-width="2"/>')
        middle = left + self.width / 2
        parts += [
            f'<text x="{middle}" y="{height - 8}" text-anchor="middle">{escape(self.x_label)}</text>',
            f'<text x="6" y="{height - 8}">y: {escape(self.y_label)}</text>',
            f'<text x="{middle}" y="18" text-anchor="middle">{escape(self.title)}</text>',
            "</svg>",
        ]
        return "\n".join(parts)


def _encoded(image: Image.Image) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    colours = image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)  # a quarter of time and bytes
    colours.save(buffer, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def in_bins(values: np.ndarray, most: int) -> tuple[np.ndarray, list[int]]:
    """Return means of neighbouring rows [row, column], so many at most, and the first row of each. NaN do not count."""
    step = -(-len(values) // most)
    starts = np.arange(0, len(values), max(step, 1))
    if step <= 1:
        return values, starts.tolist()
    known = np.isfinite(values)
    counts = np.add.reduceat(known.astype(np.float32), starts)
    sums = np.add.reduceat(np.where(known, values, 0.0), starts)
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0), starts.tolist()


def require_some(count: int, what: str) -> None:
    """Raise ResultsError if there is nothing to draw."""
    if not count:
        raise ResultsError(f"there is nothing to draw: {what}")
