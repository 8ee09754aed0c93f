"""Augmentation: one image and its trainIds through scale, crop, colour and mirror, always in step.

Everything stays uint8. Masks are resized by nearest neighbour and filled with 255. A recipe gets a seed with
each image and draws from nothing else, so a sample does not depend on who computes it.
"""

import os
import random
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its newest version

import albumentations as A
import cv2
import numpy as np
import torch

from hrseg.data.labels import IGNORE_INDEX
from hrseg.errors import ConfigError

CROP_RETRIES = 10
NO_CLASS = -1


class TrainRecipe:
    """Random scale, crop, colours and mirror of one training image. Build it with `train_recipe`.

    Args:
        steps: albumentations transforms, in order.
    """

    def __init__(self, steps: list[A.BasicTransform]) -> None:
        self.compose = A.Compose(steps)

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, *, seed: int, wanted: int = NO_CLASS
    ) -> tuple[np.ndarray, np.ndarray]:
        """Vary one image and its mask.

        Args:
            image: uint8 RGB.
            mask: uint8 trainIds.
            seed: Decides everything random.
            wanted: Class the crop shall hold a pixel of, or NO_CLASS.

        Shape:
            (H, W, 3) and (H, W) → crop size
        """
        # One stream for all steps. set_random_seed would give each step the same stream, and the
        # mirror would know the scale.
        self.compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        varied = self.compose(image=image, mask=mask, wanted=wanted)
        return varied["image"], varied["mask"]


def train_recipe(
    *,
    crop: tuple[int, int],
    base_size: int | None = None,
    scale_min: float = 0.5,
    scale_max: float = 2.1,
    scale_step: float = 0.1,
    flip: float = 0.5,
    photometric: float = 0.0,
    max_class_share: float = 1.0,
) -> TrainRecipe:
    """Build the augmentation of the official recipes, and two of mmsegmentation's additions.

    Args:
        crop: (height, width) that comes out.
        base_size: Long side at scale 1; None keeps the native size.
        scale_min: Smallest scale.
        scale_max: Largest scale.
        scale_step: Distance between scales; both ends occur.
        flip: Probability of a mirrored image.
        photometric: Strength of the colour changes, 0 (none) to 1.
        max_class_share: Crops with more of one class are drawn again, up to ten times.

    Raises:
        ConfigError: scale_max is below scale_min.

    Source:
        HRNet-Semantic-Segmentation, lib/datasets/base_dataset.py (scale, pad, crop, flip);
        mmsegmentation, RandomCrop(cat_max_ratio) and PhotoMetricDistortion.
    """
    height, width = crop
    steps: list[A.BasicTransform] = [
        LongSideScale(scales(scale_min, scale_max, scale_step), base_size),
        ClassAwareCrop(height, width, max_class_share),
    ]
    if photometric:
        near_one = (1 - 0.5 * photometric, 1 + 0.5 * photometric)
        hue = 0.1 * photometric
        steps.append(
            A.ColorJitter(
                brightness=near_one, contrast=near_one, saturation=near_one, hue=(-hue, hue), p=0.8
            )
        )
    # An image smaller than the crop comes through it whole: padding last is the official
    # result, and the padding stays black whatever the colours do.
    steps.append(
        A.PadIfNeeded(
            min_height=height,
            min_width=width,
            position="top_left",
            border_mode=cv2.BORDER_CONSTANT,
            fill=0,
            fill_mask=IGNORE_INDEX,
        )
    )
    steps.append(A.HorizontalFlip(p=flip))
    return TrainRecipe(steps)


