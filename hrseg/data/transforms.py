"""Augmentation of one image and its trainIds: scale, crop, color and mirror, always in step.

Everything keeps its type: uint8 RGB, or bands as they are stored. Masks are resized by nearest neighbor and filled
with 255. A recipe gets a seed with each image and draws from nothing else, so a sample does not depend on the
process that computes it.
"""

import os
import random
from collections.abc import Callable, Sequence
from typing import Any, Literal

import albumentations as A
import cv2
import numpy as np
import torch

from hrseg.config import DataConfig
from hrseg.data.albumentations_list import build_transform
from hrseg.data.crop import NO_CLASS, RandomScale, RandomWindow, ScaledMask, Scales, crop_scaled
from hrseg.imaging import value_range_of
from hrseg.imaging.png_rows import Picture, pixels
from hrseg.labels import IGNORE_INDEX

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its newest version

__all__ = ["NO_CLASS", "TrainRecipe", "limit_threads", "scales", "train_recipe"]


class TrainRecipe:
    """Random scale, crop, colors and mirror of one training image. Build it with `train_recipe`.

    Args:
        before: albumentations transforms of the whole image, in order.
        scale: The random scale.
        window: The random crop of the scaled image.
        after: Transforms of the crop, in order.
    """

    def __init__(
        self,
        before: Sequence[A.BasicTransform],
        scale: RandomScale,
        window: RandomWindow,
        after: Sequence[A.BasicTransform],
    ) -> None:
        self.before, self.after = tuple(before), tuple(after)
        self.scale, self.window = scale, window

    def __call__(
        self,
        image: np.ndarray | Picture,
        mask: np.ndarray,
        *,
        seed: int,
        wanted: int = NO_CLASS,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Augment one image and its mask.

        Args:
            image: Pixels, or a picture of which only the rows of the crop are unpacked.
            mask: uint8 trainIds.
            seed: Decides everything random.
            wanted: Class the crop shall hold a pixel of, or NO_CLASS.

        Shape:
            (H, W, B) and (H, W) → crop size
        """
        # One stream for all steps. Streams of their own from one seed would be alike, and the
        # mirror would know the scale.
        generator, stream = np.random.default_rng(seed), random.Random(seed)
        stream.random()  # "apply the recipe at all?" of albumentations; keeps each seed's sample
        for step in (*self.before, *self.after):
            step.set_random_state(generator, stream)
        for step in self.before:
            image, mask = _apply(step, pixels(image), mask)
        size = self.scale.draw(image.shape, stream)
        window, mask = self.window.draw(ScaledMask(mask, size), stream, wanted)
        image = crop_scaled(image, size, window)
        for step in self.after:
            image, mask = _apply(step, image, mask)
        return image, mask


def _apply(step: A.BasicTransform, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    result = step(image=image, mask=mask)
    return result["image"], result["mask"]


def train_recipe(config: DataConfig, flip_order: Sequence[int] | None = None) -> TrainRecipe:
    """Build the augmentation of the official recipes, with mmsegmentation's additions.

    Args:
        config: Crop, scales, padding, colors and mirror.
        flip_order: The trainId that each trainId becomes in a mirrored image; None changes none.

    Source:
        HRNet-Semantic-Segmentation, lib/datasets/base_dataset.py (first resize, scale, pad, crop, shift, flip)
        and lip.py (squash, flip first, exchanged classes); mmsegmentation, RandomResize,
        RandomCrop(cat_max_ratio) and PhotoMetricDistortion.
    """
    height, width = config.crop
    ends = config.scale_min, config.scale_max
    drawn: Scales = scales(*ends, config.scale_step) if config.scale_step else ends
    before: list[A.BasicTransform] = []
    if config.first_resize == "short_side":
        before.append(FixedResize(short_side=config.base_size or 0))
    elif config.first_resize == "squash":
        before.append(FixedResize(size=config.crop))
    after: list[A.BasicTransform] = []
    if config.photometric:
        after.append(PHOTOMETRIC_RULES[config.photometric_rule](config.photometric))
    # An image smaller than the crop comes through it whole: padding last is the official
    # result, and the padding keeps its color whatever the colors of the image do.
    fill = config.mean if config.pad == "mean" else (0.0,)
    after.append(Pad(height, width, fill, config.value_range))
    if config.brightness_shift:
        after.append(BrightnessShift(config.brightness_shift))
    mirrors: list[A.BasicTransform] = [Mirror(config.flip, flip_order)]
    if config.vflip:
        mirrors.append(Mirror(config.vflip, flip_order, axis=0))
    before, after = ([*mirrors, *before], after) if config.flip_first else (before, [*after, *mirrors])
    if config.rotate90:  # of the whole image: a turned crop would have another shape
        before.insert(0, QuarterTurns(config.rotate90))
    paired = list(flip_order or ()) != sorted(flip_order or ())
    after += [build_transform(entry, config, paired) for entry in config.transforms]
    return TrainRecipe(
        before,
        RandomScale(drawn, config.base_size, config.base_short_side),
        RandomWindow(height, width, config.max_class_share),
        after,
    )


def scales(smallest: float, largest: float, step: float) -> list[float]:
    """List the scales, both ends included.

    Example:
        >>> len(scales(0.5, 2.1, 0.1))
        17
        >>> scales(1.0, 2.2, 0.5)
        [1.0, 1.5, 2.0, 2.2]
    """
    count = int((largest - smallest) / step + 1e-6) + 1
    found = [round(smallest + index * step, 6) for index in range(count)]
    return found if largest - found[-1] < 1e-6 else [*found, largest]


class FixedResize(A.DualTransform):
    """Bring the image to one (height, width), or its short side to one length.

    Args:
        size: Wanted (height, width).
        short_side: Wanted short side, the shape kept.
    """

    def __init__(self, size: tuple[int, int] | None = None, short_side: int = 0) -> None:
        super().__init__(p=1.0)
        self.size, self.short_side = size, short_side

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Return the new (width, height)."""
        height, width = params["shape"][:2]
        if self.size is not None:
            return {"size": self.size[::-1]}
        factor = self.short_side / min(height, width)
        return {"size": (int(width * factor + 0.5), int(height * factor + 0.5))}

    def apply(self, img: np.ndarray, size: tuple[int, int], **params: Any) -> np.ndarray:
        """Resize the image, bilinear."""
        resized = cv2.resize(img, size, interpolation=cv2.INTER_LINEAR)
        return resized.reshape(*resized.shape[:2], -1)

    def apply_to_mask(self, mask: np.ndarray, size: tuple[int, int], **params: Any) -> np.ndarray:
        """Resize the mask, nearest neighbor: ids are never mixed."""
        return cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)


