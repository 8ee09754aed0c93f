"""Paired bootstrap over images: confidence interval of one model's mIoU, and of the difference of two.

Images are drawn with replacement, the same ones for both models, and mIoU is formed from the summed counts of each
draw. Each draw's deviation is divided by its own standard error, since percentiles of the plain deviations hold the
truth too seldom at a hundred images and fewer; `python -m tools.interval_coverage` counts how often.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 12 (symmetric bootstrap-t) and 21
(standard error from influence values).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hrseg.errors import DataError, columns, score
from hrseg.metrics.confusion import NOT_SCORED, iou, ratio
from hrseg.metrics.records import ImageRecords, class_counts

DRAWS = 2000
ENOUGH_IMAGES = 20
"""Below this many images an interval says little."""
_VALUES = 4_000_000  # influence values held at once


@dataclass(frozen=True)
class Difference:
    """Difference of two models, in fractions of mIoU.

    Attributes:
        miou: Difference on the images as they are.
        low: Lower end of the 95 % interval.
        high: Upper end.
        p: Share of the draws that deviate by more standard errors than the difference is away from zero.
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
    miou, low, high, p = _bootstrap([model, other], draws, -1.0)
    ious, others = (iou(*class_counts(records.matrices.sum(axis=0))) for records in (model, other))
    return Difference(
        miou=miou,
        low=low,
        high=high,
        p=p,
        classes=ious - others,
    )


def interval(model: ImageRecords, *, draws: int = DRAWS) -> tuple[float, float]:
    """Return the 95 % interval of one model's mIoU over the draw of the images.

    Raises:
        DataError: No image has a labeled pixel.
    """
    return _bootstrap([model], draws, 0.0)[1:3]


def over_folds(
    folds: Sequence[Sequence[ImageRecords]],
    others: Sequence[Sequence[ImageRecords]] | None = None,
    *,
    draws: int = DRAWS,
) -> tuple[float, float, float]:
    """Return the mean mIoU over folds and its 95 % interval, or those of the difference of two models.

    Folds have different images, so the halves of their intervals add up as squares. Runs of one fold have the same
    images: their scores and intervals are averaged.

    Args:
        folds: For each fold, the records of each run.
        others: The same of a second model, which is subtracted.
        draws: Bootstrap samples.

    Raises:
        DataError: As for `compare`.

    Example:
        >>> one = ImageRecords(tuple("abcdefgh"), ("x", "y"), np.array([[[9, 1], [1, 9]], [[8, 2], [1, 9]]] * 4))
        >>> low, high = interval(one)
        >>> value, *ends = over_folds([[one], [one]])
        >>> abs((ends[1] - ends[0]) - (high - low) / 2**0.5) < 1e-9
        True
    """
    values, halves = [], []
    for number, runs in enumerate(folds):
        found = [
            _bootstrap(list(pair(run, other)), draws, -1.0) if other else _bootstrap([run], draws, 0.0)
            for run, other in zip(runs, others[number] if others else [None] * len(runs), strict=True)
        ]
        values.append(np.mean([value for value, *_ in found]))
        halves.append(np.mean([max(value - low, high - value) for value, low, high, _ in found]))
    middle, half = float(np.mean(values)), float(np.linalg.norm(halves) / len(halves))
    return middle, middle - half, middle + half


def interval_text(low: float, high: float, images: int, digits: int = 2) -> str:
    """Format an interval in per cent, and say where there are too few images for one.

    Example:
        >>> interval_text(0.4, 0.6, 2)
        '40.00 to 60.00, 2 images are too few for more than a guess'
    """
    few = f", {images} image{'s are' if images > 1 else ' is'} too few for more than a guess"
    return f"{score(low, digits)} to {score(high, digits)}{few if images < ENOUGH_IMAGES else ''}"


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
            "enough_images": len(records.names) >= ENOUGH_IMAGES,
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

    With two models the classes that changed most are named too, and whether the images are too few for a claim.

    Example:
        >>> print(format_table([{"model": "a", "images": 90, "miou": 0.5, "low": 0.4, "high": 0.6}]))
        model  images   mIoU   95 % interval
        a          90  50.00  40.00 to 60.00
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
    if (images := int(rows[0]["images"])) < ENOUGH_IMAGES:
        lines += [
            "",
            f"{images} image{'s' * (images > 1)}: too few for a claim about others. Intervals and p mean something "
            f"from about {ENOUGH_IMAGES} images on; score a larger split.",
        ]
    return "\n".join(lines)


def _signed(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"


def _bootstrap(models: Sequence[ImageRecords], draws: int, floor: float) -> tuple[float, float, float, float]:
    """Return mIoU of the first model minus the second's, if any, both ends of its interval, and p.

    Args:
        models: One or two, with the same images.
        draws: Bootstrap samples.
        floor: Smallest possible value; the largest is 1.
    """
    labeled = models[0].matrices.any(axis=(1, 2))
    count = int(labeled.sum())
    if not count:
        raise DataError(NOT_SCORED)
    parts = [tuple(part[labeled] for part in class_counts(model.matrices)) for model in models]
    generator = np.random.default_rng(0)
    value, error = _with_error(parts, np.ones((1, count)))
    if count == 1:  # every draw is the same
        return float(value[0]), floor, 1.0, 1.0
    deviations = []
    step = max(1, _VALUES // count)
    for start in range(0, draws, step):
        size = min(step, draws - start)
        weights = generator.multinomial(count, np.full(count, 1 / count), size=size)
        drawn, spread = _with_error(parts, weights.astype(np.float64))
        deviations.append(_in_errors(drawn - value, spread))
    sizes = np.concatenate(deviations)
    reach = float(np.quantile(sizes, 0.95, method="higher"))
    half = reach * float(error[0]) if np.isfinite(reach) else np.inf
    p = (sizes >= _in_errors(value, error) * (1 - 1e-9)).mean()
    middle = float(value[0])
    return middle, max(floor, middle - half), min(1.0, middle + half), float(p)


def _in_errors(deviation: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Return the size of deviations in standard errors; infinite where only the error is 0. Shape: (draws,) → same"""
    size = np.abs(deviation)
    size[size < 1e-12] = 0.0  # a draw of equal images is off by rounding alone
    infinite = np.where(size > 0, np.inf, 0.0)
    return np.where(error > 0, size / np.where(error > 0, error, 1), infinite)


def _with_error(models: Sequence[tuple[np.ndarray, ...]], weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mIoU, or the difference of two, and its standard error for each weighting of the images.

    The error follows from the influence of each image on mIoU, the derivative by its weight.

    Shape:
        models (N, K) counts, weights (draws, N) → (draws,), (draws,)
    """
    value, influence = np.zeros(len(weights)), np.zeros(weights.shape)
    for sign, (hits, truth, found) in zip((1, -1), models, strict=False):
        union = (truth + found - hits).astype(np.float64)
        summed = weights @ union  # (draws, K)
        ious = ratio(weights @ hits, summed)
        slope = 1 / np.where(summed > 0, summed, np.inf) / (summed > 0).sum(axis=1, keepdims=True)
        value += sign * np.nanmean(ious, axis=1)
        influence += sign * (slope @ hits.T - (slope * np.nan_to_num(ious)) @ union.T)
    return value, np.sqrt((weights * influence**2).sum(axis=1))
