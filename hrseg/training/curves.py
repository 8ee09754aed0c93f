"""Curves of a run as one picture: loss, learning rate and validation score by epoch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hrseg.training.run_dir import CSVMetricsLogger
from hrseg.viz.charts import BLUE, save_chart

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE = "curves.png"
PANELS = {
    "training loss": "train/epoch_loss",
    "learning rate": "train/lr",
    "validation mIoU, %": "val/miou",
}
"""Title of each panel → column of metrics.csv."""


@dataclass(frozen=True)
class RunCurves:
    """A panel per title; its points are epoch and value."""

    panels: Mapping[str, Sequence[tuple[float, float]]]

    def draw(self) -> "Figure":
        """Return the matplotlib figure."""
        from matplotlib.figure import Figure

        figure = Figure((10, 3.2), dpi=120)
        # places by hand: a layout by matplotlib draws all twice
        places = {"left": 0.06, "right": 0.99, "bottom": 0.16, "top": 0.9, "wspace": 0.24}
        columns = figure.subplots(1, len(self.panels), gridspec_kw=places)
        for axes, (title, points) in zip(columns, self.panels.items(), strict=True):
            if points:
                marker = "o-" if len(points) < 30 else "-"
                axes.plot(*zip(*points, strict=True), marker, color=BLUE, ms=3, lw=1.4)
            axes.set(title=title, xlabel="epoch")
            axes.grid()
            axes.xaxis.get_major_locator().set_params(integer=True)
        return figure


def draw_curves(folder: Path) -> Path | None:
    """Draw curves.png from the metrics.csv of a run's folder.

    Returns:
        The picture; None where metrics.csv has no epoch yet.
    """
    table = folder / "metrics.csv"
    if not table.is_file():
        return None
    _, rows = CSVMetricsLogger(table).read()
    panels = {}
    for title, column in PANELS.items():
        factor = 100 if "%" in title else 1
        cells = [(row["epoch"], row[column]) for row in rows if row.get("epoch") and row.get(column)]
        points = [(float(epoch), factor * float(value)) for epoch, value in cells]
        panels[title] = [point for point in points if all(map(math.isfinite, point))]
    if not any(panels.values()):
        return None
    save_chart(RunCurves(panels), folder / FILE)
    return folder / FILE