class Pad(A.DualTransform):
    """Pad image and mask to the right and below.

    Args:
        height: Smallest height that comes out.
        width: Smallest width.
        fill: Color in 0..1, one number or one for each band; the mask's is 255.
        value_range: The stored value that is 1; None takes the type's.
    """

    def __init__(self, height: int, width: int, fill: tuple[float, ...], value_range: float | None = None) -> None:
        super().__init__(p=1.0)
        self.height, self.width = height, width
        self.fill, self.value_range = fill, value_range

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        """Pad the image."""
        color = np.array(self.fill) * (self.value_range or value_range_of(img.dtype))
        return self._pad(img, color if img.dtype.kind == "f" else color.round())

    def apply_to_mask(self, mask: np.ndarray, **params: Any) -> np.ndarray:
        """Pad the mask."""
        return self._pad(mask, np.array(IGNORE_INDEX))

    def _pad(self, values: np.ndarray, fill: np.ndarray) -> np.ndarray:
        shape = max(self.height, values.shape[0]), max(self.width, values.shape[1])
        if shape == values.shape[:2]:
            return values
        canvas = np.empty((*shape, *values.shape[2:]), values.dtype)
        canvas[:] = fill
        canvas[: values.shape[0], : values.shape[1]] = values
        return canvas


class Mirror(A.HorizontalFlip):
    """Mirror image and mask; left and right classes change places.

    Args:
        probability: How often.
        order: The trainId that each trainId becomes; None changes none.
        axis: 1 exchanges left and right, 0 above and below.
    """

    def __init__(self, probability: float, order: Sequence[int] | None = None, axis: Literal[0, 1] = 1) -> None:
        super().__init__(p=probability)
        self.axis = axis
        self.table = np.arange(256, dtype=np.uint8)
        self.table[: len(order or ())] = order or ()
        self.renames = bool((self.table != np.arange(256)).any())

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        """Mirror the image, whatever its bands."""
        if img.shape[2] == 3:
            return cv2.flip(img, self.axis)
        return np.ascontiguousarray(np.flip(img, self.axis))

    def apply_to_mask(self, mask: np.ndarray, **params: Any) -> np.ndarray:
        """Mirror the mask and rename its classes."""
        mirrored = cv2.flip(mask, self.axis)
        return cv2.LUT(mirrored, self.table) if self.renames else mirrored


class QuarterTurns(A.DualTransform):
    """Turn image and mask by one, two or three quarters; left and right stay what they are.

    Args:
        probability: How often.
    """

    def __init__(self, probability: float) -> None:
        super().__init__(p=probability)

    def get_params(self) -> dict[str, Any]:
        """Draw the number of quarters, counterclockwise."""
        return {"quarters": self.py_random.randint(1, 3)}

    def apply(self, img: np.ndarray, quarters: int, **params: Any) -> np.ndarray:
        """Turn the image."""
        return np.ascontiguousarray(np.rot90(img, quarters))

    def apply_to_mask(self, mask: np.ndarray, quarters: int, **params: Any) -> np.ndarray:
        """Turn the mask."""
        return np.ascontiguousarray(np.rot90(mask, quarters))


