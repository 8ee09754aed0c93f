"""Prediction: what a network says about one image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hrseg.errors import ConfigError
from hrseg.imaging import Georeference
from hrseg.labels import IGNORE_INDEX, LabelSet
from hrseg.ops.argmax import STEP, LabelBand, reduce_slices
from hrseg.viz import overlay

MAPS = ("confidence", "probabilities", "entropy", "margin")
"""What `Predictor(keep=...)` can keep beside the mask."""
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
        """Return the mask in the dataset's own ids; pixels without data are `labels.nodata_id`. Shape: (H, W)."""
        ids = self.labels.decode(self.mask)
        if self.valid is not None:
            nodata = self.labels.nodata_id
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
        self,
        folder: str | Path,
        stem: str | None = None,
        kinds: Sequence[str] = ("mask", "overlay"),
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


_DTYPES = {"probabilities": np.float16}


class Reduction:
    """Maps of some images of one size, filled block by block, and how sure the network was on average.

    Args:
        count: Images, N.
        size: (height, width).
        keep: Maps beside the mask: "confidence", "probabilities", "entropy", "margin".
        kept: trainIds of the classes whose probabilities are kept.

    Example:
        >>> maps = Reduction(1, (1, 2), keep=("margin",))
        >>> maps.add(0, 0, torch.tensor([[[[0.0, 9.0]], [[0.0, 0.0]]]]))
        >>> maps.of(0)["mask"].tolist(), maps.of(0)["margin"].round(2).tolist()
        ([[0, 0]], [[0.0, 1.0]])
        >>> maps.of(0)["mean_confidence"]
        0.5
    """

    def __init__(
        self,
        count: int,
        size: tuple[int, int],
        keep: tuple[str, ...] = (),
        kept: tuple[int, ...] = (),
    ) -> None:
        self.kept = list(kept)
        self.maps: dict[str, np.ndarray] = {"mask": np.empty((count, *size), np.uint8)}
        for name in keep:
            shape = (count, len(kept), *size) if name == "probabilities" else (count, *size)
            self.maps[name] = np.empty(shape, _DTYPES.get(name, np.float32))
        self.scores = tuple(name for name in keep if name != "probabilities")
        height, width = size
        sampled = (count, -(-height // STEP), -(-width // STEP))
        self.samples = np.full(sampled, np.nan, np.float32)  # the confidence of some pixels

    def add(self, top: int, left: int, logits: torch.Tensor) -> None:
        """Reduce one block. Shape: logits (N, K, rows, columns)."""
        want = (*self.scores, "samples")
        for band, rows in reduce_slices(top, left, logits, want):
            self.put(band, left, logits.shape[1])
            if "probabilities" in self.maps:
                total = torch.logsumexp(rows, dim=1, keepdim=True)
                probabilities = torch.exp(rows[:, self.kept] - total).half()
                _put(self.maps["probabilities"], band.top, left, probabilities)

    def put(self, band: LabelBand, left: int = 0, classes: int = 2) -> None:
        """Keep one band that is reduced already.

        Args:
            band: With "samples" and the scores that are kept.
            left: Its first column.
            classes: K, which the entropy is measured by.
        """
        _put(self.maps["mask"], band.top, left, band.labels)
        for name in self.scores:
            values = getattr(band, name)
            if name == "entropy":  # in parts of its maximum: 0 is certain, 1 is undecided
                values = (values / math.log(max(2, classes))).clamp(0, 1)
            _put(self.maps[name], band.top, left, values)
        if band.samples is not None:
            _put(self.samples, -(-band.top // STEP), -(-left // STEP), band.samples)

    def of(self, index: int, valid: np.ndarray | None = None) -> dict[str, Any]:
        """Return the maps of one image, which other images' do not keep in memory, and "mean_confidence".

        Args:
            index: Of the image.
            valid: Which pixels have data, bool (H, W); the others are 255 in the mask and NaN elsewhere.
        """
        alone = len(self.maps["mask"]) == 1
        maps = {name: m[index] if alone else m[index].copy() for name, m in self.maps.items()}
        sure = self.samples[index]
        if valid is not None:
            sure = sure[valid[::STEP, ::STEP]]
            for name, values in maps.items():
                values[..., ~valid] = IGNORE_INDEX if name == "mask" else np.nan
        sure = sure[~np.isnan(sure)]
        mean = float(sure.mean(dtype=np.float64)) if sure.size else math.nan
        return {"confidence": None, **maps, "mean_confidence": mean}


def _put(whole: np.ndarray, top: int, left: int, values: torch.Tensor) -> None:
    rows, columns = (slice(a, a + n) for a, n in zip((top, left), values.shape[-2:], strict=True))
    whole[..., rows, columns] = values.cpu().numpy()
