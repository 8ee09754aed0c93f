"""Confusion matrix of a whole data set, and the scores that follow from it.

Counts are exact integers, summed over images and devices before anything is divided; a mean over
images or batches would be another number.
"""

from collections.abc import Sequence
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from torchmetrics import Metric

from hrseg.errors import ConfigError, DataError, columns, first_few, score, unknown_choice

AbsentRule = Literal["skip", "zero", "one"]
ABSENT_VALUES: dict[str, float] = {"skip": float("nan"), "zero": 0.0, "one": 1.0}
"""Absent-class rule → the value that every 0/0 takes; nan is left out of the means."""


class Scores(TypedDict):
    """Result of `ConfusionMatrix.compute`: fractions, with tensors float64 (K,) by trainId.

    `share` is the part of the valid mask pixels that belongs to each class; `absent` lists the trainIds
    found in neither mask nor prediction; `matrix` is int64 (K, K).
    """

    miou: float
    pixel_accuracy: float
    mean_accuracy: float
    frequency_weighted_iou: float
    iou: torch.Tensor
    precision: torch.Tensor
    recall: torch.Tensor
    f1: torch.Tensor
    share: torch.Tensor
    absent: list[int]
    absent_rule: str
    matrix: torch.Tensor


class ConfusionMatrix(Metric):
    """Count of pixels by true class (rows) and predicted class (columns), summed over devices.

    Args:
        num_classes: K.
        ignore_index: trainId of mask pixels that are not counted.
        absent: What a class found neither in the masks nor in the predictions adds to the means:
            "skip" leaves it out (as the Cityscapes and mmseg evaluators do), "zero" counts it 0
            (the official HRNet code), "one" counts it 1. The same value stands for every other 0/0,
            such as the precision of a class never predicted. A set without one labeled pixel has no score
            under any rule: all are nan.

    Raises:
        ConfigError: Fewer than one class, or an unknown rule.

    Example:
        >>> metric = ConfusionMatrix(num_classes=2)
        >>> metric.update(pred=torch.tensor([[0, 1, 1]]), target=torch.tensor([[0, 1, 0]]))
        >>> metric.compute()["miou"]
        0.5
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    matrix: torch.Tensor

    def __init__(self, num_classes: int, ignore_index: int = 255, absent: AbsentRule = "skip") -> None:
        super().__init__()
        if num_classes < 1:
            raise ConfigError(f"{num_classes} classes cannot be scored. Give 1 or more.")
        if absent not in ABSENT_VALUES:
            raise ConfigError(unknown_choice("absent-class rule", absent, ABSENT_VALUES))
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.absent: str = absent
        zeros = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("matrix", zeros, dist_reduce_fx="sum")

    def update(self, pred: torch.Tensor, target: torch.Tensor) -> None:
        """Add the pixels of one image or one batch.

        Args:
            pred: Predicted trainIds; those at ignored pixels do not matter.
            target: The mask.

        Shape:
            pred, target (N, H, W) or (H, W), any integer type

        Raises:
            DataError: Shapes that differ, maps that are not integers, or a value that is no class.
        """
        if pred.shape != target.shape:
            raise DataError(
                f"Prediction {tuple(pred.shape)} and mask {tuple(target.shape)} differ in shape. "
                "Resize the logits to the mask's size and take the argmax over the classes."
            )
        for name, values in (("prediction", pred), ("mask", target)):
            if values.is_floating_point() or values.is_complex():
                raise DataError(
                    f"The {name} is {values.dtype}. Right would be integer trainIds: "
                    "for logits, take the argmax over the classes first."
                )
        valid = target != self.ignore_index
        truth, found = target[valid].long(), pred[valid].long()  # (M,); uint8 would overflow
        self._check_values("mask", truth)
        self._check_values("prediction", found)
        self.matrix += confusion_counts(truth, found, self.num_classes)

    def compute(self) -> Scores:
        """Return the scores of all pixels so far, on all devices."""
        return scores(self.matrix, self.absent)

    def _check_values(self, name: str, values: torch.Tensor) -> None:
        wrong = values[(values < 0) | (values >= self.num_classes)].unique().tolist()
        if wrong:
            raise DataError(
                f"The {name} holds {first_few(wrong)}; trainIds are 0 to {self.num_classes - 1}, and "
                f"{self.ignore_index} in the mask to ignore. "
                "Check the label table and the number of classes."
            )


def confusion_counts(mask: torch.Tensor, pred: torch.Tensor, classes: int) -> torch.Tensor:
    """Count pixels by true class (rows) and predicted class (columns).

    Args:
        mask: trainIds of valid pixels only.
        pred: Predicted trainIds of the same pixels.
        classes: K.

    Shape:
        (M,), (M,) → int64 (K, K)
    """
    pairs = torch.bincount(mask * classes + pred, minlength=classes**2)  # (K * K,)
    return pairs.reshape(classes, classes)


def scores(matrix: torch.Tensor, absent: str = "skip") -> Scores:
    """Return every score that follows from a confusion matrix.

    Args:
        matrix: Pixel counts, rows the true class, columns the predicted.
        absent: The rule for 0/0; see `ConfusionMatrix`.

    Shape:
        matrix (K, K)

    Example:
        >>> scores(torch.tensor([[3, 1], [0, 4]]))["iou"]
        tensor([0.7500, 0.8000], dtype=torch.float64)
    """
    matrix = matrix.cpu()
    hits, truth, found = matrix.diagonal(), matrix.sum(dim=1), matrix.sum(dim=0)  # (K,) each
    union = truth + found - hits  # (K,)
    pixels = truth.sum()
    undefined = ABSENT_VALUES[absent] if pixels else float("nan")
    class_iou = _ratio(hits, union, undefined)
    recall = _ratio(hits, truth, undefined)
    share = _ratio(truth, pixels, float("nan"))  # (K,)
    return Scores(
        miou=float(class_iou.nanmean()),
        pixel_accuracy=float(_ratio(hits.sum(), pixels, float("nan"))),
        mean_accuracy=float(recall.nanmean()),
        frequency_weighted_iou=float((share * class_iou)[truth > 0].sum()) if pixels else float("nan"),
        iou=class_iou,
        precision=_ratio(hits, found, undefined),
        recall=recall,
        f1=_ratio(2 * hits, truth + found, undefined),
        share=share,
        absent=(union == 0).nonzero().flatten().tolist(),
        absent_rule=absent,
        matrix=matrix,
    )


def score_dict(result: Scores, names: Sequence[str]) -> dict[str, Any]:
    """Return the scores as plain values, fractions: "miou" and the like, and those of each class by name.

    Example:
        >>> found = score_dict(scores(torch.tensor([[3, 1], [0, 4]])), ["road", "sky"])
        >>> round(found["miou"], 4), found["classes"]["road"]["iou"]
        (0.775, 0.75)
    """
    values: dict[str, Any] = dict(result)
    means = ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou")
    classes = {name: {key: float(values[key][i]) for key in _COLUMNS} for i, name in enumerate(names)}
    return {**{key: values[key] for key in means}, "classes": classes}


def table(result: Scores, names: Sequence[str]) -> str:
    """Return the scores of each class in per cent as aligned plain text.

    Args:
        result: What `ConfusionMatrix.compute` gave.
        names: Class names by trainId.

    Raises:
        DataError: Not one name per class.

    Example:
        >>> result = scores(torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
        >>> print(table(result, ["road", "sky", "train"]))
        class    IoU  precision  recall     F1  share
        road   75.00     100.00   75.00  85.71  50.00
        sky    80.00      80.00  100.00  88.89  50.00
        train      -          -       -      -   0.00
        <BLANKLINE>
        mIoU 77.50 % over 2 of 3 classes, pixel accuracy 87.50 %, mean accuracy 87.50 %
        In neither mask nor prediction, left out of the mean: train
    """
    numbers = [result[key].reshape(-1).tolist() for key in _COLUMNS]  # type: ignore[literal-required]
    if len(names) != len(numbers[0]):
        raise DataError(
            f"{len(names)} class names for {len(numbers[0])} classes. Give the label set of the scored data."
        )
    rows = [[name, *map(score, values)] for name, *values in zip(names, *numbers, strict=True)]
    rows.insert(0, ["class", *_COLUMNS.values()])
    lines = columns(rows)
    if not result["matrix"].any():
        return NOT_SCORED
    absent, rule = result["absent"], result["absent_rule"]
    counted = len(names) - (len(absent) if rule == "skip" else 0)
    lines += [
        "",
        f"mIoU {score(result['miou'])} % over {counted} of {len(names)} classes, "
        f"pixel accuracy {score(result['pixel_accuracy'])} %, "
        f"mean accuracy {score(result['mean_accuracy'])} %",
    ]
    if absent:
        fate = "left out of the mean" if rule == "skip" else f"counted as {rule}"
        lines.append(f"In neither mask nor prediction, {fate}: {', '.join(names[index] for index in absent)}")
    return "\n".join(lines)


NOT_SCORED = "Not scored: not one pixel of the masks has a class. Choose a split with labeled masks."
"""Message in place of a table of scores."""
_COLUMNS = {
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "share": "share",
}


def _ratio(part: torch.Tensor, whole: torch.Tensor, undefined: float) -> torch.Tensor:
    quotient = part.double() / whole.double().clamp_min(1)
    return torch.where(whole > 0, quotient, torch.full_like(quotient, undefined))


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide, with nan for every 0/0."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


def iou(hits: np.ndarray, truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return IoU from hits, true and predicted pixels; nan where there are none. Shape: three (…) → (…)."""
    return ratio(hits, truth + found - hits)


def known_mean(values: np.ndarray) -> float:
    """Return the mean of the values that are no nan; nan where none is left.

    Example:
        >>> known_mean(np.array([0.25, np.nan, 0.75]))
        0.5
    """
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
