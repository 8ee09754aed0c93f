"""How well contours are met: Boundary IoU, and precision and recall of contours by distance.

Everything counts pixels of one image, as integers that add up over images; scores are formed from the sums. A map
is uint8: class + 1, and 0 for what lies outside, which is every pixel without a label and all beyond the image.

Source: Cheng et al., "Boundary IoU", arXiv:2103.16562; Csurka et al., "What is a good evaluation measure for
semantic segmentation?", BMVC 2013, for F at k pixels (ours sums over the set instead of averaging images).
"""

import itertools
from collections.abc import Sequence

import cv2
import numpy as np

from hrseg.errors import ConfigError
from hrseg.labels import IGNORE_INDEX

RATIO = 0.02
"""Boundary width as a part of the image's diagonal, as published."""
DISTANCES = (1, 2, 3, 5, 8)
"""Distances in pixels at which contours are compared."""
_EXACT = 1e-3  # distances are roots of whole numbers, computed in float32


def label_maps(truth: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mask and prediction as class + 1, and 0 in both wherever the mask has no label.

    Shape:
        (H, W), (H, W) → uint8 (H, W), (H, W)

    Example:
        >>> label_maps(np.array([[0, 255]]), np.array([[1, 1]]))[1].tolist()
        [[2, 0]]
    """
    valid = truth != IGNORE_INDEX
    return (
        np.where(valid, truth + 1, 0).astype(np.uint8),
        np.where(valid, found + 1, 0).astype(np.uint8),
    )


def boundary_width(height: int, width: int, ratio: float = RATIO) -> int:
    """Return a boundary's width in pixels, 1 or more.

    Example:
        >>> boundary_width(360, 480)
        12
    """
    return max(1, round(ratio * float(np.hypot(height, width))))


def inner_boundary(labels: np.ndarray, width: int) -> np.ndarray:
    """Mark the pixels that are within a width of their own class's contour, on the inside.

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


def boundary_counts(
    truth: np.ndarray, found: np.ndarray, classes: int, widths: Sequence[int]
) -> np.ndarray:
    """Count the pixels of Boundary IoU.

    Args:
        truth: The mask, as `label_maps` gives it.
        found: The prediction, likewise.
        classes: K.
        widths: Of the boundary, in pixels.

    Returns:
        For each width: pixels of each class in both boundaries, in the mask's, in the prediction's.

    Shape:
        (H, W), (H, W) → int64 (widths, 3, K)
    """
    counts = np.zeros((len(widths), 3, classes), dtype=np.int64)
    for row, width in zip(counts, widths, strict=True):
        mine, theirs = inner_boundary(truth, width), inner_boundary(found, width)
        both = mine & theirs & (truth == found)
        row[:] = [_by_class(truth, here, classes) for here in (both, mine)] + [
            _by_class(found, theirs, classes)
        ]
    return counts


def boundary_iou(counts: np.ndarray) -> np.ndarray:
    """Return Boundary IoU of each class; nan where there is no boundary. Shape: (…, 3, K) → (…, K)."""
    both, mine, theirs = np.moveaxis(counts.astype(np.float64), -2, 0)
    return ratio(both, mine + theirs - both)


def contour(labels: np.ndarray) -> np.ndarray:
    """Mark the pixels beside which another class begins: above, below, left or right.

    The image's border is no contour, nor is the border to pixels without a label: nobody knows what lies there.

    Args:
        labels: As `label_maps` gives them.

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
        meet = (one != other) & (one > 0) & (other > 0)
        here |= meet
        there |= meet
    return marked


def contour_counts(
    truth: np.ndarray, found: np.ndarray, classes: int, distances: Sequence[float] = DISTANCES
) -> np.ndarray:
    """Count contour pixels that have a contour pixel of the same class in the other map close by.

    Args:
        truth: The mask, as `label_maps` gives it.
        found: The prediction, likewise.
        classes: K.
        distances: In pixels, Euclidean.

    Returns:
        For the mask's contours and the prediction's: how many pixels of each class, and how many of them are
        met within each distance.

    Shape:
        (H, W), (H, W) → int64 (2, 1 + distances, K)
    """
    counts = np.zeros((2, 1 + len(distances), classes), dtype=np.int64)
    maps = [np.where(contour(labels), labels, 0) for labels in (truth, found)]
    reach = int(np.ceil(max(distances, default=0))) + 1
    for label in np.union1d(*maps):
        if label == 0:
            continue
        mine, theirs = (lines == label for lines in maps)
        for side, (lines, others) in enumerate(((mine, theirs), (theirs, mine))):
            counts[side, 0, label - 1] = lines.sum()
            if lines.any() and others.any():
                away = _distances(lines, others, reach)
                counts[side, 1:, label - 1] = [(away <= far + _EXACT).sum() for far in distances]
    return counts


def contour_scores(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return precision, recall and F at each distance, class by class.

    F is 0 where only one of the maps has a contour of the class, and nan where neither has.

    Shape:
        (2, 1 + D, K) → three of (D, K)
    """
    mine, theirs = counts.astype(np.float64)
    recall, precision = (ratio(side[1:], side[:1]) for side in (mine, theirs))
    # 2PR / (P + R), written so that an absent side makes it 0
    met = np.nan_to_num(recall) * np.nan_to_num(precision)
    total = np.nan_to_num(recall) + np.nan_to_num(precision)
    absent = (mine[:1] == 0) & (theirs[:1] == 0)
    scores = np.where(absent, np.nan, 2 * met / np.where(total > 0, total, 1))
    return precision, recall, scores


def check_distances(name: str, values: Sequence[float]) -> None:
    """Refuse distances that cannot be measured.

    Raises:
        ConfigError: There is none, one is below 1, or they do not rise.
    """
    rises = all(one < other for one, other in itertools.pairwise(values))
    if not values or min(values) < 1 or not rises:
        listed = " ".join(f"{value:g}" for value in values) or "none"
        raise ConfigError(
            f"{name} {listed} cannot be used. Give pixels, 1 or more, in rising order, such as 1 2 4 8."
        )


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide, with nan for every 0/0."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


def _by_class(labels: np.ndarray, where: np.ndarray, classes: int) -> np.ndarray:
    return np.bincount(labels[where], minlength=classes + 1)[1:]


def _distances(lines: np.ndarray, others: np.ndarray, reach: int) -> np.ndarray:
    """Return how far each pixel of a contour is from the other one, looking no farther than matters."""
    rows, columns = np.flatnonzero(lines.any(axis=1)), np.flatnonzero(lines.any(axis=0))
    window = tuple(slice(max(0, part[0] - reach), part[-1] + reach + 1) for part in (rows, columns))
    if not others[window].any():
        return np.full(int(lines.sum()), np.inf)
    free = (~others[window]).astype(np.uint8)
    away: np.ndarray = cv2.distanceTransform(free, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return away[lines[window]]


BANDS = (1, 2, 4, 8, 16, 32)


def band_counts(
    truth: np.ndarray, found: np.ndarray, classes: int, bands: Sequence[int] = BANDS
) -> np.ndarray:
    """Count hits, true and found pixels of each class within each band.

    Args:
        truth: The mask, as `boundary.label_maps` gives it.
        found: The prediction, likewise.
        classes: K.
        bands: Widths in pixels.

    Shape:
        (H, W), (H, W) → int64 (bands, 3, K)
    """
    counts = np.zeros((len(bands), 3, classes), dtype=np.int64)
    touching = contour(truth)
    if not touching.any():
        return counts
    away = cv2.distanceTransform((~touching).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    for row, band in zip(counts, bands, strict=True):
        near = (away < band - 1e-3) & (truth > 0)
        mine, theirs = truth[near], found[near]
        row[:] = [
            np.bincount(labels, minlength=classes + 1)[1:]
            for labels in (mine[mine == theirs], mine, theirs)
        ]
    return counts


def band_scores(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return IoU of each class and pixel accuracy in each band; nan where nothing was counted.

    Shape:
        (R, 3, K) → (R, K), (R,)
    """
    hits, truth, found = np.moveaxis(counts.astype(np.float64), -2, 0)
    return ratio(hits, truth + found - hits), ratio(hits.sum(axis=-1), truth.sum(axis=-1))
