"""Two figures: curves over a few named places, and a confusion matrix that can be read at any number of classes."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from hrseg.errors import percent
from hrseg.viz.canvas import BLUE, GREEN, ORANGE, Canvas
from hrseg.viz.text import HAIRLINE, INK, PAPER, QUIET, Color

SERIES = (BLUE, ORANGE, GREEN, (122, 80, 170))
DENSE_UP_TO = 40
"""Classes of a confusion matrix that is drawn with two pixels for each of the page's."""
_EMPTY: Color = (244, 245, 247)
_HITS = ((240, 245, 252), (160, 195, 235), (38, 98, 184), (16, 45, 100))
_ERRORS = ((255, 255, 255), (254, 226, 190), (240, 140, 70), (150, 45, 10))


def curves(
    series: Mapping[str, Sequence[float]],
    ticks: Sequence[str],
    title: str,
    x_title: str,
    note: str = "",
) -> np.ndarray:
    """Draw curves in per cent, each named at its end.

    Args:
        series: Name → fractions, one for each tick; nan leaves a gap.
        ticks: Names of the places.
        title: Headline.
        x_title: What the places are.
        note: A second line under the headline.

    Shape:
        → uint8 (H, W, 3)
    """
    width, height = 640.0, 380.0
    sheet = Canvas(width, height, texts=[title, x_title, *series, *ticks])
    names = max(sheet.width_of(name) for name in series)
    left, right, top, bottom = 52.0, width - names - 64, 64.0, height - 52
    values = np.array([list(one) for one in series.values()], dtype=np.float64)
    low, high = _range(values)

    def x(index: int) -> float:
        return left + 18 + (right - left - 36) * index / max(1, len(ticks) - 1)

    def y(value: float) -> float:
        return bottom - (bottom - top) * (value - low) / (high - low)

    sheet.text((left - 34, 22), title, 16)
    sheet.text((left - 34, 42), note, 12, QUIET)
    for step in _steps(low, high):
        sheet.line([(left, y(step)), (right, y(step))], HAIRLINE)
        sheet.text((left - 8, y(step)), f"{100 * step:.0f}", 12, QUIET, "rm")
    for index, tick in enumerate(ticks):
        sheet.text((x(index), bottom + 15), tick, 12, QUIET, "mm")
    sheet.text(((left + right) / 2, bottom + 38), x_title, 12, QUIET, "mm")
    places = _apart([y(_last(row)) for row in values], 17)
    for row, name, color, place in zip(values, series, SERIES, places, strict=False):
        points = [(x(i), y(value)) for i, value in enumerate(row) if not math.isnan(value)]
        sheet.line(points, color, 2)
        for point in points:
            sheet.dot(point, 3.2, color)
        if points:
            words = f"{name} {100 * _last(row):.1f}"
            sheet.text((points[-1][0] + 12, place), words, 13, color)
    return sheet.picture()


def confusion(matrix: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Draw a confusion matrix, each row in per cent of its true class: hits blue, errors orange.

    Errors are painted by the square root of their share, so that a few per cent can be seen. Numbers stand in the
    cells where there is room for them; a class without a pixel in the masks has a gray row.

    Args:
        matrix: Pixel counts, rows the true class, columns the predicted.
        names: Of the classes.

    Shape:
        (K, K) → uint8 (H, W, 3)
    """
    classes = len(names)
    cell = max(13, min(44, 880 / classes))
    letters = min(13, cell * 0.78)
    dense = 2 if classes <= DENSE_UP_TO else 1
    measure = Canvas(1, 1, dense, names)
    longest = min(170, max(measure.width_of(name, letters) for name in names))
    left, top = longest + 46, longest + 92
    side = classes * cell
    shares = 64
    sheet = Canvas(left + side + shares + 12, top + side + 22, dense, names)
    sheet.text((16, 24), "Confusion", 16)
    words = "Per cent of the pixels of each true class (row), by what they were called (column)"
    sheet.text((16, 44), words, 12, QUIET, room=left + side)
    totals = matrix.sum(axis=1)
    rows = np.where(totals[:, None] > 0, matrix / np.maximum(totals, 1)[:, None], np.nan)
    sheet.text((left + side + 10, top - 12), "share", 12, QUIET)
    for k, name in enumerate(names):
        y, x = top + k * cell, left + k * cell
        sheet.text((left - 10, y + cell / 2), name, letters, INK, "rm", room=longest)
        sheet.text((x + cell / 2, top - 8), name, letters, INK, room=longest, upward=True)
        share = totals[k] / max(1, totals.sum())
        sheet.text((left + side + 10, y + cell / 2), percent(share), min(12, letters), QUIET)
        for other in range(classes):
            _cell(sheet, left + other * cell, y, cell, rows[k, other], other == k)
    step = 1 if cell >= 24 else 10  # small cells: every tenth line, to follow a row with the eye
    for k in [*range(0, classes, step), classes]:
        at, color = k * cell, PAPER if step == 1 and 0 < k < classes else HAIRLINE
        sheet.line([(left + at, top), (left + at, top + side)], color)
        sheet.line([(left, top + at), (left + side, top + at)], color)
    return sheet.picture()


def _cell(sheet: Canvas, x: float, y: float, cell: float, value: float, hit: bool) -> None:
    if math.isnan(value):
        sheet.box(x, y, x + cell, y + cell, _EMPTY)
        return
    depth = value if hit else math.sqrt(value)
    color = _blend(_HITS if hit else _ERRORS, depth)
    sheet.box(x, y, x + cell, y + cell, color)
    if cell >= 24 and value >= 0.005:
        dark = sum(color) < 380
        shown = f"{100 * value:.0f}"
        sheet.text((x + cell / 2, y + cell / 2), shown, 12.5, PAPER if dark else INK, "mm")


def _blend(stops: Sequence[Color], place: float) -> Color:
    at = min(max(place, 0.0), 1.0) * (len(stops) - 1)
    first = min(int(at), len(stops) - 2)
    part = at - first
    red, green, blue = (
        round((1 - part) * one + part * other)
        for one, other in zip(stops[first], stops[first + 1], strict=True)
    )
    return red, green, blue


def _range(values: np.ndarray) -> tuple[float, float]:
    """Return tens of per cent that hold all values."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    low = math.floor(10 * float(finite.min()) - 1e-9) / 10
    high = math.ceil(10 * float(finite.max()) + 1e-9) / 10
    low, high = max(0.0, low), min(1.0, high)
    return (low, high) if high > low else (0.0, 0.1)


def _steps(low: float, high: float) -> list[float]:
    count = round(10 * (high - low))
    step = 0.1 if count > 2 else 0.02
    return [low + step * i for i in range(round((high - low) / step) + 1)]


def _last(row: np.ndarray) -> float:
    finite = row[np.isfinite(row)]
    return float(finite[-1]) if len(finite) else 0.0


def _apart(places: Sequence[float], least: float) -> list[float]:
    """Move names that would stand on one another apart."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    for before, after in itertools.pairwise(order):
        moved[after] = max(moved[after], moved[before] + least)
    return moved
