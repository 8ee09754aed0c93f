"""Augmentation: one image and its trainIds through scale, crop, colour and mirror, always in step.

Everything stays uint8. Masks are resized by nearest neighbour and filled with 255. A recipe gets a seed with
each image and draws from nothing else, so a sample does not depend on who computes it.
"""

import os
import random
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its newest version

import albumentations as A
import cv2
import numpy as np
import torch

from hrseg.data.colours import PHOTOMETRIC_RULES, BrightnessShift
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
    base_short_side: int | None = None,
    first_resize: str = "none",
    scale_min: float = 0.5,
    scale_max: float = 2.1,
    scale_step: float = 0.1,
    fill: tuple[int, int, int] = (0, 0, 0),
    flip: float = 0.5,
    flip_first: bool = False,
    flip_order: Sequence[int] | None = None,
    brightness_shift: int = 0,
    photometric: float = 0.0,
    photometric_rule: str = "jitter",
    max_class_share: float = 1.0,
) -> TrainRecipe:
    """Build the augmentation of the official recipes, with mmsegmentation's additions.

    Args:
        crop: (height, width) that comes out.
        base_size: Long side at scale 1; None keeps the native size.
        base_short_side: Short side at scale 1; with base_size too the image fits into both.
        first_resize: "none", "short_side" (to base_size) or "squash" (to the crop, whatever the shape).
        scale_min: Smallest scale.
        scale_max: Largest scale.
        scale_step: Distance between scales; both ends occur. 0 draws any number between them.
        fill: RGB right of and below an image that is smaller than the crop.
        flip: Probability of a mirrored image.
        flip_first: Mirror before everything else, so that padding stays right and below.
        flip_order: The trainId that each trainId becomes in a mirror; None changes none.
        brightness_shift: Largest shift of all channels, for half of the images.
        photometric: Strength of the colour changes, 0 (none) to 1.
        photometric_rule: "jitter" or "mmseg".
        max_class_share: Crops with more of one class are drawn again, up to ten times.

    Raises:
        ConfigError: scale_max is below scale_min, or a first resize without a size.

    Source:
        HRNet-Semantic-Segmentation, lib/datasets/base_dataset.py (first resize, scale, pad, crop, shift, flip)
        and lip.py (squash, flip first, exchanged classes); mmsegmentation, RandomResize,
        RandomCrop(cat_max_ratio) and PhotoMetricDistortion.
    """
    height, width = crop
    listed = scales(scale_min, scale_max, scale_step or 1)  # refuses a range upside down
    drawn: Scales = listed if scale_step else (scale_min, scale_max)
    steps: list[A.BasicTransform] = [
        *_FIRST[first_resize](crop, base_size),
        RandomScale(drawn, base_size, base_short_side),
        ClassAwareCrop(height, width, max_class_share),
    ]
    if photometric:
        steps.append(PHOTOMETRIC_RULES[photometric_rule](photometric))
    # An image smaller than the crop comes through it whole: padding last is the official
    # result, and the padding keeps its colour whatever the colours of the image do.
    steps.append(
        A.PadIfNeeded(
            min_height=height,
            min_width=width,
            position="top_left",
            border_mode=cv2.BORDER_CONSTANT,
            fill=fill,
            fill_mask=IGNORE_INDEX,
        )
    )
    if brightness_shift:
        steps.append(BrightnessShift(brightness_shift))
    steps.insert(0 if flip_first else len(steps), Mirror(flip, flip_order))
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


Scales = list[float] | tuple[float, float]
"""Scales to choose from, or the two ends of a range."""


class _Resize(A.DualTransform):
    """Image and mask to a (width, height) that a subclass decides."""

    def __init__(self) -> None:
        super().__init__(p=1.0)

    def apply(self, img: np.ndarray, size: tuple[int, int], **params: Any) -> np.ndarray:
        """Resize the image, bilinear."""
        return _resize(img, size, cv2.INTER_LINEAR)

    def apply_to_mask(self, mask: np.ndarray, size: tuple[int, int], **params: Any) -> np.ndarray:
        """Resize the mask, nearest neighbour: ids are never mixed."""
        return _resize(mask, size, cv2.INTER_NEAREST)


class FixedResize(_Resize):
    """Bring the image to one (height, width), or its short side to one length.

    Args:
        size: Wanted (height, width).
        short_side: Wanted short side, the shape kept.
    """

    def __init__(self, size: tuple[int, int] | None = None, short_side: int = 0) -> None:
        super().__init__()
        self.size, self.short_side = size, short_side

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Say the new (width, height)."""
        height, width = params["shape"][:2]
        if self.size is not None:
            return {"size": self.size[::-1]}
        factor = self.short_side / min(height, width)
        return {"size": (int(width * factor + 0.5), int(height * factor + 0.5))}


class RandomScale(_Resize):
    """Resize to a random scale times the base sizes, or times the native size.

    Args:
        drawn: Scales, drawn evenly.
        base_size: Long side at scale 1; None is the native one.
        short_side: Short side at scale 1; where both are given the image fits into both.
    """

    def __init__(self, drawn: Scales, base_size: int | None, short_side: int | None = None) -> None:
        super().__init__()
        self.drawn = drawn
        self.base_size, self.short_side = base_size, short_side

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw a scale and say the new (width, height)."""
        height, width = params["shape"][:2]
        random = self.py_random
        scale = (
            random.uniform(*self.drawn)
            if isinstance(self.drawn, tuple)
            else random.choice(self.drawn)
        )
        long, short = max(height, width), min(height, width)
        limits = ((self.base_size, long), (self.short_side, short))
        targets = [(int(base * scale + 0.5), side) for base, side in limits if base]
        if not targets:
            targets = [(int(long * scale + 0.5), long)]
        target, side = min(targets, key=lambda pair: pair[0] / pair[1])
        new = [max(1, int(length * target / side + 0.5)) for length in (width, height)]
        return {"size": tuple(new)}


class Mirror(A.HorizontalFlip):
    """Mirror image and mask; left and right classes change places.

    Args:
        probability: How often.
        order: The trainId that each trainId becomes; None changes none.
    """

    def __init__(self, probability: float, order: Sequence[int] | None = None) -> None:
        super().__init__(p=probability)
        self.table = np.arange(256, dtype=np.uint8)
        self.table[: len(order or ())] = order or ()

    def apply_to_mask(self, mask: np.ndarray, **params: Any) -> np.ndarray:
        """Mirror the mask and rename its classes."""
        return self.table[mask[:, ::-1]]


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


def _short_side_first(crop: tuple[int, int], base_size: int | None) -> list[A.BasicTransform]:
    if base_size is None:
        raise ConfigError(
            "data.first_resize is short_side, but data.base_size does not say to what. Set it, such as "
            "data.base_size=520."
        )
    return [FixedResize(short_side=base_size)]


_FIRST: dict[str, Callable[[tuple[int, int], int | None], list[A.BasicTransform]]] = {
    "none": lambda crop, base_size: [],
    "short_side": _short_side_first,
    "squash": lambda crop, base_size: [FixedResize(size=crop)],
}
"""data.first_resize → the steps it means."""


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
