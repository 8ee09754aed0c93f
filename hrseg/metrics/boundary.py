"""Boundary quality: Boundary IoU, precision and recall of contours by distance, scores within a trimap.

Everything counts pixels of one image, as integers that add up over images; scores are formed from the sums. A map
is uint8: class + 1, and 0 for every pixel without a label and all beyond the image.

Source: Cheng et al., "Boundary IoU", arXiv:2103.16562; Csurka et al., "What is a good evaluation measure for
semantic segmentation?", BMVC 2013, for F at k pixels (ours sums over the set instead of averaging images).
"""

import itertools
from collections.abc import Sequence

import cv2
import numpy as np

from hrseg.errors import ConfigError
from hrseg.imaging.polygons import bounding_box
from hrseg.labels import IGNORE_INDEX
from hrseg.metrics.confusion import iou, ratio

RATIO = 0.02
"""Boundary width as a part of the image's diagonal, as published."""
DISTANCES = (1, 2, 3, 5, 8)
"""Distances in pixels at which contours are compared."""
BANDS = (1, 2, 4, 8, 16, 32)
"""Half-widths of the trimap, in pixels."""
_TOLERANCE = 1e-3  # distances are roots of whole numbers, computed in float32


def label_maps(mask: np.ndarray, pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mask and prediction as class + 1, and 0 in both wherever the mask has no label.

    Shape:
        (H, W), (H, W) → uint8 (H, W), (H, W)

    Example:
        >>> label_maps(np.array([[0, 255]]), np.array([[1, 1]]))[1].tolist()
        [[2, 0]]
    """
    valid = mask != IGNORE_INDEX
    first, second = (np.where(valid, ids + 1, 0).astype(np.uint8) for ids in (mask, pred))
    return first, second


def boundary_width(height: int, width: int, ratio: float = RATIO) -> int:
    """Return a boundary's width in pixels, 1 or more.

    Example:
        >>> boundary_width(360, 480)
        12
    """
    return max(1, round(ratio * float(np.hypot(height, width))))


def inner_boundary(labels: np.ndarray, width: int) -> np.ndarray:
    """Mark the pixels within a width of their own class's contour, on the inside.

    That is each mask minus its erosion, for all classes at once: a pixel stays unmarked where all pixels of the
    square around it have its class. A mask cut off by the image's border ends there, and has a contour.

    Args:
        labels: As `label_maps` gives them.
        width: In pixels, counted in rows or columns, as 3x3 erosions count.

    Shape:
        (H, W) → bool (H, W)
    """
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    border = {"borderType": cv2.BORDER_CONSTANT, "borderValue": 0}
    smallest = cv2.erode(labels, square, **border)  # type: ignore[call-overload]
    largest = cv2.dilate(labels, square, **border)  # type: ignore[call-overload]
    marked: np.ndarray = (smallest != largest) & (labels > 0)
    return marked


def boundary_counts(mask: np.ndarray, pred: np.ndarray, classes: int, widths: Sequence[int]) -> np.ndarray:
    """Count the pixels of Boundary IoU for each width: hits, true and predicted boundary of each class.

    Shape:
        maps (H, W), (H, W) → int64 (widths, 3, K)
    """
    counts = np.zeros((len(widths), 3, classes), dtype=np.int64)  # (widths, 3, K)
    for row, width in zip(counts, widths, strict=True):
        true, predicted = inner_boundary(mask, width), inner_boundary(pred, width)  # (H, W)
        both = true & predicted & (mask == pred)  # (H, W)
        row[:] = [_count(part, classes) for part in (mask[both], mask[true], pred[predicted])]
    return counts


def boundary_iou(counts: np.ndarray) -> np.ndarray:
    """Return Boundary IoU of each class; nan where there is no boundary. Shape: (…, 3, K) → (…, K)."""
    return iou(*np.moveaxis(counts.astype(np.float64), -2, 0))


def contour(labels: np.ndarray) -> np.ndarray:
    """Mark the pixels above, below, left or right of which another class begins.

    Neither the image's border nor the border to pixels without a label is a contour: what is beyond is unknown.

    Shape:
        (H, W) → bool (H, W)

    Example:
        >>> contour(np.array([[1, 1, 2, 0, 1]], np.uint8)).astype(int).tolist()
        [[0, 1, 1, 0, 0]]
    """
    marked = np.zeros(labels.shape, dtype=bool)
    for one, other, here, there in (
        (labels[:, :-1], labels[:, 1:], marked[:, :-1], marked[:, 1:]),
        (labels[:-1], labels[1:], marked[:-1], marked[1:]),
    ):
        meet = (one != other) & (one > 0) & (other > 0)  # between neighbors in a row or column
        here |= meet
        there |= meet
    return marked


def contour_counts(
    mask: np.ndarray, pred: np.ndarray, classes: int, distances: Sequence[float] = DISTANCES
) -> np.ndarray:
    """Count contour pixels that have a contour pixel of the same class in the other map close by.

    Returns:
        For the mask's contours and the prediction's: pixels of each class, and how many of them are met within
        each (Euclidean) distance.

    Shape:
        maps (H, W), (H, W) → int64 (2, 1 + distances, K)
    """
    counts = np.zeros((2, 1 + len(distances), classes), dtype=np.int64)
    maps = [np.where(contour(labels), labels, 0) for labels in (mask, pred)]  # (H, W) each
    reach = int(np.ceil(max(distances, default=0))) + 1
    for label in np.union1d(*maps):
        if label == 0:
            continue
        true, predicted = (lines == label for lines in maps)  # (H, W)
        for side, (lines, others) in enumerate(((true, predicted), (predicted, true))):
            counts[side, 0, label - 1] = lines.sum()
            if lines.any() and others.any():
                distance = _distances(lines, others, reach)  # one for each pixel of lines
                counts[side, 1:, label - 1] = [(distance <= far + _TOLERANCE).sum() for far in distances]
    return counts


def contour_scores(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return precision, recall and F at each distance, class by class.

    F is 0 where only one of the maps has a contour of the class, and nan where neither has.

    Shape:
        (2, 1 + D, K) → three of (D, K)
    """
    true, predicted = counts.astype(np.float64)  # (1 + D, K) each
    recall, precision = (ratio(side[1:], side[:1]) for side in (true, predicted))  # (D, K) each
    # 2PR / (P + R), written so that an absent side makes it 0
    product = np.nan_to_num(recall) * np.nan_to_num(precision)
    total = np.nan_to_num(recall) + np.nan_to_num(precision)
    absent = (true[:1] == 0) & (predicted[:1] == 0)  # (1, K)
    scores = np.where(absent, np.nan, 2 * product / np.where(total > 0, total, 1))
    return precision, recall, scores


def band_counts(mask: np.ndarray, pred: np.ndarray, classes: int, bands: Sequence[int] = BANDS) -> np.ndarray:
    """Count hits, true and predicted pixels of each class within each band of the trimap.

    Shape:
        maps (H, W), (H, W) → int64 (bands, 3, K)
    """
    counts = np.zeros((len(bands), 3, classes), dtype=np.int64)
    touching = contour(mask)  # (H, W)
    if not touching.any():
        return counts
    distance = _distance_to(touching)
    for row, band in zip(counts, bands, strict=True):
        near = (distance < band - _TOLERANCE) & (mask > 0)
        true, predicted = mask[near], pred[near]  # pixels of the band
        row[:] = [_count(part, classes) for part in (true[true == predicted], true, predicted)]
    return counts


def band_scores(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return IoU of each class and pixel accuracy in each band; nan where nothing was counted.

    Shape:
        (R, 3, K) → (R, K), (R,)
    """
    hits, true, predicted = np.moveaxis(counts.astype(np.float64), -2, 0)  # (R, K) each
    return iou(hits, true, predicted), ratio(hits.sum(axis=-1), true.sum(axis=-1))


def check_distances(name: str, values: Sequence[float]) -> None:
    """Refuse distances that cannot be measured.

    Raises:
        ConfigError: There is none, one is below 1, or they do not rise.
    """
    rises = all(one < other for one, other in itertools.pairwise(values))
    if not values or min(values) < 1 or not rises:
        listed = " ".join(f"{value:g}" for value in values) or "none"
        raise ConfigError(f"{name} {listed} cannot be used. Give pixels, 1 or more, in rising order, such as 1 2 4 8.")


def _count(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.bincount(labels, minlength=classes + 1)[1:]  # without 0, which is no class


def _distances(lines: np.ndarray, others: np.ndarray, reach: int) -> np.ndarray:
    """Distance of each pixel of a contour from the other one; the transform is cut to what can matter."""
    box = bounding_box(lines)
    window = tuple(slice(max(0, part.start - reach), part.stop + reach) for part in box)
    if not others[window].any():
        return np.full(int(lines.sum()), np.inf)
    return _distance_to(others[window])[lines[window]]


def _distance_to(marked: np.ndarray) -> np.ndarray:
    return cv2.distanceTransform((~marked).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
