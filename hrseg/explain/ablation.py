"""Contribution of each branch: the image is segmented again with one branch replaced by its mean at a time.

The mean over the image stays in the range of values that the head was trained on; zeros would not. Ours.
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
    """Predictions of one image, with all branches and without each.

    Attributes:
        full: trainIds with all branches, uint8 (H, W).
        without: The same without branch 0, 1, …
        classes: K.
    """

    full: np.ndarray
    without: tuple[np.ndarray, ...]
    classes: int

    def changed(self) -> np.ndarray:
        """Return the share of each class's pixels (as predicted with all branches) that change; nan without pixels.

        Shape:
            → (branches, K)
        """
        pixels = np.bincount(self.full.ravel(), minlength=self.classes)  # (K,)
        rows = [np.bincount(self.full[mask != self.full], minlength=self.classes) for mask in self.without]
        return np.where(pixels > 0, np.array(rows) / np.maximum(pixels, 1), np.nan)

    def changed_in_all(self) -> np.ndarray:
        """Return the share of all pixels that change. Shape: → (branches,)."""
        return np.array([(mask != self.full).mean() for mask in self.without])

    def iou_changes(self, truth: np.ndarray) -> np.ndarray:
        """Return the change of each class's IoU without the branch; negative where it helps, nan for an absent class.

        Args:
            truth: The mask; pixels of 255 are not counted.

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
        whole = _ious(truth, self.full, self.classes)  # (K,)
        return np.array([_ious(truth, mask, self.classes) - whole for mask in self.without])


def switch_off(network: Any, image: torch.Tensor) -> Ablation:
    """Predict an image with all branches, and without each.

    Args:
        network: With `forward_branches`, `head` and `upsample`, as a Segmenter has them; in evaluation mode.
        image: Normalized.

    Raises:
        ConfigError: The network does not give its branches.

    Shape:
        image (1, bands, H, W)
    """
    check_branches(network)
    size = (int(image.shape[-2]), int(image.shape[-1]))
    with torch.inference_mode():
        maps = network.forward_branches(image)  # (1, C * 2**i, H / (4 * 2**i), …)
        full = decide(network, maps, size)  # uint8 (H, W)
        without = [decide(network, silenced(maps, off), size) for off in range(len(maps))]
    return Ablation(full, tuple(without), network.num_classes)


def silenced(maps: Sequence[torch.Tensor], off: int) -> list[torch.Tensor]:
    """Replace one branch by its own mean over the image.

    Example:
        >>> silenced([torch.tensor([[[[1.0, 3.0]]]])], 0)[0].tolist()
        [[[[2.0, 2.0]]]]
    """
    return [x.mean(dim=(2, 3), keepdim=True).expand_as(x) if branch == off else x for branch, x in enumerate(maps)]


def decide(network: Any, maps: Sequence[torch.Tensor], size: tuple[int, int]) -> np.ndarray:
    """Predict from branch maps. Shape: → uint8 (H, W)."""
    logits = network.upsample(network.head(list(maps))["main"], size)  # (1, K, H, W)
    winner: np.ndarray = logits[0].argmax(dim=0).to(torch.uint8).cpu().numpy()  # (H, W)
    return winner


def check_branches(network: Any) -> None:
    """Refuse networks that do not give their branches.

    Raises:
        ConfigError: There are no branches, or no head that takes them.
    """
    wanted = ("forward_branches", "head", "upsample")
    if not all(hasattr(network, name) for name in wanted):
        kind = type(network).__name__
        raise ConfigError(
            f"A {kind} does not give its branches. Give an HRNet: a checkpoint, a .safetensors release or a tag, "
            "not an exported file or a whole network of smp."
        )


def _ious(truth: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    valid = truth != IGNORE_INDEX
    cells = truth[valid].astype(np.int64) * classes + found[valid]  # (pixels,)
    matrix = np.bincount(cells, minlength=classes**2).reshape(classes, classes)  # (K, K)
    ious: np.ndarray = scores(torch.from_numpy(matrix))["iou"].numpy()
    return ious
