"""From evidence to figures: every score of an evaluation as plain values, ready for a page or for JSON.

Nothing is computed twice and nothing needs the network: all follows from the counts of the images.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hrseg.metrics.bootstrap import interval
from hrseg.metrics.boundary import band_scores, boundary_iou, contour_scores, ratio
from hrseg.metrics.calibration import TemperatureScaling, calibration_error, mend, merge_bins
from hrseg.metrics.confusion import Scores, known_mean
from hrseg.metrics.statistics import Evidence

WORST_SHARE = 0.1
"""Part of the images that "the worst images" means."""


@dataclass(frozen=True)
class Results:
    """The figures of one evaluation: fractions, nan where nothing could be counted.

    Attributes:
        evidence: What they follow from.
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
        gaps: Mean confidence minus precision of each class as chosen, (K,); above 0 it is too sure.
        mending: The temperature.
    """

    evidence: Evidence
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
    mending: TemperatureScaling

    @property
    def worst(self) -> list[int]:
        """Numbers of the images, lowest mean IoU first."""
        return [int(index) for index in np.argsort(self.image_scores, kind="stable")]

    def mean_of_worst(self) -> float:
        """Return the mean over the worst tenth of the images, one image at least."""
        count = max(1, round(WORST_SHARE * len(self.image_scores)))
        return float(self.image_scores[self.worst[:count]].mean())

    def confusions(self, most: int = 8) -> list[tuple[str, str, float]]:
        """Return what is most often taken for what: true class, chosen class, share of the true one's pixels."""
        names = self.evidence.ledger.classes
        matrix = self.scores["matrix"].numpy().astype(np.float64)
        shares = np.nan_to_num(ratio(matrix, matrix.sum(axis=1, keepdims=True)))
        np.fill_diagonal(shares, 0)
        order = np.argsort(-shares, axis=None, kind="stable")[:most]
        pairs = [divmod(int(cell), len(names)) for cell in order]
        return [
            (names[row], names[column], float(shares[row, column]))
            for row, column in pairs
            if shares[row, column] > 0
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON; null where nothing could be counted."""
        evidence, scores, rulers = self.evidence, self.scores, self.evidence.rulers
        names = evidence.ledger.classes
        widths = [f"{100 * rulers.ratio:g} %", *(f"{k} px" for k in rulers.distances)]
        return {
            "model": evidence.ledger.model,
            "images": len(evidence.ledger.names),
            "looked": evidence.looked,
            **dict(evidence.facts),
            "miou": _plain(scores["miou"]),
            "miou_interval": [_plain(self.low), _plain(self.high)],
            "pixel_accuracy": _plain(scores["pixel_accuracy"]),
            "mean_accuracy": _plain(scores["mean_accuracy"]),
            "image_miou": _plain(known_mean(self.image_scores)),
            "image_miou_worst_tenth": _plain(self.mean_of_worst()),
            "boundary_iou": {
                width: _plain(known_mean(row))
                for width, row in zip(widths, self.boundary, strict=True)
            },
            "boundary_f": _by(rulers.distances, self.contour_f),
            "boundary_precision": _by(rulers.distances, self.precision),
            "boundary_recall": _by(rulers.distances, self.recall),
            "trimap": {
                "pixels": list(rulers.bands),
                "miou": [_plain(known_mean(row)) for row in self.band_iou],
                "pixel_accuracy": _plain(self.band_accuracy),
            },
            "calibration": {
                "bins": rulers.bins,
                "ece": _plain(self.ece),
                "nll": _plain(self.nll),
                "table": [
                    {
                        "pixels": int(count),
                        "confidence": _plain(sure / count) if count else None,
                        "accuracy": _plain(right / count) if count else None,
                    }
                    for count, sure, right in self.bins.tolist()
                ],
                "temperature": {
                    name: _plain(value) if not isinstance(value, int) else value
                    for name, value in vars(self.mending).items()
                },
            },
            "classes": {
                name: {
                    "iou": _plain(float(scores["iou"][k])),
                    "precision": _plain(float(scores["precision"][k])),
                    "recall": _plain(float(scores["recall"][k])),
                    "share": _plain(float(scores["share"][k])),
                    "boundary_iou": _plain(self.boundary[0, k]),
                    "boundary_f": _by_distance(rulers.distances, self.contour_f[:, k]),
                    "confidence_minus_precision": _plain(self.gaps[k]),
                }
                for k, name in enumerate(names)
            },
            "confusions": [
                {"true": true, "chosen": chosen, "share": _plain(share)}
                for true, chosen, share in self.confusions()
            ],
            "image_scores": {
                evidence.ledger.names[index]: _plain(self.image_scores[index])
                for index in self.worst
            },
        }


def results(evidence: Evidence) -> Results:
    """Form every score from the counts.

    Raises:
        DataError: There is nothing to form it from.
    """
    ledger, counts = evidence.ledger, evidence.counts
    summed = {name: values.sum(axis=0, dtype=np.float64) for name, values in counts.items()}
    scores = ledger.scores()
    low, high = interval(ledger)
    precision, recall, contour_f = contour_scores(summed["contours"])
    band_iou, band_accuracy = band_scores(summed["bands"])
    chosen = ledger.matrices.sum(axis=(0, 1))
    bins = merge_bins(summed["bins"], evidence.rulers.bins)
    samples = evidence.samples
    return Results(
        evidence=evidence,
        scores=scores,
        low=low,
        high=high,
        image_scores=image_scores(ledger.matrices),
        boundary=boundary_iou(summed["boundary"]),
        precision=precision,
        recall=recall,
        contour_f=contour_f,
        band_iou=band_iou,
        band_accuracy=band_accuracy,
        bins=bins,
        ece=calibration_error(bins),
        nll=float(summed["nll"] / bins[:, 0].sum()),
        gaps=ratio(summed["confidence"], chosen) - scores["precision"].numpy(),
        mending=mend(
            samples["logits"].astype(np.float32),
            samples["truth"].astype(np.int64),
            samples["image"],
            evidence.rulers.bins,
        ),
    )


def image_scores(matrices: np.ndarray) -> np.ndarray:
    """Return the mean IoU of each image over the classes that its mask has.

    A few pixels of a class that is not there lower the IoU of what is there; as a class of their own with IoU 0
    they would weigh as much as the street.

    Shape:
        (N, K, K) → (N,)
    """
    hits = np.diagonal(matrices, axis1=-2, axis2=-1).astype(np.float64)
    truth, found = matrices.sum(axis=-1), matrices.sum(axis=-2)
    ious = hits / np.maximum(truth + found - hits, 1)
    return (ious * (truth > 0)).sum(axis=-1) / np.maximum((truth > 0).sum(axis=-1), 1)


def _plain(value: Any) -> Any:
    """Round to six digits; nan becomes None."""
    if isinstance(value, np.ndarray | tuple | list):
        return [_plain(one) for one in value]
    return None if np.isnan(value) else round(float(value), 6)


def _by(distances: tuple[int, ...], rows: np.ndarray) -> dict[str, Any]:
    return {f"{k} px": _plain(known_mean(row)) for k, row in zip(distances, rows, strict=True)}


def _by_distance(distances: tuple[int, ...], values: np.ndarray) -> dict[str, Any]:
    return {f"{k} px": _plain(value) for k, value in zip(distances, values, strict=True)}
