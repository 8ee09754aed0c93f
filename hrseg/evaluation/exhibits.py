"""The worst images of an evaluation, kept small while it runs: photograph, mask, prediction.

Which images are the worst is known at the end; until then a heap holds the candidates, so that memory does not grow
with the number of images.
"""

import heapq
from dataclasses import dataclass

import cv2
import numpy as np

from hrseg.evaluation.results import image_scores

SIDE = 640
"""Longest side of what is kept, in pixels."""
WORST = 24


@dataclass(frozen=True)
class Exhibit:
    """One image as it is shown.

    Attributes:
        name: Of the image.
        score: Its mean IoU over the classes of its mask.
        matrix: Its confusion matrix, (K, K).
        image: uint8 RGB (h, w, 3), reduced.
        truth: The mask, uint8 (h, w), reduced.
        found: The prediction, uint8 (h, w), reduced.
    """

    name: str
    score: float
    matrix: np.ndarray
    image: np.ndarray
    truth: np.ndarray
    found: np.ndarray


class Worst:
    """The images with the lowest scores so far.

    Args:
        most: How many are kept.
    """

    def __init__(self, most: int = WORST) -> None:
        self.most = most
        self._heap: list[tuple[float, str, Exhibit]] = []

    def wants(self, matrix: np.ndarray) -> bool:
        """Tell whether an image of this confusion matrix is among the worst so far."""
        full = len(self._heap) >= self.most
        return self.most > 0 and (not full or -_score(matrix) > self._heap[0][0])

    def add(
        self, name: str, matrix: np.ndarray, image: np.ndarray, truth: np.ndarray, found: np.ndarray
    ) -> None:
        """Keep one image, reduced, and let the best of the others go where there are too many.

        Shape:
            image uint8 (H, W, 3), truth and found (H, W)
        """
        score = _score(matrix)
        exhibit = Exhibit(name, score, matrix, *reduced(image, truth, found))
        heapq.heappush(self._heap, (-score, name, exhibit))
        if len(self._heap) > self.most:
            heapq.heappop(self._heap)

    def exhibits(self) -> list[Exhibit]:
        """Return them, lowest score first."""
        return sorted((row[2] for row in self._heap), key=lambda one: (one.score, one.name))


def worst_of(shards: list[list[Exhibit]], most: int) -> list[Exhibit]:
    """Choose among the worst of several devices."""
    every = [exhibit for shard in shards for exhibit in shard]
    return sorted(every, key=lambda one: (one.score, one.name))[:most]


def reduced(
    image: np.ndarray, truth: np.ndarray, found: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bring image and masks to the size in which they are shown."""
    height, width = truth.shape
    factor = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    image = np.ascontiguousarray(image)
    masks = (
        cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        for mask in (truth, found)
    )
    small: np.ndarray = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return (small, *masks)  # type: ignore[return-value]


def _score(matrix: np.ndarray) -> float:
    return float(image_scores(matrix[None])[0])