def scales(smallest: float, largest: float, step: float) -> list[float]:
    """List the scales, both ends included.

    Example:
        >>> len(scales(0.5, 2.1, 0.1))
        17
        >>> scales(1.0, 2.2, 0.5)
        [1.0, 1.5, 2.0, 2.2]

    Raises:
        ConfigError: largest is below smallest.
    """
    if largest < smallest:
        raise ConfigError(
            f"data.scale_max is {largest:g}, below data.scale_min {smallest:g}. Set it to {smallest:g} or more."
        )
    count = int((largest - smallest) / step + 1e-6) + 1
    found = [round(smallest + index * step, 6) for index in range(count)]
    return found if largest - found[-1] < 1e-6 else [*found, largest]


class LongSideScale(A.DualTransform):
    """Resize so that the long side is a random scale times base_size (or times its native length).

    Args:
        factors: Scales, drawn uniformly.
        base_size: Long side at scale 1; None is the native one.
    """

    def __init__(self, factors: list[float], base_size: int | None) -> None:
        super().__init__(p=1.0)
        self.factors = factors
        self.base_size = base_size

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw a scale and say the new (width, height)."""
        height, width = params["shape"][:2]
        long_side = max(height, width)
        target = int((self.base_size or long_side) * self.py_random.choice(self.factors) + 0.5)
        new = [max(1, int(side * target / long_side + 0.5)) for side in (width, height)]
        return {"size": tuple(new)}

    def apply(self, img: np.ndarray, size: tuple[int, int], **params: Any) -> np.ndarray:
        """Resize the image, bilinear."""
        return _resize(img, size, cv2.INTER_LINEAR)

    def apply_to_mask(self, mask: np.ndarray, size: tuple[int, int], **params: Any) -> np.ndarray:
        """Resize the mask, nearest neighbour: ids are never mixed."""
        return _resize(mask, size, cv2.INTER_NEAREST)


class ClassAwareCrop(A.DualTransform):
    """Cut out a random window, clipped to the image.

    Args:
        height: Of the window.
        width: Of the window.
        max_class_share: Windows where a class fills more of the valid pixels are drawn again, up to
            CROP_RETRIES times; the last one is taken.
    """

    def __init__(self, height: int, width: int, max_class_share: float = 1.0) -> None:
        super().__init__(p=1.0)
        self.height, self.width = height, width
        self.max_class_share = max_class_share

    @property
    def targets_as_params(self) -> list[str]:
        """Ask Compose to let these through."""
        return ["mask", "wanted"]

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw a window."""
        mask: np.ndarray = data["mask"]
        pixels = np.flatnonzero(mask == data["wanted"] if data["wanted"] != NO_CLASS else [])
        for _ in range(1 + CROP_RETRIES):
            row = column = None
            if len(pixels):  # gone where a small scale swallowed the class
                row, column = divmod(int(self.py_random.choice(pixels)), mask.shape[1])
            window = (
                self._place(mask.shape[0], self.height, row),
                self._place(mask.shape[1], self.width, column),
            )
            if self.max_class_share >= 1 or _largest_share(mask[window]) <= self.max_class_share:
                break
        return {"window": window}

    def _place(self, length: int, wanted: int, inside: int | None) -> slice:
        """Draw a stretch of one axis, holding the pixel `inside` where one is given."""
        size = min(wanted, length)
        low, high = 0, length - size
        if inside is not None:
            low, high = max(0, inside - size + 1), min(high, inside)
        start = self.py_random.randint(low, high)
        return slice(start, start + size)

    def apply(self, img: np.ndarray, window: tuple[slice, slice], **params: Any) -> np.ndarray:
        """Cut, for image and mask alike."""
        return np.ascontiguousarray(img[window])


def limit_threads(worker_id: int = 0) -> None:
    """Keep a loader process to one thread: parallel workers are the parallelism."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _resize(values: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
    if (values.shape[1], values.shape[0]) == size:
        return values
    return cv2.resize(values, size, interpolation=interpolation)


def _largest_share(mask: np.ndarray) -> float:
    counts = np.bincount(mask.ravel(), minlength=256)[:IGNORE_INDEX]
    return float(counts.max() / counts.sum()) if counts.any() else 1.0
