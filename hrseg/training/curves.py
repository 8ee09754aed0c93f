"""Curves of a run as one picture: loss, learning rate and validation score by epoch."""

import csv
import logging
import math
from pathlib import Path

from hrseg.imaging import write_atomic

FILE = "curves.png"
PANELS = {
    "training loss": "train/epoch_loss",
    "learning rate": "train/lr",
    "validation mIoU, %": "val/miou",
}
"""Title of each panel → column of metrics.csv."""


def draw_curves(folder: Path) -> Path | None:
    """Draw curves.png from the metrics.csv of a run's folder.

    Returns:
        The picture; None where metrics.csv has no epoch yet.
    """
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it talks of caches
    from matplotlib.figure import Figure

    table = folder / "metrics.csv"
    if not table.is_file():
        return None
    with table.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = [row for row in csv.DictReader(file) if row.get("epoch")]
    figure = Figure((10, 3.2), dpi=120, layout="constrained")
    drawn = False
    for axes, (title, column) in zip(figure.subplots(1, 3), PANELS.items(), strict=True):
        factor = 100 if "%" in title else 1
        points = [(_number(row["epoch"]), factor * _number(row.get(column))) for row in rows]
        points = [point for point in points if all(map(math.isfinite, point))]
        if points:
            marker = "o-" if len(points) < 30 else "-"
            axes.plot(*zip(*points, strict=True), marker, ms=3, lw=1.4)
            drawn = True
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    if not drawn:
        return None
    with write_atomic(folder / FILE) as temporary:
        figure.savefig(temporary, format="png")
    return folder / FILE


def _number(cell: str | None) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        return math.nan
