"""Prediction: what a network says about one image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrseg.data.labels import IGNORE_INDEX, LabelSet
from hrseg.errors import ConfigError
from hrseg.imaging import Georeference
from hrseg.viz import overlay

MAPS = ("confidence", "probabilities", "entropy", "margin")
"""What `Predictor(keep=...)` can keep beside the mask."""
DEFAULT_KINDS = ("mask", "overlay")
"""Kinds of files that are written where nobody chooses."""


@dataclass(frozen=True)
class Prediction:
    """What a network says about one image. Pixels without data are 255 in the mask and NaN in all other maps.

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
        valid: Which pixels of the image have data, bool (H, W); None where all do.
        georeference: Where the image lies on the ground, if it says so.
        notes: What its file had to be told about, in sentences.
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
    valid: np.ndarray | None = None
    georeference: Georeference | None = None
    notes: tuple[str, ...] = ()
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
        """Return the mask in the dataset's own ids; pixels without data are `nodata_id`. Shape: (H, W)."""
        ids = self.labels.decode(self.mask)
        if self.valid is not None:
            nodata = nodata_id(self.labels)
            ids = ids.astype(np.uint16 if nodata > IGNORE_INDEX else ids.dtype)
            ids[~self.valid] = nodata
        return ids

    def counts(self) -> np.ndarray:
        """Return how many pixels with data each trainId has, 255 as well. Shape: (256,)."""
        return np.bincount(
            (self.mask if self.valid is None else self.mask[self.valid]).ravel(), minlength=256
        )

    def shares(self) -> dict[str, float]:
        """Return class name → share of the pixels with data, largest first, absent classes left out."""
        counts = self.counts()
        total = max(1, int(counts.sum()))
        order = np.argsort(-counts[: self.labels.num_classes], kind="stable")
        return {self.labels.names[i]: float(counts[i] / total) for i in order if counts[i]}

    def overlay(self, alpha: float = 0.55, legend: bool = True) -> np.ndarray:
        """Return the image under its classes, with a legend. Shape: uint8 (H', W', 3)."""
        return overlay(self.image, self.mask, self.labels, alpha=alpha, legend=legend)

    def save(
        self, folder: str | Path, stem: str | None = None, kinds: Sequence[str] = DEFAULT_KINDS
    ) -> tuple[Path, ...]:
        """Write STEM_mask.png (palette PNG of dataset ids), STEM_overlay.png or others, each whole or not at all.

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


def nodata_id(labels: LabelSet) -> int:
    """Return the id in mask files that means no data, which no class has: 255, or 65535 where ids go beyond 254."""
    return 65535 if max(label.id for label in labels.labels) > 254 else IGNORE_INDEX
