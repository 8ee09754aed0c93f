"""Prediction: what a network says about one image, and nothing of how it came to say so."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrseg.data.labels import LabelSet
from hrseg.errors import ConfigError
from hrseg.viz import overlay

MAPS = ("confidence", "probabilities", "entropy", "margin")
"""What `Predictor(keep=...)` can keep beside the mask."""
DEFAULT_KINDS = ("mask", "overlay")
"""Kinds of files that are written where nobody chooses."""


@dataclass(frozen=True)
class Prediction:
    """What a network says about one image.

    Attributes:
        mask: trainIds, uint8 (H, W).
        confidence: Probability of the chosen class, float32 (H, W); None where only labels were asked for.
        labels: The classes.
        image: The image it is about, uint8 RGB (H, W, 3); of other bands the first three, stretched.
        name: Stem of the image's file, or "image".
        probabilities: Of the classes that were kept, float16 (k, H, W); None where none were.
        kept: trainIds of these classes, in their order.
        entropy: Of the probabilities of all classes in parts of its maximum, 0 … 1, float32 (H, W), or None.
        margin: Largest probability less the second, float32 (H, W), or None.
        origin: What a person would call the image: its path, its address.
        transform: (a, b, c, d, e, f) where the image has a place on the ground: the corner of pixel (row, column) lies
            at x = a column + b row + c, y = d column + e row + f.
        crs: Coordinate system of x and y, such as "EPSG:32632".
        mean_confidence: Mean probability of the chosen classes, over every fourth row and column.
    """

    mask: np.ndarray
    confidence: np.ndarray | None
    labels: LabelSet
    image: np.ndarray
    name: str = "image"
    probabilities: np.ndarray | None = None
    kept: tuple[int, ...] = ()
    entropy: np.ndarray | None = None
    margin: np.ndarray | None = None
    origin: str = ""
    transform: tuple[float, float, float, float, float, float] | None = None
    crs: str | None = None
    mean_confidence: float = math.nan

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.mask.shape[0], self.mask.shape[1]

    def kept_map(self, name: str) -> np.ndarray:
        """Return one of MAPS.

        Raises:
            ConfigError: It was not kept.
        """
        values: np.ndarray | None = getattr(self, name)
        if values is None:
            raise ConfigError(
                f"The {name} of '{self.name}' was not kept. Open the predictor with keep=('{name}',)."
            )
        return values

    def ids(self) -> np.ndarray:
        """Return the mask in the dataset's own ids. Shape: (H, W)."""
        return self.labels.decode(self.mask)

    def shares(self) -> dict[str, float]:
        """Return class name → share of the pixels, largest first, absent classes left out."""
        counts = np.bincount(self.mask.ravel(), minlength=self.labels.num_classes)
        order = np.argsort(-counts[: self.labels.num_classes], kind="stable")
        return {self.labels.names[i]: float(counts[i] / self.mask.size) for i in order if counts[i]}

    def overlay(self, alpha: float = 0.55, legend: bool = True) -> np.ndarray:
        """Return the image under its classes, with a legend. Shape: uint8 (H', W', 3)."""
        return overlay(self.image, self.mask, self.labels, alpha=alpha, legend=legend)

    def save(
        self, folder: str | Path, stem: str | None = None, kinds: Sequence[str] = DEFAULT_KINDS
    ) -> tuple[Path, ...]:
        """Write STEM_mask.png (palette PNG of dataset ids) and STEM_overlay.png or others, each whole or not at all.

        Args:
            folder: Where; it is made where it is missing.
            stem: None takes the image's.
            kinds: Rows of `outputs.OUTPUTS`.

        Returns:
            Their paths, in the order of the kinds.

        Raises:
            ConfigError: An unknown kind, or one that needs a map that was not kept.
            DataError: A file cannot be written.
        """
        from hrseg.inference.outputs import write_all  # which writes what this file defines

        return tuple(write_all(self, folder, stem or self.name, kinds).values())
