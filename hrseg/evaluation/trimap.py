"""How scores fall towards the boundaries: the same counts in bands of growing width around them.

A band of r pixels holds the r pixels on each side of every place where two labelled classes of the mask meet; r = 1
are the pixels that touch the boundary.

Source: Kohli et al., "Robust higher order potentials for enforcing label consistency", IJCV 2009, who drew the first
such curve; the measure in pixels is ours.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from hrseg.evaluation.boundary import contour, ratio

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