def limit_threads(worker_id: int = 0) -> None:
    """Limit a loader process to one thread: the parallelism is that of the workers."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def jitter(strength: float) -> A.BasicTransform:
    """Return a random change of brightness, contrast and saturation by up to half, and of the hue, for 80 % of images.

    Args:
        strength: 0 (none) to 1.
    """
    near_one = (1 - 0.5 * strength, 1 + 0.5 * strength)
    hue = 0.1 * strength
    return A.ColorJitter(brightness=near_one, contrast=near_one, saturation=near_one, hue=(-hue, hue), p=0.8)


class Distortion(A.ImageOnlyTransform):
    """Random brightness, contrast, saturation and hue, each for half of the images; contrast comes early or late.

    Args:
        strength: 1 is the source's: brightness within 32 steps of 255, contrast and saturation times 0.5 to
            1.5, hue within 36 degrees.

    Source: PhotoMetricDistortion of mmsegmentation 1.2.2, which has it from the SSD detector.
    """

    def __init__(self, strength: float) -> None:
        super().__init__(p=1.0)
        self.strength = strength

    def get_params(self) -> dict[str, Any]:
        """Draw the four changes; None leaves one out."""
        random, strength = self.py_random, self.strength
        ranges = {
            "brightness": (-32 * strength, 32 * strength),
            "contrast": (1 - 0.5 * strength, 1 + 0.5 * strength),
            "saturation": (1 - 0.5 * strength, 1 + 0.5 * strength),
            "hue": (-18 * strength, 18 * strength),  # of 180, as OpenCV counts
        }
        changes = {name: random.uniform(*ends) if random.random() < 0.5 else None for name, ends in ranges.items()}
        return {"changes": changes, "contrast_first": random.random() < 0.5}

    def apply(
        self,
        img: np.ndarray,
        changes: dict[str, float | None],
        contrast_first: bool,
        **params: Any,
    ) -> np.ndarray:
        """Change the colors. Shape: (H, W, 3) → (H, W, 3)."""
        order = ["saturation", "hue"]
        order.insert(0 if contrast_first else 2, "contrast")
        for name in ("brightness", *order):
            value = changes[name]
            if value is not None:
                img = _COLOR_CHANGES[name](img, value)
        return img


class BrightnessShift(A.ImageOnlyTransform):
    """Add one whole number to all channels of half of the images.

    Args:
        largest: Largest shift, of 255.

    Source: random_brightness of the official HRNet-OCR branch, there with 10.
    """

    def __init__(self, largest: int) -> None:
        super().__init__(p=0.5)
        self.largest = largest

    def get_params(self) -> dict[str, Any]:
        """Draw the shift."""
        return {"shift": self.py_random.randint(-self.largest, self.largest)}

    def apply(self, img: np.ndarray, shift: int, **params: Any) -> np.ndarray:
        """Shift the image."""
        return cv2.LUT(img, _to_bytes(_BYTES.astype(np.int16) + shift))


PHOTOMETRIC_RULES: dict[str, Callable[[float], A.BasicTransform]] = {
    "jitter": jitter,
    "mmseg": Distortion,
}
"""data.photometric_rule → the step for a strength."""


_BYTES = np.arange(256, dtype=np.uint8)
"""Every byte: a change of colors is applied to these, and the result is looked up for each pixel."""


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return values.clip(0, 255).astype(np.uint8)


def _change_saturation(img: np.ndarray, factor: float) -> np.ndarray:
    return _change_hsv(img, 1, _to_bytes(_BYTES.astype(np.float32) * factor))


def _turn_hue(img: np.ndarray, steps: float) -> np.ndarray:
    turned = (_BYTES.astype(np.int16) + int(np.floor(steps))) % 180
    return _change_hsv(img, 0, turned.astype(np.uint8))


def _change_hsv(img: np.ndarray, channel: int, table: np.ndarray) -> np.ndarray:
    hsv = cv2.cvtColor(img, cv2.COLOR_RGB2HSV)
    tables = np.repeat(_BYTES[:, None], 3, axis=1)  # (256, 3): one column per channel
    tables[:, channel] = table
    return cv2.cvtColor(cv2.LUT(hsv, tables[None]), cv2.COLOR_HSV2RGB)


_COLOR_CHANGES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "brightness": lambda img, value: cv2.LUT(img, _to_bytes(_BYTES.astype(np.float32) + value)),
    "contrast": lambda img, value: cv2.LUT(img, _to_bytes(_BYTES.astype(np.float32) * value)),
    "saturation": _change_saturation,
    "hue": _turn_hue,
}
