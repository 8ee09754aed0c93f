"""One figure of how time and memory grow: two panels, measured dots, and the straight line beside them."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from hrseg.errors import three_digits
from hrseg.viz.canvas import BLUE, ORANGE, Canvas
from hrseg.viz.text import HAIRLINE, QUIET, Color

WIDTH, HEIGHT = 860, 340
TOP, BOTTOM = 92.0, 286.0
PANELS = ((70.0, 400.0), (500.0, 830.0))
COLORS: tuple[Color, Color] = (BLUE, ORANGE)
Place = Callable[[float], float]


class Panel(NamedTuple):
    """One curve.

    Attributes:
        title: Such as "seconds".
        note: A second line, such as the exponent.
        values: One for each x.
        line: Values of the straight line; empty draws none.
    """

    title: str
    note: str
    values: Sequence[float]
    line: Sequence[float] = ()


def figure(
    title: str, x_title: str, xs: Sequence[float], panels: Sequence[Panel], logarithmic: bool
) -> np.ndarray:
    """Draw two panels over the same x.

    Args:
        title: Headline.
        x_title: What x is, with its unit.
        xs: Growing.
        panels: Two.
        logarithmic: Both axes, else none.

    Shape:
        → uint8 (H, W, 3)
    """
    texts = [title, x_title, *(word for panel in panels for word in panel[:2])]
    sheet = Canvas(WIDTH, HEIGHT, texts=texts)
    sheet.text((18, 24), title, 16)
    for panel, (left, right), color in zip(panels, PANELS, COLORS, strict=False):
        sheet.text((left, 54), panel.title, 13, color)
        sheet.text((left, 72), panel.note, 12, QUIET, room=right - left)
        _draw(sheet, panel, xs, (left, right), color, logarithmic)
        sheet.text(((left + right) / 2, BOTTOM + 38), x_title, 12, QUIET, "mm")
    return sheet.picture()


def _draw(
    sheet: Canvas,
    panel: Panel,
    xs: Sequence[float],
    sides: tuple[float, float],
    color: Color,
    logarithmic: bool,
) -> None:
    left, right = sides
    shown = [*panel.values, *panel.line]
    steps = log_steps(min(shown), max(shown)) if logarithmic else even_steps(max(shown))
    across = _scale(min(xs) if logarithmic else 0, max(xs), left + 12, right - 12, logarithmic)
    up = _scale(steps[0], steps[-1], BOTTOM, TOP, logarithmic)
    for step in steps:
        sheet.line([(left, up(step)), (right, up(step))], HAIRLINE)
        sheet.text((left - 8, up(step)), _tick(step), 12, QUIET, "rm")
    last = -math.inf
    for x in xs:
        words = _tick(x)
        if across(x) - last > sheet.width_of(words, 12) + 10:
            sheet.text((across(x), BOTTOM + 15), words, 12, QUIET, "mm")
            last = across(x) + sheet.width_of(words, 12) / 2
    if panel.line:
        ends = [(across(x), up(y)) for x, y in zip(xs, panel.line, strict=True)]
        for one, other in itertools.pairwise(ends):
            sheet.line([one, other], QUIET, 1, dash=4)
    points = [(across(x), up(y)) for x, y in zip(xs, panel.values, strict=True)]
    sheet.line(points, color, 2)
    for point in points:
        sheet.dot(point, 3.2, color)


def log_steps(low: float, high: float) -> list[float]:
    """Return 1, 2, 5 times powers of ten around all values; of many only the powers.

    Example:
        >>> log_steps(0.3, 4)
        [0.2, 0.5, 1.0, 2.0, 5.0]
    """
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    for parts in ((1, 2, 5), (1,)):
        ladder = [float(f"{part}e{power}") for power in powers for part in parts]
        below = max(step for step in ladder if step <= low)
        above = min(step for step in ladder if step >= high)
        found = [step for step in ladder if below <= step <= above]
        if len(found) <= 8:
            break
    return found if len(found) > 1 else [found[0], found[0] * 10]


def even_steps(high: float) -> list[float]:
    """Return four to ten equal steps from 0 that hold all values.

    Example:
        >>> even_steps(7)
        [0, 2, 4, 6, 8]
    """
    unit = 10 ** math.floor(math.log10(high))
    step = next(part * unit for part in (0.1, 0.2, 0.5, 1, 2) if high <= 5 * part * unit)
    return [round(step * i, 12) for i in range(math.ceil(high / step - 1e-9) + 1)]


def _scale(low: float, high: float, start: float, end: float, logarithmic: bool) -> Place:
    def place(value: float) -> float:
        if logarithmic:
            part = math.log(value / low) / math.log(high / low) if high > low else 0.5
        else:
            part = (value - low) / (high - low)
        return start + (end - start) * part

    return place


def _tick(value: float) -> str:
    if value == int(value):
        return f"{int(value):,}"
    text = three_digits(value)
    return text.rstrip("0").rstrip(".") if "." in text else text
