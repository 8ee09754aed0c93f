"""The figures of an evaluation: confusion, contours by distance, the trimap curve, reliability.

Each takes `Results` and gives a picture; drawing itself is `viz.canvas` and `viz.charts`.
"""

import numpy as np

from hrseg.evaluation.results import Results
from hrseg.metrics import known_mean
from hrseg.viz.canvas import BLUE, ORANGE, Canvas
from hrseg.viz.charts import confusion, curves
from hrseg.viz.lettering import HAIRLINE, QUIET, Color

_PALE: Color = (250, 222, 200)


def confusion_figure(found: Results) -> np.ndarray:
    """Draw what was taken for what. Shape: → uint8 (H, W, 3)."""
    return confusion(found.scores["matrix"].numpy(), found.evidence.ledger.classes)


def contour_figure(found: Results) -> np.ndarray:
    """Draw precision, recall and F of the contours by distance. Shape: → uint8 (H, W, 3)."""
    rows = {"precision": found.precision, "recall": found.recall, "F": found.contour_f}
    series = {name: [known_mean(row) for row in rows[name]] for name in rows}
    ticks = [str(k) for k in found.evidence.rulers.distances]
    note = "Contour pixels met within a distance, per cent, mean over classes"
    return curves(series, ticks, "Contours by distance", "pixels", note)


def trimap_figure(found: Results) -> np.ndarray:
    """Draw the scores within bands around the boundaries, and of whole images. Shape: → uint8 (H, W, 3)."""
    whole = {"mIoU": found.scores["miou"], "pixel accuracy": found.scores["pixel_accuracy"]}
    series = {
        "mIoU": [*(known_mean(row) for row in found.band_iou), whole["mIoU"]],
        "pixel accuracy": [*found.band_accuracy.tolist(), whole["pixel accuracy"]],
    }
    ticks = [*(str(r) for r in found.evidence.rulers.bands), "all"]
    note = "Scores of the pixels near the boundaries of the masks, per cent"
    title = "pixels on each side of a boundary"
    return curves(series, ticks, "Trimap curve", title, note)


def reliability_figure(found: Results) -> np.ndarray:
    """Draw accuracy against confidence, and how many pixels have which. Shape: → uint8 (H, W, 3)."""
    width, height = 640.0, 520.0
    left, right, top, bottom = 52.0, 612.0, 64.0, 356.0
    floor, ceiling = 468.0, 396.0  # of the shares
    sheet = Canvas(width, height)
    sheet.text((18, 22), "Reliability", 16)
    note = f"Accuracy of the pixels in each of {len(found.bins)} bins of confidence, per cent"
    sheet.text((18, 42), note, 12, QUIET)
    for tick in range(0, 101, 20):
        y = bottom - (bottom - top) * tick / 100
        sheet.line([(left, y), (right, y)], HAIRLINE)
        sheet.text((left - 8, y), str(tick), 12, QUIET, "rm")
    pixels = found.bins[:, 0]
    step = (right - left) / len(pixels)
    largest = float((pixels / max(1.0, pixels.sum())).max())
    for index, (count, sure, hits) in enumerate(found.bins):
        one, other = left + index * step + 1, left + (index + 1) * step - 1
        if count:
            accuracy, confidence = hits / count, sure / count
            levels = [bottom - (bottom - top) * value for value in (accuracy, confidence)]
            sheet.box(one, min(levels), other, max(levels), _PALE)
            sheet.box(one, levels[0], other, bottom, BLUE)
            sheet.line([(one, levels[1]), (other, levels[1])], ORANGE, 2)
            share = count / pixels.sum()
            sheet.box(one, floor - (floor - ceiling) * share / largest, other, floor, QUIET)
    sheet.line([(left, bottom), (right, top)], QUIET, 1, dash=5)
    for name, color, at in (("accuracy", BLUE, 74), ("mean confidence", ORANGE, 160)):
        sheet.box(at, 76, at + 11, 87, color)
        sheet.text((at + 17, 81.5), name, 12, QUIET)
    sheet.text((left - 8, floor), "0", 12, QUIET, "rm")
    sheet.text((left - 8, ceiling), _short(100 * largest), 12, QUIET, "rm")
    sheet.text((left, ceiling - 16), "per cent of the pixels", 12, QUIET)
    for tenth in range(0, 101, 20):
        x = left + (right - left) * tenth / 100
        sheet.text((x, floor + 14), str(tenth), 12, QUIET, "mm")
    sheet.text(((left + right) / 2, floor + 36), "confidence, per cent", 12, QUIET, "mm")
    return sheet.picture()


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
