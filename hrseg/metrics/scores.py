"""Scores of an evaluation as plain values, formed from its statistics, ready for a page or for JSON."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hrseg.metrics.bootstrap import interval, interval_text
from hrseg.metrics.boundary import band_scores, boundary_iou, contour_scores
from hrseg.metrics.calibration import (
    TemperatureScaling,
    calibration_error,
    merge_bins,
    scale_temperature,
)
from hrseg.metrics.confusion import Scores, known_mean, ratio
from hrseg.metrics.records import class_counts
from hrseg.metrics.statistics import Statistics

WORST_SHARE = 0.1
"""Part of the images that `Results.mean_of_worst` averages."""


@dataclass(frozen=True)
class Results:
    """Scores of one evaluation: fractions, nan where nothing could be counted.

    Attributes:
        statistics: The counts they follow from.
        scores: Of the confusion matrix.
        low: Lower end of mIoU's 95 % interval over the draw of the images.
        high: Upper end.
        image_scores: Mean IoU of each image over the classes in its mask, (N,).
        boundary: Boundary IoU, (1 + D, K): first at the ratio of the diagonal, then at each distance.
        precision: Of contours, (D, K).
        recall: Of contours, (D, K).
        contour_f: Their F, (D, K).
        band_iou: IoU within each band, (R, K).
        band_accuracy: Pixel accuracy within each band, (R,).
        bins: Of confidence, (bins, 3).
        ece: Expected calibration error over all pixels.
        nll: Mean negative log-likelihood over all pixels.
        gaps: Mean confidence minus precision of each predicted class, (K,); above 0 it is overconfident.
        scaling: Temperature scaling.
    """

    statistics: Statistics
    scores: Scores
    low: float
    high: float
    image_scores: np.ndarray
    boundary: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    contour_f: np.ndarray
    band_iou: np.ndarray
    band_accuracy: np.ndarray
    bins: np.ndarray
    ece: float
    nll: float
    gaps: np.ndarray
    scaling: TemperatureScaling

    @property
    def worst(self) -> list[int]:
        """Numbers of the images, lowest mean IoU first."""
        return [int(index) for index in np.argsort(self.image_scores, kind="stable")]

    @property
    def widths(self) -> list[str]:
        """Names of the boundary widths, as rows of `boundary`."""
        settings = self.statistics.settings
        return [f"{100 * settings.ratio:g} %", *(f"{k} px" for k in settings.distances)]

    def interval(self, digits: int = 2) -> str:
        """Return mIoU's interval as text, in per cent."""
        return interval_text(self.low, self.high, len(self.statistics.records.names), digits)

    def mean_of_worst(self) -> float:
        """Return the mean over the worst tenth of the images, one image at least."""
        count = max(1, round(WORST_SHARE * len(self.image_scores)))
        return float(self.image_scores[self.worst[:count]].mean())

    def confusions(self, count: int = 8) -> list[tuple[str, str, float]]:
        """Return the most frequent confusions: true class, predicted class, share of the true one's pixels."""
        names = self.statistics.records.classes
        matrix = self.scores["matrix"].numpy().astype(np.float64)  # (K, K)
        shares = np.nan_to_num(ratio(matrix, matrix.sum(axis=1, keepdims=True)))  # (K, K)
        np.fill_diagonal(shares, 0)
        order = np.argsort(-shares, axis=None, kind="stable")[:count]
        pairs = [divmod(int(cell), len(names)) for cell in order]
        return [
            (names[row], names[column], float(shares[row, column])) for row, column in pairs if shares[row, column] > 0
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON; null where nothing could be counted."""
        statistics, scores, settings = self.statistics, self.scores, self.statistics.settings
        records, pixels = statistics.records, self.widths[1:]
        content = {
            "model": records.model,
            "images": len(records.names),
            "looked": statistics.protocol,
            **statistics.metadata,
            "miou": scores["miou"],
            "miou_interval": [self.low, self.high],
            "pixel_accuracy": scores["pixel_accuracy"],
            "mean_accuracy": scores["mean_accuracy"],
            "image_miou": known_mean(self.image_scores),
            "image_miou_worst_tenth": self.mean_of_worst(),
            "boundary_iou": _means(self.widths, self.boundary),
            "boundary_f": _means(pixels, self.contour_f),
            "boundary_precision": _means(pixels, self.precision),
            "boundary_recall": _means(pixels, self.recall),
            "trimap": {
                "pixels": settings.bands,
                "miou": [known_mean(row) for row in self.band_iou],
                "pixel_accuracy": self.band_accuracy,
            },
            "calibration": {
                "bins": settings.bins,
                "ece": self.ece,
                "nll": self.nll,
                "table": [
                    {
                        "pixels": int(count),
                        "confidence": confidence / count if count else None,
                        "accuracy": correct / count if count else None,
                    }
                    for count, confidence, correct in self.bins.tolist()
                ],
                "temperature": vars(self.scaling),
            },
            "classes": {
                name: {
                    "iou": float(scores["iou"][k]),
                    "precision": float(scores["precision"][k]),
                    "recall": float(scores["recall"][k]),
                    "share": float(scores["share"][k]),
                    "boundary_iou": self.boundary[0, k],
                    "boundary_f": dict(zip(pixels, self.contour_f[:, k], strict=True)),
                    "confidence_minus_precision": self.gaps[k],
                }
                for k, name in enumerate(records.classes)
            },
            "confusions": [
                {"true": true, "chosen": chosen, "share": share} for true, chosen, share in self.confusions()
            ],
            "image_scores": {records.names[i]: self.image_scores[i] for i in self.worst},
        }
        plain: dict[str, Any] = _plain(content)
        return plain


def results(statistics: Statistics) -> Results:
    """Form every score from the counts.

    Raises:
        DataError: There is nothing to form it from.
    """
    records, samples, settings = statistics.records, statistics.samples, statistics.settings
    summed = {name: values.sum(axis=0, dtype=np.float64) for name, values in statistics.counts.items()}
    scores = records.scores()
    low, high = interval(records)
    precision, recall, contour_f = contour_scores(summed["contours"])  # (D, K) each
    band_iou, band_accuracy = band_scores(summed["bands"])  # (R, K), (R,)
    predicted = records.matrices.sum(axis=(0, 1))  # (K,)
    bins = merge_bins(summed["bins"], settings.bins)  # (bins, 3)
    return Results(
        statistics=statistics,
        scores=scores,
        low=low,
        high=high,
        image_scores=image_scores(records.matrices),
        boundary=boundary_iou(summed["boundary"]),
        precision=precision,
        recall=recall,
        contour_f=contour_f,
        band_iou=band_iou,
        band_accuracy=band_accuracy,
        bins=bins,
        ece=calibration_error(bins),
        nll=float(summed["nll"] / bins[:, 0].sum()),
        gaps=ratio(summed["confidence"], predicted) - scores["precision"].numpy(),
        scaling=scale_temperature(
            samples["logits"].astype(np.float32),
            samples["truth"].astype(np.int64),
            samples["image"],
            settings.bins,
        ),
    )


def image_scores(matrices: np.ndarray) -> np.ndarray:
    """Return the mean IoU of each image over the classes of its mask.

    A class that is predicted but not in the mask lowers the IoU of the others only; counted with IoU 0, a few of its
    pixels would weigh as much as a large class.

    Shape:
        (N, K, K) → (N,)
    """
    hits, truth, found = class_counts(matrices)  # (N, K) each
    ious = hits.astype(np.float64) / np.maximum(truth + found - hits, 1)  # (N, K)
    return (ious * (truth > 0)).sum(axis=-1) / np.maximum((truth > 0).sum(axis=-1), 1)


def _means(names: Iterable[str], rows: np.ndarray) -> dict[str, float]:
    """Mean of each row over the classes, by the row's name."""
    return {name: known_mean(row) for name, row in zip(names, rows, strict=True)}


def _plain(value: Any) -> Any:
    """Round floats to six digits, turn nan into None and arrays into lists, at every depth."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray | tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, float):  # np.float64 is one
        return None if np.isnan(value) else round(float(value), 6)
    return value
