"""Contribution of each branch: the image is segmented again with one branch switched off at a time.

A branch that is off says everywhere what it says on average, so that the head still receives what it is used to; zeros
would be another image, not a missing branch. Ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hrseg.errors import ConfigError, DataError
from hrseg.labels import IGNORE_INDEX
from hrseg.metrics.confusion import scores


@dataclass(frozen=True)
class Ablation:
    """The decisions on one image, with all branches and without each.

    Attributes:
        full: trainIds with all branches, uint8 (H, W).
        without: The same without branch 0, 1, …
        classes: K.
    """

    full: np.ndarray
    without: tuple[np.ndarray, ...]
    classes: int

    def changed(self) -> np.ndarray:
        """Return the share of the pixels of each class, as fully decided, that change; nan where there are none.

        Shape:
            → (branches, K)
        """
        pixels = np.bincount(self.full.ravel(), minlength=self.classes)
        rows = [
            np.bincount(self.full[mask != self.full], minlength=self.classes)
            for mask in self.without
        ]
        return np.where(pixels > 0, np.array(rows) / np.maximum(pixels, 1), np.nan)

    def changed_in_all(self) -> np.ndarray:
        """Return the share of all pixels that change. Shape: → (branches,)."""
        return np.array([(mask != self.full).mean() for mask in self.without])

    def iou_changes(self, truth: np.ndarray) -> np.ndarray:
        """Return how each class's IoU changes; below 0 the branch was of use. nan where there is no such class.

        Args:
            truth: The mask; pixels of 255 count nowhere.

        Raises:
            DataError: The mask has another size.

        Shape:
            truth (H, W) → (branches, K)
        """
        if truth.shape != self.full.shape:
            raise DataError(
                f"The mask is {truth.shape[0]} x {truth.shape[1]}, the image {self.full.shape[0]} x "
                f"{self.full.shape[1]}. Give the mask of this image."
            )
        whole = _ious(truth, self.full, self.classes)
        return np.array([_ious(truth, mask, self.classes) - whole for mask in self.without])


def switch_off(network: Any, image: torch.Tensor) -> Ablation:
    """Decide an image with all branches, and without each.

    Args:
        network: With `forward_branches`, `head` and `upsample`, as a Segmenter has them; in evaluation mode.
        image: Normalized.

    Raises:
        ConfigError: The network has no branches that can be reached.

    Shape:
        image (1, bands, H, W)
    """
    check_branches(network)
    size = (int(image.shape[-2]), int(image.shape[-1]))
    with torch.inference_mode():
        maps = network.forward_branches(image)
        full = decide(network, maps, size)
        without = [decide(network, silenced(maps, off), size) for off in range(len(maps))]
    return Ablation(full, tuple(without), network.num_classes)


def silenced(maps: Sequence[torch.Tensor], off: int) -> list[torch.Tensor]:
    """Replace one branch by its own mean over the image.

    Example:
        >>> silenced([torch.tensor([[[[1.0, 3.0]]]])], 0)[0].tolist()
        [[[[2.0, 2.0]]]]
    """
    return [
        x.mean(dim=(2, 3), keepdim=True).expand_as(x) if branch == off else x
        for branch, x in enumerate(maps)
    ]


def decide(network: Any, maps: Sequence[torch.Tensor], size: tuple[int, int]) -> np.ndarray:
    """Return the classes that follow from branch maps. Shape: → uint8 (H, W)."""
    logits = network.upsample(network.head(list(maps))["main"], size)
    winner: np.ndarray = logits[0].argmax(dim=0).to(torch.uint8).cpu().numpy()
    return winner


def check_branches(network: Any) -> None:
    """Refuse networks that cannot be looked into.

    Raises:
        ConfigError: There are no branches, or no head that takes them.
    """
    wanted = ("forward_branches", "head", "upsample")
    if not all(hasattr(network, name) for name in wanted):
        kind = type(network).__name__
        raise ConfigError(
            f"A {kind} has no branches to look at. Give an HRNet: a checkpoint, a .safetensors release or a tag; an "
            "exported file and a whole network of smp keep theirs to themselves."
        )


def _ious(truth: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    valid = truth != IGNORE_INDEX
    cells = truth[valid].astype(np.int64) * classes + found[valid]
    matrix = np.bincount(cells, minlength=classes**2).reshape(classes, classes)
    ious: np.ndarray = scores(torch.from_numpy(matrix))["iou"].numpy()
    return ious
