"""Paper to draw figures on, in units of a page's pixels; lines come out smooth and letters crisp.

Pillow draws without smoothing, so everything is drawn larger and reduced.
"""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hrseg.viz.text import INK, PAPER, Color, letters_of, load_font, shortened, writable

Point = tuple[float, float]
BLUE: Color = (38, 98, 184)
ORANGE: Color = (208, 98, 26)
GREEN: Color = (24, 128, 92)
_OVER = 2  # drawn so much larger


class Canvas:
    """A white sheet.

    Args:
        width: Of the sheet, in a page's pixels.
        height: Likewise.
        dense: Pixels of the picture for each of the page's; 2 is sharp on every screen.
        texts: What will be written, so that the font has its letters.
    """

    def __init__(
        self, width: float, height: float, dense: int = 2, texts: Iterable[str] = ()
    ) -> None:
        self.scale = dense * _OVER
        self.size = (round(width * dense), round(height * dense))
        whole = (self.size[0] * _OVER, self.size[1] * _OVER)
        self._image = Image.new("RGB", whole, PAPER)
        self._draw = ImageDraw.Draw(self._image)
        self._letters = letters_of(texts)

    def picture(self) -> np.ndarray:
        """Return what was drawn. Shape: uint8 (H, W, 3)."""
        return np.array(self._image.resize(self.size, Image.Resampling.BOX))

    def box(self, left: float, top: float, right: float, bottom: float, color: Color) -> None:
        """Fill a rectangle."""
        edges = [self._at(side) for side in (left, top, right, bottom)]
        if edges[2] > edges[0] and edges[3] > edges[1]:
            self._draw.rectangle((edges[0], edges[1], edges[2] - 1, edges[3] - 1), color)

    def line(
        self, points: Sequence[Point], color: Color, width: float = 1, dash: float = 0
    ) -> None:
        """Draw a line through points; dashed where a length is given."""
        thick = max(1, self._at(width))
        for one, other in itertools.pairwise(points):
            for start, end in _dashes(one, other, dash):
                self._draw.line([*map(self._at, (*start, *end))], color, thick)
        if not dash and thick > 2:
            for x, y in points[1:-1]:  # round joints
                self.dot((x, y), width / 2, color)

    def dot(self, point: Point, radius: float, color: Color) -> None:
        """Draw a disc."""
        x, y, r = (self._at(value) for value in (*point, radius))
        self._draw.ellipse((x - r, y - r, x + r, y + r), color)

    def text(
        self,
        point: Point,
        words: str,
        size: float = 13,
        color: Color = INK,
        anchor: str = "lm",
        *,
        room: float | None = None,
        upward: bool = False,
    ) -> None:
        """Write words; they are cut where the room is too small.

        Args:
            point: Where the anchor is.
            words: One line.
            size: Of the letters.
            color: Of the letters.
            anchor: Pillow's: l, m or r, then s, m, a or d.
            room: Longest length.
            upward: Written from below to above; the anchor is then the middle of the lower end.
        """
        font = self._font(size)
        words = writable(words, font)
        if room is not None:
            words = shortened(words, font, int(room * self.scale))
        place = (self._at(point[0]), self._at(point[1]))
        if not upward:
            self._draw.text(place, words, color, font, anchor=anchor)
            return
        length, line = round(font.getlength(words)) + 2, round(font.size * 1.5)
        strip = Image.new("L", (length, line), 0)
        ImageDraw.Draw(strip).text((0, line / 2), words, 255, font, anchor="lm")
        turned = strip.transpose(Image.Transpose.ROTATE_90)
        self._image.paste(color, (place[0] - line // 2, place[1] - length), turned)

    def width_of(self, words: str, size: float = 13) -> float:
        """Return the length of words."""
        font = self._font(size)
        return float(font.getlength(writable(words, font)) / self.scale)

    def _font(self, size: float) -> ImageFont.FreeTypeFont:
        return load_font(max(1, self._at(size)), self._letters)

    def _at(self, value: float) -> int:
        return round(value * self.scale)


def _dashes(one: Point, other: Point, dash: float) -> Iterable[tuple[Point, Point]]:
    if not dash:
        return [(one, other)]
    vector = np.subtract(other, one)
    length = float(np.hypot(*vector))
    starts = np.arange(0, length, 2 * dash)
    ends = np.minimum(starts + dash, length)
    whole = max(length, 1e-9)
    points = [tuple(np.asarray(one) + vector * (part / whole)) for part in (*starts, *ends)]
    return list(zip(points[: len(starts)], points[len(starts) :], strict=True))
