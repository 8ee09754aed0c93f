"""Paired bootstrap over images: confidence interval of one model's mIoU, and of the difference of two.

Images are drawn with replacement, the same ones for both models, and mIoU is formed from the summed counts of each
draw: the spread of the differences is what the choice of images explains.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, percentile intervals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hrseg.errors import DataError, columns, score
from hrseg.metrics.confusion import iou
from hrseg.metrics.records import ImageRecords, class_counts

DRAWS = 2000


@dataclass(frozen=True)
class Difference:
    """Difference of two models, in fractions of mIoU.

    Attributes:
        miou: Difference on the images as they are.
        low: Lower end of the 95 % interval.
        high: Upper end.
        p: Two-sided share of draws on the other side of zero.
        classes: Difference of each class's IoU, (K,); nan where neither model can be scored.
    """

    miou: float
    low: float
    high: float
    p: float
    classes: np.ndarray


def compare(model: ImageRecords, other: ImageRecords, *, draws: int = DRAWS) -> Difference:
    """Compare two models on the images they share; positive where `model` is better.

    Raises:
        DataError: Other classes, other pixels of an image's mask, or no common image.

    Example:
        >>> good = ImageRecords(("a", "b"), ("x", "y"), np.array([[[9, 1], [1, 9]]] * 2))
        >>> bad = ImageRecords(("a", "b"), ("x", "y"), np.array([[[5, 5], [5, 5]]] * 2))
        >>> result = compare(good, bad)
        >>> round(result.miou, 3), result.low > 0
        (0.485, True)
    """
    model, other = pair(model, other)
    weights = _draw(len(model.names), draws)
    differences = _miou(model, weights) - _miou(other, weights)
    once = np.ones((1, len(model.names)), dtype=np.int64)
    low, high = np.quantile(differences, [0.025, 0.975])
    against = min((differences <= 0).mean(), (differences >= 0).mean())
    return Difference(
        miou=float((_miou(model, once) - _miou(other, once))[0]),
        low=float(low),
        high=float(high),
        p=float(min(1.0, 2 * against)),
        classes=_ious(model, once)[0] - _ious(other, once)[0],
    )


def interval(model: ImageRecords, *, draws: int = DRAWS) -> tuple[float, float]:
    """Return the 95 % interval of one model's mIoU over the draw of the images."""
    low, high = np.quantile(_miou(model, _draw(len(model.names), draws)), [0.025, 0.975])
    return float(low), float(high)


def pair(model: ImageRecords, other: ImageRecords) -> tuple[ImageRecords, ImageRecords]:
    """Restrict two models' records to their common images, in one order.

    Raises:
        DataError: They cannot be compared.
    """
    if model.classes != other.classes:
        raise DataError(
            f"{model.model} and {other.model} know other classes ({len(model.classes)} and {len(other.classes)}), so "
            "their scores cannot be compared. Score both on the same label table."
        )
    common = set(other.names)
    names = [name for name in model.names if name in common]
    if not names:
        raise DataError(
            f"{model.model} and {other.model} were scored on different images. Score both on the same split."
        )
    model, other = model.take(names), other.take(names)
    truth = [records.matrices.sum(axis=2) for records in (model, other)]  # (N, K)
    unequal = [names[index] for index in np.flatnonzero((truth[0] != truth[1]).any(axis=1))]
    if unequal:
        raise DataError(
            f"{len(unequal)} images have other masks in the two scores, such as {unequal[0]}. Score both on the same "
            "data, at the size of the masks."
        )
    return model, other


def table(models: Sequence[ImageRecords], *, draws: int = DRAWS) -> list[dict[str, object]]:
    """Return one row per model: mIoU with its interval, and the difference to the first model.

    Raises:
        DataError: As for `compare`.
    """
    rows: list[dict[str, object]] = []
    common = set(models[0].names).intersection(*(records.names for records in models[1:]))
    names = [name for name in models[0].names if name in common]
    for index, records in enumerate(models):
        records = records.take(names) if names else records
        low, high = interval(records, draws=draws)
        row: dict[str, object] = {
            "model": records.model,
            "images": len(records.names),
            "miou": records.scores()["miou"],
            "low": low,
            "high": high,
        }
        if index:
            result = compare(records, models[0], draws=draws)
            row |= {
                "difference": result.miou,
                "difference_low": result.low,
                "difference_high": result.high,
                "p": result.p,
                "classes": {
                    name: float(value)
                    for name, value in zip(records.classes, result.classes, strict=True)
                    if not np.isnan(value)
                },
            }
        rows.append(row)
    return rows


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format the rows of `table` as aligned plain text, in per cent.

    With two models the classes that changed most are named too.

    Example:
        >>> print(format_table([{"model": "a", "images": 9, "miou": 0.5, "low": 0.4, "high": 0.6}]))
        model  images   mIoU   95 % interval
        a           9  50.00  40.00 to 60.00
    """
    compared = any("difference" in row for row in rows)
    header = ["model", "images", "mIoU", "95 % interval"]
    cells = [header + (["to the first", "95 % interval", "p"] if compared else [])]
    for row in rows:
        line = [str(row["model"]), str(row["images"]), score(row["miou"])]
        line.append(f"{score(row['low'])} to {score(row['high'])}")
        if "difference" in row:
            line.append(_signed(row["difference"]))
            line.append(f"{_signed(row['difference_low'])} to {_signed(row['difference_high'])}")
            line.append("< 0.001" if row["p"] < 0.001 else f"{row['p']:.3f}")
        cells.append(line + [""] * (len(cells[0]) - len(line)))
    lines = columns(cells)
    if len(rows) == 2:
        changes = sorted(rows[1]["classes"].items(), key=lambda item: -abs(item[1]))
        listed = ", ".join(f"{name} {_signed(value)}" for name, value in changes[:6])
        lines += ["", f"Classes that changed most: {listed}"]
    return "\n".join(lines)


def _signed(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"


def _draw(count: int, draws: int) -> np.ndarray:
    """Return the number of times each image is drawn. Shape: → (draws, N)."""
    return np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=draws)


def _miou(model: ImageRecords, weights: np.ndarray) -> np.ndarray:
    return np.nanmean(_ious(model, weights), axis=1)


def _ious(model: ImageRecords, weights: np.ndarray) -> np.ndarray:
    """IoU of each class for each weighting of the images. Shape: (draws, N) → (draws, K)."""
    counts = class_counts(model.matrices)
    return iou(*(weights.astype(np.float64) @ part.astype(np.float64) for part in counts))
