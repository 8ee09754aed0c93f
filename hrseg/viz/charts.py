"""Charts as data, drawn twice: by matplotlib into PNG files, and by the macros of `charts.html` as SVG in pages."""

import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from hrseg.errors import percent
from hrseg.imaging import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GRAY, GRID = "#2662b8", "#d0621a", "#18805c", "#7a8089", "#dee1e6"
SERIES = (BLUE, ORANGE, GREEN, "#7a50aa")
_STYLE: Any = {
    "text.parse_math": False,  # class names may hold "$"
    "font.family": ["DejaVu Sans", "Noto Sans CJK JP", "Arial Unicode MS", "Microsoft YaHei"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRID,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelcolor": GRAY,
    "axes.axisbelow": True,
    "xtick.color": GRAY,
    "ytick.color": GRAY,
    "grid.color": GRID,
    "legend.frameon": False,
}
_NAME_LENGTH = 24


@dataclass(frozen=True)
class Curves:
    """Curves in per cent over a few named places.

    Attributes:
        title: Headline.
        note: Second line of the headline.
        x_title: What the places are.
        ticks: Names of the places.
        series: Name → fractions, one for each tick; nan is left out.
    """

    title: str
    note: str
    x_title: str
    ticks: Sequence[str]
    series: Mapping[str, Sequence[float]]

    @property
    def limits(self) -> tuple[float, float]:
        """Tenths that enclose all values."""
        finite = [v for values in self.series.values() for v in values if not math.isnan(v)]
        if not finite:
            return 0.0, 1.0
        low = max(0.0, math.floor(10 * min(finite) - 1e-9) / 10)
        high = min(1.0, math.ceil(10 * max(finite) + 1e-9) / 10)
        return (low, high) if high > low else (0.0, 0.1)

    @property
    def grid(self) -> list[tuple[str, float]]:
        """Label in per cent and height, 0 to 1, of each horizontal line."""
        low, high = self.limits
        step = 0.1 if round(10 * (high - low)) > 2 else 0.02
        count = round((high - low) / step)
        return [(f"{100 * (low + step * i):.0f}", i / count) for i in range(count + 1)]

    @property
    def lines(self) -> list[tuple[str, list[tuple[float, float]]]]:
        """Name with its last value, and points in the unit square, of each series."""
        low, high = self.limits
        last = max(1, len(self.ticks) - 1)
        lines = []
        for name, values in self.series.items():
            finite = [(i / last, v) for i, v in enumerate(values) if not math.isnan(v)]
            label = f"{name} {100 * finite[-1][1]:.1f}" if finite else name
            lines.append((label, [(x, (v - low) / (high - low)) for x, v in finite]))
        return lines

    def draw(self) -> "Figure":
        """Return the matplotlib figure."""
        figure, axes = _figure(6.4, 4.0)
        _title(axes, self.title, self.note)
        for (label, points), color in zip(self.lines, SERIES, strict=False):
            axes.plot(*zip(*points, strict=True) if points else ([], []), "o-", color=color, ms=4)
            axes.lines[-1].set_label(label)
        axes.set_ylim(-0.02, 1.02)
        axes.set_yticks([at for _, at in self.grid], [name for name, _ in self.grid])
        last = max(1, len(self.ticks) - 1)
        axes.set_xticks([i / last for i in range(len(self.ticks))], self.ticks)
        axes.set_xlabel(self.x_title)
        axes.grid(axis="y")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        return figure


class Cell(NamedTuple):
    """Cell of a confusion matrix that is not empty."""

    row: int
    column: int
    share: float

    @property
    def strength(self) -> float:
        """Strength of the color, 0 to 1; errors by the square root, so that a few per cent can be seen."""
        return self.share if self.row == self.column else math.sqrt(self.share)


@dataclass(frozen=True)
class Confusion:
    """Confusion matrix, each row in per cent of its true class: hits blue, errors orange.

    Attributes:
        matrix: Pixel counts (K, K), rows the true class, columns the predicted.
        names: Of the classes.
    """

    matrix: np.ndarray
    names: Sequence[str]
    title = "Confusion"
    note = "Per cent of the pixels of each true class (row), by predicted class (column)"

    @property
    def labels(self) -> list[str]:
        """Names, the long ones cut."""
        return [n if len(n) <= _NAME_LENGTH else f"{n[: _NAME_LENGTH - 1]}…" for n in self.names]

    @property
    def shares(self) -> list[str]:
        """Share of each true class in all pixels."""
        totals = self.matrix.sum(axis=1)
        return [percent(total / max(1, totals.sum())) for total in totals]

    @property
    def absent(self) -> list[int]:
        """Classes without a pixel in the masks; their rows are gray."""
        return np.flatnonzero(self.matrix.sum(axis=1) == 0).tolist()

    @property
    def cell(self) -> float:
        """Side of a cell in CSS pixels, for any number of classes."""
        return max(13.0, min(44.0, 880 / len(self.names)))

    def cells(self, least: float = 0.0005) -> Iterator[Cell]:
        """Yield the cells whose share of their row is large enough to be visible."""
        rows = self.matrix / np.maximum(self.matrix.sum(axis=1, keepdims=True), 1)  # (K, K)
        for row, column in np.argwhere(rows >= least).tolist():
            yield Cell(row, column, float(rows[row, column]))

    def draw(self) -> "Figure":
        """Return the matplotlib figure; from 41 classes on at half the density."""
        from matplotlib import colormaps

        count, letters = len(self.names), min(13.0, self.cell * 0.78) * 0.72  # in points
        margin = 0.4 + max(map(len, self.labels)) * letters * 0.62 / 72  # inches
        side = count * self.cell / 100
        width, height = margin + side + 0.8, margin + side + 0.7
        figure, axes = _figure(width, height, 200 if count <= 40 else 100)
        axes.set_position((margin / width, 0.2 / height, side / width, side / height))
        picture = np.ones((count, count, 3))  # (K, K, 3), white
        picture[self.absent] = 0.955
        for cell in self.cells():
            color = colormaps["Blues" if cell.row == cell.column else "Oranges"](cell.strength)
            picture[cell.row, cell.column] = color[:3]
            if self.cell >= 24 and cell.share >= 0.005:
                ink = "white" if sum(color[:3]) < 1.5 else "black"
                at = (cell.column, cell.row)
                axes.text(*at, f"{100 * cell.share:.0f}", color=ink, ha="center", va="center")
        axes.imshow(picture, interpolation="nearest")
        axes.spines[:].set_visible(False)
        axes.set_xticks(range(count), self.labels, fontsize=letters, rotation=90)
        axes.set_yticks(range(count), self.labels, fontsize=letters)
        axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        for k, share in enumerate(self.shares):
            axes.text(count - 0.3, k, share, color=GRAY, fontsize=min(8.6, letters), va="center")
        step = 1 if self.cell >= 24 else 10  # small cells: every tenth line guides the eye
        for at in [*range(0, count, step), count]:
            axes.axhline(at - 0.5, color=GRID, lw=0.7)
            axes.axvline(at - 0.5, color=GRID, lw=0.7)
        figure.text(0.02, 1 - 0.15 / height, self.title, fontsize=11, va="top")
        figure.text(0.02, 1 - 0.35 / height, self.note, fontsize=8, color=GRAY, va="top")
        return figure


@dataclass(frozen=True)
class Reliability:
    """Accuracy against confidence, and the share of pixels by confidence.

    Attributes:
        bins: Pixels, summed confidences and correct pixels of each bin, (bins, 3).
    """

    bins: np.ndarray
    title = "Reliability"

    @property
    def note(self) -> str:
        """Second line of the headline."""
        return f"Accuracy of the pixels in each of {len(self.bins)} bins of confidence, per cent"

    @property
    def bars(self) -> list[tuple[float, float, float, float]]:
        """Left edge, accuracy, confidence and share of all pixels of each bin that has pixels."""
        total = max(1.0, float(self.bins[:, 0].sum()))
        return [
            (index / len(self.bins), correct / count, confidence / count, count / total)
            for index, (count, confidence, correct) in enumerate(self.bins.tolist())
            if count
        ]

    def draw(self) -> "Figure":
        """Return the matplotlib figure."""
        figure, axes = _figure(6.4, 5.2)
        below = figure.add_axes((0.09, 0.1, 0.88, 0.16))
        axes.set_position((0.09, 0.34, 0.88, 0.52))
        _title(axes, self.title, self.note)
        width = 0.94 / len(self.bins)
        left, accuracy, confidence, share = np.array(self.bars).reshape(-1, 4).T
        middle = left + 0.5 / len(self.bins)
        axes.bar(middle, 100 * accuracy, width, color=BLUE, label="accuracy")
        gap = 100 * (confidence - accuracy)
        axes.bar(middle, gap, width, bottom=100 * accuracy, color=ORANGE, alpha=0.3, zorder=0.5)
        ends = (middle - width / 2, middle + width / 2)
        axes.hlines(100 * confidence, *ends, color=ORANGE, lw=2, label="mean confidence")
        axes.plot([0, 1], [0, 100], "--", color=GRAY, lw=1)
        axes.set(xlim=(0, 1), ylim=(0, 100), xticks=[])
        axes.grid(axis="y")
        axes.legend(loc="upper left")
        below.bar(middle, 100 * share, width, color=GRAY)
        below.set(xlim=(0, 1), xlabel="confidence, per cent", ylabel="pixels, %")
        below.set_xticks(np.linspace(0, 1, 6), [f"{tick}" for tick in range(0, 101, 20)])
        return figure


Chart = Curves | Confusion | Reliability


class Drawable(Protocol):
    """Figure that `save_chart` can write."""

    def draw(self) -> "Figure":
        """Return the matplotlib figure."""
        ...


def save_chart(chart: Drawable, path: str | Path) -> None:
    """Draw a chart into a PNG file.

    Raises:
        DataError: The file cannot be written.
    """
    # it warns of font caches, and of every font family that is not installed
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    import matplotlib

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # drawn as a box
        figure = chart.draw()
        with write_atomic(path) as temporary:
            figure.savefig(temporary, format="png", dpi="figure")


def _figure(width: float, height: float, dpi: float = 200) -> tuple["Figure", "Axes"]:
    """A figure without pyplot: no window, no global state, the Agg canvas."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), dpi=dpi)
    return figure, figure.add_axes((0.09, 0.16, 0.68, 0.66))


def _title(axes: "Axes", title: str, note: str) -> None:
    axes.set_title(title, pad=24)
    axes.text(0, 1.04, note, transform=axes.transAxes, color=GRAY, fontsize=8)
