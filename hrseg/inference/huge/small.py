"""The reduced picture and mask of an overlay, made from bands."""

from collections.abc import Iterable

import cv2
import numpy as np

from hrseg.imaging import stretched
from hrseg.inference.grid import STRIDE

MOST = 2048
"""Longest side of the overlay's picture."""


class Reduced:
    """Means over squares of 2, 4 … 32 pixels; bands begin on a grid of 32, so no square lies in two of them.

    Args:
        size: (height, width) of the image.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.factor = 1
        while max(size) > MOST * self.factor and self.factor < STRIDE:
            self.factor *= 2

    def band(self, pixels: np.ndarray) -> np.ndarray:
        """Reduce the first three bands (or the first) of some rows. Shape: (rows, W, B) → (rows', W', 3 or 1)."""
        shown = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1]
        below, right = (-side % self.factor for side in shown.shape[:2])
        if below or right:
            shown = np.pad(shown, ((0, below), (0, right), (0, 0)), mode="edge")
        size = (shown.shape[1] // self.factor, shown.shape[0] // self.factor)
        small = cv2.resize(np.ascontiguousarray(shown), size, interpolation=cv2.INTER_AREA)
        return small if small.ndim == 3 else small[..., None]

    def picture(self, bands: Iterable[tuple[int, np.ndarray]], plain: bool) -> np.ndarray:
        """Put bands together, at most MOST pixels long. Shape: uint8 (h, w, 3)."""
        whole = np.concatenate([band for _, band in bands])
        small = cv2.resize(
            *(whole, _bounded(whole.shape[0], whole.shape[1])), interpolation=cv2.INTER_AREA
        )
        small = small if small.ndim == 3 else small[..., None]
        return small if plain else stretched(small)


def small_mask(
    bands: Iterable[tuple[int, np.ndarray]], size: tuple[int, int], factor: int
) -> np.ndarray:
    """Take the pixel in the middle of each square. Shape: → uint8 (h, w)."""
    height, width = (-(-side // factor) for side in size)
    columns = np.minimum(np.arange(width) * factor + factor // 2, size[1] - 1)
    rows = np.minimum(np.arange(height) * factor + factor // 2, size[0] - 1)
    small = np.empty((height, width), np.uint8)
    for top, values in bands:
        mine = np.flatnonzero((rows >= top) & (rows < top + len(values)))
        small[mine] = values[np.ix_(rows[mine] - top, columns)]
    return cv2.resize(small, _bounded(height, width), interpolation=cv2.INTER_NEAREST)


def _bounded(height: int, width: int) -> tuple[int, int]:
    """Return (width, height) as OpenCV has it, MOST at most."""
    shrink = min(1.0, MOST / max(height, width))
    return max(1, round(width * shrink)), max(1, round(height * shrink))
